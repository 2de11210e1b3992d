"""SegNet's small network with one thing changed: its maps grow bilinearly, and the places of the maxima are lost."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from bakeoff.models.blocks import he_weights
from bakeoff.models.classics.segnet import Decoder, Encoder
from bakeoff.models.encoder_decoder import EncoderDecoder


class BilinearDecoder(Decoder):
    """Per stage, coarsest first: every map grown to twice its sides, then SegNet's own convolutions."""

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Return the finest map; of what the encoder gives, the last map alone is used."""
        values = maps[-1]
        for stage in self.stages:
            values = stage(F.interpolate(values, scale_factor=2.0, mode="bilinear"))
        return values


def build(classes: int, size: int, width: int = 32) -> nn.Module:  # noqa: ARG001
    """Build the twin of segnet_small: what `model = "docs/notes/bilinear_segnet.py:build"` calls."""
    widths = ((width, width), (2 * width, 2 * width), (4 * width, 4 * width))
    last = nn.Conv2d(width, classes, 3, padding=1)
    return he_weights(EncoderDecoder(Encoder(widths), BilinearDecoder(widths), last, (), 2 ** len(widths)))
