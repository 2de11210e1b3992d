"""Dividing labelled clusters into parts of given shares, every class as evenly as the clusters allow.

scikit-learn's StratifiedGroupKFold makes equal folds only, and places one cluster after the other in Python: here the
shares are free, and the images that stand alone (mostly all of them) are dealt class by class, exactly.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def allot(
    labels: NDArray[np.intp],
    clusters: NDArray[np.intp],
    shares: NDArray[np.float64],
    draws: np.random.Generator,
    needed: Sequence[int] = (),
) -> NDArray[np.intp]:
    """Return the part (0..k-1) of each of n images; a cluster is never torn.

    labels (n,) and clusters (n,) are codes; shares (k,) sum to 1.  Clusters of two and more go first, the largest
    first, to the part that lacks most of their classes; then lone images fill each class up to its quota.  Every class
    reaches the parts in `needed`, the first first, where there are images for it.
    """
    whole = np.bincount(labels)
    quota = shares[:, None] * whole
    filled = np.zeros_like(quota)
    place = np.full(len(labels), -1, dtype=np.intp)
    sizes = np.bincount(clusters)[clusters]
    units = len(set(clusters.tolist()))
    for done, members in enumerate(_largest_first(clusters, sizes, draws)):
        empty = np.flatnonzero(filled.sum(axis=1) == 0)
        rare = empty if units - done <= len(empty) else empty[:0]  # the last chance to fill these parts
        present, counts = np.unique(labels[members], return_counts=True)
        score = _fitness(present, counts, quota, filled, needed)
        score[rare] += 10
        best = np.flatnonzero(np.isclose(score, score.max()))
        part = int(draws.choice(best, p=shares[best] / shares[best].sum()))
        place[members] = part
        filled[part, present] += counts
    owed = np.zeros(len(shares))
    for label in draws.permutation(len(whole)):
        lone = draws.permutation(np.flatnonzero((labels == label) & (sizes == 1)))
        portions = _portions(len(lone), quota[:, label], filled[:, label], owed, needed)
        owed += quota[:, label] - filled[:, label] - portions
        place[lone] = np.repeat(np.arange(len(shares)), portions)
    return place


def _largest_first(
    clusters: NDArray[np.intp], sizes: NDArray[np.intp], draws: np.random.Generator
) -> list[NDArray[np.intp]]:
    """Return the members of each cluster of two and more, the largest first, equals in random order."""
    rows = np.flatnonzero(sizes > 1)
    if not len(rows):
        return []
    rows = rows[np.argsort(clusters[rows], kind="stable")]
    groups = np.split(rows, np.flatnonzero(np.diff(clusters[rows])) + 1)
    order = draws.permutation(len(groups))
    return sorted((groups[i] for i in order), key=len, reverse=True)


def _fitness(
    present: NDArray[np.intp],
    counts: NDArray[np.intp],
    quota: NDArray[np.float64],
    filled: NDArray[np.float64],
    needed: Sequence[int],
) -> NDArray[np.float64]:
    """Return for each part how much it lacks the classes present in a cluster with these counts."""
    goal, held = quota[:, present], filled[:, present]
    lack = (goal - held) / goal  # per part and class, 1 = nothing there yet
    weight = counts / goal.sum(axis=0)  # a rare class counts as much as a common one
    score = (lack * weight).sum(axis=1) / weight.sum()
    for part in needed:
        score[part] += (held[part] == 0).any()
    fits = (goal - held).sum(axis=1) >= counts.sum()
    if fits.any():
        score[~fits] -= 3  # what it would overfill comes last
    return np.asarray(score, np.float64)


def _portions(
    count: int,
    quota: NDArray[np.float64],
    filled: NDArray[np.float64],
    owed: NDArray[np.float64],
    needed: Sequence[int],
) -> NDArray[np.intp]:
    """Divide `count` lone images of a class among the parts: whole numbers nearest to what each lacks.

    `owed` is what rounding withheld from each part in the classes before: it decides who gets the odd ones.
    """
    portions = np.zeros(len(quota), dtype=np.intp)
    for part in needed:
        if filled[part] == 0 and portions.sum() < count:
            portions[part] = 1
    lack = np.maximum(quota - filled - portions, 0)
    left = count - int(portions.sum())
    ideal = lack * left / lack.sum() if lack.sum() > 0 else quota * left / max(quota.sum(), 1)
    whole = np.floor(ideal + 1e-9).astype(np.intp)
    odd = left - int(whole.sum())
    receivers = np.argsort(-(ideal - whole + owed), kind="stable")[:odd]
    whole[receivers] += 1
    portions += whole
    return portions
