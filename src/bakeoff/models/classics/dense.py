"""Dense classification as in OverFeat (Sermanet et al. 2014): a classifier slides over an image as one convolution.

A linear layer on a map of s x s cells is a convolution with a kernel of s x s, the layers after it are convolutions of
1 x 1.  So a classifier of windows becomes a network for images of any size, in which all windows share their work:

    twin = dense_twin(network, size)    # images (B, 3, H, W) -> logits (B, classes, rows, columns)
    maps = heat_maps(twin, image)       # classics/heat_maps.py: the probabilities of windows at several scales
    found = find(maps)                  # boxes, labels and scores
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bakeoff.errors import UsageError
from bakeoff.models.head import Headed, Pool, probe
from bakeoff.models.spec import Network

EXACT = 1e-5  # how far the twin's logits may lie from the classifier's, relative to the largest where that is above 1
REACH = 256  # pixels by which an image grows to measure the stride, a multiple of all usual ones


class DenseTwin(nn.Module):
    """images (B, 3, H, W), float in 0..1 -> logits (B, classes, rows, columns), one for each window of `size` pixels.

    Row i, column j is the window whose top left corner lies i x `stride` pixels down and j x `stride` to the right.  H
    and W are `size` at least.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: Network, trunk: nn.Module, layers: nn.Module, size: int, stride: int) -> None:
        """Join trunk and convolutions; `network` gives the normalisation."""
        super().__init__()
        self.trunk, self.layers, self.size, self.stride = trunk, layers, size, stride
        self.register_buffer("mean", network.mean, persistent=False)
        self.register_buffer("std", network.std, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Normalise, then run trunk and convolutions."""
        logits: Tensor = self.layers(self.trunk((images - self.mean) / self.std))
        return logits


def dense_twin(network: Network, size: int) -> DenseTwin:
    """Return the fully convolutional twin, in evaluation mode, of a classifier of images of `size` pixels.

    There is one where linear layers follow a feature map, flattened or pooled: AlexNet, VGG, ZFNet, ResNets, most of
    timm's, and every network with a head of its own (head.pool "flatten", "avg" or "max").  The twin has copies of the
    weights; `network` stays as it is.  Both are run on an image of that size: raises UsageError where their logits
    differ by more than 1e-5, relative to the largest where that is above 1, and where there is no such head.
    """
    own = copy.deepcopy(network).eval()
    trunk, pool, linear = _parts(own.body)
    maps = probe(trunk, size)
    if not isinstance(maps, Tensor) or maps.ndim != 4 or maps.shape[2] != maps.shape[3]:
        raise UsageError(f"the network has no dense twin: its trunk gives no square feature map at {size} pixels")
    layers = nn.Sequential(*_convolutions(pool, linear, maps.shape[1], maps.shape[2]))
    twin = DenseTwin(own, trunk, layers, size, _stride(trunk, size, maps.shape[2])).eval()
    image = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)).to(own.mean.device)
    with torch.inference_mode():
        one, other = own(image), twin(image)
    if other.shape != (*one.shape, 1, 1) or _apart(one, other.flatten(1)) > EXACT:
        raise UsageError("the network has no dense twin: not linear layers alone make logits of its pooled feature map")
    return twin


def _parts(body: Any) -> tuple[nn.Module, str, nn.Module]:
    """Return the trunk, how its map is pooled ("avg", "max", "flatten"), and what makes logits of that."""
    from bakeoff.models.from_torchvision import trunk_of  # takes the children of a model apart

    if isinstance(body, Headed) and isinstance(body.pool, Pool) and not body.pool.channels_last:
        return body.trunk, body.pool.kind, body.head
    head = getattr(body, "classifier", getattr(body, "fc", None))
    if isinstance(getattr(body, "avgpool", None), nn.AdaptiveAvgPool2d) and isinstance(head, nn.Module):
        return trunk_of(body), "avg", head
    if hasattr(body, "forward_features") and hasattr(body, "get_classifier"):
        return _TrunkOfTimm(body), "avg", body.get_classifier()
    raise UsageError(
        f"the network ({type(body).__name__}) has no dense twin: it needs a feature map, a pooling and linear layers; "
        'give it a head with pool = "flatten"'
    )


class _TrunkOfTimm(nn.Module):
    """What comes in front of the pooling of a network of timm's."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, images: Tensor) -> Tensor:
        body: Any = self.body
        maps: Tensor = body.forward_features(images)
        return maps


def _convolutions(pool: str, linear: nn.Module, channels: int, side: int) -> list[nn.Module]:
    """Return the linear layers as convolutions, the first over a map of `side` x `side` cells with its pooling."""
    listed = list(linear) if isinstance(linear, nn.Sequential) else [linear]
    layers: list[nn.Module] = []
    for layer in listed:
        if not isinstance(layer, nn.Linear):
            layers += [] if isinstance(layer, nn.Flatten) else [layer]
            continue
        if any(isinstance(before, nn.Conv2d) for before in layers):
            layers.append(_convolution(layer, layer.weight[:, :, None, None]))
            continue
        cells = math.isqrt(layer.in_features // channels)
        kernel = layer.weight.detach().view(len(layer.weight), channels, cells, cells)
        if cells == 1 and side > 1:
            layers.append(nn.MaxPool2d(side, 1) if pool == "max" else nn.AvgPool2d(side, 1))
        layers.append(_convolution(layer, kernel if cells in (1, side) else _through_pooling(kernel, side)))
    return layers


def _convolution(layer: nn.Linear, kernel: Tensor) -> nn.Conv2d:
    """Return a convolution with this kernel (outputs, channels, cells, cells) and the layer's bias."""
    with torch.device("meta"):
        made = nn.Conv2d(kernel.shape[1], kernel.shape[0], (kernel.shape[2], kernel.shape[3]))
    made.weight = nn.Parameter(kernel.detach().clone())
    made.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach().clone())
    return made


def _through_pooling(kernel: Tensor, side: int) -> Tensor:
    """Spread a kernel behind an average pooling over the `side` x `side` cells that are pooled: both are linear."""
    shares = F.adaptive_avg_pool1d(torch.eye(side, device=kernel.device)[:, None], kernel.shape[2])[:, 0]
    return torch.einsum("ocij,pi,qj->ocpq", kernel, shares, shares)


def _stride(trunk: nn.Module, size: int, side: int) -> int:
    """Measure by how many pixels the windows of neighbouring cells lie apart; nothing is computed."""
    larger = probe(copy.deepcopy(trunk).to("meta"), size + REACH).shape[2] - side
    if larger < 1 or REACH % larger:
        raise UsageError(f"the network has no dense twin: its map grows by {larger} cells over {REACH} pixels")
    return int(REACH // larger)


def _apart(one: Tensor, other: Tensor) -> float:
    """Return the largest difference, relative to the largest value where that is above 1."""
    return float((one - other).abs().max()) / max(1.0, float(one.abs().max()))
