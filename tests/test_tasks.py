"""Every task through the front door: a study on scenes of digits, its report, predictions, scores; exact resume."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from bakeoff import execution
from bakeoff.cli import app
from bakeoff.data.augment import Augment, Mix
from bakeoff.data.cache import build_pixels
from bakeoff.data.dataset import TaskName
from bakeoff.data.formats import read
from bakeoff.data.load import Feed
from bakeoff.data.scenes import write_scenes
from bakeoff.data.stored import build_targets, open_targets
from bakeoff.errors import Refused
from bakeoff.models import FAMILIES, build
from bakeoff.models.spec import ModelSpec
from bakeoff.models.trained import weights_hash
from bakeoff.tasks import TASKS
from bakeoff.tasks.inference import Conditions
from bakeoff.train.loop import State, Step, train
from bakeoff.train.recipe import Recipe, Stage

DENSE: tuple[TaskName, ...] = ("semantic", "detection", "instance")
SIZE = 64


def small(task: TaskName) -> str:
    """Return the first small network for a task."""
    return f"small:{FAMILIES[0].names(task)[0]}"


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
candidates = [{{ name = "a", model = "{small(task)}" }}, {{ name = "b", model = "{small(task)}" }}]
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
        mix=Mix(len(dataset.classes)),
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
    monkeypatch.setattr("bakeoff.contest.guard", execution.guard)  # which the other studies here go without
    monkeypatch.setattr("bakeoff.contest.open_engine", lambda _decided: pytest.fail("something is trained"))
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
