"""Resampling: jackknife pseudo-values for metrics of the whole set, and the two tests for a single seed (level L0)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from bakeoff.evaluate.variance import Codes, Scores, group_codes, group_sums, paired_scores
from bakeoff.seeds import generator

BLOCKS = 200  # delete-group jackknife: about this many evaluations of the metric per run
WHOLE = 2000  # up to this many images without groups, each image is left out alone
CHUNK = 2_000_000  # resampled counts held in memory at once


@dataclass(frozen=True)
class Bootstrap:
    """A difference with its percentile interval and two-sided p over resampled images (or groups)."""

    difference: float
    se: float
    low: float
    high: float
    p: float


def jackknife_blocks(
    images: int, groups: ArrayLike | None = None, most: int = BLOCKS, whole: int = WHOLE, seed: int = 0
) -> Codes:
    """Return the block (0..) that each image is left out with: (n,).

    Without groups and up to `whole` images, each image is its own block.  Otherwise whole groups (or images) are dealt
    at random, under a fixed seed, into at most `most` blocks.  All runs of a comparison must use the same blocks, and
    the blocks are the `groups` of the tests made with their pseudo-values.
    """
    codes = group_codes(groups, images)
    count = int(codes.max()) + 1
    if count <= most or (groups is None and images <= whole):
        return codes
    place = np.empty(count, np.intp)
    place[generator(seed, "jackknife", count).permutation(count)] = np.arange(count) % most
    blocks: Codes = place[codes]
    return blocks


def pseudo_values(metric: Callable[[NDArray[np.intp]], float | NDArray[np.float64]], blocks: Codes) -> Scores:
    """Return one pseudo-value per image, (n,), for a metric of the whole set.

    `metric` takes the positions of the images to keep and returns a number, or k numbers, then the result is (k, n).
    Leaving out block g of m_g images gives h theta - (h - 1) theta_(-g) with h = n / m_g (Busing, Meijer & van der
    Leeden 1999; the usual jackknife when blocks are single images), shared by the images of the block.  The values are
    shifted so that their mean is the metric itself and not its bias-corrected form: a report then shows one number for
    one metric, and a difference of two models keeps its spread.  Of a mean, they are the raw scores (block means).
    """
    images = blocks.size
    sizes = np.bincount(blocks)
    theta = np.asarray(metric(np.arange(images)), np.float64)
    left = np.array([metric(np.flatnonzero(blocks != block)) for block in range(sizes.size)], np.float64)
    weight = (images / sizes).reshape(-1, *[1] * theta.ndim)
    values = weight * theta - (weight - 1) * left
    values += theta - np.tensordot(sizes / images, values, axes=1)
    return np.moveaxis(values[blocks], 0, -1)


def mcnemar(a: ArrayLike, b: ArrayLike) -> float:
    """Return the exact two-sided p of McNemar's test for right/wrong scores (n,) of two single runs on the same images.

    Raises ValueError when scores are not 0 or 1.
    """
    first, second = paired_scores(a, b)
    if not all(np.isin(y, (0, 1)).all() for y in (first, second)):
        raise ValueError("McNemar's test takes right/wrong scores (0 or 1); use image_bootstrap for other metrics")
    only_a, only_b = int((first > second).sum()), int((first < second).sum())
    return float(stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def image_bootstrap(
    a: ArrayLike, b: ArrayLike, groups: ArrayLike | None = None, draws: int = 2000, level: float = 0.05
) -> Bootstrap:
    """Resample the test images (or whole groups) of two score rows (n,), paired: what holds for these two files only.

    Rows (S, n) are averaged first.  The draws are the same in every call (fixed seed).
    """
    first, second = paired_scores(a, b)
    codes = group_codes(groups, first.shape[1])
    sums = group_sums(first.mean(axis=0) - second.mean(axis=0), codes)
    sizes = np.bincount(codes).astype(np.float64)
    observed = float(sums.sum() / sizes.sum())
    drawn = _resampled_means(sums, sizes, draws)
    low, high = (float(q) for q in np.quantile(drawn, (level / 2, 1 - level / 2)))
    tail = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    p = min(1.0, 2 * (tail + 1) / (draws + 1))  # the observed sample counts as one draw: p is never 0
    return Bootstrap(observed, float(drawn.std(ddof=1)), low, high, p)


def _resampled_means(sums: Scores, sizes: Scores, draws: int) -> Scores:
    """Return `draws` means over groups drawn with replacement."""
    count = sums.size
    random = generator(0, "bootstrap", count)
    parts = []
    for start in range(0, draws, max(1, CHUNK // count)):
        rows = min(max(1, CHUNK // count), draws - start)
        times = random.multinomial(count, np.full(count, 1 / count), size=rows)
        parts.append((times @ sums) / (times @ sizes))
    return np.concatenate(parts)
