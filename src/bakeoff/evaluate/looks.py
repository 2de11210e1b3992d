"""docs/protocol.md section 7: a study that looks at its results more than once, and the level that keeps it honest."""

from __future__ import annotations

from dataclasses import dataclass

from bakeoff.evaluate.planner import stop_level


@dataclass(frozen=True)
class Looks:
    """The numbers of seeds at which a study looks, and how many of these looks it has taken.

    `seeds` () is a study that looks once, at the end.  Claims and intervals are made at `alpha` (Pocock 1977), so that
    all looks together err in 5 % of studies.
    """

    seeds: tuple[int, ...] = ()
    taken: int = 0

    @property
    def alpha(self) -> float:
        """The level at each look: 0.05 where there is one look alone."""
        return stop_level(max(1, len(self.seeds)))

    @property
    def confidence(self) -> str:
        """What the intervals hold, in words: '95 %', or '97.8 %' for three looks."""
        return f"{100 * (1 - self.alpha):.3g} %"

    @property
    def ahead(self) -> int | None:
        """The number of seeds at the last look, while there are looks to come; else None."""
        return self.seeds[-1] if self.taken < len(self.seeds) else None

    @property
    def where(self) -> str:
        """Say which look this is: 'look 1 of 3 (3, 5 and 10 seeds)'; empty where there is one look alone."""
        if len(self.seeds) < 2:
            return ""
        listed = f"{', '.join(map(str, self.seeds[:-1]))} and {self.seeds[-1]} seeds"
        return f"look {self.taken} of {len(self.seeds)} ({listed})"


ONCE = Looks()
