"""Frame: how an image is brought to the square that a network sees, and its target with it, there and back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bakeoff.data.decode import Resize
from bakeoff.data.masks import bounds, read_label_map, to_pixels, to_runs
from bakeoff.data.targets import IGNORE, Boxes, Instances, LabelMap, Mask, MaskFiles, Target

if TYPE_CHECKING:
    from bakeoff.data.dataset import Dataset, Record


@dataclass(frozen=True)
class Frame:
    """An image of `width` x `height` pixels in a square of side `size`, under a resize policy (see decode.resize)."""

    width: int
    height: int
    size: int
    policy: Resize = "squash"

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the frame per pixel of the image, along x and y."""
        if self.policy == "squash":
            return self.size / self.width, self.size / self.height
        if self.policy == "crop":
            return (self.size / min(self.width, self.height),) * 2
        inner = self._inner
        return inner[0] / self.width, inner[1] / self.height

    @property
    def offset(self) -> tuple[float, float]:
        """Where the image's top left corner lies in the frame; negative where it is cut off."""
        if self.policy == "squash":
            return 0.0, 0.0
        if self.policy == "crop":
            scale = self.scale[0]
            side = min(self.width, self.height)
            return -(self.width - side) / 2 * scale, -(self.height - side) / 2 * scale
        return float((self.size - self._inner[0]) // 2), float((self.size - self._inner[1]) // 2)

    @property
    def _inner(self) -> tuple[int, int]:
        """Width and height of a padded image inside the frame."""
        scale = self.size / max(self.width, self.height)
        return max(1, round(self.width * scale)), max(1, round(self.height * scale))

    def boxes(self, xyxy: NDArray[np.float64]) -> NDArray[np.float64]:
        """Bring boxes (N, 4) from the image's pixels to the frame's."""
        moved: NDArray[np.float64] = xyxy * np.tile(self.scale, 2) + np.tile(self.offset, 2)
        return moved

    def image_boxes(self, xyxy: NDArray[np.float64]) -> NDArray[np.float64]:
        """Bring boxes (N, 4) from the frame's pixels to the image's, clipped to the image."""
        found = (xyxy - np.tile(self.offset, 2)) / np.tile(self.scale, 2)
        clipped: NDArray[np.float64] = np.clip(found, 0, np.tile((self.width, self.height), 2))
        return clipped

    def pixels(self, values: NDArray[np.uint8], fill: int) -> NDArray[np.uint8]:
        """Bring labels (height, width) to the frame (size, size) by nearest neighbour; `fill` is what padding gets."""
        return self._warp(values, (self.size, self.size), fill, inverse=False)

    def image_pixels(self, values: NDArray[np.uint8], fill: int) -> NDArray[np.uint8]:
        """Bring labels (size, size) of the frame back to the image (height, width); `fill` is what was cut off."""
        return self._warp(values, (self.width, self.height), fill, inverse=True)

    def _warp(self, values: NDArray[np.uint8], target: tuple[int, int], fill: int, inverse: bool) -> NDArray[np.uint8]:
        """Take for each target pixel the source pixel that its centre falls into."""
        columns, inside_x = self._sources(target[0], values.shape[1], 0, inverse)
        rows, inside_y = self._sources(target[1], values.shape[0], 1, inverse)
        found = values[rows[:, None], columns[None, :]].copy()
        found[~inside_y] = fill
        found[:, ~inside_x] = fill
        return found

    def _sources(self, count: int, limit: int, axis: int, inverse: bool) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Return the source index along one axis of every target pixel, and whether there is one."""
        centres = np.arange(count) + 0.5
        scale, offset = self.scale[axis], self.offset[axis]
        places = centres * scale + offset if inverse else (centres - offset) / scale
        index = np.floor(places + 1e-9).astype(np.intp)
        return np.clip(index, 0, limit - 1), (index >= 0) & (index < limit)

    def mask(self, mask: Mask, size: tuple[int, int]) -> bytes:
        """Bring a mask in an image of `size` to the frame, as run lengths; polygons are scaled first."""
        if isinstance(mask, bytes):
            return to_runs(self.pixels(to_pixels(mask, size).astype(np.uint8), 0), (self.size, self.size))
        parts = [
            (np.array(part).reshape(-1, 2) * np.array(self.scale) + np.array(self.offset)).flatten() for part in mask
        ]
        polygons = tuple(tuple(float(value) for value in part) for part in parts)
        return to_runs(polygons, (self.size, self.size))


def framed(dataset: Dataset, record: Record, size: int, policy: Resize) -> Target:
    """Return a record's target as the network sees it: labels as they are, the rest in a frame of (size, size) pixels.

    Boxes are clipped to the frame; those without a finite area, or of which nothing is left, are left out, and so are
    objects whose mask has no pixel.  The box of an object with a mask is the one around the mask's pixels in the frame.
    Raises UnreadableImage and DataError for mask files.
    """
    target = record.target
    if isinstance(target, MaskFiles):
        pixels = read_label_map(dataset.source, target)
        frame = Frame(pixels.shape[1], pixels.shape[0], size, policy)
        return LabelMap(frame.pixels(pixels, IGNORE))
    if not isinstance(target, Boxes):
        return target
    frame = Frame(*target.size, size, policy)
    sound = np.flatnonzero(np.isfinite(target.xyxy).all(axis=1))
    kept = target.take(sound)
    boxes = np.clip(frame.boxes(kept.xyxy), 0, size)
    if isinstance(kept, Instances):
        masks = tuple(frame.mask(mask, target.size) for mask in kept.masks)
        boxes = np.array([bounds(mask, (size, size)) for mask in masks]).reshape(-1, 4)
        kept = replace(kept, masks=masks)
    kept = replace(kept, size=(size, size), xyxy=boxes, scale=1 / (frame.scale[0] * frame.scale[1]))
    sides = boxes[:, 2:] - boxes[:, :2]
    return kept.take(np.flatnonzero((sides > 0).all(axis=1)))


def restored(prediction: Target, frame: Frame) -> Target:
    """Return a prediction in the frame in the pixels of the image itself; labels are returned as they are."""
    if isinstance(prediction, LabelMap):
        return LabelMap(frame.image_pixels(prediction.pixels, IGNORE))
    if not isinstance(prediction, Boxes):
        return prediction
    boxes, size = frame.image_boxes(prediction.xyxy), (frame.width, frame.height)
    if not isinstance(prediction, Instances):
        return Boxes(size, boxes, prediction.labels, prediction.scores, prediction.crowd)
    masks = tuple(
        to_runs(frame.image_pixels(to_pixels(mask, prediction.size).astype(np.uint8), 0), size)
        for mask in prediction.masks
    )
    return Instances(size, boxes, prediction.labels, prediction.scores, prediction.crowd, masks=masks)
