"""compare(): what is claimed at which level, in which words."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from simulated_runs import (
    CLEAR,
    EQUAL,
    TASK,
    THREE,
    Plan,
    Results,
    balanced,
    changed,
    error,
    failing,
    finding,
    hits,
    is_bee,
)

from bakeoff.compare import Comparison, Question, compare
from bakeoff.errors import Refused
from bakeoff.evaluate.statistics import crossed_t
from bakeoff.evaluate.verdict import Unit
from bakeoff.tables import comparison_text


def test_a_clear_difference_is_the_crossed_t() -> None:
    found = compare(TASK, Question(), CLEAR)
    ant, bee = (np.array([hits(o) for r, o in CLEAR if r.candidate == name and o]) for name in ("ant", "bee"))
    oracle = crossed_t(ant, bee)
    (pair,) = found.pairs
    assert (pair.a, pair.b, pair.kind) == ("ant", "bee", "better")
    assert (pair.difference, pair.low, pair.high, pair.p) == pytest.approx(
        (oracle.difference, oracle.low, oracle.high, oracle.p)
    )
    gap = (
        f"{100 * oracle.difference:.1f} points [{100 * oracle.low:.1f}, {100 * oracle.high:.1f}], by more than 1 point"
    )
    assert found.verdict == (
        f"ant is better than bee by {gap}. L1 (these recipes on this training set): S = 4 seeds, n = 400 images, "
        "G = 400 groups."
    )
    assert pair.chance is not None
    assert pair.chance.value is not None
    assert pair.chance.value > 0.75
    assert pair.sentence.endswith("reliably better")
    assert (found.level, found.seeds, found.images, found.groups, found.best_set) == ("L1", 4, 400, 400, ("ant",))
    assert found.next_step == "Nothing more is needed: take ant."


def test_no_evidence_names_the_findable_gap_and_the_next_step() -> None:
    found = compare(TASK, Question(eps=5), EQUAL)
    (pair,) = found.pairs
    assert pair.kind == "undecided"
    assert pair.detectable is not None
    assert f"would have found a gap of {100 * pair.detectable:.1f} points or more with 80 % power" in found.verdict
    assert found.best_set == tuple(row.candidate for row in found.rows)
    assert "instead of" in found.next_step
    assert "of the variance" in found.next_step


@pytest.mark.parametrize(
    ("results", "question", "kind", "words"),
    [
        (EQUAL, Question(eps=15), "equivalent", "are equivalent within 15 points"),  # a wide eps
        (CLEAR, Question(eps=60), "better", "but by less than 60 points"),  # better, yet not enough to matter
        (CLEAR, Question(metric="log_loss", eps=0.1), "better", "by more than 0.1"),  # lower is better, own unit
        (CLEAR, Question(metric="balanced"), "better", "by more than 1 point"),  # a metric of the whole set
        (CLEAR, Question(baseline="ant"), "worse", "ant is better than bee"),  # the baseline is the better one
        (CLEAR, Question(baseline="bee"), "better", "ant is better than bee"),  # the baseline is the worse one
    ],
)
def test_kinds_of_verdict(results: Results, question: Question, kind: str, words: str) -> None:
    found = compare(TASK, question, results)
    assert found.pairs[0].kind == kind
    assert words in found.verdict


def test_estimates_of_all_metrics_and_the_candidate_that_leads() -> None:
    found = compare(TASK, Question(), CLEAR)
    ant = found.rows[0]
    assert (ant.candidate, ant.runs) == ("ant", 4)
    runs = [o for r, o in CLEAR if r.candidate == "ant" and o]
    assert ant.metrics["balanced"].value == pytest.approx(np.mean([balanced(o) for o in runs]))
    assert ant.metrics["log_loss"].value == pytest.approx(np.mean([error(o).mean() for o in runs]))
    assert ant.seed_sd == pytest.approx(np.std([hits(o).mean() for o in runs], ddof=1))
    assert ant.facts == {
        "parameters": 1000,
        "seconds": 3.75,
        "pretraining": "none",
    }  # medians; hashes of single runs are no fact
    assert ant.metrics["undefined"].value is None
    for name in ("accuracy", "balanced", "log_loss"):
        estimate = ant.metrics[name]
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.value is not None
        assert estimate.low < estimate.value < estimate.high


def test_three_candidates_get_simultaneous_intervals_and_a_best_set() -> None:
    found = compare(TASK, Question(), THREE)
    assert len(found.pairs) == 3
    assert set(found.best_set) == {"ant", "bee"}
    assert found.best_set[0] == found.rows[0].candidate
    assert all(pair.p_holm >= pair.p for pair in found.pairs)
    lone = compare(TASK, Question(), [entry for entry in THREE if entry[0].candidate != "bee"])
    wide = next(pair for pair in found.pairs if {pair.a, pair.b} == {"ant", "cow"})
    assert wide.high - wide.low > lone.pairs[0].high - lone.pairs[0].low  # Bonferroni
    assert len(compare(TASK, Question(baseline="cow"), THREE).pairs) == 2
    assert "the others were not compared with each other" in compare(TASK, Question(baseline="cow"), THREE).next_step


def test_a_baseline_with_many_rivals_has_a_short_verdict_and_all_pairs_below() -> None:
    skills = {"ant": 3.0, "bee": 2.9, "cow": 1.0, "dog": -1.0, "elk": 1.0}
    found = compare(TASK, Question(baseline="cow"), Plan(skills).results())
    best, *_ = found.pairs
    assert [pair.kind for pair in found.pairs].count("better") == 2
    assert found.verdict.startswith(
        f"{best.sentence.split(';')[0]}; of the 3 others against cow, 1 is better, 1 is worse"
    )
    assert "1 is undecided (each below). L1" in found.verdict
    printed = comparison_text(replace(found, task="classification"))
    assert [printed.count(pair.sentence) for pair in found.pairs] == [1] * 4


@pytest.mark.parametrize(
    ("percent", "low", "high", "words"),
    [
        (True, -0.021, 0.5, "[-2.1, 50.0]"),
        (True, -1.4, 0.12, "[-100.0, 12.0] (cut at 100 points, the most there can be)"),  # two seeds, few images
        (True, -1.0, 1.0, "[-100.0, 100.0]"),  # all there can be
        (False, -1.4, 2.5, "[-1.4, 2.5]"),  # a loss has no end
    ],
)
def test_intervals_of_differences_are_written_as_far_as_is_possible(
    percent: bool, low: float, high: float, words: str
) -> None:
    assert Unit(percent).interval(low, high) == words


def test_groups_widen_the_interval() -> None:
    groups = {f"{i:04d}.png": f"patient {i // 8}" for i in range(392)}  # the last 8 images are on their own
    grouped, plain = compare(TASK, Question(groups=groups), CLEAR), compare(TASK, Question(), CLEAR)
    assert grouped.groups == 49 + 8
    assert grouped.pairs[0].difference == plain.pairs[0].difference
    assert grouped.pairs[0].se != plain.pairs[0].se


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_seeds_never_say_better(seeds: int) -> None:
    found = compare(TASK, Question(), Plan({"ant": 4.0, "bee": 1.0}, seeds=seeds).results())
    (pair,) = found.pairs
    assert (found.level, pair.kind, pair.chance) == ("L0", "undecided", None)
    assert pair.low > 0  # and yet
    assert "better" not in found.verdict
    assert "may not survive retraining" in found.verdict
    assert "3 seeds" in found.next_step


@pytest.mark.parametrize(("images", "per_group"), [(15, 1), (72, 8)])  # n < 20; G < 10
def test_a_small_test_set_carries_no_claim(images: int, per_group: int) -> None:
    groups = {f"{i:04d}.png": str(i // per_group) for i in range(images)}
    found = compare(TASK, Question(groups=groups), Plan({"ant": 4.0, "bee": 1.0}, images=images).results())
    assert found.level == "L0"
    assert "better" not in found.verdict
    assert finding(found, "small-test").startswith("warning")
    assert found.next_step.startswith("Test on more images")


def test_identical_predictions_are_called_identical() -> None:
    source = {run.seed: outcomes for run, outcomes in EQUAL if run.candidate == "ant"}
    found = compare(TASK, Question(), [(run, source[run.seed]) for run, _ in EQUAL])
    (pair,) = found.pairs
    assert (pair.kind, pair.difference, pair.p) == ("identical", 0, 1)
    assert "identical" in found.verdict
    json.dumps(found.to_json(), allow_nan=False)


def test_one_candidate_has_nothing_to_compare_with() -> None:
    found = compare(TASK, Question(), [entry for entry in CLEAR if entry[0].candidate == "ant"])
    assert found.pairs == ()
    assert "nothing to compare" in found.verdict


def test_a_candidate_whose_runs_all_failed_is_not_called_missing() -> None:
    lone = compare(TASK, Question(), failing(CLEAR, is_bee))
    assert lone.verdict.startswith("bee has no finished run, so there is nothing to compare: ant reaches accuracy")
    assert lone.next_step.startswith("Mend what made the runs of bee fail, and run the study again")
    assert finding(lone, "failed-run").startswith("warning: All 4 runs of bee failed (seed 1: the loss became nan")
    three = compare(TASK, Question(), failing(THREE, is_bee))
    assert "; bee has no finished run. L1" in three.verdict
    assert three.next_step.startswith("Nothing more is needed: take ant. Mend what made the runs of bee fail")
    based = compare(TASK, Question(baseline="bee"), failing(THREE, is_bee))
    assert based.next_step.startswith("Mend what made the runs of bee fail")
    folds = compare(TASK, Question(folds=5), failing(Plan({"ant": 4.0, "bee": 1.0}, folds=5).results(), is_bee))
    assert "bee has no repeat with all its folds" in folds.verdict


def test_cross_validation_speaks_about_data_sets() -> None:
    plan = Plan({"ant": 4.0, "bee": 1.0, "cow": 1.1}, images=200, folds=5, repeats=3)
    results = plan.results()
    found = compare(TASK, Question(folds=5, repeats=3), results[::-1])  # the order of the runs does not matter
    assert (found.level, found.seeds, found.images, found.rows[0].runs) == ("L2", 3, 200, 15)
    assert found.pairs[0].kind == "better"
    assert "L2 (these recipes on data sets like this one): S = 3 repeats, n = 200 images" in found.verdict
    whole = [
        np.concatenate([hits(o) for r, o in results if o and (r.candidate, r.repeat) == ("ant", i)]) for i in range(3)
    ]
    assert found.rows[0].metrics["accuracy"].value == pytest.approx(np.mean(whole))
    once = compare(TASK, Question(folds=5), replace(plan, repeats=1).results())
    assert once.level == "L0"  # one repeat says nothing about the luck of training
    lost = compare(TASK, Question(folds=5, repeats=3), failing(results, lambda r: r.id == "ant-s9r1f2"))
    assert lost.rows[0].failures == ("repeat 1, fold 2: the loss became nan at step 12",)
    assert lost.pairs[0].kind == "better"  # two repeats remain, paired with the other candidate's same two


def test_failed_runs_are_reported_and_too_few_left_claim_nothing() -> None:
    one = compare(TASK, Question(), failing(CLEAR, lambda r: r.candidate == "bee" and r.seed == 2))
    assert one.pairs[0].kind == "better"
    assert one.rows[1].failures == ("seed 2: the loss became nan at step 12",)
    assert one.rows[1].runs == 3
    assert finding(one, "failed-run").startswith("warning: 1 of 4 runs of bee failed")
    assert "S = 3 to 4 seeds" in one.verdict
    two = compare(TASK, Question(), failing(THREE, lambda r: r.candidate == "bee" and r.seed < 3))
    assert "nothing is claimed about bee" in two.verdict
    assert "ant is better than cow" in two.verdict
    assert two.next_step.startswith("Finish at least 3 seeds (--seeds) of bee")
    none = compare(TASK, Question(), failing(THREE, lambda r: r.candidate == "bee"))
    assert [row.candidate for row in none.rows] == ["ant", "cow", "bee"]
    assert none.rows[2].metrics["accuracy"].value is None
    with pytest.raises(Refused, match=r"no run finished.*the loss became nan"):
        compare(TASK, Question(), failing(CLEAR, lambda run: run.seed > 0))


@pytest.mark.parametrize(
    "results", [CLEAR, EQUAL, THREE, failing(THREE, is_bee)], ids=["clear", "equal", "3", "failed"]
)
def test_json_round_trip_is_exact(results: Results) -> None:
    odd = changed(results, lambda r: r.seed == 1, facts={"latency_ms": float("nan"), "loaded": {"head": [1, 2]}})
    found = compare(TASK, Question(suspects={"duplicates": ["0001.png"]}), odd)
    text = json.dumps(found.to_json(), allow_nan=False)
    assert Comparison.from_json(json.loads(text)) == found
    assert json.dumps(Comparison.from_json(json.loads(text)).to_json()) == text


def test_other_content_is_not_taken_for_a_comparison() -> None:
    content = compare(TASK, Question(), CLEAR).to_json()
    with pytest.raises(ValueError, match="schema_version is 99, expected 1"):
        Comparison.from_json({**content, "schema_version": 99})
    del content["verdict"]
    with pytest.raises(ValueError, match="verdict"):
        Comparison.from_json(content)


def test_names_are_escaped_in_notebooks() -> None:
    results = Plan({"<script>alert(1)</script>": 4.0, "a & b": 1.0}).results()
    page = compare(TASK, Question(), results)._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "a &amp; b" in page
