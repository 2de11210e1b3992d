"""Images unlike any other: the distance to the nearest neighbours in an embedding (Ramaswamy et al. 2000)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from bakeoff.data.dataset import Dataset
from bakeoff.data.duplicates import Signatures
from bakeoff.seeds import generator

NEIGHBOURS = 5
FEWEST = 50  # images from which on neighbours mean something
REFERENCE = 5000  # images that the neighbours are looked for among
LONGEST = 48  # list
ANGLES = 9

Embed = Callable[[Dataset, tuple[str, ...]], NDArray[np.floating]]  # ids -> (n, d), for a better one than descriptor()


def outlying(dataset: Dataset, signatures: Signatures, embed: Embed | None = None) -> tuple[str, ...]:
    """Return the ids of outliers, most unusual first: at most 1 % of the images and 48.

    An image counts when its mean distance to 5 neighbours lies 1.5 interquartile ranges above the upper quartile.
    """
    if len(signatures) < FEWEST:
        return ()
    points = _compressed(descriptor(signatures) if embed is None else embed(dataset, signatures.ids))
    distances = _neighbour_distances(points)
    low, high = np.percentile(distances, [25, 75])
    order = np.argsort(-distances, kind="stable")[: min(LONGEST, max(1, len(points) // 100))]
    return tuple(signatures.ids[row] for row in order if distances[row] > high + 1.5 * (high - low))


def descriptor(signatures: Signatures) -> NDArray[np.float32]:
    """Return (n, 336): 8x8 colours (192) and histograms of oriented gradients of 4x4 cells (144), at equal weight."""
    parts = []
    for start in range(0, len(signatures), 4096):
        rows = np.arange(start, min(start + 4096, len(signatures)))
        colours = signatures.thumbnails[rows].reshape(len(rows), 8, 4, 8, 4, 3).mean(axis=(2, 4), dtype=np.float32)
        flat = colours.reshape(len(rows), -1) / 255
        parts.append(np.concatenate([flat, oriented_gradients(signatures.grey_thumbnails(rows))], axis=1))
    whole = np.concatenate(parts)
    for columns in (slice(0, 192), slice(192, None)):
        whole[:, columns] /= np.sqrt(whole[:, columns].var(axis=0).sum()) + 1e-6
    return whole


def oriented_gradients(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return histograms of oriented gradients (n, 144) of (n, 32, 32), 9 angles in 4x4 cells (Dalal, Triggs 2005)."""
    down, right = np.gradient(grey, axis=(1, 2))
    strength = np.hypot(down, right)
    angle = (np.arctan2(down, right) % np.pi * (ANGLES / np.pi)).astype(np.intp) % ANGLES
    cells = [np.where(angle == k, strength, 0).reshape(len(grey), 4, 8, 4, 8).sum(axis=(2, 4)) for k in range(ANGLES)]
    histogram = np.stack(cells, axis=3).reshape(len(grey), -1)
    length = np.linalg.norm(histogram, axis=1, keepdims=True)
    return np.asarray(histogram / (length + 1), np.float32)


def _compressed(points: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the first principal components, at most 32, fitted on a sample."""
    size = min(32, points.shape[1], len(points) - 1)
    sample = points[_sample(len(points))]
    pca = PCA(size, svd_solver="full" if len(sample) < 500 else "randomized", random_state=0).fit(sample)
    return np.asarray(pca.transform(points), np.float32)


def _neighbour_distances(points: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the mean distance to the nearest neighbours in a sample, itself not counted."""
    sample = _sample(len(points))
    search = NearestNeighbors(n_neighbors=NEIGHBOURS + 1).fit(points[sample])
    distances = search.kneighbors(points)[0]
    own = np.isin(np.arange(len(points)), sample)
    return np.asarray(np.where(own, distances[:, 1:].mean(axis=1), distances[:, :-1].mean(axis=1)))


def _sample(count: int) -> NDArray[np.intp]:
    """Return up to REFERENCE rows, always the same for a count."""
    return np.sort(generator(0, "outliers", count).permutation(count)[:REFERENCE])
