"""Tune: how many settings each candidate may try, and the space they are drawn from, as data."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from bakeoff.errors import nearest
from bakeoff.train.recipe import Recipe

EDGE = 0.05  # a best setting so near to an end of its range says that a better one may lie beyond
RATE = "rate"  # a factor on the rates of all stages
HELD = ("epochs", "checkpoint", "early_stop", "label_noise")  # equal conditions, or a handicap: nothing to search

Side = Literal["low", "high"]


class Range(BaseModel):
    """The values from `low` to `high`, spread evenly or (`log`) by their logarithm; whole where both ends are."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    low: int | float
    high: int | float
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        """A range must have an extent, and a logarithm."""
        if not self.low < self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        if self.log and self.low <= 0:
            raise ValueError(f"log needs a range above 0, and low is {self.low}")
        return self

    @property
    def whole(self) -> bool:
        """Whether the values are whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def value(self, at: float) -> int | float:
        """Return the value at a place from 0 to 1, to six digits: what is written down is what is trained with."""
        low, high = (self.low - 0.5, self.high + 0.5) if self.whole else (self.low, self.high)
        found = low * (high / low) ** at if self.log else low + at * (high - low)
        return min(max(round(found), int(self.low)), int(self.high)) if self.whole else float(f"{found:.6g}")

    def edge(self, value: float) -> Side | None:
        """Return the end that a value lies on (within 5 % of the range) or beyond."""
        if self.whole:
            return "low" if value <= self.low else "high" if value >= self.high else None
        low, high, at = (math.log(max(v, 1e-300)) if self.log else v for v in (self.low, self.high, value))
        place = (at - low) / (high - low)
        return "low" if place <= EDGE else "high" if place >= 1 - EDGE else None


def _form(given: object) -> str:
    """Return which form of a dimension is meant, so that an error speaks of that one alone."""
    return "(range)" if isinstance(given, dict | Range) else "(choices)"


Dimension = Range | tuple[Any, ...]
_Given = Annotated[
    Annotated[Range, Tag("(range)")] | Annotated[tuple[Any, ...], Tag("(choices)")], Discriminator(_form)
]
SPACE: dict[str, Dimension] = {
    RATE: Range(low=0.1, high=10.0, log=True),
    "recipe.weight_decay": Range(low=1e-4, high=0.3, log=True),
}


def value_at(dimension: Dimension, at: float) -> Any:
    """Return what a place from 0 to 1 means in a dimension: a value of its range, or one of its choices."""
    if isinstance(dimension, Range):
        return dimension.value(at)
    return dimension[min(int(at * len(dimension)), len(dimension) - 1)]


def edge_of(dimension: Dimension, value: Any) -> Side | None:
    """Return the end of a range that a value lies on; choices have no order, so none."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return dimension.edge(value) if isinstance(dimension, Range) and number else None


class Tune(BaseModel):
    """Equal tuning (docs/protocol.md, section 3): every candidate may try equally many settings, on validation alone.

    `trials` settings for each candidate, the first of them the recipe as it is declared; 0: no tuning.  `space` maps
    what may change to a range { low, high, log } or a list of choices: "rate" is a factor on the rates of all stages,
    other names are paths in a candidate ("recipe.weight_decay", "recipe.stages.0.rate", "model.options.width").
    `epochs` is the share of the recipe's epochs that a trial gets, with a schedule of its own.  After `seconds` of
    device time no further trial of a candidate begins (under nested tuning: in each part).  `nested`: under
    cross-validation every part tunes on its own validation images; false: the first part tunes for all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    trials: int = Field(0, ge=0)
    space: dict[str, _Given] = SPACE
    epochs: float = Field(1.0, gt=0, le=1)
    seconds: float | None = Field(None, gt=0)
    nested: bool = True

    @model_validator(mode="after")
    def _searchable(self) -> Tune:
        """There must be something to search, and nothing that has to stay equal."""
        if not self.space or any(not dimension for dimension in self.space.values()):
            raise ValueError(
                "space needs something to search: a range { low, high } or a list of choices for each name"
            )
        for path in self.space:
            _check(path)
        if RATE in self.space and any(
            path.startswith("recipe.stages.") and path.endswith(".rate") for path in self.space
        ):
            raise ValueError('space has both "rate", a factor on every stage\'s rate, and the rate of one stage')
        return self


def _check(path: str) -> None:
    """Raise ValueError for what cannot be searched."""
    room, _, rest = path.partition(".")
    field = rest.partition(".")[0]
    if path == RATE or (room == "model" and rest.startswith(("options.", "head."))):
        return
    if room != "recipe" or not field:
        known = (RATE, *(f"recipe.{name}" for name in Recipe.model_fields), "model.options.", "model.head.")
        raise ValueError(f'space: {path!r} cannot be searched{nearest(path, known)}; name "rate", recipe.… , '
                         "model.options.… or model.head.…")  # fmt: skip
    if field not in Recipe.model_fields:
        raise ValueError(f"space: a recipe has no {field!r}{nearest(field, Recipe.model_fields)}")
    if field in HELD or rest.endswith(".epochs"):
        raise ValueError(f"space: {path} is held equal for all trials; leave it out")
