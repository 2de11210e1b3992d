"""Scoring: a trained model on other data, its intervals, and labels matched by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torch import nn

from bakeoff.data.cache import build_pixels, open_pixels
from bakeoff.data.dataset import Dataset, Record, labelled
from bakeoff.data.formats import read
from bakeoff.data.scenes import write_scenes
from bakeoff.data.targets import Label
from bakeoff.errors import DataError, UnreadableImage, UsageError
from bakeoff.evaluate.classes import with_classes
from bakeoff.evaluate.outcomes import Images, evaluate
from bakeoff.evaluate.score import Interval, intervals, score
from bakeoff.models.spec import ModelSpec, Network
from bakeoff.models.trained import Trained
from bakeoff.tasks.classification import METRICS, Classification
from bakeoff.tasks.task import Outcomes

CLASSES = ("blue", "green", "red")
COLOURS = {"blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0)}


@pytest.fixture
def model() -> Trained:
    """A network that tells the colour of the whole image, and is less sure of a mixed one."""
    body = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3))
    linear = body[2]
    assert isinstance(linear, nn.Linear)
    linear.weight = nn.Parameter(4 * torch.eye(3).flip(0))
    linear.bias = nn.Parameter(torch.zeros(3))
    network = Network(body, (("2.weight", "2.bias"),))
    return Trained(network, ModelSpec(arch="small:cnn"), "classification", CLASSES, 12, "pad")


def painted(folder: Path, names: list[str], seed: int = 0) -> Dataset:
    """Write one noisy coloured image for each class name."""
    draws = np.random.default_rng(seed)
    rows = []
    for i, name in enumerate(names):
        pixels = 0.4 * np.array(COLOURS.get(name, (9, 9, 9))) + draws.uniform(0, 150, (1, 1, 3)) * np.ones((20, 30, 1))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i:03}.png")
        rows.append((Record(f"{i:03}.png", f"{i:03}.png", Label(0), group=f"series {i // 2}"), name))
    return labelled(folder, rows, "table")


def drawn(images: int, seed: int, gap: float = 1.0, repeat: int = 1) -> Outcomes:
    """Draw two-class outcomes whose AUROC is that of two normals `gap` apart."""
    draws = np.random.default_rng(seed)
    truth = draws.integers(0, 2, images)
    positive = stats.norm.cdf(draws.normal(gap * (truth - 0.5)))
    scores = np.stack([1 - positive, positive], axis=1)
    columns = {"truth": np.repeat(truth, repeat), "scores": np.repeat(scores, repeat, axis=0)}
    return Outcomes(tuple(map(str, range(images * repeat))), ("no", "yes"), columns)


def test_interval_of_a_mean_is_the_t_interval() -> None:
    sample = drawn(200, 0)
    found = intervals({"brier": METRICS["brier"]}, sample, np.arange(200))["brier"]
    values = METRICS["brier"].per_image(sample)  # type: ignore[misc]
    low, high = stats.t.interval(0.95, 199, values.mean(), stats.sem(values))
    assert (found.value, found.low, found.high) == pytest.approx((values.mean(), low, high))


def test_interval_of_auroc_covers_the_truth() -> None:
    truth = stats.norm.cdf(1 / np.sqrt(2))
    table = {"auroc": METRICS["auroc"]}
    found = [intervals(table, drawn(120, seed), np.arange(120))["auroc"] for seed in range(200)]
    inside = [one.low <= truth <= one.high for one in found if one.low is not None and one.high is not None]
    assert len(inside) == 200
    assert 0.90 <= np.mean(inside) <= 0.985


def test_copies_of_an_image_in_one_group_are_one_piece_of_evidence() -> None:
    table = {name: METRICS[name] for name in ("accuracy", "auroc", "macro_f1")}
    once = intervals(table, drawn(100, 1), np.arange(100))
    grouped = intervals(table, drawn(100, 1, repeat=4), np.repeat(np.arange(100), 4))
    careless = intervals(table, drawn(100, 1, repeat=4), np.arange(400))
    for name in table:
        width, same, narrow = (found[name].high - found[name].low for found in (once, grouped, careless))  # type: ignore[operator]
        assert same == pytest.approx(width, rel=0.02)
        assert narrow == pytest.approx(width / 2, rel=0.1)


def test_perfect_accuracy_is_not_certain() -> None:
    found = intervals(Classification(("no", "yes")).table, drawn(50, 2, gap=50), np.arange(50))
    assert found["accuracy"].value == found["accuracy"].high == 1
    assert found["accuracy"].low == pytest.approx(0.025 ** (1 / 50))
    assert found["auroc"].low == found["accuracy"].low


def test_undefined_metric_has_no_value() -> None:
    sample = drawn(30, 3)
    sample.columns["truth"][:] = 1
    found = intervals(Classification(("no", "yes")).table, sample, np.arange(30))
    assert found["auroc"] == Interval(None)
    assert found["accuracy"].low is not None


def test_one_group_gives_values_without_interval() -> None:
    found = intervals(Classification(("no", "yes")).table, drawn(30, 4), np.zeros(30, np.intp))
    assert all(interval.low is None for interval in found.values())
    assert found["accuracy"].value == pytest.approx(METRICS["accuracy"].function(drawn(30, 4)))


def test_score_equals_evaluation_of_cached_images(tmp_path: Path, model: Trained) -> None:
    (tmp_path / "data").mkdir()
    dataset = painted(tmp_path / "data", list(CLASSES) * 8)
    found = score(model, dataset, device="cpu")
    pixels = open_pixels(build_pixels(dataset, tmp_path, 12, "pad"))
    expected = evaluate(
        Classification(CLASSES), model.network, Images(dataset, pixels), [r.id for r in dataset.records]
    )
    np.testing.assert_array_equal(found.outcomes.columns["scores"], expected.columns["scores"])
    assert found.metrics["accuracy"].value == METRICS["accuracy"].function(expected)
    assert found.metrics["accuracy"].value > 0.5
    assert (found.images, found.groups) == (24, 12)  # groups of the records
    assert score(model, dataset, groups={}, device="cpu").groups == 24


def test_labels_are_matched_by_name(tmp_path: Path, model: Trained) -> None:
    dataset = painted(tmp_path, ["red", "green"] * 12)
    assert dataset.classes == ("green", "red")  # at 0 and 1; the model has them at 1 and 2
    found = score(model, dataset, device="cpu")
    assert found.outcomes.columns["truth"].tolist() == [2, 1] * 12
    assert found.outcomes.classes == CLASSES
    assert found.metrics["accuracy"].value > 0.5  # type: ignore[operator]
    assert [finding.code for finding in found.findings] == ["class-absent"]
    assert "blue" in found.findings[0].sentence


def test_class_that_the_model_does_not_know_is_named(tmp_path: Path, model: Trained) -> None:
    dataset = painted(tmp_path, ["red", "geen"] * 2)
    with pytest.raises(DataError, match=r"does not know 1 of the classes: 'geen' \(did you mean green\?\)"):
        score(model, dataset, device="cpu")
    reds = [record.id for record in dataset.records if dataset.classes[record.label] == "red"]
    assert score(model, dataset, reds, device="cpu").images == 2  # what is left out need not be known


def test_renumbering_keeps_names(tmp_path: Path) -> None:
    dataset = painted(tmp_path, ["red", "green", "red"])
    renumbered = with_classes(dataset, CLASSES)
    names = [[d.classes[record.label] for record in d.records] for d in (dataset, renumbered)]
    assert names[0] == names[1] == ["red", "green", "red"]


def test_json_holds_no_nan_and_every_class(tmp_path: Path, model: Trained) -> None:
    found = score(model, painted(tmp_path, ["red", "green"] * 3), device="cpu")
    content = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert content["headline"] in content["metrics"]
    assert set(content["metrics"]["auroc"]) == {"value", "low", "high"}
    assert [row["class"] for row in content["classes"]] == list(CLASSES)
    assert content["classes"][0]["recall"] is None
    assert np.sum(content["confusion"]) == 6
    assert [finding["code"] for finding in content["findings"]] == ["few-images", "class-absent"]


def test_scoring_the_data_of_the_study_is_pointed_out(tmp_path: Path, model: Trained) -> None:
    dataset = painted(tmp_path, list(CLASSES) * 8)
    own = replace(model, info={"data": dataset.fingerprint})
    assert [finding.code for finding in score(own, dataset, groups={}, device="cpu").findings] == ["same-data"]


def test_unreadable_image_is_named(tmp_path: Path, model: Trained) -> None:
    dataset = painted(tmp_path, list(CLASSES))
    (tmp_path / "001.png").write_bytes(b"not an image")
    with pytest.raises(UnreadableImage, match=r"001\.png"):
        score(model, dataset, device="cpu")


def test_nothing_to_score_is_refused(tmp_path: Path, model: Trained) -> None:
    dataset = painted(tmp_path, list(CLASSES))
    with pytest.raises(UsageError, match="no image to evaluate"):
        score(model, dataset, [], device="cpu")
    with pytest.raises(UsageError, match=r"not in the data: \['x'\]"):
        score(model, dataset, ["x"], device="cpu")


@pytest.mark.parametrize(
    ("info", "side"),
    [
        ({}, 12),  # a model that says nothing
        ({"judged": 24}, 24),  # one of a study at 24 pixels
    ],
)
def test_label_maps_are_judged_at_the_size_of_the_study(info: dict[str, int], side: int, tmp_path: Path) -> None:
    data = read(write_scenes(tmp_path / "scenes", "semantic", count=2, size=32))
    network = Network(nn.Conv2d(3, len(data.classes), 1), (("weight", "bias"),))
    model = Trained(network, ModelSpec(arch="small:fcn"), "semantic", data.classes, 12, "squash", info)
    assert score(model, data, device="cpu").outcomes.columns["valid"].tolist() == [side**2, side**2]
