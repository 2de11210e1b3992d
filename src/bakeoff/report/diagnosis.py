"""Inside the training: gradients, changes of the weights and dead ReLUs of runs that were looked into."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bakeoff.findings import listed, plural
from bakeoff.report.charts import Axes, Figure, Line, Point, curves
from bakeoff.report.material import Candidate, Material, read_part
from bakeoff.report.sections import Section, key
from bakeoff.report.wording import number, share
from bakeoff.train.diagnosis import (
    EXPLODED,
    RESTLESS,
    STILL,
    VANISHED,
    Diagnosis,
    Inside,
    Moment,
    Series,
    Values,
    inside,
    moments,
)

SMALL = (400.0, 220.0)  # size of the charts that show one candidate
SHADES = 10  # of the lines of layer groups, from stem to head: .d0 to .d9 in diagnosis.css
CHANGED = 3  # factor from which the way of the gradient in the first step is told beside the median
EXPONENTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Chart:
    """What one kind of chart shows: its title, its axis, the scale of the axis, and a factor on the values."""

    name: Series
    title: str
    axis: str
    log: bool
    factor: float = 1.0
    span: tuple[float, ...] = ()


CHARTS = (
    Chart("gradient", "Gradient norm", "gradient norm", log=True),
    Chart("ratio", "Change in a step", "change of the weights over their norm", log=True),
    Chart("dead", "Dead ReLUs", "dead ReLU units, %", log=False, factor=100.0, span=(0.0, 10.0)),
)


@dataclass(frozen=True)
class Seen:
    """A candidate that was looked into: the median of its runs step by step, and what that comes to."""

    candidate: Candidate
    runs: int
    course: tuple[Moment, ...]
    inside: Inside

    @property
    def basis(self) -> str:
        """What the numbers are medians of."""
        return f"{plural(len(self.course), 'step')} of {plural(self.runs, 'run')}"


def diagnosis(material: Material) -> list[Section]:
    """Return the section of a study whose runs were looked into; nothing where that was not asked for."""
    asked = read_part(material.folder.plan).get("study", {}).get("execution", {}).get("diagnose")
    seen = [one for one in map(_looker(material), material.candidates) if one is not None]
    if not seen and not asked:
        return []
    without = [candidate for candidate in material.candidates if candidate not in [one.candidate for one in seen]]
    content = {
        "seen": [(one, sentences(one), _alone(one, seen), rows(one)) for one in seen],
        "together": [figure for chart in CHARTS if (figure := _by_depth(chart, seen)) is not None],
        "without": without,
        "open": len(seen) <= 3,
        "limits": [scientific(limit) for limit in (VANISHED, EXPLODED, STILL, RESTLESS)],
    }
    return [Section("inside", "Inside the training", "diagnosis.html.j2", content)]


def _looker(material: Material) -> Callable[[Candidate], Seen | None]:
    """Return a function that reads what was seen of a candidate; None where nothing was."""

    def look(candidate: Candidate) -> Seen | None:
        histories = [material.folder.run(run.id).history() for run in candidate.counted]
        looked = [facts for facts in histories if any(fact.get("kind") == Diagnosis.kind for fact in facts)]
        groups, course = moments(looked)
        return Seen(candidate, len(looked), course, inside(groups, course)) if course else None

    return look


def sentences(seen: Seen) -> list[str]:
    """Say in words what is seen inside a candidate: the way of the gradient, the changes, the dead units."""
    found = [_flow(seen), _changes(seen.inside), _dead(seen.inside)]
    return [sentence for sentence in found if sentence]


def _flow(seen: Seen) -> str:
    """Say how the gradient comes from the head to the stem."""
    found = seen.inside
    if found.reach is None:
        return "Too few layer groups learn to follow the gradient from one to the other."
    first, last = found.groups[found.first], found.groups[found.last]
    which = "first layer group that learns" if found.first else "first layer group"
    where = f"in the {which} ({first}) its norm is {times(found.reach)} that in the last ({last})"
    here = f"{where}, median over {seen.basis}"
    if found.begin is not None and max(found.begin, found.reach) > CHANGED * min(found.begin, found.reach):
        here += f"; in the first step {times(found.begin)} it"
    said = {
        "vanishes": f"The gradient vanishes on its way to the stem: {here}",
        "explodes": f"The gradient explodes on its way to the stem: {here}",
    }
    return said.get(found.flow, f"The gradient reaches the first layers: {here}") + "."


def _changes(found: Inside) -> str:
    """Say how far a step moves the weights."""
    known = sorted(value for value in found.ratio if value is not None)
    if not known:
        return ""
    ends = dict.fromkeys((scientific(known[0]), scientific(known[-1])))
    words = f"A step changes the weights of a layer group by {' to '.join(ends)} of their norm"
    if found.still:
        words += f"; those of {_named(found, found.still)} hardly move"
    if found.restless:
        words += f"; those of {_named(found, found.restless)} are rewritten rather than changed"
    return words + "."


def _dead(found: Inside) -> str:
    """Say how many ReLUs are dead at the end."""
    known = [(value, place) for place, value in enumerate(found.dead) if value is not None]
    if not known:
        return ""
    most, place = max(known, key=lambda entry: (entry[0], -entry[1]))
    if found.silent:
        return f"At the end half or more of the ReLU units are dead in {_named(found, found.silent)}."
    if not most:
        return "No ReLU unit is dead at the end."
    return f"At the end at most {share(most)} of a layer group's ReLU units are dead ({found.groups[place]})."


def _named(found: Inside, places: Sequence[int]) -> str:
    """Name layer groups, the first few of many."""
    return listed([found.groups[place] for place in places])


def times(factor: float) -> str:
    """Write a factor as people say it.

    >>> times(0.00025), times(0.62), times(1234.0), times(3e-9), times(0.0)
    ('1/4,000 of', '0.6 times', '1,200 times', '3 × 10⁻⁹ times', 'nothing of')
    """
    if factor == 0:
        return "nothing of"
    if 1e-6 < factor < 0.1:
        return f"1/{float(f'{1 / factor:.2g}'):,.0f} of"
    if 0.1 <= factor < 10:
        return f"{number(factor)} times"
    return f"{float(f'{factor:.2g}'):,.0f} times" if 10 <= factor < 1e6 else f"{scientific(factor, 1)} times"


def scientific(value: float | None, digits: int = 2) -> str:
    """Write a number of any size with a few significant digits.

    >>> scientific(0.0312), scientific(1.23e-5), scientific(0.0), scientific(None)
    ('0.031', '1.2 × 10⁻⁵', '0', '–')
    """
    if value is None or not math.isfinite(value):
        return number(None)
    if value == 0 or 1e-3 <= value < 1e4:
        return f"{float(f'{value:.{digits}g}'):g}"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{mantissa} × 10{str(int(exponent)).translate(EXPONENTS)}"


def rows(seen: Seen) -> list[tuple[str, ...]]:
    """Return the table behind a candidate's charts: a layer group's name, gradient at first and last, change, dead."""
    found, first, last = seen.inside, seen.course[0], seen.course[-1]
    columns = zip(found.groups, first.gradient, last.gradient, found.ratio, found.dead, strict=True)
    return [(name, *map(scientific, values), share(dead)) for name, *values, dead in columns]


def _by_depth(chart: Chart, seen: Sequence[Seen]) -> Figure | None:
    """Draw all candidates over their layer groups from stem to head; None where nothing is known."""
    lines = [Line(one.candidate.colour, _points(getattr(one.inside, chart.name), chart), "thick") for one in seen]
    lines = [line for line in lines if line.points]
    if not lines:
        return None
    caption = f"{chart.title} by layer group, the first is the stem, the last the head; medians over the training."
    if chart.name == "dead":
        caption = "Dead ReLU units by layer group, the first is the stem; median over the last quarter of the training."
    most = max(len(one.inside.groups) for one in seen)
    axes = Axes("layer group, from stem to head", chart.axis, (1.0, most), chart.span, chart.log)
    drawing = curves(lines, axes, (), f"{caption} {_said(chart, seen)}".strip())
    return Figure(chart.title, drawing, caption, key(tuple(one.candidate for one in seen)))


def _said(chart: Chart, seen: Sequence[Seen]) -> str:
    """Say in the text alternative of the gradients' chart what is seen in it."""
    return " ".join(f"{one.candidate.name}: {_flow(one)}" for one in seen) if chart.name == "gradient" else ""


def _points(values: Values, chart: Chart) -> tuple[Point, ...]:
    """Return the points of a curve over layer groups; an axis that is logarithmic has no place for 0."""
    found = ((place + 1.0, value) for place, value in enumerate(values) if value is not None)
    return tuple((at, chart.factor * value) for at, value in found if value > 0 or not chart.log)


def _alone(one: Seen, seen: Sequence[Seen]) -> list[Figure]:
    """Draw one candidate over the epochs, a line for each layer group, on the axes that all candidates share."""
    figures = []
    for chart in CHARTS:
        lines = _lines(one, chart)
        if lines:
            everyone = [line for other in seen for line in _lines(other, chart)]
            epochs = [point[0] for line in everyone for point in line.points]
            values = [*chart.span, *(point[1] for line in everyone for point in line.points)]
            axes = Axes("epochs trained", chart.axis, epochs, values, chart.log)
            caption = f"{chart.title}, a line for each layer group; median at each step of {plural(one.runs, 'run')}."
            drawing = curves(lines, axes, (), f"{one.candidate.name}: {caption}", SMALL)
            figures.append(Figure(chart.title, drawing, caption))
    return figures


def _lines(one: Seen, chart: Chart) -> list[Line]:
    """Return a line for each layer group that has values, shaded from stem to head."""
    groups = len(one.inside.groups)
    lines = []
    for place in range(groups):
        series = [(moment.at, getattr(moment, chart.name)[place]) for moment in one.course]
        known = tuple((at, chart.factor * v) for at, v in series if v is not None and (v > 0 or not chart.log))
        if known:
            lines.append(Line(f"d{round((SHADES - 1) * place / max(1, groups - 1))}", known, "layer"))
    return lines
