"""Kinds of detection errors on scenes made by hand, what mending them brings, and labels that look wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from bakeoff.data.targets import Boxes
from bakeoff.tasks.detection import Detection
from bakeoff.tasks.matching import KINDS
from bakeoff.tasks.mistakes import confusion, doubtful, error_gains, error_kinds
from bakeoff.tasks.precision import best_score, mean_precision

sys.path.insert(0, str(Path(__file__).parent))

from simulated_scenes import box_scene, outcomes

TASK = Detection(("cat", "dog", "owl"))
OBJECT = (0.0, 0.0, 40.0, 40.0)
Row = tuple[tuple[float, float, float, float], int, float]


def truth(*objects: tuple[tuple[float, float, float, float], int], crowd: bool = False) -> Boxes:
    boxes, labels = np.array([box for box, _ in objects]), np.array([label for _, label in objects], int)
    return Boxes((100, 100), boxes, labels, crowd=np.full(len(labels), crowd))


def found(*rows: Row) -> Boxes:
    boxes, labels, scores = ([row[place] for row in rows] for place in range(3))
    return Boxes((100, 100), np.array(boxes), np.array(labels, int), np.array(scores, float))


CASES: list[tuple[str, Row, bool]] = [
    ("found", (OBJECT, 0, 0.5), False),
    ("duplicate", ((0, 0, 40, 38), 0, 0.5), True),  # a better detection has it
    ("wrong class", (OBJECT, 1, 0.5), False),
    ("wrong class", (OBJECT, 1, 0.5), True),  # beside the right one
    ("badly placed", ((0, 20, 40, 60), 0, 0.5), False),  # IoU 1/3
    ("both", ((0, 20, 40, 60), 1, 0.5), False),
    ("background", ((60, 60, 90, 90), 0, 0.5), False),
    ("background", ((36, 36, 90, 90), 0, 0.5), False),  # IoU .004
]


@pytest.mark.parametrize(("kind", "row", "known"), CASES, ids=[f"{row[0]} {row[2]}" for row in CASES])
def test_every_kind_is_told(kind: str, row: Row, known: bool) -> None:
    rows = [(OBJECT, 0, 0.9), row] if known else [row]
    stored = outcomes(TASK, [(found(*rows), truth((OBJECT, 0)))])
    assert KINDS[stored.columns["kinds"][0, len(rows) - 1]] == kind
    about = stored.columns["about"][0, len(rows) - 1], stored.columns["about_labels"][0, len(rows) - 1]
    assert about == ((-1, -1) if kind == "background" else (0, 0))
    counts = {name: int(count.sum()) for name, count in error_kinds(stored, 0.1).items()}
    explained = known or kind in ("found", "wrong class", "badly placed")
    assert counts == dict.fromkeys(counts, 0) | {"missed": int(not explained)} | ({} if kind == "found" else {kind: 1})


def test_a_crowd_is_neither_missed_nor_mistaken() -> None:
    stored = outcomes(TASK, [(found((OBJECT, 0, 0.9)), truth((OBJECT, 0), crowd=True))])
    assert KINDS[stored.columns["kinds"][0, 0]] == "not judged"
    assert not any(count.any() for count in error_kinds(stored, 0.1).values())


def test_errors_are_counted_by_class_above_a_score() -> None:
    objects = truth((OBJECT, 0), ((50, 50, 90, 90), 1))
    stored = outcomes(TASK, [(found((OBJECT, 2, 0.8), ((50, 50, 90, 90), 1, 0.4), ((0, 60, 30, 90), 1, 0.2)), objects)])
    low, high = error_kinds(stored, 0.1), error_kinds(stored, 0.5)
    assert low["wrong class"].tolist() == [0, 0, 1]
    assert low["background"].tolist() == [0, 1, 0]
    assert not low["missed"].any()
    assert high["missed"].tolist() == [0, 1, 0], "the detection that finds it is below the score"
    assert not high["background"].any()
    assert confusion(stored, 0.1).tolist() == [[0, 0, 1], [0, 1, 0], [0, 0, 0]]
    chosen = error_kinds(stored, best_score(stored)[0])
    assert {name: count.tolist() for name, count in error_kinds(stored).items()} == {
        name: count.tolist() for name, count in chosen.items()
    }


MENDED = [
    ("duplicate", [((0, 0, 40, 38), 0, 0.8), (OBJECT, 0, 0.9), ((50, 50, 90, 90), 0, 0.5)]),  # the second is found last
    ("wrong class", [(OBJECT, 1, 0.9), ((50, 50, 90, 90), 0, 0.5)]),
    ("badly placed", [((0, 20, 40, 60), 0, 0.9), ((50, 50, 90, 90), 0, 0.5)]),
    ("both", [((0, 20, 40, 60), 1, 0.95), (OBJECT, 0, 0.9), ((50, 50, 90, 90), 0, 0.5)]),
    ("background", [((60, 0, 90, 30), 0, 0.95), (OBJECT, 0, 0.9), ((50, 50, 90, 90), 0, 0.5)]),
    ("missed", [((50, 50, 90, 90), 0, 0.5)]),
]


@pytest.mark.parametrize(("kind", "rows"), MENDED, ids=[row[0] for row in MENDED])
def test_mending_the_only_kind_of_error_gives_a_perfect_score(kind: str, rows: list[Row]) -> None:
    pair: list[tuple[tuple[float, float, float, float], int]] = [(OBJECT, 0), ((50, 50, 90, 90), 0)]
    scenes = [(found(*rows), truth(*pair))]
    if kind == "both":  # of a class that has an object of its own, else its precision is never asked for
        scenes.append((found(((0, 0, 30, 30), 1, 0.5)), truth(((0, 0, 30, 30), 1))))
    stored = outcomes(TASK, scenes)
    now, gains = mean_precision(stored, threshold=0), error_gains(stored)
    assert now < 1
    assert gains.pop(kind) == pytest.approx(1 - now)
    assert set(gains.values()) == {0.0}


def test_gains_are_never_negative_for_what_is_taken_away() -> None:
    draws = np.random.default_rng(1)
    stored = outcomes(TASK, [box_scene(draws, 3) for _ in range(20)])
    gains = error_gains(stored)
    assert all(gains[kind] >= 0 for kind in ("missed", "duplicate", "both", "background"))
    assert max(gains.values()) > 0.01
    assert mean_precision(stored, threshold=0) + max(gains.values()) <= 1


def test_labels_that_all_runs_contradict_are_doubtful() -> None:
    other = ((50.0, 50.0, 90.0, 90.0), 1)
    right, wide = found((OBJECT, 0, 0.95)), truth((OBJECT, 0))
    scenes = {
        "forgotten": [found((OBJECT, 0, 0.95), (*other, 0.99)), found((*other, 0.97), (OBJECT, 0, 0.9))],
        "misnamed": [found((OBJECT, 1, 0.92)), found((OBJECT, 1, 0.94))],
        "one sure run": [found((OBJECT, 0, 0.95), (*other, 0.99)), right],
        "unsure": [found((OBJECT, 0, 0.95), (*other, 0.8)), found((OBJECT, 0, 0.95), (*other, 0.95))],
        "different": [found((OBJECT, 1, 0.95)), found((OBJECT, 2, 0.95))],
        "fine": [right, right],
    }
    runs = []
    for run in range(2):
        stored = outcomes(TASK, [(rows[run], wide) for rows in scenes.values()])
        runs.append(type(stored)(tuple(scenes), stored.classes, stored.columns))
    assert doubtful(runs) == ("forgotten", "misnamed")
    assert TASK.doubtful(runs) == doubtful(runs)
    assert doubtful([]) == ()
