"""How to predict beyond the plain way: several looks, several models, calibrated scores, parts of videos."""

from __future__ import annotations

from dataclasses import dataclass

from bakeoff.errors import UsageError
from bakeoff.predict.framing import Framing, Whole
from bakeoff.predict.predictor import Predictor
from bakeoff.predict.tiling import OVERLAP, Tiles


@dataclass(frozen=True)
class Options:
    """What `bakeoff predict` can do on request.

    tta         every image is seen mirrored too, and the two predictions are fused (several.Flipped)
    tile        large images are seen in windows of so many pixels, which share `overlap` of a side (tiling.Tiles)
    ensemble    all finished runs of the study's best candidate together, their predictions fused (several.Ensemble)
    calibrated  probabilities scaled by a temperature that fits the validation images (calibrated.Calibrated)
    every       of videos every so many-th frame
    seconds     of videos and cameras only the first seconds
    """

    tta: bool = False
    tile: int | None = None
    overlap: float = OVERLAP
    ensemble: bool = False
    calibrated: bool = False
    every: int = 1
    seconds: float | None = None

    def framing(self, predictor: Predictor) -> Framing:
        """Return how images are shown to a predictor.  Raises UsageError for tiles of images that get one label."""
        if self.tile is None:
            return Whole(predictor.size, predictor.resize)
        if predictor.task == "classification":
            raise UsageError("tile is for what lies somewhere in an image; a label is of the whole image: leave it out")
        return Tiles(self.tile, predictor.size, self.overlap)


PLAIN = Options()
