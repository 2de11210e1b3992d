"""What a subject is set before: a colour, a picture, a video, or its own background blurred."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from PIL import ImageColor

from bakeoff.composite.planes import Pixels, Plane, Size, shrunk, to_levels
from bakeoff.data.decode import decode
from bakeoff.data.expand.fill import covering
from bakeoff.data.formats.listing import is_image
from bakeoff.errors import DataError, UsageError, nearest
from bakeoff.predict.video import BrokenVideo, Clip, Moment, is_video

BLUR = "blur"
WIDTH = 0.02  # standard deviation of the blur, as share of the longer side
MARGIN = 0.01  # share of the longer side around the subject that counts as subject: its edge must not bleed
FULL = 0.99
ENOUGH = 8.0  # pixels: a wider blur is made of a smaller picture, which shows no difference


class Background(Protocol):
    """Something to be set behind a subject."""

    @property
    def size(self) -> Size | None:
        """Its own width and height, where it has them."""
        ...

    def behind(self, image: Plane, alpha: Plane, size: Size, seconds: float) -> Plane:
        """Return (H, W, 3) in 0..1 of width and height `size`, at a time, for an image with its matte."""
        ...


@dataclass(frozen=True)
class Colour:
    """One colour."""

    rgb: tuple[int, int, int]
    size: None = None

    def behind(self, image: Plane, alpha: Plane, size: Size, seconds: float) -> Plane:  # noqa: ARG002
        """Return the colour everywhere."""
        return np.full((size[1], size[0], 3), np.array(self.rgb, np.float32) / 255, np.float32)


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture, of which as much is seen as covers the canvas."""

    pixels: Pixels

    @property
    def size(self) -> Size:
        """The picture's width and height."""
        return self.pixels.shape[1], self.pixels.shape[0]

    def behind(self, image: Plane, alpha: Plane, size: Size, seconds: float) -> Plane:  # noqa: ARG002
        """Return the middle of the picture."""
        return to_levels(covering(self.pixels, size))


class Footage:
    """A video, from its start for every video that it lies behind, and again from its start when it has ended."""

    def __init__(self, path: Path) -> None:
        """Read the first frame.  Raises DataError when there is none."""
        self._clip = Clip(str(path))
        self._moments: Iterator[Moment] = iter(())
        self._now, self._number = self._next(), 0

    @property
    def size(self) -> Size:
        """Width and height of its frames."""
        return self._now.image.shape[1], self._now.image.shape[0]

    def behind(self, image: Plane, alpha: Plane, size: Size, seconds: float) -> Plane:  # noqa: ARG002
        """Return the frame of that time.  Times must not fall, but to 0."""
        number = int(seconds * self._now.rate + 1e-6)
        if number < self._number:
            self._moments, self._number = iter(()), 0
            self._now = self._next()
        while self._number < number:
            self._now, self._number = self._next(), self._number + 1
        return to_levels(covering(self._now.image, size))

    def _next(self) -> Moment:
        """Return the frame after this one; after the last, or after damage, the first."""
        try:
            return next(self._moments)
        except (StopIteration, BrokenVideo):
            self._moments = self._clip.moments()
        try:
            return next(self._moments)
        except (StopIteration, BrokenVideo) as error:
            raise DataError(f"{self._clip}: cannot be read as a video: {error}") from None


@dataclass(frozen=True)
class Blur:
    """The picture's own background, blurred; under the subject it is made up from what is around."""

    width: float = WIDTH
    size: None = None

    def __post_init__(self) -> None:
        """Raise UsageError for an impossible width."""
        if not 0 < self.width <= 0.5:
            raise UsageError(f"blur must lie above 0 and up to 0.5 of the picture's longer side, got {self.width:g}")

    def behind(self, image: Plane, alpha: Plane, size: Size, seconds: float) -> Plane:  # noqa: ARG002
        """Return the blur."""
        scale = min(1.0, ENOUGH / (self.width * max(alpha.shape)))
        small, opaque = (shrunk(one, scale) for one in (image, alpha))
        margin = max(1, round(MARGIN * max(opaque.shape)))
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin + 1, 2 * margin + 1))
        ground = filled(small, np.asarray(cv2.erode(1 - opaque, kernel), np.float32))
        soft = cv2.GaussianBlur(ground, (0, 0), max(0.3, self.width * max(opaque.shape)))
        return np.clip(cv2.resize(soft, size, interpolation=cv2.INTER_LINEAR), 0, 1).astype(np.float32)


def filled(image: Plane, known: Plane) -> Plane:
    """Return an image (H, W, 3) whose pixels with little `known` (H, W, 0 to 1) are made up from those around.

    Pull-push, from coarse to fine: S. Gortler et al., "The lumigraph", 1996.
    """
    height, width = known.shape
    if known.min() > FULL or min(height, width) == 1:
        return image
    half = ((width + 1) // 2, (height + 1) // 2)
    weight = cv2.resize(known, half, interpolation=cv2.INTER_AREA)
    colours = (
        cv2.resize(image * known[..., None], half, interpolation=cv2.INTER_AREA) / np.maximum(weight, 1e-6)[..., None]
    )
    coarse = filled(np.asarray(colours, np.float32), np.minimum(1, 4 * weight).astype(np.float32))
    wide = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(wide + known[..., None] * (image - wide), np.float32)


def open_background(text: str, blur: float = WIDTH) -> Background:
    """Read "blur", a picture's or a video's path, or a colour: #RRGGBB or one of CSS's names.

    Raises UsageError for anything else, UnreadableImage for a damaged picture and DataError for a damaged video.
    """
    if text == BLUR:
        return Blur(blur)
    path = Path(text)
    if path.is_file() and is_video(text):
        return Footage(path)
    if path.is_file():
        return Picture(decode(path))
    known = [BLUR, *ImageColor.colormap]
    if text.casefold() in ImageColor.colormap or re.fullmatch("#[0-9a-fA-F]{6}", text):
        red, green, blue = ImageColor.getrgb(text)[:3]
        return Colour((red, green, blue))
    what = "no such file" if is_image(text) or is_video(text) else f"neither a colour nor a file{nearest(text, known)}"
    raise UsageError(f"background {text}: {what}; it may be white, #RRGGBB, {BLUR}, a picture or a video")
