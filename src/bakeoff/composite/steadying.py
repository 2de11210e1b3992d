"""Mattes of a video that do not flicker: where the picture stays as it was, the matte may change only slowly."""

from __future__ import annotations

import cv2
import numpy as np

from bakeoff.composite.planes import Pixels, Plane, to_levels

CHANGE = 0.05  # of the picture, in 0..1: where it changes by this much, the past counts 1/e
AROUND = 7  # pixels: the side of the square over which a change is averaged, so that noise is none


class Steadying:
    """Exponential smoothing: `share` of the matte before, the rest of the new one; less where the picture changed."""

    def __init__(self, share: float) -> None:
        """Know no frame yet; `share` is in 0 to below 1."""
        self.share = share
        self._image: Plane | None = None
        self._alpha: Plane | None = None

    def __call__(self, image: Pixels, alpha: Plane) -> Plane:
        """Return the matte (H, W) of the next frame (H, W, 3) uint8 RGB."""
        if not self.share:
            return alpha
        now = np.asarray(cv2.blur(to_levels(image), (AROUND, AROUND)), np.float32)
        if self._image is not None and self._alpha is not None and self._image.shape == now.shape:
            change = np.abs(now - self._image).max(axis=-1)
            past = self.share * np.exp(-((change / CHANGE) ** 2))
            alpha = np.asarray(past * self._alpha + (1 - past) * alpha, np.float32)
        self._image, self._alpha = now, alpha
        return alpha
