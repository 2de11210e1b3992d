"""Models: a spec in, a network out; one module per supplier."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any, Protocol, cast, get_args

from torch import Tensor

from bakeoff.data.dataset import TaskName
from bakeoff.errors import BakeoffError, UsageError, nearest
from bakeoff.models import (
    classics,
    from_detectors,
    from_smp,
    from_timm,
    from_torchvision,
    from_transformers,
    python_file,
    small,
)
from bakeoff.models.head import probe
from bakeoff.models.spec import Card, ModelSpec, Network

TASK_NAMES: tuple[TaskName, ...] = get_args(TaskName)


class Family(Protocol):
    """What every supplier's module offers."""

    NAME: str

    def names(self, task: TaskName = "classification") -> tuple[str, ...]:
        """Return the architectures that can be named for a task; () where the family has none."""
        ...

    def has(self, arch: str, task: TaskName) -> bool:
        """Say whether an architecture can be named for a task, those too that names() does not spell out."""
        ...

    def build(self, spec: ModelSpec, classes: int, size: int, task: TaskName = "classification") -> Network:
        """Build a network for `size` pixels."""
        ...

    def card(self, arch: str) -> Card:
        """Return where the published weights come from."""
        ...


def _family(module: ModuleType) -> Family:
    return cast(Family, module)


# a bare architecture is looked up in this order; python files name themselves by ".py:"
FAMILIES: tuple[Family, ...] = tuple(
    map(
        _family,
        (small, from_torchvision, from_timm, from_smp, classics, from_detectors, from_transformers, python_file),
    )
)


def find(arch: str, source: str | None = None, task: TaskName | None = None) -> Family:
    """Return the family that has an architecture: the named one, else the first that knows the exact name.

    `task` None: of any task.  Raises UsageError with the nearest name when there is none.
    """
    tasks = TASK_NAMES if task is None else (task,)
    searched = [family for family in FAMILIES if source in (None, family.NAME)]
    for family in searched:
        if source == python_file.NAME or any(family.has(arch, one) for one in tasks):
            return family
    known = [name for family in searched for one in tasks for name in family.names(one)]
    elsewhere = [f"{family.NAME}:{arch}" for family in FAMILIES if any(family.has(arch, one) for one in tasks)]
    others = [one for one in TASK_NAMES if any(family.has(arch, one) for family in searched)]
    hint = f" (there is {', '.join(elsewhere)})" if elsewhere else nearest(arch, known)
    hint = f" (it is for {', '.join(others)})" if others else hint
    where = f"{source} has no" if source else "there is no"
    raise UsageError(f"{where} model {arch!r}{f' for {task}' if task else ''}{hint}; bakeoff models lists them")


def resolve(spec: ModelSpec, task: TaskName | None = None) -> ModelSpec:
    """Return the spec with its source filled in; small networks, which have no published weights, get "none"."""
    if spec.source is not None:
        find(spec.arch, spec.source, task)
        return spec
    family = find(spec.arch, task=task)
    changes = {"source": family.NAME}
    if family.NAME == small.NAME and spec.weights == "pretrained":
        changes["weights"] = "none"
    return spec.model_copy(update=changes)


def build(spec: ModelSpec, classes: int, size: int, task: TaskName = "classification") -> Network:
    """Build the network of a spec for `classes` classes and square images of `size` pixels; runs it once to check.

    What it gives, per task, is described at spec.Network.

    Random weights come from torch's global generator: seed it first.  Raises UsageError (unknown name, options or size
    that do not fit), ResourceError (pretrained weights that cannot be had), WeightsMismatch (a file that does not fit).
    """
    if classes < 1:
        raise UsageError(f"a network needs at least one class, not {classes}")
    spec = resolve(spec, task)
    name = f"{spec.source}:{spec.arch}"
    try:
        network = find(spec.arch, spec.source, task).build(spec, classes, size, task)
        complaint = complain(probe(network, size), classes, size, task)
    except BakeoffError as error:
        if spec.arch in str(error):
            raise
        raise type(error)(f"{name}: {error}") from error
    if complaint:
        raise UsageError(f"{name}: {complaint}")
    if spec.licence and network.card.licence is None and spec.weights != "none":
        network.card = replace(network.card, licence=f"{spec.licence} (declared)")
    return network


def complain(output: Any, classes: int, size: int, task: TaskName) -> str | None:
    """Say what is wrong with a network's output for one image; None when nothing is."""
    if task in ("classification", "semantic"):
        shape = (1, classes) if task == "classification" else (1, classes, size, size)
        if not isinstance(output, Tensor):
            return f"returned {type(output).__name__} for one image; expected a tensor of shape {shape}"
        found = tuple(output.shape)
        return None if found == shape else f"returned an output of shape {found} for one image; expected {shape}"
    keys = ("boxes", "labels", "scores", *(("masks",) if task == "instance" else ()))
    if not isinstance(output, list) or len(output) != 1 or not isinstance(output[0], dict):
        return f"returned {type(output).__name__} for one image; expected a list with a dictionary of {', '.join(keys)}"
    missing = [key for key in keys if key not in output[0]]
    return f"returned a dictionary without {', '.join(missing)}" if missing else None
