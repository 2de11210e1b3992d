"""Pictures whose background is replaced by another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bakeoff.data.dataset import Dataset, Record
from bakeoff.data.decode import read_image
from bakeoff.data.expand.fill import Fill
from bakeoff.data.expand.grabcut import matte
from bakeoff.data.expand.onnx_matting import OnnxMatting
from bakeoff.data.expand.plan import Expansion
from bakeoff.seeds import fold, generator

METHOD = "background"
LEAST, MOST = 0.02, 0.98  # share of the picture that a foreground covers; beyond, nothing was found or all is left

Matting = Callable[[NDArray[np.uint8], int], NDArray[np.float32]]  # (image, seed) -> (H, W) in 0..1


@dataclass(frozen=True)
class Background:
    """Replaces backgrounds as an expansion says."""

    dataset: Dataset
    seed: int
    fill: Fill
    matting: Matting

    @classmethod
    def of(cls, dataset: Dataset, plan: Expansion) -> Background:
        """Parse the fill and load the network.  Raises UsageError and DataError."""
        matting: Matting = matte if plan.model is None else OnnxMatting(plan.model, plan.family)
        return cls(dataset, plan.seed, Fill.parse(plan.fill), matting)

    @property
    def rounds(self) -> int:
        """How often one original can be used with a new result each time."""
        return self.fill.kinds

    def make(self, record: Record, number: int) -> NDArray[np.uint8] | None:
        """Return an image with its background number `number`, None when no foreground was told from it.

        Raises UnreadableImage.
        """
        image = read_image(self.dataset, record)
        found = self.matting(image, fold(self.seed, METHOD, record.id))
        if not LEAST <= float((found > 0.5).mean()) <= MOST:
            return None
        kinds = generator(self.seed, "fill", record.id).permutation(self.fill.kinds)
        return self.fill.behind(image, found, int(kinds[number]))
