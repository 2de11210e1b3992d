"""Where the gap between training and validation opened, and how it went: read from a run's facts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from bakeoff.findings import plural
from bakeoff.report.charts import Event, Point
from bakeoff.report.wording import known, number
from bakeoff.train.gap import GapRule, gaps

Facts = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Opening:
    """A gap opened after epoch `taken`, whose weights were taken up again after epoch `noticed`; both from 1."""

    taken: float
    noticed: float

    def gave_up(self, epoch: float) -> bool:
        """Say whether nothing came of an epoch."""
        return self.taken < epoch <= self.noticed


def openings(facts: Facts) -> tuple[Opening, ...]:
    """Return the gaps that opened in a run."""
    found = (fact for fact in facts if fact.get("kind") == "gap")
    pairs = ((known(fact.get("taken")), known(fact.get("epoch"))) for fact in found)
    return tuple(Opening(taken + 1, epoch + 1) for taken, epoch in pairs if taken is not None and epoch is not None)


def kept(points: Iterable[Point], opened: Sequence[Opening]) -> tuple[Point, ...]:
    """Return a curve along the weights that the run went on with."""
    return tuple(point for point in points if not any(one.gave_up(point[0]) for one in opened))


def given_up(points: Sequence[Point], opened: Sequence[Opening]) -> list[tuple[Point, ...]]:
    """Return the branches of a curve that nothing came of, each with the epoch that it leaves from."""
    branches = (tuple(p for p in points if one.taken <= p[0] <= one.noticed) for one in opened)
    return [branch for branch in branches if len(branch) > 1]


def gap_series(facts: Facts, spec: Mapping[str, Any]) -> list[tuple[float, tuple[Point, ...]]]:
    """Return, for every stage that waited for a gap, its tolerance and the gap after each epoch (from 1)."""
    stages = (spec.get("recipe") or {}).get("stages") or []
    starts = [fact for fact in facts if fact.get("kind") == "stage"]
    found = []
    for place, start in enumerate(starts):
        number_ = int(start["stage"])
        until = stages[number_].get("until") if number_ < len(stages) else None
        if until:
            end = starts[place + 1]["epoch"] if place + 1 < len(starts) else float("inf")
            rule, losses = GapRule.model_validate(until), _losses(facts, start["epoch"], end)
            values = gaps([(train, val) for _, train, val in losses], rule)
            points = tuple((epoch, gap) for (epoch, _, _), gap in zip(losses, values, strict=True))
            found += [(rule.gap, points)] if points else []
    return found


def _losses(facts: Facts, first: float, end: float) -> list[tuple[float, float, float]]:
    """Return (epoch from 1, training loss, validation loss) of the epochs of a stage that have both."""
    epochs = [fact for fact in facts if fact.get("kind") == "epoch" and first <= fact["epoch"] < end]
    found = ((fact["epoch"] + 1.0, known(fact.get("train_loss")), known(fact.get("val_loss"))) for fact in epochs)
    return [(epoch, train, val) for epoch, train, val in found if train is not None and val is not None]


def events(opened: Sequence[Opening]) -> list[Event]:
    """Return the marks of a chart: where gaps opened, and after which epochs the weights of then were taken up."""
    taken = sorted({one.taken for one in opened})
    back = sorted({one.noticed + 0.5 for one in opened})
    return [Event(at, "gap opens", "taken") for at in taken] + [Event(at, "restart", "restart") for at in back]


def words(opened: Sequence[Sequence[Opening]]) -> str:
    """Say for the runs of a candidate where the gap opened and what was taken up; "" when none opened."""
    found = [one for run in opened for one in run]
    if not found:
        return ""
    runs = sum(1 for run in opened if run)
    many = f"in {plural(runs, 'run')} of {len(opened)} " if len(opened) > 1 else ""
    taken, noticed = (_listed(getattr(one, name) for one in found) for name in ("taken", "noticed"))
    return (
        f"; {many}the gap opened after epoch {taken} (ring); when it had been open long enough, after epoch {noticed}, "
        "training went back to the weights of then (restart), and nothing came of the dotted epochs between"
    )


def _listed(values: Iterable[float]) -> str:
    """List distinct epochs in order.

    >>> _listed([8.0, 7.0, 8.0, 12.0])
    '7, 8 or 12'
    """
    *most, last = [number(value, 0) for value in sorted(set(values))]
    return f"{', '.join(most)} or {last}" if most else last


def rings(points: Sequence[Point], opened: Sequence[Opening]) -> tuple[Point, ...]:
    """Return the points of a curve whose weights were taken up again."""
    return tuple(chain.from_iterable([p for p in points if p[0] == one.taken] for one in opened))
