"""The exception tree.  Every message says what happened, where, and what to do.

BakeoffError                     exit code 1 (never raised itself)
├── UsageError                   2  a wrong name, key or option
├── DataError                    3  the user's data cannot be used as it is
│   ├── UnreadableImage             one image that cannot be decoded
│   ├── LeakError                   the same image or group on both sides of a split
│   └── WeightsMismatch             a weights file that does not fit the network
├── RunError                     4  a run failed
│   └── Diverged                    the loss became NaN or infinite
├── ResourceError                5  disk, memory, device, or weights that cannot be fetched
└── Refused                      6  safety, licence, or an unfair comparison
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class BakeoffError(Exception):
    """Root of all errors that bakeoff raises on purpose."""

    exit_code = 1


class UsageError(BakeoffError):
    """A wrong name, key or option was given."""

    exit_code = 2


class DataError(BakeoffError):
    """The data cannot be used as it is."""

    exit_code = 3


class UnreadableImage(DataError):
    """One image cannot be decoded; `path` names it and `reason` says why."""

    def __init__(self, path: Path | str, reason: str) -> None:
        """Name the file and the reason."""
        self.path, self.reason = Path(path), reason
        super().__init__(f"{path}: cannot be read as an image: {reason}")


class LeakError(DataError):
    """The same image or group stands on both sides of a split."""


class WeightsMismatch(DataError):
    """A weights file does not fit the network that should load it."""


class RunError(BakeoffError):
    """A run failed."""

    exit_code = 4


class Diverged(RunError):
    """The loss became NaN or infinite at `step`."""

    def __init__(self, step: int, loss: float) -> None:
        """Name the step and the loss."""
        self.step, self.loss = step, loss
        super().__init__(f"the loss became {loss} at step {step}: lower the rate, add warm-up, or look at the data")


class ResourceError(BakeoffError):
    """Disk, memory or device is missing, or weights cannot be fetched."""

    exit_code = 5


class Refused(BakeoffError):
    """Refused for safety, licence or fairness."""

    exit_code = 6


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ' (did you mean X?)' for the nearest known name, or an empty string.

    >>> nearest("resnet5", ["resnet50", "vgg13"])
    ' (did you mean resnet50?)'
    """
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]}?)" if close else ""
