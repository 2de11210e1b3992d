"""One picture and its matte -> the subject before another background."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from bakeoff.composite.background import Background, Colour
from bakeoff.composite.foreground import foreground
from bakeoff.composite.matte import Matting
from bakeoff.composite.placement import Box, Placement, subject_box
from bakeoff.composite.planes import Pixels, Plane, to_bytes, to_levels
from bakeoff.composite.steadying import Steadying


@dataclass(frozen=True, eq=False)
class CutOut:
    """A picture (H, W, 3) in 0..1, the subject's colours at its edge, and its matte (H, W)."""

    image: Plane
    colours: Plane
    alpha: Plane

    @property
    def rgba(self) -> Pixels:
        """The subject alone, (H, W, 4) uint8, not premultiplied."""
        return to_bytes(np.dstack([self.colours, self.alpha]))


@dataclass(frozen=True)
class Composing:
    """How subjects are cut out and what they are set before; `spill` keeps the old background's light at edges."""

    background: Background = field(default_factory=lambda: Colour((255, 255, 255)))
    matting: Matting = field(default_factory=Matting)
    placement: Placement = field(default_factory=Placement)
    spill: bool = False

    def cut(self, image: Pixels, mask: Plane, steady: Steadying | None = None) -> CutOut:
        """Cut a subject out of an image (H, W, 3) uint8 RGB, where `mask` (H, W) in 0..1 says that it is.

        Of a video's frames, one after the other, the mattes pass through `steady`.
        """
        alpha = self.matting.alpha(image, mask, moving=steady is not None)
        alpha = alpha if steady is None else steady(image, alpha)
        colours = to_levels(image)
        return CutOut(colours, colours if self.spill else foreground(colours, alpha), alpha)

    def compose(self, cut: CutOut, box: Box | None = None, seconds: float = 0.0) -> Pixels:
        """Return the canvas (H, W, 3) uint8: exactly the picture where alpha is 1, the background where it is 0.

        Values are mixed as they are stored (sRGB), since the matte was estimated in them: set before its own
        background again, the subject gives the very picture back, which it would not in linear light.  `box` (None: the
        subject's own) is what the placement's position is about.
        """
        size = (cut.image.shape[1], cut.image.shape[0])
        canvas = self.placement.size(size, self.background.size)
        behind = self.background.behind(cut.image, cut.alpha, canvas, seconds)
        veil = cut.alpha[..., None]
        layer = np.dstack([cut.colours * veil, veil])  # premultiplied, so that resizing mixes no hidden colours in
        placed = self.placement.placed(layer, canvas, box or subject_box(cut.alpha))
        return to_bytes(placed[..., :3] + (1 - placed[..., 3:]) * behind)
