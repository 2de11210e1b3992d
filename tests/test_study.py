"""Whole studies on tiny digits: what is trained, what is not trained again, what is said."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bakeoff import contest, verbs, verbs_predict, verbs_winner, winners
from bakeoff.compare import Comparison
from bakeoff.data import formats
from bakeoff.data.cache import build_pixels, open_pixels
from bakeoff.errors import DataError, Refused, RunError, UsageError
from bakeoff.files import read_json, write_json
from bakeoff.store import StudyFolder
from bakeoff.study import make_study, read_study, to_toml

pytestmark = pytest.mark.usefixtures("inline")
Run = Callable[..., Comparison]


@pytest.fixture(scope="session")
def digits(some_digits: Callable[..., Path]) -> Path:
    """Return 400 digits of 16 pixels in class folders."""
    return some_digits(9, (0, 4))


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
    comparison = run({"candidates": third, "repeat_one": True})
    assert len(comparison.rows) == 3
    assert written.items() <= runs_of(tmp_path / "study").items()


def test_what_is_handed_over_and_reported_is_of_the_present_recipe(run: Run, tmp_path: Path) -> None:
    run()
    run({"recipe.batch": 16})
    folder = StudyFolder(tmp_path / "study")
    planned = set(read_json(folder.plan)["runs"])
    assert winners.find_model(folder.path).name in planned
    assert {stored.id for stored in folder.planned()} == planned < {stored.id for stored in folder.runs()}


def test_a_recipe_that_mixes_is_a_candidate_like_any_other(run: Run) -> None:
    recipe = {"augment": "randaugment", "mixup": 0.2, "cutmix_within": 1.0, "loss": "focal", "label_smoothing": 0.1}
    recipe |= {"class_weights": True, "balanced": True}
    model = {"arch": "small:mlp", "options": {"hidden": 8}}
    two = [{"name": "plain", "model": model}, {"name": "mixed", "model": model, "recipe": recipe}]
    comparison = run({"candidates": two, "seeds": 2, "recipe.epochs": 1})
    declared = {control.name: control.values["mixed"] for control in comparison.controls if control.status != "equal"}
    assert {f"recipe.{name}": value for name, value in recipe.items()}.items() <= declared.items()


def test_only_one_process_runs_a_study(run: Run, tmp_path: Path) -> None:
    with StudyFolder(tmp_path / "study").held(), pytest.raises(Refused, match="another bakeoff"):
        run()
    stray = tmp_path / "study" / ".tmp-stray.json"
    stray.write_text("half")
    run()
    assert not stray.exists()


def test_a_study_goes_on_under_the_versions_that_it_was_begun_with(run: Run, tmp_path: Path) -> None:
    run()
    file = StudyFolder(tmp_path / "study").execution
    begun = read_json(file)
    write_json(file, {**begun, "versions": {**begun["versions"], "torch": "1.0"}})
    with pytest.raises(UsageError, match=r"torch 1\.0"):
        run()


def test_a_split_made_anew_is_not_judged_with_the_old_runs(run: Run, tmp_path: Path, digits: Path) -> None:
    run()
    verbs.dry_run(digits, tmp_path / "study", ["small:mlp"], {"size": 16, "split.seed": 1})
    with pytest.raises(Refused, match="data or split changed"):
        contest.judge(tmp_path / "study")
    model = winners.find_model(tmp_path / "study")
    with pytest.raises(UsageError, match="another split"):
        verbs_winner.score(model, digits, "test")


def test_images_that_were_moved_are_found_again(run: Run, tmp_path: Path, digits: Path) -> None:
    first = run()
    shutil.copytree(digits, tmp_path / "moved")
    written = runs_of(tmp_path / "study")
    file = tmp_path / "study" / "study.toml"
    file.write_text(file.read_text().replace(str(digits), str(tmp_path / "moved")))
    assert verbs.run(tmp_path / "study") == first
    assert runs_of(tmp_path / "study") == written
    assert read_json(StudyFolder(tmp_path / "study").data)["source"] == str(tmp_path / "moved")


def test_images_that_are_gone_are_asked_for(run: Run, tmp_path: Path, digits: Path) -> None:
    first = run()
    file = tmp_path / "study" / "study.toml"
    file.write_text(file.read_text().replace(str(digits), str(tmp_path / "gone")))
    with pytest.raises(UsageError, match=r"gone: the data of the study .*study are not there .*--set data\.path=NEW"):
        verbs.run(tmp_path / "study")
    assert verbs.run(tmp_path / "study", settings={"data.path": str(digits)}) == first


def test_pixels_without_their_stamp_are_made_anew(
    tmp_path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = formats.read(digits)
    old = build_pixels(whole, tmp_path, 16)
    expected = open_pixels(old).copy()
    other = whole.without([whole.records[0].id])

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("bakeoff.data.cache.write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            build_pixels(other, tmp_path, 16)
    assert (open_pixels(build_pixels(whole, tmp_path, 16)) == expected).all()


def test_damaged_outcomes_are_named(run: Run, tmp_path: Path) -> None:
    run()
    file = next((tmp_path / "study").glob("runs/narrow-s1-*/outcomes.npz"))
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DataError, match=r"outcomes\.npz: cannot be read"):
        contest.judge(tmp_path / "study")


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"metric": "acuracy"}, "did you mean accuracy"),  # found out before anything trains
    ({"recipe.checkpoint": "best", "split.val": 0}, "needs validation images"),  # nothing to choose by
    ({"recipe.batch": 300}, r"wide: recipe\.batch = 300 is more than the 2\d\d training images; set it to 2\d\d"),
    ({"candidates": {"name": "wide"}}, r"\[\[candidates\]\]"),  # [candidates] for [[candidates]]
    ({"size": 16, "size.x.y": 3}, "plain value"),  # a key below a number
]


@pytest.mark.parametrize(("settings", "words"), WRONG)
def test_a_wrong_question_stops_before_training(run: Run, tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        run(settings)
    assert not (tmp_path / "study" / "runs").exists()


def test_one_network_from_two_weights_needs_no_names(tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    file.write_text('candidates = ["resnet18@none", "resnet18", "small:mlp"]\n[data]\npath = "."\n')
    assert [c.name for c in read_study(file).candidates] == ["resnet18@none", "resnet18@pretrained", "mlp"]


def test_a_python_file_without_a_name_is_called_by_its_own_not_by_its_folders(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    (folder / "study.toml").write_text(
        'candidates = ["nets/own.py:build", "python:own.py:net@none"]\ndata.path = "."\n'
    )
    assert [c.name for c in read_study(folder / "study.toml").candidates] == ["own.py:build", "own.py:net"]
    made = make_study({"data": {"path": "."}, "candidates": [f"{folder}/own.py:build", "small:cnn"]})
    assert [c.name for c in made.candidates] == ["own.py:build", "small:cnn"]


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
    found = list(verbs_predict.predict(tmp_path / "study", [digits]))
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
