"""docs/protocol.md, 9, end to end: equal candidates are seldom told apart, a planted handicap nearly always is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bakeoff import contest
from bakeoff.data.digits import write_digits
from bakeoff.study import make_study

pytestmark = [pytest.mark.usefixtures("inline"), pytest.mark.slow]
STUDIES = 20


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("claims") / "digits", 16)


def claims(
    digits: Path, folder: Path, epochs: int, handicap: dict[str, Any], tuned: dict[str, Any] | None = None
) -> list[str]:
    """Run 20 studies of one network under two names, each with its own split and seeds; return who was better.

    5 studies where both are `tuned`.
    """
    found = []
    for number in range(5 if tuned else STUDIES):
        content = {
            "data": {"path": str(digits)},
            "size": 16,
            "seeds": 3,
            "first_seed": 100 * number,
            "repeat_one": False,
            "split": {"seed": number, "val": 0.1, "test": 0.5},
            "recipe": {"epochs": epochs, "batch": 64, "augment": "none", "stages": [{"rate": 1e-2}]},
            "tune": tuned or {},
            "candidates": [
                {"name": "A", "model": {"arch": "small:mlp", "options": {"hidden": 64}}},
                {"name": "B", "model": {"arch": "small:mlp", "options": {"hidden": 64}}, "recipe": handicap},
            ],
        }
        comparison = contest.run(make_study(content), folder / str(number))
        pair = comparison.pairs[0]
        if pair.kind in ("better", "worse"):
            found.append(pair.a if pair.kind == "better" else pair.b)
    return found


def test_the_same_candidate_under_two_names_is_seldom_told_apart(digits: Path, tmp_path: Path) -> None:
    assert len(claims(digits, tmp_path, 3, {})) <= 3


def test_shuffled_training_labels_are_found(digits: Path, tmp_path: Path) -> None:
    found = claims(digits, tmp_path, 20, {"label_noise": 0.3})  # long enough to learn them by heart
    assert found.count("A") >= 18
    assert "B" not in found


def test_the_same_candidate_tuned_under_two_names_is_seldom_told_apart(digits: Path, tmp_path: Path) -> None:
    assert len(claims(digits, tmp_path, 3, {}, {"trials": 3})) <= 1


def test_shuffled_training_labels_are_found_after_tuning(digits: Path, tmp_path: Path) -> None:
    found = claims(digits, tmp_path, 12, {"label_noise": 0.5}, {"trials": 3, "space": {"rate": [0.5, 2.0]}})
    assert found.count("A") >= 4
    assert "B" not in found


def staged(digits: Path, folder: Path, epochs: int, handicap: dict[str, Any]) -> list[set[str]]:
    """Run 4 studies of one network under three names with a race and looks; return who came out worse in each.

    Worse: stopped in the race, or by a claim in the contest.
    """
    worse = []
    for number in range(4):
        model = {"arch": "small:mlp", "options": {"hidden": 64}}
        content = {
            "data": {"path": str(digits)},
            "size": 16,
            "race": True,
            "looks": [3, 4],
            "first_seed": 100 * number,
            "repeat_one": False,
            "split": {"seed": number, "val": 0.15, "test": 0.5},
            "recipe": {"epochs": epochs, "batch": 64, "augment": "none", "stages": [{"rate": 1e-2}]},
            "candidates": [
                *({"name": name, "model": model} for name in "AC"),
                {"name": "B", "model": model, "recipe": handicap},
            ],
        }
        found = contest.run(make_study(content), folder / str(number))
        decided = [pair for pair in found.pairs if pair.kind in ("better", "worse")]
        shown = {pair.b if pair.kind == "better" else pair.a for pair in decided}
        worse.append(shown | {one.candidate for one in found.dropped})
    return worse


def test_equals_stay_equal_through_a_race_and_looks(digits: Path, tmp_path: Path) -> None:
    assert sum(bool(worse) for worse in staged(digits, tmp_path, 4, {})) <= 1


def test_shuffled_labels_are_found_by_a_race_and_looks(digits: Path, tmp_path: Path) -> None:
    found = staged(digits, tmp_path, 12, {"label_noise": 0.5})
    assert sum(worse == {"B"} for worse in found) >= 3
