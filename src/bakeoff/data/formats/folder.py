"""Class folders, with or without train, val and test folders around them."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from bakeoff.data.dataset import Dataset, Record, TaskName
from bakeoff.data.formats.groups import read_groups, write_groups
from bakeoff.data.formats.listing import folders_in, is_clutter, list_images
from bakeoff.data.formats.rows import UNLABELLED, Options, Row, assemble, class_name, examples, split_name
from bakeoff.data.formats.target import new_folder, places, put
from bakeoff.errors import DataError

NAME = "folder"
TASKS: tuple[TaskName, ...] = ("classification",)
EXPECTS = "one folder of images for each class, optionally inside train, val and test folders"
NO_CLASS = re.compile(r"(.*[_-])?(jpegimages|images|masks|annotations|labels)", re.IGNORECASE)
FLAT = (
    "lie outside a class folder (put each image into a folder named after its class, or take the label from the file"
    " name, for instance --label-from '(?P<label>[a-z]+)_')"
)


def sniff(path: Path) -> str | None:
    """Say why this is a folder of images, or None."""
    if not path.is_dir():
        return None
    listing = list_images(path)
    if not listing.images:
        return None
    tops = {image.partition("/")[0] for image in listing.images if "/" in image}
    inside = f"in the folders {examples(sorted(tops))}" if tops else "without a class folder"
    return f"{len(listing.images)} images {inside}"


def read(path: Path, options: Options) -> Dataset:
    """Read class folders: `[split/]class/…/image`.  Folders below a class folder belong to that class.

    Raises DataError for an empty folder, for images outside a class folder (unless options.label_from), for folders
    beside train and test, and for fewer than two classes.
    """
    listing = list_images(path)
    if not listing.images:
        found = "; ".join(listing.note()) or "it is empty"
        raise DataError(f"{path}: no image was found: {found}; expected {EXPECTS}")
    split = _has_splits(path, {image.split("/")[0] for image in listing.images if "/" in image})
    groups = read_groups(path)
    if groups:
        listing.ignored[".csv"] -= 1
        listing.ignored += type(listing.ignored)()  # drops what counts 0
    rows = [_row(image, split, groups) for image in listing.images]
    if options.label_from is None:
        _check_classes(path, {class_name(label) for _, label in rows if label})
    return assemble(path, rows, NAME, options, listing.note(), FLAT)


def write(dataset: Dataset, path: Path) -> None:
    """Write class folders into a new folder; groups go to groups.csv.  A class without an image leaves no trace.

    Raises DataError for class names that cannot be folder names, and for splits that only some records have.
    """
    _check_writable(dataset)
    with new_folder(path) as root:
        chosen = places(dataset, lambda r: f"{r.split}/{_class(dataset, r)}" if r.split else _class(dataset, r))
        for record in dataset.records:
            put(dataset, record, root / chosen[record.id])
        write_groups(root, {chosen[record.id]: record.group for record in dataset.records})


def _row(image: str, split: bool, groups: dict[str, str]) -> Row:
    """Return the record and label of one path."""
    parts = image.split("/")
    part = split_name(parts[0]) if split and len(parts) > 1 else None
    folders = parts[1:-1] if part else parts[:-1]
    return Record(image, image, UNLABELLED, groups.get(image), part), folders[0] if folders else None


def _has_splits(path: Path, tops: Collection[str]) -> bool:
    """Say whether the top folders are splits.  Raises DataError for train and test beside something else."""
    parts = {split_name(name) for name in tops} - {None}
    others = sorted(name for name in tops if split_name(name) is None)
    if "train" in parts and len(parts) > 1 and others:
        raise DataError(f"{path}: images in {examples(others)} lie beside train, val and test folders: move them away")
    return bool(parts) and not others  # beside other classes, one may be called train


def _check_classes(path: Path, classes: set[str]) -> None:
    """Refuse folders whose names say that they are no classes, and point into a folder around the class folders."""
    wrong = sorted(name for name in classes if NO_CLASS.fullmatch(name))
    if wrong:
        what = f"folders called {examples(wrong)} are not classes"
        raise DataError(f"{path}: {what}; expected {EXPECTS}; or take labels from file names with --label-from")
    inner = [path / top for top in folders_in(path) if {class_name(top)} == classes]
    if inner and len(folders_in(inner[0])) > 1:
        raise DataError(f"{path}: all images have the one class {inner[0].name!r}; did you mean {inner[0]}?")


def _class(dataset: Dataset, record: Record) -> str:
    """Return the class name of a record."""
    return dataset.classes[record.label]


def _check_writable(dataset: Dataset) -> None:
    """Refuse what a folder tree cannot say."""
    for name in dataset.classes:
        if not name or is_clutter(name) or set("/\\\0") & set(name) or name != class_name(name) or len(name) > 200:
            raise DataError(f"class {name!r} cannot be the name of a folder; write a table instead")
    splits = {record.split for record in dataset.records}
    if None in splits and len(splits) > 1:
        bare = [record.id for record in dataset.records if record.split is None]
        raise DataError(f"{len(bare)} records have no split and others have ({examples(bare)}); write a table instead")
    misleading = [name for name in dataset.classes if split_name(name)]
    if splits == {None} and misleading:
        raise DataError(f"classes called {examples(misleading)} would be taken for splits; write a table instead")
