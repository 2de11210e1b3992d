"""How the error falls with the number of training images: error(n) = a n^-b + c, and what twice as many would bring.

Errors of trained networks follow such a law over a wide range of sizes (Hestness et al. 2017, arXiv 1712.00409).  How
far it reaches beyond the measured sizes is uncertain, and a law without the floor c promises too much where there is
one (Mahmood et al. 2022, arXiv 2207.01725); so it is asked for twice the images and no more, and the intervals span the
fits with and without a floor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from bakeoff.evaluate.pairs import Estimate
from bakeoff.evaluate.variance import Codes, Scores, group_sums, seed_variance
from bakeoff.seeds import generator

LEAST_SIZES, LEAST_FOR_FLOOR = 3, 4  # sizes that a law needs, and one with a floor
DRAWS, STEPS = 2000, 33  # resampled curves; places on the curve that is drawn
MISFIT = 0.001  # p of the lack of fit below which the points are on no power law
PENALTY = 2.0  # Akaike: what one parameter more has to gain
EXPONENTS, FLOORED = np.linspace(-1, 3, 201), np.linspace(0.05, 3, 60)  # exponents tried without and with a floor
Rows = NDArray[np.float64]


@dataclass(frozen=True)
class PowerLaw:
    """error(n) = a n^-b + c for n training images, in the metric's own unit."""

    a: float
    b: float
    c: float

    def error(self, images: float) -> float:
        """Return the error that the law expects of a training set of this size."""
        return self.a * math.pow(images, -self.b) + self.c


@dataclass(frozen=True)
class Reach:
    """The metric that a law expects of `images` training images, with its 95 % interval."""

    images: float
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Trend:
    """A fitted law (None where there is none: `reason` says why), what twice the images bring, and the curve to draw.

    `gain` is positive where the metric becomes better, in its own unit.  `line` goes to twice the largest size.
    """

    law: PowerLaw | None
    gain: Estimate = field(default_factory=lambda: Estimate(None))
    line: tuple[Reach, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Points:
    """What is known of the m errors, by size: `sizes` and `errors` (m,), and their noise.

    `images` (m, m) is the covariance that the choice of test images gives them (the same ones at every size), `seeds`
    (m,) the variance of each from its own runs, with `df` degrees of freedom together.  `weights` (m,) are those of
    least squares: one over the variance that the points do not share.
    """

    sizes: Rows
    errors: Rows
    images: Rows
    seeds: Rows
    weights: Rows
    df: float

    @property
    def x(self) -> Rows:
        """The sizes as shares of the largest."""
        shares: Rows = self.sizes / self.sizes.max()
        return shares


def fit_trend(
    tables: Sequence[Scores], sizes: Sequence[float], units: Codes, folds: int = 1, higher_is_better: bool = True
) -> Trend:
    """Fit a power law to the errors of one candidate at several sizes.

    `tables` hold a score table (rows, n) for each size as estimates.headline_table() gives it, higher is better, all on
    the same n images with the same `units` of resampling; runs at different sizes are independent.  The error is one
    minus the score, or the metric itself where lower is better.  `folds` above 1 widens the intervals as in
    statistics.one_sample_t().

    Weighted least squares; with 4 sizes or more a floor c is fitted where Akaike's criterion asks for it.  The interval
    comes from redrawing the points with the noise they have (test images in common, seeds each its own, t by the
    degrees of freedom of all seeds together) and fitting them anew, without a floor and with one; it spans both.
    """
    top, sign = (1.0, -1.0) if higher_is_better else (0.0, 1.0)
    points = _points(tables, np.asarray(sizes, np.float64), units, folds, top)
    if reason := _unfit(points):
        return Trend(None, reason=reason)
    a, b, c = (float(found[0]) for found in _fit(points.errors[None], points.weights, points.x, PENALTY))
    if reason := _misfit(points, a * points.x**-b + c, 2 if c == 0 else 3, b):
        return Trend(None, reason=reason)
    places = np.geomspace(points.x.min(), 2, STEPS)
    gain, curve = _spread(points, places)
    largest = float(points.sizes.max())
    line = tuple(
        Reach(float(at) * largest, float(top + sign * error), *sorted((float(top + sign * p), float(top + sign * q))))
        for at, error, (p, q) in zip(places, a * places**-b + c, curve, strict=True)
    )
    return Trend(PowerLaw(a * largest**b, b, c), Estimate(a * (1 - 2**-b), *gain), line)


def _points(tables: Sequence[Scores], sizes: Rows, units: Codes, folds: int, top: float) -> Points:
    """Return errors and noise, in the order of the sizes.

    The variance of a single point, from a few seeds and few errors, is itself too noisy to weigh with, and smallest
    where luck made the error small.  So all variances are taken together, in proportion to the error: quasi-Poisson.
    """
    order = np.argsort(sizes, kind="stable")
    sizes, tables = sizes[order], [tables[place] for place in order]
    means, rows = np.array([table.mean(axis=0) for table in tables]), np.array([len(table) for table in tables])
    errors = top - means.mean(axis=1)
    parts = [seed_variance(table, units) for table in tables if len(table) > 1]
    common = means - means.mean(axis=0)  # less what a test image does at every size alike
    own = np.diag(_covariance(common, units)) * len(sizes) / max(1, len(sizes) - 1)
    shape = _smooth(errors, sizes)
    seeds = np.mean([part.component for part in parts] or [0.0]) * shape / shape.mean() / rows
    widening = 1 / rows + folds / (folds - 1) if folds > 1 else np.ones(len(rows))
    variance = (own.mean() * shape / shape.mean() + seeds) * widening
    weights = 1 / variance if (variance > 0).all() else np.ones(len(rows))
    images = _covariance(means, units) * np.sqrt(np.outer(widening, widening))
    return Points(sizes, errors, images, seeds * widening, weights, sum(part.df for part in parts))


def _smooth(errors: Rows, sizes: Rows) -> Rows:
    """Return the errors smoothed by a law without a floor, none of them below a twentieth of their mean."""
    least = max(float(errors.mean()) / 20, 1e-9)
    x = sizes / sizes.max()
    a, b, _ = (part[0] for part in _fit(errors[None], 1 / np.maximum(errors, least), x, None))
    smooth: Rows = np.maximum(a * x**-b, least)
    return smooth


def _covariance(means: Rows, units: Codes) -> Rows:
    """Return the covariance (m, m) of the means of m rows of scores that the choice of images (or groups) gives."""
    sums = group_sums(means - means.mean(axis=1, keepdims=True), units)
    count = sums.shape[1]
    found: Rows = count / (count - 1) * (sums @ sums.T) / means.shape[1] ** 2
    return found


def _unfit(points: Points) -> str:
    """Say why no law can be fitted to points, "" when it can."""
    if len(points.sizes) < LEAST_SIZES:
        return f"a power law needs {LEAST_SIZES} sizes of the training set, here are {len(points.sizes)}"
    if points.errors.max() <= 0:
        return "no error is left that more images could lower"
    return ""


def _misfit(points: Points, fitted: Rows, parameters: int, exponent: float) -> str:
    """Say why a fitted law does not hold, "" when it may."""
    if exponent <= 0:
        return "the error does not fall with more training images"
    free = len(points.errors) - parameters
    if free < 1:
        return ""
    squares = float((points.weights * (points.errors - fitted) ** 2).sum()) / free
    p = stats.f.sf(squares, free, points.df) if points.df else stats.chi2.sf(squares * free, free)
    return "the errors do not follow a power law of the number of training images" if p < MISFIT else ""


# --- least squares, many curves at once ---


def _fit(errors: Rows, weights: Rows, x: Rows, penalty: float | None) -> tuple[Rows, Rows, Rows]:
    """Return a, b and c (D,) of the laws a x^-b + c nearest to each of the rows (D, m).

    A floor c > 0 is taken where it lowers the weighted sum of squares by more than `penalty` (None: never), and where
    there are points enough for it.
    """
    a, b, squares = _without_floor(errors, weights, x)
    c = np.zeros_like(a)
    if penalty is None or x.size < LEAST_FOR_FLOOR:
        return a, b, c
    *floored, less = _with_floor(errors, weights, x)
    better = squares - less > penalty
    first, second, third = (np.where(better, new, old) for new, old in zip(floored, (a, b, c), strict=True))
    return first, second, third


def _without_floor(errors: Rows, weights: Rows, x: Rows) -> tuple[Rows, Rows, Rows]:
    """Return a, b and the weighted sum of squares; b is the vertex of the parabola through the best three tried."""
    powers = x ** -EXPONENTS[:, None]
    inner, norm = (errors * weights) @ powers.T, (weights * powers**2).sum(axis=1)
    profile = -(np.maximum(inner, 0) ** 2) / norm  # less the sum of the weighted squares of the errors themselves
    best, rows = profile.argmin(axis=1), np.arange(len(errors))
    middle = np.clip(best, 1, len(EXPONENTS) - 2)
    left, centre, right = (profile[rows, middle + step] for step in (-1, 0, 1))
    bend = left - 2 * centre + right
    inside = (best == middle) & (bend > 0)
    shift = np.where(inside, (left - right) / 2 / np.where(inside, bend, 1), 0)
    b = EXPONENTS[best] + shift * (EXPONENTS[1] - EXPONENTS[0])
    powers = x ** -b[:, None]
    a = np.maximum((weights * errors * powers).sum(axis=1) / (weights * powers**2).sum(axis=1), 0)
    return a, b, (weights * (errors - a[:, None] * powers) ** 2).sum(axis=1)


def _with_floor(errors: Rows, weights: Rows, x: Rows) -> tuple[Rows, Rows, Rows, Rows]:
    """Return a, b, c and the weighted sum of squares, infinite where no floor above 0 fits."""
    powers = x ** -FLOORED[:, None]
    total, sums, norm = weights.sum(), (weights * powers).sum(axis=1), (weights * powers**2).sum(axis=1)
    level, inner = (errors * weights).sum(axis=1, keepdims=True), (errors * weights) @ powers.T
    a = (total * inner - sums * level) / (total * norm - sums**2)
    c = (level - a * sums) / total
    squares = (weights * errors**2).sum(axis=1, keepdims=True) - a * inner - c * level
    squares = np.where((a > 0) & (c > 0), squares, np.inf)
    best, rows = squares.argmin(axis=1), np.arange(len(errors))
    return a[rows, best], FLOORED[best], c[rows, best], squares[rows, best]


def _spread(points: Points, places: Rows) -> tuple[tuple[float, float], Rows]:
    """Return the 95 % interval of the gain of twice the images, and of the error at each place (P, 2)."""
    random = generator(0, "power law", len(points.sizes))
    values, vectors = np.linalg.eigh(points.images)
    shape = (DRAWS, len(points.sizes))
    images = random.standard_normal(shape) * np.sqrt(np.maximum(values, 0)) @ vectors.T
    heavy = np.sqrt(points.df / random.chisquare(points.df, (DRAWS, 1))) if points.df else 0.0
    drawn = points.errors + images + heavy * random.standard_normal(shape) * np.sqrt(points.seeds)
    gains, curves = [], []
    for penalty in (None, 0.0):
        a, b, c = (found[:, None] for found in _fit(drawn, points.weights, points.x, penalty))
        gains.append(np.quantile(a * (1 - 2**-b), (0.025, 0.975)))
        curves.append(np.quantile(a * places**-b + c, (0.025, 0.975), axis=0))
    low, high = np.min(gains, axis=0)[0], np.max(gains, axis=0)[1]
    band = np.stack([np.min(curves, axis=0)[0], np.max(curves, axis=0)[1]], axis=1)
    return (float(low), float(high)), band
