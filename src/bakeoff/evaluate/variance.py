"""The pieces of variance behind every test: what the seeds do, what the choice of test images does.

Scores are arrays (S, n): rows are seeds (or repeats of a cross-validation), columns are test images, higher is better.
V_img, c_m, s2_m, MSE_m, D and df are the letters of docs/protocol.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Scores = NDArray[np.float64]
Codes = NDArray[np.intp]

ROUNDING = 1e-12  # a standard error below this share of the scores' size is rounding, not variance


@dataclass(frozen=True)
class SeedVariance:
    """What the seed does to a run's mean score.

    `signed` is the component before the cut at 0; `component` (c_m) after it; `total` (s2_m) the plain variance of the
    run means, image noise included; `df` its degrees of freedom.
    """

    signed: float
    total: float
    df: float

    @property
    def component(self) -> float:
        """Return c_m: the variance that a new seed adds to a run's mean, never below 0."""
        return max(0.0, self.signed)


def group_codes(groups: ArrayLike | None, images: int) -> Codes:
    """Return the group of every image as 0..G-1; without groups each image is its own."""
    if groups is None:
        return np.arange(images)
    names = np.asarray(groups)
    if names.shape != (images,):
        raise ValueError(f"groups must name one group per image: {names.shape} for {images} images")
    return np.unique(names, return_inverse=True)[1].astype(np.intp)


def group_sums(scores: Scores, codes: Codes) -> Scores:
    """Add the columns (…, n) of each group: (…, G)."""
    size = int(codes.max()) + 1
    if size == codes.size:  # each image alone: only the order may change
        sums = np.empty_like(scores)
        sums[..., codes] = scores
        return sums
    rows = np.array([np.bincount(codes, weights=row, minlength=size) for row in np.atleast_2d(scores)], np.float64)
    return rows.reshape(*scores.shape[:-1], size)


def seed_variance(scores: ArrayLike, groups: ArrayLike | None = None) -> SeedVariance:
    """Return the seed component of one model from scores (S, n) with S >= 2.

    c_m = s2_m - MSE_m / n, where MSE_m / n, the image noise in a run's mean, is measured on the residual sums of the
    groups: with each image its own group that is the residual mean square of the seeds x images table over n; with
    groups it keeps what a seed does to a whole group out of c_m, where V_img already counts it.
    """
    y = checked(scores)
    runs, images = y.shape
    if runs < 2:
        raise ValueError("the variance of the seeds needs at least 2 seeds (rows)")
    codes = group_codes(groups, images)
    means = y.mean(axis=1)
    residuals = y - means[:, None] - y.mean(axis=0) + means.mean()
    sums = group_sums(residuals, codes)
    total = float(means.var(ddof=1))
    noise = _small_sample(sums.shape[1]) * float((sums**2).sum()) / ((runs - 1) * images**2)
    signed = total - noise
    return SeedVariance(signed if abs(signed) > ROUNDING * total else 0.0, total, runs - 1)


def pooled_seed_variance(
    models: Sequence[ArrayLike], groups: ArrayLike | None = None, level: float = 0.01
) -> SeedVariance | None:
    """Pool the seed component over 3 or more models: the mean of the signed components, weighted by their df.

    Returns None, meaning one component per model, when Levene's test on the run means rejects at `level`, or when
    fewer than 3 models have 2 seeds.  Levene's test uses means as centres: with 3 to 5 seeds the variant with medians
    hardly ever rejects, and a missed unstable model costs false claims where a needless None costs only power.  With
    2 seeds the test is not defined, and the component is pooled.
    """
    scores = [y for y in map(checked, models) if len(y) > 1]
    if len(scores) < 3:
        return None
    means = [y.mean(axis=1) for y in scores]
    if _levene(means) < level:
        return None
    codes = group_codes(groups, scores[0].shape[1])
    parts = [seed_variance(y, codes) for y in scores]
    df = sum(part.df for part in parts)
    signed = sum(part.signed * part.df for part in parts) / df
    return SeedVariance(signed, sum(part.total * part.df for part in parts) / df, df)


def pooled_pair_variance(
    models: Sequence[ArrayLike], groups: ArrayLike | None = None, level: float = 0.01
) -> SeedVariance | None:
    """Pool the component of row differences over all pairs of 3 or more models whose rows (R >= 2) are paired.

    The mean over pairs of the signed components: the rows x models interaction, with (M-1)(R-1) degrees of freedom.
    None where pooled_seed_variance() would say so, by Levene's test on the row means less the row.
    """
    scores = [checked(y) for y in models]
    if len(scores) < 3 or len({y.shape for y in scores}) > 1 or len(scores[0]) < 2:
        return None
    means = np.array([y.mean(axis=1) for y in scores])
    if _levene(list(means - means.mean(axis=0))) < level:
        return None
    codes = group_codes(groups, scores[0].shape[1])
    parts = [seed_variance(a - b, codes) for a, b in combinations(scores, 2)]
    df = (len(scores) - 1) * (len(scores[0]) - 1)
    return SeedVariance(float(np.mean([p.signed for p in parts])), float(np.mean([p.total for p in parts])), df)


def _levene(means: Sequence[Scores]) -> float:
    """Return the p of Levene's test that the run means of all models vary alike; 1 where it is not defined."""
    spreads = [np.abs(m - m.mean()) for m in means if len(m) > 2]
    scale = max((float(np.abs(m).max()) for m in means), default=0.0)
    within = sum(float(((s - s.mean()) ** 2).sum()) for s in spreads)
    if len(spreads) < 2 or within <= (ROUNDING * scale) ** 2:
        return 1.0
    return float(stats.levene(*[m for m in means if len(m) > 2], center="mean").pvalue)


def image_variance(delta: Scores, codes: Codes) -> float:
    """V_img: the variance of the mean of delta (n,) due to the choice of test images (or groups)."""
    sums = group_sums(delta - delta.mean(), codes)
    return _small_sample(sums.size) * float((sums**2).sum()) / delta.size**2


def fresh_pair_variance(a: Scores, b: Scores, codes: Codes) -> float:
    """Return the mean over all pairs of runs of V_img of that pair's difference, without looping over the pairs."""
    first, second = (group_sums(y - y.mean(axis=1, keepdims=True), codes) for y in (a, b))
    squares = (first**2).sum() / len(a) + (second**2).sum() / len(b) - 2 * (first.mean(axis=0) @ second.mean(axis=0))
    return _small_sample(first.shape[1]) * max(0.0, float(squares)) / float(a.shape[1] ** 2)


def _small_sample(groups: int) -> float:
    """G / (G - 1)."""
    if groups < 2:
        raise ValueError("a test set of one image or one group has no variance: at least 2 are needed")
    return groups / (groups - 1)


def scale_of(*scores: Scores) -> float:
    """Return the largest absolute score: the yardstick of rounding."""
    return max(float(np.abs(y).max()) for y in scores)


def paired_scores(a: ArrayLike, b: ArrayLike) -> tuple[Scores, Scores]:
    """Check two score tables against each other."""
    first, second = checked(a), checked(b)
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"different image sets: {first.shape[1]} and {second.shape[1]} test images; evaluate both on the same ones"
        )
    return first, second


def checked(scores: ArrayLike) -> Scores:
    """Return scores as a float64 table (S, n), or say what is wrong with them."""
    y = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    if y.ndim != 2 or y.size == 0:
        raise ValueError(f"scores must be a table of seeds x images, got shape {y.shape}")
    if not np.isfinite(y).all():
        runs = np.flatnonzero(~np.isfinite(y).all(axis=1))
        raise ValueError(
            f"{int((~np.isfinite(y)).sum())} scores are NaN or infinite (first in run {runs[0]}, counted from 0): "
            "the metric is undefined there, or the run failed; leave the run out or choose another metric"
        )
    return y
