"""The network as a program that stands alone: images as files hold them in, probabilities or objects out."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bakeoff.data.dataset import TaskName
from bakeoff.errors import Refused
from bakeoff.models.spec import Network
from bakeoff.models.trained import Trained
from bakeoff.predict.interface import OUTPUTS, Interface

STREAMS = (1, 2)  # descriptors of stdout and stderr
BY_OBJECTS = ("detection", "instance")  # their results have as many rows as there are objects: one image at a time
NOT_EXPORTED = {  # modules of networks -> why they cannot become a file
    "CropDetector": "R-CNN looks for its boxes by selective search, which is no part of the network",
}


class Graph(nn.Module):
    """uint8 RGB images (B, S, S, 3) -> the outputs of predict.interface.Interface; normalisation is in the network."""

    def __init__(self, network: Network, task: TaskName) -> None:
        """Wrap a trained network."""
        super().__init__()
        self.network, self.task = network, task

    def forward(self, images: Tensor) -> Any:
        """Return probabilities, or a tuple of boxes, labels, scores and masks of the one image."""
        found = self.network(images.permute(0, 3, 1, 2).float() / 255)
        if self.task not in BY_OBJECTS:
            return found.float().softmax(dim=1)
        return tuple(found[0][name] for name in OUTPUTS[self.task])


def graph_of(model: Trained) -> Graph:
    """Return the program of a model in eval mode.  Raises Refused for networks that cannot be one."""
    for module in model.network.modules():
        if (why := NOT_EXPORTED.get(type(module).__name__)) is not None:
            raise Refused(f"{model.spec.arch} cannot be exported: {why}; predict with the trained model itself")
    return Graph(model.network, model.task).eval()


def interface_of(model: Trained, content: dict[str, Any], batch: int | None) -> Interface:
    """Return how the file is used; `content` is that of model.json, of which paths keep their last part alone."""
    spec = {**content["spec"], **{name: last_part(content["spec"].get(name)) for name in ("arch", "weights")}}
    return Interface(model.task, model.classes, model.size, model.resize, batch, {**content, "spec": spec})


def example(pixels: NDArray[np.uint8], count: int) -> Tensor:
    """Return so many copies of the first image of `pixels` (B, S, S, 3)."""
    return torch.from_numpy(np.repeat(pixels[:1], count, axis=0))


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what exporters print, warn and log from the user: their errors say what counts.

    Torch's tracing and ONNX Runtime write past Python, so the descriptors of stdout and stderr lead nowhere meanwhile.
    """
    before, saved = logging.root.manager.disable, [os.dup(number) for number in STREAMS]
    logging.disable(logging.CRITICAL)
    _flush()
    try:
        with warnings.catch_warnings(), open(os.devnull, "w", encoding="utf-8") as nowhere:
            warnings.simplefilter("ignore")
            for number in STREAMS:
                os.dup2(nowhere.fileno(), number)
            with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
                yield
    finally:
        _flush()
        for number, copy in zip(STREAMS, saved, strict=True):
            os.dup2(copy, number)
            os.close(copy)
        logging.disable(before)


def _flush() -> None:
    """Write out what Python and C hold back, before the descriptors lead elsewhere."""
    sys.stdout.flush()
    sys.stderr.flush()
    ctypes.CDLL(None).fflush(None)


def reason(error: BaseException) -> str:
    """Return the innermost cause of an exporter's error in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def last_part(value: Any) -> Any:
    """Return the last part of a path, so that no file tells of this machine; names stay as they are."""
    return Path(value).name if isinstance(value, str) else value
