"""Where a cut-out stands on its canvas, and how large."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from bakeoff.composite.planes import Plane, Size
from bakeoff.errors import UsageError, nearest

CANVASES = ("image", "background")
LARGEST = 20.0
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Placement:
    """Size and place of the subject on the canvas.

    scale     times the size at which the whole picture fits onto the canvas
    position  where the subject stands, from 0 (left, top) to 1 (right, bottom); None: where it is in its picture, which
              stands at the bottom, in the middle
    canvas    as large as the "image" or as the "background"
    """

    scale: float = 1.0
    position: tuple[float, float] | None = None
    canvas: str = "image"

    def __post_init__(self) -> None:
        """Raise UsageError for impossible values."""
        if not 0 < self.scale <= LARGEST:
            raise UsageError(f"scale must lie above 0 and up to {LARGEST:g}, got {self.scale:g}")
        if self.position is not None and not all(-1 <= value <= 2 for value in self.position):
            raise UsageError("position is x,y with 0 for left and top and 1 for right and bottom, as in 0.5,1")
        if self.canvas not in CANVASES:
            raise UsageError(f"canvas must be image or background, not {self.canvas!r}{nearest(self.canvas, CANVASES)}")

    def size(self, image: Size, background: Size | None) -> Size:
        """Return width and height of the canvas.  Raises UsageError where the background has no size of its own."""
        if self.canvas == "image":
            return image
        if background is None:
            raise UsageError("this background has no size of its own: canvas background is for pictures and videos")
        return background

    def placed(self, layer: Plane, canvas: Size, box: Box) -> Plane:
        """Return a layer (H, W, channels) on a canvas of 0; `box` (x1, y1, x2, y2) is around the subject in it."""
        height, width = layer.shape[:2]
        scale = self.scale * min(canvas[0] / width, canvas[1] / height)
        if scale != 1:
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
            layer = np.asarray(cv2.resize(layer, size, interpolation=how), np.float32)
        left, top = self._corner(layer, canvas, tuple(side * scale for side in box))
        return _pasted(layer, canvas, left, top)

    def _corner(self, layer: Plane, canvas: Size, box: tuple[float, ...]) -> tuple[int, int]:
        """Return where the layer's top left corner lies on the canvas."""
        if self.position is None:
            return (canvas[0] - layer.shape[1]) // 2, canvas[1] - layer.shape[0]
        (x, y), (x1, y1, x2, y2) = self.position, box
        return round(x * (canvas[0] - (x2 - x1)) - x1), round(y * (canvas[1] - (y2 - y1)) - y1)


def read_position(text: str) -> tuple[float, float]:
    """Read a position as people write it, "0.5,1".  Raises UsageError."""
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"position must be two numbers x,y as in 0.5,1, not {text!r}") from None
    return x, y


def subject_box(alpha: Plane) -> Box:
    """Return the box x1, y1, x2, y2 around what is at least half opaque; the whole picture where nothing is."""
    left, top, width, height = cv2.boundingRect((alpha >= 0.5).astype(np.uint8))
    return (left, top, left + width, top + height) if width else (0, 0, alpha.shape[1], alpha.shape[0])


def _pasted(layer: Plane, canvas: Size, left: int, top: int) -> Plane:
    """Lay a layer onto an empty canvas; what reaches beyond is cut off."""
    height, width = layer.shape[:2]
    if (left, top, width, height) == (0, 0, *canvas):
        return layer
    sheet = np.zeros((canvas[1], canvas[0], layer.shape[2]), np.float32)
    x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + width, canvas[0]), min(top + height, canvas[1])
    if x1 < x2 and y1 < y2:
        sheet[y1:y2, x1:x2] = layer[y1 - top : y2 - top, x1 - left : x2 - left]
    return sheet
