"""The Task protocol: all that training and evaluation need to know about a task."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bakeoff.data.dataset import TaskName
from bakeoff.data.targets import Target

if TYPE_CHECKING:  # a report is made from outcomes alone: it should not wait for torch
    from torch import Tensor, nn

    from bakeoff.data.load import Batch

Row = dict[str, Any]  # the few numbers of one image from which every metric can be recomputed


@dataclass(frozen=True, eq=False)  # compared and hashed as the object it is: what was worked out of it can be kept
class Outcomes:
    """Outcomes of one network on n images, one array per quantity with leading dimension n.

    For classification: `truth` (n,) int64 and `scores` (n, classes) float32 probabilities.
    """

    ids: tuple[str, ...]
    classes: tuple[str, ...]
    columns: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.ids)

    def take(self, index: NDArray[np.intp] | Sequence[int]) -> Outcomes:
        """Return the outcomes at these positions, repeats allowed: what resampling needs."""
        rows = np.asarray(index, dtype=np.intp)
        ids = tuple(self.ids[i] for i in rows)
        return Outcomes(ids, self.classes, {name: column[rows] for name, column in self.columns.items()})


@dataclass(frozen=True)
class LossOptions:
    """What a recipe says about the training loss.

    `name` "default" is the task's own; `class_weights`, one per class, and `label_smoothing` are for tasks with a
    cross-entropy.
    """

    name: str = "default"
    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] | None = None


PLAIN_LOSS = LossOptions()


@dataclass(frozen=True)
class Metric:
    """A function of outcomes.  `per_image` (n,) is given where the metric is its mean, else None.

    `percent` metrics lie in 0..1 and are shown in points (x 100); the others are not negative.  `function` may return
    NaN where it is undefined.
    """

    title: str
    function: Callable[[Outcomes], float]
    per_image: Callable[[Outcomes], NDArray[np.float64]] | None = None
    higher_is_better: bool = True
    percent: bool = True

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and largest value that there can be; the latter is infinite for metrics that have none."""
        return (0.0, 1.0 if self.percent else math.inf)


class Task(Protocol):
    """Four functions and two names; nothing about optimisers, files or plots."""

    name: TaskName
    headline: str
    batch: int  # images predicted at once in an evaluation; fixed, another number rounds differently in the last digit
    validation_loss: str  # the metric that is the training loss on validation images, "" when none is
    table: Mapping[str, Metric]

    def loss(self, net: nn.Module, batch: Batch) -> Tensor:
        """Return the training loss of a batch (scalar)."""
        ...

    def predict(self, net: nn.Module, images: Tensor) -> Sequence[Target]:
        """Return one prediction per image (B, 3, H, W), float in 0..1, in the frame of these images."""
        ...

    def outcome(self, prediction: Any, target: Any) -> Row:
        """Return the numbers of one image from which every metric can be recomputed.

        Both are of the task's own kind of target, in frames that may differ in size: the target's is the one that
        counts.  Every value has the same shape for every image.
        """
        ...

    def metrics(self, outcomes: Outcomes) -> dict[str, float]:
        """Return every metric of the task's table."""
        ...

    def doubtful(self, runs: Sequence[Outcomes]) -> tuple[str, ...]:
        """Return the ids of images whose label the runs of all candidates together contradict; () where unknown."""
        ...
