"""The guided filter: a mask that follows the edges of a picture.

K. He, J. Sun, X. Tang, "Guided image filtering", 2010; at the small size of K. He, J. Sun, "Fast guided filter", 2015.
"""

from __future__ import annotations

import cv2
import numpy as np

from bakeoff.composite.planes import Plane


def guided_filter(image: Plane, mask: Plane, radius: int, smoothness: float) -> Plane:
    """Return `mask` as a function of `image` (H, W, 3) in 0..1 that is linear in every window, (H, W), not clipped.

    The mask may be smaller than the image: the coefficients are computed at its size, `radius` is in its pixels, and
    they are applied at the image's.  Colours that differ by less than the square root of `smoothness` are one colour.
    """
    height, width = mask.shape
    small = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.float32)
    colour, level = _mean(small, radius), _mean(mask, radius)
    squares = _mean((small[..., :, None] * small[..., None, :]).reshape(height, width, 9), radius)
    spread = squares.reshape(height, width, 3, 3) - colour[..., :, None] * colour[..., None, :]
    common = _mean(small * mask[..., None], radius) - colour * level[..., None]
    slope = np.linalg.solve(spread + smoothness * np.eye(3, dtype=np.float32), common[..., None])[..., 0]
    offset = level - (slope * colour).sum(axis=-1)
    size = (image.shape[1], image.shape[0])
    slope, offset = (cv2.resize(_mean(one, radius), size, interpolation=cv2.INTER_LINEAR) for one in (slope, offset))
    return np.asarray((slope * image).sum(axis=-1) + offset, np.float32)


def _mean(values: Plane, radius: int) -> Plane:
    """Return the mean over the window around every pixel, each channel by itself."""
    side = (2 * radius + 1, 2 * radius + 1)
    return np.asarray(cv2.boxFilter(values, -1, side, borderType=cv2.BORDER_REFLECT), np.float32)
