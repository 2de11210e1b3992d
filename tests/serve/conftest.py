"""Fabricated studies of all tasks whose runs have tiny random networks, served in this process."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))

from fabricate import Plan, make_study
from fabricate_scenes import Scenes, make_scenes

from bakeoff.data.dataset import TaskName
from bakeoff.models import build
from bakeoff.models.spec import ModelSpec
from bakeoff.models.trained import Trained, save
from bakeoff.report import write_report
from bakeoff.serve.app import make_app
from bakeoff.serve.gate import Key
from bakeoff.serve.limits import Limits
from bakeoff.serve.served import Served, open_study
from bakeoff.store import StudyFolder

PORT = 8642
SIZE = 32
TASKS: tuple[TaskName, ...] = ("classification", "semantic", "detection", "instance")
ARCHS = {
    "classification": "small:cnn",
    "semantic": "small:unet",
    "detection": "small:fcos",
    "instance": "small:mask_rcnn",
}
Folders = Callable[[TaskName], StudyFolder]
Open = Callable[..., tuple[TestClient, Served]]


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Return a function that gives the study of a task; classification is cross-validated."""

    @cache
    def make(task: TaskName) -> StudyFolder:
        path = tmp_path_factory.mktemp(task)
        if task == "classification":
            plan = Plan(
                ("cnn", "net <b>", "mlp"), (0.4, 0.3, 0.1), classes=("ant", "bee", "cow"), images=60, seeds=3, folds=2
            )
            folder = make_study(path / "study", plan)
        else:
            folder = make_scenes(path, Scenes(task, images=40, seeds=2, names=("big", "small"), skills=(0.9, 0.6)))
        for number, run in enumerate(folder.runs()):
            if run.state == "done":
                save(folder.run(run.id).path, network(task, folder, number))
        write_report(folder)
        return folder

    return make


def network(task: TaskName, folder: StudyFolder, seed: int) -> Trained:
    """Return a random network that is sure enough to find something."""
    classes = folder.run(next(run.id for run in folder.runs() if run.state == "done")).outcomes().classes
    spec = ModelSpec(arch=ARCHS[task], weights="none")
    torch.manual_seed(seed)
    net = build(spec, len(classes), SIZE, task).eval()
    for name, parameter in net.named_parameters():
        if name.endswith("cls_logits.bias"):  # at their start detectors find nothing
            torch.nn.init.zeros_(parameter)
        if name.endswith(("second.1.weight", "cls_logits.weight", "cls_score.weight")):
            torch.nn.init.normal_(parameter)
    return Trained(net, spec, task, classes, SIZE, "squash")


@pytest.fixture(scope="session")
def open_client(folders: Folders) -> Open:
    """Return a function that serves the study of a task to a program that has the token."""

    def serve(task: TaskName = "classification", **limits: float) -> tuple[TestClient, Served]:
        chosen = Limits(**limits)  # type: ignore[arg-type]  # ints are floats here
        study, key = open_study(folders(task).path, chosen), Key(PORT)
        base, own = f"http://127.0.0.1:{PORT}", {"Authorization": f"Bearer {key.token}"}
        return TestClient(make_app(study, key), base, headers=own, raise_server_exceptions=False), study

    return serve


@pytest.fixture(scope="session")
def photo() -> bytes:
    """Return a PNG of smooth colours."""
    coarse = np.random.default_rng(3).integers(0, 256, (5, 6, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((90, 70), Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def address(folders: Folders, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the address that `bakeoff serve` prints in a process of its own; Ctrl-C ends it without a word."""
    log = tmp_path_factory.mktemp("serve") / "stderr"
    command = [sys.executable, "-m", "bakeoff", "serve", str(folders("semantic").path), "--port", "0", "--no-open"]
    with (
        log.open("w") as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True) as process,
    ):
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stdout.read() == ""
    assert "Traceback" not in log.read_text()
