"""Detection: the network's own losses, boxes with scores, and COCO's metrics of stored matches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bakeoff.data.dataset import TaskName
from bakeoff.data.targets import Boxes
from bakeoff.errors import RunError, UsageError
from bakeoff.tasks import mistakes
from bakeoff.tasks.matching import DETECTIONS, box_areas, box_overlaps, columns, judged, match, rescaled
from bakeoff.tasks.precision import coco_metrics
from bakeoff.tasks.task import PLAIN_LOSS, LossOptions, Metric, Outcomes, Row

if TYPE_CHECKING:  # the metrics serve a report, which should not wait for torch
    from torch import Tensor, nn

    from bakeoff.data.load import Batch

METRICS: Mapping[str, Metric] = coco_metrics()


class Detection:
    """Boxes around objects.  An outcome has D = 100 places for detections, scores falling, the free ones at the end.

    scores        (D,) float64, 0 where free
    labels        (D,) int16 class index, -1 where free
    matched       (D, 4) uint16: one bit per IoU of .50, .55 … .95, lowest first, per area range (all, small, medium,
                  large): the detection finds an object
    ignored       (D, 4) uint16: likewise, it does not count
    truths        (classes, 4) int32: the objects to be found
    kinds         (D,) uint8: an index of matching.KINDS
    about         (D,) int16: the object of the target that the kind is about, -1 for none
    about_labels  (D,) int16: the class of that object
    """

    name: TaskName = "detection"
    headline: str = "map"
    validation_loss: str = ""
    batch: int = 16
    table: Mapping[str, Metric] = METRICS

    def __init__(self, classes: tuple[str, ...], loss: LossOptions = PLAIN_LOSS) -> None:
        """Remember the classes.  Raises UsageError for options of the loss, since the networks bring their own."""
        if loss.name != "default":
            raise UsageError(f"{self.name} has no loss {loss.name!r}; its networks bring their own: use default")
        if loss.label_smoothing or loss.class_weights is not None:
            raise UsageError(f"{self.name} knows neither label smoothing nor class weights; leave both out")
        self.classes = classes

    def loss(self, net: nn.Module, batch: Batch) -> Tensor:
        """Return the sum of the losses that the network names, in float32."""
        losses = net(batch.images, batch.targets)
        if not isinstance(losses, Mapping) or not losses:
            raise RunError(f"{self.name}: network(images, targets) should give a dict of losses, got {_shape(losses)}")
        total: Tensor = sum(value.float() for value in losses.values())
        return total

    def predict(self, net: nn.Module, images: Tensor) -> Sequence[Boxes]:
        """Return the detections of every image, scores falling, at most 100."""
        size = (images.shape[-1], images.shape[-2])
        return [Boxes(size, *arrays(one)) for one in self._found(net, images, ("boxes", "labels", "scores"))]

    def outcome(self, prediction: Boxes, target: Boxes) -> Row:
        """Return the matches of one image.

        Raises UsageError without scores and DataError for the label of a class that there is not.
        """
        found = rescaled(judged(prediction, target, len(self.classes)), target)
        iou = box_overlaps(found, target)
        return columns(found, target, len(self.classes), iou, match(iou, found, target, box_areas(found)))

    def metrics(self, outcomes: Outcomes) -> dict[str, float]:
        """Return every metric of the table; NaN where one is undefined."""
        return {name: metric.function(outcomes) for name, metric in self.table.items()}

    def doubtful(self, runs: Sequence[Outcomes]) -> tuple[str, ...]:
        """Return the ids of images whose labels the runs of all candidates together contradict."""
        return mistakes.doubtful(runs)

    def _found(self, net: nn.Module, images: Tensor, names: tuple[str, ...]) -> Iterator[dict[str, Tensor]]:
        """Yield what the network finds, the best 100 of every image; of equal scores the first stands first."""
        output = net(images)
        if not isinstance(output, Sequence) or len(output) != len(images):
            raise RunError(f"{self.name}: network(images) should give a dict per image, got {_shape(output)}")
        for one in output:
            if missing := [name for name in names if name not in one]:
                raise RunError(f"{self.name}: what the network finds in an image lacks {', '.join(missing)}")
            order = one["scores"].float().argsort(descending=True, stable=True)[:DETECTIONS]
            yield {name: one[name][order].detach() for name in names}


def arrays(one: dict[str, Tensor]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return boxes, labels and scores as numpy knows them."""
    boxes, labels, scores = (one[name].double().cpu().numpy() for name in ("boxes", "labels", "scores"))
    return boxes.reshape(-1, 4), labels.astype(np.int64), scores


def _shape(output: object) -> str:
    """Say what a network gave instead."""
    length = f" of {len(output)}" if isinstance(output, Sequence) else ""
    return type(output).__name__ + length
