"""What the gate measured, in words: for the terminal, and for the model card."""

from __future__ import annotations

from collections.abc import Iterator

from bakeoff.export.parity import Parity
from bakeoff.findings import lowered
from bakeoff.tables import METRICS, cells, columns

UNITS = {"classification": "labels", "semantic": "pixels", "detection": "objects", "instance": "objects"}


def rows(found: Parity) -> Iterator[list[str]]:
    """Yield title, the network's and the file's value of every metric, the headline first, and the latencies."""
    table = METRICS[found.task]
    for name in sorted(found.before, key=lambda name: name != found.headline):
        values = (" ".join(cells(table[name], one[name])).strip() for one in (found.before, found.after))
        yield [table[name].title, *values]
    yield ["one image", *(f"{value:.1f} ms" for value in found.latency)]


def agreement(found: Parity) -> str:
    """Say in sentences how far file and network lie apart, and what that does to the headline metric."""
    parts = [
        f"{one.output} {one.largest:.2g}" + ("" if one.tolerance is None else f" (allowed {one.tolerance:g})")
        for one in found.differences
    ]
    same = f"{found.same:,} of {found.decisions:,} {UNITS[found.task]} are decided alike"
    return f"Largest differences: {', '.join(parts)}; {same}.{_moved(found)}"


def answer(name: str, found: Parity) -> str:
    """Return what the terminal shows of one file: the headline, the latency, the sentences."""
    chosen = [row for place, row in enumerate(rows(found)) if place in (0, len(found.before))]
    table = columns([found.source, "network", name], chosen, right=(1, 2))
    return f"{table}\n{agreement(found)}"


def _moved(found: Parity) -> str:
    """Say how the headline metric changes."""
    change, title = found.change, lowered(METRICS[found.task][found.headline].title)
    if change.value is None:
        return ""
    span = "" if change.low is None or change.high is None else f" [{100 * change.low:+.2f}, {100 * change.high:+.2f}]"
    return f" The {title} changes by {100 * change.value:+.2f} points{span} (images paired)."
