"""The contract of a tracker: a writer of logs that another program shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

from bakeoff.store import Run, StudyFolder
from bakeoff.track.log import End, Log, Point


class Tracker(Protocol):
    """Writes one log for each run, and one for the whole study.

    Making one touches nothing; whatever its library raises later may leave any method.  Its folder is
    STUDY/tracking/NAME; `PACKAGES` are what must be importable.
    """

    NAME: ClassVar[str]
    PACKAGES: ClassVar[tuple[str, ...]]

    def __init__(self, study: StudyFolder) -> None:
        """Remember the study's folder."""

    def begin(self, run: Run, began: float) -> None:
        """Begin the log of a run that began at `began` (seconds since 1970); an earlier log of it is replaced."""

    def write(self, run: str, points: Sequence[Point]) -> None:
        """Add points to the log of a run (its id)."""

    def end(self, run: str, end: End) -> None:
        """Say that a run ended; results may still follow."""

    def complete(self, log: Log) -> None:
        """Add what is known of a run once its study is finished, and note that the log is whole."""

    def holds(self, log: Log) -> bool:
        """Say whether exactly this log was written already, and is whole."""

    def conclude(self, comparison: dict[str, Any]) -> None:
        """Write the log of the study: its verdict (comparison.json) and its report, in place of an earlier one."""
