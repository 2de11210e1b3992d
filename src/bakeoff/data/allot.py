"""Dividing labelled clusters into parts of given shares, every class as evenly as the clusters allow.

allot() is for images of one class each, allot_many() for images that hold any number of classes.
scikit-learn's StratifiedGroupKFold makes equal folds only, and places one cluster after the other in Python: here the
shares are free, and the images that stand alone (mostly all of them) are dealt class by class, exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

FREQUENT = 3  # clusters of a class from which on every part that needs classes should have some
SLACK = 0.02  # of all images that a part may hold too many, for the sake of its classes


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


# --- images that hold many classes ---


def allot_many(
    presence: NDArray[np.bool_],
    clusters: NDArray[np.intp],
    shares: NDArray[np.float64],
    draws: np.random.Generator,
    needed: Sequence[int] = (),
) -> NDArray[np.intp]:
    """Return the part (0..k-1) of each of n images that hold any of K classes; a cluster is never torn.

    presence (n, K); clusters (n,) are codes; shares (k,) sum to 1.  Iterative stratification (Sechidis, Tsoumakas and
    Vlahavas 2011): the rarest class that is left is dealt out first, each of its clusters to the part that lacks most
    of it among those that are not full.  Classes of FREQUENT clusters and more reach every part in `needed`: such a
    part comes before all others, and in the end what it still misses is moved there, where no other loses its last.
    """
    units = np.unique(clusters, return_inverse=True)[1]
    table = _per_unit(presence, units)
    goal = shares[:, None] * table.sum(axis=0)
    held = np.zeros(goal.shape, np.int64)
    place = np.full(len(table), -1, np.intp)
    frequent = (table > 0).sum(axis=0) >= FREQUENT
    for done, (unit, label) in enumerate(_rarest_first(table, draws)):
        parts = [part for part in needed if frequent[label] and held[part, label] == 0]
        place[unit] = _part(held, goal, label, int(table[unit, -1]), len(table) - done, parts)
        held[place[unit]] += table[unit]
    for part in needed:
        _bring(table, np.flatnonzero(frequent[:-2]), place, part, needed)
    _level(table, goal, place, needed)
    return place[units]


def _per_unit(presence: NDArray[np.bool_], units: NDArray[np.intp]) -> NDArray[np.int64]:
    """Return the images of each unit that hold each class, that hold none, and that there are: (units, K + 2)."""
    none, all_ = ~presence.any(axis=1, keepdims=True), np.ones((len(presence), 1), np.bool_)
    table = np.zeros((units.max(initial=-1) + 1, presence.shape[1] + 2), np.int64)
    np.add.at(table, units, np.concatenate([presence, none, all_], axis=1))
    return table


def _rarest_first(table: NDArray[np.int64], draws: np.random.Generator) -> Iterator[tuple[int, int]]:
    """Yield every unit with the class it is dealt out for: the rarest class left, its largest units first."""
    waiting = np.ones(len(table), np.bool_)
    while waiting.any():
        left = table[waiting].sum(axis=0).astype(np.float64)
        rarest = int(np.where(left > 0, left, np.inf).argmin())
        chosen = draws.permutation(np.flatnonzero(waiting & (table[:, rarest] > 0)))
        waiting[chosen] = False
        for unit in chosen[np.argsort(-table[chosen, rarest], kind="stable")]:
            yield int(unit), rarest


def _part(
    held: NDArray[np.int64], goal: NDArray[np.float64], label: int, images: int, left: int, wanting: Sequence[int]
) -> int:
    """Return the part for a unit of so many images, with so many units left.

    An empty part comes first when no others are left to fill it, then one that is `wanting` the class, else the one
    that lacks most of it among those with room.
    """
    empty = np.flatnonzero(held[:, -1] == 0)
    if left <= len(empty):
        return int(empty[0])
    if wanting:
        return wanting[0]
    lack = goal - held
    room = lack[:, -1] >= images / 2 - SLACK * goal[:, -1].sum()
    return max(range(len(held)), key=lambda part: (room[part], round(lack[part, label], 6), lack[part, -1]))


def _bring(
    table: NDArray[np.int64], labels: NDArray[np.intp], place: NDArray[np.intp], part: int, needed: Sequence[int]
) -> None:
    """Move a unit of each of these classes that `part` has nothing of into it, where another part can spare it."""
    classes = table[:, :-2]
    for label in labels[np.argsort(classes[:, labels].sum(axis=0), kind="stable")]:
        if classes[place == part, label].any():
            continue
        movable = [unit for unit in np.flatnonzero(classes[:, label]) if _spare(classes, place, int(unit), needed)]
        if movable:
            place[min(movable, key=lambda unit: int(table[unit, -1]))] = part


def _level(table: NDArray[np.int64], goal: NDArray[np.float64], place: NDArray[np.intp], needed: Sequence[int]) -> None:
    """Move units that their part can spare out of parts that rare classes overfilled, those of well held classes."""
    for _ in range(len(table)):
        held = np.stack([table[place == part].sum(axis=0) for part in range(len(goal))])
        over = (held - goal)[:, -1]
        full, free = int(over.argmax()), int(over.argmin())
        if over[full] <= SLACK * goal[:, -1].sum():
            return
        excess = ((held - goal) / np.maximum(goal, 1e-9))[[full, free]]
        units = [
            int(unit)
            for unit in np.flatnonzero(place == full)
            if table[unit, -1] <= min(over[full], -over[free]) and _spare(table[:, :-2], place, int(unit), needed)
        ]
        if not units:
            return
        place[max(units, key=lambda unit: float(((excess[0] - excess[1]) * table[unit])[:-1].sum()))] = free


def _spare(classes: NDArray[np.int64], place: NDArray[np.intp], unit: int, needed: Sequence[int]) -> bool:
    """Say whether a unit's part can do without it: it has others, and if needed, others of the same classes."""
    others = place == place[unit]
    others[unit] = False
    missing = (classes[unit] > 0) & (classes[others].sum(axis=0) == 0)
    return bool(others.any()) and not (place[unit] in needed and missing.any())
