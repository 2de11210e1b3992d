"""Kept predictions: what comes back from JSON is what was predicted, and a damaged file is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bakeoff.data.masks import to_runs
from bakeoff.data.predictions import LEAST_SCORE, prediction_from_json, prediction_json
from bakeoff.data.targets import IGNORE, Boxes, Coding, Instances, Label, LabelMap, MaskFiles, Target
from bakeoff.errors import DataError
from bakeoff.store import PICTURED, RunFolder, pictured

DRAWS = np.random.default_rng(0)
PIXELS = np.where(DRAWS.random((9, 9)) < 0.2, IGNORE, DRAWS.integers(0, 4, (9, 9))).astype(np.uint8)
SQUARE = np.zeros((8, 8), np.uint8)
SQUARE[2:5, 1:7] = 1
BOXES = [[0, 0, 4.25, 3], [1, 2, 7, 5]]
RUNS = (to_runs(SQUARE, (8, 8)), to_runs(1 - SQUARE, (8, 8)))
KEPT: list[Target] = [
    Label(1, (0.25, 0.75)),  # a class with its probabilities
    LabelMap(PIXELS),  # pixels of several classes, some ignored
    LabelMap(np.full((3, 5), IGNORE, np.uint8)),  # nothing but ignored pixels, not square
    Boxes((8, 8), np.array(BOXES), np.array([1, 0]), np.array([0.9, 0.25])),  # objects
    Boxes((8, 8), np.zeros((0, 4)), np.zeros(0, int), np.zeros(0)),  # no object
    Instances((8, 8), np.array(BOXES), np.array([1, 0]), np.array([0.9, 0.25]), masks=RUNS),  # objects with masks
]


@pytest.mark.parametrize("target", KEPT, ids=lambda target: type(target).__name__)
def test_predictions_come_back(target: Target) -> None:
    assert prediction_from_json(json.loads(json.dumps(prediction_json(target)))) == target


def test_hardly_believed_objects_are_not_kept() -> None:
    found = Boxes((8, 8), np.tile([0.0, 0, 1, 1], (3, 1)), np.arange(3), np.array([0.9, LEAST_SCORE, 0.049]))
    back = prediction_from_json(prediction_json(found))
    assert isinstance(back, Boxes)
    assert back.labels.tolist() == [0, 1]


def test_a_label_map_on_disk_is_no_prediction() -> None:
    with pytest.raises(TypeError, match="MaskFiles is not a prediction"):
        prediction_json(MaskFiles((("a.png", Coding("value", ((0, 0),))),)))


def test_pictured_images_are_the_same_whatever_their_order() -> None:
    ids = [f"image {i}.png" for i in range(3 * PICTURED)]
    chosen = pictured(ids)
    assert chosen == pictured(reversed(ids))
    assert len(chosen) == PICTURED
    assert 0.25 < np.mean([ids.index(id) < len(ids) // 2 for id in chosen]) < 0.75  # not the first ones
    assert pictured(ids[:7]) == set(ids[:7])


def test_a_run_keeps_predictions(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.predictions() == {}
    predictions = {f"é{i}.png": target for i, target in enumerate(KEPT)}
    folder.write_predictions(predictions)
    assert folder.predictions() == predictions
    assert list(folder.predictions({"é3.png", "gone.png"})) == ["é3.png"]
    written = folder.predictions_file.read_bytes()
    folder.write_predictions(dict(reversed(predictions.items())))
    assert folder.predictions_file.read_bytes() == written
    for damaged in (written[:-9], written[:20] + b"xx" + written[22:], b"no gzip"):
        folder.predictions_file.write_bytes(damaged)
        with pytest.raises(DataError, match=r"predictions\.json\.gz: cannot be read"):
            folder.predictions()
