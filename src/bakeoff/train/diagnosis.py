"""What goes on inside a network while it learns: which steps are looked at, what is noted of them, what it means."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, ClassVar, Literal

MOST = 60  # epochs of a run that are looked at: a longer one every second epoch, every third, and so on
VANISHED = 1e-2  # the first layers' gradient norm over the last ones', below which it vanishes on its way
EXPLODED = 1e3  # and above which it explodes; batch norm alone makes it grow a hundredfold in deep networks
STILL, RESTLESS = 1e-5, 1e-1  # change of the weights in a step over their norm; CS231n: about 1e-3 is healthy
SILENT = 0.5  # share of dead ReLUs from which a layer group is named

Values = tuple[float | None, ...]


@dataclass(frozen=True)
class Diagnosis:
    """One training step seen from inside; values are by layer group, from stem to head, None where there is none.

    `step` counts from 1, `at` is the epochs that were trained when the step began.  `gradient` is the norm of the
    loss's gradient before clipping, `weight` that of the weights before the step, `update` that of their change in it
    (frozen groups: None).  `dead` is the share of ReLU units, channels of a map or features of a vector, whose output
    was 0 for every image of the batch, everywhere.
    """

    kind: ClassVar[str] = "diagnosis"
    epoch: int
    step: int
    at: float
    groups: tuple[str, ...]
    gradient: Values
    weight: Values
    update: Values
    dead: Values


def observed(step: int, steps_per_epoch: int, epochs: int) -> bool:
    """Say whether a step (0-based) is looked at: a formula, so a resumed run looks at the same ones.

    The first and the middle step of an epoch, at most MOST epochs of a run; in the first epoch, where most happens, the
    steps 0, 1, 2, 4, 8 and so on too.

    >>> [step for step in range(40) if observed(step, steps_per_epoch=10, epochs=4)]
    [0, 1, 2, 4, 5, 8, 10, 15, 20, 25, 30, 35]
    """
    epoch, offset = divmod(step, steps_per_epoch)
    if epoch == 0 and offset & (offset - 1) == 0:
        return True
    return epoch % math.ceil(epochs / MOST) == 0 and offset in (0, steps_per_epoch // 2)


@dataclass(frozen=True)
class Moment:
    """The middle of what several runs were at one step; see Diagnosis, `ratio` is update over weight."""

    at: float
    gradient: Values
    ratio: Values
    dead: Values


Series = Literal["gradient", "ratio", "dead"]


def moments(runs: Iterable[Sequence[Mapping[str, Any]]]) -> tuple[tuple[str, ...], tuple[Moment, ...]]:
    """Return the names of the layer groups and, step by step, the median over runs of what their histories hold.

    Runs whose groups differ from those of the first are left out: they are of another network.
    """
    groups: tuple[str, ...] = ()
    found: dict[int, list[Moment]] = {}
    for facts in runs:
        for fact in facts:
            if fact.get("kind") != Diagnosis.kind:
                continue
            groups = groups or tuple(fact["groups"])
            if tuple(fact["groups"]) == groups:
                ratio = tuple(map(_ratio, fact["update"], fact["weight"]))
                seen = Moment(fact["at"], tuple(fact["gradient"]), ratio, tuple(fact["dead"]))
                found.setdefault(fact["step"], []).append(seen)
    return groups, tuple(_middle(seen) for _, seen in sorted(found.items()))


def _ratio(update: float | None, weight: float | None) -> float | None:
    """Return update over weight; None where either is not known or the weights are all 0."""
    return None if update is None or not weight else update / weight


def _middle(seen: Sequence[Moment]) -> Moment:
    """Return the median of several runs at one step."""
    columns = [_medians(getattr(one, name) for one in seen) for name in ("gradient", "ratio", "dead")]
    return Moment(seen[0].at, *columns)


def _medians(rows: Iterable[Values]) -> Values:
    """Return the median of every column, of what is known in it."""
    columns = ([value for value in column if value is not None] for column in zip(*rows, strict=True))
    return tuple(median(column) if column else None for column in columns)


@dataclass(frozen=True)
class Inside:
    """What a candidate's moments come to: by layer group, from stem to head, and what is to be said of them.

    `gradient` and `ratio` are medians over all moments, `dead` over those of the last quarter of the training.
    `first` and `last` are the places of the outermost groups with a gradient, `reach` the median over moments of the
    first one's gradient norm over the last one's, `begin` the same at the first moment that has it; None where fewer
    than two groups learn.
    """

    groups: tuple[str, ...]
    gradient: Values
    ratio: Values
    dead: Values
    first: int = 0
    last: int = 0
    reach: float | None = None
    begin: float | None = None

    @property
    def flow(self) -> Literal["vanishes", "explodes", "arrives", "unknown"]:
        """How the gradient comes through from the head to the stem."""
        if self.reach is None:
            return "unknown"
        return "vanishes" if self.reach < VANISHED else "explodes" if self.reach > EXPLODED else "arrives"

    @property
    def still(self) -> tuple[int, ...]:
        """Places of the groups whose weights hardly change."""
        return tuple(place for place, value in enumerate(self.ratio) if value is not None and value < STILL)

    @property
    def restless(self) -> tuple[int, ...]:
        """Places of the groups whose weights are rewritten rather than changed."""
        return tuple(place for place, value in enumerate(self.ratio) if value is not None and value > RESTLESS)

    @property
    def silent(self) -> tuple[int, ...]:
        """Places of the groups with many dead ReLUs."""
        return tuple(place for place, value in enumerate(self.dead) if value is not None and value >= SILENT)


def inside(groups: tuple[str, ...], seen: Sequence[Moment]) -> Inside:
    """Sum up the moments of a candidate (from moments(); one at least)."""
    gradient = _medians(moment.gradient for moment in seen)
    ratio = _medians(moment.ratio for moment in seen)
    end = seen[-1].at
    dead = _medians(moment.dead for moment in seen if moment.at >= 0.75 * end)
    learning = [place for place, value in enumerate(gradient) if value is not None]
    if len(learning) < 2:
        return Inside(groups, gradient, ratio, dead)
    first, last = learning[0], learning[-1]
    pairs = [(moment.gradient[first], moment.gradient[last]) for moment in seen]
    reaches = [low / high for low, high in pairs if low is not None and high]
    if not reaches:
        return Inside(groups, gradient, ratio, dead, first, last)
    return Inside(groups, gradient, ratio, dead, first, last, median(reaches), reaches[0])
