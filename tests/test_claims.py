"""docs/protocol.md, 9, end to end: equal candidates are seldom told apart, a planted handicap nearly always is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bakeoff import contest
from bakeoff.compare import Comparison
from bakeoff.data import formats
from bakeoff.data.digits import write_digits
from bakeoff.study import make_study

pytestmark = [pytest.mark.usefixtures("inline"), pytest.mark.slow]
STAGED = {"race": True, "looks": [3, 4], "tune": {"trials": 3, "space": {"rate": [0.5, 2.0]}}}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return half of the digits: 898 images of 16 pixels."""
    whole = formats.read(write_digits(tmp_path_factory.mktemp("all") / "digits", 16))
    target = tmp_path_factory.mktemp("claims") / "digits"
    formats.write(whole.without(record.id for place, record in enumerate(whole.records) if place % 2), target, "folder")
    return target


def studies(
    digits: Path, folder: Path, count: int, recipes: dict[str, dict[str, Any]], **fields: Any
) -> Iterator[Comparison]:
    """Run studies of one network under the names of `recipes`, each study with its own split and seeds."""
    for number in range(count):
        model = {"arch": "small:mlp", "options": {"hidden": 64}}
        content = {
            "data": {"path": str(digits)},
            "size": 16,
            "seeds": 3,
            "first_seed": 100 * number,
            "repeat_one": False,
            "split": {"seed": number, "val": 0.15, "test": 0.5},
            "recipe": {"epochs": 4, "batch": 32, "augment": "none", "stages": [{"rate": 1e-2}]},
            "candidates": [{"name": name, "model": model, "recipe": recipe} for name, recipe in recipes.items()],
            **fields,
        }
        yield contest.run(make_study(content), folder / str(number))


def worse(found: Comparison) -> set[str]:
    """Return who came out worse: by a claim in the contest, or stopped in the race."""
    decided = [pair for pair in found.pairs if pair.kind in ("better", "worse")]
    shown = {pair.b if pair.kind == "better" else pair.a for pair in decided}
    return shown | {one.candidate for one in found.dropped}


def noisy(share: float) -> dict[str, Any]:
    """Return a recipe with shuffled labels, long enough to learn them by heart."""
    return {"label_noise": share, "epochs": 12}


def test_the_same_candidate_under_two_names_is_seldom_told_apart(digits: Path, tmp_path: Path) -> None:
    found = [worse(one) for one in studies(digits, tmp_path, 20, {"A": {}, "B": {}})]
    assert sum(map(bool, found)) <= 3


def test_shuffled_training_labels_are_found(digits: Path, tmp_path: Path) -> None:
    recipes = {"A": noisy(0.0), "B": noisy(0.4)}
    found = [worse(one) for one in studies(digits, tmp_path, 20, recipes)]
    assert found.count({"B"}) >= 18
    assert not any("A" in one for one in found)


def test_equals_stay_equal_through_tuning_a_race_and_looks(digits: Path, tmp_path: Path) -> None:
    found = list(studies(digits, tmp_path, 4, {name: {"epochs": 8} for name in "ABC"}, **STAGED))
    assert sum(bool(worse(one)) for one in found) <= 1
    for one in found:
        assert {entry.used for entry in one.tuning} == {3}
        assert any(finding.code == "race" for finding in one.findings)
        assert one.looks.seeds == (3, 4)


def test_shuffled_labels_are_found_through_tuning_a_race_and_looks(digits: Path, tmp_path: Path) -> None:
    recipes = {"A": noisy(0.0), "C": noisy(0.0), "B": noisy(0.5)}
    found = [worse(one) for one in studies(digits, tmp_path, 3, recipes, **STAGED)]
    assert all("B" in one for one in found)
    assert sum(bool(one - {"B"}) for one in found) <= 1
