"""Classification: cross-entropy or focal loss, softmax, and metrics of (truth, scores) per image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bakeoff.data.dataset import TaskName
from bakeoff.data.targets import Label
from bakeoff.errors import UsageError, nearest
from bakeoff.tasks.calibration import Reliability, calibration_error, reliability_bins
from bakeoff.tasks.ranking import auroc, average_precision
from bakeoff.tasks.task import PLAIN_LOSS, LossOptions, Metric, Outcomes, Row

if TYPE_CHECKING:  # the metrics serve a report, which should not wait for torch
    from torch import Tensor, nn

    from bakeoff.data.load import Batch

LOSSES = ("default", "cross_entropy", "focal")
LEAST_PROBABILITY = 1e-7  # log-loss clips here: one image costs at most 16.1, however sure the network was


class Classification:
    """One label per image.  An outcome is `truth` (int64) and `scores` (classes,) float32 probabilities.

    The class weights of the loss options, one per class, weigh the training loss only, never a metric.  Raises
    UsageError when their number is not that of the classes.
    """

    def __init__(self, classes: tuple[str, ...], loss: LossOptions = PLAIN_LOSS) -> None:
        """Remember the classes and the options of the loss; top-5 accuracy needs more than 5 classes to be listed."""
        class_weights = loss.class_weights
        if loss.name not in LOSSES:
            raise UsageError(
                f"classification has no loss {loss.name!r}{nearest(loss.name, LOSSES)}; it has {', '.join(LOSSES)}"
            )
        if class_weights is not None and len(class_weights) != len(classes):
            raise UsageError(f"{len(class_weights)} class weights were given for {len(classes)} classes; give one each")
        self.name: TaskName = "classification"
        self.headline: str = "accuracy"
        self.focal = loss.name == "focal"
        self.validation_loss: str = "" if self.focal else "log_loss"
        self.batch: int = 64
        self.classes, self.label_smoothing, self.class_weights = classes, loss.label_smoothing, class_weights
        self.table: Mapping[str, Metric] = {
            name: metric for name, metric in METRICS.items() if name != "top5" or len(classes) > 5
        }

    def loss(self, net: nn.Module, batch: Batch) -> Tensor:
        """Return the mean loss, in float32, for targets (B,) of indices or (B, classes) of probabilities.

        With class weights it is the weighted mean, by the weight of each target (see label_loss).  Of a network with
        auxiliary classifiers, which gives a list of (share, logits), it is the sum of share x loss.
        """
        output = net(batch.images)
        parts = output if isinstance(output, list) else [(1.0, output)]
        losses = [share * self._loss(logits.float(), batch.targets) for share, logits in parts]
        return sum(losses[1:], losses[0])

    def _loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of logits (B, classes) in float32."""
        from bakeoff.tasks import label_loss

        weights = None if self.class_weights is None else logits.new_tensor(self.class_weights)
        loss = label_loss.focal if self.focal else label_loss.cross_entropy
        return loss(logits, targets, weights, self.label_smoothing)

    def predict(self, net: nn.Module, images: Tensor) -> list[Label]:
        """Return labels with probabilities (softmax in float32); of equal ones the first class is chosen."""
        scores = net(images).float().softmax(dim=1).cpu().numpy()
        return [Label(int(row.argmax()), tuple(row.tolist())) for row in scores]

    def outcome(self, prediction: Label, target: Label) -> Row:
        """Return truth and scores of one image."""
        if prediction.scores is None:
            raise UsageError("a prediction needs the probability of every class to be evaluated; it has only a label")
        return {"truth": np.int64(target.index), "scores": np.array(prediction.scores, np.float32)}

    def doubtful(self, runs: Sequence[Outcomes]) -> tuple[str, ...]:
        """Return the ids of images whose label the runs of all candidates together contradict."""
        return doubtful(runs)

    def metrics(self, outcomes: Outcomes) -> dict[str, float]:
        """Return every metric of the table; NaN where one is undefined."""
        return {name: metric.function(outcomes) for name, metric in self.table.items()}


def doubtful(runs: Sequence[Outcomes]) -> tuple[str, ...]:
    """Return the ids of images whose label all candidates' runs together contradict, most suspect first.

    Confident learning (Northcutt et al. 2021) on the mean of the runs' out-of-sample probabilities: an image is
    doubtful when another class than its label reaches that class's own mean confidence, and is the largest to do so.
    None is where they contradict more than half of the labels: such models know too little to doubt one.
    """
    scores: dict[str, list[NDArray[np.float32]]] = {}
    labels: dict[str, int] = {}
    for outcomes in runs:
        for id, truth, row in zip(outcomes.ids, outcomes.columns["truth"], outcomes.columns["scores"], strict=True):
            scores.setdefault(id, []).append(row)
            labels[id] = int(truth)
    ids = list(labels)
    truth, mean = np.array([labels[id] for id in ids]), np.array([np.mean(scores[id], axis=0) for id in ids])
    classes = range(mean.shape[1])
    confident = np.array([mean[truth == c, c].mean() if (truth == c).any() else np.inf for c in classes])
    above = np.where(mean >= confident, mean, -1.0)
    found = np.flatnonzero((above.max(axis=1) > 0) & (above.argmax(axis=1) != truth))
    if 2 * len(found) > len(ids):
        return ()
    margin = above.max(axis=1) - mean[np.arange(len(ids)), truth]
    return tuple(ids[place] for place in found[np.argsort(-margin[found], kind="stable")])


def confusion(outcomes: Outcomes) -> NDArray[np.int64]:
    """Return the number of images as (classes, classes), [truth, prediction]."""
    size = len(outcomes.classes)
    cells = outcomes.columns["truth"] * size + outcomes.columns["scores"].argmax(axis=1)
    return np.bincount(cells, minlength=size * size).reshape(size, size)


def per_class(outcomes: Outcomes) -> list[dict[str, Any]]:
    """Return class, images, recall, precision and f1 of every class; None where one is 0 / 0."""
    table = confusion(outcomes)
    hits, images, drawn = table.diagonal(), table.sum(axis=1), table.sum(axis=0)
    return [
        {
            "class": name,
            "images": int(images[i]),
            "recall": float(hits[i] / images[i]) if images[i] else None,
            "precision": float(hits[i] / drawn[i]) if drawn[i] else None,
            "f1": float(2 * hits[i] / (images[i] + drawn[i])) if images[i] + drawn[i] else None,
        }
        for i, name in enumerate(outcomes.classes)
    ]


def reliability(outcomes: Outcomes, bins: int = 15) -> Reliability:
    """Return the reliability diagram of the predicted class: its probability against how often it is right."""
    scores = outcomes.columns["scores"]
    return reliability_bins(scores.max(axis=1), _correct(outcomes), bins)


def _correct(outcomes: Outcomes) -> NDArray[np.bool_]:
    """Return (n,) whether the most probable class is the true one."""
    right: NDArray[np.bool_] = outcomes.columns["scores"].argmax(axis=1) == outcomes.columns["truth"]
    return right


def _hit(outcomes: Outcomes) -> NDArray[np.float64]:
    """Return (n,) 1 where the prediction is right, else 0."""
    return _correct(outcomes).astype(np.float64)


def _hit5(outcomes: Outcomes) -> NDArray[np.float64]:
    """Return (n,) 1 where fewer than 5 classes stand before the true one; NaN with fewer than 6 classes."""
    truth, scores = outcomes.columns["truth"], outcomes.columns["scores"]
    if scores.shape[1] < 6:
        return np.full(len(truth), np.nan)
    own = scores[np.arange(len(truth)), truth][:, None]
    # of equal scores the lower index stands before, as argmax has it: top-1 would be the accuracy
    before = (scores > own) | ((scores == own) & (np.arange(scores.shape[1]) < truth[:, None]))
    hit: NDArray[np.float64] = (before.sum(axis=1) < 5).astype(np.float64)
    return hit


def _surprise(outcomes: Outcomes) -> NDArray[np.float64]:
    """Return (n,) -ln of the true class's probability, which is clipped at LEAST_PROBABILITY."""
    truth, scores = outcomes.columns["truth"], outcomes.columns["scores"]
    own = scores[np.arange(len(truth)), truth].astype(np.float64)
    surprise: NDArray[np.float64] = -np.log(np.clip(own, LEAST_PROBABILITY, 1.0))
    return surprise


def _squared_error(outcomes: Outcomes) -> NDArray[np.float64]:
    """Return (n,) the sum over classes of (probability - truth)^2, 0..2 (Brier 1950)."""
    truth, scores = outcomes.columns["truth"], outcomes.columns["scores"].astype(np.float64)
    own = scores[np.arange(len(truth)), truth]
    error: NDArray[np.float64] = np.einsum("ij,ij->i", scores, scores) - own**2 + (1 - own) ** 2
    return error


def _mean(values: NDArray[np.float64]) -> float:
    """Return the mean, NaN of nothing."""
    return float(values.mean()) if len(values) else float("nan")


def _balanced_accuracy(outcomes: Outcomes) -> float:
    """Return the mean recall over the classes that have images."""
    table = confusion(outcomes)
    images = table.sum(axis=1)
    present = images > 0
    return _mean(table.diagonal()[present] / images[present])


def _macro_f1(outcomes: Outcomes) -> float:
    """Return the mean F1 over the classes that occur as truth or as prediction."""
    table = confusion(outcomes)
    both = table.sum(axis=0) + table.sum(axis=1)
    return _mean(2 * table.diagonal()[both > 0] / both[both > 0])


def _ece(outcomes: Outcomes) -> float:
    """Return the debiased expected calibration error of the predicted class."""
    return calibration_error(reliability(outcomes))


METRICS: Mapping[str, Metric] = {
    "accuracy": Metric("Accuracy", lambda o: _mean(_hit(o)), _hit),
    "balanced_accuracy": Metric("Balanced accuracy", _balanced_accuracy),
    "macro_f1": Metric("Macro F1", _macro_f1),
    "top5": Metric("Top-5 accuracy", lambda o: _mean(_hit5(o)), _hit5),
    "log_loss": Metric("Log-loss", lambda o: _mean(_surprise(o)), _surprise, higher_is_better=False, percent=False),
    "brier": Metric("Brier score", lambda o: _mean(_squared_error(o)), _squared_error, False, percent=False),
    "ece": Metric("Calibration error (ECE, debiased)", _ece, higher_is_better=False),
    "auroc": Metric("AUROC", lambda o: auroc(o.columns["truth"], o.columns["scores"])),
    "average_precision": Metric(
        "Average precision", lambda o: average_precision(o.columns["truth"], o.columns["scores"])
    ),
}
