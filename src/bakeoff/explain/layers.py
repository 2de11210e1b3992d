"""The layers of a network that keep places apart: their activations and gradients as maps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bakeoff.errors import UsageError, nearest
from bakeoff.explain.explainer import Map
from bakeoff.explain.subject import Subject
from bakeoff.models.groups import NORMS
from bakeoff.models.spec import Network

MOST_TOKENS = 5  # tokens in front of a grid that belong to no place: class, distillation, registers
PADDED = 32  # detectors of torchvision's pad to a multiple of it


@dataclass(frozen=True)
class Layer:
    """A module of the body by its name, its `activation` (C, h, w) for one image and the `gradient` of a value.

    `offered`: outside the head, with parameters of its own, so that it may be taken where no layer is named.
    """

    name: str
    offered: bool
    activation: Tensor
    gradient: Tensor


def as_grid(output: Any) -> Tensor | None:
    """See one image's output as (C, h, w): a map, one with channels last, or tokens on a square grid; None if not one.

    >>> as_grid(torch.zeros(1, 197, 192)).shape
    torch.Size([192, 14, 14])
    """
    if not isinstance(output, Tensor) or not output.is_floating_point() or output.shape[0] != 1:
        return None
    if output.ndim == 4:
        _, first, second, third = output.shape
        if second == third > 1:
            return output[0]
        return output[0].permute(2, 0, 1) if first == second > 1 else None
    if output.ndim != 3:
        return None
    side = math.isqrt(output.shape[1])
    extra = output.shape[1] - side * side
    if side < 2 or extra > MOST_TOKENS:
        return None
    return output[0, extra:].T.reshape(-1, side, side)


def grids(network: Network, image: Tensor) -> tuple[str, ...]:
    """Return the names of the modules whose output keeps places apart, in the order in which they end."""
    with torch.no_grad(), recorded(network, lambda _: True) as outputs:
        network(image)
    return tuple(name for name, output in outputs.items() if as_grid(output) is not None)


def offered(network: Network, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the modules among these that a method may choose by itself.

    They have parameters, none of them the head's.  Inside transformer blocks only norms count: what attention and the
    perceptron add is no whole state of the tokens.
    """
    head, modules = set(network.groups[-1]), dict(network.body.named_modules())
    found = []
    for name in names:
        own = [f"{name}.{parameter}" for parameter, _ in modules[name].named_parameters()]
        inner = isinstance(modules[name], nn.Linear) or any("attn" in part for part in name.split("."))
        if own and head.isdisjoint(own) and (not inner or isinstance(modules[name], NORMS)):
            found.append(name)
    return tuple(found)


def observe(network: Network, subject: Subject, image: Tensor) -> list[Layer]:
    """Return all layers that keep places apart with activations and gradients of the subject's value, in order."""
    watched = image.detach().clone().requires_grad_()
    with torch.enable_grad(), recorded(network, lambda output: as_grid(output) is not None) as outputs:
        value = subject.value(network, watched)
        names, tensors = tuple(outputs), list(outputs.values())
        gradients = torch.autograd.grad(value.sum(), tensors, allow_unused=True)
    chosen = set(offered(network, names))
    found = []
    for name, tensor, gradient in zip(names, tensors, gradients, strict=True):
        slope = as_grid(torch.zeros_like(tensor) if gradient is None else gradient)
        activation = as_grid(tensor)
        if activation is not None and slope is not None:
            found.append(Layer(name, name in chosen, activation.detach().float(), slope.detach().float()))
    return found


def find_layer(network: Network, subject: Subject, image: Tensor, wanted: str = "") -> Layer:
    """Return the layer of this name; without one, the last in front of the head on whose places the value depends.

    In a transformer that classifies by its class token the last block's output is none: nothing follows that looks at
    the other tokens.  Raises UsageError with the nearest name for a layer that there is not.
    """
    layers = observe(network, subject, image)
    if wanted:
        for layer in layers:
            if layer.name == wanted:
                return layer
        raise no_layer(wanted, [layer.name for layer in layers])
    able = [layer for layer in layers if layer.offered] or layers
    if not able:
        raise UsageError("no layer of the network keeps places apart")
    return next((layer for layer in reversed(able) if bool(layer.gradient.any())), able[-1])


def no_layer(wanted: str, names: Sequence[str], what: str = "with a feature map") -> UsageError:
    """Return the error for a layer that there is not among those that there are, with the nearest name."""
    last = ", ".join(names[-5:])
    return UsageError(f"the network has no layer {wanted!r} {what}{nearest(wanted, names)}; the last ones are {last}")


def find_name(network: Network, image: Tensor, wanted: str = "") -> str:
    """Return the name of a layer with a feature map: the one that is wanted, else the last in front of the head.

    Raises UsageError with the nearest name for a layer that there is not.
    """
    names = grids(network, image)
    if wanted and wanted not in names:
        raise no_layer(wanted, names)
    if not names:
        raise UsageError("no layer of the network keeps places apart")
    return wanted or (offered(network, names) or names)[-1]


def output_of(network: Network, name: str, images: Tensor) -> Tensor:
    """Return what a module of the body gives for images (B, 3, S, S); the last time where it runs more than once."""
    outputs: list[Tensor] = []

    def hook(_module: nn.Module, _given: Any, output: Tensor) -> Tensor:
        outputs.append(output)
        return output.clone()  # what follows may write over it

    handle = network.body.get_submodule(name).register_forward_hook(hook)
    try:
        network(images)
    finally:
        handle.remove()
    return outputs[-1]


def channel_of(wanted: int, grid: Tensor, layer: str) -> int:
    """Return a channel of a layer's map (C, h, w); UsageError, with what there is, for one that there is not."""
    if not 0 <= wanted < len(grid):
        raise UsageError(f"layer {layer} has {len(grid)} channels, 0 to {len(grid) - 1}, and no channel {wanted}")
    return wanted


def enlarged(grid: Tensor, network: Network, side: int) -> Map:
    """Bring a map (h, w) to the image's `side`, bilinearly; what lies over padding at the right and below is cut."""
    multiple = int(getattr(network.body, "multiple", PADDED if hasattr(network.body, "trace") else 1))
    padded = side + -side % multiple
    whole = grid.shape[-1] * math.ceil(padded / grid.shape[-1])
    large = F.interpolate(grid[None, None].float(), (whole, whole), mode="bilinear", align_corners=False)
    return np.ascontiguousarray(large[0, 0, :side, :side].cpu().numpy(), dtype=np.float32)


@contextmanager
def recorded(network: Network, wanted: Callable[[Any], bool]) -> Iterator[dict[str, Any]]:
    """Keep the outputs of the body's modules by name, in the order in which the modules end; the last call counts.

    What follows gets a copy, since activations may write over what they are given.
    """
    outputs: dict[str, Any] = {}

    def keep(name: str) -> Callable[[nn.Module, Any, Any], Any]:
        def hook(_module: nn.Module, _given: Any, output: Any) -> Any:
            if not wanted(output):
                return None
            outputs.pop(name, None)
            outputs[name] = output
            return output.clone() if isinstance(output, Tensor) else None

        return hook

    named = [(name, module) for name, module in network.body.named_modules() if name]
    handles = [module.register_forward_hook(keep(name)) for name, module in named]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
