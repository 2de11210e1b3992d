"""From regions to targets: the masks of one image painted into a label map, its objects put into columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bakeoff.data.formats.rows import class_name, examples
from bakeoff.data.masks import bounds, to_pixels
from bakeoff.data.targets import GROUNDS, IGNORE, Boxes, Instances, LabelMap
from bakeoff.errors import DataError, nearest
from bakeoff.grading.regions import Found, Size


@dataclass(frozen=True)
class Painter:
    """What the names or numbers of classes in a file mean: their places in `classes`.

    `categories` are the truth's own COCO numbers; `paints_ground`: the file has regions of the background itself, and
    what it leaves open is open.
    """

    classes: tuple[str, ...]
    categories: Mapping[Any, str] | None = None
    paints_ground: bool = False

    @cached_property
    def place(self) -> dict[str, int]:
        """Class name -> index."""
        return {name: index for index, name in enumerate(self.classes)}

    @cached_property
    def ground(self) -> int | None:
        """The class of pixels in no region: the one called background or the like, unless the file paints it itself."""
        found = [index for index, name in enumerate(self.classes) if name.casefold() in GROUNDS]
        return found[0] if found and not self.paints_ground else None

    def index(self, found: Found) -> int:
        """Return the class of a region.  Raises DataError for one that there is not, with the nearest name."""
        if found.name is None:
            things = [i for i, name in enumerate(self.classes) if name.casefold() not in GROUNDS]
            if len(things) == 1:
                return things[0]
            raise DataError(
                f"{found.where}: states no class, and there are {len(things)}: add a column class "
                f"({examples(self.classes)})"
            )
        name = self.categories.get(found.name) if self.categories is not None else None
        if name is None and isinstance(found.name, str):
            name = class_name(found.name)
        if name not in self.place:
            raise DataError(f"{found.where} of image {found.image}: {self._unknown(found.name)}")
        return self.place[name]

    def _unknown(self, name: Any) -> str:
        """Say that a class is none."""
        if isinstance(name, str):
            return f"unknown class {name!r}{nearest(name, self.classes)}; there are {examples(self.classes, 10)}"
        if self.categories:
            known = examples((f"{id} {text}" for id, text in self.categories.items()), 10)
            return f"category_id {name} is no category of the truth, which has {known}"
        return (
            f"category_id {name} means nothing here, since the truth is no COCO file: write the class's name as "
            "category_id, or grade against the truth as converted by `bakeoff data convert --to coco`"
        )

    def paint(self, found: Sequence[Found], size: Size) -> LabelMap:
        """Return the label map of an image.

        Pixels in no region are of the ground, or IGNORE where there is none.  Raises DataError for a class twice and
        for regions of two classes that share pixels.
        """
        width, height = size
        pixels = np.full((height, width), IGNORE, np.uint8)
        seen: dict[int, Found] = {}
        for one in found:
            index = self.index(one)
            if index in seen:
                raise DataError(
                    f"{one.where}: {one.image} has the class {self.classes[index]} already ({seen[index].where})"
                )
            seen[index] = one
            mask = to_pixels(one.runs(size), size)
            shared = mask & (pixels != IGNORE)
            if shared.any():
                other = self.classes[int(pixels[shared][0])]
                count = f"{int(shared.sum())} pixels of {one.image} are of {self.classes[index]} and of {other}"
                raise DataError(f"{one.where}: {count}: a pixel of a label map has one class")
            pixels[mask] = index
        if self.ground is not None:
            pixels[pixels == IGNORE] = self.ground
        return LabelMap(pixels)

    def detections(self, found: Sequence[Found], size: Size, masks: bool) -> Boxes:
        """Return the objects of an image with their scores, 1 where none is stated; boxes of masks where none are."""
        labels = np.array([self.index(one) for one in found], np.int64)
        scores = np.array([1.0 if one.score is None else one.score for one in found], np.float64)
        runs = tuple(one.runs(size) for one in found) if masks else ()
        boxes = [
            one.box if one.box is not None else bounds(runs[i] if masks else one.runs(size), size)
            for i, one in enumerate(found)
        ]
        xyxy = np.array(boxes, np.float64).reshape(-1, 4)
        return Instances(size, xyxy, labels, scores, masks=runs) if masks else Boxes(size, xyxy, labels, scores)
