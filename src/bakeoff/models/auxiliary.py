"""Auxiliary classifiers of torchvision's Inception networks: part of the loss while they train, nothing afterwards."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from bakeoff.errors import UsageError
from bakeoff.models.spec import Head, ModelSpec

SHARES = {"googlenet": 0.3, "inception_v3": 0.4}  # Szegedy et al. 2015, section 5; the second as its authors train it
PARTS = ("aux1", "aux2", "AuxLogits")  # under which names torchvision's networks keep them


def attach_losses(model: nn.Module, spec: ModelSpec) -> None:
    """Let a network with auxiliary classifiers give, while it trains, a list of (share of the loss, logits).

    The first is (1, its own logits); the task takes the weighted sum of their losses (see spec.Network).  In evaluation
    it gives its logits alone.  Nothing is done to a network without them.  Raises UsageError for a head that takes the
    place of the layers that they look at.
    """
    if not any(isinstance(getattr(model, part, None), nn.Module) for part in PARTS):
        return
    if spec.head.pool != Head().pool:
        raise UsageError(f'{spec.arch}: auxiliary outputs need head.pool = "default", not "{spec.head.pool}"')
    model.register_forward_hook(partial(_weighted, SHARES[spec.arch]))


def _weighted(share: float, _model: nn.Module, _given: Any, output: Any) -> Any:
    """Turn torchvision's named tuple (logits first) into a list of shares and logits; logits alone stay so."""
    if isinstance(output, Tensor):
        return output
    logits, *others = output
    return [(1.0, logits), *((share, other) for other in others)]
