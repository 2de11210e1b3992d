"""MNIST's four idx files in a folder, gzip or plain."""

from __future__ import annotations

import gzip
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import numpy as np

from bakeoff.data.dataset import Dataset, Record, SplitName, TaskName
from bakeoff.data.decode import read_idx, read_image
from bakeoff.data.formats.listing import names_in
from bakeoff.data.formats.rows import UNLABELLED, Options, Row, assemble, examples
from bakeoff.data.formats.target import new_folder
from bakeoff.errors import DataError

NAME = "idx"
TASKS: tuple[TaskName, ...] = ("classification",)
EXPECTS = "MNIST's files, for instance train-images-idx3-ubyte.gz and train-labels-idx1-ubyte.gz"
FILE = re.compile(r"(?:(?P<prefix>.*)-)?(?P<part>train|t10k|test)-(?P<kind>images|labels)[-.]idx[13]-ubyte(\.gz)?")
PARTS: dict[str, SplitName] = {"train": "train", "t10k": "test", "test": "test"}
UNNAMED = "have no label"


def sniff(path: Path) -> str | None:
    """Say why this is a folder of idx files, or None."""
    names = [name for name in names_in(path) if FILE.fullmatch(name)]
    return f"idx files {examples(names)}" if names else None


def read(path: Path, options: Options) -> Dataset:
    """Read the train and test pairs of files; one pair alone prescribes no split.  Classes are the label numbers.

    Raises DataError for a missing partner, a wrong magic number, and counts that do not agree.
    """
    pairs = _pairs(path)
    rows: list[Row] = []
    for split, files in pairs.items():
        rows += _rows(path, files, split if len(pairs) > 1 else None)
    return assemble(path, rows, NAME, options, [], UNNAMED)


def write(dataset: Dataset, path: Path) -> None:
    """Write pairs of gzip files into a new folder; records without a split go to train.  Colour becomes grey.

    Raises DataError for images of different size, classes that are not numbers from 0 to 255, groups and a val
    split: an idx file has no place for them.
    """
    _check_writable(dataset)
    with new_folder(path) as root:
        for part, splits in {"train": ("train", None), "t10k": ("test",)}.items():
            # frames in the order of their numbers: the order of ids would put #10 before #2
            records = sorted((r for r in dataset.records if r.split in splits), key=lambda r: (r.image, r.frame or 0))
            if records:
                labels = bytes(int(dataset.classes[record.label]) for record in records)
                with _packed(root / f"{part}-labels-idx1-ubyte.gz") as stream:
                    stream.write(struct.pack(">4B I", 0, 0, 8, 1, len(labels)) + labels)
                with _packed(root / f"{part}-images-idx3-ubyte.gz") as stream:
                    _write_images(dataset, records, stream)


def _pairs(path: Path) -> dict[SplitName, dict[str, str]]:
    """Find the files: split -> {"images": name, "labels": name}.  A plain file is preferred to its gzip copy."""
    found: dict[SplitName, dict[str, str]] = {}
    prefixes: set[str] = set()
    for name in names_in(path):
        match = FILE.fullmatch(name)
        if match:
            prefixes.add(match["prefix"] or "")
            found.setdefault(PARTS[match["part"]], {}).setdefault(match["kind"], name)
    if not found:
        raise DataError(f"{path}: no idx file was found; expected {EXPECTS}")
    if len(prefixes) > 1:
        raise DataError(f"{path}: files of several data sets ({examples(sorted(prefixes))}): give each its own folder")
    for files in found.values():
        for kind in {"images", "labels"} - set(files):
            raise DataError(f"{path}: {examples(files.values())} has no partner with {kind}; expected {EXPECTS}")
    return found


def _rows(path: Path, files: dict[str, str], split: SplitName | None) -> Iterator[Row]:
    """Return the records of one pair of files."""
    images, labels = read_idx(path / files["images"]), read_idx(path / files["labels"])
    if images.ndim != 3 or labels.ndim != 1:
        raise DataError(f"{path}: {files['images']} has shape {images.shape}, {files['labels']} {labels.shape}")
    if len(images) != len(labels):
        counts = f"{len(images)} images in {files['images']}, {len(labels)} labels in {files['labels']}"
        raise DataError(f"{path}: {counts}: one of them is damaged, or they do not belong together")
    size = (images.shape[2], images.shape[1])
    for frame, label in enumerate(labels.tolist()):
        name = files["images"]
        yield Record(f"{name}#{frame}", name, UNLABELLED, split=split, frame=frame, size=size), str(label)


def _check_writable(dataset: Dataset) -> None:
    """Refuse what idx files cannot say."""
    for name in dataset.classes:
        if not (name.isascii() and name.isdigit() and str(int(name)) == name and int(name) < 256):
            raise DataError(f"idx files hold classes 0 to 255 only, not {name!r}; write folders or a table instead")
    lost = [record.id for record in dataset.records if record.group is not None or record.split == "val"]
    if lost:
        raise DataError(f"{len(lost)} records have a group or are in val ({examples(lost)}); write a table instead")


def _write_images(dataset: Dataset, records: list[Record], stream: IO[bytes]) -> None:
    """Write header and pixels, one image at a time."""
    expected: tuple[int, ...] | None = None
    for record in records:
        pixels = read_image(dataset, record)
        if expected is None:
            expected = pixels.shape
            stream.write(struct.pack(">4B 3I", 0, 0, 8, 3, len(records), *expected[:2]))
        if pixels.shape != expected:
            one, other = ("x".join(map(str, shape[1::-1])) for shape in (pixels.shape, expected))
            raise DataError(f"{record.id}: {one} pixels, but the first image has {other}; idx files hold one size only")
        grey = pixels @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, exact for grey
        stream.write(np.rint(grey).astype(np.uint8).tobytes())


@contextmanager
def _packed(path: Path) -> Iterator[IO[bytes]]:
    """Open a gzip file whose bytes depend on its content alone: without name and time."""
    with path.open("wb") as plain, gzip.GzipFile("", "wb", 6, plain, mtime=0) as stream:
        yield cast(IO[bytes], stream)
