"""kill -9 at random moments: nothing is lost, and the resumed run ends with the same weights, bit by bit."""

from __future__ import annotations

import json
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


def results(folder: Path) -> dict[str, tuple[str, list[str]]]:
    """Return the weights hash and the facts of training, less the seconds, of every finished run."""
    found = {}
    for file in folder.glob("runs/*/run.json"):
        facts = [json.loads(line) for line in (file.parent / "history.jsonl").read_text().splitlines()]
        for fact in facts:
            fact.pop("seconds", None)
            fact.pop("images_per_second", None)
        run = read_json(file)
        if run["state"] == "done":
            found[run["id"]] = (run["facts"]["weights_hash"], [json.dumps(fact, sort_keys=True) for fact in facts])
    return found


def steps(folder: Path) -> set[str]:
    """Return the checkpoints that are there."""
    return {str(path) for path in folder.glob("runs/*/checkpoints/*.pt")}


def wait(process: subprocess.Popen[bytes], folder: Path, draws: random.Random) -> None:
    """Wait for a random moment: half of the time while training, else anywhere between the start and the end."""
    if draws.random() < 0.5:
        time.sleep(draws.uniform(0.5, 10))
        return
    before, deadline = steps(folder), time.monotonic() + 60
    while steps(folder) <= before and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(draws.uniform(0, 1))


def test_killed_studies_end_as_if_they_had_not_been(tmp_path: Path) -> None:
    data = write_digits(tmp_path / "digits", 16)
    study = make_study(
        {
            "data": {"path": str(data)},
            "size": 16,
            "seeds": 1,
            "repeat_one": False,
            "execution": {"precision": "fp32", "diagnose": True},
            "recipe": {"epochs": 4 * KILLS, "batch": 32, "augment": "digits", "ema": 0.9},
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
        wait(process, tmp_path / "killed", draws)
        if process.poll() is not None:
            break  # it had come to its end
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        kills += 1
    process = start(tmp_path / "killed")
    assert process.wait(300) == 0, (tmp_path / "killed.log").read_text()
    assert kills >= min(2, KILLS)
    print(f"{kills} kills")
    assert results(tmp_path / "killed") == results(tmp_path / "whole")
    assert len(results(tmp_path / "whole")) == 2
