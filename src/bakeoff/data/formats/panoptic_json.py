"""The JSON file of COCO's panoptic form, checked: what every segment of every image's PNG is."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from bakeoff.data.dataset import SplitName
from bakeoff.data.formats.annotations import Size
from bakeoff.data.formats.coco_masks import numbers
from bakeoff.data.formats.listing import folders_in, names_in
from bakeoff.data.formats.lookup import Lookup, split_in
from bakeoff.data.formats.mask_pairs import yaml_entries
from bakeoff.data.formats.rows import class_name, examples
from bakeoff.data.formats.strict_json import first_mark, mentions, read_strict
from bakeoff.errors import DataError

KEYS = ("images", "annotations", "categories", "segments_info")
LISTS = KEYS[:3]
VOID = 0  # the id of pixels that belong to no segment


@dataclass(frozen=True)
class Segment:
    """One entry of segments_info: the id of its pixels, its class, and what is stated about it."""

    id: int
    name: str
    thing: bool
    crowd: bool
    box: tuple[float, float, float, float] | None
    area: float | None

    @property
    def colour(self) -> int:
        """The colour of its pixels as 24 bits."""
        return (self.id & 255) << 16 | self.id & 0xFF00 | self.id >> 16


@dataclass(frozen=True)
class Scene:
    """An image and its PNG, both relative to the data's source, and the segments in them."""

    image: str
    png: str
    segments: tuple[Segment, ...]
    stated: Size
    group: str | None
    split: SplitName | None


@dataclass(frozen=True)
class Category:
    """A class, and whether its segments are single objects."""

    name: str
    thing: bool


def is_panoptic(file: Path) -> bool:
    """Say whether a file has the keys."""
    return file.suffix.lower() == ".json" and first_mark(file) == "{" and mentions(file, *KEYS) == set(KEYS)


def files_in(folder: Path) -> list[str]:
    """Return the panoptic files in a folder and in those directly below it."""
    below = ["", *(f"{name}/" for name in folders_in(folder))]
    names = [f"{prefix}{name}" for prefix in below for name in names_in(folder / prefix)]
    return [name for name in names if is_panoptic(folder / name)]


def layout(path: Path) -> tuple[Path, list[str]]:
    """Return the folder below which everything lies, and the panoptic files in it, as POSIX paths."""
    base = path
    if path.is_file():
        base = path.parent.parent if path.parent.name.casefold() == "annotations" else path.parent
    files = [base / name for name in files_in(path)] if path.is_dir() else [path]
    if not files:
        raise DataError(f"{path}: no COCO panoptic file was found; expected a .json file with segments_info")
    entries = [entry for name in names_in(base) for entry in yaml_entries(base / name)]
    images = [folder for _, folder, _ in entries if os.path.isdir(folder)]
    source = Path(os.path.commonpath([os.path.abspath(base), *images])) if images else base
    return source, [PurePosixPath(os.path.relpath(file, source)).as_posix() for file in files]


def splits_of(source: Path, files: Sequence[str]) -> dict[str, SplitName | None]:
    """Return the split that the name of every file speaks of; one file alone prescribes none."""
    if len(files) == 1:
        return {files[0]: None}
    found = {file: split_in(PurePosixPath(file).name) for file in files}
    if None in found.values() or len(set(found.values())) < len(found):
        wanted = "one file for each of train, val and test: name the one to read"
        raise DataError(f"{source}: {examples(files)} are not {wanted}")
    return found


# --- what a file says ---


def read_lists(file: Path) -> dict[str, list[dict[str, Any]]]:
    """Read a file's three lists."""
    content = read_strict(file)
    for key in LISTS:
        rows = content.get(key) if isinstance(content, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise DataError(f"{file}: expected a list of objects under the key {key!r}")
    return {key: content[key] for key in LISTS}


def read_categories(rows: Sequence[dict[str, Any]], file: Path) -> dict[Any, Category]:
    """Return category id -> name and whether it is a thing."""
    names = [class_name(row["name"]) if isinstance(row.get("name"), str) else "" for row in rows]
    ids = [row.get("id") for row in rows]
    for what, values in (("names", names), ("ids", ids)):
        wrong = [repr(value) for value, count in Counter(map(_key, values)).items() if count > 1 or value in (None, "")]
        if wrong:
            raise DataError(f"{file}: {what} of categories must be there and unique: {examples(wrong)}")
    return {id: Category(name, bool(row.get("isthing", 1))) for id, name, row in zip(ids, names, rows, strict=True)}


def read_scenes(
    file: Path, content: Mapping[str, Sequence[dict[str, Any]]], split: SplitName | None, lookup: Lookup
) -> list[Scene]:
    """Return every annotated image of one file with what its segments are.

    Raises DataError for images and PNG files that are not there, and for images without annotation or the reverse.
    """
    known = read_categories(content["categories"], file)
    images = _images(file, content)
    found, absent = [], []
    for row in content["annotations"]:
        image = images[_key(row["image_id"])]
        name, png = (str(entry.get("file_name") or "") for entry in (image, row))
        near = PurePosixPath(os.path.relpath(file.parent, lookup.root))
        where = lookup.find(name, "" if near == PurePosixPath() else near.as_posix(), split)
        place = _png(lookup, near, file.stem, png)
        if where is None or place is None or where == place:
            absent.append(png if place is None else name)
            continue
        segments = _segments(row.get("segments_info"), known, f"{file}: {png}")
        group = None if image.get("group") is None else str(image["group"])
        found.append(Scene(where, place, segments, _stated(image), group, split))
    if absent:
        count = f"{len(absent)} of {len(images)} images lack their picture or their PNG"
        raise DataError(f"{file}: {count}, looked for below {lookup.root}: {examples(absent)}")
    return found


def _images(file: Path, content: Mapping[str, Sequence[dict[str, Any]]]) -> dict[Any, dict[str, Any]]:
    """Return image id -> its row, each with one annotation."""
    images = {_key(row.get("id")): row for row in content["images"]}
    if None in images or len(images) < len(content["images"]):
        raise DataError(f"{file}: ids of images must be there and unique")
    named = Counter(_key(row.get("image_id")) for row in content["annotations"])
    lost = [repr(id) for id in named if id not in images]
    twice = [repr(id) for id, count in named.items() if count > 1]
    bare = [repr(id) for id in images if id not in named]
    for what, ids in (
        ("annotations of unknown", lost),
        ("two annotations of the", twice),
        ("no annotation of the", bare),
    ):
        if ids:
            raise DataError(f"{file}: {what} images {examples(ids)}: each image needs one annotation")
    return images


def _png(lookup: Lookup, folder: PurePosixPath, stem: str, name: str) -> str | None:
    """Return where an image's PNG is: in the folder of the JSON file's name, or beside that file."""
    tried = (PurePosixPath(folder, stem, name), PurePosixPath(folder, name), PurePosixPath(name))
    return next((place.as_posix() for place in tried if place.as_posix() in lookup.images), None)


def _segments(rows: Any, categories: dict[Any, Category], where: str) -> tuple[Segment, ...]:
    """Read segments_info."""
    found = tuple(_segment(entry, categories, where) for entry in rows or ())
    twice = [str(id) for id, count in Counter(segment.id for segment in found).items() if count > 1]
    if twice:
        raise DataError(f"{where}: ids of segments stand twice: {examples(twice)}")
    return found


def _segment(entry: Any, categories: dict[Any, Category], where: str) -> Segment:
    """Read one entry of segments_info."""
    entry = entry if isinstance(entry, dict) else {}
    id, category = entry.get("id"), categories.get(_key(entry.get("category_id")))
    if not isinstance(id, int) or isinstance(id, bool) or not VOID < id < 1 << 24:
        raise DataError(f"{where}: a segment's id must be a number of 24 bits and not 0, not {id!r}")
    if category is None:
        raise DataError(f"{where}: segment {id} has the unknown category {entry.get('category_id')!r}")
    box, area = numbers(entry.get("bbox")), numbers([entry.get("area")])
    corners = (box[0], box[1], box[0] + box[2], box[1] + box[3]) if box is not None and len(box) == 4 else None
    crowd = bool(entry.get("iscrowd"))
    return Segment(id, category.name, category.thing, crowd, corners, area[0] if area is not None else None)


def _stated(row: dict[str, Any]) -> Size:
    """Return the size that the file states for an image; (0, 0) for none."""
    width, height = (row.get(key) for key in ("width", "height"))
    return (width, height) if isinstance(width, int) and isinstance(height, int) else (0, 0)


def _key(id: Any) -> Any:
    """Return an id as it can be looked up: a number or text, else None."""
    return id if isinstance(id, int | str) and not isinstance(id, bool) else None
