"""GoogLeNet as it was trained (Szegedy et al. 2015): with two auxiliary classifiers, whose losses count 0.3 each.

They bring gradients into the middle of a network of 22 layers that had no batch norm; in use they are not run.  It is
torchvision's googlenet, which has batch norm, with its option aux_logits: beside the same network without, it shows
what they still buy.
"""

from __future__ import annotations

from bakeoff.errors import UsageError
from bakeoff.models import from_torchvision
from bakeoff.models.spec import Card, ModelSpec, Network

NAMES = ("googlenet_aux",)
SUPPLIER = "googlenet"


def card() -> Card:
    """Return where the published weights come from; those of the auxiliary classifiers were never trained."""
    return from_torchvision.card(SUPPLIER)


def build(spec: ModelSpec, classes: int, size: int) -> Network:
    """Build torchvision's googlenet with auxiliary outputs; raises what from_torchvision.build does."""
    if "aux_logits" in spec.options:
        raise UsageError(f"classics:{spec.arch} has auxiliary outputs; without them it is torchvision:{SUPPLIER}")
    changed = {"arch": SUPPLIER, "source": from_torchvision.NAME, "options": {**spec.options, "aux_logits": True}}
    return from_torchvision.build(spec.model_copy(update=changed), classes, size)
