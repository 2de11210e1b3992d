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


def claims(digits: Path, folder: Path, epochs: int, handicap: dict[str, Any]) -> list[str]:
    """Run 20 studies of one network under two names, each with its own split and seeds; return who was better."""
    found = []
    for number in range(STUDIES):
        content = {
            "data": {"path": str(digits)},
            "size": 16,
            "seeds": 3,
            "first_seed": 100 * number,
            "repeat_one": False,
            "split": {"seed": number, "val": 0.1, "test": 0.5},
            "recipe": {"epochs": epochs, "batch": 64, "augment": "none", "stages": [{"rate": 1e-2}]},
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
