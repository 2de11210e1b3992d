"""The filters of a network's first convolution as one picture; of a vision transformer those that embed patches."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bakeoff.data.dataset import TaskName
from bakeoff.explain.explainer import Explanation, Options, Picture
from bakeoff.explain.paint import Pixels, around_grey
from bakeoff.explain.subject import Subject
from bakeoff.models.spec import Network

NAME = "filters"
TITLE = "First filters"
SOURCE = "Zeiler and Fergus 2014, Visualizing and Understanding Convolutional Networks, figure 6"
SIDE = 320  # pixels of the picture at most
MOST = 20  # filters in a row
WHITE = 255


def applies(network: Network, task: TaskName, image: Tensor) -> str:  # noqa: ARG001
    """Its first layer must be a convolution of more than one pixel."""
    first = first_layer(network, image)
    if first is None or not isinstance(first[1], nn.Conv2d):
        return "its first layer is no convolution"
    return "" if max(first[1].kernel_size) > 1 else f"the filters of its first layer, {first[0]}, have one pixel"


def explain(network: Network, image: Tensor, subject: Subject, options: Options) -> Explanation:  # noqa: ARG001
    """Return a picture of the filters, each with a contrast of its own around grey, as they see the normalised image.

    Filters of three channels are in colour, of others their mean over the channels is grey.  Where there are too many
    for a picture, the strongest are shown in their order.
    """
    first = first_layer(network, image)
    assert first is not None
    name, layer = first
    weights = layer.weight.detach().float().cpu()
    count, channels, height, width = weights.shape
    across = min(MOST, math.isqrt(count - 1) + 1, max(1, SIDE // (width + 1)))
    shown = min(count, across * across)
    kept = weights.flatten(1).norm(dim=1).argsort(descending=True, stable=True)[:shown].sort().values
    colours = weights[kept] if channels == 3 else weights[kept].mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    tiles = [around_grey(one.permute(1, 2, 0).numpy()) for one in colours]
    some = "" if shown == count else f", the {shown} strongest of which are shown"
    note = f"layer {name}: {count} filters of {height} x {width} pixels{some}; the same for every image"
    return Explanation(
        None, pictures=(Picture(grid_of(tiles, across), "each filter around grey"),), note=note, layer=name
    )


def first_layer(network: Network, image: Tensor) -> tuple[str, Any] | None:
    """Return the name and the module of the first layer that runs and has weights: a convolution or a linear one."""
    met: list[tuple[str, nn.Module]] = []

    def note(name: str) -> Any:
        return lambda module, _given: met.append((name, module))

    handles = [
        module.register_forward_pre_hook(note(name))
        for name, module in network.body.named_modules()
        if getattr(getattr(module, "weight", None), "ndim", 0) > 1
    ]
    try:
        with torch.no_grad():
            network(image)
    finally:
        for handle in handles:
            handle.remove()
    return met[0] if met else None


def grid_of(tiles: list[NDArray[np.uint8]], across: int) -> Pixels:
    """Lay pictures of one size in rows, a white pixel between them."""
    height, width = tiles[0].shape[:2]
    rows = math.ceil(len(tiles) / across)
    sheet = np.full((rows * (height + 1) - 1, across * (width + 1) - 1, 3), WHITE, np.uint8)
    for place, tile in enumerate(tiles):
        top, left = (place // across) * (height + 1), (place % across) * (width + 1)
        sheet[top : top + height, left : left + width] = tile
    return sheet
