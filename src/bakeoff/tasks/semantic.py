"""Semantic segmentation: a class per pixel; metrics from per-class pixel counts of each image.

An absent class is one that no judged pixel has: absent from truth and prediction, it is left out of a mean; present in
only one of them, its IoU and Dice are 0.  Pixels that are IGNORE in the truth count nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bakeoff.data.dataset import TaskName
from bakeoff.data.targets import GROUNDS, IGNORE, LabelMap
from bakeoff.errors import UsageError, nearest
from bakeoff.tasks.classification import LEAST_PROBABILITY
from bakeoff.tasks.overlap import counts, mean_present, resized, resized_scores, share
from bakeoff.tasks.task import PLAIN_LOSS, LossOptions, Metric, Outcomes, Row

if TYPE_CHECKING:  # the metrics serve a report, which should not wait for torch
    from torch import Tensor, nn

    from bakeoff.data.load import Batch

LOSSES = ("default", "cross_entropy", "dice", "focal", "cross_entropy+dice", "focal+dice")
DEFAULT = "cross_entropy+dice"


class Semantic:
    """A class index per pixel.

    An outcome is, per class (classes,) int64, the pixels `tp`, `fp` and `fn`, the same along borders (`boundary_tp` and
    so on), the number of judged pixels `valid`, and `surprise`, the sum of -ln p of the true classes over them.
    Class weights weigh cross-entropy and focal loss only, never a metric.  Raises UsageError for a loss that there is
    not, and for class weights or label smoothing that the loss has no use for.
    """

    def __init__(self, classes: tuple[str, ...], loss: LossOptions = PLAIN_LOSS) -> None:
        """Remember the classes and the options of the loss."""
        if loss.name not in LOSSES:
            raise UsageError(
                f"semantic has no loss {loss.name!r}{nearest(loss.name, LOSSES)}; it has {', '.join(LOSSES)}"
            )
        weights = loss.class_weights
        if weights is not None and len(weights) != len(classes):
            raise UsageError(f"{len(weights)} class weights were given for {len(classes)} classes; give one each")
        self.parts = (DEFAULT if loss.name == "default" else loss.name).split("+")
        if weights is not None and self.parts == ["dice"]:
            raise UsageError('the loss "dice" has no class weights; use "cross_entropy+dice" or "focal+dice"')
        if loss.label_smoothing and "cross_entropy" not in self.parts:
            raise UsageError(f'label smoothing is for cross-entropy; the loss "{loss.name}" has none')
        self.name: TaskName = "semantic"
        self.headline: str = "miou"
        self.validation_loss: str = "log_loss"
        self.batch: int = 16
        self.classes, self.label_smoothing, self.class_weights = classes, loss.label_smoothing, weights
        self.table: Mapping[str, Metric] = {
            name: metric for name, metric in METRICS.items() if name != "foreground_dice" or len(classes) == 2
        }

    def loss(self, net: nn.Module, batch: Batch) -> Tensor:
        """Return the loss, in float32, for targets (B, H, W) of class indices; 0 when every pixel is ignored."""
        from bakeoff.tasks import pixel_loss

        logits, targets = net(batch.images).float(), batch.targets
        weights = None if self.class_weights is None else logits.new_tensor(self.class_weights)
        total: Tensor = logits.new_zeros(())
        for part in self.parts:
            if part == "cross_entropy":
                total = total + pixel_loss.cross_entropy(logits, targets, weights, self.label_smoothing)
            elif part == "focal":
                total = total + pixel_loss.focal(logits, targets, weights)
            else:
                total = total + pixel_loss.dice(logits, targets)
        return total

    def predict(self, net: nn.Module, images: Tensor) -> list[LabelMap]:
        """Return label maps with the probability of every class (softmax in float32); of equal ones the first wins."""
        scores = net(images).float().softmax(dim=1)
        labels = scores.argmax(dim=1).byte().cpu().numpy()
        return [LabelMap(pixels, planes) for pixels, planes in zip(labels, scores.cpu().numpy(), strict=True)]

    def outcome(self, prediction: LabelMap, target: LabelMap) -> Row:
        """Return the counts of one image, at the size of its target.

        A prediction of another size is brought there: its scores bilinearly, before the most probable class is taken,
        or its pixels by nearest neighbour where it has no scores.  Without scores there is no `surprise`.
        """
        truth, pixels, scores = target.pixels, prediction.pixels, prediction.scores
        if pixels.shape != truth.shape:
            scores = None if scores is None else resized_scores(scores, truth.shape)
            pixels = resized(pixels, truth.shape) if scores is None else scores.argmax(axis=0).astype(np.uint8)
        row: Row = dict(counts(truth, pixels, len(self.classes)))
        judged = np.flatnonzero(truth != IGNORE)
        row["valid"] = np.int64(len(judged))
        if scores is not None:
            own = scores.reshape(len(scores), -1)[truth.ravel()[judged], judged].astype(np.float64)
            row["surprise"] = -np.log(np.clip(own, LEAST_PROBABILITY, 1.0)).sum()
        return row

    def doubtful(self, runs: Sequence[Outcomes]) -> tuple[str, ...]:  # noqa: ARG002
        """Return (): which pixels of an image are in doubt is not known from its counts."""
        return ()

    def metrics(self, outcomes: Outcomes) -> dict[str, float]:
        """Return every metric of the table; NaN where one is undefined."""
        return {name: metric.function(outcomes) for name, metric in self.table.items()}


def per_class(outcomes: Outcomes) -> list[dict[str, Any]]:
    """Return class, iou, dice, boundary_iou, recall, precision, images and true pixels of every class, over all images.

    A value is None where it is 0 / 0; `images` counts the images that truly have the class.
    """
    tp, fp, fn = (_total(outcomes, name) for name in ("tp", "fp", "fn"))
    images = ((outcomes.columns["tp"] + outcomes.columns["fn"]) > 0).sum(axis=0)
    columns = {
        "iou": share(tp, fp + fn),
        "dice": share(tp, fp + fn, 2),
        "boundary_iou": _class_boundary_iou(outcomes),
        "recall": share(tp, fn),
        "precision": share(tp, fp),
    }
    return [
        {
            "class": name,
            **{key: float(value[i]) if np.isfinite(value[i]) else None for key, value in columns.items()},
            "images": int(images[i]),
            "pixels": int(tp[i] + fn[i]),
        }
        for i, name in enumerate(outcomes.classes)
    ]


def _total(outcomes: Outcomes, name: str) -> NDArray[np.int64]:
    """Return a count per class (classes,), summed over images."""
    total: NDArray[np.int64] = outcomes.columns[name].sum(axis=0)
    return total


def _ratio(outcomes: Outcomes, weight: int, images: bool) -> NDArray[np.float64]:
    """Return IoU (weight 1) or Dice (2) per class: (classes,) over all images, or (n, classes) for each."""
    tp, fp, fn = (outcomes.columns[name] if images else _total(outcomes, name) for name in ("tp", "fp", "fn"))
    return share(tp, fp + fn, weight)


def _class_boundary_iou(outcomes: Outcomes) -> NDArray[np.float64]:
    """Return the boundary IoU per class (classes,) over all images (Cheng et al. 2021)."""
    tp, fp, fn = (_total(outcomes, f"boundary_{name}") for name in ("tp", "fp", "fn"))
    return share(tp, fp + fn)


def _image_iou(outcomes: Outcomes) -> NDArray[np.float64]:
    """Return (n,) the mean IoU over the classes present in each image; 1 where every pixel is ignored."""
    return mean_present(_ratio(outcomes, 1, images=True), empty=1.0)


def _image_dice(outcomes: Outcomes) -> NDArray[np.float64]:
    """Return (n,) the mean Dice over the classes present in each image; 1 where every pixel is ignored."""
    return mean_present(_ratio(outcomes, 2, images=True), empty=1.0)


def _mean(values: NDArray[np.float64]) -> float:
    """Return the mean, NaN of nothing."""
    return float(values.mean()) if len(values) else float("nan")


def _pixel_accuracy(outcomes: Outcomes) -> float:
    """Return the share of all judged pixels that are right; images with more of them weigh more."""
    valid = outcomes.columns["valid"].sum()
    return float(_total(outcomes, "tp").sum() / valid) if valid else float("nan")


def _foreground_dice(outcomes: Outcomes) -> float:
    """Return the Dice of the one of two classes that is not called background, over all images.

    Where neither or both are called so (data.targets.GROUNDS) it is the second.  NaN for another number of classes.
    """
    if len(outcomes.classes) != 2:
        return float("nan")
    first, second = (name.casefold() in GROUNDS for name in outcomes.classes)
    return float(_ratio(outcomes, 2, images=False)[0 if second and not first else 1])


def _log_loss(outcomes: Outcomes) -> float:
    """Return the mean of -ln p of the true class over judged pixels; NaN for predictions without probabilities."""
    valid = outcomes.columns["valid"].sum()
    if "surprise" not in outcomes.columns or not valid:
        return float("nan")
    return float(outcomes.columns["surprise"].sum() / valid)


METRICS: Mapping[str, Metric] = {
    "miou": Metric("Mean IoU", lambda o: float(mean_present(_ratio(o, 1, images=False)))),
    "image_miou": Metric("Mean IoU per image", lambda o: _mean(_image_iou(o)), _image_iou),
    "dice": Metric("Dice", lambda o: float(mean_present(_ratio(o, 2, images=False)))),
    "image_dice": Metric("Dice per image", lambda o: _mean(_image_dice(o)), _image_dice),
    "foreground_dice": Metric("Foreground Dice", _foreground_dice),
    "boundary_iou": Metric("Boundary IoU", lambda o: float(mean_present(_class_boundary_iou(o)))),
    "pixel_accuracy": Metric("Pixel accuracy", _pixel_accuracy),
    "log_loss": Metric("Log-loss", _log_loss, higher_is_better=False, percent=False),
}
