"""Two label maps laid over each other: what agrees per class, over whole areas and along their borders."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bakeoff.data.targets import CLEAR, IGNORE

BORDER = 0.02  # of the diagonal: how far from its border a pixel still belongs to it (Cheng et al. 2021)

Counts = dict[str, NDArray[np.int64]]


def counts(truth: NDArray[np.uint8], prediction: NDArray[np.uint8], classes: int) -> Counts:
    """Return per class (classes,) int64 the pixels that agree (tp), are drawn wrongly (fp) and are missed (fn).

    Both are class indices (H, W); what is IGNORE in the truth counts nowhere, and a pixel that the prediction leaves
    open (IGNORE) is missed.  `boundary_tp`, `boundary_fp` and `boundary_fn` are the same for each class's border: its
    pixels that are not further than 2 % of the diagonal from its outline or from the image's edge (Cheng et al. 2021,
    "Boundary IoU").  Next to ignored pixels both maps have a border, so that it is no error of the prediction.
    """
    ignored = truth == IGNORE
    drawn = np.where(ignored, np.uint8(IGNORE), prediction)
    distance = reach(*truth.shape)
    border, drawn_border = borders(truth, distance), borders(drawn, distance)
    agree = (truth == drawn) & ~ignored
    inside = _agreement(truth, drawn, truth[agree], classes)
    edges = _agreement(truth[border], drawn[drawn_border], truth[agree & border & drawn_border], classes)
    return inside | {f"boundary_{name}": value for name, value in edges.items()}


def _agreement(truth: NDArray[np.uint8], drawn: NDArray[np.uint8], agreed: NDArray[np.uint8], classes: int) -> Counts:
    """Count the classes of the true pixels, of the drawn ones, and of those where the two agree."""
    hits = histogram(agreed, classes)
    return {"tp": hits, "fp": histogram(drawn, classes) - hits, "fn": histogram(truth, classes) - hits}


def histogram(labels: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """Return the pixels of each class (classes,); IGNORE is left out."""
    return np.bincount(labels.ravel(), minlength=IGNORE + 1)[:classes].astype(np.int64)


def reach(height: int, width: int) -> int:
    """Return the pixels from a class's outline that belong to its border: 2 % of the diagonal, at least 1."""
    return max(1, round(BORDER * float(np.hypot(height, width))))


def borders(labels: NDArray[np.uint8], distance: int) -> NDArray[np.bool_]:
    """Return (H, W) whether another class, or the image's edge, lies within `distance` pixels (in a square window).

    That is mask minus eroded mask for all classes at once: a pixel survives the erosion of its class's mask where the
    least and the greatest label around it are equal.
    """
    framed = cv2.copyMakeBorder(labels, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=(CLEAR,))
    window = np.ones((2 * distance + 1, 2 * distance + 1), np.uint8)
    edge: NDArray[np.bool_] = cv2.erode(framed, window) != cv2.dilate(framed, window)
    return edge[1:-1, 1:-1]


def resized(labels: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Bring class indices to (height, width) by nearest neighbour."""
    height, width = shape
    return np.asarray(cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)


def resized_scores(scores: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Bring scores (classes, H, W) to another height and width, bilinearly; they still add up to one."""
    height, width = shape
    planes = (np.asarray(plane, np.float32) for plane in scores)
    return np.stack([cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR) for plane in planes])


def share(hits: NDArray[np.int64], wrong: NDArray[np.int64], weight: int = 1) -> NDArray[np.float64]:
    """Return weight * hits / (weight * hits + wrong): IoU for weight 1, Dice for 2; NaN where there is nothing."""
    whole = weight * hits + wrong
    with np.errstate(invalid="ignore"):
        ratio: NDArray[np.float64] = weight * hits / np.where(whole > 0, whole, np.nan)
    return ratio


def mean_present(values: NDArray[np.float64], empty: float = np.nan) -> NDArray[np.float64]:
    """Return the mean over the last axis of what is not NaN; `empty` where nothing is left."""
    present = np.isfinite(values)
    number = present.sum(axis=-1)
    total = np.where(present, values, 0.0).sum(axis=-1)
    return np.where(number > 0, total / np.maximum(number, 1), empty)
