"""Small networks for images of 16 to 224 pixels, cheap enough to train on a laptop's processor."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bakeoff.data.dataset import TaskName
from bakeoff.errors import UsageError, nearest
from bakeoff.models import small_dense, small_detectors, weights
from bakeoff.models.blocks import Residual
from bakeoff.models.encoder_decoder import EncoderDecoder, refuse_head
from bakeoff.models.groups import from_children
from bakeoff.models.head import Pool, attach
from bakeoff.models.spec import Card, ModelSpec, Network

if TYPE_CHECKING:
    from bakeoff.models.detectors.adapter import Detector

NAME = "small"
LARGE = 96  # from this side on, the first layer divides it by four instead of two: cost follows the area
FINAL = 8  # the cnn halves its map until the side is at most this


def names(task: TaskName = "classification") -> tuple[str, ...]:
    """Return the names of the small networks."""
    if task == "semantic":
        return tuple(sorted(small_dense.NETWORKS))
    if task in ("detection", "instance"):
        return small_detectors.names(task)
    return tuple(sorted(TRUNKS)) if task == "classification" else ()


def has(arch: str, task: TaskName) -> bool:
    """Say whether an architecture can be named for a task."""
    return arch in names(task)


def card(arch: str) -> Card:  # noqa: ARG001
    """There are no published weights of the small networks."""
    return Card()


def build(spec: ModelSpec, classes: int, size: int, task: TaskName = "classification") -> Network:
    """Build a small network for images of `size` pixels; mean and std are 0.5.

    Raises UsageError for an unknown option or for pretrained weights, WeightsMismatch for a file that does not fit.
    """
    if spec.weights == "pretrained":
        raise UsageError(f'small:{spec.arch} has no published weights; use weights = "none" or a file')
    if task == "semantic":
        return _dense(spec, classes, size)
    if task != "classification":
        return _detector(spec, classes, size)
    pool = Pool("avg" if spec.head.pool == "default" else spec.head.pool)
    body = attach(_trunk(spec, size), pool, spec.head, classes, size)
    loaded = Card(pretraining="none")
    if spec.weights != "none":
        loaded = weights.load_file(body, spec.weights, ("head",))
    return Network(body, from_children(body, ("head",)), card=loaded)


def _dense(spec: ModelSpec, classes: int, size: int) -> Network:
    """Build a small network for label maps."""
    refuse_head(spec)
    body: EncoderDecoder = _called(small_dense.NETWORKS[spec.arch], spec, size=size, classes=classes)
    loaded = Card(pretraining="none")
    if spec.weights != "none":
        loaded = weights.load_file(body, spec.weights, ("segmentation_head",))
    return Network(body, body.groups(), card=loaded)


def _detector(spec: ModelSpec, classes: int, size: int) -> Network:
    """Build a small network for boxes or instances."""
    refuse_head(spec)
    body: Detector = _called(small_detectors.NETWORKS[spec.arch], spec, size=size, classes=classes)
    loaded = Card(pretraining="none")
    if spec.weights != "none":
        loaded = weights.load_file(body, spec.weights, small_detectors.HEAD)
    return Network(body, body.layer_groups(), card=loaded)


def mlp(size: int, hidden: int = 512) -> nn.Module:
    """One hidden layer on the raw pixels; with its classifier, the perceptron of the classic MNIST studies."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * size * size, hidden), nn.ReLU(inplace=True))


def cnn(size: int, width: int = 32) -> nn.Module:
    """A strided stem, then convolutions with batch norm and ReLU between poolings; widths `width`, x 2, x 4."""
    stride = 2 if size < LARGE else 4
    side = size // stride
    layers: list[nn.Module] = [_stem(width, stride), _conv(width, width)]
    layers += [nn.MaxPool2d(2), _conv(width, 2 * width), _conv(2 * width, 2 * width)]
    layers += [nn.MaxPool2d(2), _conv(2 * width, 4 * width)]
    side //= 4
    while side > FINAL:
        layers += [nn.MaxPool2d(2), _conv(4 * width, 4 * width)]
        side //= 2
    return _initialised(nn.Sequential(*layers))


def resnet(size: int, width: int = 32, blocks: int = 1) -> nn.Module:
    """A strided stem, then three stages of `blocks` residual blocks (four stages for large images)."""
    widths = [width, 2 * width, 4 * width] + ([4 * width] if size >= LARGE else [])
    layers: list[nn.Module] = [_stem(width, 2 if size < LARGE else 4)]
    channels = width
    for stage, wanted in enumerate(widths):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            layers.append(Residual(channels, wanted, stride))
            channels = wanted
    return _initialised(nn.Sequential(*layers))


def vit(size: int, patch: int = 0, depth: int = 4, width: int = 64) -> nn.Module:
    """A vision transformer; `patch` 0 takes an eighth of the image's side."""
    return Transformer(size, patch or max(2, round(size / 8)), depth, width)


TRUNKS: dict[str, Callable[..., nn.Module]] = {"cnn": cnn, "mlp": mlp, "resnet": resnet, "vit": vit}


class Transformer(nn.Module):
    """Patches with learned positions, then pre-norm blocks (Dosovitskiy et al. 2021): (B, 3, S, S) -> (B, N, width)."""

    def __init__(self, size: int, patch: int, depth: int, width: int) -> None:
        """Images whose side is no multiple of `patch` are padded at the right and bottom."""
        super().__init__()
        self.extra = -size % patch
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.positions = nn.Parameter(torch.empty(1, ((size + self.extra) // patch) ** 2, width))
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        nn.init.trunc_normal_(self.positions, std=0.02)
        self.apply(_transformer_weights)

    def forward(self, images: Tensor) -> Tensor:
        """Return the normalised tokens."""
        if self.extra:
            images = F.pad(images, (0, self.extra, 0, self.extra))
        tokens = self.patches(images).flatten(2).transpose(1, 2) + self.positions
        normed: Tensor = self.norm(self.blocks(tokens))
        return normed


class Block(nn.Module):
    """Attention and a two-layer perceptron, each behind a layer norm and added to its input; heads of 32 channels."""

    def __init__(self, width: int) -> None:
        """Set the width, a multiple of 32 (or below: one head)."""
        super().__init__()
        self.heads = max(1, width // 32)
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, width) -> (B, N, width)."""
        tokens = tokens + self._attention(self.norm_attention(tokens))
        mixed: Tensor = tokens + self.mlp(self.norm_mlp(tokens))
        return mixed

    def _attention(self, tokens: Tensor) -> Tensor:
        """Multi-head self-attention."""
        count, length, width = tokens.shape
        query, key, value = self.qkv(tokens).view(count, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2)
        out: Tensor = self.out(mixed.reshape(count, length, width))
        return out


def _trunk(spec: ModelSpec, size: int) -> nn.Module:
    """Call the network's function with the spec's options, after checking them."""
    heads = spec.options.get("width", 32) if spec.arch == "vit" else 32
    if isinstance(heads, int) and heads > 32 and heads % 32:
        raise UsageError(f"small:vit: option width = {heads} is no multiple of 32 (heads have 32 channels)")
    trunk: nn.Module = _called(TRUNKS[spec.arch], spec, size=size)
    return trunk


def _called(function: Callable[..., Any], spec: ModelSpec, **given: int) -> Any:
    """Call a function with the spec's options, after checking their names and that they are positive numbers."""
    known = [name for name in inspect.signature(function).parameters if name not in given]
    for name, value in spec.options.items():
        if name not in known:
            raise UsageError(
                f"small:{spec.arch} has no option {name!r}{nearest(name, known)}; it has {', '.join(known)}"
            )
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UsageError(f"small:{spec.arch}: option {name} = {value!r} is no positive whole number")
    return function(**given, **spec.options)


def _conv(channels: int, width: int, stride: int = 1, active: bool = True) -> nn.Sequential:
    """3 x 3 convolution, batch norm and, unless told otherwise, ReLU."""
    conv = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), *([nn.ReLU(inplace=True)] if active else []))


def _stem(width: int, stride: int) -> nn.Sequential:
    """A first convolution that divides the side by `stride`, with twice that as its kernel."""
    conv = nn.Conv2d(3, width, 2 * stride, stride, stride // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True))


def _initialised(trunk: nn.Module) -> nn.Module:
    """Draw convolution weights for ReLU (He et al. 2015); each residual branch starts at zero (Goyal et al. 2017)."""
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if isinstance(module, Residual):
            nn.init.zeros_(module.second.get_parameter("1.weight"))
    return trunk


def _transformer_weights(module: nn.Module) -> None:
    """Xavier for linear layers, zero for biases."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
