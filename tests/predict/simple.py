"""Predictors that need no network: they find what is light in an image, wherever it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from bakeoff.data.dataset import TaskName
from bakeoff.data.decode import Resize
from bakeoff.data.masks import to_runs
from bakeoff.data.targets import Boxes, Instances, Label, LabelMap, Target

Pixels = NDArray[np.uint8]


@dataclass
class Light:
    """Labels each pixel, or finds each connected part, that is light: at most 128 is dark."""

    task: TaskName = "semantic"
    size: int = 64
    classes: tuple[str, ...] = ("dark", "light")
    resize: Resize = "squash"
    batch: int = 4
    asked: int = 0

    def __call__(self, pixels: Pixels) -> Sequence[Target]:
        self.asked += len(pixels)
        return [self._one(image.mean(axis=2) > 128) for image in pixels]

    def _one(self, light: NDArray[np.bool_]) -> Target:
        if self.task == "classification":
            share = float(light.mean())
            return Label(int(share > 0.5), (1 - share, share))
        if self.task == "semantic":
            scores = np.stack([~light, light]).astype(np.float32) * 0.8 + 0.1
            return LabelMap(light.astype(np.uint8), scores)
        frame = (light.shape[1], light.shape[0])
        count, parts, stats, _ = cv2.connectedComponentsWithStats(light.astype(np.uint8), connectivity=4)
        left, top, width, height, area = (stats[1:, column].astype(float) for column in range(5))
        boxes = np.stack([left, top, left + width, top + height], axis=1)
        scores = 0.6 + 0.3 * area / light.size
        labels = np.ones(count - 1, np.int64)
        if self.task == "detection":
            return Boxes(frame, boxes, labels, scores)
        masks = tuple(to_runs(parts == number, frame) for number in range(1, count))
        return Instances(frame, boxes, labels, scores, masks=masks)
