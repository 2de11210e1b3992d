"""Torchvision's detection heads on a trunk's feature maps, laid out for the size of the images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field
from torch import nn
from torchvision.models.detection import FCOS, FasterRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead
from torchvision.ops import MultiScaleRoIAlign

from bakeoff.models.detectors.adapter import Detector
from bakeoff.models.detectors.anchors import RATIOS, GridAnchors, InFloat32, octaves
from bakeoff.models.detectors.pyramid import Extended, Norm, Pyramid, feature_pyramid, norms, widths_of

LARGE = 512  # from this side on, the widths of the papers; below, those that suit a small image
FULL = 800  # the papers' image side, for which the smallest anchor is 32 pixels
DEEPEST = 32  # stride of a backbone's last map
RATIO_LIMITS = (0.1, 0.95)  # SSDLite's boxes on its first and last map, as shares of the image's side
CELLS = 16  # along the side of SSDLite's first map, at least


class HeadOptions(BaseModel):
    """What can be chosen about neck and heads; None is the default for the image size, as in `settled`.

    channels    of the maps of the pyramid                     256; below 512 pixels 128
    norm        of the neck's and the heads' convolutions      RetinaNet group, R-CNN none
    smallest    side of the smallest anchor in pixels          32 for 800 pixels; SSDLite a tenth of the side
    threshold   score that a detection needs                   0.05; SSDLite 0.01
    overlap     IoU from which on the weaker of two goes       0.5; FCOS 0.6, SSDLite 0.55
    detections  in an image, at most                           100
    hidden      width of the box head                          1024; below 512 pixels 256
    rois        proposals per image that the heads learn from  512; below 512 pixels 64
    proposals   per image that the heads look at               1000; below 512 pixels 300
    layers      convolutions in front of FCOS's outputs        4
    mask_layers convolutions of the mask head                  4; below 512 pixels 2
    samples     per cell and axis when objects are cut out     2
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    channels: int | None = Field(None, ge=8)
    norm: Norm | None = None
    smallest: float | None = Field(None, ge=1)
    threshold: float | None = Field(None, ge=0, lt=1)
    overlap: float | None = Field(None, gt=0, le=1)
    detections: int = Field(100, ge=1, le=100)
    hidden: int | None = Field(None, ge=8)
    rois: int | None = Field(None, ge=4)
    proposals: int | None = Field(None, ge=10)
    layers: int = Field(4, ge=0, le=8)
    mask_layers: int | None = Field(None, ge=1, le=8)
    samples: int = Field(2, ge=1, le=4)


TWO_STAGES = ("faster_rcnn", "mask_rcnn")
DENSE = ("channels", "smallest", "threshold", "overlap", "detections")
TWO_STAGE = (*DENSE, "norm", "hidden", "rois", "proposals", "samples")
TAKES: dict[str, tuple[str, ...]] = {  # the options of each kind
    "faster_rcnn": TWO_STAGE,
    "mask_rcnn": (*TWO_STAGE, "mask_layers"),
    "retinanet": (*DENSE, "norm"),
    "fcos": (*DENSE, "layers"),
    "ssdlite": tuple(name for name in DENSE if name != "channels"),
}


def settled(kind: str, options: HeadOptions, size: int) -> HeadOptions:
    """Fill in the defaults for a kind of detector and images of `size` pixels."""
    large = size >= LARGE
    lite = kind == "ssdlite"
    floor = RATIO_LIMITS[0] * size if lite else _floor(strides(kind, size)[0], size)
    defaults: dict[str, Any] = {
        "channels": 256 if large else 128,
        "norm": "group" if kind == "retinanet" else "none",
        "smallest": floor,
        "threshold": 0.01 if lite else 0.05,
        "overlap": {"ssdlite": 0.55, "fcos": 0.6}.get(kind, 0.5),
        "hidden": 1024 if large else 256,
        "rois": 512 if large else 64,
        "proposals": 1000 if large else 300,
        "mask_layers": 4 if large else 2,
    }
    given = {name: value for name, value in options if value is not None}
    return HeadOptions(**{**defaults, **given})


def strides(kind: str, size: int, smallest: float | None = None) -> list[int]:
    """Return the strides of the maps that a kind of detector looks at, for images of `size` pixels.

    R-CNN starts at 4, dense heads at 8 (at 4 for small images); all go as far as a backbone does, and further where
    larger objects fit into the image.  FCOS gives a map the objects of up to 8 of its strides (Tian et al. 2019); the
    others have anchors that double from map to map, from `smallest` on.
    """
    first = 4 if kind in TWO_STAGES or size <= 128 else 8
    if kind == "ssdlite":
        first = next((stride for stride in (16, 8) if size >= CELLS * stride), 4)
    inner = [stride for stride in (4, 8, 16, DEEPEST) if stride >= first]
    if kind == "ssdlite":
        return inner
    reach = 4.0 if kind == "fcos" else (smallest or _floor(first, size)) / first
    return inner + [stride for stride in (64, 128) if stride * reach <= size]


def _floor(first: int, size: int) -> float:
    """Return the side of the smallest anchor: the papers' share of the image, but two cells of the finest map."""
    return max(2 * first, 32 * size / FULL)


def padded_side(size: int) -> int:
    """Return the side of an image after padding: every map's cells then cover the same number of pixels."""
    return size + -size % DEEPEST


def detector(
    kind: str, trunk: nn.Module, taken: Sequence[int], classes: int, size: int, options: HeadOptions
) -> Detector:
    """Build a detector on a trunk that gives one map for each stride in `taken`, for images of `size` pixels."""
    options = settled(kind, options, size)
    padded = padded_side(size)
    if kind == "ssdlite":
        return Detector(_ssdlite(trunk, classes, padded, options), 1)
    extra = sum(stride > taken[-1] for stride in strides(kind, size, options.smallest))
    two_stage = kind in TWO_STAGES
    channels, norm = options.channels or 0, options.norm or "none"
    neck = feature_pyramid(widths_of(trunk, padded), channels, norm, "pool" if two_stage and extra == 1 else extra)
    pyramid = Pyramid(trunk, neck, padded)
    if two_stage:
        return Detector(_rcnn(kind, pyramid, len(taken), classes, options), 1)
    dense = _retinanet if kind == "retinanet" else _fcos
    return Detector(dense(pyramid, classes, options), 0)


def _rcnn(kind: str, pyramid: Pyramid, taken: int, classes: int, options: HeadOptions) -> nn.Module:
    """Faster R-CNN (Ren et al. 2015) or Mask R-CNN (He et al. 2017), whose heads look at the first `taken` maps."""
    names = [str(number) for number in range(taken)]
    hidden, kept, width = options.hidden or 0, options.proposals or 0, pyramid.out_channels
    given: dict[str, Any] = {
        "rpn_anchor_generator": GridAnchors(
            octaves(options.smallest or 0, len(pyramid.strides)), RATIOS, pyramid.strides
        ),
        "rpn_pre_nms_top_n_train": 2 * kept,
        "rpn_post_nms_top_n_train": 2 * kept,
        "rpn_pre_nms_top_n_test": kept,
        "rpn_post_nms_top_n_test": kept,
        "box_roi_pool": MultiScaleRoIAlign(names, 7, options.samples),
        "box_head": TwoMLPHead(width * 49, hidden),
        "box_predictor": FastRCNNPredictor(hidden, classes + 1),
        "box_score_thresh": options.threshold,
        "box_nms_thresh": options.overlap,
        "box_detections_per_img": options.detections,
        "box_batch_size_per_image": options.rois,
    }
    if kind == "faster_rcnn":
        return cast(nn.Module, FasterRCNN(pyramid, **given))
    given["mask_roi_pool"] = MultiScaleRoIAlign(names, 14, options.samples)
    given["mask_head"] = MaskRCNNHeads(width, (width,) * (options.mask_layers or 0), 1)
    given["mask_predictor"] = MaskRCNNPredictor(width, width, classes + 1)
    return cast(nn.Module, MaskRCNN(pyramid, **given))


def _retinanet(pyramid: Pyramid, classes: int, options: HeadOptions) -> nn.Module:
    """RetinaNet (Lin et al. 2017) with torchvision's second recipe: group norm and the GIoU loss."""
    anchors = GridAnchors(octaves(options.smallest or 0, len(pyramid.strides), 3), RATIOS, pyramid.strides)
    norm = norms(options.norm or "none")
    head = RetinaNetHead(pyramid.out_channels, anchors.num_anchors_per_location()[0], classes, norm_layer=norm)
    head.regression_head._loss_type = "giou"
    return cast(nn.Module, RetinaNet(pyramid, classes, anchor_generator=anchors, head=head, **_limits(options)))


def _fcos(pyramid: Pyramid, classes: int, options: HeadOptions) -> nn.Module:
    """FCOS (Tian et al. 2019): one location per cell, as torchvision writes it an anchor of the stride's size."""
    anchors = GridAnchors([[stride] for stride in pyramid.strides], (1.0,), pyramid.strides)
    head = FCOSHead(pyramid.out_channels, 1, classes, options.layers)
    return cast(nn.Module, FCOS(pyramid, classes, anchor_generator=anchors, head=head, **_limits(options)))


def _ssdlite(trunk: nn.Module, classes: int, size: int, options: HeadOptions) -> nn.Module:
    """SSDLite (Sandler et al. 2018): separable heads on the trunk's own maps and on extra ones down to one cell."""
    extra = math.ceil(math.log2(size / DEEPEST))
    pyramid = Pyramid(trunk, Extended(widths_of(trunk, size)[-1], extra), size)
    share = min((options.smallest or 0) / size, RATIO_LIMITS[1])
    boxes = DefaultBoxGenerator([[2, 3] for _ in pyramid.widths], share, RATIO_LIMITS[1])
    head = SSDLiteHead(pyramid.widths, boxes.num_anchors_per_location(), classes + 1, _lite_norm)
    limits = {**_limits(options), "topk_candidates": 300}
    return cast(nn.Module, SSD(pyramid, InFloat32(boxes), (size, size), classes + 1, head=head, **limits))


def _lite_norm(channels: int) -> nn.Module:
    """The batch norm of SSDLite's paper."""
    return nn.BatchNorm2d(channels, eps=0.001, momentum=0.03)


def _limits(options: HeadOptions) -> dict[str, Any]:
    """Return what decides which detections are kept, under the names that dense models give it."""
    return {
        "score_thresh": options.threshold,
        "nms_thresh": options.overlap,
        "detections_per_img": options.detections,
    }
