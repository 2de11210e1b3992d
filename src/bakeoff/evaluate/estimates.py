"""From outcomes to score tables and to each candidate's metrics with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bakeoff.evaluate.pairs import Estimate
from bakeoff.evaluate.resampling import jackknife_blocks, pseudo_values
from bakeoff.evaluate.statistics import one_sample_t
from bakeoff.evaluate.variance import Codes, Scores

if TYPE_CHECKING:  # importing tasks costs the import of torch, which nothing here needs
    from bakeoff.tasks.task import Metric, Outcomes

WHOLE = 500  # up to this many images the headline's jackknife leaves out one image at a time, above 200 blocks
EXPLORED, LARGE, EXPLORED_LARGE = 50, 2000, 15  # blocks for the other metrics (fewer above 2,000 images: time)


def headline_table(metric: Metric, runs: Sequence[Outcomes], groups: Codes, single: bool) -> tuple[Scores, Codes]:
    """Return a candidate's score table (rows, n), higher is better, and the units that its columns come in.

    Metrics that are means over images give those; others jackknife pseudo-values.  `single` says that every image is
    its own group.
    """
    sign = 1.0 if metric.higher_is_better else -1.0
    if metric.per_image is not None:
        return sign * np.array([metric.per_image(run) for run in runs], np.float64), groups
    blocks = jackknife_blocks(len(groups), None if single else groups, whole=WHOLE)
    rows = [pseudo_values(lambda keep, run=run: metric.function(run.take(keep)), blocks) for run in runs]  # type: ignore[misc]
    return sign * np.array(rows), blocks


def metric_estimates(
    table: Mapping[str, Metric], runs: Sequence[Outcomes], groups: Codes, folds: int, level: float = 0.05
) -> dict[str, Estimate]:
    """Return every metric of one candidate, averaged over its rows, with its interval at 1 - `level`; NaN becomes None.

    Intervals cover images (or groups) and seeds.  No interval where a metric is undefined on a part of the images.
    """
    means = {
        name: (np.array([metric.per_image(run) for run in runs], np.float64), groups)
        for name, metric in table.items()
        if metric.per_image is not None
    }
    whole = {name: metric for name, metric in table.items() if metric.per_image is None}
    tables = means | _whole_set(whole, runs, groups)
    return {name: _estimate(table[name], *tables[name], runs, (folds, level)) for name in table}


def _whole_set(
    metrics: Mapping[str, Metric], runs: Sequence[Outcomes], groups: Codes
) -> dict[str, tuple[Scores, Codes]]:
    """Return pseudo-values (rows, n) of all metrics at once: each subset of the images is taken once per run."""
    if not metrics:
        return {}
    most = EXPLORED if len(groups) <= LARGE else EXPLORED_LARGE
    blocks = jackknife_blocks(len(groups), groups, most=most, whole=most)
    rows = []
    for run in runs:

        def measure(keep: NDArray[np.intp], run: Outcomes = run) -> NDArray[np.float64]:
            part = run.take(keep)
            return np.array([metric.function(part) for metric in metrics.values()], np.float64)

        rows.append(pseudo_values(measure, blocks))
    stacked = np.stack(rows, axis=1)  # (metrics, rows, n)
    return {name: (stacked[place], blocks) for place, name in enumerate(metrics)}


def _estimate(
    metric: Metric, scores: Scores, units: Codes, runs: Sequence[Outcomes], design: tuple[int, float]
) -> Estimate:
    """Return one metric's mean over rows with its interval; none where nothing varies between the metric's bounds.

    `design` is the number of folds and the level.
    """
    folds, level = design
    if np.isfinite(scores).all() and units.max() > 0:
        found = one_sample_t(scores, units, folds, level, metric.bounds)
        sure = found.high > found.low
        return Estimate(found.difference, found.low if sure else None, found.high if sure else None)
    values = [float(metric.function(run)) for run in runs]
    return Estimate(float(np.mean(values)) if np.isfinite(values).all() else None)
