"""Semantic segmentation: losses, predictions, counts, and every metric against torchmetrics or a slow reference."""

from __future__ import annotations

import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex
from torchmetrics.segmentation import DiceScore, MeanIoU

from bakeoff.data.load import Batch
from bakeoff.data.targets import IGNORE, LabelMap
from bakeoff.errors import UsageError
from bakeoff.evaluate.outcomes import stack
from bakeoff.tasks import TASKS
from bakeoff.tasks.overlap import borders, counts, reach, resized_scores
from bakeoff.tasks.pixel_loss import cross_entropy, dice, focal
from bakeoff.tasks.semantic import LOSSES, METRICS, Semantic, per_class
from bakeoff.tasks.task import LossOptions, Outcomes, Task

CLASSES = tuple("abcde")
Maps = NDArray[np.uint8]


def drawn(images: int, side: int, seed: int, ignored: float = 0.1, classes: int = 5) -> tuple[Maps, Maps]:
    """Draw blocky truths, with ignored pixels, and predictions that are right more often than not."""
    draws = np.random.default_rng(seed)
    truth = draws.integers(0, classes, (images, side // 4, side // 4), np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    wrong = draws.random(truth.shape) < 0.3
    prediction = np.where(wrong, draws.integers(0, classes, truth.shape, np.uint8), truth)
    return np.where(draws.random(truth.shape) < ignored, np.uint8(IGNORE), truth), prediction


def outcomes_of(truth: Maps, prediction: Maps, classes: tuple[str, ...] = CLASSES) -> Outcomes:
    task = Semantic(classes)
    rows = [task.outcome(LabelMap(p), LabelMap(t)) for p, t in zip(prediction, truth, strict=True)]
    return stack(rows, tuple(str(number) for number in range(len(rows))), classes)


def slow_boundary_iou(truth: Maps, prediction: Maps, classes: int) -> float:
    """Boundary IoU as its authors' code has it: each class's mask less its eroded mask, summed over images."""
    hits, whole = np.zeros(classes), np.zeros(classes)
    for real, found in zip(truth, prediction, strict=True):
        found = np.where(real == IGNORE, np.uint8(IGNORE), found)
        distance = max(1, round(0.02 * np.sqrt(real.shape[0] ** 2 + real.shape[1] ** 2)))
        for index in range(classes):
            edges = []
            for labels in (real, found):
                mask = (labels == index).astype(np.uint8)
                framed = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=(0,))
                eroded = cv2.erode(framed, np.ones((3, 3), np.uint8), iterations=distance)
                edges.append(mask - eroded[1:-1, 1:-1])
            hits[index] += (edges[0] & edges[1]).sum()
            whole[index] += (edges[0] | edges[1]).sum()
    return float((hits[whole > 0] / whole[whole > 0]).mean())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ignored", [0.0, 0.2])
def test_overlap_metrics_equal_torchmetrics(seed: int, ignored: float) -> None:
    truth, prediction = drawn(6, 32, seed, ignored)
    found = Semantic(CLASSES).metrics(outcomes_of(truth, prediction))
    real, guess = torch.from_numpy(truth).long(), torch.from_numpy(prediction).long()
    jaccard = MulticlassJaccardIndex(5, ignore_index=IGNORE)(guess, real)
    accuracy = MulticlassAccuracy(5, average="micro", ignore_index=IGNORE)(guess, real)
    assert found["miou"] == pytest.approx(float(jaccard), abs=1e-6)
    assert found["pixel_accuracy"] == pytest.approx(float(accuracy), abs=1e-6)
    if not ignored:  # these two know of no ignored pixels
        both = [MeanIoU(5, input_format="index"), DiceScore(5, input_format="index")]
        assert found["image_miou"] == pytest.approx(float(both[0](guess, real)), abs=1e-6)
        assert found["image_dice"] == pytest.approx(float(both[1](guess, real)), abs=1e-6)
        whole = DiceScore(5, input_format="index", aggregation_level="global")
        assert found["dice"] == pytest.approx(float(whole(guess, real)), abs=1e-6)


@pytest.mark.parametrize(("side", "ignored"), [(16, 0.0), (64, 0.0), (64, 0.05), (160, 0.01)])
def test_boundary_iou_is_that_of_its_authors(side: int, ignored: float) -> None:
    truth, prediction = drawn(3, side, side, ignored)
    smooth = np.stack([cv2.medianBlur(labels, 5) for labels in prediction])
    found = METRICS["boundary_iou"].function(outcomes_of(truth, smooth))
    assert found == pytest.approx(slow_boundary_iou(truth, smooth, 5), abs=1e-12)
    assert 0 < found < 1


def test_reach_is_two_percent_of_the_diagonal() -> None:
    assert [reach(10, 10), reach(256, 256), reach(720, 960)] == [1, 7, 24]
    square = np.zeros((20, 20), np.uint8)
    square[5:15, 5:15] = 1
    assert borders(square, 2)[5:15, 5:15].sum() == 100 - 36


A, B, V = 0, 1, IGNORE  # V: void
CONVENTIONS = [
    ("miou", [[A, A]], [[A, A]], 1.0),  # a class absent from both is left out
    ("miou", [[A, A]], [[A, B]], 0.25),  # predicted only: 0, beside 1/2
    ("miou", [[A, B]], [[A, A]], 0.25),  # true only: 0, beside 1/2
    ("dice", [[A, B]], [[A, A]], 1 / 3),  # the same with Dice 2/3
    ("miou", [[A, V]], [[A, B]], 1.0),  # an ignored pixel is no false positive
    ("pixel_accuracy", [[A, V], [B, B]], [[A, B], [A, B]], 2 / 3),  # images weigh by their judged pixels
    ("image_miou", [[V, V], [A, B]], [[A, A], [B, A]], 0.5),  # nothing to judge, nothing wrong
    ("miou", [[V, V]], [[A, B]], np.nan),  # nothing to judge at all
    ("foreground_dice", [[A, B]], [[B, B]], 2 / 3),  # the second class alone
    ("boundary_iou", [[A, B]], [[B, A]], 0.0),  # every pixel is an edge, and wrong
    ("pixel_accuracy", [[A, B]], [[A, V]], 0.5),  # a pixel left open is missed
]


@pytest.mark.parametrize(("name", "truth", "prediction", "expected"), CONVENTIONS)
def test_convention(name: str, truth: list[list[int]], prediction: list[list[int]], expected: float) -> None:
    maps = [np.array(rows, np.uint8)[:, None, :] for rows in (truth, prediction)]
    sample = outcomes_of(maps[0], maps[1], ("a", "b"))
    assert METRICS[name].function(sample) == pytest.approx(expected, nan_ok=True)
    if (images := METRICS[name].per_image) is not None:
        assert images(sample).mean() == pytest.approx(expected)


@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_counts_add_up(seed: int, classes: int) -> None:
    truth, prediction = (maps[0] for maps in drawn(1, 16, seed, 0.3, classes))
    found = counts(truth, prediction, classes)
    judged = truth != IGNORE
    assert (found["tp"] + found["fn"]).sum() == (found["tp"] + found["fp"]).sum() == judged.sum()
    assert found["tp"].sum() == (truth == prediction).sum()
    assert all((found[f"boundary_{name}"] >= 0).all() for name in ("tp", "fp", "fn"))
    assert (found["boundary_tp"] <= found["tp"]).all()


def test_per_class_table() -> None:
    truth = np.array([[[0, 0, 1, 1]], [[0, 0, 0, IGNORE]]], np.uint8)
    prediction = np.array([[[0, 1, 1, 1]], [[0, 0, 0, 1]]], np.uint8)
    rows = per_class(outcomes_of(truth, prediction, ("road", "sky", "tree")))
    assert rows[0] == {
        "class": "road", "iou": 0.8, "dice": pytest.approx(8 / 9), "boundary_iou": 0.8,
        "recall": 0.8, "precision": 1.0, "images": 2, "pixels": 5,
    }  # fmt: skip
    assert (rows[1]["iou"], rows[1]["recall"], rows[1]["images"]) == (pytest.approx(2 / 3), 1.0, 1)
    assert {rows[2][key] for key in ("iou", "dice", "boundary_iou", "recall", "precision")} == {None}
    assert rows[2]["pixels"] == 0


class Fixed(nn.Module):
    """A network that answers every batch with the same logits."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits[: len(images)]


IMAGES = torch.zeros(3, 3, 8, 8)
DRAWS = torch.Generator().manual_seed(0)
LOGITS = torch.randn(3, 4, 8, 8, generator=DRAWS)
TARGETS = torch.randint(0, 4, (3, 8, 8), generator=DRAWS).where(torch.rand(3, 8, 8, generator=DRAWS) < 0.8, IGNORE)
WEIGHTS = (1.0, 2.0, 0.5, 3.0)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_cross_entropy_is_torch_s(smoothing: float, weights: tuple[float, ...] | None) -> None:
    task = Semantic(tuple("abcd"), LossOptions("cross_entropy", smoothing, weights))
    tensor = None if weights is None else torch.tensor(weights)
    expected = nn.CrossEntropyLoss(tensor, ignore_index=IGNORE, label_smoothing=smoothing)(LOGITS, TARGETS)
    assert task.loss(Fixed(LOGITS), Batch(IMAGES, TARGETS)).item() == pytest.approx(expected.item(), rel=1e-6)


def test_dice_is_that_of_segmentation_models() -> None:
    import segmentation_models_pytorch as smp

    absent = TARGETS.where(TARGETS != 2, 1)  # one class has no true pixel
    for targets in (TARGETS, absent):
        expected = smp.losses.DiceLoss("multiclass", ignore_index=IGNORE)(LOGITS, targets)
        assert dice(LOGITS, targets).item() == pytest.approx(expected.item(), rel=1e-5)


def test_focal_by_hand() -> None:
    chance = LOGITS.softmax(1).gather(1, TARGETS.clamp(max=3)[:, None])[:, 0]
    losses = -((1 - chance) ** 2) * chance.log()
    assert focal(LOGITS, TARGETS).item() == pytest.approx(losses[TARGETS != IGNORE].mean().item(), rel=1e-5)
    weight = torch.tensor(WEIGHTS)[TARGETS.clamp(max=3)] * (TARGETS != IGNORE)
    weighted = ((losses * weight).sum() / weight.sum()).item()
    assert focal(LOGITS, TARGETS, torch.tensor(WEIGHTS)).item() == pytest.approx(weighted, rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_ignored_pixels_teach_nothing(name: str) -> None:
    net, task = Fixed(LOGITS.clone()), Semantic(tuple("abcd"), LossOptions(name))
    loss = task.loss(net, Batch(IMAGES, TARGETS))
    loss.backward()
    assert net.logits.grad is not None
    judged = (TARGETS != IGNORE)[:, None].expand_as(LOGITS)
    assert net.logits.grad[judged].abs().min() > 0
    assert net.logits.grad[~judged].abs().max() == 0
    assert task.loss(net, Batch(IMAGES, torch.full_like(TARGETS, IGNORE))).item() == 0


def test_a_sum_of_losses_is_their_sum_and_the_default() -> None:
    parts = [cross_entropy(LOGITS, TARGETS), dice(LOGITS, TARGETS)]
    for name in ("default", "cross_entropy+dice"):
        found = Semantic(tuple("abcd"), LossOptions(name)).loss(Fixed(LOGITS), Batch(IMAGES, TARGETS))
        assert found.item() == pytest.approx(sum(part.item() for part in parts), rel=1e-6)


def test_losses_are_float32_under_autocast() -> None:
    net = nn.Conv2d(3, 4, 3, padding=1)
    images = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        assert net(images).dtype == torch.bfloat16
        loss = Semantic(tuple("abcd"), LossOptions("focal+dice")).loss(net, Batch(images, TARGETS))
    assert loss.dtype == torch.float32


def test_log_loss_is_the_cross_entropy() -> None:
    task: Task = Semantic(tuple("abcd"), LossOptions("cross_entropy"))
    with torch.no_grad():
        predictions = task.predict(Fixed(LOGITS), IMAGES)
    rows = [task.outcome(p, LabelMap(t.byte().numpy())) for p, t in zip(predictions, TARGETS, strict=True)]
    found = task.metrics(stack(rows, ("0", "1", "2"), tuple("abcd")))
    loss = task.loss(Fixed(LOGITS), Batch(IMAGES, TARGETS)).item()
    assert found[task.validation_loss] == pytest.approx(loss, rel=1e-5)


def test_predictions_are_probabilities_even_in_bfloat16() -> None:
    with torch.no_grad():
        predictions = Semantic(tuple("abcd")).predict(Fixed(LOGITS.bfloat16()), IMAGES)
    for prediction, logits in zip(predictions, LOGITS.bfloat16().float(), strict=True):
        assert isinstance(prediction, LabelMap)
        assert prediction.scores is not None
        np.testing.assert_array_equal(prediction.pixels, logits.argmax(0))
        np.testing.assert_allclose(prediction.scores.sum(0), 1, atol=1e-6)


def test_a_prediction_of_another_size_is_brought_to_its_target() -> None:
    truth = np.zeros((40, 40), np.uint8)
    truth[:, 20:] = 1
    step = np.zeros((2, 20, 20), np.float32)
    step[0, :, :10], step[1, :, 10:] = 1, 1
    task = Semantic(("a", "b"))
    by_scores = task.outcome(LabelMap(step.argmax(0).astype(np.uint8), step), LabelMap(truth))
    by_pixels = task.outcome(LabelMap(step.argmax(0).astype(np.uint8)), LabelMap(truth))
    assert by_scores["tp"].tolist() == by_pixels["tp"].tolist() == [800, 800]
    assert "surprise" in by_scores
    assert "surprise" not in by_pixels
    np.testing.assert_allclose(resized_scores(step, (40, 40)).sum(0), 1, atol=1e-6)


def test_without_probabilities_there_is_no_log_loss_but_all_else() -> None:
    found = Semantic(CLASSES).metrics(outcomes_of(*drawn(2, 16, 0)))
    assert [name for name, value in found.items() if np.isnan(value)] == ["log_loss"]


WRONG = [
    (LossOptions("dise"), r"no loss 'dise' \(did you mean dice\?\)"),  # a typo
    (LossOptions(class_weights=(1.0,)), "1 class weights were given for 2 classes"),  # too few
    (LossOptions("dice", class_weights=(1.0, 2.0)), "has no class weights"),  # where there is no use for them
    (LossOptions("focal+dice", 0.1), "label smoothing is for cross-entropy"),  # nor for smoothing
]


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_options_without_use_are_refused(options: LossOptions, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Semantic(("a", "b"), options)


def test_the_foreground_is_listed_for_two_classes() -> None:
    assert "foreground_dice" in TASKS["semantic"](("a", "b")).table
    assert "foreground_dice" not in TASKS["semantic"](CLASSES).table


@pytest.mark.parametrize(
    ("names", "foreground"),
    [
        (("background", "cell"), 1),  # the usual order
        (("Animal", "Background"), 0),  # the ground is last in string order
        (("a", "b"), 1),  # nothing says which is the ground
    ],
)
def test_the_foreground_is_what_is_not_called_background(names: tuple[str, str], foreground: int) -> None:
    columns = {name: np.array([[1, 4]], np.int64) for name in ("tp", "fp", "fn")}
    columns["fn"] = np.array([[3, 0]], np.int64)
    found = METRICS["foreground_dice"].function(Outcomes(("x",), names, columns))
    assert found == pytest.approx([2 / 6, 8 / 12][foreground])


def test_an_outcome_is_cheap() -> None:
    truth, prediction = drawn(1, 256, 0, 0.02, 12)
    scores = np.random.default_rng(0).random((12, 256, 256), np.float32)
    task = Semantic(tuple(f"c{number:02}" for number in range(12)))
    took = []
    for _ in range(5):
        began = time.process_time()
        task.outcome(LabelMap(prediction[0], scores), LabelMap(truth[0]))
        took.append(time.process_time() - began)
    assert min(took) < 0.05  # a few milliseconds; the limit is for slow machines


def test_metrics_do_not_wait_for_torch() -> None:
    code = "import sys, bakeoff.tasks.semantic; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
