"""docs/protocol.md section 9, points 1 to 4: false claims, coverage, power and canaries in simulated worlds.

docs/protocol.md, 1: logit p[model, seed, image] = mean + image difficulty + image x model + seed effect, and the
outcome is a Bernoulli draw.  Its standard deviations are solved from three numbers: accuracy, the share of images on
which two seeds of one model disagree, and the variance of the models' difference over images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import optimize, stats
from scipy.special import expit

from bakeoff.evaluate import pairs as pairs_of
from bakeoff.evaluate import planner
from bakeoff.evaluate.looks import Looks
from bakeoff.evaluate.pairs import Contest
from bakeoff.evaluate.planner import FINE_TUNED, FROM_SCRATCH, Design, Noise
from bakeoff.evaluate.resampling import jackknife_blocks, pseudo_values
from bakeoff.evaluate.selfchecks import halves
from bakeoff.evaluate.statistics import chance_better, crossed_t, equivalence, holm, image_t, paired_t
from bakeoff.evaluate.variance import pooled_pair_variance, pooled_seed_variance
from bakeoff.seeds import generator

Scores = NDArray[np.float64]
Claim = Callable[[Scores, Scores], bool]

REPLICATES = 400
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(61)
WEIGHTS = WEIGHTS / WEIGHTS.sum()
H, L = FROM_SCRATCH, FINE_TUNED


class World:
    """Draws runs of equal models, or of models `gap` points apart, from one calibrated setting."""

    def __init__(self, noise: Noise, seed_sd: float) -> None:
        """Solve the setting; `seed_sd` is the standard deviation of a run's accuracy in points."""
        self.mean, self.image_sd, self.model_sd = _calibrated(noise)
        self.slope = noise.run / 2  # points of accuracy per unit of logit: the mean of p (1 - p)
        self.seed_sd = seed_sd / 100 / self.slope

    def accuracy(self, mean: float) -> float:
        """Return the expected accuracy of a model with this mean logit."""
        spread = np.sqrt(self.image_sd**2 + self.model_sd**2 + self.seed_sd**2)
        return float(WEIGHTS @ expit(mean + spread * NODES))

    def shifted(self, points: float) -> float:
        """Return the mean logit of a model that is better by `points`."""
        target = self.accuracy(self.mean) + points / 100
        return float(optimize.brentq(lambda mean: self.accuracy(mean) - target, self.mean - 20, self.mean + 30))

    def seed_effects(self, random: np.random.Generator, seeds: int) -> Scores:
        """Draw the seeds' logit shifts."""
        return random.normal(0, self.seed_sd, seeds)

    def draw(
        self, random: np.random.Generator, images: int, seeds: Sequence[int], gaps: Sequence[float] = (), group: int = 1
    ) -> list[Scores]:
        """Draw right/wrong tables (S, n), one per entry of `seeds`; a group shares difficulty and model part."""
        count = -(-images // group)
        base = np.repeat(random.normal(0, self.image_sd, count), group)[:images]
        tables = []
        for place, runs in enumerate(seeds):
            mean = self.shifted(gaps[place]) if gaps else self.mean
            part = np.repeat(random.normal(0, self.model_sd, count), group)[:images]
            logits = mean + self.seed_effects(random, runs)[:, None] + base + part
            tables.append((random.random((runs, images)) < expit(logits)).astype(np.float64))
        return tables


class Collapsing(World):
    """One run in ten is 10 points worse."""

    def seed_effects(self, random: np.random.Generator, seeds: int) -> Scores:
        fall = np.where(random.random(seeds) < 0.1, self.shifted(-10) - self.mean, 0.0)
        return super().seed_effects(random, seeds) + fall


@cache
def _calibrated(noise: Noise) -> tuple[float, float, float]:
    """Solve mean logit, image sd and image-by-model sd by Gauss-Hermite quadrature."""

    def mean_for(spread: float) -> float:
        return float(optimize.brentq(lambda mean: WEIGHTS @ expit(mean + spread * NODES) - noise.accuracy, -5.0, 40.0))

    def disagreement(spread: float) -> float:
        p = expit(mean_for(spread) + spread * NODES)
        return float(2 * WEIGHTS @ (p * (1 - p)))

    spread = float(optimize.brentq(lambda s: disagreement(s) - noise.run, 0.05, 15.0))
    mean = mean_for(spread)
    second_moment = float(WEIGHTS @ expit(mean + spread * NODES) ** 2)

    def interaction(share: float) -> float:
        parts = mean + spread * (np.sqrt(1 - share) * NODES[:, None] + np.sqrt(share) * NODES)
        return 2 * (second_moment - float(WEIGHTS @ (expit(parts) @ WEIGHTS) ** 2))

    share = float(optimize.brentq(lambda s: interaction(s) - noise.image, 1e-6, 1 - 1e-6))
    return mean, spread * np.sqrt(1 - share), spread * np.sqrt(share)


def rate(claims: Sequence[bool]) -> float:
    """Return the share of true entries in percent."""
    return 100 * float(np.mean(claims))


def claims(world: World, images: int, seeds: tuple[int, int], claim: Claim, group: int = 1) -> float:
    """Return how often `claim` sees a difference between two equal models, in percent."""
    draws = (world.draw(generator(r, "simulation"), images, seeds, group=group) for r in range(REPLICATES))
    return rate([claim(a, b) for a, b in draws])


def crossed(a: Scores, b: Scores) -> bool:
    return crossed_t(a, b).p < 0.05


def welch(a: Scores, b: Scores) -> bool:
    return bool(stats.ttest_ind(a.mean(axis=1), b.mean(axis=1), equal_var=False).pvalue < 0.05)


def images_only(a: Scores, b: Scores) -> bool:
    return image_t(a, b).p < 0.05


@pytest.mark.parametrize(
    ("seeds", "images", "seed_sd", "noise"),
    [
        (3, 200, 1.0, H),  # few seeds, few images, from scratch
        (5, 500, 0.3, H),  # images dominate
        (5, 500, 1.0, H),  # both matter
        (5, 500, 2.0, H),  # seeds dominate
        (3, 200, 1.0, L),  # few seeds, few images, fine-tuned
        (5, 500, 0.3, L),  # Welch's worst world
        (5, 500, 1.0, L),  # both matter, fine-tuned
        (3, 1000, 2.0, L),  # the images-only worst world
        (10, 1000, 1.0, L),  # a large study
    ],
)
def test_the_crossed_t_keeps_its_promise(seeds: int, images: int, seed_sd: float, noise: Noise) -> None:
    assert 2 <= claims(World(noise, seed_sd), images, (seeds, seeds), crossed) <= 8


@pytest.mark.parametrize(
    ("world", "images", "seeds", "floor"),
    [
        (World(H, 1.0), 500, (2, 2), 2),  # two seeds
        (World(L, 2.0), 1000, (2, 2), 2),  # two seeds that matter much
        (World(H, 1.0), 500, (3, 10), 2),  # unequal numbers of seeds
        (World(L, 1.0), 500, (3, 10), 2),  # unequal numbers of seeds, fine-tuned
        (World(H.at(0.98), 1.0), 300, (5, 5), 2),  # 98 % accuracy
        (World(L.at(0.98), 1.0), 300, (5, 5), 2),  # 98 % accuracy, fine-tuned
        (World(H.at(0.98), 1.0), 100, (5, 5), 2),  # two wrong images: discrete, 2.0 % over 4,000 replicates
        (Collapsing(H, 1.0), 500, (10, 10), 2),  # one run in ten collapses
        (Collapsing(L, 1.0), 500, (10, 10), 2),  # one run in ten collapses, fine-tuned
        (Collapsing(H, 1.0), 500, (5, 5), 2),  # a lone collapse swells s2: 2.6 % over 4,000 replicates
        (World(H, 0.0), 500, (5, 5), 0),  # no seed variance: the floor at 0 makes it conservative
        (World(L, 0.0), 500, (3, 3), 0),  # no seed variance, fine-tuned
    ],
)
def test_the_crossed_t_in_awkward_worlds(world: World, images: int, seeds: tuple[int, int], floor: float) -> None:
    assert floor <= claims(world, images, seeds, crossed) <= 8


@pytest.mark.parametrize(("size", "floor"), [(5, 2), (20, 2), (50, 0)])  # 50: ten groups, conservative by their number
def test_groups_are_the_unit(size: int, floor: float) -> None:
    codes = np.arange(500) // size
    grouped = claims(World(L, 1.0), 500, (5, 5), lambda a, b: crossed_t(a, b, codes).p < 0.05, group=size)
    assert floor <= grouped <= 8
    assert claims(World(L, 1.0), 500, (5, 5), crossed, group=size) > 20  # canary: the image as unit


def test_canaries_are_caught() -> None:
    assert claims(World(L, 0.3), 500, (5, 5), welch) > 20
    assert claims(World(L, 2.0), 1000, (3, 3), images_only) > 15


@pytest.mark.parametrize("noise", [H, L])
@pytest.mark.parametrize("gap", [0.0, 3.0])
def test_intervals_cover_the_truth(noise: Noise, gap: float) -> None:
    world = World(noise, 1.0)
    covered = []
    for r in range(REPLICATES):
        a, b = world.draw(generator(r, "coverage"), 500, (5, 5), (gap, 0.0))
        found = crossed_t(a, b)
        covered.append(found.low <= gap / 100 <= found.high)
    assert 93 <= rate(covered) <= 98


@pytest.mark.parametrize(
    ("noise", "seeds", "images"),
    [
        (H, 5, 500),  # from scratch, default seeds
        (L, 5, 500),  # fine-tuned, default seeds
        (H, 3, 1000),  # few seeds
        (L, 10, 200),  # few images
    ],
)
def test_the_planner_foretells_the_power(noise: Noise, seeds: int, images: int) -> None:
    gap = 100 * planner.smallest_difference(Design(images, seeds), noise)
    world = World(noise, 1.0)
    draws = (world.draw(generator(r, "power"), images, (seeds, seeds), (gap / 2, -gap / 2)) for r in range(REPLICATES))
    assert 72 <= rate([crossed(a, b) for a, b in draws]) <= 88


def test_equivalence_is_rarely_wrong_and_often_found() -> None:
    world, eps = World(H, 0.3), 2.0
    at_the_edge = [world.draw(generator(r, "tost"), 2000, (5, 5), (eps, 0.0)) for r in range(REPLICATES)]
    assert rate([equivalence(crossed_t(a, b), eps / 100).holds for a, b in at_the_edge]) <= 6
    equal = [world.draw(generator(r, "tost"), 2000, (5, 5)) for r in range(REPLICATES // 4)]
    assert rate([equivalence(crossed_t(a, b), eps / 100).holds for a, b in equal]) >= 70


def test_the_chance_of_winning_again_is_calibrated() -> None:
    world, fresh = World(H, 1.0), 200
    foretold, wins = [], []
    for r in range(REPLICATES):
        random = generator(r, "chance")
        a, b = world.draw(random, fresh, (10, 10), (2.0, 0.0))
        foretold.append(chance_better(crossed_t(a, b))[0])
        again, other = world.draw(random, fresh, (1, 1), (2.0, 0.0))
        wins.append(bool(again.mean() > other.mean()) or (again.mean() == other.mean() and bool(random.random() < 0.5)))
    assert abs(100 * float(np.mean(foretold)) - rate(wins)) < 8


@pytest.mark.parametrize("models", [3, 6, 10])
def test_holm_with_pooled_seeds_keeps_the_family(models: int) -> None:
    world, families, singles = World(H, 1.0), [], []
    for r in range(REPLICATES):
        tables = world.draw(generator(r, "family", models), 300, (3,) * models)
        pooled = pooled_seed_variance(tables)
        p = [crossed_t(a, b, pooled=pooled).p for a, b in combinations(tables, 2)]
        families.append(min(holm(p)) < 0.05)
        singles.append(min(p) < 0.05)
    assert rate(families) <= 6.5
    assert rate(singles) > 8  # canary: uncorrected, some pair of equal models differs


def test_looks_at_pocock_level() -> None:
    world, level = World(H, 1.0), planner.stop_level(3)
    strict, naive = [], []
    for r in range(REPLICATES):
        a, b = world.draw(generator(r, "looks"), 500, (10, 10))
        p = min(crossed_t(a[:s], b[:s]).p for s in (3, 5, 10))
        strict.append(p < level)
        naive.append(p < 0.05)
    assert rate(strict) <= 6.5
    assert rate(naive) > rate(strict) + 2


@pytest.mark.parametrize("lead", [0.0, 1.0, 2.0])
def test_the_race_keeps_the_best(lead: float) -> None:
    world, models = World(H, 1.0), 6
    lost, halved, thinned = [], [], 0
    for r in range(REPLICATES):
        random = generator(r, "race")
        alive, gone, half_gone = list(range(models)), False, False
        for _rung in range(2):
            tables = world.draw(random, 200, (1,) * len(alive), [lead if k == 0 else 0.0 for k in alive])
            half_gone |= alive[0] == 0 and sum(t.mean() > tables[0].mean() for t in tables) >= len(alive) / 2
            dropped = planner.dropped_in_race(tables, rungs=2)
            gone |= any(alive[place] == 0 for place in dropped)
            thinned += len(dropped)
            alive = [k for place, k in enumerate(alive) if place not in dropped]
        lost.append(gone)
        halved.append(half_gone)
    assert rate(lost) <= 6
    assert thinned > 0  # a race that drops nobody would pass the line above
    if lead == 2.0:
        assert rate(halved) > 10  # canary: halving throws the best out


def test_a_race_among_groups_takes_the_group_as_its_unit() -> None:
    world, codes = World(L, 0.3), np.arange(300) // 20
    lost: dict[str, list[bool]] = {"image": [], "group": []}
    for r in range(REPLICATES):
        tables = world.draw(generator(r, "race of groups"), 300, (1,) * 6, group=20)
        for unit, groups in (("image", None), ("group", codes)):
            lost[unit].append(0 in planner.dropped_in_race(tables, rungs=2, groups=groups))
    assert rate(lost["group"]) <= 6
    assert rate(lost["image"]) > rate(lost["group"]) + 4  # canary


@pytest.mark.parametrize("seed_sd", [1.0, 7.0])
def test_a_second_seed_keeps_the_best_where_seeds_matter_much(seed_sd: float) -> None:
    world = World(H, seed_sd)
    first, second, found = list[bool](), list[bool](), list[bool]()
    for r in range(REPLICATES):
        for lost, gaps in ((second, (0.0,) * 6), (found, (0.0,) + (-20.0,) * 5)):
            tables = world.draw(generator(r, "second seed"), 200, (2,) * 6, gaps)
            losers = planner.dropped_in_race([table[:1] for table in tables], rungs=2)
            leader = max(range(6), key=lambda k: float(tables[k][0].mean()))
            again = planner.behind_leader([tables[k] for k in (leader, *losers)], 2, leader=0, field=6)[1:]
            gone = [k for k, behind in zip(losers, again, strict=True) if behind.low > 0]
            lost.append(0 in gone if lost is second else len(gone) == 4)
            if lost is second:
                first.append(0 in losers)
    assert rate(second) <= 6
    if seed_sd == 1.0:
        assert rate(found) > 90
    else:
        assert rate(first) > 20  # canary: one seed, given a point of spread


@pytest.mark.parametrize("seed_sd", [1.0, 15.0])
def test_two_seeds_do_not_stand_for_many(seed_sd: float) -> None:
    world = World(H, seed_sd)
    anyone, normal = list[bool](), list[bool]()
    for r in range(REPLICATES):
        tables = world.draw(generator(r, "few seeds"), 300, (2,) * 3)
        losers = planner.dropped_in_race([table[:1] for table in tables], rungs=2)
        leader = max(range(3), key=lambda k: float(tables[k][0].mean()))
        again = planner.behind_leader([tables[k] for k in (leader, *losers)], 2, leader=0, field=3)
        anyone.append(any(behind.low > 0 for behind in again[1:]))
        z, own = float(stats.norm.isf(0.05 / 2 / 2)), [tables[k].mean(axis=1) for k in (leader, *losers)]
        c = float(np.mean([means.var(ddof=1) for means in own]))
        normal.append(any(float(own[0].mean() - means.mean()) > z * math.sqrt(c) for means in own[1:]))
    assert rate(anyone) <= 10  # of equals: 2.5 % by the level, and the leader and the losers are chosen by luck
    if seed_sd > 1:
        assert rate(normal) > 15  # canary: a normal quantile, as if the spread of two seeds each were known


def test_the_race_says_how_far_behind_everyone_is() -> None:
    world, covered = World(H, 1.0), []
    for r in range(REPLICATES):
        tables = world.draw(generator(r, "behind"), 400, (1, 1), (5.0, 0.0))
        first, second = planner.behind_leader(tables, rungs=2)
        found = second if first.gap == 0 else first
        truth = 0.05 if found is second else -0.05
        covered.append(found.low <= truth <= found.high)
        assert (found.low > 0) == (planner.dropped_in_race(tables, rungs=2, keep=1) != [])
    assert rate(covered) >= 93  # at 95 % by its design: one-sided 2.5 % at each of two rungs


@pytest.mark.parametrize("models", [2, 4])
def test_a_race_and_looks_together_keep_the_family(models: int) -> None:
    world, wrong, early = World(H, 1.0), [], []
    for r in range(REPLICATES):
        random = generator(r, "race and looks", models)
        raced = world.draw(random, 200, (1,) * (models + 2), [0.0] * models + [-12.0] * 2)
        left = [k for k in range(models + 2) if k not in planner.dropped_in_race(raced, rungs=2)]
        drawn = world.draw(random, 400, (10,) * len(left), [0.0 if k < models else -12.0 for k in left])
        tables = {str(k): table for k, table in zip(left, drawn, strict=True) if k < models}
        stopped, claimed = None, False
        for number, seeds in enumerate((3, 5, 10), 1):
            rows = {name: tuple(range(seeds)) for name in tables}
            looks = Looks((3, 5, 10), number)
            part = {name: table[:seeds] for name, table in tables.items()}
            pairs = pairs_of.tested_pairs(Contest(part, rows, np.arange(400), 400, 1, 0.01, looks=looks))
            claimed = any(pair.kind in ("better", "worse") for pair in pairs)
            stopped = stopped or (number if all(pair.kind != "undecided" for pair in pairs) else None)
            if claimed:
                break
        wrong.append(claimed)
        early.append(stopped is not None)
    assert rate(wrong) <= 6.5
    assert rate(early) < 20  # equals are looked at to the end


def test_metrics_of_the_whole_set_by_pseudo_values() -> None:
    world, images, found = World(H, 1.0), 400, []
    truth = np.arange(images) % 4 == 0
    blocks = jackknife_blocks(images, most=50, whole=0)

    def f1(right: Scores) -> Callable[[NDArray[np.intp]], float]:
        hit, miss, false = right * truth, (1 - right) * truth, (1 - right) * ~truth
        return lambda keep: float(2 * hit[keep].sum() / (2 * hit[keep].sum() + miss[keep].sum() + false[keep].sum()))

    for r in range(REPLICATES):
        a, b = world.draw(generator(r, "f1"), images, (3, 3))
        first, second = (np.array([pseudo_values(f1(row), blocks) for row in y]) for y in (a, b))
        found.append(crossed_t(first, second, blocks).p < 0.05)
    assert 2 <= rate(found) <= 8


def cross_validated(
    world: World, random: np.random.Generator, images: int, repeats: int, models: int = 2
) -> tuple[list[Scores], Scores]:
    """Draw out-of-fold tables (R, n) of equal recipes, and the folds (R, n).

    Every training image pulls a model's logits its own way, so overlapping training sets give correlated folds; a
    training set as a whole moves accuracy by 1 point (sd), and so does the seed.
    """
    base = random.normal(0, world.image_sd, images)
    folds = np.array([random.permutation(images) % 5 for _ in range(repeats)])
    tables = []
    for _model in range(models):
        part, pull = random.normal(0, world.model_sd, images), random.normal(0, 1, images)
        shift = np.empty((repeats, images))
        for repeat, fold in np.ndindex(repeats, 5):
            out = folds[repeat] == fold
            shift[repeat, out] = 0.01 / world.slope * (pull[~out].sum() / np.sqrt((~out).sum()) + random.normal())
        tables.append((random.random((repeats, images)) < expit(world.mean + base + part + shift)).astype(np.float64))
    return tables, folds


@pytest.mark.parametrize("repeats", [2, 3])
def test_cross_validation_speaks_about_the_procedure(repeats: int) -> None:
    world, paired, over_folds = World(L, 1.0), [], []
    for r in range(REPLICATES):
        (a, b), folds = cross_validated(world, generator(r, "folds"), 200, repeats)
        paired.append(paired_t(a, b, 5).p < 0.05)
        gaps = [(a - b)[repeat][folds[repeat] == fold].mean() for repeat, fold in np.ndindex(repeats, 5)]
        over_folds.append(bool(stats.ttest_1samp(gaps, 0).pvalue < 0.05))
    assert rate(paired) <= 5  # conservative by the Nadeau-Bengio factor
    if repeats == 3:
        assert rate(over_folds) > 15  # canary: a t over 15 folds


def test_cross_validation_keeps_the_family() -> None:
    world, families = World(H, 1.0), []
    for r in range(REPLICATES):
        tables, _ = cross_validated(world, generator(r, "fold family"), 300, 3, models=4)
        pooled = pooled_pair_variance(tables)
        families.append(min(holm([paired_t(a, b, 5, pooled=pooled).p for a, b in combinations(tables, 2)])) < 0.05)
    assert rate(families) <= 6.5


def test_halves_of_one_recipe_rarely_differ() -> None:
    world, alarms = World(L, 1.0), []
    for r in range(REPLICATES):
        (table,) = world.draw(generator(r, "halves"), 500, (5,))
        alarms.append(halves(table, np.arange(500)).p < 0.01)
    assert rate(alarms) <= 2.5
