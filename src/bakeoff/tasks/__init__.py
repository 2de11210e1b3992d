"""The tasks by name: each is one file with loss, predict, outcome and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from bakeoff.tasks.classification import Classification
from bakeoff.tasks.detection import Detection
from bakeoff.tasks.instance import Instance
from bakeoff.tasks.semantic import Semantic
from bakeoff.tasks.task import LossOptions, Task


class MakeTask(Protocol):
    """What the classes of the tasks are called with."""

    def __call__(self, classes: tuple[str, ...], loss: LossOptions = ...) -> Task:
        """Return the task for these classes.  Raises UsageError for options that it does not know."""
        ...


TASKS: Mapping[str, MakeTask] = {
    "classification": Classification,
    "semantic": Semantic,
    "detection": Detection,
    "instance": Instance,
}
