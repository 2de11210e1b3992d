"""What an expansion makes, and how evenly: amounts, options, and how many of each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bakeoff.errors import UsageError


@dataclass(frozen=True)
class Expansion:
    """What to put into the new dataset, drawn evenly over the classes as a function of `seed`.

    `originals` caps how many originals that may be trained on are kept (None: all).  `background` images have
    their background replaced by `fill` ("white", "black", "grey", "#rrggbb", "blur", or the path of a picture or of a
    folder of pictures), cut out by GrabCut or by the ONNX file `model` of a `family` (None: told by its name, see
    onnx_matting.FAMILIES).  `cutmix` images have `patches` patches of another image of their class, each of a share of
    the picture drawn between the two of `area`.  Raises UsageError for impossible values.
    """

    originals: int | None = None
    background: int = 0
    cutmix: int = 0
    seed: int = 0
    fill: str = "white"
    model: Path | None = None
    family: str | None = None
    patches: int = 1
    area: tuple[float, float] = (0.1, 0.4)

    def __post_init__(self) -> None:
        """Refuse what cannot be made."""
        low, high = self.area
        if self.originals is not None and self.originals < 1:
            raise UsageError(f"--originals must be 1 or more, not {self.originals}")
        if self.background < 0 or self.cutmix < 0:
            raise UsageError(f"--background {self.background} and --cutmix {self.cutmix} must be 0 or more images")
        if not self.background and not self.cutmix:
            raise UsageError("nothing to make: say how many with --background N, --cutmix N or both")
        if self.patches < 1:
            raise UsageError(f"--patches must be 1 or more, not {self.patches}")
        if not 0 < low <= high < 1:
            raise UsageError(
                f"--area {low:g} {high:g}: two shares of the picture are needed, 0 < smallest <= largest < 1"
            )
        if self.family is not None and self.model is None:
            raise UsageError(f"--family {self.family} says what kind of network --model is: name its file too")


def evenly(amount: int, room: Sequence[int], draws: np.random.Generator) -> list[int]:
    """Return how many of each class to take so that all take equally many, none more than its room.

    What is left over when the classes do not divide the amount goes to classes drawn at random.

    >>> evenly(7, [9, 1, 9], np.random.default_rng(0))
    [3, 1, 3]
    """
    taken = [0] * len(room)
    left = min(amount, sum(room))
    while left:
        open_ones = [place for place, most in enumerate(room) if taken[place] < most]
        each = min(left // len(open_ones), *(room[place] - taken[place] for place in open_ones))
        chosen = open_ones if each else sorted(draws.choice(open_ones, left, replace=False).tolist())
        for place in chosen:
            taken[place] += max(each, 1)
        left -= len(chosen) * max(each, 1)
    return taken
