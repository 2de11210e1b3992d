"""The body of R-CNN: proposals, crops of them, a classifier of images on each; torchvision's heads do the rest."""

from __future__ import annotations

import copy
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, cast

import torch
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import roi_align

from bakeoff.models.classics.selective_search import propose
from bakeoff.models.groups import Groups
from bakeoff.models.spec import Network

Found = dict[str, Tensor]
CONTEXT = 16 / 227  # of a crop's side, on each side of the box: the paper's 16 pixels
MATCHED, POSITIVE = 0.5, 0.25  # IoU of a proposal that is an object; share of those in training
DETECTIONS = 100
AT_ONCE = 64  # crops, in evaluation
REMEMBERED = 2048  # images whose proposals are kept


@dataclass(frozen=True)
class Limits:
    """Side of a crop in pixels; proposals per image; crops of them to learn from; least score; IoU of duplicates."""

    crop: int
    proposals: int
    rois: int
    threshold: float
    overlap: float


class CropDetector(nn.Module):
    """The contract of detectors (see spec.Network) on images that are not normalised: the backbone does that.

    The outputs of the backbone for a crop are a logit for the background and for each class, then four corrections for
    each of these.  Proposals are remembered by the content of the image.
    """

    def __init__(self, backbone: Network, classes: int, limits: Limits) -> None:
        """Hand proposals and crops to torchvision's heads, which draw, compare, correct and select."""
        super().__init__()
        parts = (Crops(limits.crop, backbone.mean), CropClassifier(backbone), Split(classes + 1))
        kept = (limits.threshold, limits.overlap, DETECTIONS)
        self.roi_heads = RoIHeads(*parts, MATCHED, MATCHED, limits.rois, POSITIVE, None, *kept)
        self.limits = limits
        self.remembered: OrderedDict[bytes, Tensor] = OrderedDict()

    @property
    def backbone(self) -> Network:
        """The classifier of crops."""
        return cast(Network, self.roi_heads.box_head.backbone)

    def forward(self, images: Tensor, targets: list[Found] | None = None) -> dict[str, Tensor] | list[Found]:
        """Return losses where there are targets, else the objects found, best first."""
        if images.is_meta:
            return self.trace(images)
        proposals = [self.proposals(image) for image in images]
        sizes = [(images.shape[2], images.shape[3])] * len(images)
        shifted = targets and [{**target, "labels": target["labels"] + 1} for target in targets]
        before, self.roi_heads.training = self.roi_heads.training, targets is not None
        try:
            found, losses = self.roi_heads(images, proposals, sizes, shifted)
        finally:
            self.roi_heads.training = before
        if targets is not None:
            return cast(dict[str, Tensor], losses)
        return [{**one, "labels": one["labels"] - 1} for one in found]

    def proposals(self, image: Tensor) -> Tensor:
        """Return the proposals (N, 4) for an image (3, H, W), searched once for images of the same content."""
        pixels = (image.detach() * 255).round().clamp(0, 255).byte().permute(1, 2, 0).contiguous().cpu().numpy()
        key = blake2b(pixels.tobytes(), digest_size=16).digest() + bytes(str(pixels.shape), "ascii")
        if key not in self.remembered:
            self.remembered[key] = torch.from_numpy(propose(pixels, self.limits.proposals))
        self.remembered.move_to_end(key)
        while len(self.remembered) > REMEMBERED:
            self.remembered.popitem(last=False)
        return self.remembered[key].to(image.device)

    def trace(self, images: Tensor) -> list[Found]:
        """Run the backbone, without computing, on as many crops as there may be: what operations are counted on."""
        backbone = self.backbone if images.is_meta else copy.deepcopy(self.backbone).to("meta")
        crop = self.limits.crop
        backbone(torch.zeros(self.limits.proposals, 3, crop, crop, device="meta"))
        nothing = {"boxes": images.new_zeros(0, 4), "scores": images.new_zeros(0)}
        return [{**nothing, "labels": images.new_zeros(0, dtype=torch.int64)} for _ in images]

    def layer_groups(self) -> Groups:
        """Return the backbone's, under their names here."""
        return tuple(
            tuple(f"roi_heads.box_head.backbone.body.{name}" for name in group) for group in self.backbone.groups
        )


class Crops(nn.Module):
    """Boxes of images -> crops (N, 3, side, side) with some context, the mean colour where that lies outside."""

    mean: Tensor

    def __init__(self, side: int, mean: Tensor) -> None:
        """Set the side of a crop."""
        super().__init__()
        self.side = side
        self.register_buffer("mean", mean.clone(), persistent=False)

    def forward(self, images: Tensor, boxes: list[Tensor], _sizes: Any) -> Tensor:
        """Warp, whatever the box's shape: bilinear, two samples per pixel and axis."""
        grown = [_grown(one, 1 / (1 - 2 * CONTEXT)) for one in boxes]
        cut = roi_align(images - self.mean, grown, self.side, sampling_ratio=2, aligned=True)
        crops: Tensor = cut + self.mean
        return crops


def _grown(boxes: Tensor, factor: float) -> Tensor:
    """Return boxes (N, 4) so many times as large about their centres."""
    centres, halves = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) * (factor / 2)
    return torch.cat([centres - halves, centres + halves], dim=1)


class CropClassifier(nn.Module):
    """The backbone on crops, in evaluation some at a time."""

    def __init__(self, backbone: Network) -> None:
        """Take the network over."""
        super().__init__()
        self.backbone = backbone

    def forward(self, crops: Tensor) -> Tensor:
        """(N, 3, side, side) -> (N, outputs)."""
        parts = [crops] if self.training else crops.split(AT_ONCE)
        return torch.cat([self.backbone(part) for part in parts])


class Split(nn.Module):
    """Outputs (N, 5 x labels) -> logits (N, labels) and corrections (N, 4 x labels), in float32."""

    def __init__(self, labels: int) -> None:
        """Set how many there are, the background among them."""
        super().__init__()
        self.labels = labels

    def forward(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Cut the outputs in two."""
        outputs = outputs.float()
        return outputs[:, : self.labels], outputs[:, self.labels :]
