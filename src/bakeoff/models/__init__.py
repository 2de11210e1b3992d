"""Models: a spec in, a network out; one module per supplier."""

from __future__ import annotations

from types import ModuleType
from typing import Protocol, cast

from bakeoff.errors import BakeoffError, UsageError, nearest
from bakeoff.models import from_timm, from_torchvision, python_file, small
from bakeoff.models.head import probe
from bakeoff.models.spec import Card, ModelSpec, Network


class Family(Protocol):
    """What every supplier's module offers."""

    NAME: str

    def names(self) -> tuple[str, ...]:
        """Return the architectures that can be named."""
        ...

    def build(self, spec: ModelSpec, classes: int, size: int) -> Network:
        """Build a network for `size` pixels."""
        ...

    def card(self, arch: str) -> Card:
        """Return where the published weights come from."""
        ...


def _family(module: ModuleType) -> Family:
    return cast(Family, module)


# a bare architecture is looked up in this order; python files name themselves by ".py:"
FAMILIES: tuple[Family, ...] = tuple(map(_family, (small, from_torchvision, from_timm, python_file)))


def find(arch: str, source: str | None = None) -> Family:
    """Return the family that has an architecture: the named one, else the first that knows the exact name.

    Raises UsageError with the nearest name when none does.
    """
    searched = [family for family in FAMILIES if source in (None, family.NAME)]
    for family in searched:
        if source == python_file.NAME or arch in family.names():
            return family
    known = [name for family in searched for name in family.names()]
    elsewhere = [f"{family.NAME}:{arch}" for family in FAMILIES if arch in family.names()]
    hint = f" (there is {', '.join(elsewhere)})" if elsewhere else nearest(arch, known)
    where = f"{source} has no" if source else "there is no"
    raise UsageError(f"{where} model {arch!r}{hint}; bakeoff models lists them")


def resolve(spec: ModelSpec) -> ModelSpec:
    """Return the spec with its source filled in; small networks, which have no published weights, get "none"."""
    if spec.source is not None:
        find(spec.arch, spec.source)
        return spec
    family = find(spec.arch)
    changes = {"source": family.NAME}
    if family.NAME == small.NAME and spec.weights == "pretrained":
        changes["weights"] = "none"
    return spec.model_copy(update=changes)


def build(spec: ModelSpec, classes: int, size: int) -> Network:
    """Build the network of a spec for `classes` classes and square images of `size` pixels; runs it once to check.

    Random weights come from torch's global generator: seed it first.  Raises UsageError (unknown name, options or size
    that do not fit), ResourceError (pretrained weights that cannot be had), WeightsMismatch (a file that does not fit).
    """
    if classes < 1:
        raise UsageError(f"a network needs at least one class, not {classes}")
    spec = resolve(spec)
    name = f"{spec.source}:{spec.arch}"
    try:
        network = find(spec.arch, spec.source).build(spec, classes, size)
        shape = tuple(probe(network, size).shape)
    except BakeoffError as error:
        if spec.arch in str(error):
            raise
        raise type(error)(f"{name}: {error}") from error
    if shape != (1, classes):
        raise UsageError(f"{name}: returned an output of shape {shape} for one image; expected (1, {classes})")
    return network
