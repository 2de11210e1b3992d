"""Made-up batches: what a training step costs, and whether a network learns at all, without any data."""

from __future__ import annotations

import torch
from torch import Tensor

from bakeoff.data.dataset import TaskName
from bakeoff.data.load import Batch
from bakeoff.data.mix import Objects

OBJECTS = 3  # in an image of boxes


def example(task: TaskName | str, classes: int, count: int, size: int, seed: int = 0, share: float = 0.2) -> Batch:
    """Return a batch of `count` images of noise with squares in them, one colour per class, and their targets.

    Every image has one square (classification: its class is the label) or three, whose side is this share of the
    image's; label maps have class 0 elsewhere.
    """
    draws = torch.Generator().manual_seed(seed)
    images = 0.2 * torch.rand(count, 3, size, size, generator=draws)
    colours = torch.rand(classes, 3, generator=draws) * 0.7 + 0.3
    if task == "classification":
        labels = torch.arange(count) % classes
        _square(images, labels[:, None], colours, size // 2)
        return Batch(images, labels)
    objects = []
    labels = torch.randint(0, classes, (count, OBJECTS), generator=draws)
    places = _square(images, labels, colours, max(2, int(size * share + 1e-9)), draws)
    maps = torch.zeros(count, size, size, dtype=torch.int64)
    for image in range(count):
        masks = torch.zeros(OBJECTS, size, size, dtype=torch.uint8)
        for number, (left, top, right, bottom) in enumerate(places[image].tolist()):
            maps[image, top:bottom, left:right] = labels[image, number]
            masks[number, top:bottom, left:right] = 1
        found: Objects = {"boxes": places[image].float(), "labels": labels[image]}
        objects.append({**found, "masks": masks} if task == "instance" else found)
    return Batch(images, maps if task == "semantic" else objects)


def _square(images: Tensor, labels: Tensor, colours: Tensor, side: int, draws: torch.Generator | None = None) -> Tensor:
    """Paint a square per label (B, N), side by side, into images; return the boxes (B, N, 4)."""
    count, number = labels.shape
    size = images.shape[-1]
    boxes = torch.zeros(count, number, 4, dtype=torch.int64)
    for image in range(count):
        for place in range(number):
            shift = 0 if draws is None else int(torch.randint(0, max(1, size - side), (1,), generator=draws))
            left = min(size - side, place * (size // max(1, number)))
            corner = torch.tensor([left, shift, left + side, shift + side])
            boxes[image, place] = corner
            images[image, :, shift : shift + side, left : left + side] += colours[labels[image, place]][:, None, None]
    images.clamp_(max=1)
    return boxes
