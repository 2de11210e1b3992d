"""From score tables to tested pairs: which test, which level, what may be claimed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Literal

import numpy as np

from bakeoff.evaluate.looks import ONCE, Looks
from bakeoff.evaluate.planner import detectable
from bakeoff.evaluate.resampling import image_bootstrap, mcnemar
from bakeoff.evaluate.statistics import (
    Result,
    chance_better,
    crossed_t,
    equivalence,
    holm,
    identical,
    image_t,
    paired_t,
)
from bakeoff.evaluate.variance import Codes, Scores, SeedVariance, pooled_pair_variance, pooled_seed_variance

Level = Literal["L0", "L1", "L2"]
Kind = Literal["better", "worse", "equivalent", "undecided", "identical"]

LEAST_SEEDS = 3  # finished runs per candidate that an L1 claim needs
LEAST_REPEATS = 2  # finished repeats that an L2 claim needs: with one, nothing measures the luck of training
LEAST_IMAGES, LEAST_GROUPS = 20, 10  # test images and groups that any claim needs


@dataclass(frozen=True)
class Estimate:
    """A value with its interval (95 %, or at the level of the look), in the metric's own unit; NaN is stored as None.

    Percent metrics lie in 0..1.
    """

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Pair:
    """One difference a - b on the headline metric, in its own unit; positive when a is better.

    `low` and `high` are the interval (95 %, or at the level of the look), simultaneous when there are more than two
    candidates.  `chance` is P(A>B) with the interval from low and high, None at L0.  `image_share` is the images' share
    of the variance, 0..1; the seeds' share is the rest.  `detectable` is the smallest gap found with 80 % power.
    """

    a: str
    b: str
    difference: float
    low: float
    high: float
    se: float
    df: float
    p: float
    p_holm: float
    chance: Estimate | None
    kind: Kind
    sentence: str
    image_share: float
    detectable: float | None


@dataclass(frozen=True)
class Contest:
    """What the tests need: candidates best-looking first, their tables (rows, n) (higher is better), and the design.

    `rows` names the rows of each table (seeds, or repeats).  `groups` (n,) are the units of resampling: the groups, or
    the blocks of a jackknife made of them; `group_count` is G.  `folds` above 1 is a cross-validation.  `eps` is in the
    metric's unit.  `absent` are the candidates without a single finished row.  `looks` set the level of all tests.
    """

    tables: Mapping[str, Scores]
    rows: Mapping[str, tuple[int, ...]]
    groups: Codes
    group_count: int
    folds: int
    eps: float
    baseline: str | None = None
    absent: tuple[str, ...] = ()
    looks: Looks = ONCE

    @property
    def images(self) -> int:
        """Return n."""
        return self.groups.size

    @cached_property
    def names(self) -> list[str]:
        """Candidates, the best-looking first."""
        return sorted(self.tables, key=lambda name: -float(self.tables[name].mean()))

    @property
    def matches(self) -> list[tuple[str, str]]:
        """Return the pairs to test: all against the baseline, or all against all."""
        if (baseline := self.baseline) is not None and baseline in self.tables:
            return [(name, baseline) for name in self.names if name != baseline]
        return list(combinations(self.names, 2))

    @property
    def least(self) -> int:
        """Return how many rows a claim needs."""
        return LEAST_REPEATS if self.folds > 1 else LEAST_SEEDS

    @property
    def large_enough(self) -> bool:
        """Say whether the test set can carry a claim."""
        return self.images >= LEAST_IMAGES and self.group_count >= LEAST_GROUPS

    def claimable(self, *names: str) -> bool:
        """Say whether these candidates have what a claim about recipes needs."""
        if self.folds > 1 and len(names) == 2:
            return self.large_enough and len(set(self.rows[names[0]]) & set(self.rows[names[1]])) >= self.least
        return self.large_enough and all(len(self.rows[name]) >= self.least for name in names)

    @cached_property
    def level(self) -> Level:
        """Return the claim level of the whole comparison: L0 when no pair can carry more."""
        able = any(self.claimable(a, b) for a, b in self.matches)
        if len(self.names) == 1:
            able = self.claimable(self.names[0])
        return "L0" if not able else "L2" if self.folds > 1 else "L1"

    @cached_property
    def pooled(self) -> SeedVariance | None:
        """Return the seed component shared by 3 or more candidates, or None: each pair has its own."""
        able = [name for name in self.names if self.claimable(name)]
        tables = [self.tables[name] for name in able]
        if self.folds == 1:
            return pooled_seed_variance(tables, self.groups)
        if len({self.rows[name] for name in able}) > 1:  # rows are paired: all need the same repeats
            return None
        return pooled_pair_variance(tables, self.groups)


def tested_pairs(contest: Contest) -> tuple[Pair, ...]:
    """Test every match; intervals are simultaneous (Bonferroni), claims by Holm's adjusted p, equivalence likewise.

    The sentences are still empty: verdict.worded() writes them.
    """
    matches = contest.matches
    level = contest.looks.alpha / max(1, len(matches))
    results = [result(contest, a, b, level) for a, b in matches]
    # A pair without a claim takes no part in the family, except where nobody may claim anything.
    counted = [m for m in matches if contest.claimable(*m)] or matches
    adjusted = dict(
        zip(counted, holm([r.p for m, r in zip(matches, results, strict=True) if m in counted]), strict=True)
    )
    return tuple(
        _pair(contest, match, found, adjusted.get(match, 1.0)) for match, found in zip(matches, results, strict=True)
    )


def result(contest: Contest, a: str, b: str, level: float = 0.05) -> Result:
    """Test one pair as its design asks: paired rows (L2), crossed t (L1), or the images alone where no claim is due."""
    first, second, rows = contest.tables[a], contest.tables[b], contest.rows
    if not contest.claimable(a, b):
        return _these_files(first, second, contest.groups, level)
    if contest.folds == 1:
        return crossed_t(first, second, contest.groups, contest.pooled, level)
    common = [row for row in rows[a] if row in rows[b]]
    first, second = first[[rows[a].index(r) for r in common]], second[[rows[b].index(r) for r in common]]
    return paired_t(first, second, contest.folds, contest.groups, level, contest.pooled)


def best_set(contest: Contest, pairs: Sequence[Pair]) -> tuple[str, ...]:
    """Return the candidates not shown to be worse than the best-looking one, which comes first.

    With a baseline, one that is worse than the baseline leaves too.
    """
    if not contest.names:
        return ()
    shown_worse = {pair.b for pair in pairs if pair.kind == "better" and pair.a == contest.names[0]}
    shown_worse |= {pair.a for pair in pairs if pair.kind == "worse"}
    return tuple(name for name in contest.names if name not in shown_worse)


def _these_files(first: Scores, second: Scores, groups: Codes, level: float) -> Result:
    """Level L0: bootstrap over images (or groups); McNemar's p for right/wrong scores of single images."""
    drawn = image_bootstrap(first, second, groups, level=level)
    base = image_t(first, second, groups, level)
    binary = all(len(y) == 1 and np.isin(y, (0, 1)).all() for y in (first, second))
    p = mcnemar(first, second) if binary and base.groups == base.images else drawn.p
    return replace(base, se=drawn.se, low=drawn.low, high=drawn.high, p=p)


def _pair(contest: Contest, match: tuple[str, str], found: Result, p_holm: float) -> Pair:
    """Make the pair of a test."""
    a, b = match
    claim = contest.claimable(a, b)
    chance = Estimate(*chance_better(found)) if claim else None
    return Pair(
        a=a,
        b=b,
        difference=found.difference,
        low=found.low,
        high=found.high,
        se=found.se,
        df=found.df,
        p=found.p,
        p_holm=p_holm,
        chance=chance,
        kind=_kind(contest, match, found, p_holm),
        sentence="",
        image_share=found.image_share,
        detectable=detectable(found) if claim else None,
    )


def _kind(contest: Contest, match: tuple[str, str], found: Result, p_holm: float) -> Kind:
    """Say what is claimed of a pair."""
    if identical(contest.tables[match[0]], contest.tables[match[1]]):
        return "identical"
    if not contest.claimable(*match):
        return "undecided"
    if p_holm < contest.looks.alpha:
        return "better" if found.difference > 0 else "worse"
    return "equivalent" if equivalence(found, contest.eps, found.level).holds else "undecided"
