"""Boxes and masks as the files of any format state them, and how they become a Dataset."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bakeoff.data.dataset import Dataset, Record, SplitName
from bakeoff.data.decode import measure
from bakeoff.data.formats.rows import Options, arranged, class_name, examples
from bakeoff.data.masks import area, bounds, to_polygons
from bakeoff.data.targets import Boxes, Instances, Mask, Polygons
from bakeoff.errors import DataError, UnreadableImage
from bakeoff.findings import Finding, plural

LIMIT = 1e7  # pixels; beyond, libraries for run lengths crash
DIGITS = 6  # decimals of a pixel that are kept, so that every way of writing a number gives back the same one
THREADS = 8  # headers of images are waited for, not computed

Box = tuple[float, float, float, float]
Size = tuple[int, int]


@dataclass(frozen=True)
class Item:
    """One object: its class name, box (x1, y1, x2, y2) in pixels of the image, and what else the file says."""

    name: str
    box: Box
    mask: Mask | None = None
    crowd: bool = False
    area: float | None = None


@dataclass(frozen=True)
class Picture:
    """An image with its objects.

    `image` is relative to the data's source, `size` what was measured (None: unreadable), `stated` what the file says
    ((0, 0): nothing, None: the format has no place for it), `file` the place to name in messages.
    """

    image: str
    items: tuple[Item, ...]
    size: Size | None
    stated: Size | None = None
    file: str = ""
    group: str | None = None
    split: SplitName | None = None


@dataclass
class Annotations:
    """All that a reader found; `classes` None means those that objects have."""

    source: Path
    format: str
    pictures: list[Picture]
    classes: Iterable[str] | None = None
    notes: list[str] = field(default_factory=list)
    remarks: list[Finding] = field(default_factory=list)

    def dataset(self, options: Options) -> Dataset:
        """Make the dataset: instance segmentation when every object has a mask, unless the options say detection.

        An unreadable image takes the size that the file states, else 1 x 1: the audit names it.
        Raises DataError for coordinates that are not finite or beyond 1e7, objects without a name, masks that some
        objects lack, and when there is no class at all; UsageError for --label-from.
        """
        task = self._task(options)
        names = {item.name for picture in self.pictures for item in picture.items}
        classes = tuple(sorted(names if self.classes is None else names | {class_name(name) for name in self.classes}))
        if not classes:
            raise DataError(
                f"{self.source}: {plural(len(self.pictures), 'image')}, but not one object: nothing to learn"
            )
        place = {name: index for index, name in enumerate(classes)}
        bare = [
            Record(p.image, p.image, _target(p, place, task == "instance"), p.group, p.split, size=p.size)
            for p in self.pictures
        ]
        records, grouping = arranged(self.source, bare, options)
        notes, remarks = (*self.notes, *grouping), (*self.remarks, *self._sizes())
        return Dataset(task, classes, records, self.source, self.format, notes, remarks)

    def _task(self, options: Options) -> Literal["detection", "instance"]:
        """Decide between boxes and masks."""
        masked = sum(item.mask is not None for picture in self.pictures for item in picture.items)
        if options.task == "detection" or (options.task is None and not masked):
            return "detection"
        bare = [p.file or p.image for p in self.pictures if any(item.mask is None for item in p.items)]
        if bare:
            total = sum(len(picture.items) for picture in self.pictures)
            lacking = f"{total - masked} of {total} objects have a box but no mask"
            raise DataError(f"{self.source}: {lacking} ({examples(bare)}): add them, or read with --task detection")
        return "instance"

    def _sizes(self) -> list[Finding]:
        """Compare the sizes that the files state with those of the images."""
        stated = [(p.image, p.stated, p.size) for p in self.pictures if p.stated is not None and p.size is not None]
        zero = [image for image, said, _ in stated if min(said) <= 0]
        turned = [image for image, said, true in stated if said == true[::-1] != true]
        wrong = [image for image, said, true in stated if min(said) > 0 and said not in (true, true[::-1])]
        found = []
        if zero:
            sentence = f"{plural(len(zero), 'annotation')} state no width or height; the images were measured instead"
            found.append(Finding("size-zero", "info", sentence, tuple(zero)))
        if turned:
            sentence = (
                f"{plural(len(turned), 'annotation')} state the width as height: made on pictures lying on their side "
                "(an EXIF orientation)? See whether the boxes lie on the objects"
            )
            found.append(Finding("size-turned", "warning", sentence, tuple(turned)))
        if wrong:
            sentence = (
                f"{plural(len(wrong), 'annotation')} state another size than the image has: resized afterwards? The "
                "coordinates were taken as pixels of the image that is there"
            )
            found.append(Finding("size-wrong", "warning", sentence, tuple(wrong)))
        return found


def measured(source: Path, images: Sequence[str]) -> dict[str, Size | None]:
    """Return the size of every image below a folder without decoding pixels; None: it cannot be read."""

    def size(image: str) -> Size | None:
        try:
            return measure(source / image)
        except UnreadableImage:
            return None

    with ThreadPoolExecutor(THREADS) as pool:
        return dict(zip(images, pool.map(size, images), strict=True))


def box_of(mask: Mask, size: Size) -> Box:
    """Return the box around a mask: around the corners of polygons, or around the pixels of run lengths."""
    if isinstance(mask, bytes):
        return bounds(mask, size)
    xs, ys = [x for part in mask for x in part[::2]], [y for part in mask for y in part[1::2]]
    return (min(xs), min(ys), max(xs), max(ys)) if xs else (0.0, 0.0, 0.0, 0.0)


def one_outline(mask: Mask, size: Size) -> tuple[float, ...]:
    """Return a mask as one polygon, for formats that allow no more.

    Its parts are joined by a line there and back, which has no area; holes of run lengths are filled.
    """
    parts = to_polygons(mask, size)
    if len(parts) < 2:
        return parts[0] if parts else ()
    first, *others = [part if _signed_area(part) >= 0 else _reversed(part) for part in parts]  # else areas cancel
    joined = [*first, *first[:2]]  # closed before it is left
    for part in others:
        joined += [*part, *part[:2], *first[:2]]
    return tuple(joined)


def check_splits(dataset: Dataset) -> None:
    """Raise DataError when only some records have a split."""
    bare = [record.id for record in dataset.records if record.split is None]
    if bare and len(bare) < len(dataset):
        raise DataError(f"{len(bare)} records have no split and others have ({examples(bare)}); write a table instead")


def check_crowd(dataset: Dataset, format: str) -> None:
    """Raise DataError when there are crowd or difficult objects, which most formats cannot tell from others."""
    crowded = [
        record.id for record in dataset.records if isinstance(record.target, Boxes) and record.target.crowd.any()
    ]
    if crowded:
        count = f"{plural(len(crowded), 'image')} with crowd or difficult objects ({examples(crowded)})"
        raise DataError(f"{count}: {format} has no mark for them, and they would be learned; write coco instead")


def boxes(record: Record) -> Boxes:
    """Return the boxes of a record.  Raises TypeError for a record of another task."""
    if not isinstance(record.target, Boxes):
        raise TypeError(f"{record.id}: has {type(record.target).__name__}, not boxes")
    return record.target


def _target(picture: Picture, place: dict[str, int], instance: bool) -> Boxes:
    """Return the objects of a picture as a target."""
    size = picture.size or picture.stated or (1, 1)
    size = size if min(size) > 0 else (1, 1)
    for number, item in enumerate(picture.items, 1):
        _check(picture, number, item)
    xyxy = _round(np.array([item.box for item in picture.items], np.float64).reshape(-1, 4))
    labels = np.array([place[item.name] for item in picture.items], np.int64)
    crowd = np.array([item.crowd for item in picture.items], np.bool_)
    masks = [None if item.mask is None else _rounded(item.mask) for item in picture.items]
    areas = [
        _area(mask, box, size) if item.area is None else item.area
        for item, mask, box in zip(picture.items, masks, xyxy, strict=True)
    ]
    if instance:
        known = tuple(mask for mask in masks if mask is not None)
        return Instances(size, xyxy, labels, None, crowd, np.array(areas, np.float64), known)
    return Boxes(size, xyxy, labels, None, crowd, np.array(areas, np.float64))


def _check(picture: Picture, number: int, item: Item) -> None:
    """Raise DataError for an object without a name, and for numbers that no library should see."""
    where = f"{picture.file or picture.image}: object {number}"
    if not item.name:
        raise DataError(f"{where} has no class name")
    numbers = list(item.box)
    if item.mask is not None and not isinstance(item.mask, bytes):
        numbers += [value for part in item.mask for value in part]
    wrong = next((value for value in numbers if not abs(value) <= LIMIT), None)  # not: NaN is neither
    if wrong is None and item.area is not None and not math.isfinite(item.area):
        wrong = item.area
    if wrong is not None:
        raise DataError(f"{where} ({item.name}): {wrong} is not a number of pixels; correct or remove the object")


def _rounded(mask: Mask) -> Mask:
    """Keep the decimals of polygons that are kept everywhere."""
    if isinstance(mask, bytes):
        return mask
    return tuple(tuple(_round(np.array(part, np.float64)).tolist()) for part in mask)


def _round(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round to the decimals that are kept; there is but one zero."""
    return np.asarray(np.round(values, DIGITS) + 0.0, np.float64)


def _area(mask: Mask | None, box: NDArray[np.float64], size: Size) -> float:
    """Return an object's area in pixels: of its run lengths, its polygons or its box."""
    if mask is None:
        return float((box[2] - box[0]) * (box[3] - box[1]))
    return area(mask, size) if isinstance(mask, bytes) else _polygon_area(mask)


def _polygon_area(parts: Polygons) -> float:
    """Return the summed area of polygons."""
    return sum(abs(_signed_area(part)) for part in parts)


def _signed_area(part: tuple[float, ...]) -> float:
    """Return the area of a polygon by Gauss's formula, negative for the other direction."""
    x, y = np.array(part[::2]), np.array(part[1::2])
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def _reversed(part: tuple[float, ...]) -> tuple[float, ...]:
    """Return the corners of a polygon in the other direction."""
    return tuple(np.array(part).reshape(-1, 2)[::-1].flatten().tolist())
