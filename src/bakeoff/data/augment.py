"""Augment: a named family of draws -> one torchvision v2 transform of an image and its target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.ops import masks_to_boxes
from torchvision.transforms import v2

from bakeoff.data.targets import IGNORE

AugmentName = Literal["none", "flip", "light", "standard", "strong", "trivial", "randaugment", "digits"]


@dataclass(frozen=True)
class Augment:
    """What may happen to a training image of side `size`.

    none      nothing
    flip      mirrored left-right half of the time
    light     flip; a random part of 60 to 100 % of the area, aspect 3:4 to 4:3, resized back
    standard  light; brightness, contrast and saturation +-25 %
    strong    light; TrivialAugment (Mueller & Hutter 2021); a random rectangle erased in a quarter of the images
    trivial   light; TrivialAugment alone
    randaugment   light; RandAugment (Cubuk et al. 2020): two operations, each of magnitude 9 of 30
    digits    turned by +-10 degrees, moved by 8 %, scaled by +-10 %, sheared by 5 degrees; never mirrored

    Label maps, boxes and masks cannot follow the geometry of TrivialAugment and RandAugment, which turn by up to 135
    degrees: beside them "strong" turns, scales and recolours instead, "trivial" and "randaugment" draw from their
    colour operations alone.
    """

    name: AugmentName
    size: int

    def transform(self) -> v2.Transform | None:
        """Return the transform of a PIL image, or None when there is nothing to do.

        Its draws come from torch's global generator, which the loader seeds for each sample.
        """
        steps = self._steps()
        return v2.Compose(steps) if steps else None

    def together(self, image: NDArray[np.uint8], target: Tensor | dict[str, Tensor]) -> tuple[NDArray[np.uint8], Any]:
        """Draw once for an image (S, S, 3) and its target: a label map (S, S), or boxes, labels and perhaps masks.

        Geometry moves all of them together; label maps and masks are never interpolated, and what comes in from
        outside of a label map is IGNORE.  Boxes are clipped, drawn anew around masks where there are some, and objects
        that leave the image are left out.
        """
        if not isinstance(target, dict):
            drawn, labels = v2.Compose([v2.Identity(), *self._dense(IGNORE)])(
                Image.fromarray(image), tv_tensors.Mask(target)
            )
            return np.asarray(drawn), labels.as_subclass(Tensor)
        wrapped: dict[str, Any] = {**target}
        canvas = (self.size, self.size)
        wrapped["boxes"] = tv_tensors.BoundingBoxes(target["boxes"], format="XYXY", canvas_size=canvas)
        if "masks" in target:
            wrapped["masks"] = tv_tensors.Mask(target["masks"])
        steps = [*self._dense(0), v2.SanitizeBoundingBoxes(min_size=1)]
        drawn, found = v2.Compose(steps)(Image.fromarray(image), wrapped)
        return np.asarray(drawn), tight({name: value.as_subclass(Tensor) for name, value in found.items()})

    def _dense(self, fill: int) -> list[v2.Transform]:
        """Return the steps where a target moves along; masks are filled with `fill`."""
        filled: dict[Any, Any] = {tv_tensors.Mask: fill, "others": 0}
        if self.name == "strong":
            turn = v2.RandomAffine(10, scale=(0.8, 1.2), interpolation=v2.InterpolationMode.BILINEAR, fill=filled)
            return [*self._steps()[:2], turn, v2.ColorJitter(0.4, 0.4, 0.4, 0.05)]
        if self.name == "digits":
            affine = v2.InterpolationMode.BILINEAR
            return [v2.RandomAffine(10, (0.08, 0.08), (0.9, 1.1), 5, interpolation=affine, fill=filled)]
        if self.name in ("trivial", "randaugment"):
            return [*self._steps()[:2], ImageAlone(TrivialColours() if self.name == "trivial" else RandomColours())]
        return self._steps()

    def _steps(self) -> list[v2.Transform]:
        """Return the steps for an image alone."""
        flip = v2.RandomHorizontalFlip()
        crop = Crop(self.size, scale=(0.6, 1.0), interpolation=v2.InterpolationMode.BILINEAR)
        families: dict[AugmentName, list[v2.Transform]] = {
            "none": [],
            "flip": [flip],
            "light": [crop, flip],
            "standard": [crop, flip, v2.ColorJitter(0.25, 0.25, 0.25)],
            "strong": [crop, flip, v2.TrivialAugmentWide(), *_erasing()],
            "trivial": [crop, flip, v2.TrivialAugmentWide()],
            "randaugment": [crop, flip, v2.RandAugment(num_ops=2, magnitude=9)],
            "digits": [v2.RandomAffine(10, (0.08, 0.08), (0.9, 1.1), 5, interpolation=v2.InterpolationMode.BILINEAR)],
        }
        return families[self.name]


class Crop(v2.RandomResizedCrop):  # type: ignore[misc]  # torchvision has no types
    """A random part resized back, with labels where the image is: torchvision's own moves them by part of a pixel."""

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Take labels from the pixel that their centre falls into; the rest is torchvision's."""
        if not isinstance(inpt, tv_tensors.Mask):
            return super().transform(inpt, params)
        part = v2.functional.crop(inpt, **params)
        return v2.functional.resize(part, list(self.size), interpolation=v2.InterpolationMode.NEAREST_EXACT)


def _colours(operations: dict[str, Any]) -> dict[str, Any]:
    """Leave the operations out that move pixels."""
    return {name: way for name, way in operations.items() if not name.startswith(("Shear", "Translate", "Rotate"))}


class TrivialColours(v2.TrivialAugmentWide):  # type: ignore[misc]  # torchvision has no types
    """TrivialAugment's operations on colours."""

    _AUGMENTATION_SPACE = _colours(v2.TrivialAugmentWide._AUGMENTATION_SPACE)


class RandomColours(v2.RandAugment):  # type: ignore[misc]
    """RandAugment's operations on colours, two of magnitude 9."""

    _AUGMENTATION_SPACE = _colours(v2.RandAugment._AUGMENTATION_SPACE)


class ImageAlone(v2.Transform):  # type: ignore[misc]
    """A transform of the image that leaves its target as it is."""

    def __init__(self, transform: v2.Transform) -> None:
        """Remember the transform."""
        super().__init__()
        self.inner = transform

    def forward(self, image: Image.Image, target: Any) -> tuple[Image.Image, Any]:
        """Return the image transformed, and the target."""
        return self.inner(image), target


def tight(objects: dict[str, Tensor]) -> dict[str, Tensor]:
    """Draw boxes around masks, where there are masks, and leave out objects of which no pixel is left."""
    if "masks" not in objects:
        return objects
    kept = objects["masks"].flatten(1).any(dim=1).bool()  # of bytes any() is bytes
    left = {name: value[kept] for name, value in objects.items()}
    if len(left["masks"]):
        left["boxes"] = masks_to_boxes(left["masks"]).float() + torch.tensor([0.0, 0, 1, 1])
    return left


def _erasing() -> list[v2.Transform]:
    """Erase a rectangle: torchvision does it on tensors only."""
    return [v2.PILToTensor(), v2.RandomErasing(p=0.25), v2.ToPILImage()]
