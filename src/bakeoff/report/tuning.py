"""What equal tuning tried and chose: a table, and each candidate's trials on validation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from bakeoff.evaluate.tuned import Choice, Trial, Tuned, named
from bakeoff.findings import lowered, plural
from bakeoff.report.charts import Figure
from bakeoff.report.material import Material
from bakeoff.report.sections import Section
from bakeoff.report.svg import LEFT, RIGHT, Scale, chart, tag, upward
from bakeoff.report.wording import number, scaled
from bakeoff.tasks.task import Metric

SMALL = (330.0, 230.0)
SIDE = 0.22  # of the way to the next trial that dots of several parts are spread over


@dataclass(frozen=True)
class Line:
    """One tuned candidate in the table; `sign` and `colour` are empty where the race stopped it."""

    one: Tuned
    sign: str
    colour: str
    name: str
    edges: str


def tuning(material: Material) -> list[Section]:
    """The tuning of every candidate, where the study tuned."""
    found = material.comparison.tuning
    if not any(one.choices for one in found):
        return []
    lines = [_line(material, one) for one in found]
    values = [
        value
        for one in found
        for choice in one.choices
        for trial in choice.trials
        if (value := scaled(trial.value, material.metric)) is not None
    ]
    content: dict[str, Any] = {
        "lines": lines,
        "figures": [_figure(material, line, values) for line in lines if line.one.choices],
        "parts": max(len(one.choices) for one in found),
        "capped": any(one.capped for one in found),
        "trials": max(one.asked for one in found),
        "images": min(choice.images for one in found for choice in one.choices),
        "notes": [f for f in material.comparison.findings if f.code.startswith("tuning")],
    }
    return [Section("tuning", "Tuning", "tuning.html.j2", content)]


def _line(material: Material, one: Tuned) -> Line:
    """Return a candidate's line of the table."""
    shown = material.by_name.get(one.candidate)
    sign, colour = (shown.letter, shown.colour) if shown else ("", "k9")
    many = len(one.choices)
    edges = (
        named(edge.partition(":")[0]) + edge.partition(":")[2] + (f" ({n} of {many})" if many > 1 else "")
        for edge, n in one.edges.items()
    )
    return Line(one, sign, colour, one.candidate, ", ".join(edges))


def _figure(material: Material, line: Line, values: list[float]) -> Figure:
    """Draw a candidate's trials: validation headline by trial, the default first."""
    one, metric = line.one, material.metric
    trials = max(len(choice.trials) for choice in one.choices)
    x = Scale(-0.5, max(trials - 0.5, 0.5), LEFT, SMALL[0] - RIGHT, whole=True)
    y = upward(values, log=False, height=SMALL[1])
    content: list[Markup] = []
    if (default := scaled(one.default, metric)) is not None:
        content.append(tag("line", x1=x.start, x2=x.end, y1=y(default), y2=y(default), class_="stage"))
    for place, choice in enumerate(one.choices):
        shift = SIDE * (2 * place / (len(one.choices) - 1) - 1) if len(one.choices) > 1 else 0.0
        content += [_mark(trial, x(trial.number + shift), y, (choice, line.colour, metric)) for trial in choice.trials]
    words = _words(material, one)
    unit = ", %" if metric.percent else ""
    titles = ("trial (0 is the default)", f"validation {lowered(metric.title)}{unit}")
    drawing = chart(x, y, titles, content, f"Validation of {line.name} by trial. {words}")
    return Figure(line.name, drawing, words, ((line.sign, line.colour, line.name),))


def _mark(trial: Trial, x: float, y: Scale, drawn: tuple[Choice, str, Metric]) -> Markup:
    """Draw one trial: a dot, a ring around the one that was chosen, a cross at the bottom for one that failed."""
    choice, colour, metric = drawn
    value = scaled(trial.value, metric)
    settings = ", ".join(f"{named(name)} {setting}" for name, setting in trial.point.items())
    if value is None:
        cross = f"M{x - 3.5:.1f} {y.start - 9:.1f}l7 7m0 -7l-7 7"
        return tag("g", tag("title", f"failed: {settings}"), tag("path", d=cross, class_=f"line thick {colour}"))
    title = tag("title", f"{number(value, 2)}: {settings}")
    dot = tag("circle", cx=x, cy=y(value), r=3.5, class_=f"dot {colour}")
    if trial.number != choice.best:
        return tag("g", title, dot)
    ring = tag("path", d=_circle(x, y(value), 7.0), class_=f"line thick {colour}")
    return tag("g", title, ring, dot)


def _circle(x: float, y: float, radius: float) -> str:
    """Return path data of a circle, which the style of lines leaves empty."""
    return f"M{x - radius:.1f} {y:.1f}a{radius} {radius} 0 1 0 {2 * radius} 0a{radius} {radius} 0 1 0 {-2 * radius} 0"


def _words(material: Material, one: Tuned) -> str:
    """Say what a candidate's chart shows."""
    default, tuned = (number(scaled(value, material.metric), 2) for value in (one.default, one.tuned))
    failed = f"; {plural(one.failed, 'trial')} failed" if one.failed else ""
    parts = f", mean of {plural(len(one.choices), 'part')}" if len(one.choices) > 1 else ""
    return f"Default (dotted line) {default}, chosen (ringed) {tuned}{parts}{failed}."
