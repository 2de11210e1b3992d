"""Everything that a dataset is labelled with as columns: all objects, all label maps, which class is in which image."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from bakeoff.data.dataset import Dataset, Record
from bakeoff.data.draw import loaded
from bakeoff.data.masks import area, bounds, to_runs
from bakeoff.data.targets import Boxes, Instances, Label, LabelMap
from bakeoff.errors import DataError, UnreadableImage

T = TypeVar("T")
WORKERS = 2


@dataclass(frozen=True)
class ObjectColumns:
    """One row per object of a dataset, in the order of its records.

    records (N,) the place of the image in `Dataset.records`; sizes (N, 2) width and height of the frame that boxes are
    stated in; xyxy (N, 4); labels (N,); crowd (N,).  With masks also their pixels, mask_areas (N,), and the boxes
    around them, mask_boxes (N, 4); else these are None.
    """

    records: NDArray[np.int64]
    sizes: NDArray[np.float64]
    xyxy: NDArray[np.float64]
    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    mask_areas: NDArray[np.float64] | None = None
    mask_boxes: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.labels)

    @property
    def sides(self) -> NDArray[np.float64]:
        """Width and height of every box, (N, 2)."""
        with np.errstate(invalid="ignore"):  # infinity less infinity
            return np.asarray(self.xyxy[:, 2:] - self.xyxy[:, :2])

    @property
    def sound(self) -> NDArray[np.bool_]:
        """Which boxes are finite and have an area."""
        return np.asarray(np.isfinite(self.xyxy).all(axis=1) & (self.sides > 0).all(axis=1))


@dataclass(frozen=True)
class MapColumns:
    """One row per record of a semantic dataset.

    sizes (n, 2) width and height of the label map, 0 where it cannot be read; pixels (n, K) of every class; ignored
    (n,) pixels without one; digests (n,) of the decoded label map.  `unreadable` and `unknown` map the ids of the
    others to the reason: a damaged file, and a value that means no class.
    """

    sizes: NDArray[np.int64]
    pixels: NDArray[np.int64]
    ignored: NDArray[np.int64]
    digests: tuple[str, ...]
    unreadable: Mapping[str, str]
    unknown: Mapping[str, str]

    @property
    def read(self) -> NDArray[np.bool_]:
        """Which label maps could be read."""
        return np.asarray(self.sizes[:, 0] > 0)


def objects(dataset: Dataset) -> ObjectColumns:
    """Return the objects of a dataset of boxes or masks, gathered once per Dataset."""
    return _kept(dataset, ObjectColumns) or _keep(dataset, _gather(dataset))


def label_maps(dataset: Dataset) -> MapColumns:
    """Return what the label maps of a semantic dataset hold; every mask file is decoded once per Dataset.

    Damaged files and unknown values are named in the columns, nothing is raised for them.
    """
    return _kept(dataset, MapColumns) or _keep(dataset, _measure(dataset))


@dataclass(frozen=True)
class Presence:
    """Which class is in which image: (n, K) booleans, in the order of the records and the classes."""

    table: NDArray[np.bool_]


def presence(dataset: Dataset) -> NDArray[np.bool_]:
    """Return which class is in which image, (n, K), for every task; a label map that cannot be read holds none."""
    return (_kept(dataset, Presence) or _keep(dataset, Presence(_present(dataset)))).table


def image_counts(dataset: Dataset, ids: Iterable[str] | None = None) -> dict[str, int]:
    """Return the number of images that hold each class, of all records or the given ids."""
    table = presence(dataset)
    rows = slice(None) if ids is None else np.array([dataset.index[id] for id in ids], np.intp)
    return dict(zip(dataset.classes, table[rows].sum(axis=0).tolist(), strict=True))


def _kept(dataset: Dataset, kind: type[T]) -> T | None:
    """Return what was kept with a dataset, which is frozen: what holds for it once holds for good."""
    found = dataset.__dict__.get(kind.__name__)
    return found if isinstance(found, kind) else None


def _keep(dataset: Dataset, columns: T) -> T:
    """Keep columns with their dataset."""
    dataset.__dict__[type(columns).__name__] = columns
    return columns


# --- objects ---


def _gather(dataset: Dataset) -> ObjectColumns:
    """Join the objects of all records."""
    targets = [(place, r.target) for place, r in enumerate(dataset.records) if isinstance(r.target, Boxes)]
    counts = [len(target) for _, target in targets]
    masks = [found for _, target in targets if isinstance(target, Instances) for found in _masks(target)]
    with_masks = dataset.task == "instance" and len(masks) == sum(counts)
    return ObjectColumns(
        np.repeat(np.array([place for place, _ in targets], np.int64), counts),
        np.repeat(np.array([target.size for _, target in targets], np.float64).reshape(-1, 2), counts, axis=0),
        np.concatenate([np.empty((0, 4)), *(target.xyxy for _, target in targets)]),
        np.concatenate([np.empty(0, np.int64), *(target.labels for _, target in targets)]),
        np.concatenate([np.empty(0, np.bool_), *(target.crowd for _, target in targets)]),
        np.array([pixels for pixels, _ in masks], np.float64) if with_masks else None,
        np.array([box for _, box in masks], np.float64).reshape(-1, 4) if with_masks else None,
    )


def _masks(target: Instances) -> list[tuple[float, tuple[float, float, float, float]]]:
    """Return the pixels of each mask and the box around it."""
    runs = [to_runs(mask, target.size) for mask in target.masks]
    return [(area(mask, target.size), bounds(mask, target.size)) for mask in runs]


# --- label maps ---


@dataclass(frozen=True)
class _Row:
    """One row of MapColumns."""

    size: tuple[int, int]
    pixels: NDArray[np.int64]
    ignored: int
    digest: str


def _measure(dataset: Dataset) -> MapColumns:
    """Decode and count every label map."""
    with ThreadPoolExecutor(WORKERS) as pool:
        found = list(pool.map(lambda record: _count(dataset, record), dataset.records))
    broken = {r.id: row for r, row in zip(dataset.records, found, strict=True) if isinstance(row, DataError)}
    count = len(dataset.classes)
    none = _Row((0, 0), np.zeros(count, np.int64), 0, "")
    rows = [row if isinstance(row, _Row) else none for row in found]
    return MapColumns(
        np.array([row.size for row in rows], np.int64).reshape(-1, 2),
        np.array([row.pixels for row in rows], np.int64).reshape(-1, count),
        np.array([row.ignored for row in rows], np.int64),
        tuple(row.digest for row in rows),
        {id: f"{e.path.name}: {e.reason}" for id, e in broken.items() if isinstance(e, UnreadableImage)},
        {id: str(error) for id, error in broken.items() if not isinstance(error, UnreadableImage)},
    )


def _count(dataset: Dataset, record: Record) -> _Row | DataError:
    """Count the pixels of every class in one label map."""
    try:
        target = loaded(dataset, record)
    except DataError as error:
        return error
    assert isinstance(target, LabelMap), f"{record.id} has no label map"
    counts = np.bincount(target.pixels.ravel(), minlength=256)
    classes = counts[: len(dataset.classes)]
    digest = hashlib.md5(repr(target.pixels.shape).encode() + target.pixels.tobytes(), usedforsecurity=False)
    height, width = target.pixels.shape
    return _Row((width, height), classes, int(counts.sum() - classes.sum()), digest.hexdigest())


# --- classes ---


def _present(dataset: Dataset) -> NDArray[np.bool_]:
    """Tabulate which class is in which image."""
    if dataset.task == "semantic":
        return np.asarray(label_maps(dataset).pixels > 0)
    table = np.zeros((len(dataset), len(dataset.classes)), np.bool_)
    for place, record in enumerate(dataset.records):
        if isinstance(record.target, Label):
            table[place, record.target.index] = True
        elif isinstance(record.target, Boxes):
            table[place, record.target.labels] = True
    return table
