"""Large images in overlapping windows: what is found in each is joined to a prediction of the whole image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bakeoff.data.decode import PADDING, decode, resize
from bakeoff.data.targets import Boxes, LabelMap, Target
from bakeoff.errors import UsageError
from bakeoff.predict.framing import Pixels, Size
from bakeoff.predict.stitching import Seen, stitched
from bakeoff.tasks.overlap import resized_scores

OVERLAP = 0.25


@dataclass(frozen=True)
class Tiles:
    """Windows of `tile` x `tile` pixels of the image, brought to the input side; neighbours share `overlap` of a side.

    The windows lie evenly, the last ones flush with the image's edges; an image smaller than a window is padded with
    grey.  Label maps: the probabilities of overlapping windows are added, each weighted by a Hann window, which is
    nearly 0 at a window's edge (as for the U-Net's overlapping tiles; Pielawski and Wählby 2020, "Introducing Hann
    windows for reducing edge-effects in patch-based image segmentation").  Objects: see stitching.stitched.  Raises
    UsageError for a window without pixels, and an overlap outside 0 to 0.9.
    """

    tile: int
    side: int
    overlap: float = OVERLAP

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.tile < 8:
            raise UsageError(f"tile must be at least 8 pixels, got {self.tile}")
        if not 0 <= self.overlap <= 0.9:
            raise UsageError(f"overlap must lie in 0 to 0.9, got {self.overlap:g}")

    @property
    def together(self) -> int:
        """One image at a time: it has many views."""
        return 1

    def views(self, source: Path | Pixels) -> tuple[list[Pixels], Size]:
        """Return the windows, row by row."""
        image = decode(source) if isinstance(source, Path) else source
        height, width = image.shape[:2]
        below, beside = max(0, self.tile - height), max(0, self.tile - width)
        if below or beside:
            padded = np.full((height + below, width + beside, 3), PADDING, np.uint8)
            padded[:height, :width] = image
            image = padded
        windows = [
            image[top : top + self.tile, left : left + self.tile]
            for top in self.starts(height)
            for left in self.starts(width)
        ]
        return [part if self.tile == self.side else resize(part, self.side) for part in windows], (width, height)

    def joined(self, found: Iterator[Target], size: Size) -> Target:
        """Join the predictions of an image's windows in its own pixels."""
        first = next(found)
        rest = _chained(first, found)
        if isinstance(first, LabelMap):
            return self._blended(rest, size)
        places = [(left, top) for top in self.starts(size[1]) for left in self.starts(size[0])]
        seen = [
            Seen(target, place, self.tile)
            for target, place in zip(rest, places, strict=True)
            if isinstance(target, Boxes)
        ]
        return stitched(seen, size)

    def starts(self, length: int) -> list[int]:
        """Return where the windows begin along a side of the image.

        >>> Tiles(100, 100, 0.25).starts(250), Tiles(100, 100).starts(60)
        ([0, 75, 150], [0])
        """
        if length <= self.tile:
            return [0]
        steps = int(np.ceil((length - self.tile) / (self.tile * (1 - self.overlap)) - 1e-9))
        return [round(step * (length - self.tile) / steps) for step in range(steps + 1)]

    def _blended(self, found: Iterator[Target], size: Size) -> LabelMap:
        """Add the weighted probabilities of label maps; only the rows of one window's height are held at a time."""
        width, height = size
        pixels, held = np.zeros((height, width), np.uint8), np.zeros((0, 0, 0), np.float32)
        weight, lefts, tops = hann(self.tile), self.starts(width), self.starts(height)
        for top, following in pairwise([*tops, height]):
            for left in lefts:
                scores = self._scores(next(found))
                if not held.size:
                    held = np.zeros((len(scores), self.tile, max(width, self.tile)), np.float32)
                held[:, :, left : left + self.tile] += scores * weight
            done = min(following - top, self.tile)
            pixels[top : top + done] = held[:, :done, :width].argmax(axis=0)
            held = np.concatenate([held[:, done:], np.zeros_like(held[:, :done])], axis=1)
        return LabelMap(pixels)

    def _scores(self, target: Target) -> NDArray[np.float32]:
        """Return the probabilities (classes, tile, tile) of a window."""
        if not isinstance(target, LabelMap) or target.scores is None:
            raise UsageError("tiles of label maps are joined by their probabilities; this predictor gives none")
        scores = target.scores if self.tile == self.side else resized_scores(target.scores, (self.tile, self.tile))
        return np.asarray(scores, np.float32)


def hann(side: int) -> NDArray[np.float32]:
    """Return the weights (side, side) of a window's pixels: 1 in the middle, nearly 0 at the edges, never 0."""
    row = np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2
    return np.outer(row, row).astype(np.float32)


def _chained(first: Target, rest: Iterator[Target]) -> Iterator[Target]:
    """Put the first prediction, which was taken to see its kind, in front again."""
    yield first
    yield from rest
