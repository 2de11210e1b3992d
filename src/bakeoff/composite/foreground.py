"""The subject's own colours: what a pixel at its edge would be without the background that shines through.

M. Forte, "Approximate fast foreground colour estimation", 2021 (blur fusion, twice).
"""

from __future__ import annotations

import cv2
import numpy as np

from bakeoff.composite.planes import Plane

WIDE, NARROW = 0.09, 0.006  # sides of the two blurs, as shares of the longer side: the paper's 90 and 6 of 1000 pixels
LITTLE = 1e-5


def foreground(image: Plane, alpha: Plane) -> Plane:
    """Return the subject's colours (H, W, 3) of an image (H, W, 3) in 0..1; where `alpha` is 1 they are the image's."""
    longer = max(alpha.shape)
    colours, behind = _fused(image, image, image, alpha, max(3, round(WIDE * longer)))
    colours, _ = _fused(image, colours, behind, alpha, max(3, round(NARROW * longer)))
    return np.where(alpha[..., None] == 1, image, colours)


def _fused(image: Plane, subject: Plane, behind: Plane, alpha: Plane, side: int) -> tuple[Plane, Plane]:
    """Return the subject's colours from both layers, each blurred over its own pixels; and the blurred background."""
    veil = alpha[..., None]
    near = _blur(subject * veil, side) / (_blur(alpha, side)[..., None] + LITTLE)
    far = _blur(behind * (1 - veil), side) / (_blur(1 - alpha, side)[..., None] + LITTLE)
    colours = near + veil * (image - veil * near - (1 - veil) * far)
    return np.clip(colours, 0, 1).astype(np.float32), far


def _blur(values: Plane, side: int) -> Plane:
    """Return the mean over squares."""
    return np.asarray(cv2.blur(values, (side, side)), np.float32)
