"""The Predictor protocol: all that labelling new images needs to know about what labels them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from bakeoff.data.dataset import TaskName
from bakeoff.data.decode import Resize
from bakeoff.data.targets import Target


@runtime_checkable
class Predictor(Protocol):
    """A trained network on its device, an exported file, or several of them as one."""

    @property
    def task(self) -> TaskName:
        """What kind of prediction it makes."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """The canonical label map."""
        ...

    @property
    def size(self) -> int:
        """The input side in pixels."""
        ...

    @property
    def resize(self) -> Resize:
        """How an image is brought to the input side."""
        ...

    @property
    def batch(self) -> int:
        """How many images it labels at once unless someone says otherwise."""
        ...

    def __call__(self, pixels: NDArray[np.uint8]) -> Sequence[Target]:
        """Return a prediction per image of `pixels` (B, S, S, 3) uint8 RGB, in the frame of these images.

        A Label with every class's probability; a LabelMap with `scores` (classes, S, S); Boxes or Instances with a
        score each.
        """
        ...
