"""Labels and probabilities of a submission, one row per image, checked and brought to the order of the truth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bakeoff.data.formats.rows import class_name, examples
from bakeoff.data.targets import Label
from bakeoff.errors import DataError, nearest
from bakeoff.findings import Finding
from bakeoff.grading.names import Names
from bakeoff.grading.sheet import SCORE, Row, Sheet

TOLERANCE = 1e-3  # how far the probabilities of an image may be from adding up to 1: less is rounding
PROBABILISTIC = ("top5", "log_loss", "brier", "ece", "auroc", "average_precision")  # metrics that need probabilities


@dataclass(frozen=True)
class Guesses:
    """A prediction for every image of the truth, in its order; `probable`: with probabilities, else labels alone.

    `classes` are the truth's and those that the submission has columns for, in canonical order.
    """

    classes: tuple[str, ...]
    labels: tuple[Label, ...]
    probable: bool
    findings: tuple[Finding, ...]


def guesses(sheet: Sheet, truth: Sequence[str], names: Names) -> Guesses:
    """Read a submission for a truth whose classes are `truth`.

    Probabilities are those of the columns score:<class>, or of columns that are called like the classes; of two classes
    one column is enough.  They are divided by their sum, which may be off by rounding.  Raises DataError naming line
    and id for ids that are missing, extra or double, an unknown class, and for probabilities that are none.
    """
    sheet.need("id")
    columns = _probabilities(sheet, truth)
    if not columns:
        sheet.need("label")
    classes = tuple(sorted({*truth, *columns.values()}))
    rows = _by_id(sheet, names)
    place = {name: index for index, name in enumerate(classes)}
    labels = [
        _probable(row, columns, place) if columns else _sure(row, place, f"{names.source} has no class")
        for row in rows.values()
    ]
    found = names.findings()
    if not columns:
        sentence = "The submission has labels alone: metrics of probabilities are not applicable."
        found.append(Finding("labels-alone", "info", sentence))
    ordered = dict(zip(rows, labels, strict=True))
    return Guesses(classes, tuple(ordered[id] for id in names.ids), bool(columns), tuple(found))


def _probabilities(sheet: Sheet, truth: Sequence[str]) -> dict[str, str]:
    """Return the columns of probabilities -> class names; none when the submission has labels alone."""
    marked = {name: class_name(name.removeprefix(SCORE)) for name in sheet.others if name.startswith(SCORE)}
    columns = marked or {name: class_name(name) for name in sheet.others if class_name(name) in truth}
    if not columns:
        if "label" not in sheet.columns and sheet.others:
            raise DataError(
                f"{sheet.path}: neither a column label nor columns for the classes {examples(truth)}; "
                f"it has {examples(sheet.others)}{nearest(sheet.others[0], truth)}"
            )
        return {}
    absent = [name for name in truth if name not in columns.values()]
    if absent and (marked or len(truth) != 2):
        hint = nearest(absent[0], marked.values() or sheet.others)
        count = f"{len(absent)} of the {len(truth)} classes have no column"
        raise DataError(f"{sheet.path}: {count}: {examples(absent)}{hint}")
    strange = [name for name in sheet.others if name not in columns]
    if strange and not marked:
        raise DataError(
            f"{sheet.path}: the column {strange[0]!r} is no class of the truth{nearest(strange[0], truth)}; remove it, "
            f"or call the columns of all classes {SCORE}<class> if it is one"
        )
    return columns | ({"": absent[0]} if absent else {})


def _by_id(sheet: Sheet, names: Names) -> dict[str, Row]:
    """Return id -> row for every image of the truth, rows without a prediction left out."""
    rows: dict[str, Row] = {}
    strange: list[str] = []
    bare: dict[str, str] = {}
    for row in sheet.rows:
        if not (name := row.text("id")):
            raise DataError(f"{row.where}: has no id")
        id = names.find(name, row.where)
        if id is None:
            strange.append(name)
        elif id in rows:
            raise DataError(f"{row.where}: {name} has a prediction already ({rows[id].where}); remove one")
        elif row.text("error"):
            bare[id] = f"{name}: {row.text('error')}"
        else:
            rows[id] = row
    if strange:
        raise names.unknown(str(sheet.path), strange)
    if error := names.missing(str(sheet.path), rows, bare.values()):
        raise error
    return rows


def _sure(row: Row, place: Mapping[str, int], unknown: str) -> Label:
    """Return a label as a prediction that is certain of it."""
    name = class_name(row.text("label"))
    if not name:
        raise DataError(f"{row.where}: {row.text('id')} has no label")
    if name not in place:
        raise DataError(f"{row.where}: {unknown} {name!r}{nearest(name, place)}; it has {examples(place, 10)}")
    scores = np.zeros(len(place))
    scores[place[name]] = 1.0
    return Label(place[name], tuple(scores.tolist()))


def _probable(row: Row, columns: Mapping[str, str], place: Mapping[str, int]) -> Label:
    """Return the prediction of a row of probabilities; a column "" is what the others leave."""
    scores = np.zeros(len(place))
    for column, name in columns.items():
        if column:
            scores[place[name]] = _probability(row, column)
    if "" in columns:
        scores[place[columns[""]]] = 1 - scores.sum()
    total = float(scores.sum())
    if abs(total - 1) > TOLERANCE:
        advice = "give every class its share, e.g. by a softmax, or labels alone"
        raise DataError(f"{row.where}: the probabilities of {row.text('id')} add up to {total:.6g}, not to 1: {advice}")
    return _agreeing(row, scores / total, place)


def _probability(row: Row, column: str) -> float:
    """Return one probability."""
    text = row.text(column)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1 + TOLERANCE:
        raise DataError(f"{row.where}: {column} of {row.text('id')} is {text or 'empty'}, not a probability of 0 to 1")
    return value


def _agreeing(row: Row, scores: NDArray[np.float64], place: Mapping[str, int]) -> Label:
    """Return the prediction; the label that a row has beside them says which of equal probabilities comes first."""
    best = int(scores.argmax())
    name = class_name(row.text("label"))
    if name and place.get(name) != best:
        if name not in place or scores[place[name]] < scores[best]:
            told = f"{name!r}, but its highest probability is that of {list(place)[best]!r}"
            raise DataError(
                f"{row.where}: the label of {row.text('id')} is {told}: leave the label or these columns out"
            )
        best = place[name]
        scores[best] = np.nextafter(np.float32(scores[best]), np.float32(2))
    return Label(best, tuple(scores.tolist()))
