"""Anchors: where boxes are expected, in float32 whatever the maps are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator

RATIOS = (0.5, 1.0, 2.0)  # height / width


class GridAnchors(AnchorGenerator):  # type: ignore[misc]  # torchvision is not typed
    """Boxes of `sizes` and `ratios` at every cell of maps with known strides.

    torchvision's own puts them at the cells' corners, which leaves the right and bottom of a small image with fewer,
    takes the strides from the maps' sides, which is wrong for coarse maps (3 cells over 160 pixels have the stride 64,
    not 53), and makes them in the maps' precision.
    """

    def __init__(self, sizes: Sequence[Sequence[float]], ratios: Sequence[float], strides: Sequence[int]) -> None:
        """One list of sizes (pixels) for each map."""
        super().__init__(tuple(tuple(one) for one in sizes), (tuple(ratios),) * len(sizes))
        self.strides = list(strides)
        for cell, stride in zip(self.cell_anchors, strides, strict=True):
            cell += stride / 2

    def forward(self, image_list: Any, feature_maps: list[Tensor]) -> list[Tensor]:
        """Return all anchors (N, 4), the same for each image."""
        device = feature_maps[0].device
        self.set_cell_anchors(torch.float32, device)
        steps = [[torch.tensor(stride, device=device)] * 2 for stride in self.strides]
        anchors = torch.cat(self.grid_anchors([found.shape[-2:] for found in feature_maps], steps))
        return [anchors] * len(image_list.image_sizes)


class InFloat32(nn.Module):
    """One of torchvision's anchor generators, which would make anchors in the maps' precision."""

    def __init__(self, generator: nn.Module) -> None:
        """Take it over."""
        super().__init__()
        self.generator = generator

    def forward(self, image_list: Any, feature_maps: list[Tensor]) -> list[Tensor]:
        """Return its anchors (N, 4) for each image; it looks at the shape of the maps alone."""
        shapes = [found.new_empty((), dtype=torch.float32).expand(found.shape) for found in feature_maps]
        anchors: list[Tensor] = self.generator(image_list, shapes)
        return anchors


def octaves(smallest: float, count: int, scales: int = 1) -> list[list[float]]:
    """Return the anchor sizes of `count` maps: twice as large from map to map, `scales` of them per octave.

    >>> octaves(8, 2)
    [[8.0], [16.0]]
    """
    return [[smallest * 2.0 ** (level + step / scales) for step in range(scales)] for level in range(count)]
