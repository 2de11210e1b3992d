"""Calibration on arrays: does a probability of 0.8 come true in 8 of 10 images?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

MIN_BIN = 10  # images per bin: below that the accuracy of a bin says nothing


@dataclass(frozen=True)
class Reliability:
    """Bins of a reliability diagram, in order of confidence; every array has one entry per bin, none of them empty.

    `low` and `high` are the least and greatest confidence of a bin, `confidence` and `accuracy` its means, `count` its
    number of images.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    count: NDArray[np.int64]


def reliability_bins(confidence: NDArray[Any], correct: NDArray[np.bool_], bins: int = 15) -> Reliability:
    """Bin `confidence` (n,) into equally filled bins and compare it with `correct` (n,).

    Equally filled rather than equally wide bins have less bias (Roelofs et al. 2022).  Equal confidences always share
    a bin, so the order of the images does not matter.  There are fewer than `bins` bins when fewer than 10 images
    would fall into one.
    """
    ranked = np.sort(confidence.astype(np.float64))
    wanted = max(1, min(bins, len(ranked) // MIN_BIN))
    starts = np.unique(ranked[np.arange(wanted) * len(ranked) // wanted]) if len(ranked) else ranked
    first = np.searchsorted(ranked, starts)
    if not len(first):
        nothing = np.zeros(0)
        return Reliability(nothing, nothing, nothing, nothing, np.zeros(0, np.int64))
    place = np.searchsorted(starts, confidence, side="right") - 1
    count = np.bincount(place, minlength=len(starts))
    return Reliability(
        low=starts,
        high=ranked[np.append(first[1:], len(ranked)) - 1],
        confidence=np.bincount(place, confidence, len(starts)) / count,
        accuracy=np.bincount(place, correct, len(starts)) / count,
        count=count,
    )


def calibration_error(curve: Reliability, debiased: bool = True) -> float:
    """Return the expected calibration error (ECE): the mean over images of |accuracy - confidence| of their bin.

    Chance alone makes the plain ECE of a perfect model positive, the more so the fewer the images.  The debiased one
    takes off an estimate of that: 2 * ECE - E[ECE with each bin's accuracy redrawn from its normal approximation]
    (Kumar, Liang & Ma 2019, "Verified uncertainty calibration", their estimator for the L1 norm), here with the
    folded normal's mean in closed form in place of their simulation; cut at 0.  NaN without images.
    """
    if not len(curve.count):
        return float("nan")
    gap = np.abs(curve.accuracy - curve.confidence)
    share = curve.count / curve.count.sum()
    plain = float(share @ gap)
    if not debiased:
        return plain
    spread = np.sqrt(curve.accuracy * (1 - curve.accuracy) / curve.count)
    return max(0.0, 2 * plain - float(share @ _folded_mean(gap, spread)))


def _folded_mean(mean: NDArray[np.float64], spread: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return E|X| for X ~ N(mean, spread^2), elementwise; `mean` itself where the spread is 0."""
    ratio = mean / np.where(spread > 0, spread * np.sqrt(2), 1)
    folded = spread * np.sqrt(2 / np.pi) * np.exp(-(ratio**2)) + mean * erf(ratio)
    return np.where(spread > 0, folded, mean)
