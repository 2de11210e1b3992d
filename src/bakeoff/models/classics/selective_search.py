"""Selective search (Uijlings et al. 2013): boxes that may hold an object, of regions that grow out of an image.

An image is cut into many small regions of even colour (Felzenszwalb & Huttenlocher 2004); then the two most alike
neighbours are joined, again and again, until one region is left.  The box of every region on the way is a proposal.
That is done for two colour spaces and two sizes of the first regions, the paper's fast setting; a fixed seed draws what
the paper draws.  OpenCV has the same in a module that its usual package lacks.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from bakeoff.models.classics.graph_segments import Image, Labels, segments

SPACES = (cv2.COLOR_RGB2Lab, cv2.COLOR_RGB2HSV)
COARSENESS = (0.2, 0.4)  # k of the first regions per pixel of the longer side: the paper's 100 and 200 for 500 pixels
LEAST_SIDE = 1 / 25  # of the shorter side, for a box: the paper's 20 pixels for 500
COLOURS, DIRECTIONS, STRENGTHS = 25, 8, 10  # bins of the histograms, per channel

Features = NDArray[np.float32]


def propose(image: Image, most: int) -> NDArray[np.float32]:
    """Return at most `most` boxes (N, 4), x1 y1 x2 y2 in pixels, of an image (H, W, 3) of RGB; the likeliest first.

    The order is that of the paper: the place in the hierarchy, the whole image first, times a random number.  The box
    of the whole image is always there.
    """
    height, width = image.shape[:2]
    draws = np.random.default_rng(0)
    found, worth = [np.array([[0, 0, width, height]])], [np.zeros(1)]
    for space in SPACES:
        converted = np.asarray(cv2.cvtColor(image, space), np.uint8)
        for coarseness in COARSENESS:
            boxes = _hierarchy(converted, segments(converted, coarseness * max(height, width)))
            found.append(boxes)
            worth.append(np.arange(1, len(boxes) + 1) * draws.random(len(boxes)))
    listed = np.concatenate(found)[np.argsort(np.concatenate(worth), kind="stable")]
    first = np.sort(np.unique(listed, axis=0, return_index=True)[1])
    listed = listed[first]
    sides = (listed[:, 2:] - listed[:, :2]).min(axis=1)
    kept: NDArray[np.float32] = listed[sides >= max(2, LEAST_SIDE * min(height, width))].astype(np.float32)
    return kept[:most]


def _hierarchy(image: Image, labels: Labels) -> NDArray[np.int64]:
    """Join the most similar neighbours until one region is left; return the boxes of all, those of the last first."""
    count = int(labels.max()) + 1
    regions = _Regions(image, labels, count)
    near: dict[int, set[int]] = {region: set() for region in range(count)}
    for one, other in _touching(labels):
        near[one].add(other)
        near[other].add(one)
    queue = [entry for one in range(count) for entry in regions.alike(one, sorted(n for n in near[one] if n > one))]
    heapq.heapify(queue)
    new = count
    while queue:
        _, one, other = heapq.heappop(queue)
        if one not in near or other not in near:
            continue
        around = (near.pop(one) | near.pop(other)) - {one, other}
        regions.join(one, other, new)
        near[new] = around
        for region in around:
            near[region] -= {one, other}
            near[region].add(new)
        for entry in regions.alike(new, sorted(around)):
            heapq.heappush(queue, entry)
        new += 1
    return regions.boxes[:new][::-1]


class _Regions:
    """Areas, boxes and histograms of regions; those of a joined one follow from its two parts."""

    def __init__(self, image: Image, labels: Labels, count: int) -> None:
        """Measure the `count` first regions, and leave room for all that will be joined."""
        self.total = labels.size
        self.area = np.zeros(2 * count)
        self.area[:count] = np.bincount(labels.ravel(), minlength=count)
        self.boxes = np.zeros((2 * count, 4), np.int64)
        rows, columns = np.indices(labels.shape).reshape(2, -1)
        self.boxes[:count, :2] = labels.size
        for side, (find, places) in enumerate(
            [(np.minimum, columns), (np.minimum, rows), (np.maximum, columns + 1), (np.maximum, rows + 1)]
        ):
            find.at(self.boxes[:, side], labels.ravel(), places)
        found = _histograms(image, labels, count)
        self.histograms = np.zeros((2 * count, found.shape[1]), np.float32)
        self.histograms[:count] = found

    def join(self, one: int, other: int, new: int) -> None:
        """Write down a region made of two."""
        self.area[new] = self.area[one] + self.area[other]
        parts = self.area[[one, other]] / self.area[new]
        self.histograms[new] = parts[0] * self.histograms[one] + parts[1] * self.histograms[other]
        self.boxes[new] = self._around(one, np.array([other]))[0]

    def alike(self, one: int, others: list[int]) -> Iterator[tuple[float, int, int]]:
        """Yield (minus the similarity, the region, another): colour + texture + size + fill, each in 0..1."""
        places = np.array(others, np.int64)
        shared = np.minimum(self.histograms[one], self.histograms[places]).sum(axis=1)
        box = self._around(one, places)
        inside = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
        areas = self.area[one] + self.area[places]
        similarity = shared + (1 - areas / self.total) + (1 - (inside - areas) / self.total)
        yield from ((-value, one, other) for value, other in zip(similarity.tolist(), others, strict=True))

    def _around(self, one: int, others: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the boxes (N, 4) around a region and each of others."""
        low = np.minimum(self.boxes[one, :2], self.boxes[others, :2])
        return np.concatenate([low, np.maximum(self.boxes[one, 2:], self.boxes[others, 2:])], axis=1)


def _histograms(image: Image, labels: Labels, count: int) -> Features:
    """Return colour and texture (count, bins) of regions; each of the two sums to 1."""
    values = image.astype(np.float32)
    bins = [(values[..., channel] * (COLOURS / 256), COLOURS) for channel in range(3)]
    across, down = (cv2.Sobel(cv2.GaussianBlur(values, (0, 0), 1.0), cv2.CV_32F, dx, 1 - dx) for dx in (1, 0))
    for angle in np.arange(DIRECTIONS) * (2 * np.pi / DIRECTIONS):
        strength = np.maximum(0, across * np.cos(angle) + down * np.sin(angle)) * (STRENGTHS / 512)
        bins += [(strength[..., channel], STRENGTHS) for channel in range(3)]
    columns = [_shares(labels, value, number, count) for value, number in bins]
    return np.concatenate([np.concatenate(columns[:3], 1) / 3, np.concatenate(columns[3:], 1) / (3 * DIRECTIONS)], 1)


def _shares(labels: Labels, values: Features, bins: int, count: int) -> Features:
    """Return which share (count, bins) of a region's pixels lies in each bin; larger values lie in the last."""
    cells = labels * bins + np.minimum(values.astype(np.int64), bins - 1)
    found: Features = np.bincount(cells.ravel(), minlength=count * bins).reshape(count, bins).astype(np.float32)
    shares: Features = found / found.sum(axis=1, keepdims=True)
    return shares


def _touching(labels: Labels) -> list[tuple[int, int]]:
    """Return the pairs of regions that have an edge of pixels in common, the smaller number first."""
    sides = [np.stack([labels[:, :-1], labels[:, 1:]], axis=-1), np.stack([labels[:-1], labels[1:]], axis=-1)]
    pairs = np.concatenate([side.reshape(-1, 2) for side in sides])
    found = np.unique(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1), axis=0)
    return [(int(one), int(other)) for one, other in found]
