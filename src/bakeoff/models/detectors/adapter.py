"""Between our convention (square batches, labels from 0) and that of torchvision's detectors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.ops import clip_boxes_to_image

from bakeoff.models.groups import Groups, from_children, with_head

Found = dict[str, Tensor]
MULTIPLE = 32  # sides are padded to a multiple of it, so that every map's stride is exact
NECKS = ("neck", "steps", "fpn", "extra")  # what stands behind the backbone in a wrapper of both
SWITCHES = ("rpn", "roi_heads")  # parts of torchvision's models that look at their own training flag


class Square(nn.Module):
    """Stands where torchvision's models resize and normalise: images come ready, they are only padded.

    Padding is at the right and the bottom; results are cut to the image again.
    """

    def forward(self, images: Tensor, targets: list[Found] | None = None) -> tuple[ImageList, list[Found] | None]:
        """Pad a batch (B, 3, H, W)."""
        height, width = images.shape[-2:]
        if height % MULTIPLE or width % MULTIPLE:
            images = F.pad(images, (0, -width % MULTIPLE, 0, -height % MULTIPLE))
        height, width = images.shape[-2:]
        return ImageList(images, [(height, width)] * len(images)), targets

    def postprocess(self, found: list[Found], _padded: Any, sizes: list[tuple[int, int]]) -> list[Found]:
        """Cut boxes to the images of `sizes` (height, width), drop those of padding alone, spread masks out."""
        return [_cut(one, size) for one, size in zip(found, sizes, strict=False)]  # none are found in training


def _cut(found: Found, size: tuple[int, int]) -> Found:
    """Bring the objects of one image into it; masks (N, 1, 28, 28) of boxes become (N, H, W)."""
    boxes = clip_boxes_to_image(found["boxes"], size)
    kept = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(dim=1)
    if "masks" in found:
        pasted = paste_masks_in_image(found["masks"][kept], found["boxes"][kept], size)
        found = {**found, "masks": pasted[:, 0]}
        return {"boxes": boxes[kept], **{n: found[n][kept] for n in ("labels", "scores")}, "masks": found["masks"]}
    return {"boxes": boxes[kept], "labels": found["labels"][kept], "scores": found["scores"][kept]}


class Detector(nn.Module):
    """A detector of torchvision's under our contract (see spec.Network).

    `first` is the number that the model gives to class 0: 1 where 0 is the background.  Heads may run in bfloat16 under
    autocast; what they return is turned into float32 before boxes are decoded and losses are taken.
    """

    def __init__(self, model: nn.Module, first: int) -> None:
        """Take the model over; its resizing and normalising go."""
        super().__init__()
        self.model, self.first = model, first
        model.transform = Square()
        for part in _heads(model):
            part.register_forward_hook(_in_float32)

    def forward(self, images: Tensor, targets: list[Found] | None = None) -> dict[str, Tensor] | list[Found]:
        """Return losses where there are targets, else the objects found, best first."""
        if targets is not None:
            shifted = [{**target, "labels": target["labels"] + self.first} for target in targets]
            with self._switched(True):
                return cast(dict[str, Tensor], self.model(images, shifted))
        if images.is_meta:
            return self.trace(images)
        with self._switched(False):
            found: list[Found] = self.model(images)
        return [{**one, "labels": one["labels"] - self.first} for one in found]

    def trace(self, images: Tensor) -> list[Found]:
        """Run every layer on fixed numbers of objects, which depend on no value: what operations are counted on.

        The box head runs on as many proposals as it may get, the mask head on as many objects as may be found.
        """
        model: Any = self.model
        maps = model.backbone(model.transform(images)[0].tensors)
        if not hasattr(model, "roi_heads"):
            model.head(list(maps.values()))
        else:
            model.rpn.head(list(maps.values()))
            _trace_objects(model.roi_heads, next(iter(maps.values())), model.rpn.post_nms_top_n())
        return [_nothing(images, masks=_has_masks(model)) for _ in images]

    @contextmanager
    def _switched(self, training: bool) -> Iterator[None]:
        """Have losses or detections whatever the mode: the mode of frozen parts is about their norms alone."""
        parts = [self.model, *(getattr(self.model, name) for name in SWITCHES if hasattr(self.model, name))]
        modes = [part.training for part in parts]
        for part in parts:
            part.training = training
        try:
            yield
        finally:
            for part, mode in zip(parts, modes, strict=True):
                part.training = mode

    def layer_groups(self) -> Groups:
        """Return layer groups: those of the trunk from its stem on, then all the rest as the head."""
        path = "model.backbone"
        while inner := _wrapped(self.get_submodule(path)):
            path = f"{path}.{inner}"
        inside = from_children(self.get_submodule(path), ())
        groups = [[f"{path}.{name}" for name in group] for group in inside]
        covered = {name for group in groups for name in group}
        return with_head(self, groups, [name for name, _ in self.named_parameters() if name not in covered])


def _wrapped(module: nn.Module) -> str:
    """Return the name of the child that holds a wrapper's network, "" for a network itself."""
    children = {name for name, _ in module.named_children()}
    pairs = ({"trunk", "neck"}, {"trunk", "steps"}, {"body", "fpn"}, {"features", "extra"})
    known = children in ({"trunk"}, {"model"}, *pairs)
    return next(name for name, _ in module.named_children() if name not in NECKS) if known else ""


def _heads(model: Any) -> list[nn.Module]:
    """Return the modules whose outputs are decoded or compared with targets."""
    if not hasattr(model, "roi_heads"):
        return [model.head]
    heads = [model.rpn.head, model.roi_heads.box_predictor]
    return [*heads, model.roi_heads.mask_predictor] if _has_masks(model) else heads


def _has_masks(model: Any) -> bool:
    """Say whether a model predicts masks."""
    return hasattr(model, "roi_heads") and bool(model.roi_heads.has_mask())


def _in_float32(_module: nn.Module, _given: Any, output: Any) -> Any:
    """Turn the tensors of a head's output into float32."""
    if isinstance(output, Tensor):
        return output.float()
    if isinstance(output, dict):
        return {name: _in_float32(_module, _given, value) for name, value in output.items()}
    return type(output)(_in_float32(_module, _given, value) for value in output)


def _trace_objects(heads: Any, largest: Tensor, proposals: int) -> None:
    """Run the heads of a two-stage detector on empty proposals."""
    channels = largest.shape[1]
    heads.box_predictor(heads.box_head(largest.new_zeros(proposals, channels, *heads.box_roi_pool.output_size)))
    if heads.has_mask():
        pooled = largest.new_zeros(heads.detections_per_img, channels, *heads.mask_roi_pool.output_size)
        heads.mask_predictor(heads.mask_head(pooled))


def _nothing(images: Tensor, masks: bool) -> Found:
    """Return no objects."""
    found = {"boxes": images.new_zeros(0, 4), "scores": images.new_zeros(0)}
    found["labels"] = torch.zeros(0, dtype=torch.int64, device=images.device)
    return {**found, "masks": images.new_zeros(0, *images.shape[-2:])} if masks else found
