"""Pixels -> predictions under stated conditions: the one way that validation, test and later use all take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bakeoff.data.load import to_float
from bakeoff.data.targets import Target
from bakeoff.errors import ResourceError, UsageError
from bakeoff.tasks.task import Task


@dataclass(frozen=True)
class Conditions:
    """What must be equal in all runs of a study: device, precision ("fp32" or "bf16") and memory layout."""

    device: str = "cpu"
    precision: str = "fp32"
    channels_last: bool = False

    def autocast(self) -> torch.autocast:
        """Return the context that a forward pass runs in."""
        return torch.autocast(self.device.split(":")[0], torch.bfloat16, enabled=self.precision == "bf16")


PLAIN = Conditions()


@contextmanager
def inferring(network: nn.Module) -> Iterator[None]:
    """Switch to eval mode without gradients; afterwards every module is in the mode that it was in.

    Module by module, since frozen batch norms stand in eval mode inside a network that trains.
    """
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def predict_pixels(
    task: Task, network: nn.Module, pixels: NDArray[np.uint8], conditions: Conditions = PLAIN
) -> Sequence[Target]:
    """Return one prediction for each image of `pixels` (B, S, S, 3); the network must be on the device already."""
    layout = torch.channels_last if conditions.channels_last else torch.contiguous_format
    images = to_float(pixels).to(conditions.device).contiguous(memory_format=layout)
    with inferring(network), conditions.autocast():
        return task.predict(network, images)


def choose_device(name: str = "auto") -> str:
    """Return a device that is there: "auto" is the first GPU or else the CPU.

    Raises UsageError for a name that torch does not know and ResourceError for a device that this machine lacks.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"device {name!r} is not known; use auto, cpu, cuda, cuda:1 or mps") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ResourceError(
            f"device {name!r} is not there: torch sees {torch.cuda.device_count()} GPUs; use auto or cpu"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ResourceError("device 'mps' is not there; use auto or cpu")
    return name
