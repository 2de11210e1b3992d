"""Small detectors: torchvision's heads, narrow and shallow, on a residual trunk of two maps."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from bakeoff.data.dataset import TaskName
from bakeoff.models.blocks import Residual, conv, he_weights

if TYPE_CHECKING:
    from bakeoff.models.detectors.adapter import Detector

LARGE = 96  # from this side on, the first layer divides it by four instead of two: cost follows the area
HEAD = ("model.backbone.neck", "model.rpn", "model.roi_heads", "model.head")
CHANNELS = {"fcos": 64, "faster_rcnn": 32, "mask_rcnn": 32}  # of the neck's maps


def names(task: TaskName) -> tuple[str, ...]:
    """Return the names of the small networks for boxes or for instances."""
    return tuple(sorted(name for name in NETWORKS if (name == "mask_rcnn") == (task == "instance")))


def fcos(size: int, classes: int, width: int = 24) -> Detector:
    """FCOS (Tian et al. 2019) with one convolution in front of its outputs."""
    return _detector("fcos", size, classes, width, layers=1)


def faster_rcnn(size: int, classes: int, width: int = 24) -> Detector:
    """Faster R-CNN (Ren et al. 2015) with a box head of 128 that learns from 24 proposals per image."""
    return _detector("faster_rcnn", size, classes, width, **TWO_STAGE)


def mask_rcnn(size: int, classes: int, width: int = 24) -> Detector:
    """Mask R-CNN (He et al. 2017): the small Faster R-CNN, and two convolutions for masks of 28 x 28 cells."""
    return _detector("mask_rcnn", size, classes, width, mask_layers=2, **TWO_STAGE)


TWO_STAGE = {"hidden": 128, "rois": 24, "proposals": 50, "samples": 1}
NETWORKS = {"faster_rcnn": faster_rcnn, "fcos": fcos, "mask_rcnn": mask_rcnn}


class Trunk(nn.Module):
    """A strided first layer, then a residual block per map, each with half the side of the one before."""

    def __init__(self, widths: list[int], stride: int) -> None:
        """Set the widths: of the first layer, then of the maps."""
        super().__init__()
        self.stem = conv(3, widths[0], stride, 2 * stride + 1)
        self.stages = nn.ModuleList(Residual(before, width, 2) for before, width in pairwise(widths))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the maps, finest first."""
        maps = [self.stem(images)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps[1:]


def _detector(kind: str, size: int, classes: int, width: int, **options: Any) -> Detector:
    """Put a kind of head on a trunk with maps of twice and four times the width."""
    from bakeoff.models.detectors.heads import HeadOptions, detector

    first = 2 if size < LARGE else 4
    trunk = he_weights(Trunk([width, 2 * width, 4 * width], first))
    chosen = HeadOptions(channels=CHANNELS[kind], norm="batch", **options)
    return detector(kind, trunk, (2 * first, 4 * first), classes, size, chosen)
