"""Average precision and recall from stored matches: COCO's numbers, worked out once for all the metrics of a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from bakeoff.errors import UsageError
from bakeoff.tasks.matching import RANGES, THRESHOLDS, Floats
from bakeoff.tasks.task import Metric, Outcomes

Places = NDArray[np.intp]
RECALLS: Floats = np.linspace(0, 1, 101)  # at which precision is read off
_BITS = (1 << np.arange(len(THRESHOLDS))).astype(np.uint16)[:, None]


class Ranking:
    """The N detections of all images by class, scores falling; of equal scores the earlier image stands first.

    labels (N,); scores (N,); matched and ignored (N, 4) as in matching.Matches; truths (classes, 4).
    """

    def __init__(self, outcomes: Outcomes, prefix: str = "") -> None:
        """Sort the detections; `prefix` "box_" takes the boxes of instances instead of their masks."""
        columns = outcomes.columns
        there = np.flatnonzero(columns["labels"] >= 0)
        labels, scores = columns["labels"].ravel()[there], columns["scores"].ravel()[there]
        order = np.argsort(-scores, kind="stable")
        order = order[np.argsort(labels[order], kind="stable")]
        self.labels, self.scores = labels[order], scores[order]
        self.first = np.searchsorted(self.labels, self.labels)  # where the class of each detection begins
        self.matched = columns[prefix + "matched"].reshape(-1, len(RANGES))[there[order]]
        self.ignored = columns[prefix + "ignored"].reshape(-1, len(RANGES))[there[order]]
        self.truths: NDArray[np.int64] = columns["truths"].sum(axis=0, dtype=np.int64)
        self._tables: dict[int, Floats] = {}

    def precision(self, area_range: int = 0) -> Floats:
        """Return the interpolated precision (thresholds, classes, recalls): the best at this recall or a higher one.

        0 where the recall is not reached; NaN for classes without an object in the range.
        """
        if area_range not in self._tables:
            self._tables[area_range] = self._precision(area_range)
        return self._tables[area_range]

    def _precision(self, area_range: int) -> Floats:
        """Read precision off where an object is found: in between it only falls, so no other place is ever the best."""
        truths = self.truths[:, area_range]
        matched, counted = self.matched[:, area_range], ~self.ignored[:, area_range]
        hits = (matched & counted & _BITS) > 0  # (thresholds, N)
        threshold, place = np.nonzero(hits)
        found = self._within_class(hits, threshold, place)
        drawn = self._within_class((counted & _BITS) > 0, threshold, place)
        labels = self.labels[place].astype(np.int64)
        reached = np.searchsorted(RECALLS, found / truths[labels], side="right") - 1
        cells = (threshold * len(truths) + labels) * len(RECALLS) + reached  # never falls
        table = np.zeros(len(THRESHOLDS) * len(truths) * len(RECALLS))
        if len(cells):
            starts = np.flatnonzero(np.diff(cells, prepend=-1))
            table[cells[starts]] = np.maximum.reduceat(found / drawn, starts)
        shaped = table.reshape(len(THRESHOLDS), len(truths), len(RECALLS))
        best = np.maximum.accumulate(shaped[..., ::-1], axis=2)[..., ::-1]
        best[:, truths == 0] = np.nan
        return best

    def _within_class(self, flags: NDArray[np.bool_], threshold: Places, place: Places) -> NDArray[np.int64]:
        """Return how many flags (thresholds, N) are set up to each place since its class began."""
        counts = np.zeros((len(flags), flags.shape[1] + 1), np.int64)
        np.cumsum(flags, axis=1, out=counts[:, 1:])
        running: NDArray[np.int64] = counts[threshold, place + 1] - counts[threshold, self.first[place]]
        return running


_KEPT: WeakKeyDictionary[Outcomes, dict[str, Ranking]] = WeakKeyDictionary()


def ranking(outcomes: Outcomes, prefix: str = "") -> Ranking:
    """Return the ranking of these outcomes, made once as long as they live: every metric of a table asks for it."""
    kept = _KEPT.setdefault(outcomes, {})
    if prefix not in kept:
        kept[prefix] = Ranking(outcomes, prefix)
    return kept[prefix]


def average_precision(outcomes: Outcomes, area_range: str = "all", prefix: str = "") -> Floats:
    """Return the average precision (thresholds, classes): the mean over 101 recalls; NaN for classes without objects.

    As COCOeval.accumulate; `area_range` is one of matching.RANGES.
    """
    precision: Floats = ranking(outcomes, prefix).precision(RANGES.index(area_range)).mean(axis=2)
    return precision


def average_recall(outcomes: Outcomes, area_range: str = "all", most: int = 100, prefix: str = "") -> Floats:
    """Return the share of objects found (classes,), averaged over the thresholds; NaN for classes without objects.

    Of every image and class only the `most` best detections count.
    """
    area, labels = RANGES.index(area_range), outcomes.columns["labels"]
    taken = (labels >= 0) & (_place_in_class(labels) < most) if most < labels.shape[1] else labels >= 0
    matched, ignored = (outcomes.columns[prefix + name][taken][:, area] for name in ("matched", "ignored"))
    truths = outcomes.columns["truths"][:, :, area].sum(axis=0)
    found = np.bincount(labels[taken], np.bitwise_count(matched & ~ignored), len(truths))
    share: Floats = found / np.where(truths > 0, len(THRESHOLDS) * truths, np.nan)
    return share


def _place_in_class(labels: NDArray[np.int16]) -> NDArray[np.int64]:
    """Return how many detections of the same class stand before each one of the image (n, D)."""
    order = np.argsort(labels, axis=1, kind="stable")
    ranked = np.take_along_axis(labels, order, axis=1)
    index = np.broadcast_to(np.arange(labels.shape[1]), labels.shape)
    new = np.diff(ranked, axis=1, prepend=np.int16(-2)) != 0
    place = np.empty(labels.shape, np.int64)
    np.put_along_axis(place, order, index - np.maximum.accumulate(np.where(new, index, 0), axis=1), axis=1)
    return place


def curve(outcomes: Outcomes, iou: float = 0.5, prefix: str = "") -> Floats:
    """Return the precision-recall curves (classes, 101), interpolated, at the recalls 0, .01 … 1 of RECALLS.

    NaN for classes without objects.  Raises UsageError for an IoU that is not one of .50, .55 … .95.
    """
    place = np.flatnonzero(np.isclose(THRESHOLDS, iou))
    if not len(place):
        raise UsageError(f"matches are stored at an IoU of .50, .55 … .95, not at {iou}")
    table: Floats = ranking(outcomes, prefix).precision()[place[0]]
    return table


def per_class(outcomes: Outcomes, prefix: str = "") -> list[dict[str, Any]]:
    """Return class, images, objects, ap, ap50 and ar of every class; None where a class has no object."""
    objects = outcomes.columns["truths"][:, :, 0]
    precision, recall = average_precision(outcomes, prefix=prefix), average_recall(outcomes, prefix=prefix)
    there = objects.sum(axis=0) > 0
    return [
        {
            "class": name,
            "images": int((objects[:, i] > 0).sum()),
            "objects": int(objects[:, i].sum()),
            "ap": float(precision[:, i].mean()) if there[i] else None,
            "ap50": float(precision[0, i]) if there[i] else None,
            "ar": float(recall[i]) if there[i] else None,
        }
        for i, name in enumerate(outcomes.classes)
    ]


def best_score(outcomes: Outcomes) -> tuple[float, float]:
    """Return the least score that makes F1 at IoU .50 best, over all classes together, and that F1.

    A threshold chosen on the images that it is judged on: good for showing errors, too good as a result.  Without
    detections it is (0, 0), and NaN stands for the F1 where there is no object.
    """
    ranked = ranking(outcomes)
    truths = int(ranked.truths[:, 0].sum())
    counted = np.flatnonzero(ranked.ignored[:, 0] & 1 == 0)
    order = counted[np.argsort(-ranked.scores[counted], kind="stable")]
    if not truths or not len(order):
        return 0.0, 0.0 if truths else float("nan")
    scores, found = ranked.scores[order], np.cumsum(ranked.matched[order, 0] & 1)
    f1 = 2 * found / (np.arange(1, len(order) + 1) + truths)
    last = np.flatnonzero(np.diff(scores, append=-np.inf))  # a threshold takes all detections of a score
    best = last[f1[last].argmax()]
    return float(scores[best]), float(f1[best])


def mean(values: Floats) -> float:
    """Return the mean of what is defined; NaN where nothing is."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def mean_precision(
    outcomes: Outcomes, area_range: str = "all", threshold: int | None = None, prefix: str = ""
) -> float:
    """Return the mean average precision over the classes that have objects; NaN when none has.

    `threshold` is a place in matching.THRESHOLDS; None is the mean over all ten.
    """
    table = average_precision(outcomes, area_range, prefix)
    return mean(table if threshold is None else table[threshold])


def coco_metrics(title: str = "", prefix: str = "") -> Mapping[str, Metric]:
    """Return COCO's twelve numbers as metrics; `title` stands before each title, `prefix` before each name."""

    def precision(name: str, area_range: str = "all", threshold: int | None = None) -> Metric:
        return Metric(title + name, lambda o: mean_precision(o, area_range, threshold, prefix))

    def recall(name: str, area_range: str = "all", most: int = 100) -> Metric:
        return Metric(title + name, lambda o: mean(average_recall(o, area_range, most, prefix)))

    table = {
        "map": precision("mAP"),
        "map50": precision("mAP at IoU .50", threshold=0),
        "map75": precision("mAP at IoU .75", threshold=5),
        "map_small": precision("mAP, objects below 32 x 32", "small"),
        "map_medium": precision("mAP, objects up to 96 x 96", "medium"),
        "map_large": precision("mAP, objects above 96 x 96", "large"),
        "ar1": recall("Average recall, 1 detection a class", most=1),
        "ar10": recall("Average recall, 10 detections a class", most=10),
        "ar100": recall("Average recall, 100 detections a class"),
        "ar_small": recall("Average recall, objects below 32 x 32", "small"),
        "ar_medium": recall("Average recall, objects up to 96 x 96", "medium"),
        "ar_large": recall("Average recall, objects above 96 x 96", "large"),
    }
    return {prefix + name: metric for name, metric in table.items()}
