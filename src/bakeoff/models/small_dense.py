"""Small networks for semantic segmentation; images from 96 pixels on are halved first, from 256 on quartered."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bakeoff.models.blocks import conv, he_weights
from bakeoff.models.encoder_decoder import EncoderDecoder, encoder_skips

LARGE, LARGEST = 96, 256  # sides from which on the first layer divides the side by two and by four
DEPTH = 3  # halvings behind the first layer


def unet(size: int, classes: int, width: int = 12) -> EncoderDecoder:
    """A U-Net (Ronneberger et al. 2015) with maps of `width`, x 2, x 4 and x 8 channels."""
    widths = [width * 2**stage for stage in range(DEPTH + 1)]
    stride = first_stride(size)
    skips = encoder_skips(widths, range(DEPTH))
    body = EncoderDecoder(
        Encoder(widths, stride), Decoder(widths), nn.Conv2d(width, classes, 1), skips, stride * 2**DEPTH
    )
    return he_weights(body)


def fcn(size: int, classes: int, width: int = 24) -> EncoderDecoder:
    """A fully convolutional network without skips (Long et al. 2015): logits at a quarter of the side, enlarged."""
    widths = [width, 2 * width, 4 * width]
    stride = first_stride(size)
    body = EncoderDecoder(Encoder(widths, stride), Last(), nn.Conv2d(widths[-1], classes, 1), multiple=4 * stride)
    return he_weights(body)


NETWORKS = {"fcn": fcn, "unet": unet}


def first_stride(size: int) -> int:
    """Return by how much the first layer divides the side: cost follows the area."""
    return 1 if size < LARGE else 2 if size < LARGEST else 4


class Encoder(nn.Module):
    """images -> a map per width, finest first; between two of them the side is halved by the larger of 2 x 2 values."""

    def __init__(self, widths: list[int], stride: int) -> None:
        """Set the widths; the first convolution divides the side by `stride`."""
        super().__init__()
        first = conv(3, widths[0], stride=stride) if stride < 4 else conv(3, widths[0], stride=4, kernel=7)
        self.stages = nn.ModuleList([nn.Sequential(first, conv(widths[0], widths[0]))])
        for before, width in pairwise(widths):
            self.stages.append(nn.Sequential(nn.MaxPool2d(2), conv(before, width), conv(width, width)))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return every stage's map."""
        maps: list[Tensor] = []
        for stage in self.stages:
            maps.append(stage(maps[-1] if maps else images))
        return maps


class Decoder(nn.Module):
    """Maps, finest first -> one map of the finest size: the coarser is doubled, joined by the finer and convolved."""

    def __init__(self, widths: list[int]) -> None:
        """Mirror the encoder's widths."""
        super().__init__()
        pairs = list(pairwise(widths))
        self.stages = nn.ModuleList(conv(fine + coarse, fine) for fine, coarse in reversed(pairs))

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Return the finest map."""
        *finer, values = maps
        for stage, skip in zip(self.stages, reversed(finer), strict=True):
            values = stage(torch.cat([F.interpolate(values, scale_factor=2.0, mode="nearest"), skip], dim=1))
        return values


class Last(nn.Module):
    """Maps, finest first -> the coarsest alone."""

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Return the coarsest map."""
        return maps[-1]
