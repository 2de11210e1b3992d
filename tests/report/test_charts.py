"""Scales, charts and wording: exact small cases and properties."""

from __future__ import annotations

import doctest
import math
import re
from itertools import combinations
from xml.etree.ElementTree import fromstring

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from bakeoff.compare import Estimate
from bakeoff.report import charts, gaps, svg, wording
from bakeoff.report.charts import Axes, Event, Line, Mark, beside, curves, forest, front, reliability, scatter
from bakeoff.report.svg import Scale, tag
from bakeoff.report.wording import duration, finalize, interval, plain, visible
from bakeoff.tasks.task import Metric

PERCENT = Metric("Accuracy", lambda _: 0.0)
UNITS = Metric("Log-loss", lambda _: 0.0, percent=False)
finite = st.floats(-1e9, 1e9)


@pytest.mark.parametrize("module", [charts, gaps, svg, wording], ids=lambda module: module.__name__)
def test_examples_in_the_documentation(module: object) -> None:
    done = doctest.testmod(module)  # type: ignore[arg-type]
    assert done.attempted > 0
    assert done.failed == 0


@given(st.lists(finite, max_size=6))
def test_a_scale_holds_its_values_and_a_few_ticks(values: list[float]) -> None:
    scale = Scale.over(values, 46, 400)
    assert all(46 <= scale(value) <= 400 for value in values)
    ticks = scale.ticks()
    assert ticks == sorted(set(ticks))
    assert 2 <= len(ticks) <= 12
    assert all(46 - 1e-6 <= scale(tick) <= 400 + 1e-6 for tick in ticks)


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=1, max_size=8))
def test_the_front_is_who_nobody_beats(points: list[tuple[float, float]]) -> None:
    on = front(points)
    assert any(on)
    for point, best in zip(points, on, strict=True):
        beaten = any(a <= point[0] and b >= point[1] and (a, b) != point for a, b in points)
        assert best is not beaten
    assert front([(cost, -good) for cost, good in points], up=False) == on


@given(st.lists(st.tuples(st.sampled_from([60.0, 65.0, 200.0]), st.sampled_from([50.0, 55.0, 90.0])), max_size=8))
def test_dots_do_not_cover_each_other(points: list[tuple[float, float]]) -> None:
    placed = beside(points, 320)
    assert [y for _, y in placed] == [y for _, y in points]
    assert all(math.dist(a, b) >= 19.5 for a, b in combinations(placed, 2))


def test_the_forest_keeps_order_and_sides() -> None:
    plot = forest([(2.0, 1.0, 3.0, "better"), (-1.0, -4.0, 2.0, "undecided")], eps=1.0)
    first, second = plot.bars
    assert plot.zero < first.left < first.at < first.right  # clear of zero
    assert second.left < second.at < plot.zero < second.right
    assert plot.band[0] < plot.zero < plot.band[1] == pytest.approx(first.left)
    assert all(0 <= place <= 100 for place, _ in plot.ticks)


def test_charts_are_wellformed_and_finite() -> None:
    marks = [
        Mark("A", "k0", "<a> & $b_1$ \u202e", 3.0, 90.0, None, None, True),
        Mark("B", "k1", "b", 3.0, 90.0, 80.0, 99.0),
    ]
    lines = [Line("k0", ((1.0, 0.5),)), Line("k1", ((1.0, 2.0), (2.0, 1.0)), "thin", broken=True)]
    drawings = [
        scatter(marks, Axes("x", "y"), 'a "label" <with> signs'),
        curves(lines, Axes("epoch", "loss"), [Event(1.5), Event(1.9, "restart", "restart")], "label"),
        reliability([(0.2, 0.4, 0.3, 0.25), (1.0, 1.0, 1.0, 1.0)], "k0", "label"),
        reliability([], "k0", "label"),
    ]
    for drawing in drawings:
        assert fromstring(str(drawing)).tag == "svg"
        assert not re.search("nan|inf", drawing)
    assert "<title>&lt;a&gt; &amp; $b_1$ ⟨U+202E⟩</title>" in drawings[0]
    assert drawings[1].count(">stage<") == drawings[1].count(">restart<") == 1


def test_long_curves_are_thinned_but_keep_their_ends() -> None:
    data = svg.path([(float(i), float(i)) for i in range(5000)])
    assert data.startswith("M0.0 0.0L")
    assert data.endswith("L4999.0 4999.0")
    assert data.count("L") <= 162


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain name.png", "plain name.png"),
        ("a\u202eb", "a⟨U+202E⟩b"),  # turns the reading direction
        ("a\x00\x1b[31m", "a⟨U+0000⟩⟨U+001B⟩[31m"),  # control characters
        ("\udc80.jpg", "⟨U+DC80⟩.jpg"),  # a file name that is not UTF-8
        ("zero\u200bwidth", "zero⟨U+200B⟩width"),  # invisible
        ("नमस्ते عربي 👩\u200d🔬\tx\n", "नमस्ते عربي 👩\u200d🔬\tx\n"),  # scripts, a joined emoji, tab and newline stay
    ],
)
def test_hidden_characters_become_visible(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert finalize(text) == shown
    assert finalize(Markup(text)) == text  # the page's own markup was made visible when it was made
    assert str(tag("text", text)) == str(Markup("<text>{}</text>").format(shown))


@pytest.mark.parametrize(
    ("estimate", "metric", "text"),
    [
        (Estimate(0.9412, 0.93, 0.951), PERCENT, '94.1 <span class="ci">[93.0, 95.1]</span>'),
        (
            Estimate(0.99412, 0.991, 0.996),
            PERCENT,
            '99.41 <span class="ci">[99.10, 99.60]</span>',
        ),  # narrow: two decimals
        (Estimate(0.2), UNITS, "0.200"),  # no interval
        (Estimate(None), PERCENT, "–"),  # undefined
        (Estimate(float("nan"), float("nan"), float("inf")), UNITS, "–"),
        (None, PERCENT, "–"),
    ],
)
def test_intervals(estimate: Estimate | None, metric: Metric, text: str) -> None:
    assert str(interval(estimate, metric)) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (59.7, "1 min"), (3599.9, "1 h"), (0.04, "0.0 s"), (90061, "25 h 1 min")],
)
def test_durations(value: float | None, text: str) -> None:
    assert duration(value) == text


def test_any_json_value_has_words() -> None:
    assert plain({"rate": 0.001, "layers": ["head", 2], "frozen": False, "note": None}) == (
        "rate 0.001, layers head, 2, frozen no, note –"
    )
