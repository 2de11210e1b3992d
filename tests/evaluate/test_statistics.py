"""docs/protocol.md section 9, points 5 and 6: exact properties, oracles, degenerate input."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as oracle_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from bakeoff.evaluate.planner import (
    FINE_TUNED,
    FROM_SCRATCH,
    Design,
    detectable,
    next_step,
    noncentrality,
    planner_table,
    smallest_difference,
    stop_level,
)
from bakeoff.evaluate.resampling import image_bootstrap, jackknife_blocks, mcnemar, pseudo_values
from bakeoff.evaluate.statistics import (
    chance_better,
    crossed_t,
    equivalence,
    holm,
    identical,
    image_t,
    one_sample_t,
    paired_t,
)
from bakeoff.evaluate.variance import SeedVariance, pooled_pair_variance, pooled_seed_variance, seed_variance
from bakeoff.seeds import generator

Scores = NDArray[np.float64]


def scores(seeds: int, images: int, key: int, seed_sd: float = 0.1) -> Scores:
    """Return a table of scores with image, seed and residual parts."""
    random = generator(key, "scores")
    parts = random.normal(0, 1, images) + random.normal(0, seed_sd, (seeds, 1))
    return np.asarray(parts + random.normal(0, 0.3, (seeds, images)))


A, B = scores(4, 60, 1), scores(5, 60, 2)


def test_a_case_by_hand() -> None:
    # A is right in (2, 2, 1) of 2 seeds, B in (0, 1, 2): d = (1, 1/2, -1/2), D = 1/3,
    # V_img = 3/2 * (4/9 + 1/36 + 25/36) / 9 = 7/36.  A: run means 2/3 and 1, s2 = 1/18; residuals +-(1/6, 1/6, -1/3),
    # their squares add up to 1/3 over 2 df: MSE = 1/6, c_A = 1/18 - 1/6 / 3 = 0.  B is A's mirror image: c_B = 0.
    a = np.array([[1.0, 1, 0], [1, 1, 1]])
    b = np.array([[0.0, 1, 1], [0, 0, 1]])
    found = crossed_t(a, b)
    assert found.difference == pytest.approx(1 / 3)
    assert found.v_img == pytest.approx(7 / 36)
    assert found.v_seed == pytest.approx(0, abs=1e-12)
    assert found.df == pytest.approx(2)
    assert found.p == pytest.approx(2 * stats.t.sf((1 / 3) / (7 / 36) ** 0.5, 2))


def test_a_case_with_a_seed_component_by_hand() -> None:
    # A's seeds: all right, all wrong: means 1 and 0, s2 = 1/2, no residual, c_A = 1/2.  B always wrong.
    # d = 1/2 on every image: V_img = 0, V = 1/2 / 2, df = V^2 / ((1/2/2)^2 / 1) = 1.
    found = crossed_t(np.array([[1.0, 1, 1], [0, 0, 0]]), np.zeros((2, 3)))
    assert (found.difference, found.v_img, found.v_seed, found.df) == pytest.approx((0.5, 0, 0.25, 1))
    assert found.image_share == 0


def test_swap_turns_the_sign() -> None:
    there, back = crossed_t(A, B), crossed_t(B, A)
    assert back.difference == -there.difference
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low), rel=1e-12)
    assert (back.se, back.df, back.p) == pytest.approx((there.se, there.df, there.p), rel=1e-12)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(key=st.integers(0, 10_000), shift=st.floats(-5, 5))
def test_order_and_shift_do_not_matter(key: int, shift: float) -> None:
    random = generator(key, "order")
    a, b = scores(3, 30, key), scores(3, 30, key + 1)
    groups = random.integers(0, 10, 30)
    images = random.permutation(30)
    first = crossed_t(a, b, groups)
    moved = crossed_t(a[random.permutation(3)][:, images] + shift, b[:, images] + shift, groups[images])
    assert (moved.difference, moved.se, moved.df) == pytest.approx((first.difference, first.se, first.df), rel=1e-6)


def test_duplicated_images_in_groups_change_nothing() -> None:
    once = crossed_t(A, B)
    twice = crossed_t(np.repeat(A, 2, axis=1), np.repeat(B, 2, axis=1), np.repeat(np.arange(60), 2))
    assert (twice.difference, twice.se, twice.df) == pytest.approx((once.difference, once.se, once.df), rel=1e-9)
    assert (twice.images, twice.groups) == (120, 60)


def test_without_seed_component_it_is_the_paired_t_of_the_images() -> None:
    still = np.tile(A[0], (3, 1)), np.tile(B[0], (3, 1))
    found, oracle = crossed_t(*still), stats.ttest_rel(A[0], B[0])
    assert found.v_seed == 0
    assert (found.p, found.df) == pytest.approx((oracle.pvalue, oracle.df))


def test_many_seeds_lead_to_the_image_t() -> None:
    a, b = scores(400, 60, 3), scores(400, 60, 4)
    assert crossed_t(a, b).p == pytest.approx(image_t(a, b).p, rel=0.02)


def test_many_images_lead_to_welch() -> None:
    a, b = scores(5, 60_000, 5, seed_sd=2.0), scores(5, 60_000, 6, seed_sd=0.5)
    oracle = stats.ttest_ind(a.mean(axis=1), b.mean(axis=1), equal_var=False)
    assert crossed_t(a, b).p == pytest.approx(oracle.pvalue, rel=0.01)


def test_the_seed_component_is_that_of_an_analysis_of_variance() -> None:
    rows, columns = A.shape
    residuals = A - A.mean(axis=1, keepdims=True) - A.mean(axis=0) + A.mean()
    square = (residuals**2).sum() / ((rows - 1) * (columns - 1))
    found = seed_variance(A)
    assert found.signed == pytest.approx(A.mean(axis=1).var(ddof=1) - square / columns)
    assert SeedVariance(-0.1, 0.2, 3).component == 0  # cut at 0


def test_pooling_and_its_fall_back() -> None:
    alike = [scores(5, 500, key) for key in range(3)]
    pooled = pooled_seed_variance(alike)
    assert pooled is not None
    assert pooled.df == 12
    assert pooled.signed == pytest.approx(np.mean([seed_variance(y).signed for y in alike]))
    wild = [scores(10, 500, key, seed_sd=0.02) for key in range(2)] + [scores(10, 500, 9, seed_sd=3)]
    assert pooled_seed_variance(wild) is None  # Levene rejects
    assert pooled_seed_variance(alike[:2]) is None  # two models keep their own
    found, own = crossed_t(alike[0], alike[1], pooled=pooled), crossed_t(alike[0], alike[1])
    assert found.v_seed == pytest.approx(pooled.component * 2 / 5)
    assert found.df > own.df


def test_cross_validation_widens_by_nadeau_and_bengio() -> None:
    a, b = scores(3, 60, 7, 0.0), scores(3, 60, 8, 0.0)
    still = np.tile(a[0], (3, 1)), np.tile(b[0], (3, 1))
    found, plain = paired_t(*still, folds=5), crossed_t(*still)
    assert found.se == pytest.approx(plain.se * (1 / 3 + 5 / 4) ** 0.5)
    rows = paired_t(a, b, folds=5)  # rows are paired: the component is that of the row differences
    assert rows.v_seed == pytest.approx(seed_variance(a - b).component / 3 * (1 / 3 + 5 / 4))


def test_paired_rows_pool_the_interaction_of_rows_and_models() -> None:
    models = [scores(3, 500, key) for key in range(4)]
    pooled = pooled_pair_variance(models)
    assert pooled is not None
    means = np.array([y.mean(axis=1) for y in models])
    centred = means - means.mean(axis=0) - means.mean(axis=1, keepdims=True) + means.mean()
    assert pooled.total == pytest.approx(2 * (centred**2).sum() / 6)  # 2 x the interaction's mean square
    assert pooled.df == (4 - 1) * (3 - 1)
    found, own = paired_t(models[0], models[1], 5, pooled=pooled), paired_t(models[0], models[1], 5)
    assert found.df > own.df
    assert pooled_pair_variance(models[:2]) is None
    assert pooled_pair_variance([*models[:2], models[2][:2]]) is None  # not the same repeats


@pytest.mark.parametrize("images", [40, 150])  # leave-one-out; blocks of several images
def test_pseudo_values_of_a_mean_are_the_scores(images: int) -> None:
    values = scores(1, images, 11)[0]
    blocks = jackknife_blocks(images, most=40, whole=100)
    found = pseudo_values(lambda keep: float(values[keep].mean()), blocks)
    means = np.bincount(blocks, values) / np.bincount(blocks)
    assert found == pytest.approx(means[blocks])
    assert crossed_t(found[None], np.zeros((1, images)), blocks, SeedVariance(0, 0, 1)).se == pytest.approx(
        crossed_t(values[None], np.zeros((1, images)), blocks, SeedVariance(0, 0, 1)).se
    )


def test_pseudo_values_of_a_ratio_match_the_delta_method() -> None:
    random = generator(12, "ratio")
    top, bottom = random.random(1500), random.random(1500) + 1

    def both(keep: NDArray[np.intp]) -> NDArray[np.float64]:
        return np.array([top[keep].sum() / bottom[keep].sum(), top[keep].mean()])

    ratio, mean = pseudo_values(both, jackknife_blocks(1500))
    theta = top.sum() / bottom.sum()
    delta = ((top - theta * bottom) / bottom.mean()).std(ddof=1) / 1500**0.5
    assert ratio.mean() == pytest.approx(theta)
    assert ratio.std(ddof=1) / 1500**0.5 == pytest.approx(delta, rel=0.01)
    assert mean == pytest.approx(top)


def test_blocks_keep_groups_whole_and_are_always_the_same() -> None:
    groups = np.array([f"patient {i // 3}" for i in range(1500)])
    blocks = jackknife_blocks(1500, groups)
    assert blocks.max() + 1 == 200
    assert all(len(set(blocks[groups == name])) == 1 for name in set(groups))
    assert (blocks == jackknife_blocks(1500, groups)).all()
    assert jackknife_blocks(2001).max() + 1 == 200  # too many images for leave-one-out


@pytest.mark.parametrize(
    ("only_a", "only_b"),
    [
        (3, 12),  # B better
        (7, 7),  # a tie
        (0, 1),  # a single disagreement
        (60, 30),  # many
    ],
)
def test_mcnemar_against_statsmodels(only_a: int, only_b: int) -> None:
    a = np.array([1] * only_a + [0] * only_b + [1] * 20)
    b = np.array([0] * only_a + [1] * only_b + [1] * 20)
    oracle = oracle_mcnemar([[20, only_a], [only_b, 0]], exact=True).pvalue
    assert mcnemar(a, b) == pytest.approx(min(1.0, oracle))


@pytest.mark.parametrize("eps", [0.05, 0.2, 0.5])
def test_equivalence_against_statsmodels(eps: float) -> None:
    still = np.tile(A[0], (2, 1)), np.tile(A[0] * 0.9 + 0.1 * B[0], (2, 1))
    found = equivalence(crossed_t(*still), eps)
    oracle = ttost_paired(still[0][0], still[1][0], -eps, eps)[0]
    assert found.p == pytest.approx(oracle)
    assert found.holds == (oracle < 0.05)


def test_holm_against_statsmodels() -> None:
    p = [0.01, 0.04, 0.03, 0.005, 0.5, 0.01]
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])


def test_the_bootstrap_agrees_with_the_image_t() -> None:
    found, oracle = image_bootstrap(A[0], B[0]), image_t(A[0], B[0])
    assert found.difference == pytest.approx(oracle.difference)
    assert found.se == pytest.approx(oracle.se, rel=0.1)
    assert found.p == pytest.approx(oracle.p, abs=0.05)
    groups = np.arange(60) // 6
    assert image_bootstrap(A[0], B[0], groups).se == pytest.approx(image_t(A[0], B[0], groups).se, rel=0.15)


def test_the_chance_of_winning_counts_one_run_each() -> None:
    found = crossed_t(A, B)
    pairs = [np.var(a - b, ddof=1) / 60 for a in A for b in B]
    spread = (seed_variance(A).component + seed_variance(B).component + np.mean(pairs)) ** 0.5
    assert chance_better(found)[0] == pytest.approx(stats.norm.cdf(found.difference / spread))
    assert chance_better(found)[1] == pytest.approx(stats.norm.cdf(found.low / spread))


PLANNED = {  # docs/protocol.md section 7, S = 3 / 5 / 10
    "H": "13.4/10.7/9.0 9.6/7.6/6.4 7.0/5.5/4.6 5.0/3.8/3.1 4.1/3.0/2.4 3.6/2.6/1.9 3.3/2.3/1.6",
    "L": "14.6/13.9/13.4 10.4/9.8/9.4 7.5/7.0/6.7 5.2/4.7/4.3 4.1/3.5/3.2 3.5/2.9/2.4 3.2/2.4/1.8",
}


@pytest.mark.parametrize("setting", ["H", "L"])
def test_the_planner_reproduces_the_table(setting: str) -> None:
    table = planner_table(FROM_SCRATCH if setting == "H" else FINE_TUNED)
    expected = [float(cell) for row in PLANNED[setting].split() for cell in row.split("/")]
    assert [round(100 * value, 1) for value in table.values()] == expected


def test_the_planner_answers_to_the_design() -> None:
    plain = smallest_difference(Design(300, 5))
    assert smallest_difference(Design(300, 5, comparisons=10)) > plain  # a stricter level
    assert smallest_difference(Design(300, 5), FROM_SCRATCH.at(0.98)) < plain  # less noise near the top
    assert smallest_difference(Design(300, 5), seed_sd=0.0) < plain
    assert smallest_difference(Design(1000, 3, folds=5)) < smallest_difference(Design(200, 3))  # every image tested


@pytest.mark.parametrize("df", [1.0, 1.5, 3.0, 20.0, 1e6])
def test_noncentrality_has_the_power_it_says(df: float) -> None:
    random, shift = generator(13, "power"), noncentrality(df)
    draws = (random.normal(shift, 1, 200_000)) / np.sqrt(random.chisquare(df, 200_000) / df)
    assert float((draws > stats.t.isf(0.025, df)).mean()) == pytest.approx(0.8, abs=0.005)


def test_detectable_gap_and_next_step() -> None:
    found = crossed_t(A, B)
    assert detectable(found) == pytest.approx(found.se * noncentrality(round(found.df, 6)))
    half = next_step(A, B, found, detectable(found) / 2)
    assert half.images is None or half.images > 60
    noisy_seeds = scores(3, 5000, 21, seed_sd=1.0), scores(3, 5000, 22, seed_sd=1.0)
    step = next_step(*noisy_seeds, crossed_t(*noisy_seeds), 0.9)
    assert step.images is None  # no number of images makes up for few seeds
    assert step.seeds is not None
    assert step.seeds > 3
    assert stop_level(3) == 0.0221


def test_one_candidate() -> None:
    found = one_sample_t(A)
    assert found.difference == pytest.approx(A.mean())
    assert found.v_seed == pytest.approx(seed_variance(A).component / 4)
    single, oracle = one_sample_t(A[0]), stats.ttest_1samp(A[0], 0).confidence_interval()
    assert (single.low, single.high) == pytest.approx((oracle.low, oracle.high))
    perfect = one_sample_t(np.ones((3, 100)), bounds=(0, 1))
    assert perfect.high == 1
    assert perfect.low == pytest.approx(stats.binomtest(100, 100).proportion_ci().low)  # not a length of 0


def test_identical_and_constant_scores_give_no_nan() -> None:
    assert identical(A, A)
    assert not identical(A, B[:4])
    assert identical(np.ones((3, 9)), np.ones((5, 9)))  # all right, with unequal numbers of seeds
    still = np.tile(A[0], (3, 1))
    same = crossed_t(still, still)
    assert (same.difference, same.se, same.low, same.high, same.p) == (0, 0, 0, 0, 1)
    apart = crossed_t(still + 0.25, still)  # the same gap on every image: zero variance
    assert (apart.difference, apart.se, apart.p) == pytest.approx((0.25, 0, 0))
    assert chance_better(apart) == (1, 1, 1)
    assert chance_better(same) == (0.5, 0.5, 0.5)
    assert detectable(same) == 0
    assert equivalence(same, 0.01).holds
    assert not equivalence(apart, 0.01).holds
    assert np.isfinite([same.df, same.image_share, apart.df]).all()
    assert pooled_seed_variance([still] * 3) is not None  # Levene's test is not defined here


BAD: list[tuple[Callable[[], object], str]] = [
    (lambda: crossed_t(A, B[:, :50]), "different image sets: 60 and 50"),  # different image sets
    (lambda: crossed_t(np.where(A > 1, np.nan, A), B), "NaN or infinite"),  # NaN scores
    (lambda: crossed_t(A[:1], B), "at least 2 seeds"),  # one seed
    (lambda: crossed_t(A, B, np.zeros(60)), "at least 2 are needed"),  # one group
    (lambda: crossed_t(A, B, np.zeros(50)), "one group per image"),  # groups of other images
    (lambda: crossed_t(np.empty((0, 3)), np.empty((0, 3))), "table of seeds x images"),  # nothing
    (lambda: paired_t(A, B, 5), "same repeats"),  # unpaired repeats
    (lambda: mcnemar(A[0], B[0]), "right/wrong"),  # scores that are not right or wrong
    (lambda: smallest_difference(Design(100, 1)), "at least 2 seeds"),  # a plan with one seed
    (lambda: stop_level(9), "between 1 and 5"),  # too many looks
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_input_is_refused_in_a_sentence(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
