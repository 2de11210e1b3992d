"""Skip connections: what a decoder takes from within the encoder, past the bottleneck, and a way to cut one.

A network whose skips carry nothing trains, and looks almost as good as one whose skips work: cut each of them, and the
output must change.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bakeoff.models.spec import Network

TINY = 1e-12


@dataclass(frozen=True)
class Skip:
    """One tensor that is handed past the bottleneck: `module`, a path below the body, returns it under `key`.

    A module returns a list (the key is a place), a dictionary, or a tuple whose first item is one of the two.
    """

    name: str
    module: str
    key: int | str


class Connected(nn.Module):
    """A body that names its skip connections, those of the finest maps first; () for a plain chain of layers."""

    skips: tuple[Skip, ...] = ()


def skips(network: Network) -> tuple[Skip, ...]:
    """Return a network's skip connections; () where it has none, or is a user's own, of which nothing is known."""
    return network.body.skips if isinstance(network.body, Connected) else ()


@contextmanager
def cut(network: Network, skip: Skip) -> Iterator[None]:
    """Hand zeros over in the place of one skip connection, in every forward pass inside the `with` block."""

    def replace(_module: nn.Module, _given: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (without(output[0], skip.key), *output[1:])
        return without(output, skip.key)

    handle = network.body.get_submodule(skip.module).register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()


def effects(network: Network, images: Tensor) -> dict[str, float]:
    """Return by how much cutting each skip connection changes the logits (B, K, H, W) for images (B, 3, H, W).

    It is the largest change as a share of the logits' standard deviation: 0 for a connection that carries nothing.
    Batch norms take the statistics of these images, so that a network that has not been trained has values of the
    order of one in all of its maps; nothing else is random, and the network itself is left as it is.
    """
    twin = copy.deepcopy(network).eval()
    for module in twin.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()
    found = {}
    with torch.no_grad():
        whole = twin(images)
        for skip in skips(twin):
            with cut(twin, skip):
                found[skip.name] = float((twin(images) - whole).abs().max() / whole.std().clamp(min=TINY))
    return found


def without(maps: Any, key: int | str) -> Any:
    """Return a copy of a list or dictionary of tensors with zeros under one key."""
    changed: Any = dict(maps) if isinstance(maps, dict) else list(maps)
    kept: Tensor = changed[key]
    changed[key] = torch.zeros_like(kept)
    return changed
