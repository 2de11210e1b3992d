"""The shapes of the VGG Image Annotator as polygons."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bakeoff.data.formats.annotations import Box, box_of
from bakeoff.data.formats.coco_masks import numbers
from bakeoff.errors import DataError

CORNERS = 64  # of a round shape; a multiple of 4, so that its box is exact when it is not turned
WITHOUT_AREA = ("point", "polyline")


@dataclass(frozen=True)
class Shape:
    """The outline x1, y1, x2, y2, … of a region in pixels, its box, and whether it was drawn as a rectangle."""

    outline: tuple[float, ...]
    box: Box
    rectangle: bool


def shape_of(content: Any, where: str) -> Shape | None:
    """Return the shape that `shape_attributes` state; None for points and lines.

    Raises DataError, beginning with `where`, for an unknown shape and for numbers that are missing.
    """
    content = content if isinstance(content, dict) else {}
    name = content.get("name")
    if name in WITHOUT_AREA:
        return None
    if name in ("polygon", "polygone"):
        xs, ys = numbers(content.get("all_points_x")), numbers(content.get("all_points_y"))
        if xs is None or ys is None or len(xs) != len(ys) or not xs:
            raise DataError(f"{where}: a polygon needs as many numbers in all_points_x as in all_points_y")
        return _outlined([value for point in zip(xs, ys, strict=True) for value in point])
    if name == "rect":
        x, y, width, height = _read(content, ("x", "y", "width", "height"), where)
        outline = (x, y, x + width, y, x + width, y + height, x, y + height)
        return Shape(outline, (x, y, x + width, y + height), True)
    if name == "circle":
        x, y, radius = _read(content, ("cx", "cy", "r"), where)
        return _round(x, y, radius, radius, 0.0)
    if name == "ellipse":
        x, y, across, down = _read(content, ("cx", "cy", "rx", "ry"), where)
        turn = numbers([content.get("theta", 0)])
        return _round(x, y, across, down, turn[0] if turn else 0.0)
    raise DataError(
        f"{where}: unknown shape {name!r}; known are polygon, rect, circle, ellipse, {', '.join(WITHOUT_AREA)}"
    )


def _read(content: Mapping[str, Any], keys: tuple[str, ...], where: str) -> list[float]:
    """Return numbers by their keys."""
    values = numbers([content.get(key) for key in keys])
    if values is None:
        raise DataError(f"{where}: a {content.get('name')} needs the numbers {', '.join(keys)}")
    return values


def _round(x: float, y: float, across: float, down: float, turn: float) -> Shape:
    """Return an ellipse around (x, y) with two radii, turned by an angle in radians."""
    values = []
    for step in range(CORNERS):
        angle = 2 * math.pi * step / CORNERS
        right, up = across * math.cos(angle), down * math.sin(angle)
        values += [x + right * math.cos(turn) - up * math.sin(turn), y + right * math.sin(turn) + up * math.cos(turn)]
    return _outlined(values)


def _outlined(values: list[float]) -> Shape:
    """Return a polygon."""
    outline = tuple(values)
    return Shape(outline, box_of((outline,), (1, 1)), False)
