"""The figures of the report: each is a drawing and a caption that says what is seen in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from bakeoff.report.svg import BOTTOM, HEIGHT, TOP, WIDTH, Scale, across, chart, path, tag, tick_text, upward

Point = tuple[float, float]


@dataclass(frozen=True)
class Figure:
    """A drawing, its title and its caption; `key` lists (letter, colour, name) of who is in it."""

    title: str
    drawing: Markup
    caption: str
    key: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True)
class Mark:
    """A candidate in a scatter chart: x, and y with its interval; `front` when nobody beats it on both."""

    letter: str
    colour: str
    name: str
    x: float
    y: float
    low: float | None
    high: float | None
    front: bool = False


@dataclass(frozen=True)
class Line:
    """A curve; a broken one ends in a cross: the run failed there; `rings` are points of it that are marked.

    `style` is "thin", "thick", "dashed", "dotted" (nothing came of it) or "limit" (what the others are held against).
    """

    colour: str
    points: tuple[Point, ...]
    style: str = "thin"
    broken: bool = False
    rings: tuple[Point, ...] = ()


@dataclass(frozen=True)
class Event:
    """A place on x where something happened; `kind` is "stage", "taken" or "restart": how its line is drawn."""

    at: float
    name: str = "stage"
    kind: str = "stage"


@dataclass(frozen=True)
class Axes:
    """Titles of both axes, and the values they have to span (so that neighbouring charts share them).

    `log`: whether the upward axis is logarithmic; None: when its values cover a factor of 20.
    """

    x: str
    y: str
    x_values: Sequence[float] = field(default=())
    y_values: Sequence[float] = field(default=())
    log: bool | None = None


def front(points: Sequence[Point], up: bool = True) -> list[bool]:
    """Say for each (cost, quality) whether no other point is at least as good on both and better on one.

    `up`: a higher quality is better.

    >>> front([(1, 90), (2, 95), (3, 94), (2, 95)])
    [True, True, False, True]
    """
    signed = [(cost, quality if up else -quality) for cost, quality in points]
    return [not any(a <= cost and b >= good and (a, b) != (cost, good) for a, b in signed) for cost, good in signed]


def scatter(marks: Sequence[Mark], axes: Axes, label: str, size: tuple[float, float] = (WIDTH, HEIGHT)) -> Markup:
    """Draw candidates as lettered dots with their intervals, and the Pareto front as a dashed line."""
    x = across([mark.x for mark in marks], width=size[0])
    heights = [v for mark in marks for v in (mark.y, mark.low, mark.high) if v is not None]
    y = upward(heights, log=False, height=size[1])
    best = sorted((x(mark.x), y(mark.y)) for mark in marks if mark.front)
    content = [tag("path", d=path(best), class_="front")] if len(best) > 1 else []
    places = beside([(x(mark.x), y(mark.y)) for mark in marks], x.end)
    content += [_whisker(mark, at[0], y) for mark, at in zip(marks, places, strict=True)]
    content += [_dot(mark, *at) for mark, at in zip(marks, places, strict=True)]
    return chart(x, y, (axes.x, axes.y), content, label)


def beside(points: Sequence[Point], end: float) -> list[Point]:
    """Move dots that would cover each other sideways by their own width: two recipes of one network cost the same."""
    placed: list[Point] = []
    for x, y in points:
        steps = (sign * k * 20.0 for k in range(len(points) + 1) for sign in (1, -1))
        free = (x + step for step in steps if x + step < end and not any(_covers((x + step, y), p) for p in placed))
        placed.append((next(free, x), y))
    return placed


def _covers(a: Point, b: Point) -> bool:
    return (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 < 19.5**2


def _whisker(mark: Mark, x: float, y: Scale) -> Markup:
    """Draw the interval of a mark."""
    if mark.low is None or mark.high is None:
        return Markup()
    return tag("line", x1=x, x2=x, y1=y(mark.low), y2=y(mark.high), class_=f"whisker {mark.colour}")


def _dot(mark: Mark, x: float, y: float) -> Markup:
    """Draw a lettered dot; its tooltip is the candidate's name."""
    circle = tag("circle", cx=x, cy=y, r=9.5, class_=f"dot {mark.colour}" + (" best" if mark.front else ""))
    text = tag("text", mark.letter, x=x, y=y + 3.8, text_anchor="middle", class_="sign")
    return tag("g", tag("title", mark.name), circle, text)


def curves(
    lines: Sequence[Line], axes: Axes, events: Sequence[Event], label: str, size: tuple[float, float] = (WIDTH, HEIGHT)
) -> Markup:
    """Draw curves, and a vertical line where something happened; events of one name are named once, the first."""
    x = Scale(*_bounds([*axes.x_values, *(p[0] for line in lines for p in line.points)]), *_ends(size[0]), whole=True)
    y = upward([*axes.y_values, *(p[1] for line in lines for p in line.points)], axes.log, size[1])
    content = [
        tag("line", x1=x(one.at), x2=x(one.at), y1=y.start, y2=y.end, class_=f"event {one.kind}") for one in events
    ]
    for line in lines:
        drawn = [(x(a), y(b)) for a, b in line.points]
        content.append(tag("path", d=path(drawn), class_=f"line {line.style} {line.colour}"))
        if line.broken or len(drawn) == 1:
            content.append(_end(drawn[-1], line))
        content += [tag("circle", cx=x(a), cy=y(b), r=4.0, class_=f"ring {line.colour}") for a, b in line.rings]
    return chart(x, y, (axes.x, axes.y), [*content, *_names(events, x, y)], label)


def _names(events: Sequence[Event], x: Scale, y: Scale) -> list[Markup]:
    """Name the first event of each name, one below the other, on the side where there is room."""
    first = {one.name: one for one in reversed(events)}
    found = []
    for row, (name, one) in enumerate(sorted(first.items(), key=lambda item: item[1].at)):
        at, anchor = x(one.at) + 4, "start"
        if at > x.start + 0.8 * (x.end - x.start):
            at, anchor = at - 8, "end"
        found.append(tag("text", name, x=at, y=y.end + 9 + 11 * row, text_anchor=anchor, class_="note"))
    return found


def _end(at: Point, line: Line) -> Markup:
    """Draw the cross of a failed run, or the dot of a curve with one point."""
    x, y = at
    if line.broken:
        cross = f"M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8"
        return tag("path", d=cross, class_=f"line thick {line.colour}")
    return tag("circle", cx=x, cy=y, r=3.0, class_=f"dot {line.colour}")


def _bounds(values: Sequence[float]) -> tuple[float, float]:
    """Return the lowest and highest value, at least one apart."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    return low, max(high, low + 1.0)


def _ends(width: float) -> Point:
    """Return where a horizontal axis begins and ends: the same as that of the scatter charts."""
    scale = across([], width=width)
    return scale.start, scale.end


def reliability(bins: Sequence[tuple[float, float, float, float]], colour: str, label: str) -> Markup:
    """Draw a reliability diagram from (lowest, highest, mean confidence, accuracy) of each bin, all 0..1."""
    x, y = Scale(0, 100, 40, 246), Scale(0, 100, 226, 26)
    content = [tag("line", x1=x(0), y1=y(0), x2=x(100), y2=y(100), class_="stage")]
    points = [(x(100 * confidence), y(100 * accuracy)) for _, _, confidence, accuracy in bins]
    for (low, high, _, _), (_, height) in zip(bins, points, strict=True):
        content.append(tag("line", x1=x(100 * low), x2=x(100 * high), y1=height, y2=height, class_=f"whisker {colour}"))
    if points:
        content.append(tag("path", d=path(points), class_=f"line thick {colour}"))
    content += [tag("circle", cx=a, cy=b, r=3.0, class_=f"dot {colour}") for a, b in points]
    return chart(x, y, ("confidence, %", "correct, %"), content, label)


def precision_recall(lines: Sequence[Line], label: str, size: tuple[float, float] = (WIDTH, HEIGHT)) -> Markup:
    """Draw precision by recall, both in percent from 0 to 100."""
    start, end = _ends(size[0])
    x, y = Scale(0, 100, start, end), Scale(0, 100, size[1] - BOTTOM, TOP)
    content = [
        tag("path", d=path([(x(a), y(b)) for a, b in line.points]), class_=f"line {line.style} {line.colour}")
        for line in lines
    ]
    return chart(x, y, ("recall, %", "precision, %"), content, label)


@dataclass(frozen=True)
class Bar:
    """One line of the forest plot; places are percent of the plot's width."""

    left: float
    right: float
    at: float
    kind: str


@dataclass(frozen=True)
class Forest:
    """The geometry of the forest plot, in percent of its width; ticks are (place, text)."""

    bars: tuple[Bar, ...]
    band: tuple[float, float]
    zero: float
    ticks: tuple[tuple[float, str], ...]


def forest(pairs: Sequence[tuple[float, float, float, str]], eps: float) -> Forest:
    """Lay out (difference, low, high, kind) and the band -eps..eps, all in the unit shown."""
    ends = [v for _, low, high, _ in pairs for v in (low, high)]
    scale = Scale.over([*ends, -1.3 * eps, 1.3 * eps], 0, 100, log=False)
    bars = tuple(Bar(scale(low), scale(high), scale(at), kind) for at, low, high, kind in pairs)
    ticks = tuple((scale(tick), ("+" if tick > 0 else "") + tick_text(tick)) for tick in scale.ticks())
    return Forest(bars, (scale(-eps), scale(eps)), scale(0.0), ticks)
