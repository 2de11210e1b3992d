"""Looking into runs, through the front door: what a study with `diagnose` trains, writes down and reports."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

sys.path.insert(0, str(Path(__file__).parent / "report"))

from page import Page

from bakeoff import verbs
from bakeoff.data import formats
from bakeoff.data.digits import write_digits
from bakeoff.errors import UsageError
from bakeoff.execute import execute
from bakeoff.store import StudyFolder

pytestmark = pytest.mark.usefixtures("inline")
NETS = """
from torch import nn


class Layer(nn.Module):
    def __init__(self, shortcut):
        super().__init__()
        self.shortcut, self.linear, self.relu = shortcut, nn.Linear(24, 24), nn.ReLU()

    def forward(self, x):
        return self.relu(self.linear(x)) + (x if self.shortcut else 0)


def build(classes, size, shortcut):
    layers = [Layer(shortcut) for _ in range(14)]
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * size * size, 24), *layers, nn.Linear(24, classes))
"""
TIMED = ("seconds", "images_per_second")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return 200 digits of 16 pixels in class folders, and a file of networks beside them."""
    folder = tmp_path_factory.mktemp("some")
    whole = formats.read(write_digits(tmp_path_factory.mktemp("all") / "digits", 16))
    some = whole.without(record.id for place, record in enumerate(whole.records) if place % 9)
    formats.write(some, folder / "digits", "folder")
    (folder / "nets.py").write_text(NETS)
    return folder / "digits"


def study(digits: Path, folder: Path, diagnose: bool, **settings: Any) -> StudyFolder:
    """Run a deep plain network against its residual twin."""
    nets = f"{digits.parent / 'nets.py'}:build"
    models = {name: {"arch": nets, "options": {"shortcut": name == "residual"}} for name in ("plain", "residual")}
    quick = {
        "size": 16,
        "seeds": 2,
        "recipe.epochs": 2,
        "recipe.augment": "none",
        "execution.diagnose": diagnose,
        "candidates": [{"name": name, "model": model} for name, model in models.items()],
        **settings,
    }
    verbs.run(digits, folder, settings=quick)
    return StudyFolder(folder)


def diagnoses(folder: StudyFolder) -> dict[str, int]:
    """Return how many steps were looked into in every run that is planned."""
    return {
        run.id: sum(fact["kind"] == "diagnosis" for fact in folder.run(run.id).history()) for run in folder.planned()
    }


def results(folder: StudyFolder) -> dict[str, str]:
    """Return the weights hash of every planned run; which one is repeated depends on how fast they are."""
    return {run.id: run.facts["weights_hash"] for run in folder.planned() if not run.id.endswith("-again")}


def test_looking_shows_a_vanishing_gradient_and_changes_no_result(digits: Path, tmp_path: Path) -> None:
    blind = study(digits, tmp_path / "blind", diagnose=False)
    assert set(diagnoses(blind).values()) == {0}
    assert "Inside the training" not in Page(blind.report).text
    before = results(blind)
    assert results(study(digits, tmp_path / "blind", diagnose=True)) == before  # done runs stay as they are
    assert "Not looked into, since its runs were trained before diagnose was switched on" in Page(blind.report).text

    seeing = study(digits, tmp_path / "seeing", diagnose=True)
    assert results(seeing) == before
    assert sorted(diagnoses(seeing).values()) == [0, 5, 5, 5, 5]
    repeated = next(run for run in seeing.planned() if run.id.endswith("-again"))
    assert diagnoses(seeing)[repeated.id] == 0
    assert repeated.facts["weights_hash"] == before[repeated.id.removesuffix("-again")]
    page = Page(seeing.report)
    one, two = re.findall(r"The gradient (\w+) .*? its norm is (\S+) .*? 5 steps of 2 runs", page.text)
    assert {one[0], two[0]} == {"vanishes", "reaches"}
    shown = next(words for said, words in (one, two) if said == "vanishes")
    reach = 1 / int(shown.removeprefix("1/").replace(",", ""))
    facts = [
        fact
        for run in seeing.planned()
        if run.candidate == "plain"
        for fact in seeing.run(run.id).history()
        if fact["kind"] == "diagnosis"
    ]
    reaches = sorted(fact["gradient"][0] / fact["gradient"][-1] for fact in facts)
    assert reaches[0] < reach < reaches[-1] < 0.01
    assert {"line layer d0", "line layer d9", "line thick k0", "line thick k1"} <= set(page.values("class"))


def test_a_run_that_is_cut_writes_the_same_history(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = study(digits, tmp_path / "study", diagnose=True, seeds=1, repeat_one=False)
    run = folder.planned()[0]
    here = folder.run(run.id)
    whole, result = untimed(here.history()), run.facts["weights_hash"]
    shutil.rmtree(here.path)
    here.write(replace(run, state="new", facts={}))
    monkeypatch.setenv("BAKEOFF_CHECKPOINT_SECONDS", "0")
    payload = {"study": str(folder.path), "run": run.id, "device": "cpu", "diagnose": True}
    for stop in (2, 4, 5):  # after so many diagnoses, which come in front of their step
        facts = execute(payload)
        while sum(fact["kind"] == "diagnosis" for fact in here.history()) < stop:
            next(facts)
        cast("Generator[Any, None, None]", facts).close()
    list(execute(payload))
    again = here.read()
    assert again is not None
    assert again.facts["weights_hash"] == result
    assert untimed(here.history()) == whole


def untimed(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return facts less what a clock says."""
    return [{key: value for key, value in fact.items() if key not in TIMED} for fact in history]


def test_the_field_is_found_where_it_does_not_belong(digits: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown key diagnose \(diagnose stands in \[execution\]"):
        verbs.run(digits, tmp_path / "study", settings={"diagnose": True, "candidates": ["small:mlp", "small:cnn"]})
