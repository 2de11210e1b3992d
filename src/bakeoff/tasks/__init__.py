"""The tasks by name: each is one file with loss, predict, outcome and metrics."""

from collections.abc import Mapping

from bakeoff.tasks.classification import Classification

TASKS: Mapping[str, type[Classification]] = {"classification": Classification}
