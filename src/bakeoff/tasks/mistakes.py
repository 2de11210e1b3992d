"""What detections get wrong: errors by kind, what mending each kind would bring, and labels that look wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bakeoff.tasks.matching import (
    BACKGROUND,
    BADLY_PLACED,
    BOTH,
    DUPLICATE,
    FOUND,
    KINDS,
    WRONG_CLASS,
)
from bakeoff.tasks.precision import best_score, mean_precision
from bakeoff.tasks.task import Outcomes

Counts = NDArray[np.int64]
MISSED = "missed"
SURE = 0.9  # the mean score of all runs above which they contradict a label


def error_kinds(outcomes: Outcomes, threshold: float | None = None) -> dict[str, Counts]:
    """Return the number of errors (classes,) of each kind among detections with at least this score (None: best F1's).

    The kinds, in the words of matching.kinds(): duplicate, wrong class, badly placed, both and background are counted
    under the class that was detected; missed under the class of the object: those that no detection found and that
    neither a wrong class nor a bad place explains.  At IoU .50.
    """
    least = best_score(outcomes)[0] if threshold is None else threshold
    taken = outcomes.columns["scores"] >= least
    kinds, labels, classes = outcomes.columns["kinds"], outcomes.columns["labels"], len(outcomes.classes)
    found = {
        KINDS[kind]: np.bincount(labels[taken & (kinds == kind)], minlength=classes)
        for kind in (DUPLICATE, WRONG_CLASS, BADLY_PLACED, BOTH, BACKGROUND)
    }
    return {MISSED: _missed(outcomes, taken), **found}


def error_gains(outcomes: Outcomes) -> dict[str, float]:
    """Return by how much mAP at IoU .50 would rise if one kind of error were mended, for each kind; TIDE's dAP.

    Duplicates, background and both are taken away; wrong classes and bad places are put right, or taken away where the
    object is found by another detection; missed objects are no longer asked for.  Detections of every score take part.
    The gains do not add up to what is missing.
    """
    now = mean_precision(outcomes, threshold=0)
    everything = np.ones_like(outcomes.columns["kinds"], np.bool_)
    truths = outcomes.columns["truths"].copy()
    truths[0, :, 0] -= _missed(outcomes, everything).astype(truths.dtype)  # only the sum over images is looked at
    found = {KINDS[kind]: _mended(outcomes, kind) for kind in (DUPLICATE, WRONG_CLASS, BADLY_PLACED, BOTH, BACKGROUND)}
    mended = {MISSED: replace(outcomes, columns={**outcomes.columns, "truths": truths}), **found}
    return {name: mean_precision(better, threshold=0) - now for name, better in mended.items()}


def confusion(outcomes: Outcomes, threshold: float | None = None) -> Counts:
    """Return how often an object of one class is found as another, (classes, classes), [truth, detected].

    On the diagonal are the objects found.  Detections with at least this score count (None: best F1's).
    """
    least = best_score(outcomes)[0] if threshold is None else threshold
    kinds, size = outcomes.columns["kinds"], len(outcomes.classes)
    taken = (outcomes.columns["scores"] >= least) & ((kinds == FOUND) | (kinds == WRONG_CLASS))
    truth, detected = outcomes.columns["about_labels"][taken], outcomes.columns["labels"][taken]
    return np.bincount(truth.astype(np.int64) * size + detected, minlength=size * size).reshape(size, size)


def doubtful(runs: Sequence[Outcomes]) -> tuple[str, ...]:
    """Return the ids of images whose labels all candidates' runs together contradict, most suspect first.

    An image is doubtful when the runs, on average, are surer than SURE of an object where none is labelled, or of
    another class for a labelled object.  A run that does not say so counts as 0.
    """
    count: dict[str, int] = {}
    doubts: dict[tuple[str, int, int], float] = {}
    for run in runs:
        for id in run.ids:
            count[id] = count.get(id, 0) + 1
        for key, score in _contradictions(run).items():
            doubts[key] = doubts.get(key, 0.0) + score
    worst: dict[str, float] = {}
    for (id, _, _), total in doubts.items():
        worst[id] = max(worst.get(id, 0.0), total / count[id])
    return tuple(id for id in sorted(worst, key=lambda id: (-worst[id], id)) if worst[id] > SURE)


def _contradictions(run: Outcomes) -> dict[tuple[str, int, int], float]:
    """Return the best score for each (id, detected class, object or -1 for none) that contradicts the labels."""
    kinds = run.columns["kinds"]
    found: dict[tuple[str, int, int], float] = {}
    rows, places = np.nonzero((kinds == BACKGROUND) | (kinds == WRONG_CLASS))
    for row, place in zip(rows, places, strict=True):  # scores fall along an image, so the first is the best
        key = (run.ids[row], int(run.columns["labels"][row, place]), int(run.columns["about"][row, place]))
        found.setdefault(key, float(run.columns["scores"][row, place]))
    return found


def _first_about(outcomes: Outcomes, taken: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return, for every object that a detection taken (n, D) is about, the place of the best one in (n * D,)."""
    rows, places = np.nonzero(taken)
    objects = rows * (int(outcomes.columns["about"].max(initial=0)) + 1) + outcomes.columns["about"][rows, places]
    _, first = np.unique(objects, return_index=True)
    chosen: NDArray[np.intp] = (rows * taken.shape[1] + places)[first]
    return chosen


def _missed(outcomes: Outcomes, taken: NDArray[np.bool_]) -> Counts:
    """Return the objects (classes,) that the detections taken neither find, nor misname, nor misplace."""
    kinds = outcomes.columns["kinds"]
    explained = _first_about(outcomes, taken & np.isin(kinds, (FOUND, WRONG_CLASS, BADLY_PLACED)))
    labels = outcomes.columns["about_labels"].ravel()[explained]
    truths: Counts = outcomes.columns["truths"][:, :, 0].sum(axis=0, dtype=np.int64)
    return truths - np.bincount(labels, minlength=len(truths))


def _mended(outcomes: Outcomes, kind: int) -> Outcomes:
    """Put the errors of a kind right, or take them away; only mAP at IoU .50 may be asked of what is returned."""
    columns = outcomes.columns
    wrong, found = columns["kinds"] == kind, columns["kinds"] == FOUND
    labels, matched, ignored = (columns[name].copy() for name in ("labels", "matched", "ignored"))
    ignored[wrong, 0] |= 1
    if kind in (WRONG_CLASS, BADLY_PLACED):
        # an object that is found, or that a better detection is about, needs no other
        order = np.concatenate([np.flatnonzero(found), np.flatnonzero(wrong)])
        rows = order // wrong.shape[1]
        about = columns["about"].ravel()[order].astype(np.int64)
        _, first = np.unique(np.stack([rows, about]), axis=1, return_index=True)
        right = order[first][~found.ravel()[order[first]]]
        labels.ravel()[right] = columns["about_labels"].ravel()[right]
        matched.reshape(-1, matched.shape[-1])[right, 0] |= 1
        ignored.reshape(-1, ignored.shape[-1])[right, 0] &= ~np.uint16(1)
    return replace(outcomes, columns={**columns, "labels": labels, "matched": matched, "ignored": ignored})
