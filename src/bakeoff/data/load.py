"""Tickets -> cached image -> augment -> collate: the only DataLoader.

A ticket is (index, seed).  The order of an epoch is a function of (seed, epoch), the draws of a sample of
(seed, epoch, index), the mixing of a batch of its first ticket.  So every candidate sees the same images in the same
order under the same draws, whatever the number of workers and wherever an earlier attempt was cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from bakeoff.data.augment import Augment, Mix
from bakeoff.data.cache import open_pixels
from bakeoff.seeds import fold, generator

Ticket = tuple[int, int]
Sample = tuple[NDArray[np.uint8], int, int]  # image (S, S, 3), target, the ticket's seed


@dataclass(frozen=True)
class Batch:
    """images (B, 3, H, W) float32 in 0..1; targets (B,) int64 class indices, or (B, classes) float32 when mixed."""

    images: Tensor
    targets: Tensor

    def to(self, device: str, channels_last: bool = False) -> Batch:
        """Return the batch on a device and in a memory layout."""
        layout = torch.channels_last if channels_last else torch.contiguous_format
        images = self.images.to(device, non_blocking=True).contiguous(memory_format=layout)
        return Batch(images, self.targets.to(device, non_blocking=True))


def tickets(
    seed: int, epoch: int, size: int, batch: int, weights: NDArray[np.float64] | None = None
) -> list[list[Ticket]]:
    """Return the batches of one epoch as lists of (index, seed).

    Without `weights` the order is a permutation of range(size); with them, `size` draws with replacement.  A last
    batch that is not full is left out, unless it is the only one.

    >>> tickets(0, 0, 4, 2) == tickets(0, 0, 4, 2) != tickets(0, 1, 4, 2)
    True
    """
    draws = generator(seed, "order", epoch)
    order = draws.permutation(size) if weights is None else draws.choice(size, size, p=weights / weights.sum())
    steps = max(1, size // batch)
    return [
        [(int(index), fold(seed, "sample", epoch, place)) for place, index in _chunk(order, step, batch)]
        for step in range(steps)
    ]


def _chunk(order: NDArray[np.int64], step: int, batch: int) -> list[tuple[int, int]]:
    """Return (place in the epoch, index) for one batch."""
    first = step * batch
    return [(first + offset, int(index)) for offset, index in enumerate(order[first : first + batch])]


@dataclass(frozen=True)
class Feed:
    """The training images of one run: `pixels` is the cache file, `rows` its rows and `targets` their class indices.

    `weights` (n,) are sampling weights (balanced sampling) or None.
    """

    pixels: Path
    rows: NDArray[np.int64]
    targets: NDArray[np.int64]
    augment: Augment
    mix: Mix
    batch: int
    seed: int
    weights: NDArray[np.float64] | None = None
    workers: int = 0

    @property
    def batch_size(self) -> int:
        """Images per step: the batch, or all of them when they are fewer."""
        return min(self.batch, len(self.rows))

    @property
    def steps(self) -> int:
        """Steps per epoch."""
        return max(1, len(self.rows) // self.batch)

    def epoch(self, epoch: int, start: int = 0) -> Iterable[Batch]:
        """Return the batches of an epoch from step `start` on."""
        plan = tickets(self.seed, epoch, len(self.rows), self.batch, self.weights)[start:]
        samples = Samples(self.pixels, self.rows, self.targets, self.augment)
        return DataLoader(
            samples,
            batch_sampler=plan,  # a plan of tickets: Samples takes them as indices
            collate_fn=partial(collate, mix=self.mix),
            num_workers=self.workers,
            multiprocessing_context="spawn" if self.workers else None,
            persistent_workers=False,
        )


class Samples(TorchDataset[Sample]):
    """Cached images addressed by tickets; the map is opened where it is used, so nothing is copied to workers."""

    def __init__(self, pixels: Path, rows: NDArray[np.int64], targets: NDArray[np.int64], augment: Augment) -> None:
        """Remember where the images are."""
        self.path, self.rows, self.targets = pixels, rows, targets
        self.transform = augment.transform()
        self._map: NDArray[np.uint8] | None = None

    def __getitem__(self, ticket: Ticket) -> Sample:
        """Return one augmented sample; its draws depend on the ticket's seed alone."""
        index, seed = ticket
        if self._map is None:
            self._map = open_pixels(self.path)
        image = np.array(self._map[self.rows[index]])
        if self.transform is not None:
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would also format a stack trace for CUDA
            image = np.asarray(self.transform(Image.fromarray(image)))
        return image, int(self.targets[index]), seed


def collate(samples: Sequence[Sample], mix: Mix) -> Batch:
    """Stack samples into a batch and mix it under the seed of its first ticket."""
    images = to_float(np.stack([image for image, _, _ in samples]))
    targets = torch.tensor([target for _, target, _ in samples])
    images, targets = mix(images, targets, fold(samples[0][2], "mix"))
    return Batch(images, targets)


def to_float(pixels: NDArray[np.uint8] | Any) -> Tensor:
    """Turn uint8 images (B, S, S, 3) into float32 (B, 3, S, S) in 0..1."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float().div_(255)
