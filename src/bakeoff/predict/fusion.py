"""Several predictions of one image as one: probabilities are averaged, boxes and masks are fused."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bakeoff.data.masks import bounds, to_pixels, to_runs
from bakeoff.data.targets import Boxes, Instances, Label, LabelMap, Target
from bakeoff.errors import UsageError
from bakeoff.tasks.matching import DETECTIONS, overlaps

SAME = 0.55  # overlap (IoU) from which boxes are of one object: the paper's
Floats = NDArray[np.float64]


def fused(predictions: Sequence[Target]) -> Target:
    """Return one prediction for several of the same image in the same frame, each of another network or view.

    Labels and label maps: the mean of the probabilities, and the class where it is highest.  Boxes: weighted boxes
    fusion (Solovyev, Wang and Gabruseva 2021, "Weighted boxes fusion: Ensembling boxes from different object detection
    models"): boxes of a class that overlap by .55 become their mean, weighted by their scores, and the score is the
    mean score times the share of the predictions that found the object.  Instances are fused likewise; a pixel belongs
    to one where the weighted mean of its masks is at least a half.  Raises UsageError for predictions without scores.
    """
    first = predictions[0]
    if isinstance(first, Label):
        scores = np.mean([_given(one.scores) for one in predictions if isinstance(one, Label)], axis=0)
        return Label(int(scores.argmax()), tuple(scores.tolist()))
    if isinstance(first, LabelMap):
        planes = np.mean([_given(one.scores) for one in predictions if isinstance(one, LabelMap)], axis=0)
        return LabelMap(planes.argmax(axis=0).astype(np.uint8), planes)
    return _objects([one for one in predictions if isinstance(one, Boxes)])


def _given(scores: NDArray[np.floating] | tuple[float, ...] | None) -> NDArray[np.floating]:
    """Return scores as an array."""
    if scores is None:
        raise UsageError("predictions are joined by their probabilities; these have none")
    return np.asarray(scores)


def _objects(found: Sequence[Boxes]) -> Boxes:
    """Fuse boxes, or instances, of predictions that are all of one image."""
    boxes = np.concatenate([one.xyxy for one in found])
    labels = np.concatenate([one.labels for one in found])
    scores = np.concatenate([_given(one.scores) for one in found]).astype(np.float64)
    own = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    clusters = [places[chosen] for places in own for chosen in _clusters(boxes[places], scores[places])]
    shares = [min(len(chosen), len(found)) / len(found) for chosen in clusters]
    sure = np.array([scores[chosen].mean() * share for chosen, share in zip(clusters, shares, strict=True)])
    order = np.argsort(-sure, kind="stable")[:DETECTIONS]
    clusters, sure = [clusters[place] for place in order], sure[order]
    size, classes = found[0].size, np.array([labels[chosen[0]] for chosen in clusters], np.int64)
    means = np.array([_mean(boxes[chosen], scores[chosen]) for chosen in clusters]).reshape(-1, 4)
    if not isinstance(found[0], Instances):
        return Boxes(size, means, classes, sure)
    masks = [mask for one in found if isinstance(one, Instances) for mask in one.masks]
    runs = []
    for chosen in clusters:
        pixels = np.array([to_pixels(masks[place], size) for place in chosen], np.float64)
        runs.append(to_runs(_mean(pixels, scores[chosen]) >= 0.5, size))
    around = np.array([bounds(mask, size) for mask in runs]).reshape(-1, 4)
    return Instances(
        size, np.where((around != 0).any(axis=1, keepdims=True), around, means), classes, sure, masks=tuple(runs)
    )


def _clusters(boxes: Floats, scores: Floats) -> list[NDArray[np.intp]]:
    """Return the places of the boxes of one class that are of one object, the surest object first."""
    members: list[list[int]] = []
    means = np.zeros((0, 4))
    for place in np.argsort(-scores, kind="stable").tolist():
        near = overlaps(_xywh(boxes[[place]]), _xywh(means), np.zeros(len(means), np.bool_))[0]
        best = int(near.argmax()) if len(near) else -1
        if best >= 0 and near[best] > SAME:
            members[best].append(place)
            means[best] = _mean(boxes[members[best]], scores[members[best]])
        else:
            members.append([place])
            means = np.concatenate([means, boxes[[place]]])
    return [np.array(chosen) for chosen in members]


def _mean(values: Floats, scores: Floats) -> Floats:
    """Return the mean along the first axis, weighted by the scores."""
    return np.average(values, axis=0, weights=np.maximum(scores, np.finfo(np.float64).tiny))


def _xywh(boxes: Floats) -> Floats:
    """Return boxes as x, y, width, height."""
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
