"""A dataset of one task as one of another that its labels can carry: masks to boxes, to label maps, boxes to crops.

instance  -> detection       the boxes, as they are
instance  -> semantic        label maps: smaller objects over larger ones on a class "background", crowd ignored
detection -> classification  one crop for each object, grouped by its image
semantic  -> instance        connected parts of a class; its touching objects become one
Longer ways (semantic -> detection, instance -> classification) go through these steps.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bakeoff.data.dataset import Dataset, Record, TaskName, labelled
from bakeoff.data.decode import measure, read_image
from bakeoff.data.formats.annotations import boxes
from bakeoff.data.formats.rows import UNLABELLED
from bakeoff.data.formats.target import new_folder, places
from bakeoff.data.masks import area, bounds, palette, read_label_map, to_pixels, to_runs
from bakeoff.data.targets import GROUNDS, IGNORE, MOST_CLASSES, Boxes, Coding, Instances, MaskFiles
from bakeoff.errors import DataError, UsageError
from bakeoff.findings import plural

BACKGROUND = "background"
STEPS: dict[TaskName, tuple[TaskName, ...]] = {  # task -> those that are one step away, the shortest way first
    "classification": (),
    "semantic": ("instance",),
    "detection": ("classification",),
    "instance": ("detection", "semantic"),
}


def as_task(dataset: Dataset, task: TaskName, folder: Path, padding: float = 0.0) -> Dataset:
    """Return the dataset for another task; what it needs on disk (crops, masks) is written into the new `folder`.

    `padding`: how much of its width and height a crop shows around the box on every side (0.1: a tenth).  Images that
    are kept stay where they are.  Ids, groups and splits are kept; a crop's group is its image's, or else the image.
    Raises UsageError when the labels cannot carry the task, naming those they can, or when `folder` is not new;
    DataError for damaged masks and images.
    """
    way = _way(dataset.task, task)
    if way is None:
        able = [name for name in STEPS if _way(dataset.task, name)]
        known = f"only for {' or '.join(able)}" if able else "nor for another task"
        raise UsageError(f"{dataset.source}: labels for {dataset.task} cannot become labels for {task}, {known}")
    if padding < 0:
        raise UsageError(f"padding must be 0 or more, not {padding}")
    for step in way:
        dataset = _step(dataset, step, folder, padding)
    return dataset


def _way(start: TaskName, goal: TaskName) -> tuple[TaskName, ...] | None:
    """Return the tasks to go through, the goal last; None when there is no way."""
    if start == goal:
        return ()
    for step in STEPS[start]:
        rest = _way(step, goal)
        if rest is not None:
            return (step, *rest)
    return None


def _step(dataset: Dataset, task: TaskName, folder: Path, padding: float) -> Dataset:
    """Go one step."""
    if task == "classification":
        return _crops(dataset, folder, padding)
    if task == "semantic":
        return _label_maps(dataset, folder)
    return _components(dataset) if task == "instance" else _boxes(dataset)


def _boxes(dataset: Dataset) -> Dataset:
    """Leave the masks of objects out."""
    records = []
    for record in dataset.records:
        target = _objects(record)
        bare = Boxes(target.size, target.xyxy, target.labels, target.scores, target.crowd, target.areas)
        records.append(replace(record, target=bare))
    return _changed(dataset, "detection", dataset.classes, records, "boxes of instance masks")


def _label_maps(dataset: Dataset, folder: Path) -> Dataset:
    """Paint every image's objects into a palette PNG, largest first."""
    classes = tuple(sorted({*dataset.classes, BACKGROUND}))
    if len(classes) > MOST_CLASSES:
        raise DataError(f"{dataset.source}: {len(classes)} classes; a label map of bytes holds {MOST_CLASSES}")
    ground = classes.index(BACKGROUND)
    index = np.array([classes.index(name) for name in dataset.classes])
    coding = Coding("value", (*((value, value) for value in range(len(classes))), (IGNORE, IGNORE)))
    records = []
    with new_folder(folder) as root:
        chosen = places(dataset, lambda _: "", by_stem=True)
        for record in dataset.records:
            name = PurePosixPath(chosen[record.id]).with_suffix(".png")
            palette(_painted(_objects(record), index, ground)).save(root / name)
            # real paths: the system leaves a link to a folder by its target's parent, not by its own
            file = Path(os.path.relpath(os.path.realpath(folder / name), os.path.realpath(dataset.source)))
            records.append(replace(record, target=MaskFiles(((file.as_posix(), coding),), ground)))
    return _changed(dataset, "semantic", classes, records, "label maps painted from instance masks, the largest first")


def _painted(target: Instances, index: NDArray[np.int64], ground: int) -> NDArray[np.uint8]:
    """Return the label map (H, W) of some objects; crowd is ignored where no object lies over it."""
    width, height = target.size
    pixels = np.full((height, width), ground, np.uint8)
    for place in np.lexsort((-target.areas, ~target.crowd)):
        value = IGNORE if target.crowd[place] else index[target.labels[place]]
        pixels[to_pixels(target.masks[place], target.size)] = value
    return pixels


def _components(dataset: Dataset) -> Dataset:
    """Make every connected part (8 neighbours) of a class an object, in the pixels of the image."""
    grounds = [name for name in dataset.classes if name.casefold() in GROUNDS]
    if not grounds:
        names = ", ".join(GROUNDS)
        raise UsageError(f"{dataset.source}: no class is called {names}: which one is no object? Rename it")
    classes = tuple(name for name in dataset.classes if name not in grounds)
    if not classes:
        raise DataError(f"{dataset.source}: there is no class but {', '.join(grounds)}")
    values = [dataset.classes.index(name) for name in classes]
    records = []
    for record in dataset.records:
        assert isinstance(record.target, MaskFiles), "a semantic record has mask files"
        pixels = read_label_map(dataset.source, record.target)
        size = record.size or measure(dataset.path(record))
        if pixels.shape[::-1] != size:
            pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
        records.append(replace(record, target=_parts(pixels, values)))
    return _changed(dataset, "instance", classes, records, "objects are the connected parts of label maps")


def _parts(pixels: NDArray[np.uint8], values: list[int]) -> Instances:
    """Return the connected parts of these values as objects, labelled by their places in the list."""
    size = (pixels.shape[1], pixels.shape[0])
    masks, labels = [], []
    for label, value in enumerate(values):
        count, found = cv2.connectedComponents((pixels == value).astype(np.uint8), connectivity=8)
        masks += [to_runs(found == number, size) for number in range(1, count)]
        labels += [label] * (count - 1)
    around = np.array([bounds(mask, size) for mask in masks]).reshape(-1, 4)
    areas = np.array([area(mask, size) for mask in masks])
    return Instances(size, around, np.array(labels, np.int64), areas=areas, masks=tuple(masks))


class _Crop(NamedTuple):
    """A part of an image: its class and place among the image's objects, and where it lies in pixels."""

    name: str
    number: int
    left: int
    top: int
    right: int
    bottom: int


def _crops(dataset: Dataset, folder: Path, padding: float) -> Dataset:
    """Cut every object out."""
    rows = []
    total = 0
    with new_folder(folder) as root:
        chosen = places(dataset, lambda _: "", by_stem=True)
        for record in dataset.records:
            total += len(boxes(record))
            crops = list(_rectangles(dataset, record, padding))
            image = read_image(dataset, record) if crops else None
            for crop in crops:
                assert image is not None
                name = f"{PurePosixPath(chosen[record.id]).stem}-{crop.number:04d}.png"
                part = image[crop.top : crop.bottom, crop.left : crop.right]
                Image.fromarray(part).save(root / name, compress_level=1)
                size = (crop.right - crop.left, crop.bottom - crop.top)
                row = Record(name, name, UNLABELLED, record.group or record.id, record.split, size=size)
                rows.append((row, crop.name))
    made = labelled(folder, rows, dataset.format)
    left = total - len(rows)
    note = "crops of objects, grouped by their image"
    note += f"; {plural(left, 'object')} without area in the image, or crowd, left out" if left else ""
    return replace(made, lineage=(*dataset.lineage, note), remarks=())


def _rectangles(dataset: Dataset, record: Record, padding: float) -> Iterator[_Crop]:
    """Return where the objects of an image lie, in whole pixels."""
    target = boxes(record)
    width, height = record.size or target.size
    for number, (box, label, crowd) in enumerate(zip(target.xyxy, target.labels, target.crowd, strict=True)):
        if crowd or not (box[2:] > box[:2]).all():
            continue
        margin = padding * np.tile(box[2:] - box[:2], 2) * (-1, -1, 1, 1)
        left, top, right, bottom = (float(value) for value in box + margin)
        found = _Crop(
            dataset.classes[int(label)],
            number,
            max(0, int(np.floor(left))),
            max(0, int(np.floor(top))),
            min(width, int(np.ceil(right))),
            min(height, int(np.ceil(bottom))),
        )
        if found.right > found.left and found.bottom > found.top:
            yield found


def _objects(record: Record) -> Instances:
    """Return the objects of an instance record."""
    assert isinstance(record.target, Instances), "an instance record has instances"
    return record.target


def _changed(dataset: Dataset, task: TaskName, classes: tuple[str, ...], records: list[Record], note: str) -> Dataset:
    """Return the dataset with new targets and a note about it."""
    lineage = (*dataset.lineage, note)
    return Dataset(task, classes, tuple(records), dataset.source, dataset.format, lineage, dataset.remarks)
