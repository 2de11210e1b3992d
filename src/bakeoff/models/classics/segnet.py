"""SegNet (Badrinarayanan, Kendall & Cipolla 2017): a decoder that unpools by the indices that the encoder pooled by.

The encoder is VGG16 with batch norm, the decoder its mirror; nothing but the places of the maxima is handed past the
bottleneck.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from bakeoff.errors import UsageError
from bakeoff.models import from_torchvision, weights
from bakeoff.models.blocks import conv, he_weights
from bakeoff.models.classics.options import whole_numbers
from bakeoff.models.encoder_decoder import EncoderDecoder, refuse_head
from bakeoff.models.skips import Skip
from bakeoff.models.spec import Card, ModelSpec, Network

NAMES = ("segnet", "segnet_small")
SUPPLIER = "vgg16_bn"  # of torchvision: whose weights the encoder takes
VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
Widths = tuple[tuple[int, ...], ...]


def card(arch: str) -> Card:
    """Return where the encoder's published weights come from; there are none for the small one."""
    return from_torchvision.card(SUPPLIER) if arch == "segnet" else Card()


def build(spec: ModelSpec, classes: int) -> Network:
    """Build segnet (29 million parameters) or segnet_small, whose option `width` is 32 for 0.6 million.

    `weights` of segnet are the encoder's: torchvision's vgg16_bn ("pretrained", or an entry's name), a file of it, or
    a file of the whole network.  Raises UsageError for options and weights that there are not, and what
    weights.load_file raises.
    """
    refuse_head(spec)
    widths = _widths(spec)
    body = _body(widths, classes)
    found = Card(pretraining="none")
    if spec.weights == "pretrained" or spec.weights.startswith("IMAGENET1K_"):
        found = _download(body, spec)
    elif spec.weights != "none":
        found = _from_file(body, spec.weights)
    return Network(body, body.groups(), *from_torchvision.IMAGENET, found)


class Encoder(nn.Module):
    """VGG's layers, under torchvision's names -> the indices of every pooling, finest first, then the last map."""

    def __init__(self, widths: Widths) -> None:
        """Set the widths of the convolutions before each pooling."""
        super().__init__()
        from torchvision.models.vgg import make_layers

        plan: list[Any] = [item for stage in widths for item in (*stage, "M")]
        self.features = make_layers(plan, batch_norm=True)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Run the layers; every pooling halves the sides and notes where its maxima were."""
        found, maps = [], images
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                maps, places = F.max_pool2d(maps, 2, return_indices=True)
                found.append(places)
            else:
                maps = layer(maps)
        return [*found, maps]


class Decoder(nn.Module):
    """Per stage, coarsest first: values back to where they were the maxima, zeros elsewhere, then convolutions."""

    def __init__(self, widths: Widths) -> None:
        """Mirror the encoder's widths."""
        super().__init__()
        self.stages = nn.ModuleList()
        below = (3, *(stage[-1] for stage in widths))
        for number in reversed(range(len(widths))):
            stage = widths[number]
            last = below[number] if number else stage[0]
            outputs = (*reversed(stage[:-1]), last)
            self.stages.append(nn.Sequential(*map(conv, (stage[-1], *outputs[:-1]), outputs)))

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Return the finest map."""
        *found, values = maps
        for stage, places in zip(self.stages, reversed(found), strict=True):
            values = stage(F.max_unpool2d(values, places, [2, 2]))
        return values


def _body(widths: Widths, classes: int) -> EncoderDecoder:
    """Join encoder, decoder and the last convolution; convolution weights are drawn for ReLU (He et al. 2015)."""
    skips = [Skip(f"pooling indices {place + 1}", "encoder", place) for place in range(len(widths))]
    last = nn.Conv2d(widths[0][0], classes, 3, padding=1)
    return he_weights(EncoderDecoder(Encoder(widths), Decoder(widths), last, skips, 2 ** len(widths)))


def _widths(spec: ModelSpec) -> Widths:
    """Return the widths of each stage, after checking the options."""
    width = whole_numbers(spec, {"width": 32} if spec.arch == "segnet_small" else {}).get("width")
    if width is None:
        return VGG16
    return ((width, width), (2 * width, 2 * width), (4 * width, 4 * width))


def _download(body: EncoderDecoder, spec: ModelSpec) -> Card:
    """Load torchvision's vgg16_bn into the encoder."""
    if spec.arch != "segnet":
        raise UsageError(f'classics:{spec.arch} has no published weights; use weights = "none" or a file')
    entry = from_torchvision.published(SUPPLIER, spec.weights)
    state = weights.published_state(entry, f"classics:{spec.arch}")
    note = weights.fit(body.encoder, state, (), f"torchvision:{SUPPLIER}")
    return replace(card("segnet"), loaded=f"{note}; the decoder starts at random")


def _from_file(body: EncoderDecoder, path: str) -> Card:
    """Load a file of the whole network, or of the encoder alone."""
    if any(".decoder." in f".{name}" for name in weights.read(Path(path))[0]):
        return weights.load_file(body, path, ("segmentation_head",))
    found = weights.load_file(body.encoder, path, ())
    return replace(found, loaded=f"{found.loaded}; the decoder starts at random")
