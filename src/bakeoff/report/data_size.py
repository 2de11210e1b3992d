"""How much would more images help?  The data-size curves of curve.json, their laws drawn on to twice the images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from bakeoff.errors import DataError
from bakeoff.evaluate.power_law import PowerLaw, Reach
from bakeoff.evaluate.size_curve import Course, Curve
from bakeoff.report.charts import Figure, beside
from bakeoff.report.material import Candidate, Material, read_part
from bakeoff.report.sections import Section, key
from bakeoff.report.svg import HEIGHT, LEFT, RIGHT, WIDTH, Scale, chart, path, tag, upward
from bakeoff.report.wording import NOTHING, number, scaled, unit

AIR = 1.25  # a factor of air beside the smallest and the largest size
Drawn = tuple[Candidate, Course]


@dataclass(frozen=True)
class Sizes(Scale):
    """A logarithmic scale whose ticks are the sizes that were measured, and twice the largest."""

    marks: tuple[float, ...] = ()

    def ticks(self) -> list[float]:
        """Return the sizes as whole images."""
        return [float(round(mark)) for mark in self.marks]

    def text(self, tick: float) -> str:
        """Return a number of images."""
        return f"{tick:,.0f}"


def data_size(material: Material) -> list[Section]:
    """Return the section of a study whose data-size curve was drawn; nothing for the others."""
    content = read_part(material.folder.curve)
    if not content:
        return []
    try:
        curve = Curve.from_json(content)
    except (KeyError, TypeError, ValueError) as error:
        again = f"run `bakeoff curve {material.folder.path}` again"
        raise DataError(f"{material.folder.curve}: not a curve of this version ({error!r}); {again}") from None
    stale = curve.metric != material.comparison.metric or not set(curve.runs) <= {run.id for run in material.runs}
    courses = [(material.by_name[one.candidate], one) for one in curve.courses if one.candidate in material.by_name]
    found: dict[str, Any] = {"curve": curve, "stale": stale, "courses": courses, "unit": unit(material.metric)}
    if not stale and courses:
        together = [_figure(material, courses)]
        alone = [_figure(material, [drawn]) for drawn in courses] if len(courses) > 1 else []
        laws = {course.candidate: formula(course.trend.law) for _, course in courses}
        shares = {point.share: f"{100 * point.share:g} %" for _, course in courses for point in course.points}
        found |= {"together": together, "alone": alone, "laws": laws, "shares": shares}
        found["factor"] = 100 if material.metric.percent else 1
    return [Section("data-size", "How much would more images help?", "data_size.html.j2", found)]


def formula(law: PowerLaw | None) -> Markup:
    """Write a law as people write it.

    >>> formula(PowerLaw(1.25, 0.4, 0.031))
    Markup('1.25 n<sup>−0.40</sup> + 0.031')
    """
    if law is None:
        return Markup(NOTHING)
    floor = f" + {law.c:.2g}" if law.c > 0 else ""
    return Markup("{} n<sup>−{}</sup>{}").format(f"{law.a:.3g}", f"{law.b:.2f}", floor)


def _figure(material: Material, courses: Sequence[Drawn]) -> Figure:
    """Draw the curves of one candidate with the band of its law, or of all of them without."""
    single = len(courses) == 1
    title = courses[0][0].name if single else "All candidates"
    words = "Dots with 95 % intervals; the line is the fitted power law, dashed beyond the images there are."
    words += " The band is its 95 % interval." if single else ""
    ends = [f"{candidate.letter} {_reached(material, course)}" for candidate, course in courses if course.trend.line]
    words += f" Expected with twice the images: {', '.join(ends)}." if ends else ""
    label = f"{material.metric.title} by the number of training images: {title}. {words}"
    return Figure(title, draw(material, courses, label), words, key(tuple(candidate for candidate, _ in courses)))


def _reached(material: Material, course: Course) -> str:
    """Write what a law expects of twice the images."""
    metric, last = material.metric, course.trend.line[-1]
    value, low, high = (number(scaled(v, metric), 1 if metric.percent else 3) for v in _ends(material, last))
    return f"{value}{' %' if metric.percent else ''} [{low}, {high}]"


def _ends(material: Material, reach: Reach) -> tuple[float, float, float]:
    """Return value and interval within what the metric can be."""
    floor, ceiling = material.metric.bounds
    value, low, high = (min(max(v, floor), ceiling) for v in (reach.value, reach.low, reach.high))
    return value, low, high


def draw(material: Material, courses: Sequence[Drawn], label: str) -> Markup:
    """Draw the metric by the number of training images, on a logarithmic axis."""
    metric, single = material.metric, len(courses) == 1
    sizes = sorted({point.images for _, course in courses for point in course.points})
    marks = (*sizes, 2 * sizes[-1])
    x = Sizes(sizes[0] / AIR, 2 * sizes[-1] * AIR, LEFT, WIDTH - RIGHT, log=True, marks=marks)
    estimates = [point.estimate for _, course in courses for point in course.points]
    heights = [v for one in estimates for v in (one.value, one.low, one.high)]
    heights += [
        v for _, course in courses for reach in course.trend.line for v in _ends(material, reach)[: 3 if single else 1]
    ]
    y = upward([scaled(v, metric) for v in heights], log=False, height=HEIGHT)
    content = [part for drawn in courses for part in _law(material, drawn, (x, y), single)]
    content += _dots(material, courses, (x, y))
    titles = ("training images", metric.title + (", %" if metric.percent else ""))
    return chart(x, y, titles, content, label)


def _law(material: Material, drawn: Drawn, scales: tuple[Scale, Scale], band: bool) -> list[Markup]:
    """Draw the fitted law: solid where there are images, dashed beyond, with its band."""
    (candidate, course), (x, y) = drawn, scales
    if not course.trend.line:
        return []
    at = [x(reach.images) for reach in course.trend.line]
    levels = [
        tuple(y(scaled(v, material.metric) or 0.0) for v in _ends(material, reach)) for reach in course.trend.line
    ]
    line = [(a, level[0]) for a, level in zip(at, levels, strict=True)]
    largest = max(point.images for point in course.points)
    inside = sum(reach.images <= largest * (1 + 1e-9) for reach in course.trend.line)
    colour, found = candidate.colour, []
    if band:
        edge = [(a, level[2]) for a, level in zip(at, levels, strict=True)]
        edge += [(a, level[1]) for a, level in zip(at[::-1], levels[::-1], strict=True)]
        found.append(tag("path", d=f"{path(edge)}Z", class_=f"band {colour}"))
    found.append(tag("path", d=path(line[:inside]), class_=f"line thick {colour}"))
    found.append(tag("path", d=path(line[inside - 1 :]), class_=f"line thick {colour}", stroke_dasharray="5 4"))
    return found


def _dots(material: Material, courses: Sequence[Drawn], scales: tuple[Scale, Scale]) -> list[Markup]:
    """Draw lettered dots with their intervals; those that would cover each other stand side by side."""
    (x, y), metric = scales, material.metric
    found = [(candidate, point) for candidate, course in courses for point in course.points]
    shown = [(c, point, scaled(point.estimate.value, metric)) for c, point in found]
    there = [(c, point, value) for c, point, value in shown if value is not None]
    places = beside([(x(point.images), y(value)) for _, point, value in there], x.end)
    content = []
    for (candidate, point, _), (left, top) in zip(there, places, strict=True):
        low, high = scaled(point.estimate.low, metric), scaled(point.estimate.high, metric)
        if low is not None and high is not None:
            content.append(tag("line", x1=left, x2=left, y1=y(low), y2=y(high), class_=f"whisker {candidate.colour}"))
        text = f"{candidate.name}, {point.images:,.0f} images"
        circle = tag("circle", cx=left, cy=top, r=8.0, class_=f"dot {candidate.colour}")
        sign = tag("text", candidate.letter, x=left, y=top + 3.8, text_anchor="middle", class_="sign")
        content.append(tag("g", tag("title", text), circle, sign))
    return content
