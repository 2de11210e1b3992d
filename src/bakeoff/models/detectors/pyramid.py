"""From one network's feature maps to the maps that detection heads look at."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.ssdlite import _extra_block, _normal_init
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from bakeoff.errors import UsageError
from bakeoff.models.head import probe

Norm = Literal["none", "batch", "group"]
NARROW = (512, 256, 256, 128)  # channels of SSDLite's extra maps (Sandler et al. 2018); further ones as the last
GROUPS = 32  # of a group norm, as in the detectors' papers


class Pyramid(nn.Module):
    """A trunk that gives feature maps, and a neck that makes of them those for the heads.

    `strides` are the input's pixels per cell of each map, finest first; `widths` their channels.  `out_channels` is
    torchvision's name for the channels where they are all the same.
    """

    def __init__(self, trunk: nn.Module, neck: nn.Module, size: int) -> None:
        """Join the two and measure what comes out for images of `size` pixels, a multiple of 32."""
        super().__init__()
        self.trunk, self.neck = trunk, neck
        maps = list(probe(self, size).values())
        self.widths = [found.shape[1] for found in maps]
        # a map of 3 cells over 160 pixels has the stride 64: the side of a coarse map is rounded up
        self.strides = [2 ** math.ceil(math.log2(size / found.shape[-1])) for found in maps]
        self.out_channels = self.widths[0]

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """(B, 3, H, W) -> maps by name."""
        maps = self.trunk(images)
        found: OrderedDict[str, Tensor] = self.neck(OrderedDict((str(i), one) for i, one in enumerate(maps)))
        return found


class Extra(ExtraFPNBlock):  # type: ignore[misc]  # torchvision is not typed
    """Coarser maps on top of a pyramid, each a strided convolution of the one below (RetinaNet's P6, P7)."""

    def __init__(self, channels: int, count: int) -> None:
        """Set the number of maps."""
        super().__init__()
        self.steps = nn.ModuleList(nn.Conv2d(channels, channels, 3, 2, 1) for _ in range(count))
        for step in self.steps:
            nn.init.kaiming_uniform_(step.get_parameter("weight"), a=1)
            nn.init.zeros_(step.get_parameter("bias"))

    def forward(self, p: list[Tensor], c: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:  # noqa: ARG002
        """Append the maps and their names."""
        for number, step in enumerate(self.steps):
            p.append(step(F.relu(p[-1]) if number else p[-1]))
            names.append(f"extra{number}")
        return p, names


class Pooled(ExtraFPNBlock):  # type: ignore[misc]
    """One coarser map, every other cell of the last: what region proposals add for large objects."""

    def forward(self, p: list[Tensor], c: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:  # noqa: ARG002
        """Append the map and its name."""
        p.append(F.max_pool2d(p[-1], 1, 2, 0))
        names.append("pool")
        return p, names


class Extended(nn.Module):
    """The trunk's own maps and SSDLite's extra blocks on top, down to a single cell."""

    def __init__(self, channels: int, count: int) -> None:
        """Add `count` maps behind the trunk's last, which has `channels`."""
        super().__init__()
        self.extra = nn.ModuleList()
        norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
        for number in range(count):
            width = NARROW[min(number, len(NARROW) - 1)]
            self.extra.append(_extra_block(channels, width, norm))
            channels = width
        _normal_init(self.extra)

    def forward(self, maps: OrderedDict[str, Tensor]) -> OrderedDict[str, Tensor]:
        """Append the maps."""
        last = next(reversed(maps.values()))
        for number, block in enumerate(self.extra):
            last = maps[f"extra{number}"] = block(last)
        return maps


class Rescaled(nn.Module):
    """A plain transformer's one map brought to several strides (Li et al. 2022, the simple feature pyramid)."""

    def __init__(self, trunk: nn.Module, channels: int, stride: int, strides: Sequence[int]) -> None:
        """Up by transposed convolutions with stride 2, down by pooling."""
        super().__init__()
        self.trunk = trunk
        self.steps = nn.ModuleList()
        for wanted in strides:
            layers: list[nn.Module] = []
            while wanted < stride:
                layers += [nn.ConvTranspose2d(channels, channels, 2, 2), nn.GroupNorm(1, channels), nn.GELU()]
                wanted *= 2
            while wanted > stride:
                layers.append(nn.MaxPool2d(2))
                wanted //= 2
            self.steps.append(nn.Sequential(*layers))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Take the trunk's last map and rescale it."""
        last = self.trunk(images)[-1]
        return [step(last) for step in self.steps]


def feature_pyramid(widths: Sequence[int], channels: int, norm: Norm, extra: int | Literal["pool"]) -> nn.Module:
    """Return a feature pyramid network (Lin et al. 2017) on maps of these widths, with `extra` coarser maps on top."""
    if norm == "group" and channels % GROUPS:
        raise UsageError(f'channels = {channels} is no multiple of {GROUPS}, which norm = "group" needs')
    block = Pooled() if extra == "pool" else Extra(channels, extra) if extra else None
    return cast(nn.Module, FeaturePyramidNetwork(list(widths), channels, block, norm_layer=norms(norm)))


def norms(norm: Norm) -> Callable[..., nn.Module] | None:
    """Return the norm that stands between a head's convolutions and their ReLU."""
    if norm == "none":
        return None
    return nn.BatchNorm2d if norm == "batch" else partial(nn.GroupNorm, GROUPS)


def widths_of(trunk: nn.Module, size: int) -> list[int]:
    """Measure the channels of a trunk's maps."""
    with torch.no_grad():
        return [found.shape[1] for found in probe(trunk, size)]
