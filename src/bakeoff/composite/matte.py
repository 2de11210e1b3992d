"""From a rough mask to an alpha matte: what share of every pixel belongs to the subject."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from bakeoff.composite.closed_form import solve_alpha
from bakeoff.composite.guided import guided_filter
from bakeoff.composite.planes import Pixels, Plane, shrunk, to_levels
from bakeoff.errors import UsageError, nearest

METHODS = ("auto", "closed_form", "guided", "none")
RADIUS = 4  # of the guided filter's windows, in pixels of the size at which it works: the band's half width there
SMOOTHNESS = 1e-3
GAIN = 1.6  # around one half: the filter's answer is hazy, since its mask was soft or wrong near the edge
WORKING = 640  # pixels of the longer side at which closed-form mattes are solved
FINE = 1e-5


@dataclass(frozen=True)
class Matting:
    """How a mask becomes a matte.  `band` and `feather` are shares of the picture's longer side.

    method   closed_form (sharper, a second), guided (ten times as fast, softer), none (the mask as it is), or auto:
             closed_form for pictures, guided for videos
    band     how far from the mask's edge the true edge may lie: the rest is certain
    feather  the standard deviation of a blur at the end
    """

    method: str = "auto"
    band: float = 0.03
    feather: float = 0.0

    def __post_init__(self) -> None:
        """Raise UsageError for impossible values."""
        if self.method not in METHODS:
            raise UsageError(
                f"matte must be one of {', '.join(METHODS)}, not {self.method!r}{nearest(self.method, METHODS)}"
            )
        for name, value, most in (("band", self.band, 0.2), ("feather", self.feather, 0.1)):
            if not 0 <= value <= most:
                raise UsageError(f"{name} must lie in 0 to {most:g} of the picture's longer side, got {value:g}")

    def alpha(self, image: Pixels, mask: Plane, moving: bool = False) -> Plane:
        """Return the matte (H, W), 0 to 1, of an image (H, W, 3) uint8 RGB; `moving`: it is one of many of a video.

        `mask` (H, W) is how surely each pixel is the subject's, 0 to 1; the edge is where it crosses one half.
        """
        method = self.method if self.method != "auto" else "guided" if moving else "closed_form"
        if method == "none":
            alpha = mask
        elif not (mask >= 0.5).any():
            alpha = np.zeros_like(mask)
        else:
            alpha = self._refined(to_levels(image), mask, method == "closed_form")
        if self.feather:
            spread = max(0.3, self.feather * max(mask.shape))
            alpha = np.asarray(cv2.GaussianBlur(alpha, (0, 0), spread), np.float32)
        return np.clip(alpha, 0, 1).astype(np.float32)

    def _refined(self, colours: Plane, mask: Plane, solved: bool) -> Plane:
        """Filter or solve the band around the edge, and leave the rest as certain as it is."""
        reach = max(2.0, self.band * max(mask.shape))
        low, high = limits(mask, reach)
        coarse = shrunk(mask, min(1.0, RADIUS / reach))
        found = guided_filter(colours, coarse, RADIUS, SMOOTHNESS)
        found = np.asarray(np.clip((found - 0.5) * GAIN + 0.5, low, high), np.float32)
        if not solved:
            return found
        scale = min(1.0, WORKING / max(mask.shape))
        unknown = (shrunk(low, scale) < 1) & (shrunk(high, scale) > 0)
        alpha = solve_alpha(shrunk(colours, scale), shrunk(found, scale), unknown)
        if scale < 1:
            alpha = np.asarray(np.clip(guided_filter(colours, alpha, 1, FINE), low, high), np.float32)
        return alpha


def limits(mask: Plane, reach: float) -> tuple[Plane, Plane]:
    """Return the least and the greatest alpha (H, W): certain from `reach` pixels off the mask's edge on.

    Between half of that and all of it they close in, so that no step shows where the certain part begins.
    """
    inside = (mask >= 0.5).astype(np.uint8)
    depth = cv2.distanceTransform(inside, cv2.DIST_L2, 5) - cv2.distanceTransform(1 - inside, cv2.DIST_L2, 5)
    signed = np.asarray(2 * depth / np.float32(reach), np.float32)
    return np.clip(signed - 1, 0, 1), 1 - np.clip(-signed - 1, 0, 1)
