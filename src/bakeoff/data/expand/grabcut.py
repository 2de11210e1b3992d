"""The object in the middle of a picture, without a network: GrabCut from a guess where objects are.

C. Rother, V. Kolmogorov, A. Blake, "GrabCut: interactive foreground extraction using iterated graph cuts", 2004.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

SMALL, LARGE = (
    128,
    256,
)  # pixels of the longer side that GrabCut works at: small pictures are enlarged for its statistics
ROUNDS = 5
RIM = 0.03  # share of the shorter side along the edges that is taken for background
LIKELY = 0.42  # half axes of the ellipse of likely foreground, as shares of width and height
CORE = 0.25  # half axes of the ellipse that the object reaches into
CENTRAL, ASIDE = 0.05, 0.25  # parts inside and outside of it count from this share of the largest part on

Mask = NDArray[np.uint8]


def matte(image: NDArray[np.uint8], seed: int) -> NDArray[np.float32]:
    """Return how much of each pixel (H, W) is foreground, 0 to 1, of an image (H, W, 3) uint8 RGB.

    The rim of the picture is taken for background, an ellipse inside it for likely foreground; then colours and edges
    decide.  All 0 where nothing is found in the middle.  A function of image and seed.
    """
    height, width = image.shape[:2]
    scale = float(np.clip(max(height, width), SMALL, LARGE)) / max(height, width)
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    mask = _prior(size)
    cv2.setRNGSeed(seed & 0x7FFFFFFF)  # of this thread: the colours are clustered from random starts
    cv2.grabCut(small, mask, (0, 0, *size), np.zeros((1, 65)), np.zeros((1, 65)), ROUNDS, cv2.GC_INIT_WITH_MASK)
    found = _whole(((mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD)).astype(np.uint8))
    soft = cv2.GaussianBlur(found.astype(np.float32), (0, 0), 1.0)
    full = cv2.resize(soft, (width, height), interpolation=cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR)
    return np.clip(full, 0, 1).astype(np.float32)


def _prior(size: tuple[int, int]) -> Mask:
    """Return GrabCut's first guess for a picture of (width, height): rim and ellipse."""
    width, height = size
    mask = np.full((height, width), cv2.GC_PR_BGD, np.uint8)
    _ellipse(mask, LIKELY, cv2.GC_PR_FGD)
    rim = max(1, round(RIM * min(size)))
    mask[:rim] = mask[-rim:] = mask[:, :rim] = mask[:, -rim:] = cv2.GC_BGD
    return mask


def _ellipse(mask: Mask, share: float, value: int) -> None:
    """Paint an ellipse around the centre."""
    height, width = mask.shape
    axes = (max(1, round(width * share)), max(1, round(height * share)))
    cv2.ellipse(mask, (width // 2, height // 2), axes, 0, 0, 360, value, -1)


def _whole(found: Mask) -> Mask:
    """Leave out specks and what lies aside, and fill holes."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    found = np.asarray(cv2.morphologyEx(found, cv2.MORPH_OPEN, kernel), np.uint8)
    count, parts, statistics, _ = cv2.connectedComponentsWithStats(found, connectivity=8)
    if count < 2:
        return found
    core = np.zeros_like(found)
    _ellipse(core, CORE, 1)
    areas = statistics[:, cv2.CC_STAT_AREA]
    largest = areas[1:].max()
    central = set(np.unique(parts[core > 0]).tolist()) - {0}
    if not central:  # letters in a corner, a frame: nothing that the picture is of
        return np.zeros_like(found)
    kept = [p for p in range(1, count) if areas[p] >= (CENTRAL if p in central else ASIDE) * largest]
    whole = np.isin(parts, kept).astype(np.uint8)
    outlines, _ = cv2.findContours(whole, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros_like(whole)
    cv2.drawContours(filled, outlines, -1, 1, -1)
    return filled
