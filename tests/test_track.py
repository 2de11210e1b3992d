"""Trackers through the front door: what was logged is read back by their own readers and compared with the history."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bakeoff import verbs
from bakeoff.cli import app
from bakeoff.errors import ResourceError, UsageError
from bakeoff.store import StudyFolder
from bakeoff.track import TRACKERS, trackers
from bakeoff.track.log import point

pytestmark = pytest.mark.usefixtures("inline")
Scalars = dict[tuple[str, int], float]  # (tag, step) -> value
BOTH = ("tensorboard", "mlflow")
QUICK = {
    "size": 16,
    "seeds": 1,
    "split.val": 0.1,
    "repeat_one": False,
    "recipe.epochs": 3,
    "recipe.augment": "none",
    "recipe.stages": [{"layers": "head", "epochs": 1, "rate": 1e-2}, {"rate": 1e-3}],
    "execution.diagnose": True,
    "candidates": [
        {"name": name, "model": {"arch": "small:mlp", "options": {"hidden": hidden}}}
        for name, hidden in (("wide", 32), ("narrow", 4))
    ],
}


@pytest.fixture(scope="module")
def digits(some_digits: Callable[..., Path]) -> Path:
    """Return 200 digits of 16 pixels in class folders."""
    return some_digits(9)


def tensorboard(folder: Path, run: str) -> Scalars:
    """Read the scalars of a run as TensorBoard does; a tag has one value at a step."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder / "tracking" / "tensorboard" / run)).Reload()
    found = [((tag, e.step), e.value) for tag in read.Tags()["scalars"] for e in read.Scalars(tag)]
    assert len(dict(found)) == len(found)
    return dict(found)


def mlflow_run(folder: Path, run: str) -> Any:
    """Return MLflow's run of a run, of which there is one."""
    client = mlflow_client(folder)
    experiment = client.get_experiment_by_name(folder.name)
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id], f"tags.`bakeoff.run` = '{run}'")
    return found


def mlflow_client(folder: Path) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{folder}/tracking/mlflow/mlflow.db")


def mlflow(folder: Path, run: str) -> Scalars:
    """Read the metrics of a run as MLflow does; a metric has one value at a step."""
    found, client = mlflow_run(folder, run), mlflow_client(folder)
    tags = found.data.metrics
    values = [((tag, m.step), m.value) for tag in tags for m in client.get_metric_history(found.info.run_id, tag)]
    assert len(dict(values)) == len(values)
    return dict(values)


READERS = {"tensorboard": tensorboard, "mlflow": mlflow}


def expected(folder: Path, run: str, tested: bool = True) -> Scalars:
    """Return what a history, and the test metrics, should have become."""
    found: Scalars = {}
    for fact in StudyFolder(folder).run(run).history():
        at = fact["step"]
        if fact["kind"] == "epoch":
            found["epoch", at] = fact["epoch"] + 1
            found |= {(f"train/{name}", at): fact[key] for name, key in (("loss", "train_loss"), ("rate", "rate"))}
            found["train/images_per_second", at] = fact["images_per_second"]
            found |= {(f"val/{name}", at): v for name, v in fact["val"].items() if v is not None}
            found["val/loss", at] = fact["val_loss"]
        elif fact["kind"] == "best":
            found["val/best", at] = fact["value"]
        elif fact["kind"] == "diagnosis":
            ratios = [
                u / w if u is not None and w else None for u, w in zip(fact["update"], fact["weight"], strict=True)
            ]
            for name, series in (("gradient", fact["gradient"]), ("update_ratio", ratios), ("dead", fact["dead"])):
                pairs = zip(fact["groups"], series, strict=True)
                found |= {(f"{name}/{group}", at): v for group, v in pairs if v is not None}
    stored = StudyFolder(folder).run(run).read()
    assert stored is not None
    if tested:
        last = max(step for _, step in found)
        found |= {(f"test/{name}", last): value for name, value in stored.facts["metrics"].items()}
        costs = ("parameters", "flops", "seconds", "images_per_second")
        found |= {(f"cost/{name}", last): stored.facts[name] for name in costs}
    return found


def texts(folder: Path, run: str) -> list[tuple[str, int, str]]:
    """Return the texts of a run in TensorBoard, with their steps."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder / "tracking" / "tensorboard" / run)).Reload()
    tags = [tag for tag in read.Tags()["tensors"] if tag.endswith("/text_summary")]
    return [(tag, e.step, e.tensor_proto.string_val[0].decode()) for tag in tags for e in read.Tensors(tag)]


def test_live_resumed_and_afterwards_are_the_same_and_say_what_the_history_says(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAKEOFF_CHECKPOINT_SECONDS", "0")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    verbs.run(digits, tmp_path / "plain", settings=QUICK)
    folder = tmp_path / "study"

    def cut(run: str, fact: dict[str, Any]) -> None:
        if run.startswith("narrow-s1") and fact["kind"] == "epoch" and fact["epoch"] == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verbs.run(digits, folder, settings=QUICK, tell=cut, track=BOTH)
    first, torn = (run.id for run in sorted(StudyFolder(folder).runs(), key=lambda run: run.state))
    for read in READERS.values():  # the test split has not spoken yet
        assert read(folder, first) == pytest.approx(expected(folder, first, tested=False))
        assert 0 < len(read(folder, torn)) < len(read(folder, first))
    assert {mlflow_run(folder, id).info.status for id in (first, torn)} == {"FINISHED", "KILLED"}

    verbs.run(folder, track=BOTH)
    runs = [run.id for run in StudyFolder(folder).runs()]
    assert {run.id: run.facts["weights_hash"] for run in StudyFolder(folder).runs()} == {
        run.id: run.facts["weights_hash"] for run in StudyFolder(tmp_path / "plain").runs()
    }
    live = {name: {run: read(folder, run) for run in runs} for name, read in READERS.items()}
    said = {run: texts(folder, run) for run in runs}
    for name, found in live.items():
        for run in runs:
            assert found[run] == pytest.approx(expected(folder, run), rel=1e-6), name
    assert [text for tag, _, text in said[torn] if tag.startswith("marks")] == [
        "stage 1 begins: trains head at the rate 0.01",
        "stage 2 begins: trains all at the rate 0.001",
    ]
    one = mlflow_run(folder, torn)
    assert one.info.status == "FINISHED"
    assert one.data.params["model.options.hidden"] == "4"
    assert one.data.params["recipe.stages.0.layers"] == "head"
    assert {key: one.data.tags[f"bakeoff.{key}"] for key in ("candidate", "seed", "fold", "hash")} == {
        "candidate": "narrow",
        "seed": "1",
        "fold": "0",
        "hash": torn.rpartition("-")[2],
    }
    assert (
        one.data.tags["mlflow.note.content"].splitlines()[0] == "- step 0: stage 1 begins: trains head at the rate 0.01"
    )

    ids = {run: mlflow_run(folder, run).info.run_id for run in runs}
    result = CliRunner().invoke(app, ["report", str(folder), "--track", "mlflow, tensorboard"])
    assert result.exit_code == 0
    assert {run: mlflow_run(folder, run).info.run_id for run in runs} == ids  # nothing changed, nothing is written anew
    shutil.rmtree(folder / "tracking" / "tensorboard")
    for run in runs:
        mlflow_client(folder).delete_run(ids[run])
    verbs.report(folder, track=BOTH)
    assert {name: {run: read(folder, run) for run in runs} for name, read in READERS.items()} == live
    assert {run: texts(folder, run) for run in runs} == said
    assert not {mlflow_run(folder, run).info.run_id for run in runs} & set(ids.values())

    study = mlflow_run(folder, "study")
    assert study.data.tags["mlflow.note.content"] == json.loads((folder / "comparison.json").read_text())["verdict"]
    kept = {file.path for file in mlflow_client(folder).list_artifacts(study.info.run_id)}
    assert kept == {"comparison.json", "report.html"}
    assert mlflow_run(folder, torn).data.tags["mlflow.parentRunId"] == study.info.run_id


def test_a_tracker_that_fails_is_told_of_once_and_the_study_goes_on(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    told: list[dict[str, Any]] = []
    folder = tmp_path / "study"
    settings = {**QUICK, "recipe.epochs": 2}
    verbs.run(digits, folder, settings=settings, tell=lambda _, fact: told.append(fact), track=BOTH)
    (warning,) = [fact["sentence"] for fact in told if fact.get("code") == "tracking"]
    assert "tracking with mlflow stopped: " in warning
    assert f"bakeoff report {folder} --track mlflow" in warning
    run = StudyFolder(folder).runs()[0].id
    assert tensorboard(folder, run) == pytest.approx(expected(folder, run), rel=1e-6)  # the other one has all
    with pytest.raises(ResourceError, match="mlflow: "):
        verbs.report(folder, track=["mlflow"])


def test_what_cannot_be_tracked_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"no tracker 'tensorbord' \(did you mean tensorboard\?\)"):
        verbs.run(tmp_path / "nothing", track=["tensorbord"])
    assert [tracker.NAME for tracker in trackers(TRACKERS)] == list(TRACKERS)
    for name, package in zip(TRACKERS, ("tensorboard", "mlflow"), strict=True):
        monkeypatch.delitem(sys.modules, f"bakeoff.track.{name}")
        for module in [module for module in sys.modules if module.split(".")[0] == package]:
            monkeypatch.delitem(sys.modules, module)
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(UsageError, match=r"pip install 'bakeoff\[track\]'"):
            verbs.report(tmp_path / "nothing", track=[name])


@pytest.mark.parametrize(
    ("fact", "words"),
    [
        ({"kind": "gap", "gap": 0.31, "taken": 4}, "opened (0.31); goes on from the weights after epoch 5"),  # until
        ({"kind": "stopped", "patience": 3}, "stopped early: no better for 3 epochs"),  # early_stop
        ({"kind": "step", "loss": 1.0}, None),  # not in any history
        ({"kind": "started", "pid": 1}, None),  # of the engine
    ],
)
def test_marks(fact: dict[str, Any], words: str | None) -> None:
    found = point({"epoch": 9, "step": 90, **fact}, 1.0)
    assert (found is None) == (words is None)
    if found is not None and words is not None:
        assert (found.step, found.scalars) == (90, {})
        assert words in found.mark
