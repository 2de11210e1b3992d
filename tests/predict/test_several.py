"""Several answers as one: mirrored views, ensembles, fused boxes, and probabilities scaled by a temperature."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from bakeoff.data.dataset import TaskName
from bakeoff.data.masks import to_pixels, to_runs
from bakeoff.data.targets import Boxes, Instances, Label, LabelMap
from bakeoff.errors import UsageError
from bakeoff.predict.calibrated import Calibrated, scaled, temperature
from bakeoff.predict.fusion import fused
from bakeoff.predict.several import Ensemble, Flipped, mirrored

from .simple import Light

IMAGES = np.zeros((2, 64, 64, 3), np.uint8)
IMAGES[0, 10:20, 5:50] = IMAGES[0, 40:60, 3:9] = IMAGES[1, :, 40:] = 255


@pytest.mark.parametrize("task", get_args(TaskName))
def test_a_predictor_that_knows_no_left_and_right_says_the_same_flipped_and_twice(task: TaskName) -> None:
    single = Light(task)
    expected = single(IMAGES)
    for several in (Flipped(single), Ensemble([single, Light(task)])):
        assert (several.task, several.classes, several.size) == (task, single.classes, 64)
        for found, truth in zip(several(IMAGES), expected, strict=True):
            if isinstance(found, Boxes) and isinstance(truth, Boxes):
                assert found.scores is not None
                order = np.argsort(-np.asarray(truth.scores), kind="stable")
                np.testing.assert_allclose(found.xyxy, truth.xyxy[order])
                np.testing.assert_allclose(found.scores, np.asarray(truth.scores)[order])
            else:
                assert found == truth


def test_mirroring_twice_gives_the_same_again() -> None:
    draws = np.random.default_rng(0)
    masks = draws.random((3, 8, 10)) > 0.5
    xyxy = np.sort(draws.random((3, 2, 2)) * 8, axis=1).reshape(3, 4)
    found = Instances(
        (10, 8), xyxy, np.arange(3), draws.random(3), masks=tuple(to_runs(mask, (10, 8)) for mask in masks)
    )
    turned = mirrored(found)
    assert isinstance(turned, Instances)
    np.testing.assert_array_equal(to_pixels(turned.masks[0], (10, 8)), masks[0][:, ::-1])
    np.testing.assert_allclose(turned.xyxy[:, 0], 10 - xyxy[:, 2])
    again = mirrored(turned)
    assert isinstance(again, Instances)
    assert again.masks == found.masks
    np.testing.assert_allclose(again.xyxy, found.xyxy)


def test_boxes_are_fused_by_their_scores() -> None:
    first = Boxes((100, 100), np.array([[10, 10, 30, 30], [60, 60, 80, 80]]), np.array([0, 1]), np.array([0.9, 0.8]))
    second = Boxes((100, 100), np.array([[12, 10, 32, 30], [60, 60, 80, 80]]), np.array([0, 0]), np.array([0.6, 0.4]))
    found = fused([first, second])
    assert isinstance(found, Boxes)
    assert found.scores is not None
    assert found.labels.tolist() == [0, 1, 0]  # the box at 60 has two classes: two objects
    np.testing.assert_allclose(found.scores, [(0.9 + 0.6) / 2, 0.8 / 2, 0.4 / 2])  # found by both, by one, by one
    np.testing.assert_allclose(found.xyxy[0], [(0.9 * 10 + 0.6 * 12) / 1.5, 10, (0.9 * 30 + 0.6 * 32) / 1.5, 30])


def test_a_pixel_belongs_to_a_fused_instance_where_half_the_weight_says_so() -> None:
    masks = np.zeros((2, 10, 10), np.bool_)
    masks[0, 2:8, 2:8], masks[1, 2:8, 3:9] = True, True
    one, other = (
        Instances((10, 10), np.array([box]), np.zeros(1, np.int64), np.array([score]), masks=(to_runs(mask, (10, 10)),))
        for mask, box, score in zip(masks, ((2, 2, 8, 8), (3, 2, 9, 8)), (0.9, 0.3), strict=True)
    )
    found = fused([one, other])
    assert isinstance(found, Instances)
    np.testing.assert_array_equal(to_pixels(found.masks[0], (10, 10)), masks[0])  # the surer one outweighs the other
    assert found.xyxy.tolist() == [[2, 2, 8, 8]]


def test_probabilities_are_averaged() -> None:
    label = fused([Label(0, (0.9, 0.1)), Label(1, (0.2, 0.8))])
    assert isinstance(label, Label)
    assert label.index == 0
    assert label.scores == pytest.approx((0.55, 0.45))
    planes = [np.full((2, 1, 1), 0.5), np.array([[[0.2]], [[0.8]]])]
    found = fused([LabelMap(plane.argmax(axis=0).astype(np.uint8), plane) for plane in planes])
    assert isinstance(found, LabelMap)
    assert found.pixels.tolist() == [[1]]


def test_nothing_found_by_anyone_is_nothing() -> None:
    empty = Boxes((10, 10), np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0))
    found = fused([empty, empty])
    assert isinstance(found, Boxes)
    assert len(found) == 0


@pytest.mark.parametrize("change", [{"size": 32}, {"classes": ("a", "b")}, {"task": "detection"}, {"resize": "pad"}])
def test_models_that_differ_are_no_ensemble(change: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=f"the same {next(iter(change))}"):
        Ensemble([Light(), replace(Light(), **change)])  # type: ignore[arg-type]


@pytest.mark.parametrize("true", [0.5, 1.0, 2.5])
def test_the_temperature_that_spoiled_the_probabilities_is_found(true: float) -> None:
    draws = np.random.default_rng(0)
    honest = draws.dirichlet(np.full(5, 0.5), 4000)
    truth = np.array([draws.choice(5, p=row) for row in honest])
    spoiled = scaled(honest, 1 / true)  # as sure as a network whose logits are `true` times too large
    found = temperature(spoiled, truth)
    assert found == pytest.approx(true, rel=0.06)
    assert scaled(spoiled, found).argmax(axis=1).tolist() == spoiled.argmax(axis=1).tolist()


def test_calibration_leaves_the_labels() -> None:
    single = Light("classification")
    for found, plain in zip(Calibrated(single, 3.0)(IMAGES), single(IMAGES), strict=True):
        assert isinstance(found, Label)
        assert isinstance(plain, Label)
        assert found.scores is not None
        assert plain.scores is not None
        assert found.index == plain.index
        assert sum(found.scores) == pytest.approx(1)
        assert max(found.scores) < max(plain.scores)


def test_where_no_temperature_fits_the_reason_is_told() -> None:
    scores = np.array([[0.9, 0.1], [0.2, 0.8]])
    with pytest.raises(UsageError, match="all 2 validation images are labelled right"):
        temperature(scores, np.array([0, 1]))
    with pytest.raises(UsageError, match="no validation images"):
        temperature(scores[:0], np.zeros(0, np.int64))
    with pytest.raises(UsageError, match="calibrated is for classification"):
        Calibrated(Light("semantic"), 2.0)
