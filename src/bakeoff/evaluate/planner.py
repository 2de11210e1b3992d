"""docs/protocol.md section 7: what a study can find before it trains, when it may stop, and what would settle it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import optimize, special, stats

from bakeoff.evaluate.statistics import Result
from bakeoff.evaluate.variance import Codes, Scores, image_variance

POCOCK = {1: 0.05, 2: 0.0294, 3: 0.0221, 4: 0.0182, 5: 0.0158}  # level at each look for 5 % in all (Pocock 1977)
NODES, WEIGHTS = np.polynomial.legendre.leggauss(200)
MOST_SEEDS = 50  # no study is advised to train more seeds than this
MOST_TIMES_IMAGES = 100  # nor to label more than so many times its test images


@dataclass(frozen=True)
class Noise:
    """Variances of two candidates' difference in accuracy at `accuracy`: what the planner plans with.

    `image` (s_I^2) is the variance over images of the difference of the two models' chances to be right; `run` (s_E^2)
    the variance over runs of one image's difference, equal to the share of images on which two seeds of one model
    disagree.  Both scale with p (1 - p).
    """

    image: float
    run: float
    accuracy: float = 0.85

    def at(self, accuracy: float) -> Noise:
        """Return the same kind of noise at another accuracy."""
        factor = accuracy * (1 - accuracy) / (self.accuracy * (1 - self.accuracy))
        return Noise(self.image * factor, self.run * factor, accuracy)


# The two settings of docs/protocol.md, 1: two seeds of one model disagree on 15.8 % and 7.0 % of the images; the image
# parts are those that reproduce its table.
FROM_SCRATCH = Noise(0.0326, 0.158)
FINE_TUNED = Noise(0.1016, 0.070)


@dataclass(frozen=True)
class Design:
    """A planned study: S `seeds` (repeats when `folds` > 1) per candidate, n tested `images`, `comparisons` tests.

    `alpha` is the level of a look: 0.05 where there is one.
    """

    images: int
    seeds: int
    folds: int = 1
    comparisons: int = 1
    alpha: float = 0.05


@dataclass(frozen=True)
class Step:
    """What would bring the findable gap down to a target: more seeds, more images; None where that cannot."""

    seeds: int | None
    images: int | None


def smallest_difference(
    design: Design, noise: Noise = FROM_SCRATCH, seed_sd: float = 0.01, power: float = 0.8
) -> float:
    """Return the smallest true difference (0..1) that `design` finds with this power at 5 %.

    sqrt(s_I^2/n + s_E^2/(nS) + 2 s_S^2/S) times the non-central t solution; under cross-validation a repeat averages
    the seeds of its K folds and the factor sqrt(1/R + K/(K-1)) applies.  `seed_sd` is the standard deviation of a
    run's accuracy due to its seed, 0..1.  Raises ValueError for fewer than 2 seeds or images.
    """
    if design.seeds < 2 or design.images < 2:
        raise ValueError("the planner needs at least 2 seeds and 2 test images")
    v_img = (noise.image + noise.run / design.seeds) / design.images
    seed = seed_sd**2 / design.folds
    level = design.alpha / design.comparisons
    if design.folds > 1:  # rows are paired: one component, of the row differences
        parts = [(2 * seed, 2 * seed + noise.run / design.images)]
    else:
        parts = [(seed, seed + noise.run / 2 / design.images)] * 2
    widening = 1.0 if design.folds < 2 else 1 / design.seeds + design.folds / (design.folds - 1)
    variance = v_img + sum(component for component, _ in parts) / design.seeds
    spread = v_img**2 / (design.images - 1)
    spread += sum((total / design.seeds) ** 2 / (design.seeds - 1) for component, total in parts if component > 0)
    return math.sqrt(variance * widening) * noncentrality(variance**2 / spread, level, power)


def planner_table(
    noise: Noise = FROM_SCRATCH,
    images: Sequence[int] = (50, 100, 200, 500, 1000, 2000, 5000),
    seeds: Sequence[int] = (3, 5, 10),
    seed_sd: float = 0.01,
) -> dict[tuple[int, int], float]:
    """Return the smallest findable difference (0..1) for each (images, seeds): the table of section 7."""
    return {(n, s): smallest_difference(Design(n, s), noise, seed_sd) for n in images for s in seeds}


@lru_cache(maxsize=4096)
def noncentrality(df: float, level: float = 0.05, power: float = 0.8) -> float:
    """Return the true difference, in standard errors, that a two-sided t test at `level` finds with this power."""
    # scipy's non-central t fails for few df, so its power is integrated over the chi-square of the standard error.
    ratios = float(stats.t.isf(level / 2, df)) * np.sqrt(stats.chi2.ppf((NODES + 1) / 2, df) / df)

    def missing(shift: float) -> float:
        return float(WEIGHTS @ special.ndtr(shift - ratios)) / 2 - power

    end = 4.0
    while missing(end) < 0:
        end *= 2
    return float(optimize.brentq(missing, 0.0, end, xtol=1e-6))


def detectable(result: Result, power: float = 0.8) -> float:
    """Return the smallest gap that a study with this standard error and df would have found with this power."""
    return result.se * noncentrality(round(result.df, 6), result.level, power) if result.se > 0 else 0.0


def next_step(a: Scores, b: Scores, result: Result, target: float) -> Step:
    """Return how many seeds, or how many test images (or groups), each alone bring the findable gap to `target`.

    a and b are the score tables (S, n) behind `result`.
    """
    seeds, images = min(len(a), len(b)), result.groups
    if result.se == 0:
        return Step(seeds, images)
    gap = _gaps(a, b, result)
    enough_seeds = next((s for s in range(seeds, MOST_SEEDS + 1) if gap(s, images) <= target), None)
    sizes = (round(images * 1.05**k) for k in range(math.ceil(math.log(MOST_TIMES_IMAGES, 1.05)) + 1))
    enough_images = next((n for n in sizes if gap(seeds, n) <= target), None)
    return Step(enough_seeds, enough_images)


def foreseen(a: Scores, b: Scores, result: Result, seeds: int) -> float:
    """Return the gap that as many `seeds` of each would find with 80 % power; arguments as in next_step."""
    return _gaps(a, b, result)(seeds, result.groups) if result.se > 0 else 0.0


def _gaps(a: Scores, b: Scores, result: Result) -> Callable[[int, int], float]:
    """Return what says, for other numbers of seeds and of images (or groups), the gap found with 80 % power.

    The images' part of the variance splits into what more seeds reduce (the residual of a run) and what they do not;
    the degrees of freedom grow with both.
    """
    seeds, images = min(len(a), len(b)), result.groups
    residual = _residual_share(a, b) * result.v_img
    whole = result.v_img + result.v_seed
    loose = max(0.0, whole**2 / result.df - result.v_img**2 / (images - 1))  # the seeds' part of Satterthwaite's sum

    def gap(more_seeds: int, more_images: int) -> float:
        v_img = (result.v_img - residual + residual * seeds / more_seeds) * images / more_images
        variance = v_img + result.v_seed * seeds / more_seeds
        spread = v_img**2 / (more_images - 1)
        if more_seeds > 1 and seeds > 1:
            spread += loose * (seeds / more_seeds) ** 2 * (seeds - 1) / (more_seeds - 1)
        return math.sqrt(variance) * noncentrality(round(variance**2 / spread, 3), result.level)

    return gap


def _residual_share(a: Scores, b: Scores) -> float:
    """Return the share of the images' variance that comes from the run and not from the image, 0..1."""
    noise = sum(float(y.var(axis=0, ddof=1).mean()) / len(y) for y in (a, b) if len(y) > 1)
    whole = float((a.mean(axis=0) - b.mean(axis=0)).var(ddof=1))
    return min(1.0, noise / whole) if whole > 0 else 0.0


def stop_level(looks: int) -> float:
    """Return the level at each of `looks` equally spaced looks that keeps 5 % false claims in all (Pocock).

    Raises ValueError for a number of looks outside 1..5.
    """
    if looks not in POCOCK:
        raise ValueError(f"looks must be between 1 and {max(POCOCK)}, got {looks}")
    return POCOCK[looks]


@dataclass(frozen=True)
class Behind:
    """By how much a candidate of the race is behind the leader on validation, with the race's own interval."""

    gap: float
    low: float
    high: float


def behind_leader(
    scores: Sequence[Scores],
    rungs: int,
    prior_sd: float = 0.01,
    groups: Codes | None = None,
    leader: int | None = None,
    field: int | None = None,
) -> list[Behind]:
    """Return how far each candidate of a rung is behind the leader (None: the best mean) on VALIDATION.

    scores[k] (S_k, n_val).  The interval is gap +- t sqrt(V_img + c / S_leader + c / S_k), t Student's quantile at
    .05/(M-1)/rungs for the `field` of M candidates (None: all that are given), V_img the variance of the mean
    difference over images (s2/n_val), or over `groups` (n_val,), and c the seed variance so far: the mean over
    candidates with two runs or more, and `prior_sd`^2 at least.  The degrees of freedom are Satterthwaite's; a c of
    few runs has few of them, `prior_sd` is taken for known.
    """
    means = [float(y.mean()) for y in scores]
    first = scores[max(range(len(scores)), key=means.__getitem__) if leader is None else leader]
    codes = np.arange(first.shape[1]) if groups is None else groups
    seen = [float(y.mean(axis=1).var(ddof=1)) for y in scores if len(y) > 1]
    seed = max(prior_sd**2, float(np.mean(seen)) if seen else 0.0)
    loose = sum(len(y) - 1 for y in scores) if seed > prior_sd**2 else math.inf
    level, others = 0.05 / max(1, (field or len(scores)) - 1) / rungs, int(np.unique(codes).size) - 1
    found = []
    for y in scores:
        delta = first.mean(axis=0) - y.mean(axis=0)
        v_img, v_seed = image_variance(delta, codes), seed / len(first) + seed / len(y)
        spread = v_img**2 / others + v_seed**2 / loose
        df = (v_img + v_seed) ** 2 / spread if spread > 0 else math.inf
        half = float(stats.t.isf(level, df)) * math.sqrt(v_img + v_seed)
        found.append(Behind(float(delta.mean()), float(delta.mean()) - half, float(delta.mean()) + half))
    return found


def dropped_in_race(
    scores: Sequence[Scores], rungs: int, prior_sd: float = 0.01, keep: int = 2, groups: Codes | None = None
) -> list[int]:
    """Return the candidates (positions) that a rung of the race drops, the worst first: those clearly behind.

    Arguments as in behind_leader(); at least `keep` survive.
    """
    behind = behind_leader(scores, rungs, prior_sd, groups)
    worst = sorted(range(len(scores)), key=lambda k: -behind[k].gap)
    return [k for k in worst[: max(0, len(worst) - keep)] if behind[k].low > 0]
