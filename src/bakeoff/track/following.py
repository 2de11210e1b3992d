"""Trackers fed: live, by listening to what a study tells its display, and afterwards, from the study's folder.

A run that begins or resumes is logged anew from its history, which the worker has wound back to the checkpoint; facts
that come twice, in the history and told, are logged once.  Test metrics are logged when the study is finished, as
the test split speaks once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from types import TracebackType
from typing import Any

from bakeoff.errors import BakeoffError, ResourceError
from bakeoff.files import read_json
from bakeoff.prepare import Tell
from bakeoff.store import StudyFolder
from bakeoff.track.log import End, Fact, Key, Log, State, key, point, points, read_log, seconds
from bakeoff.track.tracker import Tracker

PURPOSES = ("contest", "trial", "rung")  # of runs that are logged


def replay(folder: StudyFolder, kinds: Sequence[type[Tracker]]) -> None:
    """Log all runs that a finished study asked for; what is logged already and unchanged is left alone.

    Raises Refused while the study is running, ResourceError when a tracker fails.
    """
    for tracker in (kind(folder) for kind in kinds):
        try:
            with folder.held():
                _complete(folder, tracker, live=())
        except BakeoffError:
            raise
        except Exception as error:
            raise ResourceError(f"{tracker.NAME}: {_reason(error)}") from error


def _complete(folder: StudyFolder, tracker: Tracker, live: Container[str]) -> None:
    """Complete the logs of a finished study: of runs that were not followed `live` to their end, the whole log."""
    for log in stored(folder):
        if log.run.id not in live:
            if tracker.holds(log):
                continue
            tracker.begin(log.run, log.began)
            tracker.write(log.run.id, log.points)
            tracker.end(log.run.id, log.end)
        tracker.complete(log)
    tracker.conclude(read_json(folder.comparison))


def stored(folder: StudyFolder) -> Iterator[Log]:
    """Yield the logs of the runs that a finished study asked for: the contest's, and those of tuning and race."""
    ids = [run.id for run in folder.planned()]
    if folder.tuning.exists():
        parts = chain.from_iterable(read_json(folder.tuning).get("candidates", {}).values())
        ids += [id for part in parts for id in part["runs"]]
    if folder.race.exists():
        ids += [id for rung in read_json(folder.race)["rungs"] for entry in rung["entries"] for id in entry["runs"]]
    found = (read_log(folder.run(id)) for id in dict.fromkeys(ids))
    return (log for log in found if log is not None)


@dataclass
class Followed:
    """How far the log of a run under way is."""

    logged: set[Key]
    step: int = 0


class Following:
    """Stands between a study and its display, and passes on to trackers what is told of runs.

    A tracker that fails is told of once and left out from then on; the study goes on.  On leaving the block, runs that
    did not end are noted as stopped.
    """

    def __init__(self, folder: StudyFolder, kinds: Sequence[type[Tracker]], onward: Tell) -> None:
        """Touch nothing yet."""
        self._folder, self._onward = folder, onward
        self._trackers = [kind(folder) for kind in kinds]
        self._running: dict[str, Followed] = {}
        self._ended: set[str] = set()

    def __enter__(self) -> Following:
        """Begin to listen."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Note the runs that were cut."""
        for run in list(self._running):
            self._end(run, "stopped")

    def tell(self, run: str, fact: dict[str, Any]) -> None:
        """Take a fact in, after the display has."""
        self._onward(run, fact)
        if not self._trackers or not run:
            return
        match fact["kind"]:
            case "run" if fact["purpose"] in PURPOSES:
                self._begin(run)
            case "finished" if run in self._running:
                self._end(run, "done")
            case "failed" if run in self._running:
                self._end(run, "failed", fact["error"])
            case _ if run in self._running:
                self._go_on(run, fact)

    def conclude(self) -> None:
        """Complete the logs, once the study is finished and its report written."""

        def complete(tracker: Tracker) -> None:
            with self._folder.held():
                _complete(self._folder, tracker, self._ended)

        self._each(complete)

    def _begin(self, id: str) -> None:
        """Begin or resume a run: log what its history holds."""
        folder, now = self._folder.run(id), time.time()
        run, history = folder.read(), folder.history()
        if run is None:
            return
        known = list(points(history, now))
        self._running[id] = Followed({key(fact) for fact in history}, known[-1].step if known else 0)
        self._ended.discard(id)

        def begin(tracker: Tracker) -> None:
            tracker.begin(run, now - seconds(history))
            tracker.write(id, known)

        self._each(begin)

    def _go_on(self, id: str, fact: Fact) -> None:
        """Log a fact, unless the history told it already."""
        run, found = self._running[id], point(fact, time.time())
        if found is not None and key(fact) not in run.logged:
            run.logged.add(key(fact))
            run.step = found.step
            self._each(lambda tracker: tracker.write(id, [found]))

    def _end(self, id: str, state: State, error: str = "") -> None:
        """Log the end of a run."""
        end = End(state, self._running.pop(id).step, time.time(), error)
        self._ended.add(id)
        self._each(lambda tracker: tracker.end(id, end))

    def _each(self, act: Callable[[Tracker], None]) -> None:
        """Let every tracker act; one that fails is left out from now on."""
        for tracker in tuple(self._trackers):
            try:
                act(tracker)
            except Exception as error:
                self._trackers.remove(tracker)
                again = (
                    f"the study goes on; when it is finished: bakeoff report {self._folder.path} --track {tracker.NAME}"
                )
                said = f"tracking with {tracker.NAME} stopped: {_reason(error)}; {again}"
                self._onward("", {"kind": "finding", "code": "tracking", "severity": "warning", "sentence": said})


def _reason(error: Exception) -> str:
    """Return the first line of what an error says."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
