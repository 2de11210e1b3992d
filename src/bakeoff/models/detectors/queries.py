"""Between our convention and that of transformers that turn a fixed number of queries into boxes or masks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import box_convert, clip_boxes_to_image, masks_to_boxes

from bakeoff.models.groups import Groups, from_children, with_head

Found = dict[str, Tensor]
MOST = 100  # objects per image


class Queries(nn.Module, ABC):
    """A network of the transformers library under our contract (see spec.Network).

    Images are padded at the right and bottom to a multiple of `multiple`, with zeros.  The loss is the library's own,
    in one number; what the network returns is turned into float32 before anything is made of it.
    """

    def __init__(self, model: nn.Module, multiple: int) -> None:
        """Take the model over."""
        super().__init__()
        self.model, self.multiple = model, multiple

    def forward(self, images: Tensor, targets: list[Found] | None = None) -> dict[str, Tensor] | list[Found]:
        """Return the loss where there are targets, else the objects found, best first."""
        height, width = images.shape[-2:]
        padded = F.pad(images, (0, -width % self.multiple, 0, -height % self.multiple))
        if targets is not None:
            with self._switched(True):
                return {"loss": self.model(pixel_values=padded, **self._labels(targets, padded)).loss.float()}
        with self._switched(False), _on_meta(images):
            output: Any = self.model(pixel_values=padded)
        return self._found(output, padded, (height, width))

    @abstractmethod
    def _labels(self, targets: list[Found], padded: Tensor) -> dict[str, Any]:
        """Return the targets as the library takes them."""

    @abstractmethod
    def _found(self, output: Any, padded: Tensor, size: tuple[int, int]) -> list[Found]:
        """Return what is found in images of `size` (height, width)."""

    @contextmanager
    def _switched(self, training: bool) -> Iterator[None]:
        """Have a loss or predictions whatever the mode; layers without children, norms and dropout, keep theirs."""
        parts = [module for module in self.model.modules() if next(module.children(), None) is not None]
        modes = [part.training for part in parts]
        for part in parts:
            part.training = training
        try:
            yield
        finally:
            for part, mode in zip(parts, modes, strict=True):
                part.training = mode

    def layer_groups(self, trunks: Sequence[str]) -> Groups:
        """Return layer groups: those of the modules named `trunks` from the stem on, then all the rest as the head."""
        groups = [
            [f"{trunk}.{name}" for name in group]
            for trunk in trunks
            for group in from_children(self.get_submodule(trunk), ())
        ]
        covered = {name for group in groups for name in group}
        return with_head(self, groups, [name for name, _ in self.named_parameters() if name not in covered])


class BoxQueries(Queries):
    """Queries that give logits (B, Q, classes) and boxes (B, Q, 4): centre and size as shares of the padded image."""

    def _labels(self, targets: list[Found], padded: Tensor) -> dict[str, Any]:
        """Bring boxes to the library's form."""
        height, width = padded.shape[-2:]
        scale = padded.new_tensor([width, height, width, height])
        labels = [
            {"class_labels": one["labels"], "boxes": box_convert(one["boxes"], "xyxy", "cxcywh") / scale}
            for one in targets
        ]
        return {"labels": labels}

    def _found(self, output: Any, padded: Tensor, size: tuple[int, int]) -> list[Found]:
        """Take the most probable pairs of query and class."""
        height, width = padded.shape[-2:]
        scores, places, labels = best(output.logits.float().sigmoid())
        boxes = box_convert(output.pred_boxes.float(), "cxcywh", "xyxy")
        boxes = boxes * boxes.new_tensor([width, height, width, height])
        found = []
        for image, one in enumerate(boxes):
            kept = clip_boxes_to_image(one[places[image]], size)
            objects = {"boxes": kept, "labels": labels[image], "scores": scores[image]}
            found.append(_sound(objects))
        return found


class MaskQueries(Queries):
    """Queries that give logits (B, Q, classes + 1), the last for nothing, and masks (B, Q, h, w)."""

    def _labels(self, targets: list[Found], padded: Tensor) -> dict[str, Any]:
        """Pad the masks as the images."""
        height, width = padded.shape[-2:]
        masks = [
            F.pad(one["masks"].float(), (0, width - one["masks"].shape[-1], 0, height - one["masks"].shape[-2]))
            for one in targets
        ]
        return {"mask_labels": masks, "class_labels": [one["labels"] for one in targets]}

    def _found(self, output: Any, padded: Tensor, size: tuple[int, int]) -> list[Found]:
        """Take the most probable pairs of query and class; a score is weighed by how sure the mask is of its pixels."""
        scores, places, labels = best(output.class_queries_logits.float().softmax(-1)[..., :-1])
        found = []
        for image, logits in enumerate(output.masks_queries_logits.float()):
            chosen = logits[places[image]][None]
            masks = F.interpolate(chosen, padded.shape[-2:], mode="bilinear", align_corners=False)[0].sigmoid()
            masks = masks[:, : size[0], : size[1]]
            inside = (masks >= 0.5).float()
            sure = (masks * inside).flatten(1).sum(1) / inside.flatten(1).sum(1).clamp(min=1)
            order = (scores[image] * sure).argsort(descending=True, stable=True)
            objects = {"labels": labels[image][order], "scores": (scores[image] * sure)[order], "masks": masks[order]}
            found.append(_boxed(objects))
        return found


def best(probabilities: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the highest (B, N) of probabilities (B, queries, classes), N at most 100, with their query and class."""
    classes = probabilities.shape[-1]
    flat = probabilities.flatten(1)
    scores, places = flat.topk(min(MOST, flat.shape[1]), dim=1)
    return scores, places // classes, places % classes


def _sound(objects: Found) -> Found:
    """Leave out boxes without area; on the meta device, where there are no values, none."""
    if objects["boxes"].is_meta:
        return objects
    kept = ((objects["boxes"][:, 2:] - objects["boxes"][:, :2]) > 0).all(dim=1)
    return {name: value[kept] for name, value in objects.items()}


def _boxed(objects: Found) -> Found:
    """Draw boxes around masks, and leave out objects without a pixel."""
    masks = objects["masks"]
    if masks.is_meta:
        return {**objects, "boxes": masks.new_zeros(len(masks), 4)}
    kept = (masks >= 0.5).flatten(1).any(dim=1)
    objects = {name: value[kept] for name, value in objects.items()}
    boxes = masks_to_boxes(objects["masks"] >= 0.5) if len(objects["masks"]) else masks.new_zeros(0, 4)
    return {**objects, "boxes": boxes + boxes.new_tensor([0, 0, 1, 1])}


@contextmanager
def _on_meta(images: Tensor) -> Iterator[None]:
    """On the meta device leave out the library's checks of values, for there are none."""
    if not images.is_meta:
        yield
        return
    with patch.object(torch, "_check_tensor_all_with", lambda *_: None):
        yield
