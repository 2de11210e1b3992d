"""The doctor: every promise is tried for every task, and a broken one is an error that says what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import Tensor

from bakeoff.data.load import Sample, Samples
from bakeoff.data.targets import Label
from bakeoff.doctor import doctor, trials
from bakeoff.doctor.trials import TRIALS, Trial
from bakeoff.models import TASK_NAMES
from bakeoff.tasks.classification import Classification

CLASSES = TRIALS["classification"]


def test_every_task_is_tried() -> None:
    assert tuple(TRIALS) == TASK_NAMES


@pytest.mark.parametrize("task", TASK_NAMES)
def test_every_promise_is_kept(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if task != "semantic":  # starting a process takes seconds
        monkeypatch.setattr(trials, "LOADERS", 0)
    found = [(one["code"], one["severity"]) for one in trials.attempt({"task": task})]
    assert found == [(code, "info") for code in ("resume", "skip", "gradient", "overfit", "shuffled")]


def test_findings_come_in_the_order_of_the_tasks(inline: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def attempt(payload: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield {"code": "trial", "severity": "info", "sentence": payload["task"], "records": []}

    monkeypatch.setattr(trials, "attempt", attempt)
    found = doctor()
    assert [one.sentence for one in found if one.code == "trial"] == list(TASK_NAMES)
    assert [one.code for one in found if one.code != "trial"] == ["versions", "device", "disk", "memory", "statistics"]
    assert not [one for one in found if one.severity == "error"]


def test_an_answer_that_leaks_into_the_input_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every image has one brightness, that of the label which it is trained or judged with."""
    feed = trials._feed(CLASSES, tmp_path)
    assert trials._shuffled(CLASSES, feed).severity == "info"
    whole = Samples.__getitem__

    def leaking(self: Samples, ticket: tuple[int, int]) -> Sample:
        image, label, seed = whole(self, ticket)
        return np.full_like(image, 20 * label), label, seed

    def told(path: Path) -> NDArray[np.uint8]:
        labels = [target.index for target in feed.targets if isinstance(target, Label)]
        return np.tile(20 * np.array(labels, np.uint8)[:, None, None, None], (1, 32, 32, 3))

    monkeypatch.setattr(Samples, "__getitem__", leaking)
    monkeypatch.setattr(trials, "open_pixels", told)
    found = trials._shuffled(replace(CLASSES, epochs=30), feed)
    assert found.severity == "error"
    assert found.sentence.startswith("classification: the answer leaks into the input: Accuracy ")


def test_a_network_that_learns_nothing_is_found(tmp_path: Path) -> None:
    lame = replace(CLASSES, rate=1e-9)
    found = trials._shuffled(lame, trials._feed(lame, tmp_path))
    assert found.severity == "error"
    assert "the small network learns too little" in found.sentence


def test_a_run_that_does_not_resume_equal_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, draws = Classification.loss, np.random.default_rng(0)

    def noisy(self: Classification, net: Any, batch: Any) -> Tensor:
        return whole(self, net, batch) * draws.uniform(0.9, 1.1)

    monkeypatch.setattr(Classification, "loss", noisy)
    monkeypatch.setattr(trials, "LOADERS", 0)
    found = trials._resumes(CLASSES, trials._feed(CLASSES, tmp_path))
    assert found.severity == "error"
    assert "a resumed run ends with other weights" in found.sentence


def test_a_trial_is_the_same_every_time() -> None:
    first, second = (Trial("classification", "cnn").state(1).network.state_dict() for _ in range(2))
    assert all(bool((first[name] == second[name]).all()) for name in first)
