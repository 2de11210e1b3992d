"""Is a map worth looking at?  Whether it depends on what was learned, and whether what it marks matters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from bakeoff.explain.explainer import Map
from bakeoff.models import build
from bakeoff.models.spec import Network
from bakeoff.models.trained import Trained
from bakeoff.seeds import fold

TWINS = 3  # random networks that a map is compared with
INDEPENDENT = 0.5  # a mean correlation from here on: the map does not depend on the weights
MARK = "THIS MAP DOES NOT DEPEND ON THE WEIGHTS: random ones, asked the same, give nearly the same"


@dataclass(frozen=True)
class Check:
    """What was measured of a map.

    `correlation` (-1..1) is the mean rank correlation of its magnitudes with those under random weights.  The others
    are areas under curves of the probability as a share of the image's own: `deletion` where what the map marks most is
    taken away first (low is good), `insertion` where it is put back first (high is good), each beside its value for
    random orders.
    """

    correlation: float
    deletion: float
    deletion_random: float
    insertion: float
    insertion_random: float

    @property
    def depends(self) -> bool:
        """Whether the map depends on the weights."""
        return self.correlation < INDEPENDENT

    @property
    def finds(self) -> bool:
        """Whether what it marks matters more than a random order, by one of the two scores at least."""
        return self.deletion < self.deletion_random or self.insertion > self.insertion_random

    @property
    def words(self) -> str:
        """All of it in words."""
        chance = "" if self.finds else ": no better than a random order"
        verdict = "" if self.depends else f" ({MARK})"
        return (
            f"correlation with random weights {self.correlation:.2f}{verdict}; deletion {self.deletion:.2f} "
            f"(random order {self.deletion_random:.2f}), insertion {self.insertion:.2f} "
            f"(random order {self.insertion_random:.2f}){chance}"
        )


def twins(model: Trained, count: int = TWINS) -> list[Network]:
    """Return networks of the same architecture as it starts at random: the model parameter test of Adebayo et al. 2018.

    They are networks of their own; the one that is explained is not touched.
    """
    like, spec = model.network, model.spec.model_copy(update={"weights": "none"})
    found = []
    for number in range(count):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(fold(number, "random weights"))
            twin = build(spec, len(model.classes), model.size, model.task)
        twin.mean.copy_(like.mean)
        twin.std.copy_(like.std)
        found.append(twin.to(like.mean.device).eval().requires_grad_(False))
    return found


def correlation(found: Map, others: Sequence[Map]) -> float:
    """Return the mean rank correlation of a map with those that networks with random weights give."""
    return float(np.mean([rank_correlation(found, other) for other in others]))


def rank_correlation(one: Map, other: Map) -> float:
    """Return Spearman's correlation of the magnitudes of two maps; 0 where one is the same everywhere.

    >>> rank_correlation(np.array([1.0, -2.0, 3.0], np.float32), np.array([2.0, 3.0, -9.0], np.float32))
    1.0
    """
    from scipy.stats import rankdata

    ranks = [rankdata(np.abs(values).ravel()) for values in (one, other)]
    spread = [float(rank.std()) for rank in ranks]
    if not all(spread):
        return 0.0
    centred = [rank - rank.mean() for rank in ranks]
    return round(float((centred[0] * centred[1]).mean() / (spread[0] * spread[1])), 12)


def empty(found: NDArray[np.float32]) -> bool:
    """Say whether a map is the same everywhere, so that it says nothing."""
    return bool(np.ptp(found) == 0)
