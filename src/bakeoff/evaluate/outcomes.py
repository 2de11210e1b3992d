"""Network x images -> Outcomes: the only place where a network is judged, for validation and test alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bakeoff.data.dataset import Dataset
from bakeoff.data.targets import Target
from bakeoff.errors import RunError, UsageError
from bakeoff.tasks.inference import PLAIN, Conditions, inferring, predict_pixels
from bakeoff.tasks.task import Outcomes, Row, Task

LATENCY_IMAGES, LATENCY_SECONDS = 50, 2.0  # single images are timed until one of the two is used up
WARM_UP = 3  # images that are not counted
Keep = Callable[[str, Target], None]
Predict = Callable[[NDArray[np.uint8]], Sequence[Target]]  # images (B, S, S, 3) -> a prediction for each


class Pixels(Protocol):
    """Images addressed by the places of their records: a uint8 array (n, S, S, 3), a memory map, or a decoder."""

    def __getitem__(self, places: NDArray[np.intp], /) -> NDArray[np.uint8]:
        """Return the images (B, S, S, 3) at these places."""
        ...


@dataclass(frozen=True)
class Images:
    """What a network is judged on: row i of `pixels` is `dataset.records[i]`, item i of `targets` its target there.

    `targets` None: the records' own, which is right for labels alone.
    """

    dataset: Dataset
    pixels: NDArray[np.uint8] | Pixels
    targets: Sequence[Target] | None = None


def evaluate(
    task: Task,
    network: nn.Module,
    images: Images,
    ids: Sequence[str],
    conditions: Conditions = PLAIN,
    keep: Keep | None = None,
) -> Outcomes:
    """Return the outcomes of a network on the records `ids`, in this order.

    The network is on the device of `conditions` already.  It runs in eval mode without gradients, in batches of the
    task's size taken in order, and is left in the mode that it was in.  `keep` is given every id with its prediction.

    Raises UsageError for ids that are not in the dataset or when there are none, RunError when the network gives a
    number that is not finite.
    """
    return rate(task, partial(predict_pixels, task, network, conditions=conditions), images, ids, keep)


def rate(task: Task, predict: Predict, images: Images, ids: Sequence[str], keep: Keep | None = None) -> Outcomes:
    """Return the outcomes of whatever predicts, a network or an exported file, as evaluate() does."""
    dataset, targets = images.dataset, images.targets
    if missing := [id for id in ids if id not in dataset.index]:
        raise UsageError(f"{dataset.source}: {len(missing)} records to evaluate are not in the data: {missing[:5]}")
    places = np.array([dataset.index[id] for id in ids], dtype=np.intp)
    rows: list[Row] = []
    for start in range(0, len(places), task.batch):
        chunk = places[start : start + task.batch]
        predictions = predict(images.pixels[chunk])
        for place, prediction in zip(chunk, predictions, strict=True):
            target = dataset.records[place].target if targets is None else targets[int(place)]
            rows.append(task.outcome(prediction, target))
            if keep is not None:
                keep(dataset.records[place].id, prediction)
    return stack(rows, tuple(ids), dataset.classes)


def stack(rows: Sequence[Row], ids: tuple[str, ...], classes: tuple[str, ...]) -> Outcomes:
    """Stack the rows of a task's `outcome`, one for each id, into columns.

    Raises UsageError when there is none, RunError when a number is not finite.
    """
    if not rows:
        raise UsageError("there is no image to evaluate; the split is empty")
    columns = {name: np.stack([np.asarray(row[name]) for row in rows]) for name in rows[0]}
    for name, column in columns.items():
        broken = ~np.isfinite(column.reshape(len(rows), -1)).all(axis=1)
        if broken.any():
            raise RunError(
                f"{ids[broken.argmax()]}: the network's {name} are not finite here and for {broken.sum() - 1} more "
                "images: its weights or its inner values overflowed; lower the rate or use fp32"
            )
    return Outcomes(ids, classes, columns)


def latency(network: nn.Module, size: int, device: str = "cpu") -> float:
    """Return the median milliseconds for one image (batch 1, fp32, after warm-up), with the threads that are set.

    Each is a different made-up image with objects in it: a network that looks for things, or remembers what it found
    in an image, should have to look.
    """
    times: list[float] = []
    with inferring(network):
        for number in range(WARM_UP):
            _timed(network, _picture(size, number, device))
        began = time.perf_counter()
        while len(times) < LATENCY_IMAGES and (not times or time.perf_counter() - began < LATENCY_SECONDS):
            times.append(_timed(network, _picture(size, WARM_UP + len(times), device)))
    return 1000 * statistics.median(times)


def _picture(size: int, number: int, device: str) -> torch.Tensor:
    """Return a made-up image (1, 3, size, size)."""
    from bakeoff.data.examples import example  # imports torchvision

    return example("detection", 3, 1, size, number).images.to(device)


def _timed(network: nn.Module, image: torch.Tensor) -> float:
    """Return the seconds of one forward pass, waiting for a GPU to finish."""
    began = time.perf_counter()
    network(image)
    if image.is_cuda:
        torch.cuda.synchronize(image.device)
    return time.perf_counter() - began
