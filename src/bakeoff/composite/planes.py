"""Pictures as bytes and as numbers from 0 to 1."""

from __future__ import annotations

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
