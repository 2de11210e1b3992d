"""Runs in TensorBoard and MLflow: written while a study trains, or afterwards from its folder, with the same content.

Trackers are told facts and change none: whatever happens to a tracker, the study goes on and gives the same numbers.
A tracker's module needs packages that are an optional extra, so it is imported when the tracker is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from bakeoff.errors import UsageError, nearest
from bakeoff.track.tracker import Tracker

TRACKERS = ("tensorboard", "mlflow")  # modules of this room; each has a class TRACKER

__all__ = ["TRACKERS", "Tracker", "trackers"]


def trackers(names: Sequence[str]) -> tuple[type[Tracker], ...]:
    """Return the trackers of these names; UsageError for an unknown one, or one whose packages are not installed."""
    for name in names:
        if name not in TRACKERS:
            raise UsageError(f"no tracker {name!r}{nearest(name, TRACKERS)}; there are {' and '.join(TRACKERS)}")
    try:
        return tuple(import_module(f"bakeoff.track.{name}").TRACKER for name in dict.fromkeys(names))
    except ModuleNotFoundError as error:
        raise UsageError(f"tracking needs {error.name}, which is not installed: pip install 'bakeoff[track]'") from None
