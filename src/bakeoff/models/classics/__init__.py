"""Networks of the literature that no supplier has."""

from __future__ import annotations

from bakeoff.data.dataset import TaskName
from bakeoff.models.classics import segnet
from bakeoff.models.spec import Card, ModelSpec, Network

NAME = "classics"


def names(task: TaskName = "classification") -> tuple[str, ...]:
    """Return the classics for a task."""
    return segnet.NAMES if task == "semantic" else ()


def has(arch: str, task: TaskName) -> bool:
    """Say whether an architecture can be named for a task."""
    return arch in names(task)


def card(arch: str) -> Card:
    """Return where the published weights come from."""
    return segnet.card(arch)


def build(spec: ModelSpec, classes: int, size: int, task: TaskName = "classification") -> Network:  # noqa: ARG001
    """Build a classic; see its module."""
    return segnet.build(spec, classes)
