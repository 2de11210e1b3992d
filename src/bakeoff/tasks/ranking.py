"""Ranking metrics on arrays: areas under the ROC and the precision-recall curve, fast enough for a jackknife."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating[Any]]
Truth = NDArray[np.integer[Any]]


def auroc(truth: Truth, scores: Scores) -> float:
    """Return the area under the ROC curve, the chance that a positive is ranked above a negative, ties counting half.

    `truth` (n,) holds class indices and `scores` (n, classes) their probabilities.  With two classes the class at
    index 1 is the positive one; with more it is the plain mean over classes, each against the rest.  Classes without a
    positive or without a negative are left out; NaN when none remains.  Source: the Mann-Whitney form, Hanley &
    McNeil 1982.
    """
    return _macro(truth, scores, _class_auroc)


def average_precision(truth: Truth, scores: Scores) -> float:
    """Return the average precision: the mean, over the positives, of the precision at their score (not interpolated).

    Positive class and mean over classes as in `auroc`; classes without a positive are left out; NaN when none remains.
    """
    return _macro(truth, scores, _class_precision)


def _macro(truth: Truth, scores: Scores, area: Callable[[Scores, Scores], float]) -> float:
    """Average `area(all scores sorted, scores of the positives)` over the classes where it is defined."""
    areas = [area(ranked, positives) for ranked, positives in _per_class(truth, scores)]
    defined = [value for value in areas if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")


def _per_class(truth: Truth, scores: Scores) -> Iterator[tuple[Scores, Scores]]:
    """Yield (all scores sorted, the positives' scores sorted) for each class that has a positive."""
    chosen = range(1, 2) if scores.shape[1] == 2 else range(scores.shape[1])
    for column in chosen:
        values = np.ascontiguousarray(scores[:, column])
        positives = values[truth == column]
        if len(positives):
            yield np.sort(values), np.sort(positives)


def _class_auroc(ranked: Scores, positives: Scores) -> float:
    """Return the AUROC of one class from the mid-ranks of its positives."""
    total, count = len(ranked), len(positives)
    if total == count:
        return float("nan")
    below, upto = np.searchsorted(ranked, positives, "left"), np.searchsorted(ranked, positives, "right")
    rank_sum = float((below + upto + 1).sum()) / 2
    return (rank_sum - count * (count + 1) / 2) / (count * (total - count))


def _class_precision(ranked: Scores, positives: Scores) -> float:
    """Return the average precision of one class: tied scores share one threshold."""
    hits = len(positives) - np.searchsorted(positives, positives, "left")
    drawn = len(ranked) - np.searchsorted(ranked, positives, "left")
    return float(np.mean(hits / drawn))
