"""docs/protocol.md sections 5 and 6 as pure functions on arrays: the crossed t, its pieces, and what follows from it.

Scores are arrays (S, n): rows are seeds (or repeats of a cross-validation), columns are test images, higher is better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from bakeoff.evaluate.variance import (
    ROUNDING,
    Codes,
    Scores,
    SeedVariance,
    checked,
    fresh_pair_variance,
    group_codes,
    image_variance,
    paired_scores,
    scale_of,
    seed_variance,
)


@dataclass(frozen=True)
class Result:
    """A difference (or one candidate's mean) with its standard error, and where the variance comes from.

    `low` and `high` are the ends of the interval at 1 - `level`; `p` is two-sided.  `v_img` and `v_seed` add up to the
    squared `se`; `chance_sd` is the standard deviation of the difference of one fresh run of each on a fresh test set
    of this size.  `images` is n and `groups` G.
    """

    difference: float
    se: float
    df: float
    low: float
    high: float
    p: float
    v_img: float
    v_seed: float
    chance_sd: float
    images: int
    groups: int
    level: float = 0.05

    @property
    def image_share(self) -> float:
        """Return the images' share of the variance, 0..1; the seeds' share is the rest."""
        total = self.v_img + self.v_seed
        return self.v_img / total if total > 0 else 1.0

    def interval(self, level: float) -> tuple[float, float]:
        """Return the interval at 1 - level."""
        half = float(stats.t.isf(level / 2, self.df)) * self.se
        return self.difference - half, self.difference + half


@dataclass(frozen=True)
class Equivalence:
    """Two one-sided tests: `p` is the larger one-sided p, [low, high] the interval at 1 - 2 * level."""

    p: float
    low: float
    high: float
    holds: bool


def crossed_t(
    a: ArrayLike,
    b: ArrayLike,
    groups: ArrayLike | None = None,
    pooled: SeedVariance | None = None,
    level: float = 0.05,
) -> Result:
    """Test mean(a) - mean(b) with seeds and test images both as sources of chance (docs/protocol.md section 5).

    a (S_A, n) and b (S_B, n) are scores on the same images in the same order; the seeds of the two are independent.
    `groups` (n,) names what belongs together; `pooled` replaces both seed components (and allows one seed).  When
    everything is constant, se is 0 and p is 1 for equal means, else 0.  Raises ValueError for NaN scores, different
    image sets, fewer than 2 groups, or fewer than 2 seeds without `pooled`.
    """
    first, second = paired_scores(a, b)
    codes = group_codes(groups, first.shape[1])
    delta = first.mean(axis=0) - second.mean(axis=0)
    v_img = image_variance(delta, codes)
    if pooled is None:
        parts = [(seed_variance(y, codes), 1 / len(y)) for y in (first, second)]
    else:
        parts = [(pooled, 1 / len(first) + 1 / len(second))]
    own = sum(part.component for part, _ in parts) * (1 if pooled is None else 2)
    fresh = own + fresh_pair_variance(first, second, codes)
    return _result(delta, v_img, parts, codes, level, (fresh, 1.0, scale_of(first, second)))


def paired_t(
    a: ArrayLike,
    b: ArrayLike,
    folds: int,
    groups: ArrayLike | None = None,
    level: float = 0.05,
    pooled: SeedVariance | None = None,
) -> Result:
    """Test mean(a) - mean(b) under repeated cross-validation (claim level L2).

    a and b (R, n) are the out-of-fold scores of all images, one row per repeat, both models on the same folds: rows
    are paired, so the seed component is that of the row differences.  The standard error is widened by Nadeau and
    Bengio's factor sqrt(1/R + K/(K-1)), since training sets overlap.
    One repeat has no seed component: a claim needs 2.  `pooled` replaces the component (pooled_pair_variance()).

    In simulation false claims stay below 5 % while the choice of the training set moves accuracy by about 1 point (sd)
    or less at n <= 500; the factor does not cover training sets that matter much more than that.
    """
    first, second = paired_scores(a, b)
    if len(first) != len(second) or folds < 2:
        raise ValueError("a paired test needs the same repeats for both models and at least 2 folds")
    codes = group_codes(groups, first.shape[1])
    rows = first - second
    delta = rows.mean(axis=0)
    own = seed_variance(rows, codes) if len(rows) > 1 and pooled is None else pooled
    parts = [] if own is None else [(own, 1 / len(rows))]
    fresh = sum(part.component for part, _ in parts) + fresh_pair_variance(first, second, codes)
    widening = 1 / len(rows) + folds / (folds - 1)
    return _result(delta, image_variance(delta, codes), parts, codes, level, (fresh, widening, scale_of(first, second)))


def one_sample_t(
    scores: ArrayLike,
    groups: ArrayLike | None = None,
    folds: int = 1,
    level: float = 0.05,
    bounds: tuple[float, float] | None = None,
) -> Result:
    """Return the mean of one candidate's scores (S, n) with its interval, from the same variance pieces.

    With one row the interval covers the images alone.  `folds` above 1 applies the factor of cross-validation.  With
    `bounds` the interval is cut there, and a score that is perfect (or nil) on every image gets the exact binomial
    bound with G trials instead of an interval of length 0.
    """
    y = checked(scores)
    codes = group_codes(groups, y.shape[1])
    mean = y.mean(axis=0)
    parts = [(seed_variance(y, codes), 1 / len(y))] if len(y) > 1 else []
    widening = 1.0 if folds < 2 else 1 / len(y) + folds / (folds - 1)
    found = _result(mean, image_variance(mean, codes), parts, codes, level, (0.0, widening, scale_of(y)))
    return found if bounds is None else _bounded(found, bounds)


def image_t(a: ArrayLike, b: ArrayLike, groups: ArrayLike | None = None, level: float = 0.05) -> Result:
    """Test mean(a) - mean(b) with the images as the only source of chance: never a claim about models."""
    first, second = paired_scores(a, b)
    codes = group_codes(groups, first.shape[1])
    delta = first.mean(axis=0) - second.mean(axis=0)
    fresh = fresh_pair_variance(first, second, codes)
    return _result(delta, image_variance(delta, codes), [], codes, level, (fresh, 1.0, scale_of(first, second)))


def identical(a: ArrayLike, b: ArrayLike) -> bool:
    """Say whether both scored every image alike, run by run or in all runs: then there is nothing to test."""
    first, second = paired_scores(a, b)
    if first.shape == second.shape and bool((first == second).all()):
        return True
    return bool((first == first[0]).all() and (second == first[0]).all())


def holm(p: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p values, in the order given."""
    count, running, adjusted = len(p), 0.0, [0.0] * len(p)
    for rank, place in enumerate(sorted(range(count), key=lambda i: p[i])):
        running = max(running, min(1.0, (count - rank) * p[place]))
        adjusted[place] = running
    return adjusted


def equivalence(result: Result, eps: float, level: float = 0.05) -> Equivalence:
    """Two one-sided t tests that |difference| < eps; the same as the 1 - 2 * level interval within (-eps, eps)."""
    low, high = result.interval(2 * level)
    if result.se > 0:
        above = float(stats.t.sf((result.difference + eps) / result.se, result.df))
        below = float(stats.t.cdf((result.difference - eps) / result.se, result.df))
        p = max(above, below)
    else:
        p = 0.0 if abs(result.difference) < eps else 1.0
    return Equivalence(p, low, high, -eps < low and high < eps)


def chance_better(result: Result) -> tuple[float, float, float]:
    """Return P(A>B) with its interval: Phi of the difference, and of the interval's ends, over `chance_sd`.

    The chance that one fresh run of A beats one fresh run of B on a fresh test set of this size.
    """
    if result.chance_sd <= 0:
        value = 0.5 + 0.5 * float(np.sign(result.difference))
        return value, value, value
    ends = (result.difference, result.low, result.high)
    value, low, high = (float(stats.norm.cdf(end / result.chance_sd)) for end in ends)
    return value, low, high


def _result(
    delta: Scores,
    v_img: float,
    parts: Sequence[tuple[SeedVariance, float]],
    codes: Codes,
    level: float,
    setting: tuple[float, float, float],
) -> Result:
    """Put the pieces together: Satterthwaite df, interval and p; setting is (fresh variance, widening, score size)."""
    fresh, widening, scale = setting
    groups = int(codes.max()) + 1
    difference = float(delta.mean())
    v_seed = sum(part.component * weight for part, weight in parts)
    variance = v_img + v_seed
    if variance <= (ROUNDING * scale) ** 2:
        same = abs(difference) <= ROUNDING * scale
        exact = 0.0 if same else difference
        return Result(
            exact, 0.0, groups - 1, exact, exact, 1.0 if same else 0.0, 0.0, 0.0, 0.0, delta.size, groups, level
        )
    spread = v_img**2 / (groups - 1) + sum((p.total * w) ** 2 / p.df for p, w in parts if p.component > 0)
    df, se = variance**2 / spread, math.sqrt(variance * widening)
    half = float(stats.t.isf(level / 2, df)) * se
    p = 2 * float(stats.t.sf(abs(difference) / se, df))
    ends = (difference - half, difference + half)
    shares = (v_img * widening, v_seed * widening)
    return Result(difference, se, df, *ends, p, *shares, math.sqrt(fresh), delta.size, groups, level)


def _bounded(found: Result, bounds: tuple[float, float]) -> Result:
    """Cut an interval at the metric's bounds; see one_sample_t."""
    floor, ceiling = bounds
    value = found.difference
    low, high = max(found.low, floor), min(found.high, ceiling)
    if found.se == 0 and math.isfinite(ceiling):
        missing = (1 - (found.level / 2) ** (1 / found.groups)) * (ceiling - floor)
        low = ceiling - missing if value == ceiling else low
        high = floor + missing if value == floor else high
    spread = (found.v_img, found.v_seed, found.chance_sd, found.images, found.groups, found.level)
    return Result(value, found.se, found.df, low, high, found.p, *spread)
