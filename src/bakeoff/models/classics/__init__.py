"""Networks of the literature that no supplier has."""

from __future__ import annotations

from collections.abc import Callable

from bakeoff.data.dataset import TaskName
from bakeoff.models import from_torchvision
from bakeoff.models.classics import googlenet, plain, segnet, zfnet
from bakeoff.models.spec import Card, ModelSpec, Network

NAME = "classics"
CLASSIFIERS: dict[str, Callable[[ModelSpec, int, int], Network]] = {
    **dict.fromkeys(googlenet.NAMES, googlenet.build),
    **dict.fromkeys(plain.NAMES, plain.build),
    **dict.fromkeys(zfnet.NAMES, zfnet.build),
}
DETECTORS = ("rcnn", "rcnn_small")


def names(task: TaskName = "classification") -> tuple[str, ...]:
    """Return the classics for a task."""
    listed: dict[TaskName, tuple[str, ...]]
    listed = {"classification": tuple(CLASSIFIERS), "semantic": segnet.NAMES, "detection": DETECTORS}
    return listed.get(task, ())


def has(arch: str, task: TaskName) -> bool:
    """Say whether an architecture can be named for a task."""
    return arch in names(task)


def card(arch: str) -> Card:
    """Return where the published weights come from."""
    if arch in googlenet.NAMES:
        return googlenet.card()
    if arch == "rcnn":
        return from_torchvision.card("alexnet")
    return segnet.card(arch) if arch in segnet.NAMES else Card()


def build(spec: ModelSpec, classes: int, size: int, task: TaskName = "classification") -> Network:
    """Build a classic; see its module."""
    if task == "semantic":
        return segnet.build(spec, classes)
    if task == "detection":
        from bakeoff.models.classics import rcnn  # imports torchvision

        return rcnn.build(spec, classes, size)
    return CLASSIFIERS[spec.arch](spec, classes, size)
