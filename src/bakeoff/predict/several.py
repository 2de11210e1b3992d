"""Predictors made of predictors: an image seen twice (flipped), and several networks as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bakeoff.data.dataset import TaskName
from bakeoff.data.decode import Resize
from bakeoff.data.masks import to_pixels, to_runs
from bakeoff.data.targets import Boxes, Instances, LabelMap, Target
from bakeoff.errors import UsageError
from bakeoff.predict.fusion import fused
from bakeoff.predict.predictor import Predictor


class Wrapping:
    """What a predictor made of others has from the first of them."""

    def __init__(self, inner: Predictor) -> None:
        """Remember the predictor."""
        self.inner = inner

    @property
    def task(self) -> TaskName:
        """What kind of prediction it makes."""
        return self.inner.task

    @property
    def classes(self) -> tuple[str, ...]:
        """The canonical label map."""
        return self.inner.classes

    @property
    def size(self) -> int:
        """The input side in pixels."""
        return self.inner.size

    @property
    def resize(self) -> Resize:
        """How an image is brought to the input side."""
        return self.inner.resize

    @property
    def batch(self) -> int:
        """How many images it labels at once unless someone says otherwise."""
        return self.inner.batch


class Flipped(Wrapping):
    """Test-time augmentation: every image as it is and mirrored left to right, the two predictions fused."""

    def __call__(self, pixels: NDArray[np.uint8]) -> Sequence[Target]:
        """Return a prediction per image of `pixels` (B, S, S, 3) uint8 RGB, in the frame of these images."""
        plain = self.inner(pixels)
        turned = self.inner(np.ascontiguousarray(pixels[:, :, ::-1]))
        return [fused((one, mirrored(other))) for one, other in zip(plain, turned, strict=True)]


class Ensemble(Wrapping):
    """Several networks of one task as one: their predictions of every image fused.

    Raises UsageError when they do not agree in task, classes, input side and resize policy, or when there is none.
    """

    def __init__(self, members: Sequence[Predictor]) -> None:
        """Compare the members."""
        if not members:
            raise UsageError("an ensemble needs a model at least")
        super().__init__(members[0])
        self.members = tuple(members)
        for member in members[1:]:
            for name in ("task", "classes", "size", "resize"):
                here, there = getattr(members[0], name), getattr(member, name)
                if here != there:
                    raise UsageError(f"models of an ensemble must have the same {name}; these have {here} and {there}")

    def __call__(self, pixels: NDArray[np.uint8]) -> Sequence[Target]:
        """Return a prediction per image of `pixels` (B, S, S, 3) uint8 RGB, in the frame of these images."""
        found = [member(pixels) for member in self.members]
        return [fused(predictions) for predictions in zip(*found, strict=True)]


def mirrored(prediction: Target) -> Target:
    """Return the prediction of a mirrored image as one of the image; labels are returned as they are."""
    if isinstance(prediction, LabelMap):
        scores = None if prediction.scores is None else prediction.scores[..., ::-1]
        return LabelMap(np.ascontiguousarray(prediction.pixels[:, ::-1]), scores)
    if not isinstance(prediction, Boxes):
        return prediction
    boxes = prediction.xyxy[:, [2, 1, 0, 3]] * (-1, 1, -1, 1) + (prediction.size[0], 0, prediction.size[0], 0)
    if not isinstance(prediction, Instances):
        return replace(prediction, xyxy=boxes)
    masks = tuple(to_runs(to_pixels(mask, prediction.size)[:, ::-1], prediction.size) for mask in prediction.masks)
    return replace(prediction, xyxy=boxes, masks=masks)
