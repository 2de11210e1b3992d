"""VGG Image Annotator's JSON (https://www.robots.ox.ac.uk/~vgg/software/via), its dictionary and its list forms."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bakeoff.data.dataset import Dataset, Record, SplitName, TaskName
from bakeoff.data.formats.annotations import (
    DIGITS,
    Annotations,
    Item,
    Picture,
    boxes,
    check_crowd,
    check_splits,
    measured,
    one_outline,
)
from bakeoff.data.formats.lookup import Lookup, json_files, split_in, splits_of
from bakeoff.data.formats.rows import Options, class_name, examples
from bakeoff.data.formats.strict_json import mentions, read_strict
from bakeoff.data.formats.target import new_folder, places, put
from bakeoff.data.formats.via_shapes import Shape, shape_of
from bakeoff.data.targets import Instances
from bakeoff.errors import DataError
from bakeoff.findings import Finding, plural

NAME = "via"
EXPECTS = "a .json file of the VGG Image Annotator beside its images, or one in each of train/, val/, test/"
TASKS: tuple[TaskName, ...] = ("detection", "instance")
KEYS = ("filename", "regions", "shape_attributes")
METADATA = "_via_img_metadata"  # of a project: the dictionary is inside
USUAL = ("class", "label", "name", "category", "type", "object")  # the attribute to take where there are several
ONE_CLASS = "object"  # where no region has an attribute
ATTRIBUTE = "class"  # that we write


@dataclass(frozen=True)
class _Region:
    """One region of an image: its shape (None: it has no area) and attributes, and the place to name in messages."""

    shape: Shape | None
    attributes: dict[str, str]
    where: str


@dataclass(frozen=True)
class _Entry:
    """One image: its path and regions, and what its file attributes say."""

    image: str
    regions: tuple[_Region, ...]
    where: str
    group: str | None
    split: SplitName | None


def sniff(path: Path) -> str | None:
    """Say why this is VIA's JSON, or None."""
    if path.is_file():
        return "a file of the VGG Image Annotator" if path.suffix.lower() == ".json" and _is_via(path) else None
    files = json_files(path, _is_via)
    return f"regions of the VGG Image Annotator in {examples(files)}" if files else None


def read(path: Path, options: Options) -> Dataset:
    """Read regions: detection when all are rectangles, else instance segmentation.

    The class is the one attribute of the regions; of several the one called class, label, name, category, type or
    object; without any all are "object".  Circles and ellipses become polygons of 64 corners.  Points and lines have no
    area: they are left out and found by the audit.  Splits are those of the files or their folders; a file attribute
    `group` is the image's group, one called `split` its split.  Raises DataError for images that are not there, and for
    regions without a class.
    """
    root, files = (path.parent, [path.name]) if path.is_file() else (path, json_files(path, _is_via))
    if not files:
        raise DataError(f"{path}: no file of the VGG Image Annotator was found; expected {EXPECTS}")
    lookup, splits = Lookup(root), splits_of(root, files)
    entries = [_entry(row, root / file, splits[file], lookup) for file in files for row in _rows(root / file)]
    counts = Counter(entry.image for entry in entries)
    twice = [image for image, count in counts.items() if count > 1]
    if twice:
        raise DataError(f"{root}: {len(twice)} images are named more than once: {examples(twice)}")
    sizes = measured(root, list(counts))
    attribute = _attribute(entries, root)
    shapes = [region.shape for entry in entries for region in entry.regions if region.shape is not None]
    masked = options.task == "instance" or not all(shape.rectangle for shape in shapes)
    pictures = [
        Picture(e.image, _items(e, attribute, masked), sizes[e.image], None, e.where, e.group, e.split) for e in entries
    ]
    remarks = _without_area(entries)
    return Annotations(root, NAME, pictures, None, lookup.unnamed(counts), remarks).dataset(options)


def write(dataset: Dataset, path: Path) -> None:
    """Write images/ and via_region_data.json (regions as a list) into a new folder; groups and splits are attributes.

    Run lengths become outlines, parts are joined to one, holes are filled, and objects without three points are left
    out.  Raises DataError for crowd objects and splits that only some records have.
    """
    check_splits(dataset)
    check_crowd(dataset, NAME)
    with new_folder(path) as root:
        chosen = places(dataset, lambda _: "images")
        content = {}
        for record in dataset.records:
            file = root / chosen[record.id]
            put(dataset, record, file)
            size = file.stat().st_size
            about = {key: value for key, value in (("group", record.group), ("split", record.split)) if value}
            row = {"filename": chosen[record.id], "size": size, "file_attributes": about}
            content[f"{chosen[record.id]}{size}"] = {**row, "regions": _written(dataset, record)}
        text = json.dumps(content, allow_nan=False)
        (root / "via_region_data.json").write_text(text, encoding="utf-8")


def _is_via(file: Path) -> bool:
    """Say whether a file has VIA's keys; a dataset without any region has no shapes."""
    return set(KEYS[:2]) <= mentions(file, *KEYS) and bool(mentions(file, KEYS[2], METADATA, "file_attributes"))


def _rows(file: Path) -> list[dict[str, Any]]:
    """Return the images of a file: the values of a dictionary, of the one inside a project, or a list."""
    content = read_strict(file)
    if isinstance(content, dict):
        content = content.get(METADATA, content)
    rows = list(content.values()) if isinstance(content, dict) else content
    if not isinstance(rows, list) or not all(isinstance(r, dict) and isinstance(r.get("filename"), str) for r in rows):
        raise DataError(f"{file}: expected images with a filename and regions, by key or as a list")
    return rows


def _entry(row: dict[str, Any], file: Path, split: SplitName | None, lookup: Lookup) -> _Entry:
    """Return one image."""
    where = f"{file}: {row['filename']}"
    image = lookup.find(row["filename"], file.parent.relative_to(lookup.root).as_posix().removeprefix("."), split)
    if image is None:
        raise DataError(f"{where}: this image is not there, looked for below {lookup.root}")
    regions = row.get("regions") or []
    regions = list(regions.values()) if isinstance(regions, dict) else regions
    if not isinstance(regions, list) or not all(isinstance(region, dict) for region in regions):
        raise DataError(f"{where}: regions must be a list, or a dictionary by number")
    found = []
    for number, region in enumerate(regions, 1):
        place = f"{where}: region {number}"
        attributes = _texts(region.get("region_attributes"))
        found.append(_Region(shape_of(region.get("shape_attributes"), place), attributes, place))
    about = _texts(row.get("file_attributes"))
    return _Entry(image, tuple(found), where, about.get("group"), split or split_in(about.get("split", "")))


def _texts(attributes: Any) -> dict[str, str]:
    """Return attributes that are filled in, as text; of a checkbox that allows several the one that is set."""
    found = {}
    for key, value in attributes.items() if isinstance(attributes, dict) else ():
        if isinstance(value, dict):
            chosen = [option for option, on in value.items() if on]
            value = chosen[0] if len(chosen) == 1 else ""
        if isinstance(value, str | int | float) and class_name(str(value)):
            found[str(key)] = class_name(str(value))
    return found


def _attribute(entries: Sequence[_Entry], root: Path) -> str | None:
    """Return which attribute names the class; None when no region has any."""
    names = sorted({name for entry in entries for region in entry.regions for name in region.attributes})
    if len(names) < 2:
        return names[0] if names else None
    usual = [name for wanted in USUAL for name in names if name.casefold() == wanted]
    if not usual:
        raise DataError(f"{root}: which attribute is the class: {examples(names)}? Call it class, or remove the others")
    return usual[0]


def _items(entry: _Entry, attribute: str | None, masked: bool) -> tuple[Item, ...]:
    """Return the objects of an image."""
    found = []
    for region in entry.regions:
        name = ONE_CLASS if attribute is None else region.attributes.get(attribute)
        if region.shape is None:
            continue
        if name is None:
            raise DataError(f"{region.where}: has no {attribute}, which is the class of the others: fill it in")
        found.append(Item(name, region.shape.box, (region.shape.outline,) if masked else None))
    return tuple(found)


def _without_area(entries: Sequence[_Entry]) -> list[Finding]:
    """Return the finding about points and lines."""
    flat = {entry.image: sum(region.shape is None for region in entry.regions) for entry in entries}
    images = tuple(sorted(image for image, count in flat.items() if count))
    if not images:
        return []
    sentence = f"{plural(sum(flat.values()), 'region')} drawn as point or line have no area and were left out"
    return [Finding("shape-without-area", "warning", sentence, images)]


def _written(dataset: Dataset, record: Record) -> list[dict[str, Any]]:
    """Return the regions of a record."""
    target = boxes(record)
    found = []
    for i, label in enumerate(target.labels.tolist()):
        x, y, right, bottom = target.xyxy[i].tolist()
        shape: dict[str, Any] = {"name": "rect", "x": x, "y": y}
        shape |= {"width": round(right - x, DIGITS), "height": round(bottom - y, DIGITS)}
        if isinstance(target, Instances):
            outline = one_outline(target.masks[i], target.size)
            if len(outline) < 6:
                continue
            shape = {"name": "polygon", "all_points_x": outline[::2], "all_points_y": outline[1::2]}
        found.append({"shape_attributes": shape, "region_attributes": {ATTRIBUTE: dataset.classes[label]}})
    return found
