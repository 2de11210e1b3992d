"""Data-size curves through the front door: what is trained, what is taken over, what is said, drawn and refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bakeoff import verbs
from bakeoff.cli import app
from bakeoff.curve import plan_curve
from bakeoff.errors import UsageError
from bakeoff.evaluate.size_curve import EXPLORATORY, Curve
from bakeoff.files import read_json, write_json
from bakeoff.prepare import prepare, silent
from bakeoff.report.data_size import formula
from bakeoff.runs import Arena, plan_runs
from bakeoff.store import Run, StudyFolder
from bakeoff.study import read_study

pytestmark = pytest.mark.usefixtures("inline")
Make = Callable[..., Path]
SHARES = (0.1, 0.25, 0.5, 1.0)


@pytest.fixture(scope="session")
def digits(some_digits: Callable[..., Path]) -> Path:
    """Return 360 digits of 16 pixels in class folders."""
    return some_digits(5)


@pytest.fixture
def make(digits: Path, tmp_path: Path) -> Make:
    """Return a function that writes a study of two multi-layer perceptrons, not yet run."""

    def write(**settings: Any) -> Path:
        quick = {
            "size": 16,
            "seeds": 3,
            "split.val": 0.1,
            "repeat_one": False,
            "recipe.epochs": 3,
            "recipe.augment": "none",
            "candidates": [
                {"name": name, "model": {"arch": "small:mlp", "options": {"hidden": hidden}}}
                for name, hidden in (("wide", 32), ("narrow", 4))
            ],
        }
        folder = tmp_path / "study"
        verbs.init(digits, folder, ["small:mlp"], {"split.folds": 1, "split.repeats": 1, **quick, **settings})
        return folder

    return write


def runs(folder: Path, purpose: str = "curve") -> list[Run]:
    return [run for run in StudyFolder(folder).runs() if run.purpose == purpose]


def weights(folder: Path) -> dict[str, Any]:
    return {run.id: run.facts["weights_hash"] for run in StudyFolder(folder).runs()}


def test_a_curve_takes_over_the_contest_and_trains_the_smaller_shares_as_long(make: Make) -> None:
    folder = make()
    curve = verbs.curve(folder)  # the study was not run before
    assert [course.candidate for course in curve.courses] == ["wide", "narrow"]
    for course in curve.courses:
        assert [point.share for point in course.points] == list(SHARES)
        assert [point.images / course.points[-1].images for point in course.points] == pytest.approx(SHARES, abs=0.01)
        assert [point.runs for point in course.points] == [3] * 4
        assert course.sentence.startswith(course.candidate)
    contest, fewer = runs(folder, "contest"), runs(folder)
    assert {run.share for run in fewer} == {0.1, 0.25, 0.5}
    assert (len(contest), len(fewer)) == (6, 18)
    assert set(curve.runs) == {run.id for run in contest}
    assert EXPLORATORY in curve.notes
    assert len(curve.gaps) == 4
    study = StudyFolder(folder)
    steps = {study.run(run.id).history()[-1]["step"] for run in (*contest, *fewer)}
    assert len(steps) == 1  # fewer images are seen more often
    ids = [study.run(run.id).outcomes().ids for run in (*contest, *fewer)]
    assert all(one == ids[0] for one in ids)
    assert not any(study.run(run.id).model.exists() for run in fewer)
    rows = {row.candidate: row.metrics["accuracy"].value for row in verbs.run(folder).rows}
    assert {course.candidate: course.points[-1].estimate.value for course in curve.courses} == rows
    assert Curve.from_json(json.loads(json.dumps(read_json(study.curve)))) == curve


def test_what_is_lost_is_trained_again_to_the_same_weights_and_nothing_else_is(make: Make) -> None:
    folder = make(seeds=1)
    first = verbs.curve(folder, shares=[0.2])
    known, study = weights(folder), StudyFolder(folder)
    written = {run.id: (study.run(run.id).path / "run.json").stat().st_mtime_ns for run in study.runs()}
    lost = runs(folder)[0]
    write_json(study.run(lost.id).path / "run.json", vars(replace(lost, state="running", facts={})))
    assert verbs.curve(folder, shares=[0.2]) == first
    assert weights(folder) == known
    now = {run.id: (study.run(run.id).path / "run.json").stat().st_mtime_ns for run in study.runs()}
    assert [id for id in now if now[id] != written[id]] == [lost.id]
    assert "needs 3 sizes" in first.courses[0].sentence
    assert any("luck of these images" in note for note in first.notes)


def test_more_seeds_than_the_study_has_are_added_at_every_share(make: Make) -> None:
    folder = make(seeds=1)
    curve = verbs.curve(folder, shares=[0.3], seeds=2)
    assert [point.runs for point in curve.courses[0].points] == [2, 2]
    added = [run for run in runs(folder) if run.share == 1]
    assert {(run.candidate, run.seed) for run in added} == {("wide", 2), ("narrow", 2)}
    assert {run.seed for run in runs(folder, "contest")} == {1}


def test_tuned_settings_are_those_of_every_share(make: Make) -> None:
    folder = make(**{"seeds": 1, "recipe.epochs": 2, "recipe.stages": [{"rate": 1e-4}], "tune.trials": 4})
    verbs.curve(folder, shares=[0.5])
    chosen = {run.candidate: run.chosen for run in runs(folder, "contest")}
    assert any(chosen.values())  # a rate this low is beaten by what tuning draws
    assert {run.candidate: run.chosen for run in runs(folder)} == chosen


def test_under_cross_validation_every_part_is_reduced(make: Make) -> None:
    folder = make(**{"split.folds": 2, "split.repeats": 2, "split.val": 0.0, "recipe.epochs": 1})
    curve = verbs.curve(folder, shares=[0.25, 0.5])
    assert curve.level == "L2"
    assert [point.runs for point in curve.courses[0].points] == [2, 2, 2]  # repeats
    assert curve.images == 360
    assert [point.images for point in curve.courses[0].points] == pytest.approx([45, 90, 180], abs=1)
    with pytest.raises(UsageError, match="repeats"):
        verbs.curve(folder, seeds=2)


def test_shares_that_come_to_the_same_images_count_once(make: Make) -> None:
    curve = verbs.curve(make(seeds=1), shares=[0.01, 0.02, 0.5])  # ten classes keep an image each
    assert [point.images for point in curve.courses[0].points][:1] == [10]
    assert len(curve.courses[0].points) == 3
    assert any("the same as 2 %" in note for note in curve.notes)


def test_the_command_answers_and_the_report_has_a_section_until_the_study_changes(make: Make) -> None:
    folder = make(**{"seeds": 1, "recipe.epochs": 2})
    done = CliRunner().invoke(app, ["curve", str(folder), "--shares", "0.2,0.4", "--quiet"])
    assert done.exit_code == 0, done.output
    assert "training images" in done.stdout
    assert EXPLORATORY in done.stdout
    curve = Curve.from_json(read_json(StudyFolder(folder).curve))
    assert all(course.sentence in done.stdout for course in curve.courses)
    again = CliRunner().invoke(app, ["curve", str(folder), "--shares", "0.2,0.4", "--quiet", "--json"])
    assert Curve.from_json({**json.loads(again.stdout)}) == curve
    page = (folder / "report.html").read_text("utf-8")
    assert "How much would more images help?" in page
    assert str(formula(curve.courses[0].trend.law)) in page
    verbs.run(folder, settings={"recipe.epochs": 1})
    assert "of an earlier state" in (folder / "report.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--shares", "0.5,2"], "above 0 and at most 1, not 2"),  # no share
        (["--shares", "1"], "a share below 1"),  # nothing to compare with
        (["--shares", "a half"], "numbers separated by commas"),  # no number
        (["--seeds", "0"], "1 or more"),  # no run
    ],
)
def test_impossible_curves_are_refused_before_anything_trains(make: Make, options: list[str], words: str) -> None:
    folder = make()
    with pytest.raises(UsageError, match=words):
        CliRunner().invoke(app, ["curve", str(folder), *options], catch_exceptions=False)
    assert not (folder / "runs").exists()


def test_images_are_no_study(digits: Path) -> None:
    with pytest.raises(UsageError, match="begin with `bakeoff run"):
        verbs.curve(digits)


def test_a_share_is_trained_with_what_its_own_part_of_a_nested_tuning_chose(make: Make) -> None:
    folder = StudyFolder(make(**{"split.folds": 2}))
    study = read_study(folder.study)
    prepared = prepare(study, folder)
    about = {"devices": ["cpu"], "precision": "fp32", "layout": "contiguous", "threads": 1, "loaders": 0}
    arena = Arena(study, prepared, {**about, "versions": {}}, folder, silent)
    chosen = {
        candidate.name: {(0, fold): {"recipe.weight_decay": 0.1 + fold} for fold in range(2)}
        for candidate in study.candidates
    }
    planned = plan_runs(arena, chosen)
    for one in planned:
        folder.run(one.id).write(one)
    write_json(folder.plan, {"runs": [one.id for one in planned]})
    design = plan_curve(arena, (0.5, 1.0), None)
    for share in design.runs:
        assert {(r.fold, r.chosen["recipe.weight_decay"]) for r in design.runs[share]} == {(0, 0.1), (1, 1.1)}
