"""The gap between training and validation loss: a formula of the facts of epochs, nothing else is remembered.

With t and v the mean training loss and the validation loss of an epoch, and e counting a stage's epochs from 0:

    x[e] = ln(v[e] / t[e])
    s[e] = smoothing * s[e - 1] + (1 - smoothing) * x[e],   s[0] = x[0]
    gap[e] = exp(s[e] - min(s[0], ..., s[e])) - 1

So a gap of 0.25 says that the ratio of the two losses, smoothed, is a quarter above the smallest that it was.  The gap
is open once it exceeded the rule's `gap` in `patience` epochs in a row; it opened after the last epoch before these.

Why the ratio, and why its growth: training loss is measured while the network changes, with augmentation, dropout,
mixed images and label smoothing, and they inflate it; validation loss knows none of them.  A constant factor cancels in
the growth of the ratio.  In the plain difference (v - t) / v it moves the threshold: strong augmentation would never
reach it, and batch norms whose statistics are fresh after one epoch reach it at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

TINY = 1e-12  # a loss of 0 is as good as this one


class GapRule(BaseModel):
    """When the gap between training and validation counts as open: a formula of the epochs' losses (above).

    `gap` is by how much the ratio of validation to training loss must have grown over the smallest that it was (0.25:
    by a quarter), `smoothing` the weight of the epochs before in it, `patience` for how many epochs in a row.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    gap: float = Field(0.25, gt=0)
    smoothing: float = Field(0.5, ge=0, lt=1)
    patience: int = Field(3, ge=1)


def gaps(losses: Sequence[tuple[float, float]], rule: GapRule) -> list[float]:
    """Return the gap after each epoch of a stage from its (training loss, validation loss), both finite.

    >>> [round(gap, 2) for gap in gaps([(1.0, 1.0), (0.8, 0.8), (0.5, 1.0)], GapRule(smoothing=0.0))]
    [0.0, 0.0, 1.0]
    """
    found, smooth, least = [], 0.0, math.inf
    for epoch, (train, val) in enumerate(losses):
        ratio = math.log(max(val, TINY) / max(train, TINY))
        smooth = rule.smoothing * smooth + (1 - rule.smoothing) * ratio if epoch else ratio
        least = min(least, smooth)
        found.append(math.expm1(smooth - least))
    return found


def epochs_above(found: Sequence[float], rule: GapRule) -> int:
    """Return how many of the last epochs in a row had a gap above the rule's: it is open from `patience` on.

    >>> epochs_above([0.0, 0.3, 0.1, 0.3, 0.4], GapRule(gap=0.25))
    2
    """
    return next((count for count, gap in enumerate(reversed(found)) if gap <= rule.gap), len(found))


def unknowable(rules: Sequence[GapRule | None], task: str, loss: str, validated: bool) -> str:
    """Say why a gap that a recipe's stages wait for would never be known, "" where it will be.

    `rules` are those of the stages, `loss` is the task's validation loss ("" when it has none), `validated` whether all
    splits have validation images.
    """
    place = next((number for number, rule in enumerate(rules) if rule is not None), None)
    if place is None or (loss and validated):
        return ""
    where = f"recipe.stages.{place}.until waits for the gap between training and validation loss, and"
    if not loss:
        return f"{where} {task} has no validation loss: give the stage its epochs alone"
    return f"{where} the split has no validation images: set split.val above 0"
