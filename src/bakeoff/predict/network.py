"""A trained network as a Predictor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bakeoff.data.dataset import TaskName
from bakeoff.data.decode import Resize
from bakeoff.data.targets import Target
from bakeoff.models.trained import Trained
from bakeoff.tasks import TASKS
from bakeoff.tasks.inference import PLAIN, Conditions, predict_pixels
from bakeoff.tasks.task import Task


class NetworkPredictor:
    """A trained network on a device, under the conditions (device, precision, memory layout) of an evaluation."""

    def __init__(self, model: Trained, conditions: Conditions = PLAIN) -> None:
        """Move the network to the device of the conditions."""
        self.model, self.conditions = model, conditions
        self._task: Task = TASKS[model.task](model.classes)
        model.network.to(conditions.device)

    @property
    def task(self) -> TaskName:
        """What kind of prediction it makes."""
        return self.model.task

    @property
    def classes(self) -> tuple[str, ...]:
        """The canonical label map."""
        return self.model.classes

    @property
    def size(self) -> int:
        """The input side in pixels."""
        return self.model.size

    @property
    def resize(self) -> Resize:
        """How an image is brought to the input side."""
        return self.model.resize

    @property
    def batch(self) -> int:
        """As many images at once as in evaluations of the task."""
        return self._task.batch

    def __call__(self, pixels: NDArray[np.uint8]) -> Sequence[Target]:
        """Return a prediction per image of `pixels` (B, S, S, 3) uint8 RGB, in the frame of these images."""
        return predict_pixels(self._task, self.model.network, pixels, self.conditions)
