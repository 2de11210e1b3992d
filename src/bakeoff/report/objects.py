"""What the report says about detection and instances alone: precision and recall, errors by kind, classes, images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bakeoff.report import overlays
from bakeoff.report.charts import Figure, Line, precision_recall
from bakeoff.report.material import Candidate, Material
from bakeoff.report.sections import Section, key
from bakeoff.report.wording import number
from bakeoff.store import Run
from bakeoff.tasks import detection, instance
from bakeoff.tasks.matching import FOUND, NOT_JUDGED
from bakeoff.tasks.mistakes import error_gains, error_kinds
from bakeoff.tasks.precision import RECALLS, best_score, curve, per_class, ranking
from bakeoff.tasks.task import Outcomes

__all__ = ["BOXES", "MASKS", "sections"]

BOXES, MASKS = detection.METRICS, instance.METRICS
SCORES = (("ap", "AP"), ("ap50", "AP at .50"), ("ar", "AR"))
MANY = 12  # classes: above, they get no curve of their own
SMALL = (300.0, 230.0)  # size of a class's own chart
CAPTION = (
    "Means over a candidate's runs, in percent. AP: average precision over the IoU thresholds .50, .55 … .95, and at "
    ".50 alone. AR: average recall, with at most 100 detections of a class in an image."
)
MEASURE = "F1 of the objects at IoU .50, in percent"
WORDS = {
    "missed": "objects that nothing was found near",
    "duplicate": "a second detection of an object that is found",
    "wrong class": "in the right place, but called something else",
    "badly placed": "of the right class, but at an IoU of .10 to .50 only",
    "both": "of another class, and badly placed",
    "background": "where there is nothing",
}

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Evidence:
    """One candidate's runs with their outcomes, and for each the score that makes F1 best, and that F1."""

    candidate: Candidate
    tested: tuple[tuple[Run, Outcomes], ...]
    best: tuple[tuple[float, float], ...]

    @property
    def runs(self) -> list[Outcomes]:
        """The outcomes alone."""
        return [outcomes for _, outcomes in self.tested]

    def mean(self, function: Callable[[Outcomes], Floats]) -> Floats:
        """Return the mean over runs, where it is defined; NaN where it never is."""
        values = np.stack([np.asarray(function(outcomes), np.float64) for outcomes in self.runs])
        counts = np.isfinite(values).sum(axis=0)
        mean: Floats = np.where(counts > 0, np.nansum(values, axis=0), np.nan) / np.maximum(counts, 1)
        return mean


def sections(material: Material) -> list[Section]:
    """Return the sections of a study of objects; none when no run was finished."""
    evidence = gathered(material)
    if not evidence:
        return []
    return [
        Section("classes", "Class by class", "per_class.html.j2", classes_content(evidence)),
        Section("curves", "Precision and recall", "curves.html.j2", curves_content(evidence)),
        Section("errors", "What goes wrong", "errors.html.j2", errors_content(evidence)),
        overlays.images(material, [showing(entry) for entry in evidence], MEASURE, drawn(evidence)),
    ]


def gathered(material: Material) -> list[Evidence]:
    """Read the outcomes of every candidate that has finished runs."""
    evidence = []
    for candidate in material.candidates:
        if tested := tuple(material.tested(candidate)):
            best = tuple(best_score(outcomes) for _, outcomes in tested)
            evidence.append(Evidence(candidate, tested, best))
    return evidence


def classes_content(evidence: Sequence[Evidence]) -> dict[str, Any]:
    """Return the table of classes: test images and objects, then the scores of every candidate."""
    truth = per_class(overlays.once(evidence[0].runs))
    means = [entry.mean(_class_scores) for entry in evidence]
    rows = [
        {
            "name": row["class"],
            "facts": [row["images"], row["objects"]],
            "scores": [None if np.isnan(value) else float(value) for mean in means for value in mean[place]],
        }
        for place, row in enumerate(truth)
    ]
    return {
        "candidates": [entry.candidate for entry in evidence],
        "facts": ["Test images", "Objects"],
        "titles": [title for _, title in SCORES],
        "rows": rows,
        "caption": CAPTION,
    }


def _class_scores(outcomes: Outcomes) -> Floats:
    """Return (classes, 3) the scores of the table; NaN where a class has no object."""
    rows = per_class(outcomes)
    return np.array([[np.nan if row[name] is None else row[name] for name, _ in SCORES] for row in rows])


# --- precision and recall ---


def curves_content(evidence: Sequence[Evidence]) -> dict[str, Any]:
    """Return the curves of all candidates, over all classes at IoU .50 and averaged over IoUs, and of each class."""
    classes = evidence[0].runs[0].classes
    half = [entry.mean(curve) for entry in evidence]
    every = [entry.mean(_mean_curve) for entry in evidence]
    return {
        "together": [
            _curves(evidence, [_over_classes(table) for table in half], "At IoU .50"),
            _curves(evidence, [_over_classes(table) for table in every], "Mean over IoU .50 to .95"),
        ],
        "alone": [
            _curves(evidence, [table[place] for table in half], name, SMALL)
            for place, name in enumerate(classes if 1 < len(classes) <= MANY else ())
            if np.isfinite(half[0][place]).any()
        ],
    }


def _mean_curve(outcomes: Outcomes) -> Floats:
    """Return the precision at each recall (classes, 101), averaged over the thresholds of IoU."""
    mean: Floats = ranking(outcomes).precision().mean(axis=0)
    return mean


def _over_classes(table: Floats) -> Floats:
    """Return the mean (101,) over the classes that have objects."""
    present = table[np.isfinite(table).all(axis=1)]
    return present.mean(axis=0) if len(present) else np.full(table.shape[1], np.nan)


def _curves(
    evidence: Sequence[Evidence], tables: Sequence[Floats], title: str, size: tuple[float, float] | None = None
) -> Figure:
    """Draw one curve per candidate and say the area below it: the average precision."""
    lines, areas = [], []
    for entry, table in zip(evidence, tables, strict=True):
        if np.isfinite(table).all():
            points = tuple(zip((100 * RECALLS).tolist(), (100 * table).tolist(), strict=True))
            lines.append(Line(entry.candidate.colour, points, "thick"))
            areas.append(f"{entry.candidate.letter} {number(100 * table.mean())}")
    caption = f"Area below the curve, the average precision: {', '.join(areas)}."
    label = f"{title}: precision by recall. {caption}"
    drawing = precision_recall(lines, label) if size is None else precision_recall(lines, label, size)
    return Figure(title, drawing, caption, key(tuple(entry.candidate for entry in evidence)))


# --- errors ---


def errors_content(evidence: Sequence[Evidence]) -> dict[str, Any]:
    """Return each candidate's errors of each kind per 100 objects, and the mAP at .50 that mending them would bring."""
    rows = [_errors(entry) for entry in evidence]
    longest = max((sum(row["errors"].values()) for row in rows), default=0.0) or 1.0
    return {"rows": rows, "kinds": list(WORDS.items()), "longest": longest}


def _errors(entry: Evidence) -> dict[str, Any]:
    """Return one candidate's mean errors per 100 objects, gains in points, threshold and F1."""
    counts: dict[str, list[float]] = {kind: [] for kind in WORDS}
    gains: dict[str, list[float]] = {kind: [] for kind in WORDS}
    for outcomes, (least, _) in zip(entry.runs, entry.best, strict=True):
        objects = max(1, int(outcomes.columns["truths"][:, :, 0].sum()))
        kinds, gained = error_kinds(outcomes, least), error_gains(outcomes)
        for kind in WORDS:
            counts[kind].append(100 * float(kinds[kind].sum()) / objects)
            gains[kind].append(100 * gained[kind])
    return {
        "candidate": entry.candidate,
        "errors": {kind: float(np.mean(values)) for kind, values in counts.items()},
        "gains": {kind: float(np.mean(values)) for kind, values in gains.items()},
        "least": float(np.mean([least for least, _ in entry.best])),
        "f1": float(np.mean([f1 for _, f1 in entry.best])),
    }


# --- pictures ---


def showing(entry: Evidence) -> overlays.Showing:
    """Return what there is to show of a candidate: F1 per image, each run at its own best threshold."""
    least = {run.id: score for (run, _), (score, _) in zip(entry.tested, entry.best, strict=True)}
    scores = {id(outcomes): least[run.id] for run, outcomes in entry.tested}
    return overlays.gather(entry.candidate, entry.tested, lambda o: image_f1(o, scores[id(o)]), least)


def image_f1(outcomes: Outcomes, least: float) -> Floats:
    """Return (n,) the F1 of each image's objects at IoU .50, of detections with this score or more.

    1 for an image without objects in which none is found.
    """
    kinds = outcomes.columns["kinds"]
    taken = (outcomes.columns["scores"] >= least) & (kinds != NOT_JUDGED)
    found = (taken & (kinds == FOUND)).sum(axis=1)
    both = taken.sum(axis=1) + outcomes.columns["truths"][:, :, 0].sum(axis=1)
    return np.where(both > 0, 2 * found / np.maximum(both, 1), 1.0)


def drawn(evidence: Sequence[Evidence]) -> str:
    """Say which objects are drawn."""
    limits = [f"{entry.candidate.letter} {number(entry.best[0][0], 2)}" for entry in evidence]
    return (
        "Predictions are those of each candidate's first run: the objects with at least the score that makes the "
        f"run's F1 best ({', '.join(limits)}). Grey is not judged."
    )
