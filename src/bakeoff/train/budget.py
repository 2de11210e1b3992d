"""A share of a recipe's epochs, with a complete schedule of its own: what a trial or a rung of a race gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bakeoff.train.recipe import Recipe


def shortened(recipe: Recipe, share: float) -> dict[str, Any]:
    """Return the settings (by dotted path in a candidate) that give a recipe `share` of its epochs; {} for all.

    Every stage keeps its part of the whole and at least one epoch, so that its schedule is passed through from start
    to end.  The sum is round(share * epochs), or one epoch per stage where that is more.
    """
    epochs = max(round(share * recipe.epochs), len(recipe.stages))
    if epochs >= recipe.epochs:
        return {}
    fixed = sum(stage.epochs or 0 for stage in recipe.stages)
    lengths = apportioned([stage.epochs or recipe.epochs - fixed for stage in recipe.stages], epochs)
    named = {
        f"recipe.stages.{place}.epochs": length
        for place, (stage, length) in enumerate(zip(recipe.stages, lengths, strict=True))
        if stage.epochs is not None
    }
    return {"recipe.epochs": epochs, **named}


def apportioned(lengths: Sequence[int], total: int) -> list[int]:
    """Scale lengths so that they add up to `total`, each at least 1 (largest remainders; ties to the earlier).

    >>> apportioned([3, 17], 10), apportioned([1, 1, 18], 5)
    ([2, 8], [1, 1, 3])
    """
    exact = [length * total / sum(lengths) for length in lengths]
    found = [max(1, int(part)) for part in exact]
    while sum(found) != total:
        step = 1 if sum(found) < total else -1
        able = [place for place, length in enumerate(found) if length + step >= 1]
        found[max(able, key=lambda place: step * (exact[place] - found[place]))] += step
    return found
