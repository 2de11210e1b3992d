"""Temperature scaling: the probabilities of a classifier made to mean what they say, on validation images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from bakeoff.data.targets import Label, Target
from bakeoff.errors import UsageError
from bakeoff.predict.predictor import Predictor
from bakeoff.predict.several import Wrapping

LEAST = 1e-12  # probabilities below it count as this, so that each has a logarithm
LIMITS = (0.05, 20.0)  # of temperatures
Floats = NDArray[np.float64]


class Calibrated(Wrapping):
    """A classifier whose probabilities are scaled by one temperature; the labels stay.  For no other task."""

    def __init__(self, inner: Predictor, temperature: float) -> None:
        """Remember predictor and temperature."""
        check_task(inner.task)
        super().__init__(inner)
        self.temperature = temperature

    def __call__(self, pixels: NDArray[np.uint8]) -> Sequence[Target]:
        """Return a label per image of `pixels` (B, S, S, 3) uint8 RGB."""
        return [_scaled(label, self.temperature) for label in self.inner(pixels) if isinstance(label, Label)]


def check_task(task: str) -> None:
    """Raise UsageError for a task other than classification."""
    if task != "classification":
        raise UsageError(
            f"calibrated is for classification, whose runs keep every validation image's probabilities; those of "
            f"{task} keep counts and matches alone, which no temperature can be fitted on"
        )


def temperature(scores: NDArray[np.floating], truth: NDArray[np.integer]) -> float:
    """Return the temperature T with which softmax(ln p / T) makes the true labels most probable.

    `scores` (n, classes) are probabilities of validation images, `truth` (n,) their class indices.  T above 1 makes a
    classifier less sure, below 1 surer (Guo et al. 2017, "On calibration of modern neural networks").  Raises
    UsageError where no temperature is the best: when there is no image, or when every one is right, since then surer is
    always better.
    """
    if not len(truth):
        raise UsageError("there are no validation images to fit a temperature on")
    if (scores.argmax(axis=1) == truth).all():
        raise UsageError(f"all {len(truth)} validation images are labelled right: no temperature can be fitted on them")

    def surprise(logarithm: float) -> float:
        """Return the mean negative log-likelihood."""
        own = scaled(scores, float(np.exp(logarithm)))[np.arange(len(truth)), truth]
        return float(-np.log(np.maximum(own, np.finfo(np.float64).tiny)).mean())

    found = minimize_scalar(surprise, bounds=tuple(np.log(LIMITS)), method="bounded")
    return float(np.exp(found.x))


def scaled(scores: NDArray[np.floating], temperature: float) -> Floats:
    """Return probabilities (n, classes) at another temperature."""
    logits = np.log(np.maximum(np.asarray(scores, np.float64), LEAST)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: Floats = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


def _scaled(label: Label, temperature: float) -> Label:
    """Return a label with scaled probabilities."""
    scores = scaled(np.array([label.scores or ()]), temperature)[0]
    return Label(label.index, tuple(scores.tolist()))
