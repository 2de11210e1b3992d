"""Derived images as candidates of one study: equal steps, one split, and originals alone as if there were no others."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent / "data"))

from photos import photos

import bakeoff
from bakeoff import execute, verbs_data
from bakeoff.cli import app
from bakeoff.data import formats
from bakeoff.data.expand import Expansion
from bakeoff.data.targets import Label
from bakeoff.errors import UsageError
from bakeoff.files import read_json
from bakeoff.store import Run, StudyFolder
from bakeoff.train.recipe import Recipe

DERIVED: dict[str, list[str]] = {"plain": [], "cut out": ["background"], "both": ["all"]}


def study(data: Path, derived: dict[str, list[str]]) -> bakeoff.Study:
    """Return a study of one small network under recipes that differ in the derived images."""
    from bakeoff.study import make_study

    recipe = {"epochs": 2, "batch": 5, "augment": "flip"}
    candidates = [
        {"name": name, "model": "small:cnn", "recipe": {**recipe, "derived": names}} for name, names in derived.items()
    ]
    content = {
        "data": {"path": str(data)},
        "size": 32,
        "seeds": 1,
        "repeat_one": False,
        "split": {"val": 0.2, "test": 0.3},
        "candidates": candidates,
    }
    return make_study(content)


def runs(folder: Path) -> dict[str, Run]:
    """Return the runs of a study by candidate."""
    return {run.candidate: run for run in StudyFolder(folder).planned()}


@pytest.mark.usefixtures("inline")
def test_candidates_of_one_study_on_one_expanded_dataset(tmp_path: Path) -> None:
    from bakeoff import contest

    source = photos(tmp_path / "source", 12)
    told = CliRunner().invoke(
        app, ["data", "expand", str(source), str(tmp_path / "more"), "--background", "12", "--cutmix", "30", "--quiet"]
    )
    assert told.exit_code == 0, told.output
    assert told.stdout.endswith("more: 24 originals, 12 background, 30 cutmix\n")
    contest.run(study(tmp_path / "more", DERIVED), tmp_path / "study")
    contest.run(study(_alone(tmp_path), {"plain": ["all"]}), tmp_path / "alone")
    done, alone = runs(tmp_path / "study"), runs(tmp_path / "alone")
    assert done["plain"].facts["weights_hash"] == alone["plain"].facts["weights_hash"]  # as if there were none
    assert len({run.facts["weights_hash"] for run in done.values()}) == 3
    histories = [StudyFolder(tmp_path / "study").run(run.id).history() for run in done.values()]
    assert {tuple(fact["step"] for fact in history if fact["kind"] == "epoch") for history in histories} == {(2, 4)}
    comparison = read_json(StudyFolder(tmp_path / "study").comparison)
    (control,) = [c for c in comparison["controls"] if c["name"] == "recipe.derived"]
    assert (control["status"], control["values"]["cut out"]) == ("declared", ["background"])
    _check_feeds(tmp_path / "study", done)


def _alone(folder: Path) -> Path:
    """Write the originals of the expanded data as a table of their own, under the same names."""
    more = formats.read(folder / "more")
    formats.table.write_rows(more.originals, folder / "more" / "originals.csv", {id: id for id in more.index})
    return folder / "more" / "originals.csv"


def _check_feeds(folder: Path, done: dict[str, Run]) -> None:
    """What each candidate draws from: its kinds, an epoch as long as the originals, labels that go with them."""
    for name, kinds in DERIVED.items():
        work = execute._open({"study": str(folder), "run": done[name].id})
        feed, train = execute.make_feed(work), work.split.train
        records = [work.dataset.records[row] for row in feed.rows]
        assert [record.id for record in records[: len(train)]] == [*train]
        methods = {record.derived.by for record in records[len(train) :] if record.derived}
        assert methods == ({"background", "cutmix"} if kinds == ["all"] else {*kinds})
        assert all({*record.derived.of} <= {*train} for record in records if record.derived)
        assert feed.length == (len(train) if kinds else None)
        assert np.array_equal(feed.labels, feed.rows)
        noisy = replace(work, recipe=Recipe.model_validate({**work.recipe.model_dump(), "label_noise": 0.9}))
        labels = execute.make_feed(noisy).labels
        assert sorted(labels[: len(train)]) == sorted(work.rows(train))
        assert np.array_equal(labels[: len(train)], _noise_alone(noisy, len(train)))
        believed = dict(zip(train, labels, strict=False))
        assert all(believed[r.derived.of[0]] == n for r, n in zip(records, labels, strict=True) if r.derived)
        weighted = replace(work, recipe=Recipe.model_validate({**work.recipe.model_dump(), "balanced": True}))
        weights = execute.make_feed(weighted).weights
        assert weights is not None
        classes = np.array([record.target.index for record in records if isinstance(record.target, Label)])
        assert weights[classes == 0].sum() == pytest.approx(weights[classes == 1].sum())
        assert execute._counts(work).sum() == len(feed.rows)


def _noise_alone(work: execute.Work, count: int) -> Any:
    """Return the labels that the same recipe has without derived images."""
    recipe = Recipe.model_validate({**work.recipe.model_dump(), "derived": ()})
    return execute.make_feed(replace(work, recipe=recipe)).labels[:count]


@pytest.mark.usefixtures("inline")
def test_methods_that_the_data_do_not_have(tmp_path: Path) -> None:
    from bakeoff import contest

    source = photos(tmp_path / "source", 12)
    verbs_data.expand(source, tmp_path / "more", Expansion(cutmix=4))
    there = r"plain: recipe.derived names 'cutmixx' \(did you mean cutmix\?\), .*; it has \"all\", \"cutmix\""
    with pytest.raises(UsageError, match=there):
        contest.run(study(tmp_path / "more", {"plain": ["cutmixx"]}), tmp_path / "1")
    with pytest.raises(UsageError, match="it has none: `bakeoff data expand` makes them"):
        contest.run(study(source, {"plain": ["background"]}), tmp_path / "2")
    for folder in ("1", "2"):
        assert not list((tmp_path / folder).glob("runs/*"))
