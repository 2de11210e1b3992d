"""Label maps: an image and one or more mask files that say for each pixel what it shows."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from bakeoff.data.dataset import Dataset, Record, TaskName
from bakeoff.data.formats.annotations import check_splits, measured
from bakeoff.data.formats.class_table import find_table
from bakeoff.data.formats.groups import read_groups, write_groups
from bakeoff.data.formats.mask_codes import SAMPLE, Codes, codes_of, layer_codes, look
from bakeoff.data.formats.mask_pairs import Found, Pair, files_of, find
from bakeoff.data.formats.rows import Options, arranged, examples
from bakeoff.data.formats.target import new_folder, places, put
from bakeoff.data.masks import palette, read_label_map
from bakeoff.data.targets import MaskFiles
from bakeoff.errors import DataError

NAME = "masks"
TASKS: tuple[TaskName, ...] = ("semantic",)
EXPECTS = "images/ and masks/ side by side (in train, val and test folders or not), or x.jpg beside x_mask.png"
IMAGES, MASKS, TABLE = "images", "masks", "classes.csv"


def sniff(path: Path) -> str | None:
    """Say why these are images with label maps, or None: most images have a mask where the usual names say."""
    if not path.is_dir():
        return None
    found = find(path)
    if not found.pairs or len(found.lost) + (0 if found.partial else len(found.bare)) > len(found.pairs):
        return None
    pair = found.pairs[0]
    return f"{len(found.pairs)} images with masks, the first are {pair.image} and {pair.masks[0][0]}"


def read(path: Path, options: Options) -> Dataset:
    """Read images and masks; `options.masks` names the folder of the masks, or a pattern of their paths.

    In a pattern, as in "train_masks/{stem}_mask.gif", {stem} is the image's name without suffix, {folder} its folder,
    {class} a class that has mask files of its own, * any text.  Without one, folders are paired by their usual names
    (images and masks, train and trainannot, …), files by their stems, with or without an ending such as _mask.
    Classes come from a table (class_table.read_table): `options.classes`, else one beside the data; without any,
    values are classes "0", "1", … and masks of two values `background` and `foreground` (mask_codes.codes_of).
    Raises DataError for images without a mask and the reverse, masks without a readable meaning, values without a
    class; UsageError for wrong options.
    """
    if not path.is_dir():
        raise DataError(f"{path}: not a folder; expected {EXPECTS}")
    found = find(path, options.masks)
    _check(path, found)
    codes = _codes(path, found, options)
    groups = read_groups(path)
    sizes = measured(found.source, [pair.image for pair in found.pairs])
    rows = [
        Record(pair.image, pair.image, _target(pair, codes), groups.get(pair.image), pair.split, size=sizes[pair.image])
        for pair in found.pairs
    ]
    records, notes = arranged(found.source, rows, options)
    left = [f"{len(found.bare)} images without a mask were left out"] if found.bare else []
    lineage = (*codes.notes, *found.notes, *left, *notes)
    return Dataset("semantic", codes.classes, records, found.source, NAME, lineage)


def write(dataset: Dataset, path: Path) -> None:
    """Write images/, masks/ (palette PNG: the index is the class, 255 is ignored) and classes.csv into a new folder.

    Records with splits go into folders of these names; groups go to groups.csv.  Raises DataError for splits that
    only some records have, and for masks that cannot be read.
    """
    check_splits(dataset)
    with new_folder(path) as root:
        chosen = places(dataset, lambda record: "/".join((IMAGES, *filter(None, [record.split]))), by_stem=True)
        for record in dataset.records:
            put(dataset, record, root / chosen[record.id])
            _write_mask(dataset, record, root / MASKS / PurePosixPath(chosen[record.id]).relative_to(IMAGES))
        with (root / TABLE).open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows([("value", "name"), *enumerate(dataset.classes)])
        write_groups(root, {chosen[record.id]: record.group for record in dataset.records})


def _write_mask(dataset: Dataset, record: Record, image: Path) -> None:
    """Write a record's label map beside its image's place, as a PNG."""
    assert isinstance(record.target, MaskFiles), "a semantic record has mask files"
    image.parent.mkdir(parents=True, exist_ok=True)
    palette(read_label_map(dataset.source, record.target)).save(image.with_suffix(".png"), optimize=False)


def _check(path: Path, found: Found) -> None:
    """Raise DataError for what cannot be paired."""
    if found.faults:
        raise DataError(f"{path}: {examples(found.faults, 3)}")
    if not found.pairs:
        what = f"no image with a mask was found; expected {EXPECTS}"
        raise DataError(f"{path}: {what}; or name the masks' folder: --set data.masks=FOLDER")
    if found.lost:
        raise DataError(f"{path}: {len(found.lost)} masks have no image: {examples(sorted(found.lost))}")
    if found.bare and not found.partial:
        raise DataError(f"{path}: {len(found.bare)} images have no mask: {examples(sorted(found.bare))}")


def _codes(path: Path, found: Found, options: Options) -> Codes:
    """Find out what the mask files' values mean."""
    names = {name for pair in found.pairs for _, name in pair.masks}
    files = files_of(found.pairs)
    table = find_table(dict.fromkeys((path, found.source, *_mask_roots(found, files))), options.classes)
    sample = look([found.source / file for file in files], None if names != {None} else table)
    note = (f"the meaning of values was found out from {SAMPLE} of {len(files)} masks",) if len(files) > SAMPLE else ()
    if names != {None}:
        codes = layer_codes(sample, {name for name in names if name is not None}, options.ignore)
    else:
        several = any(len(pair.masks) > 1 for pair in found.pairs)
        codes = codes_of(sample, table, options.ignore, several)
    return replace(codes, notes=(*codes.notes, *note))


def _mask_roots(found: Found, files: Sequence[str]) -> list[Path]:
    """Return the first folders that masks lie in: a table of classes may lie there."""
    return sorted({found.source / PurePosixPath(file).parts[0] for file in files if "/" in file})[:4]


def _target(pair: Pair, codes: Codes) -> MaskFiles:
    """Return the label map of a pair."""
    return MaskFiles(tuple((file, codes.codings[name]) for file, name in pair.masks), codes.ground)
