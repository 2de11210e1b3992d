"""Record and Dataset: what every format reads into, and everything else reads from."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from bakeoff.data.targets import Boxes, Label, MaskFiles, Target, target_from_json, target_json
from bakeoff.errors import DataError
from bakeoff.files import digest
from bakeoff.findings import Finding

TaskName = Literal["classification", "semantic", "detection", "instance"]
SplitName = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Derived:
    """How an image was made from others: `by` names the method ("background", "cutmix"), `of` are their record ids."""

    by: str
    of: tuple[str, ...]


@dataclass(frozen=True)
class Record:
    """One labelled image.

    `image` is a POSIX path relative to `Dataset.source`; `frame` is the index inside a file that holds many images
    (an idx file), else None.  `id` is unique: the path, with '#frame' where there is one.  `group` names what must
    not be torn apart by a split (patient, video, series).  `split` is the part that the data itself prescribes.
    `size` is (width, height) in pixels where the format states it or a reader measured it.  `derived` is set for an
    image that was made from others (offline expansion): it is trained on beside its originals, and never validated or
    tested on.
    """

    id: str
    image: str
    target: Target
    group: str | None = None
    split: SplitName | None = None
    frame: int | None = None
    derived: Derived | None = None
    size: tuple[int, int] | None = field(default=None, compare=False)

    @property
    def label(self) -> int:
        """The class index of a labelled image.  Raises TypeError for a target of another task."""
        if not isinstance(self.target, Label):
            raise TypeError(f"{self.id}: has {type(self.target).__name__}, not one label")
        return self.target.index


@dataclass(frozen=True)
class Dataset:
    """A task, its classes in canonical order (string sort) and its records in the order of their ids.

    `source` is the folder that image paths start from; `format` names the reader; `lineage` says what was done to the
    data before (conversion, expansion), oldest first; `remarks` are the findings that only a reader of the files could
    make (a size that is wrong, an object of an unknown class), for the audit to show.  Two datasets are equal when
    task, classes and records are.  Raises DataError when ids repeat, a label is out of range, or classes are not in
    canonical order.
    """

    task: TaskName
    classes: tuple[str, ...]
    records: tuple[Record, ...]
    source: Path = field(compare=False)
    format: str = field(default="", compare=False)
    lineage: tuple[str, ...] = field(default=(), compare=False)
    remarks: tuple[Finding, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        """Check what every reader promises."""
        if list(self.classes) != sorted(set(self.classes)):
            raise DataError(f"{self.source}: classes must be unique and in string order, got {list(self.classes)[:5]}")
        if len(self.index) != len(self.records):
            raise DataError(f"{self.source}: {len(self.records) - len(self.index)} record ids appear more than once")
        for record in self.records:
            for index in _labels(record.target):
                if not 0 <= index < len(self.classes):
                    raise DataError(f"{self.source}: {record.id}: label {index} has no class")

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.records)

    @cached_property
    def index(self) -> dict[str, int]:
        """Position of each record id."""
        return {record.id: position for position, record in enumerate(self.records)}

    def path(self, record: Record) -> Path:
        """Return where the record's image file is."""
        return self.source / record.image

    @cached_property
    def originals(self) -> Dataset:
        """The dataset less its derived images: what is audited, split, validated and tested.  Itself without any."""
        kept = tuple(record for record in self.records if record.derived is None)
        return self if len(kept) == len(self.records) else replace(self, records=kept)

    @cached_property
    def methods(self) -> dict[str, int]:
        """How many derived images each method made, in the order of the methods' names; empty without any."""
        return dict(sorted(Counter(record.derived.by for record in self.records if record.derived).items()))

    def derived_from(self, ids: Iterable[str], methods: Iterable[str] = ("all",)) -> tuple[str, ...]:
        """Return the sorted ids of the images that these methods ("all": any) derived from none but these originals.

        So what is trained on beside a training part never shows anything of an image that is validated or tested.
        """
        known, wanted = set(ids), set(methods)
        return tuple(
            record.id
            for record in self.records
            if record.derived and {"all", record.derived.by} & wanted and known.issuperset(record.derived.of)
        )

    def counts(self, ids: Iterable[str] | None = None) -> dict[str, int]:
        """Return records (classification) or objects (boxes) per class, of all records or the given ids; absent: 0.

        Label maps are on disk, and are not opened here: every class counts 0.
        """
        chosen = self.records if ids is None else [self.records[self.index[i]] for i in ids]
        tally = dict.fromkeys(self.classes, 0)
        for record in chosen:
            for index in _labels(record.target):
                tally[self.classes[index]] += 1
        return tally

    @cached_property
    def strata(self) -> tuple[int, ...]:
        """One number per record that a split should spread evenly: its label, or the rarest class among its objects.

        An image without objects has the number of classes; label maps, which are not opened here, have 0.
        """
        images = [0] * len(self.classes)
        for record in self.records:
            for index in set(_labels(record.target)):
                images[index] += 1
        rarest = (min(set(_labels(r.target)), key=lambda i: (images[i], i), default=None) for r in self.records)
        none = 0 if self.task == "semantic" else len(self.classes)
        return tuple(none if index is None else index for index in rarest)

    def without(self, ids: Iterable[str]) -> Dataset:
        """Return the dataset less some records; classes stay as they are."""
        dropped = set(ids)
        return replace(self, records=tuple(r for r in self.records if r.id not in dropped))

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able dictionary, fingerprint included."""
        rows = [
            {
                "id": r.id,
                "image": r.image,
                "target": target_json(r.target),
                "group": r.group,
                "split": r.split,
                "frame": r.frame,
                **({"derived": asdict(r.derived)} if r.derived else {}),
            }
            for r in self.records
        ]
        return {
            "task": self.task,
            "classes": list(self.classes),
            "source": str(self.source),
            "format": self.format,
            "lineage": list(self.lineage),
            "remarks": [remark.to_json() for remark in self.remarks],
            "fingerprint": self.fingerprint,
            "records": rows,
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Dataset:
        """Rebuild from to_json(), taking the fingerprint as it was, without opening an image."""
        records = tuple(_record(row) for row in content["records"])
        source, lineage = Path(content["source"]), tuple(content["lineage"])
        remarks = tuple(Finding.from_json(remark) for remark in content.get("remarks", ()))  # older ones have none
        dataset = cls(content["task"], tuple(content["classes"]), records, source, content["format"], lineage, remarks)
        dataset.__dict__["fingerprint"] = content["fingerprint"]  # fills the cached property
        return dataset

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) over classes, records and the bytes of every image and mask: the identity of the data."""
        files = sorted({file for record in self.records for file in _files(record)})
        with ThreadPoolExecutor(4) as pool:
            hashes = dict(zip(files, pool.map(lambda name: _hash(self.source / name), files), strict=True))
        rows: list[Any] = [
            [
                *(r.id, target_json(r.target), r.group, r.split, r.frame, *(hashes[file] for file in _files(r))),
                *([asdict(r.derived)] if r.derived else []),
            ]
            for r in self.records
        ]
        return digest([self.task, self.classes, rows])


def labelled(source: Path, rows: Iterable[tuple[Record, str]], format: str) -> Dataset:
    """Make a classification dataset from (record, class name) pairs: sorts records, builds the canonical label map.

    The records' own targets are ignored.  Raises DataError when there is no row.
    """
    pairs = sorted(rows, key=lambda pair: pair[0].id)
    if not pairs:
        raise DataError(f"{source}: no labelled image was found")
    classes = tuple(sorted({name for _, name in pairs}))
    place = {name: index for index, name in enumerate(classes)}
    records = tuple(replace(record, target=Label(place[name])) for record, name in pairs)
    return Dataset("classification", classes, records, source, format)


def _record(row: dict[str, Any]) -> Record:
    """Rebuild one record from JSON."""
    derived = row.get("derived")
    made = Derived(derived["by"], tuple(derived["of"])) if derived else None
    return Record(**{**row, "target": target_from_json(row["target"]), "derived": made})


def _labels(target: Target) -> list[int]:
    """Return the class indices that a target names itself; a label map on disk names none."""
    if isinstance(target, Label):
        return [target.index]
    return target.labels.tolist() if isinstance(target, Boxes) else []


def _files(record: Record) -> list[str]:
    """Return the image of a record and the files of its masks."""
    masks = [file for file, _ in record.target.layers] if isinstance(record.target, MaskFiles) else []
    return [record.image, *masks]


def _hash(path: Path) -> str:
    """Hash a file's bytes; a file that cannot be opened hashes to its absence."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "blake2b").hexdigest()[:32]
    except OSError:
        return "missing"
