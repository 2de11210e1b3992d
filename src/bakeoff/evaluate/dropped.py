"""Candidates that the race stopped on validation: listed without test result and without rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bakeoff.evaluate.verdict import Unit
from bakeoff.findings import printable


@dataclass(frozen=True)
class Dropped:
    """A candidate that left the race at rung `rung` (1, 2).

    `behind` is by how much the leader was better on validation, with the race's own interval, in the metric's unit;
    None where the run failed, and `reason` says how.
    """

    candidate: str
    rung: int
    behind: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str = ""

    def sentence(self, unit: Unit) -> str:
        """Say where it was stopped, and why."""
        if self.behind is None or self.low is None or self.high is None:
            return f"stopped at rung {self.rung}: {self.reason}"
        gap = f"{unit.amount(self.behind)} {unit.interval(self.low, self.high)}"
        return f"stopped at rung {self.rung} on validation, behind by {gap}"


def stopped(dropped: Sequence[Dropped], unit: Unit) -> str:
    """Return what a verdict adds about those that the race stopped; with more than two their number."""
    if not dropped:
        return ""
    if len(dropped) > 2:
        return f" {len(dropped)} others were stopped in the race on validation and have no test result."
    return "".join(f" {printable(one.candidate)} was {one.sentence(unit)}; it has no test result." for one in dropped)
