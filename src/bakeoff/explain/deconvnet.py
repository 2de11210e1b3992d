"""ZFNet's deconvnet: what in the image made one channel of a layer strong, at the place where it is strongest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bakeoff.data.dataset import TaskName
from bakeoff.explain.chain import Step, back, chain
from bakeoff.explain.explainer import Explanation, Map, Options, Picture
from bakeoff.explain.layers import channel_of
from bakeoff.explain.paint import around_grey
from bakeoff.explain.receptive_field import Field, receptive_field
from bakeoff.explain.subject import Subject
from bakeoff.models.spec import Network

NAME = "deconvnet"
TITLE = "Deconvnet"
SOURCE = "Zeiler and Fergus 2014, Visualizing and Understanding Convolutional Networks, section 2.1"


@dataclass(frozen=True)
class Activation:
    """The `value` of a channel at a place (row, column) of a layer's map."""

    channel: int
    place: tuple[int, int]
    value: float


def applies(network: Network, task: TaskName, image: Tensor) -> str:  # noqa: ARG001
    """It needs a plain chain of convolutions, ReLU, normalisation and max pooling; what follows may be anything."""
    return chain(network, image).why


def explain(network: Network, image: Tensor, subject: Subject, options: Options) -> Explanation:  # noqa: ARG001
    """Return what of the image made one channel strong at its strongest place: its magnitude, and pictures of it.

    The pictures are the reconstruction and the image, both inside the receptive field of the place.  The channel is
    `options.channel`, else the one with the strongest activation, whatever the class.
    """
    steps = chain(network, image).up_to(options.layer)
    layer, (_, channels, height, width) = steps[-1].name, steps[-1].output.shape
    found = strongest(steps[-1], options.channel)
    pattern = reconstruction(network, steps, found)
    left, top, right, bottom = field = receptive_field(network, layer, found.place, image)
    row, column = found.place
    where = (
        f"layer {layer} ({channels} channels of {height} x {width}), channel {found.channel}, strongest"
        f" ({found.value:.3g}) at row {row}, column {column}; it sees columns {left} to {right - 1} and rows {top} to"
        f" {bottom - 1}"
    )
    magnitude: Map = abs(pattern).max(axis=2)
    if found.value <= 0:
        return Explanation(
            magnitude, note=f"{where}; it is not active, so nothing is left on the way back", layer=layer
        )
    pictures = (
        Picture(around_grey(cut(pattern, field)), "the reconstruction, around grey"),
        Picture(cut(as_pixels(image), field), "what the place sees of the image"),
    )
    return Explanation(magnitude, pictures=pictures, note=where, layer=layer)


def strongest(step: Step, channel: int | None = None) -> Activation:
    """Return the strongest activation of a layer, or of one of its channels.  Raises UsageError for one that is not."""
    grid = step.output[0]
    first = 0 if channel is None else channel_of(channel, grid, step.name)
    among = grid if channel is None else grid[first : first + 1]
    offset, row, column = (int(index) for index in np.unravel_index(int(among.argmax()), among.shape))
    return Activation(first + offset, (row, column), float(among.max()))


@torch.no_grad()
def reconstruction(network: Network, steps: list[Step], found: Activation) -> NDArray[np.float32]:
    """Send one activation back to the pixels, all others being 0: (S, S, 3), signed, in units of the image's values.

    A value below 0 is no activation: nothing is sent.
    """
    signal = torch.zeros_like(steps[-1].output)
    signal[0, found.channel, found.place[0], found.place[1]] = max(found.value, 0.0)
    pattern = back(steps, signal) * network.std
    return np.ascontiguousarray(pattern[0].permute(1, 2, 0).float().cpu().numpy())


def cut(pixels: NDArray[np.generic], field: Field) -> NDArray[Any]:
    """Return the part of a picture (H, W, 3) inside a receptive field."""
    left, top, right, bottom = field
    return np.ascontiguousarray(pixels[top:bottom, left:right])


def as_pixels(image: Tensor) -> NDArray[np.uint8]:
    """Return an image (1, 3, S, S) in 0..1 as (S, S, 3) uint8."""
    return np.asarray((255 * image[0].permute(1, 2, 0).clamp(0, 1)).round().byte().cpu().numpy())
