"""What takes the place of a background: a colour, the background itself blurred, or a picture."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ImageColor

from bakeoff.data.decode import decode
from bakeoff.data.formats.listing import is_image, list_images
from bakeoff.errors import UsageError, nearest

COLOURS = {"white": (255, 255, 255), "black": (0, 0, 0), "grey": (128, 128, 128)}
BLUR = "blur"
WIDTH = 0.06  # of the blur, as share of the longer side
LARGE = 256  # pixels of the longer side that is enough for a blur

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Fill:
    """What backgrounds become: `colour`, or one of `pictures`, or, with neither, their own blur."""

    colour: tuple[int, int, int] | None = None
    pictures: tuple[Path, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Fill:
        """Read "white", "black", "grey", "#rrggbb", "blur", or the path of a picture or of a folder of pictures.

        Raises UsageError for anything else, and for a folder without pictures.
        """
        if text == BLUR:
            return cls()
        if text in COLOURS:
            return cls(COLOURS[text])
        if re.fullmatch("#[0-9a-fA-F]{6}", text):
            red, green, blue = ImageColor.getrgb(text)[:3]
            return cls((red, green, blue))
        path = Path(text)
        if path.is_dir():
            pictures = tuple(path / name for name in list_images(path).images)
            if not pictures:
                raise UsageError(f"--fill {text}: there is no picture in this folder")
            return cls(None, pictures)
        if path.is_file() and is_image(path.name):
            return cls(None, (path,))
        known = [*COLOURS, BLUR]
        what = f"{', '.join(known)}, #rrggbb, a picture or a folder of pictures"
        raise UsageError(f"--fill {text}: neither a colour nor a picture{nearest(text, known)}; it may be {what}")

    @property
    def kinds(self) -> int:
        """How many different backgrounds one image can be given."""
        return max(1, len(self.pictures))

    def behind(self, image: Pixels, matte: NDArray[np.float32], kind: int) -> Pixels:
        """Return the image (H, W, 3) with its foreground, as `matte` (H, W) says, before the background `kind`."""
        veil = matte[..., None]
        mixed = image * veil + self._background(image, veil, kind) * (1 - veil)
        return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)

    def _background(self, image: Pixels, veil: NDArray[np.float32], kind: int) -> NDArray[np.float32]:
        """Return what lies behind, (H, W, 3) or one colour."""
        if self.colour is not None:
            return np.array(self.colour, np.float32)
        if self.pictures:
            return covering(decode(self.pictures[kind]), (image.shape[1], image.shape[0])).astype(np.float32)
        return _blurred(image, 1 - veil[..., 0])


def covering(picture: Pixels, size: tuple[int, int]) -> Pixels:
    """Return the middle of a picture, as large as covers (width, height)."""
    width, height = size
    scale = max(width / picture.shape[1], height / picture.shape[0])
    across, down = max(1, round(width / scale)), max(1, round(height / scale))
    left, top = (picture.shape[1] - across) // 2, (picture.shape[0] - down) // 2
    part = picture[top : top + down, left : left + across]
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(np.ascontiguousarray(part), size, interpolation=how), np.uint8)


def _blurred(image: Pixels, ground: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the background spread over the whole picture: a blur of its own pixels alone, so that no halo shows."""
    height, width = image.shape[:2]
    scale = min(1.0, LARGE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    weight = cv2.resize(ground, size, interpolation=cv2.INTER_AREA) + 1e-4  # where no background is near, all count
    sigma = max(1.0, WIDTH * max(size))
    spread = cv2.GaussianBlur(small * weight[..., None], (0, 0), sigma)
    around = np.asarray(spread / cv2.GaussianBlur(weight, (0, 0), sigma)[..., None], np.float32)
    return np.asarray(cv2.resize(around, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
