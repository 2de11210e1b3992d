"""How an image becomes what a network sees, and what it says becomes a prediction of the image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bakeoff.data.decode import Resize, decode_resized, resize
from bakeoff.data.frame import Frame, restored
from bakeoff.data.targets import Target

Pixels = NDArray[np.uint8]
Size = tuple[int, int]


class Framing(Protocol):
    """Image -> views of it, each as a network takes it; predictions of the views -> prediction of the image."""

    @property
    def together(self) -> int | None:
        """How many images are read before the network is asked: None for as many as it takes at once."""
        ...

    def views(self, source: Path | Pixels) -> tuple[list[Pixels], Size]:
        """Return the views (S, S, 3) of an image file or of pixels, and the image's width and height.

        Raises UnreadableImage.
        """
        ...

    def joined(self, found: Iterator[Target], size: Size) -> Target:
        """Return the prediction in the pixels of an image of `size`, of as many predictions as it has views."""
        ...


@dataclass(frozen=True)
class Whole:
    """One view: the whole image, brought to the input side as in training."""

    side: int
    policy: Resize
    together: int | None = None

    def views(self, source: Path | Pixels) -> tuple[list[Pixels], Size]:
        """Return the image resized."""
        if isinstance(source, Path):
            pixels, size = decode_resized(source, self.side, self.policy)
            return [pixels], size
        return [resize(source, self.side, self.policy)], (source.shape[1], source.shape[0])

    def joined(self, found: Iterator[Target], size: Size) -> Target:
        """Bring the prediction to the image's own pixels; labels are returned as they are."""
        return restored(next(found), Frame(*size, self.side, self.policy))
