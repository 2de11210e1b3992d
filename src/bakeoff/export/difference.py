"""Two predictions of one image side by side: how far numbers lie apart, and whether the decisions are the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bakeoff.data.masks import to_pixels
from bakeoff.data.targets import Boxes, Instances, Label, LabelMap, Target
from bakeoff.tasks.matching import box_overlaps

TOLERANCE: Mapping[str, float] = {  # of exports that should give the same numbers; boxes in pixels of the input
    "probabilities": 1e-3,
    "scores": 1e-3,
    "boxes": 0.05,
    "masks": 5e-3,
}
DECIDED = 0.5  # from this score on an object is one that people see, as in predict
FEW_PIXELS = 1000  # of masks: one pixel of a tiny object is no large share


@dataclass(frozen=True)
class Matching:
    """When objects are compared: two of one class whose boxes have the IoU `overlap` are the same.

    One whose score is less than `margin` above DECIDED may stand on one side alone: it counts as no decision.
    """

    overlap: float
    margin: float


EXACT, ROUGH = Matching(0.9, TOLERANCE["scores"]), Matching(0.5, 0.05)  # in full precision, and in 8 bits


@dataclass(frozen=True)
class Far:
    """The largest difference of an output in an image: what the network says there, and what the file says."""

    size: float
    network: float
    file: float


@dataclass(frozen=True)
class Gap:
    """The largest difference per output, and how many of the `total` decisions are the same (labels, pixels, objects).

    `other` tells the first decision that differs.
    """

    far: dict[str, Far] = field(default_factory=dict)
    same: int = 0
    total: int = 0
    other: str = ""


def gap(network: Target, file: Target, classes: tuple[str, ...], matching: Matching = EXACT) -> Gap:
    """Compare what the network and the file say of one image; numbers that are not finite are infinitely far apart."""
    if isinstance(network, Label) and isinstance(file, Label):
        far = _farthest(np.array(network.scores), np.array(file.scores))
        same = network.index == file.index
        other = "" if same else f"{classes[network.index]} became {classes[file.index]}"
        return Gap({"probabilities": far}, int(same), 1, other)
    if isinstance(network, LabelMap) and isinstance(file, LabelMap):
        return _map_gap(network, file, classes)
    if isinstance(network, Boxes) and isinstance(file, Boxes):
        return _object_gap(network, file, classes, matching)
    raise TypeError(f"{type(network).__name__} and {type(file).__name__} cannot be compared")


def _map_gap(network: LabelMap, file: LabelMap, classes: tuple[str, ...]) -> Gap:
    """Compare label maps pixel by pixel."""
    differ = network.pixels != file.pixels
    other = ""
    if differ.any():
        y, x = np.argwhere(differ)[0]
        other = f"at pixel {x}, {y} {classes[network.pixels[y, x]]} became {classes[file.pixels[y, x]]}"
    far = _farthest(np.asarray(network.scores), np.asarray(file.scores))
    return Gap({"probabilities": far}, int((~differ).sum()), differ.size, other)


def _object_gap(network: Boxes, file: Boxes, classes: tuple[str, ...], matching: Matching) -> Gap:
    """Match objects of one class by their boxes; one that stands on either side alone is another decision.

    An object whose score lies at the border of what is shown, within the margin, may be on one side alone.
    """
    pairs = _pairs(network, file, matching.overlap)
    ours, theirs = (np.array([pair[side] for pair in pairs], np.intp) for side in (0, 1))
    far = {
        name: _farthest(getattr(network, column)[ours], getattr(file, column)[theirs])
        for name, column in (("boxes", "xyxy"), ("scores", "scores"))
    }
    if isinstance(network, Instances) and isinstance(file, Instances):
        far["masks"] = _mask_gap(network.take(ours), file.take(theirs))
    lost, new = _alone(network, ours, matching.margin), _alone(file, theirs, matching.margin)
    shown = int((_scores(network)[ours] >= DECIDED).sum())
    other = ""
    if len(lost) or len(new):
        side, place, what = (network, lost[0], "is missing") if len(lost) else (file, new[0], "is new")
        other = f"{classes[side.labels[place]]} with score {_scores(side)[place]:.3f} {what} in the file"
    return Gap(far, shown, shown + len(lost) + len(new), other)


def _pairs(network: Boxes, file: Boxes, least: float) -> list[tuple[int, int]]:
    """Return places of the same objects in both, the best of the network's first."""
    if not len(network) or not len(file):
        return []
    overlap = np.array(box_overlaps(network, file)).reshape(len(network), len(file))
    overlap[network.labels[:, None] != file.labels[None, :]] = 0
    found = []
    for place in range(len(network)):
        best = int(overlap[place].argmax())
        if overlap[place, best] >= least:
            found.append((place, best))
            overlap[:, best] = 0
    return found


def _alone(objects: Boxes, matched: NDArray[np.intp], margin: float) -> NDArray[np.intp]:
    """Return the places of objects that are shown for certain and have no partner."""
    shown = _scores(objects) >= DECIDED + margin
    shown[matched] = False
    return np.flatnonzero(shown)


def _scores(objects: Boxes) -> NDArray[np.float64]:
    """Return the scores, which predictions always have."""
    return np.zeros(len(objects)) if objects.scores is None else objects.scores


def _mask_gap(network: Instances, file: Instances) -> Far:
    """Return the share of mask pixels of an image that differ."""
    ours, theirs, differ = 0, 0, 0
    for one, two in zip(network.masks, file.masks, strict=True):
        first, second = to_pixels(one, network.size).astype(bool), to_pixels(two, file.size).astype(bool)
        ours, theirs, differ = ours + first.sum(), theirs + second.sum(), differ + (first ^ second).sum()
    return Far(float(differ / max(ours, FEW_PIXELS)), float(ours), float(theirs))


def _farthest(network: NDArray[Any], file: NDArray[Any]) -> Far:
    """Return where two arrays of one shape lie farthest apart."""
    if network.shape != file.shape:
        return Far(float("inf"), float(network.size), float(file.size))
    if not network.size:
        return Far(0.0, 0.0, 0.0)
    with np.errstate(invalid="ignore"):
        apart = np.abs(network.astype(np.float64) - file).ravel()
    place = int(np.where(np.isfinite(apart), apart, np.inf).argmax())
    size = float(apart[place]) if np.isfinite(apart[place]) else float("inf")
    return Far(size, float(network.ravel()[place]), float(file.ravel()[place]))
