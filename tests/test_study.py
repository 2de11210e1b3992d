"""Whole studies on tiny digits: what is trained, what is not trained again, what is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bakeoff import contest, verbs
from bakeoff.compare import Comparison
from bakeoff.data import formats
from bakeoff.data.digits import write_digits
from bakeoff.errors import Refused, RunError, UsageError
from bakeoff.files import read_json, write_json
from bakeoff.store import StudyFolder
from bakeoff.study import make_study, read_study, to_toml

pytestmark = pytest.mark.usefixtures("inline")
Run = Callable[..., Comparison]


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return 400 digits of 16 pixels in class folders."""
    whole = formats.read(write_digits(tmp_path_factory.mktemp("all") / "digits", 16))
    some = whole.without(record.id for place, record in enumerate(whole.records) if place % 9 not in (0, 4))
    target = tmp_path_factory.mktemp("some") / "digits"
    formats.write(some, target, "folder")
    return target


@pytest.fixture
def run(digits: Path, tmp_path: Path) -> Run:
    """Return a function that runs a study of two multi-layer perceptrons, with settings laid over it."""

    def start(settings: dict[str, Any] | None = None, folder: str = "study") -> Comparison:
        quick = {
            "size": 16,
            "seeds": 3,
            "repeat_one": False,
            "recipe.epochs": 2,
            "recipe.augment": "none",
            "candidates": [{"name": "wide", "model": wide}, {"name": "narrow", "model": narrow}],
        }
        return verbs.run(digits, tmp_path / folder, settings={**quick, **(settings or {})})

    wide = {"arch": "small:mlp", "options": {"hidden": 64}}
    narrow = {"arch": "small:mlp", "options": {"hidden": 8}}
    return start


def runs_of(folder: Path) -> dict[str, int]:
    """Return when each run was last written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("runs/*/run.json")}


def test_a_study_ends_with_verdict_and_report_and_is_not_run_twice(run: Run, tmp_path: Path) -> None:
    first = run()
    written = runs_of(tmp_path / "study")
    assert len(written) == 6
    assert first.level == "L1"
    assert {row.candidate for row in first.rows} == {"wide", "narrow"}
    assert first.rows[0].runs == 3
    assert (tmp_path / "study" / "report.html").stat().st_size > 10_000
    assert run() == first
    assert runs_of(tmp_path / "study") == written


def test_a_changed_recipe_is_a_new_run_and_the_old_ones_stay(run: Run, tmp_path: Path) -> None:
    run()
    written = runs_of(tmp_path / "study")
    run({"recipe.batch": 16})
    assert len(runs_of(tmp_path / "study")) == 12
    assert written.items() <= runs_of(tmp_path / "study").items()


def test_an_added_candidate_leaves_the_others_alone(run: Run, tmp_path: Path) -> None:
    run()
    written = runs_of(tmp_path / "study")
    third = [{"name": name, "model": {"arch": "small:mlp", "options": {"hidden": size}}} for name, size in
             (("wide", 64), ("narrow", 8), ("middle", 16))]  # fmt: skip
    comparison = run({"candidates": third})
    assert len(comparison.rows) == 3
    assert written.items() <= runs_of(tmp_path / "study").items()


def test_the_report_is_rebuilt_without_a_network(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    folder = StudyFolder(tmp_path / "study")
    before = read_json(folder.comparison)
    folder.comparison.unlink()
    folder.report.unlink()
    monkeypatch.setattr("bakeoff.execute.build", None)
    assert verbs.report(folder.path) == folder.report
    assert read_json(folder.comparison) == before


def test_a_run_that_diverges_is_reported_and_not_tried_again(run: Run, tmp_path: Path) -> None:
    exploding = {"optimiser": "sgd", "stages": [{"rate": 1e30, "schedule": "constant"}]}
    candidates = [
        {"name": "calm", "model": "small:mlp"},
        {"name": "wild", "model": "small:mlp", "recipe": exploding},
    ]
    comparison = run({"candidates": candidates})
    wild = next(row for row in comparison.rows if row.candidate == "wild")
    assert len(wild.failures) == 3
    assert "step" in wild.failures[0]
    written = runs_of(tmp_path / "study")
    run({"candidates": candidates})
    assert runs_of(tmp_path / "study") == written


def test_a_study_of_which_every_run_failed_says_so(run: Run) -> None:
    with pytest.raises(RunError, match="every run failed"):
        run({"recipe.optimiser": "sgd", "recipe.stages": [{"rate": 1e30}]})


def test_cross_validation_tests_every_image_once_a_repeat(run: Run, tmp_path: Path) -> None:
    comparison = run({"split.folds": 3, "split.repeats": 2, "recipe.epochs": 1})
    assert comparison.level == "L2"
    assert comparison.images == 400
    splits = read_json(StudyFolder(tmp_path / "study").split)["parts"]
    for repeat in (0, 1):
        tested = [id for part in splits if part["repeat"] == repeat for id in part["test"]]
        assert len(tested) == len(set(tested)) == 400


def test_runs_of_other_conditions_are_refused_by_name(run: Run, tmp_path: Path) -> None:
    run()
    file = next((tmp_path / "study").glob("runs/narrow-s1-*/run.json"))
    stored = read_json(file)
    stored["settings"]["precision"] = "bf16"
    write_json(file, stored)
    with pytest.raises(Refused, match="precision"):
        contest.judge(tmp_path / "study")


def test_an_unfinished_study_is_not_judged(run: Run, tmp_path: Path) -> None:
    run()
    file = next((tmp_path / "study").glob("runs/narrow-s1-*/run.json"))
    write_json(file, {**read_json(file), "state": "running"})
    with pytest.raises(RunError, match="not finished"):
        contest.judge(tmp_path / "study")


def test_precision_cannot_change_half_way(run: Run) -> None:
    run()
    with pytest.raises(UsageError, match="precision"):
        run({"execution.precision": "bf16"})


def test_the_history_and_the_model_are_there_to_use(run: Run, digits: Path, tmp_path: Path) -> None:
    run()
    folder = next((tmp_path / "study").glob("runs/wide-s1-*"))
    facts = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    assert [fact["epoch"] for fact in facts if fact["kind"] == "epoch"] == [0, 1]
    assert not (folder / "checkpoints").exists()
    found = list(verbs.predict(tmp_path / "study", [digits]))
    assert {prediction.error for prediction in found} == {None}


def test_toml_reads_back_as_the_same_study(tmp_path: Path) -> None:
    study = make_study(
        {
            "data": {"path": str(tmp_path), "label_from": r"(?P<label>\w+)_"},
            "recipe": {"epochs": 3, "clip": 1.0, "stages": [{"rate": 1e-4, "warmup": 0.1}]},
            "candidates": ["small:cnn", {"name": 'a "b" \\ c', "model": "timm:resnet50@none", "recipe": {"batch": 8}}],
        }
    )
    (tmp_path / "study.toml").write_text(to_toml(study))
    assert read_study(tmp_path / "study.toml") == study
