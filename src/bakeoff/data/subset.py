"""Nested, stratified subsets of the training images, groups kept whole: what a data-size curve trains on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bakeoff.data.dataset import Dataset
from bakeoff.data.split import Split
from bakeoff.data.targets import Boxes, Label
from bakeoff.errors import UsageError
from bakeoff.seeds import fold, generator


def shrunk(split: Split, dataset: Dataset, groups: Mapping[str, str], share: float, seed: int) -> Split:
    """Return a split with a share of its training images; validation and test stay as they are.

    Every seed, repeat and fold draws a subset of its own, so that the luck of the draw is among what seeds differ by.
    """
    if share == 1:
        return split
    draw = fold(seed, "subset", split.repeat, split.fold)
    return replace(split, train=subset(dataset, split.train, groups, share, draw))


def subset(dataset: Dataset, ids: Iterable[str], groups: Mapping[str, str], share: float, seed: int) -> tuple[str, ...]:
    """Return about a share (above 0, at most 1) of the records `ids`, sorted.

    Nested: under one seed, the images of a smaller share are among those of a larger one.  Stratified by
    Dataset.strata, and every class (of label maps, which are not opened here: none) keeps at least one image.  What
    `groups` (id -> name) puts together is taken whole.  Derived images come along when all their originals do.
    The order of ids and records does not matter.  Raises UsageError for an impossible share.
    """
    if not 0 < share <= 1:
        raise UsageError(f"a share of the training images must be above 0 and at most 1, not {share:g}")
    given = sorted(ids)
    names = [id for id in given if dataset.records[dataset.index[id]].derived is None]
    if not names:
        return ()
    units = np.unique([groups.get(id, id) for id in names], return_inverse=True)[1]
    order, least = _order(dataset, names, units, generator(seed, "subset", len(names)))
    totals = np.cumsum(np.bincount(units)[order])
    nearest = int(np.abs(totals - share * len(names)).argmin())  # grows with the share: prefixes are nested
    chosen = np.isin(units, order[: max(least, nearest + 1)])
    kept = {id for id, inside in zip(names, chosen, strict=True) if inside}
    return tuple(sorted(kept | (set(dataset.derived_from(kept)) & set(given))))


def _order(
    dataset: Dataset, names: Sequence[str], units: NDArray[np.intp], draws: np.random.Generator
) -> tuple[NDArray[np.intp], int]:
    """Return the units in an order of which every beginning is stratified, and how many cover all classes.

    Systematic sampling: the units of a stratum, in random order, are spread evenly over 0..1 by the images before
    them, and all strata are merged.
    """
    sizes = np.bincount(units)
    strata = _strata(dataset, names, units)
    order = draws.permutation(len(sizes))
    order = order[np.argsort(strata[order], kind="stable")]
    ends = np.cumsum(sizes[order])
    first = np.flatnonzero(np.diff(strata[order], prepend=-1))  # where each stratum begins
    begins = (ends - sizes[order])[first]
    lengths = np.diff(np.append(begins, ends[-1]))
    which = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(order))))
    place = (ends - sizes[order] / 2 - begins[which]) / lengths[which]
    merged = order[np.lexsort((draws.permutation(len(order)), place))]
    front = _covering(dataset, names, units, merged, set(order[first].tolist()))
    ahead = np.isin(merged, list(front))
    return np.concatenate([merged[ahead], merged[~ahead]]), len(front)


def _strata(dataset: Dataset, names: Sequence[str], units: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the stratum of each unit: the rarest of its images'."""
    own = np.array([dataset.strata[dataset.index[id]] for id in names], np.intp)
    counts = np.bincount(own)
    rank = np.empty(len(counts), np.intp)
    rank[np.argsort(counts, kind="stable")] = np.arange(len(counts))
    found = np.full(int(units.max()) + 1, len(counts), np.intp)
    np.minimum.at(found, units, rank[own])
    return found


def _covering(
    dataset: Dataset, names: Sequence[str], units: NDArray[np.intp], order: NDArray[np.intp], front: set[int]
) -> set[int]:
    """Return `front` with the first units, in this order, of the classes that it does not hold yet."""
    held: dict[int, set[int]] = {}
    for id, unit in zip(names, units.tolist(), strict=True):
        held.setdefault(unit, set()).update(_classes(dataset, id))
    covered = set[int]().union(*(held[unit] for unit in front))
    chosen = set(front)
    for unit in order.tolist():
        if held[unit] - covered:
            covered |= held[unit]
            chosen.add(unit)
    return chosen


def _classes(dataset: Dataset, id: str) -> set[int]:
    """Return the classes that a record names."""
    target = dataset.records[dataset.index[id]].target
    if isinstance(target, Label):
        return {target.index}
    return set(target.labels.tolist()) if isinstance(target, Boxes) else set()
