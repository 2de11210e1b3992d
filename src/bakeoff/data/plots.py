"""Plots of box sizes as hand-made SVG; colours come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from bakeoff.data.columns import ObjectColumns
from bakeoff.seeds import generator

WIDTH, HEIGHT = 360, 270
LEFT, RIGHT, TOP, BOTTOM = 46, 20, 24, 40
MOST = 2000  # dots
SMALL, LARGE = 32, 96  # COCO's sizes of objects: sides of a square, in pixels of the image
STEP = math.sqrt(2)  # from one bar to the next

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Plot:
    """A drawing with its title and a sentence about it."""

    title: str
    drawing: Markup
    caption: str


@dataclass(frozen=True)
class _Axis:
    """A logarithmic or linear map from values low..high to pixels start..end."""

    low: float
    high: float
    start: float
    end: float
    log: bool = True

    def __call__(self, values: Values) -> Values:
        """Return the pixels of values."""
        low, high, at = (np.log(v) if self.log else v for v in (self.low, self.high, values))
        return np.asarray(self.start + (at - low) / (high - low) * (self.end - self.start))


def box_plots(columns: ObjectColumns) -> tuple[Plot, ...]:
    """Return a scatter of relative widths and heights, and a histogram of sizes in pixels; none without sound boxes."""
    sound = columns.sound
    if not sound.any():
        return ()
    sides, sizes = columns.sides[sound], columns.sizes[sound]
    return _shape_plot(sides / np.maximum(sizes, 1)), _size_plot(np.sqrt(sides.prod(axis=1)))


def _shape_plot(relative: Values) -> Plot:
    """Scatter width against height, both as shares of the image."""
    low = 10.0 ** math.floor(math.log10(max(float(relative.min()), 1e-4)))
    low, shown = min(low, 0.1), np.clip(relative, low, 1)
    if len(shown) > MOST:
        shown = shown[np.sort(generator(0, "plot", len(shown)).permutation(len(shown))[:MOST])]
    x, y = _Axis(low, 1, LEFT, WIDTH - RIGHT), _Axis(low, 1, HEIGHT - BOTTOM, TOP)
    powers = range(round(math.log10(low)), 0)
    ticks = [*(f * 10.0**power for power in powers for f in ((1, 2, 5) if len(powers) < 3 else (1,))), 1.0]
    dots = Markup("").join(
        Markup("M{:.1f} {:.1f}h0").format(a, b) for a, b in zip(x(shown[:, 0]), y(shown[:, 1]), strict=True)
    )
    content = [Markup('<path class="dots" d="{}"/>').format(dots)]
    names = [f"{100 * tick:g}%" for tick in ticks]
    drawing = _chart((x, ticks, names), (y, ticks, names), ("width of the image", "height of the image"), content)
    width, height = np.median(relative, axis=0)
    sample = f"; {MOST:,} of them are drawn" if len(relative) > MOST else ""
    caption = f"{len(relative):,} boxes{sample}; half are narrower than {width:.1%} of their image's width"
    return Plot("Boxes: width and height", drawing, f"{caption} and half lower than {height:.1%} of its height")


def _size_plot(sides: Values) -> Plot:
    """Count boxes by the side of a square of their area, in steps of the square root of two."""
    first = math.floor(math.log(max(float(sides.min()), 1), STEP))
    last = max(math.floor(math.log(max(float(sides.max()), 1), STEP)), first + 3) + 1
    edges = np.array([STEP**power for power in range(first, last + 1)])
    counts = np.histogram(np.clip(sides, edges[0], edges[-1]), edges)[0]
    x = _Axis(edges[0], edges[-1], LEFT, WIDTH - RIGHT)
    y = _Axis(0, float(counts.max()), HEIGHT - BOTTOM, TOP, log=False)
    places, tops = x(edges), y(counts.astype(np.float64))
    bars = [
        Markup('<rect class="column" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(
            left, top, max(1.0, right - left - 1), y.start - top
        )
        for left, right, top in zip(places[:-1], places[1:], tops, strict=True)
    ]
    bars += [_limit(x, side, name) for side, name in ((SMALL, "small"), (LARGE, "medium")) if x.low < side < x.high]
    powers = range(math.ceil(math.log2(x.low) - 1e-9), math.floor(math.log2(x.high) + 1e-9) + 1)
    across = [2.0**power for power in powers][:: math.ceil(len(powers) / 8)]
    upward = _round_steps(int(counts.max()))
    drawing = _chart(
        (x, across, [f"{tick:g}" for tick in across]),
        (y, upward, [f"{tick:,.0f}" for tick in upward]),
        ("side of a square of the same area, pixels", "boxes"),
        bars,
    )
    small, large = float((sides < SMALL).mean()), float((sides >= LARGE).mean())
    caption = f"small (below {SMALL} pixels): {small:.0%}, medium: {1 - small - large:.0%}, large (from {LARGE}): "
    return Plot("Boxes: size", drawing, f"{caption}{large:.0%}; the median is {np.median(sides):.0f} pixels")


def _limit(x: _Axis, side: float, name: str) -> Markup:
    """Draw where a range of sizes ends."""
    at = float(x(np.array(side)))
    line = '<line class="limit" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>'
    text = '<text x="{3:.1f}" y="{4}" text-anchor="end">{5}</text>'
    return Markup(line + text).format(at, TOP, HEIGHT - BOTTOM, at - 3, TOP + 9, name)


def _round_steps(most: int) -> list[float]:
    """Return up to six round numbers from 0 to `most`."""
    rough = max(most / 5, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [step * k for k in range(int(most // step) + 1)]


Ticks = tuple[_Axis, Sequence[float], Sequence[str]]


def _chart(across: Ticks, upward: Ticks, titles: tuple[str, str], content: Iterable[Markup]) -> Markup:
    """Draw axes with ticks around the content; `titles` are those of x and y."""
    (x, x_ticks, x_names), (y, y_ticks, y_names) = across, upward
    base = '<line class="grid" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>'
    text = '<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>'
    parts = []
    for at, name in zip(x(np.array(x_ticks)), x_names, strict=True):
        parts.append(Markup(base).format(at, at, y.start, y.start + 4))
        parts.append(Markup(text).format(at, y.start + 16, "middle", name))
    for at, name in zip(y(np.array(y_ticks)), y_names, strict=True):
        parts.append(Markup(base).format(x.start, x.end, at, at))
        parts.append(Markup(text).format(x.start - 5, at + 4, "end", name))
    parts.append(Markup(text).format(x.end, HEIGHT - 6, "end", titles[0]))
    parts.append(Markup(text).format(2, 12, "start", titles[1]))
    label = f"{titles[1]} against {titles[0]}"
    head = Markup('<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(WIDTH, HEIGHT, label)
    return Markup("").join([head, *parts, *content, Markup("</svg>")])
