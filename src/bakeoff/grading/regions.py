"""Boxes and masks of a submission, as tables and COCO files state them; nothing is decoded before its image's turn."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bakeoff.data.dataset import TaskName
from bakeoff.data.formats.coco_masks import numbers, read_mask
from bakeoff.data.formats.rows import class_name, examples
from bakeoff.data.formats.strict_json import read_strict
from bakeoff.data.masks import to_runs
from bakeoff.errors import DataError, UsageError
from bakeoff.grading.runs import read_runs
from bakeoff.grading.sheet import Row, Sheet
from bakeoff.predict.output import CORNERS

Size = tuple[int, int]
Box = tuple[float, float, float, float]
Id = int | str


@dataclass(frozen=True)
class Found:
    """One object or region of the image `image`: its class (None: the only one), score, box and mask as stated.

    `mask` is Kaggle's run lengths (text), or COCO's polygons or run lengths.
    """

    where: str
    image: Id
    name: Id | None
    score: float | None = None
    box: Box | None = None
    mask: Any = None

    @property
    def stated(self) -> Size | None:
        """The size (width, height) that COCO's run lengths state."""
        size = self.mask.get("size") if isinstance(self.mask, dict) else None
        fits = isinstance(size, list) and len(size) == 2 and all(type(side) is int and side > 0 for side in size)
        return (size[1], size[0]) if fits and size else None

    def runs(self, size: Size) -> bytes:
        """Return the mask as COCO's run lengths in an image of `size`.  Raises DataError."""
        if isinstance(self.mask, str):
            return read_runs(self.mask, size, self.where)
        mask = read_mask(self.mask, size, self.where)
        if mask is None:
            raise DataError(f"{self.where}: has no mask (segmentation)")
        return to_runs(mask, size)


@dataclass(frozen=True)
class Regions:
    """All that a file states.

    `images` are the ids that it speaks of, those too in which nothing was found; `tasks` what it can be graded as, the
    likeliest first; `declared` the classes that it says it knows (None: it does not say); `errors` id -> why there is
    no prediction; `numbered`: ids of images and classes are numbers of the truth's own COCO file.
    """

    path: Path
    found: tuple[Found, ...]
    images: tuple[Id, ...]
    tasks: tuple[TaskName, ...]
    declared: tuple[str, ...] | None = None
    errors: Mapping[str, str] = field(default_factory=dict)
    numbered: bool = False
    sizes: Mapping[Id, Size] = field(default_factory=dict)
    groups: Mapping[Id, str] = field(default_factory=dict)


def from_sheet(sheet: Sheet) -> Regions:
    """Read a table of run lengths (a row per region, or per image and class) or of boxes (a row per object)."""
    sheet.need("id")
    masks = "rle" in sheet.columns
    if not masks and not set(CORNERS) <= sheet.columns:
        raise UsageError(
            f"{sheet.path}: has the areas of regions, not the regions; predict with --format coco (a .json file), "
            "which holds the masks"
        )
    tasks: tuple[TaskName, ...] = ("semantic", "instance") if masks else ("detection",)
    if masks and "score" in sheet.columns:
        tasks = ("instance", "detection") if set(CORNERS) <= sheet.columns else ("instance",)
    found: list[Found] = []
    images: list[Id] = []
    errors: dict[str, str] = {}
    sizes: dict[Id, Size] = {}
    for row in sheet.rows:
        id = row.text("id")
        if not id:
            raise DataError(f"{row.where}: has no id")
        if row.text("error"):
            errors[id] = row.text("error")
            continue
        images.append(id)
        if {"width", "height"} <= row.cells.keys():
            sizes[id] = (_whole(row, "width"), _whole(row, "height"))
        if "rle" in row.cells or (not masks and "x1" in row.cells):
            found.append(_found(row))
    groups: dict[Id, str] = {row.text("id"): row.text("group") for row in sheet.rows if row.text("group")}
    listed = tuple(dict.fromkeys(images))
    return Regions(sheet.path, tuple(found), listed, tasks, None, errors, sizes=sizes, groups=groups)


def _found(row: Row) -> Found:
    """Return the region or object of a row."""
    name = class_name(row.text("label")) or None
    score = _number(row, "score") if "score" in row.cells else None
    box = None
    if set(CORNERS) <= row.cells.keys():
        left, top, right, bottom = (_number(row, corner) for corner in CORNERS)
        box = (left, top, right, bottom)
        if left > right or top > bottom:
            raise DataError(f"{row.where}: the box {box} ends before it begins; columns are x1, y1, x2, y2")
    elif "rle" not in row.cells:
        raise DataError(f"{row.where}: a box needs x1, y1, x2 and y2")
    return Found(row.where, row.text("id"), name, score, box, row.cells.get("rle"))


def _number(row: Row, column: str) -> float:
    """Return a finite number."""
    try:
        value = float(row.text(column))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{row.where}: {column} is {row.text(column) or 'empty'}, not a number")
    return value


def _whole(row: Row, column: str) -> int:
    """Return a number of pixels."""
    value = _number(row, column)
    if value != int(value) or value < 1:
        raise DataError(f"{row.where}: {column} is {row.text(column)}, not a number of pixels")
    return int(value)


def from_coco(path: Path) -> Regions:
    """Read COCO's results (a list), or a COCO dataset whose annotations are predictions, as predict writes it."""
    content = read_strict(path)
    if isinstance(content, list):
        found = tuple(_result(path, place, row) for place, row in enumerate(content, 1))
        masked = any(one.mask for one in found) or not found
        tasks: tuple[TaskName, ...] = ("instance", "detection") if masked else ("detection",)
        return Regions(path, found, tuple(dict.fromkeys(one.image for one in found)), tasks, numbered=True)
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), list) for key in ("images", "annotations")
    ):
        raise DataError(f"{path}: neither a list of COCO results nor COCO's form with images and annotations")
    return _dataset(path, content)


def _dataset(path: Path, content: dict[str, Any]) -> Regions:
    """Read predictions in the form of a COCO dataset: images and classes are known by their names."""
    names: dict[Id, str] = {}
    sizes: dict[Id, Size] = {}
    for row in _objects(path, content["images"], "images"):
        name = row.get("file_name")
        if not isinstance(name, str) or not isinstance(row.get("id"), int | str):
            raise DataError(f"{path}: every image needs an id and a file_name, not {row.get('id')!r} and {name!r}")
        names[row["id"]] = name
        if isinstance(row.get("width"), int) and isinstance(row.get("height"), int):
            sizes[name] = (row["width"], row["height"])
    listed = content.get("categories")
    classes = {row.get("id"): class_name(str(row.get("name"))) for row in _objects(path, listed, "categories")}
    found = []
    for place, row in enumerate(_objects(path, content["annotations"], "annotations"), 1):
        one = _result(path, place, row, "annotation", needs_score=False)
        if one.image not in names or one.name not in classes:
            what = f"image {one.image!r}" if one.image not in names else f"category {one.name!r}"
            raise DataError(f"{one.where}: the file does not list the {what}")
        found.append(Found(one.where, names[one.image], classes[one.name], one.score, one.box, one.mask))
    errors = {
        str(row.get("file_name")): str(row.get("error")) for row in _objects(path, content.get("errors", []), "errors")
    }
    images, declared = tuple(names.values()), tuple(classes.values())
    return Regions(path, tuple(found), images, _tasks(found), declared, errors, sizes=sizes)


def _tasks(found: Sequence[Found]) -> tuple[TaskName, ...]:
    """Return what the annotations of a COCO dataset can be graded as."""
    masks, scores = any(one.mask for one in found), any(one.score is not None for one in found)
    if not found:
        return ("detection", "instance", "semantic")
    if not masks:
        return ("detection",)
    return ("instance", "detection") if scores else ("semantic", "instance")


def _objects(path: Path, rows: Any, key: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a list of objects."""
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path}: expected a list of objects under the key {key!r}")
    yield from rows


def _result(path: Path, place: int, row: Any, what: str = "result", needs_score: bool = True) -> Found:
    """Return one entry of a list of COCO results."""
    where = f"{path}: {what} {place}"
    if not isinstance(row, dict):
        raise DataError(f"{where} is {type(row).__name__}, not an object with image_id, category_id and score")
    for key in ("image_id", "category_id"):
        if not isinstance(row.get(key), int | str) or isinstance(row.get(key), bool):
            raise DataError(f"{where}: {key} must be a number or text, not {row.get(key)!r}")
    score = numbers([row["score"]]) if row.get("score") is not None else None
    if (needs_score and score is None) or (row.get("score") is not None and (not score or not math.isfinite(score[0]))):
        raise DataError(f"{where} of image {row['image_id']}: score must be a number, not {row.get('score')!r}")
    box = _box(row.get("bbox"), f"{where} of image {row['image_id']}")
    mask = row.get("segmentation")
    if box is None and not mask:
        raise DataError(f"{where} of image {row['image_id']}: has neither bbox nor segmentation")
    return Found(where, row["image_id"], row["category_id"], score[0] if score else None, box, mask or None)


def _box(content: Any, where: str) -> Box | None:
    """Return a box x, y, width, height as its corners; None where none is stated."""
    if not content:
        return None
    values = numbers(content)
    if values is None or len(values) != 4 or not all(map(math.isfinite, values)) or min(values[2:]) < 0:
        raise DataError(
            f"{where}: bbox must be [x, y, width, height] of finite numbers, not {examples(map(repr, [content]))}"
        )
    left, top, width, height = values
    return (left, top, left + width, top + height)
