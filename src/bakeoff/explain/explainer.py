"""The Explainer protocol: all that the command, the sanity check and the gallery need to know about a method."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from bakeoff.data.dataset import TaskName
from bakeoff.explain.subject import Subject
from bakeoff.models.spec import Network

Map = NDArray[np.float32]


@dataclass(frozen=True)
class Options:
    """What a person may choose.

    `layer` is the name of a module of the network's body, as `bakeoff models NAME` lists them ("": the method's own
    choice); `channel` one of its channels (None: the strongest, or all).  `steps` are the points of an integral or of
    an optimisation (None: the method's own number), `window` is the side of a covering square as a share of the
    image's, `batch` how many images go through the network at once, `seed` what a method that draws starts from,
    `device` "auto", "cpu", "cuda" or "cuda:1".
    """

    layer: str = ""
    channel: int | None = None
    steps: int | None = None
    window: float = 0.125
    batch: int = 16
    seed: int = 0
    device: str = "auto"


@dataclass(frozen=True)
class Picture:
    """A picture (H, W, 3) uint8 RGB that a method makes beside a map or instead of one, and what it shows."""

    pixels: NDArray[np.uint8]
    caption: str


@dataclass(frozen=True)
class Explanation:
    """What a method says of one image.

    `map` (S, S) float32, finite, is large where the image speaks for the subject; where `signed`, values below 0 speak
    against it, else there are none.  A method that makes pictures alone has no map.  `note` says in words what cannot
    be seen: how exact a sum is, a limit of the method; `layer` is the module that was looked at ("": none alone).
    """

    map: Map | None
    signed: bool = False
    pictures: tuple[Picture, ...] = ()
    note: str = ""
    layer: str = ""


class Explainer(Protocol):
    """What every method's module offers."""

    NAME: str  # as typed after --method
    TITLE: str  # as printed over a map
    SOURCE: str  # the paper

    def applies(self, network: Network, task: TaskName, image: Tensor) -> str:
        """Say why the method has nothing to say of such a network; "" when it has.

        `image` is (1, 3, S, S); the network is in eval mode.
        """
        ...

    def explain(self, network: Network, image: Tensor, subject: Subject, options: Options) -> Explanation:
        """Explain the subject in an image (1, 3, S, S), float in 0..1, on the network's device.

        The network is in eval mode and is left as it was: weights, buffers, modes, gradients and hooks.  Raises
        UsageError for options that do not fit the network, naming the nearest layer.
        """
        ...


def as_explainer(module: ModuleType) -> Explainer:
    """Look at a method's module as what it is."""
    return cast(Explainer, module)


@contextmanager
def at_rest(network: nn.Module) -> Iterator[None]:
    """Put a network into eval mode, its parameters without gradients; afterwards all is as it was."""
    modes = [(module, module.training) for module in network.modules()]
    learning = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    network.eval().requires_grad_(False)
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, mode in learning:
            parameter.requires_grad_(mode)
