"""Augment: a named family of draws -> one torchvision v2 transform; Mix: MixUp and CutMix on a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torchvision.transforms import v2

AugmentName = Literal["none", "flip", "light", "standard", "strong", "digits"]


@dataclass(frozen=True)
class Augment:
    """What may happen to a training image of side `size`.

    none      nothing
    flip      mirrored left-right half of the time
    light     flip; a random part of 60 to 100 % of the area, aspect 3:4 to 4:3, resized back
    standard  light; brightness, contrast and saturation +-25 %
    strong    light; TrivialAugment (Mueller & Hutter 2021); a random rectangle erased in a quarter of the images
    digits    turned by +-10 degrees, moved by 8 %, scaled by +-10 %, sheared by 5 degrees; never mirrored
    """

    name: AugmentName
    size: int

    def transform(self) -> v2.Transform | None:
        """Return the transform of a PIL image, or None when there is nothing to do.

        Its draws come from torch's global generator, which the loader seeds for each sample.
        """
        steps = self._steps()
        return v2.Compose(steps) if steps else None

    def _steps(self) -> list[v2.Transform]:
        flip = v2.RandomHorizontalFlip()
        crop = v2.RandomResizedCrop(self.size, scale=(0.6, 1.0), interpolation=v2.InterpolationMode.BILINEAR)
        families: dict[AugmentName, list[v2.Transform]] = {
            "none": [],
            "flip": [flip],
            "light": [crop, flip],
            "standard": [crop, flip, v2.ColorJitter(0.25, 0.25, 0.25)],
            "strong": [crop, flip, v2.TrivialAugmentWide(), *_erasing()],
            "digits": [v2.RandomAffine(10, (0.08, 0.08), (0.9, 1.1), 5, interpolation=v2.InterpolationMode.BILINEAR)],
        }
        return families[self.name]


def _erasing() -> list[v2.Transform]:
    """Erase a rectangle: torchvision does it on tensors only."""
    return [v2.PILToTensor(), v2.RandomErasing(p=0.25), v2.ToPILImage()]


@dataclass(frozen=True)
class Mix:
    """MixUp (Zhang et al. 2018) and CutMix (Yun et al. 2019), by their Beta parameters; 0 switches one off.

    With both on, each batch draws one of them.
    """

    classes: int
    mixup: float = 0.0
    cutmix: float = 0.0

    def __call__(self, images: Tensor, targets: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Mix images (B, 3, H, W) and targets (B,) into soft targets (B, classes); unchanged when both are off."""
        choices: list[v2.Transform] = []
        if self.mixup:
            choices.append(v2.MixUp(alpha=self.mixup, num_classes=self.classes))
        if self.cutmix:
            choices.append(v2.CutMix(alpha=self.cutmix, num_classes=self.classes))
        if not choices:
            return images, targets
        torch.default_generator.manual_seed(seed)
        mixed: tuple[Tensor, Tensor] = v2.RandomChoice(choices)(images, targets)
        return mixed
