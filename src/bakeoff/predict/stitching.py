"""Objects found in overlapping windows -> the objects of the image: which are the same, and where each one ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from bakeoff.data.masks import bounds, to_pixels, to_runs
from bakeoff.data.targets import Boxes, Instances
from bakeoff.tasks.matching import overlaps

SAME = 0.5  # overlap (IoU), of what both windows see of two objects, from which they are one
INSIDE = 0.8  # share of an object that is cut by its window's edge which lies in another object: it is a part of that
NEAR = 2.0  # pixels of the network's input: an object that ends so near an edge of its window is cut by it
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Seen:
    """What was found in a window of `tile` x `tile` pixels of the image, whose top left corner is `place`."""

    found: Boxes
    place: tuple[int, int]
    tile: int

    @property
    def window(self) -> Floats:
        """The window as a box in the image's pixels."""
        left, top = self.place
        return np.array((left, top, left + self.tile, top + self.tile), np.float64)

    @property
    def boxes(self) -> Floats:
        """The boxes (N, 4) in the image's pixels."""
        moved: Floats = self.found.xyxy * (self.tile / self.found.size[0]) + np.tile(self.place, 2)
        return moved

    def cut(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Say of each object (N,) whether it reaches an edge of the window that is not an edge of the image."""
        margin = NEAR * self.tile / self.found.size[0]
        left, top, right, bottom = self.window
        inner = np.array([left > 0, top > 0, right < size[0], bottom < size[1]])
        reaches = np.abs(self.boxes - self.window) <= margin
        touched: NDArray[np.bool_] = (reaches & inner).any(axis=1)
        return touched

    def masks(self, place: int, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Return the mask of an object (H, W) in the image's pixels."""
        assert isinstance(self.found, Instances)
        inner = to_pixels(self.found.masks[place], self.found.size)
        index = (np.arange(self.tile) + 0.5) * self.found.size[0] / self.tile
        near = index.astype(np.intp)
        whole = np.zeros((size[1], size[0]), np.bool_)
        left, top = self.place
        part = whole[top : top + self.tile, left : left + self.tile]
        part[:] = inner[near[:, None], near[None, :]][: part.shape[0], : part.shape[1]]
        return whole


def stitched(seen: Sequence[Seen], size: tuple[int, int]) -> Boxes:
    """Return the objects of an image of `size` (width, height), scores falling.

    Two objects of a class in overlapping windows are one when, of the region that both windows see, they cover the same
    part (IoU of .50 or more), or when one that is cut by its window's edge lies in the other (.80 of it).  Of objects
    that are one, the surest that no edge cuts is kept; where every one is cut their union.  The score is the highest.
    """
    offsets = np.cumsum([0, *(len(one.found) for one in seen)])  # where the objects of each window begin
    cuts = [one.cut(size) for one in seen]
    pairs = [
        np.argwhere(_same(seen[a], seen[b], (cuts[a], cuts[b]))) + offsets[[a, b]]
        for a, b in combinations(range(len(seen)), 2)
        if len(seen[a].found) and len(seen[b].found) and _meet(seen[a], seen[b])
    ]
    count = int(offsets[-1])
    links = np.concatenate([np.zeros((0, 2), np.intp), *pairs])
    graph = coo_array((np.ones(len(links)), (links[:, 0], links[:, 1])), shape=(count, count))
    groups = connected_components(graph, directed=False)[1] if count else np.zeros(0, np.intp)
    return _Stitcher(seen, np.concatenate([*cuts, np.zeros(0, np.bool_)]), size).objects(groups)


def _meet(one: Seen, other: Seen) -> bool:
    """Say whether two windows overlap."""
    return all(abs(a - b) < one.tile for a, b in zip(one.place, other.place, strict=True))


def _same(one: Seen, other: Seen, cuts: tuple[NDArray[np.bool_], NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """Say of the objects of two windows (N, M) whether they are the same."""
    shared = np.concatenate([np.maximum(one.window, other.window)[:2], np.minimum(one.window, other.window)[2:]])
    both = overlaps(_within(one.boxes, shared), _within(other.boxes, shared), np.zeros(len(other.found), np.bool_))
    whole, theirs = _xywh(one.boxes), _xywh(other.boxes)
    inside = overlaps(whole, theirs, np.ones(len(theirs), np.bool_)) >= INSIDE
    around = overlaps(theirs, whole, np.ones(len(whole), np.bool_)).T >= INSIDE
    alike = one.found.labels[:, None] == other.found.labels
    same: NDArray[np.bool_] = alike & ((both >= SAME) | (inside & cuts[0][:, None]) | (around & cuts[1]))
    return same


def _within(boxes: Floats, region: Floats) -> Floats:
    """Return the parts of boxes that lie in a region, as x, y, width, height; without area where none does."""
    return _xywh(np.clip(boxes, np.tile(region[:2], 2), np.tile(region[2:], 2)))


def _xywh(boxes: Floats) -> Floats:
    """Return boxes as x, y, width, height."""
    return np.concatenate([boxes[:, :2], np.maximum(boxes[:, 2:] - boxes[:, :2], 0)], axis=1)


class _Stitcher:
    """Makes one object of each group."""

    def __init__(self, seen: Sequence[Seen], cut: NDArray[np.bool_], size: tuple[int, int]) -> None:
        """Put the objects of all windows into one list."""
        self.seen, self.cut, self.size = seen, cut, size
        self.boxes = np.concatenate([np.zeros((0, 4)), *(one.boxes for one in seen)])
        self.labels = np.concatenate([np.zeros(0, np.int64), *(one.found.labels for one in seen)])
        self.scores = np.concatenate([np.zeros(0), *(_scores(one.found) for one in seen)])
        self.owners = [(one, place) for one in seen for place in range(len(one.found))]

    def objects(self, groups: NDArray[np.intp]) -> Boxes:
        """Return an object per group."""
        order = np.argsort(-self.scores, kind="stable")
        first = {group: place for place, group in zip(order[::-1].tolist(), groups[order[::-1]].tolist(), strict=True)}
        best = sorted(first.values(), key=lambda place: (-self.scores[place], place))
        members = [self._kept(np.flatnonzero(groups == groups[place])) for place in best]
        labels, scores = self.labels[best], self.scores[best]
        if not any(isinstance(one.found, Instances) for one in self.seen):
            return Boxes(self.size, np.array([self._box(chosen) for chosen in members]), labels, scores)
        masks = [to_runs(self._mask(chosen), self.size) for chosen in members]
        boxes = np.array([bounds(mask, self.size) for mask in masks])
        return Instances(self.size, boxes, labels, scores, masks=tuple(masks))

    def _kept(self, places: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the surest object that no edge cuts, or else all."""
        whole = places[~self.cut[places]]
        return whole[[self.scores[whole].argmax()]] if len(whole) else places

    def _box(self, places: NDArray[np.intp]) -> Floats:
        """Return the box around objects, within the image."""
        around = np.concatenate([self.boxes[places, :2].min(axis=0), self.boxes[places, 2:].max(axis=0)])
        clipped: Floats = np.clip(around, 0, np.tile(self.size, 2))
        return clipped

    def _mask(self, places: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Return the union (H, W) of the masks of objects."""
        masks = [one.masks(place, self.size) for one, place in (self.owners[index] for index in places.tolist())]
        union: NDArray[np.bool_] = np.logical_or.reduce(masks)
        return union


def _scores(found: Boxes) -> Floats:
    """Return the scores of objects, 1 where they have none."""
    return np.ones(len(found)) if found.scores is None else found.scores
