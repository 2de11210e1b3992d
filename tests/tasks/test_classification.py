"""Classification: the loss, the predictions, and every metric against scikit-learn."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as sk
from torch import nn

from bakeoff.data.load import Batch
from bakeoff.data.targets import Label
from bakeoff.errors import UsageError
from bakeoff.tasks import TASKS
from bakeoff.tasks.calibration import calibration_error, reliability_bins
from bakeoff.tasks.classification import METRICS, Classification, confusion, doubtful, per_class, reliability
from bakeoff.tasks.task import LossOptions, Outcomes, Task


def outcomes(truth: NDArray[Any], scores: NDArray[Any]) -> Outcomes:
    names = tuple(f"class {i:03}" for i in range(scores.shape[1]))
    ids = tuple(f"{i}.png" for i in range(len(truth)))
    return Outcomes(ids, names, {"truth": truth.astype(np.int64), "scores": scores.astype(np.float32)})


def drawn(images: int, classes: int, seed: int, tied: bool = False) -> Outcomes:
    """Draw outcomes that are right more often than not; `tied` rounds the scores, so that many are equal."""
    draws = np.random.default_rng(seed)
    truth = draws.integers(0, classes, images)
    logits = draws.normal(size=(images, classes))
    logits[np.arange(images), truth] += 1
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return outcomes(truth, np.round(scores, 1) if tied else scores)


def one_hot(o: Outcomes) -> NDArray[Any]:
    rows: NDArray[Any] = np.eye(len(o.classes))[o.columns["truth"]]
    return rows


def chosen(o: Outcomes) -> NDArray[Any]:
    best: NDArray[Any] = o.columns["scores"].argmax(axis=1)
    return best


def ranked(o: Outcomes, function: Callable[..., float]) -> float:
    """Apply a ranking metric of scikit-learn: class 1 of two, else the mean of one against the rest."""
    truth, scores = one_hot(o), o.columns["scores"]
    columns = [1] if len(o.classes) == 2 else [c for c in range(len(o.classes)) if truth[:, c].any()]
    return float(np.mean([function(truth[:, c], scores[:, c]) for c in columns]))


def normalised_log_loss(o: Outcomes) -> float:
    return float(sk.log_loss(o.columns["truth"], o.columns["scores"], labels=range(len(o.classes))))


def top5(o: Outcomes) -> float:
    return float(sk.top_k_accuracy_score(o.columns["truth"], o.columns["scores"], k=5, labels=range(len(o.classes))))


ORACLES: dict[str, Callable[[Outcomes], float]] = {
    "accuracy": lambda o: sk.accuracy_score(o.columns["truth"], chosen(o)),
    "balanced_accuracy": lambda o: sk.balanced_accuracy_score(o.columns["truth"], chosen(o)),
    "macro_f1": lambda o: sk.f1_score(o.columns["truth"], chosen(o), average="macro"),
    "top5": top5,
    "log_loss": normalised_log_loss,
    "brier": lambda o: float(((o.columns["scores"] - one_hot(o)) ** 2).sum(axis=1).mean()),
    "auroc": lambda o: ranked(o, sk.roc_auc_score),
    "average_precision": lambda o: ranked(o, sk.average_precision_score),
}
SAMPLES = [
    (400, 10, 0, False),  # many classes
    (300, 2, 1, False),  # two classes: the positive one is at index 1
    (30, 12, 2, False),  # classes without images
    (500, 7, 3, True),  # tied scores
    (200, 2, 4, True),  # tied scores of two classes
]


# rounded scores do not add up to 1 for log-loss, and scikit-learn lets the higher index win a tie in top-k
CASES = [(name, *row) for name in ORACLES for row in SAMPLES if not (row[3] and name in ("log_loss", "top5"))]


@pytest.mark.parametrize(("name", "images", "classes", "seed", "tied"), CASES)
def test_metric_equals_scikit_learn(name: str, images: int, classes: int, seed: int, tied: bool) -> None:
    sample = drawn(images, classes, seed, tied)
    if name == "top5" and classes < 6:
        assert np.isnan(METRICS[name].function(sample))
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn speaks of predicted classes without images
        expected = ORACLES[name](sample)
    assert METRICS[name].function(sample) == pytest.approx(expected, abs=1e-6)


def test_every_metric_but_ece_has_an_oracle() -> None:
    assert set(METRICS) - set(ORACLES) == {"ece"}


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(2, 8), st.integers(0, 2**32 - 1), st.booleans())
def test_metrics_stay_in_range_and_ignore_the_order(images: int, classes: int, seed: int, tied: bool) -> None:
    sample = drawn(images, classes, seed, tied)
    shuffled = sample.take(np.random.default_rng(seed).permutation(images))
    for name, value in Classification(sample.classes).metrics(sample).items():
        assert np.isnan(value) or 0 <= value <= (1 + 1e-9 if METRICS[name].percent else 17), name
        assert METRICS[name].function(shuffled) == pytest.approx(value, nan_ok=True, abs=1e-9), name


@pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if metric.per_image])
def test_per_image_values_average_to_the_metric(name: str) -> None:
    sample, metric = drawn(200, 8, 5), METRICS[name]
    assert metric.per_image is not None
    values = metric.per_image(sample)
    assert values.shape == (200,)
    assert values.mean() == pytest.approx(metric.function(sample))


CONVENTIONS = [
    ("auroc", [1, 1], [[0.4, 0.6], [0.3, 0.7]], np.nan),  # no negative
    ("average_precision", [0, 0], [[0.4, 0.6], [0.3, 0.7]], np.nan),  # no positive
    ("auroc", [0, 1], [[0.5, 0.5], [0.5, 0.5]], 0.5),  # all tied
    ("balanced_accuracy", [0, 0, 2], [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]], 0.75),  # class 1 absent
    ("macro_f1", [0, 0], [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]], 1 / 3),  # predicted only: F1 0; class 2 nowhere: out
    ("log_loss", [1], [[1.0, 0.0]], -np.log(1e-7)),  # clipped
    ("brier", [1], [[1.0, 0.0]], 2.0),  # as wrong as can be
    ("accuracy", [0], [[0.5, 0.5]], 1.0),  # a tie goes to the first class
    ("top5", [5], [[0.3, 0.2, 0.2, 0.1, 0.1, 0.1]], 0.0),  # tied for fifth, behind its equals
    ("top5", [4], [[0.3, 0.2, 0.2, 0.1, 0.1, 0.1]], 1.0),  # tied for fifth, before its equal
]


@pytest.mark.parametrize(("name", "truth", "scores", "expected"), CONVENTIONS)
def test_convention(name: str, truth: list[int], scores: list[list[float]], expected: float) -> None:
    value = METRICS[name].function(outcomes(np.array(truth), np.array(scores)))
    assert value == pytest.approx(expected, nan_ok=True, rel=1e-6)


def test_metrics_of_nothing_are_undefined() -> None:
    empty = outcomes(np.zeros(0, np.int64), np.zeros((0, 8)))
    assert all(np.isnan(value) for value in Classification(empty.classes).metrics(empty).values())


def test_plain_calibration_error_by_hand() -> None:
    confidence = np.repeat([0.6, 0.9], [10, 30])
    correct = np.r_[np.ones(5), np.zeros(5), np.ones(24), np.zeros(6)].astype(bool)
    curve = reliability_bins(confidence, correct, bins=4)
    assert curve.count.tolist() == [10, 30]  # equal confidences share a bin, so 4 quarters become 2
    np.testing.assert_allclose(curve.accuracy, [0.5, 0.8])
    assert calibration_error(curve, debiased=False) == pytest.approx(0.25 * 0.1 + 0.75 * 0.1)


def test_debiased_calibration_error_is_that_of_kumar_by_simulation() -> None:
    draws = np.random.default_rng(0)
    confidence = draws.uniform(0.5, 1, 600)
    curve = reliability_bins(confidence, draws.random(600) < confidence - 0.02)
    spread = np.sqrt(curve.accuracy * (1 - curve.accuracy) / curve.count)
    redrawn = draws.normal(curve.accuracy, spread, (100_000, len(spread)))
    noisy = (np.abs(redrawn - curve.confidence) @ (curve.count / 600)).mean()
    expected = 2 * calibration_error(curve, debiased=False) - noisy
    assert calibration_error(curve) == pytest.approx(expected, abs=2e-4)


def test_debiasing_takes_off_what_chance_adds() -> None:
    draws = np.random.default_rng(1)
    plain, debiased = [], []
    for _ in range(200):
        confidence = draws.uniform(0.5, 1, 300)
        curve = reliability_bins(confidence, draws.random(300) < confidence - 0.1)  # truly off by 0.1
        plain.append(calibration_error(curve, debiased=False))
        debiased.append(calibration_error(curve))
    assert np.mean(plain) > 0.11
    assert np.mean(debiased) == pytest.approx(0.1, abs=0.006)


def test_reliability_of_outcomes_covers_every_image() -> None:
    sample = drawn(500, 5, 6)
    curve = reliability(sample)
    assert curve.count.sum() == 500
    assert len(curve.count) == 15
    assert curve.count @ curve.accuracy / 500 == pytest.approx(METRICS["accuracy"].function(sample))
    assert (curve.low <= curve.confidence).all()
    assert (curve.confidence <= curve.high).all()


def test_confusion_and_classes_equal_scikit_learn() -> None:
    sample = drawn(40, 12, 7)
    truth, labels = sample.columns["truth"], range(12)
    np.testing.assert_array_equal(confusion(sample), sk.confusion_matrix(truth, chosen(sample), labels=labels))
    columns = sk.precision_recall_fscore_support(truth, chosen(sample), labels=labels, zero_division=np.nan)
    for row, *expected in zip(per_class(sample), *columns, strict=True):
        found = [row[key] for key in ("precision", "recall", "f1", "images")]
        np.testing.assert_allclose([np.nan if value is None else value for value in found], expected)


class Fixed(nn.Module):
    """A network that answers every batch with the same logits."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits[: len(images)]


IMAGES = torch.zeros(6, 3, 4, 4)
LOGITS = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
INDICES = torch.tensor([0, 1, 2, 2, 1, 2])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, (1.0, 2.0, 0.5)])
def test_loss_of_one_hot_targets_is_that_of_indices(smoothing: float, weights: tuple[float, ...] | None) -> None:
    task, net = Classification(("a", "b", "c"), LossOptions("default", smoothing, weights)), Fixed(LOGITS)
    plain = task.loss(net, Batch(IMAGES, INDICES))
    soft = task.loss(net, Batch(IMAGES, torch.eye(3)[INDICES]))
    tensor = None if weights is None else torch.tensor(weights)
    expected = nn.CrossEntropyLoss(tensor, label_smoothing=smoothing)(LOGITS, INDICES)
    assert plain.item() == pytest.approx(expected.item())
    assert soft.item() == pytest.approx(plain.item())
    soft.backward()
    assert net.logits.grad is not None
    assert net.logits.grad.abs().sum() > 0


def test_loss_of_mixed_targets_by_hand() -> None:
    mixed = 0.3 * torch.eye(3)[INDICES] + 0.7 * torch.eye(3)[INDICES.flip(0)]
    expected = -(mixed * LOGITS.log_softmax(1)).sum(1).mean()
    assert Classification(("a", "b", "c")).loss(Fixed(LOGITS), Batch(IMAGES, mixed)).item() == pytest.approx(
        expected.item()
    )


@pytest.mark.parametrize(
    ("smoothing", "weights", "soft"),
    [
        (0.0, (1.0, 1.0, 1.0), False),  # as published
        (0.0, (1.0, 2.0, 0.5), False),  # class weights
        (0.1, (1.0, 2.0, 0.5), False),  # with label smoothing
        (0.1, (1.0, 2.0, 0.5), True),  # of mixed targets
    ],
)
def test_focal_loss_by_hand(smoothing: float, weights: tuple[float, ...], soft: bool) -> None:
    hard = torch.eye(3)[INDICES]
    targets = 0.3 * hard + 0.7 * hard.flip(0) if soft else INDICES
    task = Classification(("a", "b", "c"), LossOptions("focal", smoothing, weights))
    found = task.loss(Fixed(LOGITS), Batch(IMAGES, targets)).item()
    total = weighed = 0.0
    for truth, p in zip((targets if soft else hard).tolist(), LOGITS.softmax(1).tolist(), strict=True):
        for t, own, weight in zip(truth, p, weights, strict=True):
            total -= weight * ((1 - smoothing) * t + smoothing / 3) * (1 - own) ** 2 * np.log(own)
            weighed += weight * t
    assert found == pytest.approx(total / weighed, rel=1e-5)
    if weights == (1.0, 1.0, 1.0):
        assert Classification(("a", "b", "c"), LossOptions("focal")).loss(
            Fixed(LOGITS), Batch(IMAGES, INDICES)
        ).item() == pytest.approx(found)
    assert found < Classification(("a", "b", "c")).loss(Fixed(LOGITS), Batch(IMAGES, INDICES)).item()


def test_validation_loss_is_the_training_loss() -> None:
    task: Task = Classification(("a", "b", "c"))
    with torch.no_grad():
        predictions = task.predict(Fixed(LOGITS), IMAGES)
    rows = [task.outcome(p, Label(int(i))) for p, i in zip(predictions, INDICES, strict=True)]
    sample = outcomes(np.array([r["truth"] for r in rows]), np.array([r["scores"] for r in rows]))
    loss = task.loss(Fixed(LOGITS), Batch(IMAGES, INDICES)).item()
    assert task.metrics(sample)[task.validation_loss] == pytest.approx(loss, rel=1e-5)


def test_predictions_are_probabilities_even_in_bfloat16() -> None:
    with torch.no_grad():
        predictions = Classification(("a", "b", "c")).predict(Fixed(LOGITS.bfloat16()), IMAGES)
    for prediction, logits in zip(predictions, LOGITS.bfloat16().float(), strict=True):
        assert prediction.index == int(logits.argmax())
        assert prediction.scores is not None
        assert sum(prediction.scores) == pytest.approx(1, abs=1e-6)
        np.testing.assert_allclose(prediction.scores, logits.softmax(0), rtol=1e-6)


def test_top5_is_listed_from_six_classes_on() -> None:
    assert "top5" not in Classification(tuple("abcde")).table
    assert "top5" in Classification(tuple("abcdef")).table


def test_wrong_number_of_class_weights_is_refused() -> None:
    with pytest.raises(UsageError, match="2 class weights were given for 3 classes"):
        Classification(("a", "b", "c"), LossOptions(class_weights=(1.0, 2.0)))


def test_label_without_probabilities_cannot_be_evaluated() -> None:
    with pytest.raises(UsageError, match="probability of every class"):
        Classification(("a", "b")).outcome(Label(0), Label(0))


@pytest.mark.parametrize("name", TASKS)
def test_task_is_listed_under_its_name(name: str) -> None:
    task: Task = TASKS[name](("a", "b"))
    assert task.name == name
    assert task.headline in task.table
    assert task.validation_loss in ("", *task.table)


def test_metrics_do_not_wait_for_torch() -> None:
    code = "import sys, bakeoff.tasks; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_labels_that_all_candidates_contradict_are_doubtful() -> None:
    draws = np.random.default_rng(0)
    truth = np.arange(60) % 3
    ids, wrong = tuple(f"i{place:02}" for place in range(60)), [4, 17]

    def run() -> Outcomes:
        seen = truth.copy()
        seen[wrong] = (seen[wrong] + 1) % 3  # what the pictures show
        scores = np.full((60, 3), 0.1) + draws.uniform(0, 0.05, (60, 3))
        scores[np.arange(60), seen] += 0.7
        scores[wrong, seen[wrong]] += 0.2
        return Outcomes(ids, ("a", "b", "c"), {"truth": truth, "scores": (scores / scores.sum(1, keepdims=True))})

    assert sorted(doubtful([run(), run()])) == ["i04", "i17"]
    sure = Outcomes(ids, ("a", "b", "c"), {"truth": truth, "scores": np.eye(3)[truth]})
    assert doubtful([sure]) == ()


def test_models_that_contradict_most_labels_doubt_none() -> None:
    truth = np.repeat(np.arange(3), 10)
    scores = np.full((30, 3), 0.25, np.float32)
    scores[np.arange(30), (truth + 1) % 3] = 0.5
    ids = tuple(f"i{place:02}" for place in range(30))
    assert doubtful([Outcomes(ids, ("a", "b", "c"), {"truth": truth, "scores": scores})]) == ()
    scores[5:] = np.eye(3, dtype=np.float32)[truth[5:]] * 0.4 + 0.1  # five of thirty: these labels may well be wrong
    assert len(doubtful([Outcomes(ids, ("a", "b", "c"), {"truth": truth, "scores": scores})])) == 5
