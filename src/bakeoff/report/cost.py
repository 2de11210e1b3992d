"""Quality against cost: latency, training time and parameters, each with its Pareto front."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from bakeoff.compare import Estimate
from bakeoff.report.charts import Axes, Figure, Mark, front, scatter
from bakeoff.report.material import Material
from bakeoff.report.sections import Section, key
from bakeoff.report.wording import count, duration, known, milliseconds, scaled

NARROW = (340.0, 270.0)  # three of these stand side by side

COSTS: tuple[
    tuple[str, str, str, Callable[[object], str]], ...
] = (  # fact, title, title of the axis, how it is written
    ("latency_ms", "latency", "milliseconds per image (batch of 1)", milliseconds),
    ("seconds", "training time", "seconds of training per run", duration),
    ("parameters", "parameters", "parameters", count),
)


def cost(material: Material) -> Section:
    """Quality against latency, training time and parameters; a cost that nobody has is left out."""
    figures = []
    for fact, title, axis, write in COSTS:
        if found := marks(material, fact):
            caption = f"{describe(found, write)} Bars are {material.comparison.looks.confidence} intervals."
            label = f"{material.metric.title} against {title}. {caption}"
            vertical = material.metric.title + (", %" if material.metric.percent else "")
            drawing = scatter(found, Axes(axis, vertical), label, NARROW)
            figures.append(Figure(f"Against {title}", drawing, caption, key(material.candidates)))
    return Section("cost", "Quality and cost", "cost.html.j2", {"figures": figures})


def marks(material: Material, fact: str) -> list[Mark]:
    """Return the candidates that have both a headline and this cost, with those on the Pareto front marked."""
    metric, found = material.metric, []
    for candidate in material.candidates:
        estimate = candidate.row.metrics.get(material.comparison.metric, Estimate(None))
        value, low, high = (scaled(v, metric) for v in (estimate.value, estimate.low, estimate.high))
        at = known(candidate.row.facts.get(fact))
        if at is not None and value is not None:
            found.append(Mark(candidate.letter, candidate.colour, candidate.name, at, value, low, high))
    on = front([(mark.x, mark.y) for mark in found], metric.higher_is_better)
    return [replace(mark, front=best) for mark, best in zip(found, on, strict=True)]


def describe(found: list[Mark], write: Callable[[object], str]) -> str:
    """Say who is on the front and who is behind it."""
    texts = {
        on: [f"{m.letter} ({write(m.x)})" for m in sorted(found, key=lambda m: m.x) if m.front is on]
        for on in (True, False)
    }
    words = f"On the dashed front, where nobody is both better and cheaper: {', '.join(texts[True])}."
    return words + (f" Behind it: {', '.join(texts[False])}." if texts[False] else "")
