"""The data-size curve: how good each candidate is on shares of the training images, and what more of them would bring.

The points of a candidate are estimates like those of the comparison, with the same test images at every share.  What
candidates differ by at each share is exploratory: only the comparison, on all training images, decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import TypeAdapter

from bakeoff.errors import Refused
from bakeoff.evaluate.alignment import Aligned, Cells, align
from bakeoff.evaluate.estimates import headline_table, metric_estimates
from bakeoff.evaluate.pairs import Contest, Estimate, Level, tested_pairs
from bakeoff.evaluate.power_law import LEAST_FOR_FLOOR, Trend, fit_trend
from bakeoff.evaluate.variance import Codes, Scores, group_codes
from bakeoff.evaluate.verdict import Unit
from bakeoff.findings import lowered, printable

if TYPE_CHECKING:  # a report reads a curve without torch
    from bakeoff.tasks.task import Metric

SCHEMA_VERSION = 1
Key = tuple[str, float]  # candidate, share of the training images
EXPLORATORY = (
    "The differences between candidates at each share are exploratory: the verdict is that of the comparison, on all "
    "training images."
)


@dataclass(frozen=True)
class Point:
    """A candidate on a share of the training images: so many of them, the metric over its finished seeds or repeats."""

    share: float
    images: float  # mean over runs, which draw subsets of their own
    runs: int  # rows: seeds, or repeats of a cross-validation
    estimate: Estimate


@dataclass(frozen=True)
class Course:
    """One candidate's points, by size, the law fitted to them, and what that says in a sentence."""

    candidate: str
    points: tuple[Point, ...]
    trend: Trend
    sentence: str
    failures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Gap:
    """The difference a - b at one share, positive when a is better; simultaneous 95 % interval over its pairs."""

    share: float
    a: str
    b: str
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """The data-size curves of all candidates.  `to_json`/`from_json` are exact inverses.

    `images` and `groups` are those of the test; `runs` the ids of the contest's runs that are the points on all
    training images: a curve is out of date when the study has others.
    """

    task: str
    metric: str
    level: Level
    images: int
    groups: int
    courses: tuple[Course, ...]
    gaps: tuple[Gap, ...]
    notes: tuple[str, ...]
    runs: tuple[str, ...]
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able dictionary; what is undefined is null."""
        content: dict[str, Any] = _adapter().dump_python(self, mode="json")
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Curve:
        """Rebuild from to_json().  Raises ValueError for content of another version or shape."""
        if content.get("schema_version") != SCHEMA_VERSION:
            raise ValueError(f"schema_version is {content.get('schema_version')}, expected {SCHEMA_VERSION}")
        return _adapter().validate_python(dict(content))


@dataclass(frozen=True)
class Traced:
    """What a curve is made of.

    `cells` are the outcomes of the finished runs by candidate and share, `sizes` how many training images a share is,
    `failures` what went wrong by candidate.  `groups` maps record ids to groups (absent: each image is its own);
    `folds` above 1 is a cross-validation; `eps` and `baseline` are those of the study.
    """

    metric: Metric
    cells: Mapping[Key, Cells]
    sizes: Mapping[float, float]
    failures: Mapping[str, tuple[str, ...]]
    groups: Mapping[str, str]
    folds: int = 1
    eps: float = 1.0
    baseline: str | None = None


def trace(task: str, name: str, traced: Traced, runs: Sequence[str], notes: Sequence[str] = ()) -> Curve:
    """Return the curve of a task's metric `name`.

    Raises Refused when runs were not tested on the same images, or when no run finished.
    """
    rows = _rows(traced)
    ids = next(iter(rows.values())).outcomes[0].ids
    codes = group_codes(
        [f"group {traced.groups[id]}" if id in traced.groups else f"image {id}" for id in ids], len(ids)
    )
    count = int(codes.max()) + 1
    if count < 2:
        raise Refused("the test set has a single image or group, from which nothing can be inferred; test on more")
    made = {
        key: headline_table(traced.metric, found.outcomes, codes, count == len(codes)) for key, found in rows.items()
    }
    units = next(iter(made.values()))[1]
    tables = {key: table for key, (table, _) in made.items() if np.isfinite(table).all()}
    contests = {share: _contest(traced, tables, rows, (units, count), share) for share in sorted(traced.sizes)}
    level = contests[max(contests)].level
    return Curve(
        task=task,
        metric=name,
        level=level,
        images=len(codes),
        groups=count,
        courses=tuple(_course(traced, rows, tables, (codes, units), candidate) for candidate in _names(traced)),
        gaps=tuple(gap for contest in contests.items() for gap in _gaps(*contest)),
        notes=(*notes, *_notes(traced, level)),
        runs=tuple(runs),
    )


def _names(traced: Traced) -> list[str]:
    """Return the candidates in their order."""
    return list(dict.fromkeys(candidate for candidate, _ in traced.cells))


def _rows(traced: Traced) -> dict[Key, Aligned]:
    """Bring all finished rows onto the same test images."""
    labels = {f"{candidate} on {100 * share:g} %": (candidate, share) for candidate, share in traced.cells}
    found = align({label: traced.cells[key] for label, key in labels.items()}, traced.folds)
    rows = {labels[label]: aligned for label, aligned in found.items() if aligned.rows}
    if not rows:
        raise Refused("no run of the data-size curve finished, so there is nothing to draw")
    return rows


def _contest(
    traced: Traced, tables: Mapping[Key, Scores], rows: Mapping[Key, Aligned], units: tuple[Codes, int], share: float
) -> Contest:
    """Return the score tables at one share, to be compared with each other."""
    here = {candidate: table for (candidate, at), table in tables.items() if at == share}
    names = {candidate: rows[candidate, share].rows for candidate in here}
    eps = traced.eps / 100 if traced.metric.percent else traced.eps
    return Contest(here, names, units[0], units[1], traced.folds, eps, traced.baseline)


def _gaps(share: float, contest: Contest) -> list[Gap]:
    """Return what candidates differ by at one share."""
    pairs = tested_pairs(contest) if len(contest.names) > 1 else ()
    return [Gap(share, pair.a, pair.b, pair.difference, pair.low, pair.high) for pair in pairs]


def _course(
    traced: Traced,
    rows: Mapping[Key, Aligned],
    tables: Mapping[Key, Scores],
    codes: tuple[Codes, Codes],
    candidate: str,
) -> Course:
    """Return one candidate's points and law; `codes` are the groups, and the units of the tables."""
    metric, groups = traced.metric, codes[0]
    shares = [share for share in sorted(traced.sizes) if (candidate, share) in rows]
    found = {share: rows[candidate, share] for share in shares}
    estimates = {
        share: metric_estimates({"": metric}, one.outcomes, groups, traced.folds)[""] for share, one in found.items()
    }
    points = tuple(Point(s, traced.sizes[s], len(found[s].rows), estimates[s]) for s in shares)
    trend = _trend(traced, [tables.get((candidate, share)) for share in shares], points, codes[1])
    return Course(
        candidate, points, trend, sentence(candidate, trend, points, metric), traced.failures.get(candidate, ())
    )


def _trend(traced: Traced, tables: Sequence[Scores | None], points: Sequence[Point], units: Codes) -> Trend:
    """Fit a power law where the metric has an error that can follow one."""
    metric = traced.metric
    if metric.higher_is_better and not metric.percent:
        return Trend(None, reason=f"{lowered(metric.title)} has no upper end that an error could be measured from")
    defined = [table for table in tables if table is not None]
    if len(defined) < len(tables):
        return Trend(None, reason=f"{lowered(metric.title)} is undefined on some of the test images")
    sizes = [point.images for point in points]
    return fit_trend(defined, sizes, units, traced.folds, metric.higher_is_better)


def sentence(candidate: str, trend: Trend, points: Sequence[Point], metric: Metric) -> str:
    """Say what twice the training images would bring a candidate."""
    unit, gain, low, high = Unit(metric.percent), trend.gain.value, trend.gain.low, trend.gain.high
    if gain is None or low is None or high is None:
        return f"{printable(candidate)}: what twice the images would buy is not applicable because {trend.reason}"
    largest = max(point.images for point in points)
    what = "" if metric.percent else f" of {lowered(metric.title)}"
    words = f"twice the images ({2 * largest:,.0f} instead of {largest:,.0f}) would buy about {unit.amount(gain)}"
    unsure = "" if low > 0 else "; the interval leaves open whether more images help at all"
    return f"{printable(candidate)}: {words}{what} {unit.interval(low, high)}{unsure}"


def _notes(traced: Traced, level: Level) -> list[str]:
    """Say what the intervals of a curve do not cover."""
    notes = []
    if level == "L0":
        notes.append(
            "One or two runs, or few test images: the intervals cover little more than the luck of these images."
        )
    if len(traced.sizes) < LEAST_FOR_FLOOR:
        notes.append(
            f"Fewer than {LEAST_FOR_FLOOR} sizes cannot tell whether the error has a floor: the gain may be overstated."
        )
    return [*notes, *([EXPLORATORY] if len(_names(traced)) > 1 else [])]


@cache
def _adapter() -> TypeAdapter[Curve]:
    """Return what turns a curve into JSON values and back."""
    return TypeAdapter(Curve)
