"""Instance segmentation: detection, with a mask for every object; COCO's metrics of masks, and of boxes beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from bakeoff.data.dataset import TaskName
from bakeoff.data.masks import area, to_pixels, to_runs
from bakeoff.data.targets import Boxes, Instances, Mask
from bakeoff.errors import DataError
from bakeoff.tasks.detection import Detection, arrays
from bakeoff.tasks.matching import box_areas, box_overlaps, columns, judged, match, overlaps, padded, rescaled
from bakeoff.tasks.precision import coco_metrics
from bakeoff.tasks.task import Metric, Row

if TYPE_CHECKING:
    from torch import Tensor, nn

_BOXES = coco_metrics("Box ", "box_")
METRICS: Mapping[str, Metric] = {
    **coco_metrics(),
    **{name: _BOXES[name] for name in ("box_map", "box_map50", "box_map75")},
}


class Instance(Detection):
    """Objects with a mask each.  An outcome is that of Detection, judged by masks, and by boxes in two more columns.

    box_matched, box_ignored  (100, 4) uint16: as matched and ignored
    """

    name: TaskName = "instance"
    table: Mapping[str, Metric] = METRICS

    def predict(self, net: nn.Module, images: Tensor) -> Sequence[Instances]:
        """Return the objects of every image, scores falling, at most 100; a pixel belongs to one from .5 on."""
        size = (images.shape[-1], images.shape[-2])
        found = self._found(net, images, ("boxes", "labels", "scores", "masks"))
        return [Instances(size, *arrays(one), masks=_runs_of(one["masks"], size)) for one in found]

    def outcome(self, prediction: Boxes, target: Boxes) -> Row:
        """Return the matches of one image.

        Raises UsageError without scores, DataError without masks and for the label of a class that there is not.
        """
        best = judged(prediction, target, len(self.classes))
        if not isinstance(best, Instances) or not isinstance(target, Instances):
            raise DataError("instances need a mask for every object; these are boxes alone: use the task detection")
        found, masks = rescaled(best, target), [resized(mask, best.size, target.size) for mask in best.masks]
        iou = overlaps(_runs(masks, target.size), _runs(target.masks, target.size), target.crowd)
        areas = np.array([area(mask, target.size) for mask in masks], np.float64) * target.scale
        row = columns(found, target, len(self.classes), iou, match(iou, found, target, areas))
        boxes = match(box_overlaps(found, target), found, target, box_areas(found))
        return row | {"box_matched": padded(boxes.matched, 0), "box_ignored": padded(boxes.ignored, 0)}


def resized(mask: Mask, size: tuple[int, int], wanted: tuple[int, int]) -> bytes:
    """Bring a mask in a frame of `size` (width, height) to one of another size by nearest neighbour, as run lengths."""
    if size == wanted:
        return to_runs(mask, size)
    pixels = to_pixels(mask, size).astype(np.uint8)
    return to_runs(np.asarray(cv2.resize(pixels, wanted, interpolation=cv2.INTER_NEAREST_EXACT)), wanted)


def _runs_of(probabilities: Tensor, size: tuple[int, int]) -> tuple[bytes, ...]:
    """Cut probabilities (N, H, W) at .5; one mask at a time, since a hundred of them are large."""
    return tuple(to_runs((one >= 0.5).cpu().numpy(), size) for one in probabilities)


def _runs(masks: Sequence[Mask], size: tuple[int, int]) -> list[dict[str, Any]]:
    """Return masks as the library's run lengths."""
    return [{"size": [size[1], size[0]], "counts": to_runs(mask, size)} for mask in masks]
