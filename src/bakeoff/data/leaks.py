"""Pairs of images that stand on both sides of a split and should not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bakeoff.data.dataset import Dataset
from bakeoff.findings import printable

PARTS = ("train", "val", "test")

Pair = tuple[str, str]  # an image held out, and one of an earlier part that gives it away


def leaking_pairs(groups: Iterable[Sequence[str]], part: Mapping[str, str]) -> list[Pair]:
    """Return each held-out image of a group with the group's first image in an earlier part (train, val, test)."""
    pairs = []
    for group in groups:
        first: dict[str, str] = {}
        for id in group:
            if id in part:
                first.setdefault(part[id], id)
        for id in group:
            earlier = [
                name for name in PARTS if name in first and id in part and PARTS.index(part[id]) > PARTS.index(name)
            ]
            if earlier:
                pairs.append((id, first[earlier[0]]))
    return pairs


def describe_leak(
    dataset: Dataset, pairs: Sequence[Pair], part: Mapping[str, str], what: str = "a duplicate or their group"
) -> str:
    """Return a sentence that counts the leaking images and names the first five pairs."""
    named = []
    for held, seen in pairs[:5]:
        one, other = (dataset.records[dataset.index[id]].group for id in (held, seen))
        why = f", group {printable(one)}" if one is not None and one == other else ""
        named.append(f"{printable(held)} in {part[held]} and {printable(seen)} in {part[seen]}{why}")
    more = f"; and {len(pairs) - 5} more" if len(pairs) > 5 else ""
    return f"held-out images with {what} in another part: {len(pairs)} ({'; '.join(named)}{more})"
