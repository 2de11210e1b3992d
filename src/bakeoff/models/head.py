"""Heads: what stands between a trunk's feature map and the logits."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from bakeoff.errors import UsageError
from bakeoff.models.spec import Head

Pooling = Literal["default", "avg", "max", "avgmax", "flatten"]


class Pool(nn.Module):
    """Feature map (B, C, H, W), tokens (B, N, C) or features (B, C) -> features (B, C'); features pass unchanged.

    "avgmax" is the mean of the average and the maximum, as in timm; "flatten" keeps every value.  `channels_last` is
    for maps (B, H, W, C); the first `prefix` tokens (class token, registers) are left out of the pooling.
    """

    def __init__(self, kind: Pooling = "avg", channels_last: bool = False, prefix: int = 0) -> None:
        """Set how to pool and how the map is laid out."""
        super().__init__()
        self.kind, self.channels_last, self.prefix = kind, channels_last, prefix

    def forward(self, features: Tensor) -> Tensor:
        """Pool everything that is neither batch nor channel."""
        if features.ndim == 2:
            return features
        if features.ndim == 3:
            features = features[:, self.prefix :].transpose(1, 2)
        elif self.channels_last:
            features = features.permute(0, 3, 1, 2)
        return self._pool(features.flatten(2))

    def _pool(self, values: Tensor) -> Tensor:
        """Reduce (B, C, positions)."""
        if self.kind == "flatten":
            return values.flatten(1)
        if self.kind == "max":
            return values.amax(2)
        if self.kind == "avgmax":
            return (values.mean(2) + values.amax(2)) / 2
        return values.mean(2)

    def extra_repr(self) -> str:
        """Show the kind in the printed module."""
        return self.kind


class Headed(nn.Module):
    """A trunk, a pooling, and the layers up to the logits."""

    def __init__(self, trunk: nn.Module, pool: Pool, head: nn.Module) -> None:
        """Join the three."""
        super().__init__()
        self.trunk, self.pool, self.head = trunk, pool, head

    def forward(self, images: Tensor) -> Tensor:
        """Run the three in turn: (B, 3, H, W) -> (B, classes)."""
        logits: Tensor = self.head(self.pool(self.trunk(images)))
        return logits


def classifier(features: int, head: Head, classes: int) -> nn.Module:
    """Return linear, ReLU, dropout for each hidden width, then the linear classifier (plain when nothing is asked)."""
    if not head.hidden and not head.dropout:
        return nn.Linear(features, classes)
    layers: list[nn.Module] = [] if head.hidden else [nn.Dropout(head.dropout)]
    for width in head.hidden:
        layers += [nn.Linear(features, width), nn.ReLU(inplace=True)]
        layers += [nn.Dropout(head.dropout)] if head.dropout else []
        features = width
    return nn.Sequential(*layers, nn.Linear(features, classes))


def attach(trunk: nn.Module, pool: Pool, head: Head, classes: int, size: int) -> Headed:
    """Put a pooling and a classifier on a trunk; the number of features is measured with one image of `size` pixels.

    Raises UsageError when the trunk cannot take such an image, or when an explicit pooling finds no feature map.
    """
    features = probe(trunk, size)
    if not isinstance(features, Tensor):
        raise UsageError(f"the network returned {type(features).__name__}; expected one tensor")
    if features.ndim not in (2, 3, 4):
        raise UsageError(
            f"the trunk gives an output of shape {tuple(features.shape)}; expected a feature map or tokens"
        )
    if features.ndim == 2 and head.pool != "default":
        raise UsageError(f'the trunk has no feature map to pool (head.pool = "{head.pool}"); use head.pool = "default"')
    return Headed(trunk, pool, classifier(pool(features).shape[1], head, classes))


def probe(network: nn.Module, size: int) -> Any:
    """Return the output for one grey image of `size` pixels, in evaluation mode; modes are restored.

    Draws no random number.  Raises UsageError when the network cannot take such an image.
    """
    modes = [(module, module.training) for module in network.modules()]
    reference = next(network.parameters(), None)
    image = torch.zeros(1, 3, size, size, device=None if reference is None else reference.device)
    network.eval()
    try:
        with torch.no_grad():
            output = network(image)
    except (RuntimeError, ValueError, AssertionError, IndexError, TypeError, ZeroDivisionError) as error:
        raise UsageError(f"the network cannot take images of {size} x {size} pixels: {first_line(error)}") from error
    finally:
        for module, training in modes:
            module.training = training
    return output


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its type's name when it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
