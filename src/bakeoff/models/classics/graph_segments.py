"""Regions of even colour (Felzenszwalb & Huttenlocher 2004): what selective search starts from."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

LEAST_AREA = 1 / 2000  # of the image, for a region, and 4 pixels
SMOOTHING = 0.8  # sigma in pixels

Image = NDArray[np.uint8]
Labels = NDArray[np.int64]


def segments(image: Image, k: float) -> Labels:
    """Return the number of every pixel's region (H, W), from 0, by Felzenszwalb & Huttenlocher's graph of pixels.

    Two regions are joined by an edge that is no stronger than those inside of either, plus k / its area.
    """
    height, width = image.shape[:2]
    smooth = cv2.GaussianBlur(image.astype(np.float32), (0, 0), SMOOTHING)
    ids = np.arange(height * width).reshape(height, width)
    edges: list[tuple[Any, Any]] = [(np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])]
    strength = np.concatenate([np.linalg.norm(smooth[one] - smooth[two], axis=2).ravel() for one, two in edges])
    order = np.argsort(strength, kind="stable")
    first, second = (np.concatenate([ids[edge[end]].ravel() for edge in edges])[order] for end in (0, 1))
    grown = _grow(first.tolist(), second.tolist(), strength[order].tolist(), k, ids.size)
    roots = _absorb(grown, first, second, max(4, int(LEAST_AREA * ids.size)))
    return np.unique(roots, return_inverse=True)[1].reshape(height, width).astype(np.int64)


def _grow(first: list[int], second: list[int], weights: list[float], k: float, count: int) -> Labels:
    """Return the root of every pixel after joining along edges (first, second) of rising weight."""
    parent, area, limit = list(range(count)), [1] * count, [k] * count
    for one, other, weight in zip(first, second, weights, strict=True):
        while parent[one] != one:
            parent[one] = one = parent[parent[one]]
        while parent[other] != other:
            parent[other] = other = parent[parent[other]]
        if one != other and weight <= limit[one] and weight <= limit[other]:
            parent[other] = one
            area[one] += area[other]
            limit[one] = weight + k / area[one]
    return _roots(np.array(parent))


def _absorb(roots: Labels, first: Labels, second: Labels, least: int) -> Labels:
    """Join regions of fewer than `least` pixels with the neighbour that they differ from least."""
    parent, area = list(range(len(roots))), np.bincount(roots, minlength=len(roots)).tolist()
    apart = roots[first] != roots[second]
    for one, other in zip(roots[first[apart]].tolist(), roots[second[apart]].tolist(), strict=True):
        while parent[one] != one:
            parent[one] = one = parent[parent[one]]
        while parent[other] != other:
            parent[other] = other = parent[parent[other]]
        if one != other and min(area[one], area[other]) < least:
            parent[other] = one
            area[one] += area[other]
    return _roots(np.array(parent))[roots]


def _roots(parent: Labels) -> Labels:
    """Follow parents up to the roots."""
    while not np.array_equal(above := parent[parent], parent):
        parent = above
    return parent
