"""Skip connections: what a decoder takes from within the encoder, past the bottleneck, and a way to cut one.

A network whose skips carry nothing trains, and looks almost as good as one whose skips work: cut each of them, and the
output must change.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bakeoff.models.spec import Network


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


def without(maps: Any, key: int | str) -> Any:
    """Return a copy of a list or dictionary of tensors with zeros under one key."""
    changed: Any = dict(maps) if isinstance(maps, dict) else list(maps)
    kept: Tensor = changed[key]
    changed[key] = torch.zeros_like(kept)
    return changed
