"""Classes of two datasets, or of a dataset and a model, matched by name; and what each task says class by class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bakeoff.data.dataset import Dataset
from bakeoff.data.masks import read_label_map
from bakeoff.data.targets import CLEAR, IGNORE, Boxes, Coding, Label, MaskFiles, Target
from bakeoff.errors import DataError, nearest
from bakeoff.findings import listed
from bakeoff.tasks import classification, precision, semantic
from bakeoff.tasks.task import Outcomes

READERS = 4  # threads: Pillow lets go of the interpreter while it decodes
PER_CLASS: Mapping[str, Callable[[Outcomes], list[dict[str, Any]]]] = {
    "classification": classification.per_class,
    "semantic": semantic.per_class,
    "detection": precision.per_class,
    "instance": precision.per_class,
}


def per_class(task: str, outcomes: Outcomes) -> list[dict[str, Any]]:
    """Return a row for every class, "class" and "images" among its columns; None where a value is undefined."""
    return PER_CLASS[task](outcomes) if task in PER_CLASS else []


def with_classes(dataset: Dataset, classes: tuple[str, ...]) -> Dataset:
    """Return a dataset with the labels renumbered, by name, for a model's `classes`.

    Mask files are opened only when the dataset has a class that the model does not know: what counts is whether a
    pixel has it.  Raises DataError for a class that occurs and that the model does not know, and for mask files.
    """
    unknown = [name for name in dataset.classes if name not in classes]
    counts = pixel_counts(dataset) if unknown and dataset.task == "semantic" else dataset.counts()
    strange = [name for name in unknown if counts[name]]
    if strange:
        hint = listed([f"{name!r}{nearest(name, classes)}" for name in strange])
        raise DataError(
            f"{dataset.source}: the model does not know {len(strange)} of the classes: {hint}; "
            f"it knows {listed(classes, 10)}. Rename those labels, or leave their images out"
        )
    place = {name: index for index, name in enumerate(classes)}
    numbers = np.array([place.get(name, IGNORE) for name in dataset.classes], np.int64)
    records = tuple(replace(r, target=renumbered(r.target, numbers)) for r in dataset.records)
    return replace(dataset, classes=classes, records=records)


def pixel_counts(dataset: Dataset) -> dict[str, int]:
    """Return how many pixels every class of a dataset of label maps has.  Raises UnreadableImage, DataError."""
    targets = [record.target for record in dataset.records if isinstance(record.target, MaskFiles)]

    def count(target: MaskFiles) -> NDArray[np.int64]:
        return np.bincount(read_label_map(dataset.source, target).ravel(), minlength=IGNORE + 1)

    total = np.zeros(IGNORE + 1, np.int64)
    with ThreadPoolExecutor(READERS) as pool:
        for found in pool.map(count, targets):
            total += found
    return {name: int(total[index]) for index, name in enumerate(dataset.classes)}


def renumbered(target: Target, numbers: NDArray[np.int64]) -> Target:
    """Return a target whose class i is numbers[i]; IGNORE for a class that a label map has only in its table."""
    if isinstance(target, Label):
        return Label(int(numbers[target.index]))
    if isinstance(target, Boxes):
        return replace(target, labels=numbers[target.labels])
    if not isinstance(target, MaskFiles):
        raise TypeError(f"{type(target).__name__} is not the target of a dataset")
    layers = tuple((file, _recoded(coding, numbers)) for file, coding in target.layers)
    return MaskFiles(layers, _number(target.ground, numbers))


def _recoded(coding: Coding, numbers: NDArray[np.int64]) -> Coding:
    """Return what the values in a mask file mean by other numbers of the classes."""
    pairs = tuple((value, _number(index, numbers)) for value, index in coding.classes)
    return Coding(coding.kind, pairs, None if coding.rest is None else _number(coding.rest, numbers))


def _number(index: int, numbers: NDArray[np.int64]) -> int:
    """Return the new number of a class; IGNORE and CLEAR are none."""
    return index if index in (IGNORE, CLEAR) else int(numbers[index])
