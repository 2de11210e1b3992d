"""One-class CutMix: patches of another image of the same class; the label stays.

After S. Yun et al., "CutMix: regularization strategy to train strong classifiers with localizable features", 2019.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

METHOD = "cutmix"

Pixels = NDArray[np.uint8]


def one_class_cutmix(
    image: Pixels, other: Pixels, patches: int, area: tuple[float, float], draws: np.random.Generator
) -> Pixels:
    """Return the image (H, W, 3) with `patches` patches of `other`, each from the same relative place.

    A patch has the shape of the picture, and a share of it drawn between the two of `area`; where the images differ in
    size the patch is resized.  Patches lie inside the picture and may overlap.
    """
    mixed = image.copy()
    height, width = image.shape[:2]
    for _ in range(patches):
        side = float(np.sqrt(draws.uniform(*area)))
        down, across = max(1, round(height * side)), max(1, round(width * side))
        top, left = int(draws.integers(0, height - down + 1)), int(draws.integers(0, width - across + 1))
        box = (top / height, (top + down) / height, left / width, (left + across) / width)
        patch = _part(other, box)
        shrinks = patch.shape[0] > down
        how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
        if patch.shape[:2] != (down, across):
            patch = np.asarray(cv2.resize(patch, (across, down), interpolation=how), np.uint8)
        mixed[top : top + down, left : left + across] = patch
    return mixed


def _part(image: Pixels, box: tuple[float, float, float, float]) -> Pixels:
    """Return the part of an image between relative rows and columns, at least one pixel."""
    height, width = image.shape[:2]
    top, left = min(round(box[0] * height), height - 1), min(round(box[2] * width), width - 1)
    bottom, right = max(top + 1, round(box[1] * height)), max(left + 1, round(box[3] * width))
    return np.ascontiguousarray(image[top:bottom, left:right])
