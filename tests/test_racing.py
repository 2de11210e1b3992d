"""Races and looks on tiny digits: who is dropped, what survivors score, when a study stops, how it goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bakeoff import contest, verbs
from bakeoff.compare import Comparison
from bakeoff.errors import UsageError
from bakeoff.evaluate.dropped import Dropped, stopped
from bakeoff.evaluate.looks import Looks
from bakeoff.evaluate.verdict import Unit
from bakeoff.files import read_json
from bakeoff.prepare import Tell, silent
from bakeoff.study import make_study
from bakeoff.tables import comparison_text

pytestmark = pytest.mark.usefixtures("inline")
Start = Callable[..., Comparison]
BAD = {"name": "bad", "recipe": {"label_noise": 1.0}}


@pytest.fixture(scope="session")
def digits(some_digits: Callable[..., Path]) -> Path:
    """Return 600 digits of 16 pixels in class folders."""
    return some_digits(3)


@pytest.fixture
def start(digits: Path, tmp_path: Path) -> Start:
    """Return a function that runs a study of small multi-layer perceptrons, told apart by name and recipe."""

    def run(candidates: list[dict[str, Any]], folder: str = "study", tell: Tell = silent, **fields: Any) -> Comparison:
        model = {"arch": "small:mlp", "options": {"hidden": 32}}
        content = {
            "data": {"path": str(digits)},
            "split": {"val": 0.2, "test": 0.5},
            "size": 16,
            "seeds": 3,
            "repeat_one": False,
            "recipe": {"epochs": 4, "batch": 16, "augment": "none", "stages": [{"rate": 1e-2}]},
            "candidates": [{"model": model, **candidate} for candidate in candidates],
            **fields,
        }
        found = contest.run(make_study(content), tmp_path / folder, tell)
        verbs.report(tmp_path / folder)
        return found

    return run


def named(*names: str) -> list[dict[str, Any]]:
    """Return candidates that differ by their names alone."""
    return [{"name": name} for name in names]


def scores(folder: Path, candidate: str) -> dict[str, bytes]:
    """Return the test outcomes of a candidate's contest runs, byte for byte, by run."""
    return {file.parent.name: file.read_bytes() for file in folder.glob(f"runs/{candidate}-s*/outcomes.npz")}


def test_a_planted_loser_is_dropped_and_the_others_score_as_without_a_race(start: Start, tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    raced = start([BAD, *named("one", "two")], race=True, tell=lambda _, fact: told.append(fact))
    (gone,) = raced.dropped
    assert (gone.candidate, gone.rung, {row.candidate for row in raced.rows}) == ("bad", 1, {"one", "two"})
    assert gone.low is not None
    assert gone.low > 0
    assert not list((tmp_path / "study").glob("runs/bad-s*"))
    rungs = list((tmp_path / "study").glob("runs/*-rung-*"))
    assert len(rungs) == 5  # the leader and the loser have two; two survive the first rung, so there is no second
    assert not [file for rung in rungs for file in (*rung.glob("outcomes.npz"), *rung.glob("model.*"))]
    whole = start([BAD, *named("one", "two")], folder="whole")
    for name in ("one", "two"):
        assert scores(tmp_path / "study", name) == scores(tmp_path / "whole", name)
        assert len(scores(tmp_path / "whole", name)) == 3
    assert whole.dropped == ()
    assert len(whole.pairs) == 3
    assert len(raced.pairs) == 1  # tests are among the survivors only
    words = gone.sentence(Unit(True))
    assert words.startswith("stopped at rung 1 on validation, behind by ")
    assert f"bad was {words}; it has no test result." in raced.verdict
    assert f"bad: {words}" in comparison_text(raced)
    page = (tmp_path / "study" / "report.html").read_text()
    assert "Race and looks" in page
    assert "<bdi>bad</bdi>" in page
    assert "Race and looks" not in (tmp_path / "whole" / "report.html").read_text()
    (price,) = [fact["sentence"] for fact in told if fact["kind"] == "race"]
    assert price.startswith("The race took 5 runs, ")
    assert "dropped bad: 3 runs of each spared, about " in price
    assert price in comparison_text(raced)
    assert [fact["name"] for fact in told if fact["kind"] == "plan"] == [
        "race, rung 1 of 2",
        "race, rung 1 of 2, second seed",
        "",
    ]


def test_a_study_cut_in_a_rung_goes_on_to_the_same_race(start: Start, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("BAKEOFF_CHECKPOINT_SECONDS", "0")
    candidates = [BAD, *named("one", "two", "three")]
    whole = start(candidates, race=True)

    def cut(run: str, fact: dict[str, Any]) -> None:
        if run.startswith("two-rung-s-7") and fact["kind"] == "epoch":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(candidates, folder="cut", tell=cut, race=True)
    assert not (tmp_path / "cut" / "plan.json").exists()
    resumed = start(candidates, folder="cut", race=True)
    rungs = [
        [{**e, "seconds": 0} for r in read_json(tmp_path / f / "race.json")["rungs"] for e in r["entries"]]
        for f in ("study", "cut")
    ]
    assert len(rungs[0]) == 4 + 3
    assert rungs[0] == rungs[1]
    assert resumed.pairs == whole.pairs


def test_what_cannot_be_raced_says_so(start: Start, tmp_path: Path) -> None:
    told: list[str] = []

    def tell(_: str, fact: dict[str, Any]) -> None:
        told.extend([fact["sentence"]] if fact["kind"] == "race" else [])

    assert not start(named("one", "two"), race=True, tell=tell).dropped
    assert told == ["There was no race: it takes 3 candidates, here are 2."]
    assert verbs.dry_run(tmp_path / "study")["race"] == "there will be none: it takes 3 candidates, here are 2"
    few = start(named("one", "two", "three"), "few", tell, race=True, split={"val": 0.005, "test": 0.5})
    assert "no race: it is judged on validation, which takes 20 images in 10 groups; here are" in told[1]
    assert len(few.rows) == 3
    with pytest.raises(UsageError, match=r"one: recipe.epochs = 3 is too short to race: the first rung trains 25 %"):
        start(named("one", "two", "three"), "short", race=True, recipe={"epochs": 3})
    stages = [{"epochs": 1}, {"epochs": 2}, {}]
    with pytest.raises(UsageError, match="less than an epoch for each of its 3 stages; take 12 or more"):
        start(named("one", "two", "three"), "stages", race=True, recipe={"epochs": 11, "stages": stages})


def test_a_baseline_is_never_dropped_and_a_failed_rung_is(start: Start, tmp_path: Path) -> None:
    broken = {"name": "broken", "recipe": {"stages": [{"rate": 1e30, "schedule": "constant"}]}}
    raced = start([BAD, broken, *named("one")], race=True, baseline="bad")
    assert {row.candidate for row in raced.rows} == {"bad", "one"}
    assert raced.dropped[0].candidate == "broken"
    assert raced.dropped[0].sentence(Unit(True)).startswith("stopped at rung 1: its run failed: ")
    assert raced.pairs[0].kind == "better"
    (rung,) = read_json(tmp_path / "study" / "race.json")["rungs"]
    assert [(entry["candidate"], entry["dropped"], entry["reason"][:18]) for entry in rung["entries"]] == [
        ("one", False, ""),
        ("bad", False, "the baseline stays"),
        ("broken", True, "its run failed: th"),
    ]


def test_an_obvious_difference_stops_at_the_first_look(start: Start, tmp_path: Path) -> None:
    told: list[str] = []

    def tell(_: str, fact: dict[str, Any]) -> None:
        told.extend([fact["sentence"]] if fact["kind"] == "look" else [])

    found = start([BAD, *named("one")], looks=[3, 4, 5], tell=tell)
    assert found.looks == Looks((3, 4, 5), 1)
    assert (found.pairs[0].kind, found.seeds, len(list(tmp_path.glob("study/runs/*")))) == ("better", 3, 6)
    assert "; look 1 of 3 (3, 4 and 5 seeds), 97.8 % intervals." in found.verdict
    assert "97.8 % interval " in comparison_text(found)
    assert told == ["look 1 of 3 (3, 4 and 5 seeds): 0 of 1 pair undecided; the study stops here."]
    plain = start([BAD, *named("one")], folder="plain")
    assert plain.pairs[0].difference == found.pairs[0].difference
    assert plain.pairs[0].low > found.pairs[0].low  # at 95 % the interval is shorter
    assert "97.8 %" in (tmp_path / "study" / "report.html").read_text()
    assert "97.8 %" not in (tmp_path / "plain" / "report.html").read_text()


def test_equals_are_looked_at_to_the_end_and_a_cut_between_looks_is_judged(start: Start, tmp_path: Path) -> None:
    def cut(run: str, fact: dict[str, Any]) -> None:
        if "-s4-" in run and fact["kind"] == "epoch":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(named("one", "two"), looks=[3, 4], tell=cut)
    early = contest.judge(tmp_path / "study")
    assert (early.looks, early.seeds, early.pairs[0].kind) == (Looks((3, 4), 1), 3, "undecided")
    assert early.next_step.startswith("Even 4 seeds, at the last look, would find a gap of ")
    assert "stopping here for futility is allowed" in early.next_step
    found = start(named("one", "two"), looks=[3, 4])
    assert (found.looks, found.seeds) == (Looks((3, 4), 2), 4)
    assert "look 2 of 2 (3 and 4 seeds), 97.1 % intervals." in found.verdict
    assert "last look" not in found.next_step
    assert Comparison.from_json(json.loads(json.dumps(found.to_json()))) == found
    whole = start(named("one", "two"), folder="whole", seeds=4)
    assert whole.pairs[0].difference == found.pairs[0].difference
    assert np.isclose(whole.pairs[0].p, found.pairs[0].p)


def test_comparisons_of_before_are_read(start: Start) -> None:
    content = start(named("one", "two")).to_json()
    del content["looks"], content["dropped"]
    old = Comparison.from_json(content)
    assert (old.looks, old.dropped, old.looks.confidence) == (Looks(), (), "95 %")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"looks": [3, 5, 5]}, "growing numbers of seeds"),  # the same twice
        ({"looks": [2, 5]}, "the first 3 at least"),  # too few seeds to claim anything
        ({"looks": [3, 4, 5, 6, 7, 8]}, "1 to 5"),  # more looks than Pocock's table has
        ({"looks": [3, 5], "split": {"folds": 5}}, "repeats share all their images"),  # cross-validation
        ({"race": True, "split": {"folds": 5}}, "test images of other folds"),  # cross-validation
    ],
)
def test_studies_that_cannot_be_staged_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make_study({"data": {"path": "x"}, "candidates": ["small:mlp"], **fields})


def test_many_dropped_are_counted_in_the_verdict() -> None:
    three = [Dropped(name, 1, 0.1, 0.05, 0.15) for name in "abc"]
    assert stopped(three, Unit(True)) == " 3 others were stopped in the race on validation and have no test result."
    assert stopped((), Unit(True)) == ""
