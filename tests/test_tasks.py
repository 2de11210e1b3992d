"""Every task through the front door: a study on scenes of digits, its report, predictions, scores; exact resume."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from bakeoff import execution
from bakeoff.cli import app
from bakeoff.contest import check_question
from bakeoff.data.augment import Augment
from bakeoff.data.cache import build_pixels
from bakeoff.data.dataset import Dataset, TaskName
from bakeoff.data.formats import read
from bakeoff.data.load import Feed
from bakeoff.data.mix import Mix
from bakeoff.data.scenes import write_scenes
from bakeoff.data.split import Split, Splits
from bakeoff.data.stored import build_targets, open_targets
from bakeoff.errors import Refused, UsageError
from bakeoff.execute import inverse_frequencies
from bakeoff.models import FAMILIES, build
from bakeoff.models.spec import ModelSpec
from bakeoff.models.trained import weights_hash
from bakeoff.prepare import Prepared
from bakeoff.store import StudyFolder
from bakeoff.study import Candidate, make_study
from bakeoff.tasks import TASKS
from bakeoff.tasks.inference import Conditions
from bakeoff.train.loop import State, Step, train
from bakeoff.train.recipe import Recipe, Stage

DENSE: tuple[TaskName, ...] = ("semantic", "detection", "instance")
SIZE = 64
MIXED: dict[TaskName, dict[str, Any]] = {
    "semantic": {"augment": "trivial", "loss": "focal+dice", "class_weights": True},
    "detection": {"augment": "randaugment", "mosaic": 0.5, "balanced": True},
    "instance": {"augment": "trivial", "mosaic": 0.5, "copy_paste": 0.5},
}


def small(task: TaskName) -> str:
    """Return the first small network for a task."""
    return f"small:{FAMILIES[0].names(task)[0]}"


def to_fields(recipe: dict[str, Any]) -> str:
    """Return the fields of a recipe as TOML has them in a line."""
    return ", ".join(f"{name} = {json.dumps(value)}" for name, value in recipe.items())


@pytest.fixture(scope="module", params=DENSE)
def scenes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[TaskName, Path]:
    """Return 40 scenes for a task."""
    task: TaskName = request.param
    return task, write_scenes(tmp_path_factory.mktemp(task) / "scenes", task, count=40, size=SIZE)


def run(*arguments: str | Path, code: int = 0) -> str:
    """Run the command line and return what it prints on stdout."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.stdout


@pytest.mark.usefixtures("inline")
def test_a_study_of_every_task_ends_with_a_report(scenes: tuple[TaskName, Path], tmp_path: Path) -> None:
    task, data = scenes
    study = tmp_path / "study"
    study.mkdir()
    (study / "study.toml").write_text(
        f"""
size = {SIZE}
seeds = 2
data = {{ path = "{data}" }}
recipe = {{ epochs = 1, batch = 8, augment = "digits" }}
candidates = [
    {{ name = "a", model = "{small(task)}" }},
    {{ name = "b", model = "{small(task)}", recipe = {{ {to_fields(MIXED[task])} }} }},
]
""",
        encoding="utf-8",
    )
    found = json.loads(run("run", study, "--json", "--quiet", "--set", "execution.guards=off"))
    assert found["task"] == task
    assert found["metric"] == TASKS[task](("a",)).headline
    assert {row["candidate"] for row in found["rows"]} == {"a", "b"}
    page = (study / "report.html").read_text(encoding="utf-8")
    assert task in page
    assert len(page) > 50_000  # the pictures are in it
    assert "repeat" in json.dumps(found["findings"])  # one run was made twice
    run_folder = sorted((study / "runs").glob("a-s1-*"))[0]
    assert (run_folder / "predictions.json.gz").is_file()

    image = sorted((data / "images").glob("*.png"))[0]
    lines = run("predict", run_folder, image, "--json").splitlines()
    assert json.loads(lines[0])["path"].endswith(image.name)
    scored = json.loads(run("score", run_folder, data, "--part", "test", "--json"))
    own = next(row for row in found["rows"] if row["candidate"] == "a")
    assert scored["task"] == task
    assert set(scored["metrics"]) == set(own["metrics"])
    assert scored["images"] == 8


def feed_of(task: TaskName, data: Path, cache: Path, workers: int = 0) -> Feed:
    """Return the training images of scenes, cached."""
    dataset = read(data, task=task)
    build_targets(dataset, cache, SIZE)
    rows = np.arange(16)
    return Feed(
        pixels=build_pixels(dataset, cache, SIZE),
        rows=rows,
        targets=open_targets(dataset, cache, SIZE, "squash"),
        labels=rows,
        augment=Augment("strong", SIZE),
        mix=Mix(len(dataset.classes), mosaic=0.5, copy_paste=0.5 * (task == "instance")),
        batch=4,
        seed=5,
        workers=workers,
    )


def test_a_cut_run_of_every_task_resumes_bit_equal_with_other_workers(
    scenes: tuple[TaskName, Path], tmp_path: Path
) -> None:
    task, data = scenes
    feed = feed_of(task, data, tmp_path)
    judge = TASKS[task](read(data, task=task).classes)

    def fresh() -> State:
        torch.manual_seed(0)
        recipe = Recipe(epochs=2, batch=4, stages=(Stage(rate=1e-3, warmup=0.2),))
        return State(
            build(ModelSpec(arch=small(task)), len(read(data, task=task).classes), SIZE, task), recipe, Conditions()
        )

    whole, cut, again = fresh(), fresh(), fresh()
    list(train(whole, judge, feed))
    for fact in train(cut, judge, replace(feed, workers=1)):
        if isinstance(fact, Step) and fact.step == 3:
            break
    again.restore(cut.export())
    list(train(again, judge, replace(feed, workers=2)))
    assert weights_hash(again.network) == weights_hash(whole.network)


BROKEN = '''
import torch
from torch import nn


class UNet(nn.Module):
    """Its skip connection is multiplied by 0: it trains without complaint."""

    def __init__(self, classes):
        super().__init__()
        self.fine = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.deep = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Conv2d(16, classes, 3, padding=1)

    def forward(self, images):
        fine = self.fine(images)
        deep = nn.functional.interpolate(self.deep(nn.functional.max_pool2d(fine, 2)), scale_factor=2.0)
        return self.head(torch.cat([deep, 0 * fine], dim=1))


def build(classes, size):
    return UNet(classes)
'''


@pytest.mark.usefixtures("inline")
def test_a_broken_candidate_is_named_before_anything_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bakeoff.runs.guard", execution.guard)  # which the other studies here go without
    monkeypatch.setattr("bakeoff.runs.open_engine", lambda _decided: pytest.fail("something is trained"))
    data = write_scenes(tmp_path / "scenes", "semantic", count=40, size=SIZE)
    (tmp_path / "nets.py").write_text(BROKEN, encoding="utf-8")
    models = f"small:fcn,{tmp_path / 'nets.py'}:build"
    study = tmp_path / "study"
    result = CliRunner().invoke(
        app,
        ["run", str(data), "--out", str(study), "--models", models, "--size", "64", "--quiet", "--set=recipe.batch=4"],
    )
    assert isinstance(result.exception, Refused), result.output
    assert "nets.py:build" in str(result.exception)
    assert "cutting changes nothing in the output" in str(result.exception)
    assert "fcn" not in str(result.exception)
    assert not list(study.glob("runs/*/history.jsonl"))
    stored = json.loads((study / "guards.json").read_text(encoding="utf-8"))
    assert all(result["ok"] for result in stored["fcn"]["results"])


def test_a_broken_network_stays_refused_until_its_file_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "nets.py"
    source.write_text("broken", encoding="utf-8")
    asked = []

    def ask(_entry: str, candidates: Sequence[Candidate], *_: object) -> Iterator[dict[str, Any]]:
        for candidate in candidates:
            asked.append(candidate.name)
            ok = candidate.name != "mine" or source.read_text(encoding="utf-8") == "whole"
            result = {"code": "skip", "ok": ok, "sentence": "its skip connection does nothing"}
            yield {"candidate": candidate.name, "results": [result]}

    monkeypatch.setattr(execution, "_ask", ask)
    mine = {"name": "mine", "model": f"{source}:build"}
    study = make_study({"data": {"path": "x"}, "candidates": [{"name": "sound", "model": "small:unet"}, mine]})
    prepared = cast(Prepared, SimpleNamespace(dataset=Dataset("semantic", ("a", "b"), (), tmp_path)))
    folder = StudyFolder(tmp_path)
    for _ in range(2):  # asking once more is no way around
        with pytest.raises(Refused, match="mine: its skip connection does nothing"):
            execution.guard(study, prepared, {}, folder)
    source.write_text("whole", encoding="utf-8")
    execution.guard(study, prepared, {}, folder)
    assert asked == ["sound", "mine", "mine"]


def test_a_class_without_training_pixels_does_not_drown_the_others() -> None:
    assert inverse_frequencies(np.array([300.0, 100.0, 0.0])) == pytest.approx((400 / 900, 400 / 300, 1.0))


@pytest.mark.parametrize(
    ("task", "recipe", "words"),
    [
        ("detection", {"class_weights": True}, "knows neither label smoothing nor class weights"),  # own losses
        ("semantic", {"loss": "dice", "class_weights": True}, "has no class weights"),  # nothing to weigh
        ("semantic", {"balanced": True}, "use recipe.class_weights"),  # no one class of an image
        ("instance", {"mixup": 0.2}, "recipe.mixup is for classification, not for instance"),  # nor one label
        ("detection", {"copy_paste": 0.5}, "recipe.copy_paste is for instance, not for detection"),  # no masks
        ("semantic", {"mosaic": 0.5}, "recipe.mosaic is for detection and instance, not"),  # no objects
        ("detection", {"cutmix_within": 1.0}, "recipe.cutmix_within is for classification"),  # many classes
        ("classification", {"mixup": 0.2, "batch": 1}, "set it to 2 or more"),  # nothing to mix with
        ("detection", {"loss": "focal"}, "has no loss 'focal'"),  # its networks bring their own
    ],
)
def test_what_a_task_has_not_is_refused_before_anything_is_built(
    task: TaskName, recipe: dict[str, Any], words: str, tmp_path: Path
) -> None:
    study = make_study({"data": {"path": "x"}, "recipe": recipe, "candidates": ["small:any"]})
    part = Split(("a",), (), ("b",))
    prepared = SimpleNamespace(dataset=Dataset(task, ("a", "b"), (), tmp_path), splits=Splits((part,), 0, "", {}))
    with pytest.raises(UsageError, match=f"any: .*{words}"):
        check_question(study, cast(Prepared, prepared))
