"""Two files of predictions on the same images: the paired difference of every metric, at claim level L0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bakeoff.errors import Refused
from bakeoff.evaluate.estimates import headline_table
from bakeoff.evaluate.pairs import Contest, Estimate, Pair, tested_pairs
from bakeoff.evaluate.variance import Codes
from bakeoff.evaluate.verdict import Unit, verdict, worded
from bakeoff.tasks.task import Metric, Outcomes

EPS = 1.0  # points


@dataclass(frozen=True)
class Versus:
    """What the first file's metrics have over the second's: difference with its 95 % interval, images paired.

    Only what holds for these two files on images like these (L0): nothing about the models that wrote them.  `p` is
    that of the headline, by McNemar's exact test for right and wrong labels, else by bootstrap over the images.
    """

    names: tuple[str, str]
    differences: dict[str, Estimate]
    p: float | None
    sentence: str

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able dictionary."""
        differences = {name: asdict(found) for name, found in self.differences.items()}
        return {"names": list(self.names), "differences": differences, "p": self.p, "sentence": self.sentence}


def versus(
    names: tuple[str, str], runs: tuple[Outcomes, Outcomes], units: Codes, table: Mapping[str, Metric], headline: str
) -> Versus:
    """Compare the outcomes of two files on the same images; `units` (n,) are the groups of the images.

    Raises Refused for different images or for a single group, from which nothing can be inferred.
    """
    if runs[0].ids != runs[1].ids:
        raise Refused(f"{names[0]} and {names[1]} were graded on different images")
    count = int(units.max()) + 1
    if count < 2:
        raise Refused("the truth has a single image or group, from which no difference can be inferred")
    made = {name: _contest(names, runs, units, metric) for name, metric in table.items()}
    found = {name: tested_pairs(contest)[0] for name, contest in made.items() if contest is not None}
    differences = {
        name: _difference(found[name], names[0], metric.higher_is_better) if name in found else Estimate(None)
        for name, metric in table.items()
    }
    contest, metric = made[headline], table[headline]
    if contest is None:
        return Versus(
            names, differences, None, f"{metric.title} is undefined here, so the files cannot be compared by it."
        )
    unit = Unit(metric.percent)
    words = verdict(contest, worded(contest, [found[headline]], unit), unit, metric.title)
    return Versus(names, differences, found[headline].p, words)


def _difference(pair: Pair, first: str, higher_is_better: bool) -> Estimate:
    """Return first - second in the metric's own direction; a pair is the better-looking one less the other."""
    if (pair.a == first) == higher_is_better:
        return Estimate(pair.difference, pair.low, pair.high)
    return Estimate(-pair.difference, -pair.high, -pair.low)


def _contest(names: tuple[str, str], runs: tuple[Outcomes, Outcomes], units: Codes, metric: Metric) -> Contest | None:
    """Make the tables of one metric; None where it is undefined for one of the two or on a part of the images."""
    count = int(units.max()) + 1
    tables, blocks = {}, units
    for name, run in zip(names, runs, strict=True):
        tables[name], blocks = headline_table(metric, [run], units, count == len(units))
        if not np.isfinite(tables[name]).all():
            return None
    eps = EPS / 100 if metric.percent else EPS
    return Contest(tables, dict.fromkeys(names, (1,)), blocks, count, 1, eps)
