"""What the report says about classification alone: confusion, calibration, classes, and the images worth a look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bakeoff.findings import plural
from bakeoff.report.charts import Figure, reliability
from bakeoff.report.material import Candidate, Material
from bakeoff.report.pictures import Majority, galleries, majority
from bakeoff.report.sections import Section, key
from bakeoff.report.wording import number
from bakeoff.tasks.calibration import Reliability, reliability_bins
from bakeoff.tasks.classification import METRICS, confusion
from bakeoff.tasks.task import Outcomes

__all__ = ["METRICS", "sections"]

LARGEST = 30  # classes: above, a matrix cannot be read, and the most confused pairs are listed instead
PAIRS = 20  # confused pairs listed for each candidate


@dataclass(frozen=True)
class Evidence:
    """One candidate's test outcomes, pooled over its runs.  `table` is (classes, classes), [truth, prediction]."""

    candidate: Candidate
    runs: int
    table: NDArray[np.int64]
    curve: Reliability
    votes: Majority


@dataclass(frozen=True)
class Confused:
    """Images of `truth` taken for `prediction`: how many over all runs, and the share of the true class."""

    truth: str
    prediction: str
    images: int
    share: float


def gather(candidate: Candidate, runs: Sequence[Outcomes]) -> Evidence:
    """Pool the outcomes of a candidate's runs (at least one)."""
    tables: list[NDArray[np.int64]] = [confusion(run) for run in runs]
    scores = [run.columns["scores"] for run in runs]
    sure = np.concatenate([entry.max(axis=1) for entry in scores])
    truth = np.concatenate([run.columns["truth"] for run in runs])
    right = np.concatenate([entry.argmax(axis=1) for entry in scores]) == truth
    return Evidence(candidate, len(runs), np.sum(tables, axis=0), reliability_bins(sure, right), majority(runs))


def sections(material: Material) -> list[Section]:
    """Return the sections of a classification study; one that says so where no run was finished."""
    evidence, classes = [], tuple(material.data.get("classes", ()))
    for candidate in material.candidates:
        if runs := list(material.outcomes(candidate)):
            evidence.append(gather(candidate, runs))
            classes = runs[0].classes
    if not evidence:
        return []
    return [
        Section("classes", "Classes and confusions", "classes.html.j2", classes_content(evidence, classes)),
        Section("calibration", "Calibration", "calibration.html.j2", {"figures": [calibration(e) for e in evidence]}),
        Section("images", "Images worth a look", "images.html.j2", images_content(material, evidence, classes)),
    ]


def classes_content(evidence: Sequence[Evidence], classes: Sequence[str]) -> dict[str, Any]:
    """Return what the confusion matrices and the table of classes are drawn from."""
    small = len(classes) <= LARGEST
    return {
        "classes": classes,
        "matrices": [(entry, matrix(entry.table)) for entry in evidence] if small else [],
        "pairs": [] if small else [(entry, confused(entry.table, classes)) for entry in evidence],
        "worst": [(entry, confused(entry.table, classes)[:3]) for entry in evidence],
        "rows": class_rows(evidence, classes),
        "evidence": evidence,
        "open": len(classes) <= 12 and len(evidence) <= 4,
    }


def matrix(table: NDArray[np.int64]) -> list[list[float]]:
    """Return each cell as percent of its true class; 0 in rows without images."""
    shares = 100 * table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    return [[float(value) for value in row] for row in shares]


def confused(table: NDArray[np.int64], classes: Sequence[str]) -> list[Confused]:
    """Return the most confused pairs, most images first."""
    wrong = table * (1 - np.eye(len(table), dtype=np.int64))
    images = table.sum(axis=1)
    cells = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    found = [(int(cell) // len(classes), int(cell) % len(classes)) for cell in cells]
    return [
        Confused(classes[i], classes[j], int(wrong[i, j]), float(wrong[i, j] / images[i]))
        for i, j in found
        if wrong[i, j]
    ]


def class_rows(evidence: Sequence[Evidence], classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return class, test images, and (recall, precision) of every candidate, None where one is 0 / 0."""
    rows = []
    first = evidence[0]
    tested = np.bincount(first.votes.truth, minlength=len(classes))
    for i, name in enumerate(classes):
        scores = [
            (_ratio(e.table[i, i], e.table[i].sum()), _ratio(e.table[i, i], e.table[:, i].sum())) for e in evidence
        ]
        rows.append({"name": name, "images": int(tested[i]), "scores": scores})
    return rows


def _ratio(hits: np.int64, of: np.int64) -> float | None:
    return float(hits / of) if of else None


def calibration(entry: Evidence) -> Figure:
    """Draw a candidate's reliability diagram and say whether it is too sure of itself."""
    curve, candidate = entry.curve, entry.candidate
    share = curve.count / curve.count.sum()
    sure, right = 100 * float(share @ curve.confidence), 100 * float(share @ curve.accuracy)
    words = "About as sure as it is right" if abs(sure - right) < 1 else "Surer than it is right"
    words = "Less sure than it is right" if sure <= right - 1 else words
    numbers = f"mean confidence {number(sure)} %, correct {number(right)} %"
    caption = f"{words}: {numbers}, {plural(entry.runs, 'run')}."
    bins = list(zip(curve.low, curve.high, curve.confidence, curve.accuracy, strict=True))
    drawing = reliability(bins, candidate.colour, f"Reliability of {candidate.name}: {caption}")
    return Figure(candidate.name, drawing, caption, key((candidate,)))


def images_content(material: Material, evidence: Sequence[Evidence], classes: Sequence[str]) -> dict[str, Any]:
    """Return the galleries and the classes that occur in them."""
    found = galleries(material, [(entry.candidate, entry.votes) for entry in evidence], classes)
    shown = {picture.truth for gallery in found for picture in gallery.pictures}
    return {
        "galleries": found,
        "truths": [name for name in classes if name in shown],
        "candidates": [entry.candidate for entry in evidence],
        "thumbnails": material.pixels is not None,
    }
