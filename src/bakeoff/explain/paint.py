"""Numbers as colours: maps over their image, gradients around grey."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from bakeoff.explain.explainer import Explanation

Pixels = NDArray[np.uint8]
FULL = 99.5  # the percentile of a map's magnitudes that gets the full colour: single pixels may be far above
VEIL = 0.75  # how much of the full colour lies over the image
FOR, AGAINST = (214, 39, 40), (31, 90, 200)  # of signed maps


def overlaid(image: Pixels, found: Explanation) -> Pixels:
    """Lay an explanation's map over a greyed image (S, S, 3) uint8.

    Values below 0 are blue and above 0 red where the map is signed; else it goes from clear through violet and orange
    to yellow.  Strengths are shares of the FULL percentile of the magnitudes.  A map of zeros leaves the grey image.
    """
    if found.map is None:
        return image
    grey = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2).astype(np.float64)
    strength = strengths(found.map)
    if found.signed:
        colour = np.where((found.map > 0)[..., None], FOR, AGAINST).astype(np.float64)
        share = VEIL * strength[..., None]
    else:
        levels = np.rint(255 * strength).astype(np.uint8)
        colour = np.asarray(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), np.float64)[..., ::-1]
        share = VEIL * np.sqrt(strength)[..., None]
    return np.rint(grey * (1 - share) + colour * share).astype(np.uint8)


def strengths(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return magnitudes as shares of their FULL percentile, at most 1."""
    size = np.abs(values).astype(np.float64)
    full = float(np.percentile(size, FULL)) or float(size.max())
    return np.clip(size / full, 0, 1) if full > 0 else np.zeros_like(size)


def around_grey(values: NDArray[np.float32]) -> Pixels:
    """Show signed values (H, W, 3) as a picture: 0 is grey, the FULL percentile of the magnitudes black or white."""
    full = float(np.percentile(np.abs(values), FULL)) or float(np.abs(values).max()) or 1.0
    return np.asarray(np.rint(127.5 + 127.5 * np.clip(values / full, -1, 1)), np.uint8)
