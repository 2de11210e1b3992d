"""COCO's JSON: boxes, polygons and run lengths, one file or one for each split."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bakeoff.data.dataset import Dataset, Record, SplitName, TaskName
from bakeoff.data.formats.annotations import (
    DIGITS,
    Annotations,
    Box,
    Item,
    Picture,
    Size,
    box_of,
    boxes,
    check_splits,
    measured,
)
from bakeoff.data.formats.coco_masks import numbers, read_mask, write_mask
from bakeoff.data.formats.listing import folders_in, is_image, names_in
from bakeoff.data.formats.lookup import Lookup, json_files, split_in, splits_of
from bakeoff.data.formats.rows import Options, class_name, examples
from bakeoff.data.formats.strict_json import first_mark, mentions, read_strict
from bakeoff.data.formats.target import new_folder, places, put
from bakeoff.data.targets import Instances, Mask
from bakeoff.errors import DataError
from bakeoff.findings import Finding

NAME = "coco"
EXPECTS = "a COCO .json file with images, annotations and categories, or a folder with one for each split"
TASKS: tuple[TaskName, ...] = ("detection", "instance")
KEYS = ("images", "annotations", "categories")
OTHER = "segments_info"  # of panoptic files, which another reader takes
RESULTS = ("image_id", "category_id", "score")  # of predictions


def sniff(path: Path) -> str | None:
    """Say why this is COCO's JSON, or None."""
    if path.is_file():
        if path.suffix.lower() != ".json":
            return None
        results = first_mark(path) == "[" and len(mentions(path, *RESULTS)) == len(RESULTS)
        return "a list of COCO results" if results else "a COCO file" if _is_coco(path) else None
    files = _files(path)
    return f"COCO annotations in {examples(files)}" if files else None


def read(path: Path, options: Options) -> Dataset:
    """Read a file, or all files of a folder, as `train.json`, `annotations/instances_val2017.json` or `test/x.json`.

    Several files are the splits that their names or folders speak of; one alone prescribes none.  Images are looked for
    by `file_name` below the folder.  Category ids may have gaps; images without objects are kept; `iscrowd` is kept; an
    image's group is its key `group`, our own.  Objects of an unknown category are left out and found by the audit.
    Instance segmentation when there are masks (polygons or run lengths), else detection.  Raises DataError for what is
    not there, not unique, or not a number in pixels.
    """
    root, files = _layout(path)
    lookup = Lookup(root)
    splits = splits_of(root, files)
    parts = {file: _Part(root / file, file, splits[file], lookup) for file in files}
    named = Counter(image for part in parts.values() for image in part.images.values())
    twice = [image for image, count in named.items() if count > 1]
    if twice:
        raise DataError(f"{root}: {len(twice)} images are named more than once: {examples(twice)}")
    sizes = measured(root, list(named))
    found = Annotations(root, NAME, [], [], lookup.unnamed(named))
    for part in parts.values():
        found.pictures += part.pictures(sizes)
        found.classes = {*(found.classes or ()), *part.categories.values()}
        found.remarks += part.remarks()
    return found.dataset(options)


@dataclass(frozen=True)
class Numbered:
    """A COCO file by itself, no image opened: its dataset, and what its numbers of images and categories mean."""

    dataset: Dataset
    images: Mapping[Any, str]
    categories: Mapping[Any, str]


def read_unopened(path: Path, options: Options) -> Numbered:
    """Read a COCO file, or the only one of a folder, without its images: sizes are those that it states.

    An image without width and height is looked for and measured.  Record ids are the file names as they are written.
    Raises DataError as read() does, and for several files.
    """
    root, files = _layout(path)
    if len(files) > 1:
        raise DataError(f"{path}: name one of its files: {examples(files)}")
    part = _Part(root / files[0], files[0], None, Unopened(root))
    stated = {part.images[id]: _stated(row) for id, row in part.rows.items()}
    if len(stated) < len(part.images):
        raise DataError(f"{part.file}: two images have one file_name")
    sizes: dict[str, Size | None] = {image: size for image, size in stated.items() if min(size) > 0}
    if unknown := [image for image in stated if image not in sizes]:
        lookup = Lookup(root)
        there = {image: lookup.find(image, os.path.dirname(files[0])) for image in unknown}
        true = measured(root, [place for place in there.values() if place is not None])
        sizes |= {image: true.get(place or "") for image, place in there.items()}
    if lost := [image for image, size in sizes.items() if size is None]:
        raise DataError(f"{part.file}: {len(lost)} images state no width and height: {examples(lost)}")
    found = Annotations(root, NAME, part.pictures(sizes), part.categories.values())
    found.remarks += part.remarks()
    return Numbered(found.dataset(options), part.images, part.categories)


class Unopened(Lookup):
    """File names as they are written, whether or not there are such files."""

    def __init__(self, root: Path) -> None:
        """Look nowhere."""
        self.root, self.images = root, frozenset()

    def find(self, name: str, near: str = "", split: SplitName | None = None) -> str | None:  # noqa: ARG002
        """Return the name with one kind of separator."""
        return name.strip().replace("\\", "/")


def write(dataset: Dataset, path: Path) -> None:
    """Write images/ and annotations/instances.json into a new folder, or train/ and instances_train.json per split.

    Ids count from 1; masks stay polygons or run lengths.  Raises DataError for splits that only some records have.
    """
    check_splits(dataset)
    with new_folder(path) as root:
        chosen = places(dataset, lambda record: record.split or "images")
        for record in dataset.records:
            put(dataset, record, root / chosen[record.id])
        (root / "annotations").mkdir()
        for split in sorted({record.split for record in dataset.records}, key=str):
            records = [record for record in dataset.records if record.split == split]
            name = f"instances_{split}.json" if split else "instances.json"
            content = _content(dataset.classes, records, chosen)
            (root / "annotations" / name).write_text(json.dumps(content, allow_nan=False), encoding="utf-8")


class _Part:
    """One file: its categories, its images and where they are."""

    def __init__(self, file: Path, relative: str, split: SplitName | None, lookup: Lookup) -> None:
        """Read and check all but the annotations."""
        self.file, self.split = file, split
        content = _read(file)
        self.rows = {row["id"]: row for row in _identified(content["images"], file, "images")}
        self.annotations: list[dict[str, Any]] = content["annotations"]
        self.categories = _categories(content["categories"], file)
        near = os.path.dirname(relative)
        where = {id: lookup.find(_text(row, "file_name", file), near, split) for id, row in self.rows.items()}
        absent = [str(self.rows[id]["file_name"]) for id, image in where.items() if image is None]
        if absent:
            count = f"{len(absent)} of {len(where)} images are not there"
            raise DataError(f"{file}: {count}, looked for below {lookup.root}: {examples(absent)}")
        self.images = {id: image for id, image in where.items() if image is not None}
        self.unknown: defaultdict[Any, set[str]] = defaultdict(set)

    def pictures(self, sizes: dict[str, Size | None]) -> list[Picture]:
        """Return every image with its objects."""
        items: defaultdict[Any, list[Item]] = defaultdict(list)
        for row in self.annotations:
            image = self.images.get(_key(row.get("image_id")))
            if image is None:
                raise DataError(f"{self._where(row)}: no image has the id {row.get('image_id')!r}")
            if _key(row.get("category_id")) not in self.categories:
                self.unknown[row.get("category_id")].add(image)
                continue
            items[image].append(self._item(row, sizes[image]))
        return [
            Picture(
                image,
                tuple(items[image]),
                sizes[image],
                _stated(self.rows[id]),
                f"{self.file}: image {id}",
                str(self.rows[id]["group"]) if self.rows[id].get("group") is not None else None,
                self.split,
            )
            for id, image in self.images.items()
        ]

    def remarks(self) -> list[Finding]:
        """Return the finding about objects of unknown categories, once pictures() has met them."""
        if not self.unknown:
            return []
        images = sorted(set().union(*self.unknown.values()))
        ids = examples([str(id) for id in self.unknown])
        sentence = f"objects of the categories {ids}, which {self.file.name} does not name, were left out"
        return [Finding("unknown-class", "error", sentence, tuple(images))]

    def _item(self, row: dict[str, Any], size: Size | None) -> Item:
        """Return one object."""
        stated = _stated(self.rows[_key(row["image_id"])])
        mask = read_mask(row.get("segmentation"), size or stated, self._where(row))
        values = numbers(row.get("bbox"))
        area = numbers([row["area"]]) if row.get("area") is not None else None
        if values is not None and len(values) == 4:
            left, top, width, height = values
            box: Box = (left, top, left + width, top + height)
        elif mask is not None and not row.get("bbox"):
            box = box_of(mask, size or stated)
        else:
            raise DataError(f"{self._where(row)}: bbox must be [x, y, width, height], not {row.get('bbox')!r}")
        crowd = bool(row.get("iscrowd"))
        return Item(self.categories[_key(row["category_id"])], box, mask, crowd, area[0] if area else None)

    def _where(self, row: dict[str, Any]) -> str:
        """Name an annotation in a message."""
        return f"{self.file}: annotation {row.get('id', 'without id')}"


def _layout(path: Path) -> tuple[Path, list[str]]:
    """Return the folder that holds images and annotations, and the files in it, as POSIX paths."""
    if not path.is_file():
        files = _files(path)
        if not files:
            raise DataError(f"{path}: no COCO file was found; expected {EXPECTS}")
        return path, files
    root = Path(os.path.abspath(path)).parent  # whose own parent has a name, whatever folder one stands in
    beside = any(is_image(name) for name in names_in(root)) or any(
        is_image(name) for folder in folders_in(root) for name in names_in(root / folder)
    )
    return (root, [path.name]) if beside else (root.parent, [f"{root.name}/{path.name}"])


def _files(folder: Path) -> list[str]:
    """Return the COCO files in a folder and in those directly below it, less those that repeat others."""
    found = json_files(folder, _is_coco)
    objects = [name for name in found if os.path.basename(name).startswith("instances")]
    found = objects or found  # beside captions and key points of the same images
    parts = [name for name in found if split_in(name)]
    return parts if len(parts) > 1 else found  # trainval.json repeats train.json and val.json


def _is_coco(file: Path) -> bool:
    """Say whether a file has COCO's keys, and not those of the panoptic form."""
    return first_mark(file) == "{" and mentions(file, *KEYS, OTHER) == set(KEYS)


def _read(file: Path) -> dict[str, list[dict[str, Any]]]:
    """Read a file's three lists."""
    content = read_strict(file)
    if isinstance(content, list):
        raise DataError(f"{file}: a list of results (predictions), not a dataset: it has no images and categories")
    for key in KEYS:
        rows = content.get(key) if isinstance(content, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise DataError(f"{file}: expected a list of objects under the key {key!r}")
    return {key: content[key] for key in KEYS}


def _identified(rows: Sequence[dict[str, Any]], file: Path, key: str) -> Iterable[dict[str, Any]]:
    """Return rows whose ids are there and unique."""
    counts = Counter(_key(row.get("id")) for row in rows)
    wrong = [repr(id) for id, count in counts.items() if count > 1 or id is None]
    if wrong:
        raise DataError(f"{file}: ids of {key} must be there and unique: {examples(wrong)}")
    return rows


def _categories(rows: Sequence[dict[str, Any]], file: Path) -> dict[Any, str]:
    """Return category id -> class name."""
    found = {_key(row["id"]): class_name(_text(row, "name", file)) for row in _identified(rows, file, "categories")}
    twice = [name for name, count in Counter(found.values()).items() if count > 1 or not name]
    if twice:
        raise DataError(f"{file}: names of categories must be there and unique: {examples(map(repr, twice))}")
    return found


def _key(id: Any) -> Any:
    """Return an id as it can be looked up: a number or text, else None."""
    return id if isinstance(id, int | str) and not isinstance(id, bool) else None


def _text(row: dict[str, Any], key: str, file: Path) -> str:
    """Return a text of a row."""
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{file}: {key} must be text, not {value!r}")
    return value


def _stated(row: dict[str, Any]) -> Size:
    """Return the size that the file states for an image; (0, 0) for none."""
    width, height = (row.get(key) for key in ("width", "height"))
    return (width, height) if isinstance(width, int) and isinstance(height, int) else (0, 0)


def _content(classes: Sequence[str], records: Sequence[Record], chosen: dict[str, str]) -> dict[str, Any]:
    """Return what one file says."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, record in enumerate(records, 1):
        target = boxes(record)
        row: dict[str, Any] = {"id": number, "file_name": chosen[record.id]}
        row |= {"width": target.size[0], "height": target.size[1]}
        if record.group is not None:
            row["group"] = record.group
        images.append(row)
        masks: Sequence[Mask | None] = target.masks if isinstance(target, Instances) else [None] * len(target)
        for i, mask in enumerate(masks):
            left, top, right, bottom = target.xyxy[i].tolist()
            entry: dict[str, Any] = {"id": len(annotations) + 1, "image_id": number}
            entry |= {"category_id": int(target.labels[i]) + 1, "iscrowd": int(target.crowd[i])}
            entry |= {"bbox": [left, top, round(right - left, DIGITS), round(bottom - top, DIGITS)]}
            entry |= {"area": float(target.areas[i])}
            if mask is not None:
                entry["segmentation"] = write_mask(mask, target.size)
            annotations.append(entry)
    categories = [{"id": number, "name": name} for number, name in enumerate(classes, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}
