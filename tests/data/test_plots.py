"""Plots of boxes: every box is in them, and what is said about them is true."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from bakeoff.data.columns import objects
from bakeoff.data.dataset import Dataset, Record
from bakeoff.data.plots import MOST, box_plots
from bakeoff.data.targets import Boxes


def dataset(sides: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Dataset:
    """One image of 200 x 100 with a box of each width and height."""
    boxes = np.concatenate([np.zeros_like(sides), sides], axis=1)
    target = Boxes((200, 100), boxes, np.zeros(len(sides), np.int64))
    return Dataset("detection", ("a",), (Record("x", "x", target),), Path("nowhere"))


def test_every_box_is_drawn_and_counted() -> None:
    sides = np.array([[20.0, 10], [20, 10], [100, 50], [2, 1], [150, 100], [0, 10]])  # the last has no area
    shape, size = box_plots(objects(dataset(sides)))
    drawing = ElementTree.fromstring(str(shape.drawing))
    dots = re.findall(r"M([\d.]+) ([\d.]+)h0", drawing.find("path").get("d"))  # type: ignore[union-attr,arg-type]
    assert len(dots) == 5
    assert dots[0] == dots[1]
    places = {place: float(x) for place, (x, _) in enumerate(dots)}
    assert places[3] < places[0] < places[2] < places[4]
    assert "5 boxes; half are narrower than 10.0% of their image's width and half lower than 10.0%" in shape.caption
    assert size.caption.startswith("small (below 32 pixels): 60%, medium: 20%, large (from 96): 20%")
    columns = [c for c in ElementTree.fromstring(str(size.drawing)) if c.get("class") == "column"]
    heights = sorted({float(column.get("height", 0)) for column in columns}, reverse=True)
    assert heights[0] == pytest.approx(2 * heights[1], abs=0.2)  # two boxes of 20 x 10, one of each other


def test_many_boxes_are_sampled_and_none_give_no_plot() -> None:
    many = np.random.default_rng(0).uniform(1, 90, (5 * MOST, 2))
    shape, _ = box_plots(objects(dataset(many)))
    assert str(shape.drawing).count("h0") == MOST
    assert f"{5 * MOST:,} boxes; {MOST:,} of them are drawn" in shape.caption
    assert box_plots(objects(dataset(np.zeros((3, 2))))) == ()


@pytest.mark.parametrize("sides", [[[1e-7, 1e-7]], [[200.0, 100.0]], [[5e6, 3.0]]], ids=["tiny", "full", "beyond"])
def test_extreme_boxes_stay_in_the_drawing(sides: list[list[float]]) -> None:
    for plot in box_plots(objects(dataset(np.array(sides)))):
        assert not re.search(r"nan|inf|\"-", str(plot.drawing))
