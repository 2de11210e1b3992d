"""Pictures as bytes and as numbers from 0 to 1."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]  # (H, W, channels) as files have them
Plane = NDArray[np.float32]  # (H, W) or (H, W, channels) in 0..1
Size = tuple[int, int]  # width and height


def to_levels(pixels: Pixels) -> Plane:
    """Return bytes as 0..1."""
    return np.asarray(pixels / np.float32(255), np.float32)


def to_bytes(levels: Plane) -> Pixels:
    """Return 0..1 as the nearest bytes: to_levels() exactly undone."""
    return np.rint(np.clip(levels, 0, 1) * 255).astype(np.uint8)


def shrunk(levels: Plane, scale: float) -> Plane:
    """Return a plane at `scale` of its size, 1 or less, each pixel the mean of those that it stands for."""
    if scale == 1:
        return levels
    size = (max(2, round(levels.shape[1] * scale)), max(2, round(levels.shape[0] * scale)))
    return np.asarray(cv2.resize(levels, size, interpolation=cv2.INTER_AREA), np.float32)
