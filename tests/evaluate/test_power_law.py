"""Power laws of the error: found again where they hold, refused where they do not, intervals that cover."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import optimize
from scipy.special import expit

from bakeoff.evaluate import power_law
from bakeoff.evaluate.power_law import Trend, fit_trend
from bakeoff.seeds import generator

Scores = NDArray[np.float64]
SHARES = np.array([0.1, 0.25, 0.5, 1.0])
SIZES = 1000 * SHARES
REPLICATES = 60
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(41)


def exact(errors: NDArray[np.float64], images: int = 4000) -> list[Scores]:
    """Return score tables with exactly these errors, whose rows differ only by which images are wrong."""
    wrong = np.round(errors * images).astype(int)
    rows = [np.where(np.arange(images) < count, 0.0, 1.0) for count in wrong]
    return [np.stack([row, np.roll(row, 7), np.roll(row, 19)]) for row in rows]


@pytest.mark.parametrize(
    ("a", "b", "c"),
    [
        (0.15, 0.4, 0.0),  # no floor
        (0.3, 0.05, 0.0),  # nearly flat
        (0.05, 0.7, 0.1),  # a floor
    ],
)
def test_a_law_without_noise_is_found_again(a: float, b: float, c: float) -> None:
    trend = fit_trend(exact(a * SHARES**-b + c, 20_000), list(SIZES), np.arange(20_000))
    assert trend.law is not None
    assert trend.law.b == pytest.approx(b, abs=0.06)
    assert trend.law.c == pytest.approx(c, abs=0.01)
    assert trend.law.error(1000) == pytest.approx(a + c, abs=1e-3)
    truth = a * (1 - 2**-b)
    assert trend.gain.value == pytest.approx(truth, abs=3e-3)
    assert trend.gain.low is not None
    assert trend.gain.high is not None
    assert trend.gain.low <= truth <= trend.gain.high
    last = trend.line[-1]
    assert (last.images, last.value) == pytest.approx((2000, 1 - trend.law.error(2000)))
    assert last.low <= last.value <= last.high


def test_metrics_of_which_less_is_better_give_the_same_law() -> None:
    tables = exact(0.2 * SHARES**-0.5)
    accuracy = fit_trend(tables, list(SIZES), np.arange(4000))
    loss = fit_trend([table - 1 for table in tables], list(SIZES), np.arange(4000), higher_is_better=False)
    assert loss.law is not None
    assert accuracy.law is not None
    assert (loss.law.a, loss.law.b, loss.law.c) == pytest.approx((accuracy.law.a, accuracy.law.b, accuracy.law.c))
    assert (loss.gain.low, loss.gain.high) == pytest.approx((accuracy.gain.low, accuracy.gain.high))
    assert [reach.value for reach in loss.line] == pytest.approx([1 - reach.value for reach in accuracy.line])
    assert all(reach.low <= reach.value <= reach.high for reach in loss.line)


def test_the_order_of_the_sizes_does_not_matter_and_results_repeat() -> None:
    tables = exact(0.2 * SHARES**-0.5)
    first = fit_trend(tables, list(SIZES), np.arange(4000))
    assert fit_trend(tables[::-1], list(SIZES[::-1]), np.arange(4000)) == first


@pytest.mark.parametrize(
    ("errors", "sizes", "reason"),
    [
        ([0.3, 0.2], [100, 1000], "needs 3 sizes"),  # two points are on any law
        ([0.0, 0.0, 0.0, 0.0], list(SIZES), "no error is left"),  # perfect throughout
        ([0.1, 0.1, 0.12, 0.2], list(SIZES), "does not fall"),  # more images, more errors
        ([0.9, 0.9, 0.9, 0.1], list(SIZES), "do not follow a power law"),  # nothing learned until the end
    ],
)
def test_what_is_no_law_is_not_applicable(errors: list[float], sizes: list[float], reason: str) -> None:
    trend = fit_trend(exact(np.array(errors)), sizes, np.arange(4000))
    assert trend.law is None
    assert trend.gain.value is None
    assert reason in trend.reason


def test_groups_and_folds_widen_the_interval() -> None:
    tables = simulated(lambda n: 0.15 * (n / 1000) ** -0.4, 3, 400, 0.3, generator(0, "wide"))
    doubled = [np.repeat(table, 2, axis=1) for table in tables]
    alone = fit_trend(tables, list(SIZES), np.arange(400))
    grouped = fit_trend(doubled, list(SIZES), np.repeat(np.arange(400), 2))
    naive = fit_trend(doubled, list(SIZES), np.arange(800))
    crossed = fit_trend(tables, list(SIZES), np.arange(400), folds=5)
    assert width(grouped) == pytest.approx(width(alone), rel=0.02)
    assert width(naive) < 0.95 * width(alone)
    assert width(crossed) > width(alone)


def width(trend: Trend) -> float:
    assert trend.gain.low is not None
    assert trend.gain.high is not None
    return trend.gain.high - trend.gain.low


def simulated(
    error: Callable[[float], float], seeds: int, images: int, sd: float, random: np.random.Generator
) -> list[Scores]:
    """Draw right/wrong scores whose expected errors follow a law: test images in common, seeds each its own.

    `sd` is the standard deviation of a run's accuracy at full size in points; runs on fewer images vary up to twice.
    """
    difficulty, tables = random.normal(0, 1.6, images), []
    for size, factor in zip(SIZES, (2, 1.5, 1.2, 1), strict=True):
        own, effect = 0.6, factor * sd / 12
        mean = _mean(1 - error(size), float(np.sqrt(1.6**2 + own**2 + effect**2)))
        logit = mean + difficulty + random.normal(0, own, images) + random.normal(0, effect, (seeds, 1))
        tables.append((random.random((seeds, images)) < expit(logit)).astype(np.float64))
    return tables


def _mean(accuracy: float, spread: float) -> float:
    """Return the mean logit that gives an accuracy."""
    share = WEIGHTS / WEIGHTS.sum()
    return float(optimize.brentq(lambda mean: share @ expit(mean + spread * NODES) - accuracy, -20, 30))


WORLDS = {
    "no floor": lambda n: 0.15 * (n / 1000) ** -0.4,
    "a floor": lambda n: 0.10 * (n / 1000) ** -0.7 + 0.05,
    "few errors": lambda n: 0.02 * (n / 1000) ** -0.5,
}


@pytest.mark.parametrize(("seeds", "images", "sd"), [(3, 200, 1.0), (5, 1000, 0.3)])
@pytest.mark.parametrize("world", WORLDS)
def test_intervals_of_twice_the_images_cover(
    world: str, seeds: int, images: int, sd: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power_law, "DRAWS", 400)
    found = _found(world, seeds, images, sd)
    truth = WORLDS[world](1000) - WORLDS[world](2000)
    hits = [gain.low <= truth <= gain.high for gain in (trend.gain for trend in found) if gain.low is not None]
    assert len(hits) >= 0.95 * REPLICATES
    assert np.mean(hits) >= 0.87  # 95 % less three standard errors of 60 replicates


def test_without_a_floor_the_intervals_would_promise_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power_law, "LEAST_FOR_FLOOR", 99)
    monkeypatch.setattr(power_law, "DRAWS", 400)
    truth = WORLDS["a floor"](1000) - WORLDS["a floor"](2000)
    lows = [trend.gain.low for trend in _found("a floor", 5, 1000, 0.3)]
    assert np.mean([low is not None and low > truth for low in lows]) > 0.8


def _found(world: str, seeds: int, images: int, sd: float) -> list[Trend]:
    """Return the trends of many simulated studies."""
    random = generator(0, "curves", world, seeds)
    draws = (simulated(WORLDS[world], seeds, images, sd, random) for _ in range(REPLICATES))
    return [fit_trend(tables, list(SIZES), np.arange(images)) for tables in draws]
