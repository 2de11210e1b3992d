"""A few lines of SVG: scales, ticks and a frame.  Colours and fonts come from the page's style sheet, not from here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from bakeoff.report.wording import known, visible

WIDTH, HEIGHT = 400, 270  # drawn small, so that text stays readable when a phone scales the figure down
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 26, 40


def tag(name: str, *children: str, **attributes: object) -> Markup:
    """Return an element; text and attributes are escaped, floats are rounded to a tenth of a pixel."""
    pairs = (
        Markup(' {}="{}"').format(
            key.rstrip("_").replace("_", "-"), f"{value:.1f}" if isinstance(value, float) else value
        )
        for key, value in attributes.items()
        if value is not None
    )
    inner = Markup().join(child if isinstance(child, Markup) else visible(child) for child in children)
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), Markup().join(pairs), inner)


@dataclass(frozen=True)
class Scale:
    """A map from values low..high to pixels start..end, linear or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    whole: bool = False  # ticks at whole numbers only

    @classmethod
    def over(cls, values: Iterable[object], start: float, end: float, log: bool | None = None) -> Scale:
        """Span the finite values with some air; logarithmic (unless told) when they cover a factor of 20."""
        found = [v for v in map(known, values) if v is not None] or [0.0, 1.0]
        low, high = min(found), max(found)
        if (low > 0 and 20 < high / low < 1e30) if log is None else log and low > 0:
            return cls(low / (high / low) ** 0.08 / 1.05, high * (high / low) ** 0.08 * 1.05, start, end, log=True)
        air = 0.08 * (high - low) or abs(high) * 0.1 or 1.0
        return cls(low - air, high + air, start, end)

    def __call__(self, value: float) -> float:
        """Return the pixel of a value."""
        low, high, at = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Return round values inside the scale: steps of 1, 2 or 5 times a power of ten."""
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            decades = decades[:: math.ceil(len(decades) / 8)]
            factors = (1,) if len(decades) > 4 else (1, 3) if len(decades) > 3 else (1, 2, 5)
            found = [factor * 10.0**decade for decade in decades for factor in factors]
        else:
            rough = (self.high - self.low) / 5
            power = 10.0 ** math.floor(math.log10(rough))
            step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
            step = max(step, 1.0) if self.whole else step
            found = [k * step for k in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]
        return [tick for tick in found if self.low <= tick <= self.high]

    def text(self, tick: float) -> str:
        """Return how a tick is written."""
        return tick_text(tick)


def tick_text(value: float) -> str:
    """Write a tick without trailing zeros.

    >>> tick_text(0.30000000000000004), tick_text(2e6), tick_text(-5.0)
    ('0.3', '2M', '−5')
    """
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.6g}{suffix}".replace("-", "−")
    return f"{value:.6g}".replace("-", "−")


def path(points: Sequence[tuple[float, float]], most: int = 160) -> str:
    """Return path data through the points, thinned to at most about `most` of them (the last one is kept)."""
    step = max(1, math.ceil(len(points) / most))
    kept = [*points[:-1][::step], *points[-1:]]
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in kept)


def chart(x: Scale, y: Scale, titles: tuple[str, str], content: Iterable[Markup], label: str) -> Markup:
    """Draw axes and grid around the content; `titles` are those of x and y, `label` is the text alternative."""
    grid, numbers = [], []
    for tick in y.ticks():
        grid.append(tag("line", x1=x.start, x2=x.end, y1=y(tick), y2=y(tick)))
        numbers.append(tag("text", y.text(tick), x=x.start - 6, y=y(tick) + 4, text_anchor="end"))
    for tick in x.ticks():
        grid.append(tag("line", x1=x(tick), x2=x(tick), y1=y.start, y2=y.start + 4, class_="axis"))
        numbers.append(tag("text", x.text(tick), x=x(tick), y=y.start + 17, text_anchor="middle"))
    numbers.append(tag("text", titles[0], x=x.end, y=y.start + 34, text_anchor="end", class_="title"))
    numbers.append(tag("text", titles[1], x=2, y=13, class_="title"))
    base = tag("line", x1=x.start, x2=x.end, y1=y.start, y2=y.start, class_="axis")
    parts = [tag("g", *grid, class_="grid"), base, tag("g", *numbers, class_="ticks"), *content]
    width, height = x.end + RIGHT, y.start + BOTTOM
    return tag(
        "svg", *parts, viewBox=f"0 0 {width:g} {height:g}", role="img", aria_label=visible(label), class_="chart"
    )


def across(values: Iterable[object], log: bool | None = None, width: float = WIDTH) -> Scale:
    """Return a horizontal scale for a chart of this width."""
    return Scale.over(values, LEFT, width - RIGHT, log)


def upward(values: Iterable[object], log: bool | None = None, height: float = HEIGHT) -> Scale:
    """Return a vertical scale for a chart of this height."""
    return Scale.over(values, height - BOTTOM, TOP, log)
