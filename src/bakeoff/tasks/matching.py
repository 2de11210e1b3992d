"""Which detection finds which object of one image: COCO's greedy matching, and what each wrong detection got wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as coco
from numpy.typing import NDArray

from bakeoff.data.targets import Boxes
from bakeoff.errors import DataError, UsageError
from bakeoff.tasks.task import Row

Floats = NDArray[np.float64]
DETECTIONS = 100  # of an image that are judged, those with the highest scores
THRESHOLDS: Floats = np.linspace(0.5, 0.95, 10)  # of the overlap (IoU) at which a detection finds an object
RANGES = ("all", "small", "medium", "large")  # of areas, in pixels of the original image
LIMITS: Floats = np.array([(0, 1e5**2), (0, 32**2), (32**2, 96**2), (96**2, 1e5**2)], np.float64)
KINDS = ("not judged", "found", "duplicate", "wrong class", "badly placed", "both", "background")
NOT_JUDGED, FOUND, DUPLICATE, WRONG_CLASS, BADLY_PLACED, BOTH, BACKGROUND = range(len(KINDS))
NEAR = 0.1  # overlap below which a detection has nothing to do with an object (TIDE)
_BITS = 1 << np.arange(len(THRESHOLDS))


@dataclass(frozen=True)
class Matches:
    """What became of D detections: per area range (columns, as RANGES) one bit per threshold of THRESHOLDS.

    matched  (D, 4) uint16: finds an object
    ignored  (D, 4) uint16: does not count, as it finds a crowd or an object out of the range, or is itself out of it
    place    (D,) int64: the object found at IoU .50 in the range "all"; -1 none
    """

    matched: NDArray[np.uint16]
    ignored: NDArray[np.uint16]
    place: NDArray[np.int64]


def judged(prediction: Boxes, target: Boxes, classes: int) -> Boxes:
    """Return the best detections (at most DETECTIONS, scores falling, of equal ones the first), in their own frame.

    Raises UsageError without scores and DataError for the label of a class that there is not, in either.
    """
    if prediction.scores is None:
        raise UsageError("detections need scores to be evaluated; these have none")
    for labels, whose in ((prediction.labels, "a detection"), (target.labels, "an object")):
        if ((labels < 0) | (labels >= classes)).any():
            strange = labels[(labels < 0) | (labels >= classes)][0]
            raise DataError(f"{whose} has class {strange}, but there are {classes} classes, counted from 0")
    return prediction.take(np.argsort(-prediction.scores, kind="stable")[:DETECTIONS])


def rescaled(found: Boxes, target: Boxes) -> Boxes:
    """Bring boxes to the target's frame by the ratio of the sizes; masks are left behind."""
    ratio = np.tile(np.array(target.size, np.float64) / found.size, 2)
    return Boxes(target.size, found.xyxy * ratio, found.labels, found.scores, scale=target.scale)


def overlaps(found: Any, objects: Any, crowd: NDArray[np.bool_]) -> Floats:
    """Return the IoU (D, G) of boxes (N, 4) as x, y, width, height, or of lists of COCO's run lengths.

    With a crowd (G,) it is the share of the detection that lies in it.
    """
    if not len(found) or not len(objects):  # of which the library makes an empty list
        return np.zeros((len(found), len(objects)))
    return np.asarray(coco.iou(found, objects, crowd.astype(int).tolist()), np.float64)


def box_overlaps(found: Boxes, target: Boxes) -> Floats:
    """Return the IoU (D, G) of boxes in one frame."""
    return overlaps(_xywh(found.xyxy), _xywh(target.xyxy), target.crowd)


def box_areas(found: Boxes) -> Floats:
    """Return the areas (D,) of boxes in pixels of the original image."""
    sides = found.xyxy[:, 2:] - found.xyxy[:, :2]
    areas: Floats = sides[:, 0] * sides[:, 1] * found.scale
    return areas


def match(iou: Floats, found: Boxes, target: Boxes, areas: Floats) -> Matches:
    """Match detections with objects, as COCOeval.evaluateImg does for every class, threshold and range of areas.

    `iou` (D, G), `areas` (D,) of the detections.  In the order of their scores detections take, among the objects
    of their class that are free, the one with the largest overlap at or above the threshold; one that is ignored (a
    crowd, or out of the range) only where there is no other, and a crowd is always free.  Of equal overlaps the last
    object is taken.  A detection without an object counts only inside the range.
    """
    crowd, ignore = target.crowd, ~_counted(target)
    own = np.where(found.labels[:, None] == target.labels, iou, -1.0)
    least = np.minimum(THRESHOLDS, 1 - 1e-10)[:, None]
    free = np.ones((len(RANGES), len(THRESHOLDS), len(target)), np.bool_)
    chosen = np.full((len(RANGES), len(THRESHOLDS), len(found)), -1)
    for place in np.flatnonzero((own >= least[0]).any(axis=1)):
        near = np.flatnonzero(own[place] >= least[0])
        near = near[np.argsort(own[place, near], kind="stable")]  # the best stands last
        order = np.arange(len(near)) + len(near) * ~ignore[:, None, near]
        worth = np.where(free[:, :, near] & (own[place, near] >= least), order, -1)
        area_range, threshold = np.nonzero(worth.max(axis=2) >= 0)
        best = near[worth.argmax(axis=2)[area_range, threshold]]
        chosen[area_range, threshold, place] = best
        free[area_range, threshold, best] = crowd[best]
    matched = chosen >= 0
    known = np.column_stack([ignore, np.zeros(len(RANGES), np.bool_)])  # the last column is what -1 means
    ignored = known[np.arange(len(RANGES))[:, None, None], chosen] | (~matched & _outside(areas)[:, None, :])
    return Matches(_packed(matched), _packed(ignored), chosen[0, 0])


def kinds(iou: Floats, found: Boxes, target: Boxes, matches: Matches) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Say of every detection what it is (D,), an index of KINDS, and which object it is about (D,), -1 for none.

    The kinds of error of TIDE (Bolya et al. 2020, "TIDE: A general toolbox for identifying object detection errors"),
    at IoU .50 and .10.  Overlap of .50 or more with an object of its class that a better detection found: duplicate.
    Else .50 or more with an object of another class: wrong class.  Else .10 or more with one of its class: badly
    placed.  Else .10 or more with one of another class: both.  Else: background.  Crowds are not looked at, and what is
    ignored is not judged.  (Where several hold, TIDE's code asks for badly placed first and for duplicates after wrong
    classes.)
    """
    same, counted = found.labels[:, None] == target.labels, _counted(target)[0]
    own, own_place = _best(np.where(same & counted, iou, -1.0))
    other, other_place = _best(np.where(~same & counted, iou, -1.0))
    half, near = THRESHOLDS[0], NEAR
    cases = [
        (matches.ignored[:, 0] & 1 > 0, NOT_JUDGED, np.full(len(found), -1)),
        (matches.place >= 0, FOUND, matches.place),
        (own >= half, DUPLICATE, own_place),
        (other >= half, WRONG_CLASS, other_place),
        (own >= near, BADLY_PLACED, own_place),
        (other >= near, BOTH, other_place),
    ]
    conditions = [condition for condition, _, _ in cases]
    kind = np.select(conditions, [np.full(len(found), kind) for _, kind, _ in cases], BACKGROUND)
    return kind.astype(np.uint8), np.select(conditions, [about for _, _, about in cases], -1)


def truths(target: Boxes, classes: int) -> NDArray[np.int32]:
    """Return the number of objects (classes, 4) to be found in each range of areas."""
    counts = [np.bincount(target.labels[inside], minlength=classes) for inside in _counted(target)]
    return np.stack(counts, axis=1).astype(np.int32)


def columns(found: Boxes, target: Boxes, classes: int, iou: Floats, matches: Matches) -> Row:
    """Return the columns of an outcome, detections padded to DETECTIONS: see detection.Detection."""
    kind, about = kinds(iou, found, target, matches)
    called = np.append(target.labels, -1)[about]  # the last one is what -1 means
    return {
        "scores": padded(np.zeros(0) if found.scores is None else found.scores, 0.0),
        "labels": padded(found.labels.astype(np.int16), -1),
        "matched": padded(matches.matched, 0),
        "ignored": padded(matches.ignored, 0),
        "truths": truths(target, classes),
        "kinds": padded(kind, NOT_JUDGED),
        "about": padded(about.astype(np.int16), -1),
        "about_labels": padded(called.astype(np.int16), -1),
    }


def padded(values: NDArray[Any], fill: float) -> NDArray[Any]:
    """Lengthen an array (D, …) to (DETECTIONS, …)."""
    whole = np.full((DETECTIONS, *values.shape[1:]), fill, values.dtype)
    whole[: len(values)] = values
    return whole


def _xywh(xyxy: Floats) -> Floats:
    """Return boxes as x, y, width, height, COCO's own form: overlaps then agree to the last bit."""
    return np.hstack([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]])


def _counted(target: Boxes) -> NDArray[np.bool_]:
    """Return (4, G) whether an object is to be found in each range."""
    counted: NDArray[np.bool_] = ~(target.crowd | _outside(target.areas))
    return counted


def _outside(areas: Floats) -> NDArray[np.bool_]:
    """Return (4, N) whether an area is outside of each range."""
    outside: NDArray[np.bool_] = (areas < LIMITS[:, :1]) | (areas > LIMITS[:, 1:])
    return outside


def _packed(flags: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """Pack flags (4, 10, D) into bits (D, 4)."""
    bits: NDArray[np.uint16] = np.einsum("atd,t->da", flags, _BITS).astype(np.uint16)
    return bits


def _best(iou: Floats) -> tuple[Floats, NDArray[Any]]:
    """Return the largest overlap of every row and its column; -1 and -1 where nothing is at or above 0."""
    table = np.column_stack([np.full(len(iou), -1.0), iou])
    return table.max(axis=1), table.argmax(axis=1) - 1
