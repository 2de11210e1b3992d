"""kill -9 at random moments: nothing is lost, and the resumed run ends with the same weights, bit by bit."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bakeoff.data.digits import write_digits
from bakeoff.files import read_json
from bakeoff.study import make_study, to_toml

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("BAKEOFF_KILLS", "3"))


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Start a study in a process group of its own, saving a checkpoint at every step; what it says goes to a file."""
    command = [sys.executable, "-m", "bakeoff", "run", str(folder), "--quiet"]
    environment = {**os.environ, "BAKEOFF_CHECKPOINT_SECONDS": "0"}
    with folder.with_suffix(".log").open("wb") as log:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log, env=environment, start_new_session=True)


def hashes(folder: Path) -> dict[str, str]:
    """Return the weights hash of every finished run."""
    runs = [read_json(file) for file in folder.glob("runs/*/run.json")]
    return {run["id"]: run["facts"]["weights_hash"] for run in runs if run["state"] == "done"}


def steps(folder: Path) -> set[str]:
    """Return the checkpoints that are there."""
    return {str(path) for path in folder.glob("runs/*/checkpoints/*.pt")}


def test_killed_studies_end_as_if_they_had_not_been(tmp_path: Path) -> None:
    data = write_digits(tmp_path / "digits", 16)
    study = make_study(
        {
            "data": {"path": str(data)},
            "size": 16,
            "seeds": 1,
            "repeat_one": False,
            "execution": {"precision": "fp32"},
            "recipe": {"epochs": 4, "batch": 32, "augment": "digits", "ema": 0.9},
            "candidates": ["small:cnn", "small:mlp"],
        }
    )
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "study.toml").write_text(to_toml(study))
    assert start(tmp_path / "whole").wait(300) == 0
    (tmp_path / "killed" / "execution.json").write_bytes((tmp_path / "whole" / "execution.json").read_bytes())
    draws, kills = random.Random(0), 0
    while kills < KILLS:
        process = start(tmp_path / "killed")
        before, deadline = steps(tmp_path / "killed"), time.monotonic() + 120
        while steps(tmp_path / "killed") <= before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)  # training has gone on
        if process.poll() is not None:
            break
        time.sleep(draws.uniform(0, 1.5))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        kills += 1
    process = start(tmp_path / "killed")
    assert process.wait(300) == 0, (tmp_path / "killed.log").read_text()
    assert kills >= min(2, KILLS)
    assert hashes(tmp_path / "killed") == hashes(tmp_path / "whole")
    assert len(hashes(tmp_path / "whole")) == 2
