"""Mix: what the images of a batch do to one another: MixUp, CutMix, one-class CutMix, mosaic and copy-paste.

Every draw is a function of the seeds of the batch's tickets, so neither the number of workers nor an interruption
changes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

from bakeoff.data.augment import tight
from bakeoff.data.dataset import TaskName
from bakeoff.seeds import fold, generator

Objects = dict[str, Tensor]  # boxes (N, 4) float32 x1 y1 x2 y2, labels (N,) int64 from 0, masks (N, H, W) uint8
Rectangle = tuple[int, int, int, int]  # left, top, right, bottom

MIXES: Mapping[str, tuple[TaskName, ...]] = {
    "mixup": ("classification",),
    "cutmix": ("classification",),
    "cutmix_within": ("classification",),
    "mosaic": ("detection", "instance"),
    "copy_paste": ("instance",),
}
LEAST_SEEN = 0.1  # an object of which less than this share is left, cut off or covered, is left out: YOLOX's limit
CENTRE = (0.3, 0.7)  # where the four images of a mosaic meet, as shares of the side


@dataclass(frozen=True)
class Mix:
    """How a batch is mixed; 0 switches a way off.

    mixup          alpha of the Beta distribution of MixUp (Zhang et al. 2018): soft targets
    cutmix         alpha of CutMix (Yun et al. 2019): soft targets
    cutmix_within  alpha of one-class CutMix: the patch comes from an image of the same class, the label stays
    mosaic         share of images that become a mosaic of four of the batch (Bochkovskiy et al. 2020)
    copy_paste     share of images that objects of another one are pasted on (Ghiasi et al. 2021)

    With several of the first three on, each batch draws one of them.  A mosaic comes before pasting.
    """

    classes: int
    mixup: float = 0.0
    cutmix: float = 0.0
    cutmix_within: float = 0.0
    mosaic: float = 0.0
    copy_paste: float = 0.0

    def labels(self, images: Tensor, targets: Tensor, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Mix images (B, 3, H, W) with class indices (B,), under the seeds of their tickets.

        Targets become probabilities (B, classes) where classes were mixed; with all off nothing changes.
        """
        choices: list[Callable[..., Any]] = []
        if self.mixup:
            choices.append(v2.MixUp(alpha=self.mixup, num_classes=self.classes))
        if self.cutmix:
            choices.append(v2.CutMix(alpha=self.cutmix, num_classes=self.classes))
        if self.cutmix_within:
            choices.append(partial(cutmix_within, alpha=self.cutmix_within, seeds=seeds))
        if not choices:
            return images, targets
        torch.default_generator.manual_seed(fold(seeds[0], "mix"))
        mixed: tuple[Tensor, Tensor] = v2.RandomChoice(choices)(images, targets)
        return mixed

    def objects(self, images: Tensor, targets: list[Objects], seeds: Sequence[int]) -> tuple[Tensor, list[Objects]]:
        """Mix images (B, 3, S, S) with their objects, under the seeds of their tickets; with all off nothing changes.

        Raises ValueError for copy_paste without masks.
        """
        if self.mosaic:
            images, targets = _each(mosaic, self.mosaic, images, targets, seeds)
        if self.copy_paste:
            images, targets = _each(copy_paste, self.copy_paste, images, targets, seeds)
        return images, targets


def cutmix_within(images: Tensor, targets: Tensor, alpha: float, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Put into every image (B, 3, H, W) a patch, from the same place, of another image of its class in the batch.

    The patch is CutMix's: 1 - lambda of the area, lambda of Beta(alpha, alpha), around any pixel, cut at the border.
    Images whose class (B,) is alone in the batch stay; no label changes.
    """
    mixed, (height, width) = images.clone(), images.shape[-2:]
    for place, seed in enumerate(seeds):
        alike = [other for other in torch.nonzero(targets == targets[place]).flatten().tolist() if other != place]
        if not alike:
            continue
        draws = generator(seed, "cutmix_within")
        left, top, right, bottom = _patch(draws, alpha, width, height)
        part = np.s_[:, top:bottom, left:right]
        mixed[place][part] = images[alike[int(draws.integers(len(alike)))]][part]
    return mixed, targets


def _patch(draws: np.random.Generator, alpha: float, width: int, height: int) -> Rectangle:
    """Draw the rectangle of CutMix."""
    half = 0.5 * np.sqrt(1 - draws.beta(alpha, alpha))
    x, y, wide, high = int(draws.integers(width)), int(draws.integers(height)), int(half * width), int(half * height)
    return max(0, x - wide), max(0, y - high), min(width, x + wide), min(height, y + high)


Way = Callable[[Tensor, Sequence[Objects], int, np.random.Generator], tuple[Tensor, Objects]]


def _each(
    way: Way, chance: float, images: Tensor, targets: Sequence[Objects], seeds: Sequence[int]
) -> tuple[Tensor, list[Objects]]:
    """Apply a way of mixing to the images that its chance falls on, all of them made from the unmixed batch."""
    mixed, found = images.clone(), list(targets)
    for place, seed in enumerate(seeds):
        draws = generator(seed, way.__name__)
        if draws.random() < chance and len(images) > 1:
            mixed[place], found[place] = way(images, targets, place, draws)
    return mixed, found


def copy_paste(
    images: Tensor, targets: Sequence[Objects], place: int, draws: np.random.Generator
) -> tuple[Tensor, Objects]:
    """Paste some objects of another image of the batch, with their masks, where they are there (Ghiasi et al. 2021).

    What they cover is cut from the masks below; an object that keeps less than LEAST_SEEN of its pixels is left out,
    and boxes are drawn anew.  Edges are not blended: the authors found no use in it.
    """
    own = targets[place]
    if "masks" not in own:
        raise ValueError("copy-paste needs a mask for every object; these are boxes alone")
    others = [other for other, one in enumerate(targets) if other != place and len(one["labels"])]
    if not others:
        return images[place], own
    source = others[int(draws.integers(len(others)))]
    count = len(targets[source]["labels"])
    chosen = draws.choice(count, int(draws.integers(1, count + 1)), replace=False)
    pasted = {name: value[torch.from_numpy(np.sort(chosen))] for name, value in targets[source].items()}
    above = pasted["masks"].any(dim=0).bool()  # of bytes any() is bytes
    below = {**own, "masks": own["masks"] * ~above}
    kept = _pixels(below["masks"]) >= LEAST_SEEN * _pixels(own["masks"])
    joined = {name: torch.cat([value[kept], pasted[name]]) for name, value in below.items()}
    return torch.where(above, images[source], images[place]), tight(joined)


def mosaic(
    images: Tensor, targets: Sequence[Objects], place: int, draws: np.random.Generator
) -> tuple[Tensor, Objects]:
    """Make one image of four of the batch, this one among them, that meet in a point near the middle.

    Each is shrunk to fill its quarter with its aspect kept, and a random part of it is shown, so that no grey is left
    as in YOLO's.  An object of which less than LEAST_SEEN is left, or less than a pixel, is left out.
    """
    others = [other for other in range(len(images)) if other != place]
    drawn = draws.choice(others, 3, replace=len(others) < 3)
    four = [int(one) for one in draws.permutation([place, *drawn])]
    side = images.shape[-1]
    x, y = (int(draws.integers(round(CENTRE[0] * side), round(CENTRE[1] * side) + 1)) for _ in range(2))
    quarters: list[Rectangle] = [(0, 0, x, y), (x, 0, side, y), (0, y, x, side), (x, y, side, side)]
    whole, found = torch.empty_like(images[place]), []
    for one, quarter in zip(four, quarters, strict=True):
        left, top, right, bottom = quarter
        scaled = max(right - left, bottom - top)
        shift = (int(draws.integers(scaled - (right - left) + 1)), int(draws.integers(scaled - (bottom - top) + 1)))
        shrunk = v2.functional.resize(images[one], [scaled, scaled], antialias=True)
        whole[:, top:bottom, left:right] = _window(shrunk, shift, quarter)
        found.append(_shown(targets[one], side, scaled, shift, quarter))
    return whole, {name: torch.cat([objects[name] for objects in found]) for name in found[0]}


def _window(pixels: Tensor, shift: tuple[int, int], quarter: Rectangle) -> Tensor:
    """Return the part (…, h, w) of shrunk pixels that a quarter shows, `shift` (x, y) being its corner."""
    left, top, right, bottom = quarter
    return pixels[..., shift[1] : shift[1] + bottom - top, shift[0] : shift[0] + right - left]


def _shown(objects: Objects, side: int, scaled: int, shift: tuple[int, int], quarter: Rectangle) -> Objects:
    """Return the objects of an image of `side` pixels that a quarter shows of it, shrunk to `scaled`."""
    left, top, right, bottom = quarter
    corner, end = torch.tensor([left, top] * 2), torch.tensor([right, bottom] * 2)
    boxes = objects["boxes"] * (scaled / side) - torch.tensor(shift * 2) + corner
    seen = {**objects, "boxes": boxes.clamp(corner, end)}
    if "masks" in objects:
        nearest = v2.InterpolationMode.NEAREST_EXACT
        shrunk = v2.functional.resize(objects["masks"], [scaled, scaled], interpolation=nearest)
        part = _window(shrunk, shift, quarter)
        seen["masks"] = shrunk.new_zeros(len(shrunk), side, side)
        seen["masks"][:, top:bottom, left:right] = part
        before, now = _pixels(shrunk), _pixels(part)
    else:
        sides = seen["boxes"][:, 2:] - seen["boxes"][:, :2]
        before, now = _areas(boxes), _areas(seen["boxes"]) * (sides >= 1).all(dim=1)
    kept = (now > 0) & (now >= LEAST_SEEN * before)
    return tight({name: value[kept] for name, value in seen.items()})


def _pixels(masks: Tensor) -> Tensor:
    """Return the number of pixels (N,) of masks (N, H, W)."""
    return masks.sum(dim=(1, 2), dtype=torch.int32)  # torch adds bytes up to 64 bits twenty times as slowly


def _areas(boxes: Tensor) -> Tensor:
    """Return the areas (N,) of boxes (N, 4)."""
    return (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
