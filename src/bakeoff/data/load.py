"""Tickets -> cached image -> augment -> collate: the only DataLoader.

A ticket is (index, seed).  The order of an epoch is a function of (seed, epoch), the draws of a sample of
(seed, epoch, index), the mixing of a batch of its tickets.  So every candidate sees the same images in the same
order under the same draws, whatever the number of workers and wherever an earlier attempt was cut.
"""

from __future__ import annotations

import math
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

from bakeoff.data.augment import Augment
from bakeoff.data.cache import open_pixels
from bakeoff.data.masks import to_pixels
from bakeoff.data.mix import Mix, Objects
from bakeoff.data.targets import Boxes, Instances, Label, LabelMap, Target
from bakeoff.seeds import fold, generator

Ticket = tuple[int, int]
Sample = tuple[NDArray[np.uint8], Any, int]  # image (S, S, 3), what collate makes targets of, the ticket's seed


@dataclass(frozen=True)
class Batch:
    """images (B, 3, H, W) float32 in 0..1, and what the task's loss takes as targets.

    classification  (B,) int64 class indices, or (B, classes) float32 when mixed
    semantic        (B, H, W) int64 class indices, targets.IGNORE where nothing is to be learned
    detection       a list of B dictionaries: boxes (N, 4) float32, labels (N,) int64 from 0; N may be 0
    instance        the same with masks (N, H, W) uint8
    """

    images: Tensor
    targets: Any

    def to(self, device: str, channels_last: bool = False) -> Batch:
        """Return the batch on a device and in a memory layout."""
        maps = channels_last and self.images.ndim == 4  # features of a frozen backbone may be vectors
        layout = torch.channels_last if maps else torch.contiguous_format
        images = self.images.to(device, non_blocking=True).contiguous(memory_format=layout)
        if isinstance(self.targets, Tensor):
            return Batch(images, self.targets.to(device, non_blocking=True))
        moved = [{name: value.to(device, non_blocking=True) for name, value in one.items()} for one in self.targets]
        return Batch(images, moved)


@dataclass(frozen=True)
class Order:
    """In which order, and under which draws, a run sees `size` training images.

    An epoch has `length` images (None: size): permutations of the images one after the other, cut there, so that runs
    with fewer or more images to choose from take equally many steps.  With `weights` (size,) they are drawn with
    replacement instead.  `copies` above 0 gives every image so many fixed sets of draws, of which the epochs take one
    after the other; with 0 all draws are fresh.
    """

    size: int
    batch: int
    seed: int
    weights: NDArray[np.float64] | None = None
    length: int | None = None
    copies: int = 0

    @property
    def steps(self) -> int:
        """Steps per epoch: a last batch that is not full is left out, unless it is the only one."""
        return max(1, (self.length or self.size) // self.batch)

    def tickets(self, epoch: int) -> list[list[Ticket]]:
        """Return the batches of one epoch as lists of (index, seed).

        >>> Order(4, 2, seed=0).tickets(0) == Order(4, 2, seed=0).tickets(0) != Order(4, 2, seed=0).tickets(1)
        True
        """
        draws, length = generator(self.seed, "order", epoch), self.length or self.size
        if self.weights is None:
            rounds = [draws.permutation(self.size) for _ in range(math.ceil(length / self.size))]
            order = np.concatenate(rounds)[:length]
        else:
            order = draws.choice(self.size, length, p=self.weights / self.weights.sum())
        return [
            [(int(index), self._draws(epoch, place, int(index))) for place, index in _chunk(order, step, self.batch)]
            for step in range(self.steps)
        ]

    def _draws(self, epoch: int, place: int, index: int) -> int:
        """Return the seed of a sample's draws: of its place in the epoch, or of one of the image's copies."""
        if self.copies:
            return self.draws_of(epoch % self.copies, index)
        return fold(self.seed, "sample", epoch, place)

    def draws_of(self, copy: int, index: int) -> int:
        """Return the seed of an image's draws in one of its copies."""
        return fold(self.seed, "copy", copy, index)


def _chunk(order: NDArray[np.int64], step: int, batch: int) -> list[tuple[int, int]]:
    """Return (place in the epoch, index) for one batch."""
    first = step * batch
    return [(first + offset, int(index)) for offset, index in enumerate(order[first : first + batch])]


@dataclass(frozen=True)
class Feed:
    """The training images of one run: `pixels` is the cache file, `rows` its rows.

    `targets` are the targets of all records in the frame, `labels` the place among them of each image's target: `rows`
    again, unless labels are shuffled on purpose.  `weights` (n,) are sampling weights (balanced sampling) or None;
    `length` and `copies` are those of Order.
    """

    pixels: Path
    rows: NDArray[np.int64]
    targets: Sequence[Target]
    labels: NDArray[np.int64]
    augment: Augment
    mix: Mix
    batch: int
    seed: int
    weights: NDArray[np.float64] | None = None
    workers: int = 0
    length: int | None = None
    copies: int = 0

    @property
    def order(self) -> Order:
        """The order of the images and their draws."""
        return Order(len(self.rows), self.batch, self.seed, self.weights, self.length, self.copies)

    @property
    def batch_size(self) -> int:
        """Images per step: the batch, or all of an epoch when they are fewer."""
        return min(self.batch, self.length or len(self.rows))

    @property
    def steps(self) -> int:
        """Steps per epoch."""
        return self.order.steps

    def epoch(self, epoch: int, start: int = 0) -> Iterable[Batch]:
        """Return the batches of an epoch from step `start` on."""
        return self.batches(self.order.tickets(epoch)[start:])

    def batches(self, plan: list[list[Ticket]]) -> Iterable[Batch]:
        """Return a batch for each list of tickets."""
        return DataLoader(
            Samples(self),
            batch_sampler=plan,  # a plan of tickets: Samples takes them as indices
            collate_fn=partial(collate, mix=self.mix),
            num_workers=self.workers,
            multiprocessing_context="spawn" if self.workers else None,
            persistent_workers=False,
        )


class Samples(TorchDataset[Sample]):
    """Cached images addressed by tickets; the map is opened where it is used, so nothing is copied to workers."""

    def __init__(self, feed: Feed) -> None:
        """Remember where the images and their targets are."""
        self.path, self.rows, self.targets, self.labels = feed.pixels, feed.rows, feed.targets, feed.labels
        self.augment = feed.augment
        self.transform = feed.augment.transform()
        self._map: NDArray[np.uint8] | None = None

    def __getitem__(self, ticket: Ticket) -> Sample:
        """Return one augmented sample; its draws depend on the ticket's seed alone."""
        index, seed = ticket
        if self._map is None:
            self._map = open_pixels(self.path)
        image = np.array(self._map[self.rows[index]])
        target = self.targets[self.labels[index]]
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also format a stack trace for CUDA
        if not isinstance(target, Label):
            image, drawn = self.augment.together(image, to_tensors(target))
            return image, drawn, seed
        if self.transform is not None:
            image = np.asarray(self.transform(Image.fromarray(image)))
        return image, target.index, seed


def to_tensors(target: Target) -> Tensor | Objects:
    """Turn a target in the frame into what is learned: class indices (H, W), or boxes, labels and masks; no crowds."""
    if isinstance(target, LabelMap):
        return torch.from_numpy(target.pixels)
    if not isinstance(target, Boxes):
        raise TypeError(f"{type(target).__name__} is not a target in a frame")
    target = target.take(~target.crowd)
    objects = {"boxes": torch.from_numpy(target.xyxy.astype(np.float32)), "labels": torch.from_numpy(target.labels)}
    if isinstance(target, Instances):
        width, height = target.size
        masks = [to_pixels(mask, target.size) for mask in target.masks]
        stacked = np.stack(masks) if masks else np.zeros((0, height, width))
        objects["masks"] = torch.from_numpy(stacked.astype(np.uint8))
    return objects


def collate(samples: Sequence[Sample], mix: Mix) -> Batch:
    """Stack samples into a batch and mix it under the seeds of its tickets; label maps are not mixed."""
    images = to_float(np.stack([image for image, _, _ in samples]))
    found, seeds = [target for _, target, _ in samples], [seed for _, _, seed in samples]
    if isinstance(found[0], dict):
        return Batch(*mix.objects(images, found, seeds))
    if isinstance(found[0], Tensor):
        return Batch(images, torch.stack(found).long())
    return Batch(*mix.labels(images, torch.tensor(found), seeds))


def to_float(pixels: NDArray[np.uint8] | Any) -> Tensor:
    """Turn uint8 images (B, S, S, 3) into float32 (B, 3, S, S) in 0..1."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float().div_(255)
