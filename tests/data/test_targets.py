"""Targets: what is written is what is read, and masks keep their pixels from one form to another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from bakeoff.data import masks
from bakeoff.data.dataset import Dataset, Record
from bakeoff.data.frame import Frame
from bakeoff.data.targets import (
    CLEAR,
    IGNORE,
    Boxes,
    Coding,
    Instances,
    Label,
    LabelMap,
    MaskFiles,
    Target,
    target_from_json,
    target_json,
)
from bakeoff.errors import DataError

NUMBERS = st.floats(-1e9, 1e9) | st.sampled_from([1 / 3, float("nan"), float("inf"), -0.0])
INDICES = st.integers(0, 200)
PARTS = st.lists(st.floats(-1e9, 1e9), min_size=6, max_size=8).map(tuple)
RUNS = st.integers(0, 2**12 - 1).map(lambda bits: masks.to_runs(_bits(bits), (4, 3)))
POLYGONS = st.lists(PARTS, max_size=3).map(tuple)
CODINGS = st.builds(
    Coding,
    kind=st.sampled_from(["value", "colour", "threshold"]),
    classes=st.lists(st.tuples(INDICES, INDICES), min_size=1, max_size=3).map(tuple),
    rest=st.none() | st.sampled_from([0, CLEAR, IGNORE]),
)
LAYERS = st.lists(st.tuples(st.text(min_size=1), CODINGS), min_size=1, max_size=3).map(tuple)


def _bits(number: int) -> NDArray[np.uint8]:
    """Return a mask of 3 x 4 pixels from the bits of a number."""
    return np.array([number >> place & 1 for place in range(12)], np.uint8).reshape(3, 4)


@st.composite
def objects(draw: st.DrawFn) -> Boxes:
    """Draw up to three objects, wrong boxes included, some in a crowd, with or without scores and masks."""
    count = draw(st.integers(0, 3))

    def column(values: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(values, min_size=count, max_size=count))

    fields: dict[str, Any] = {
        "size": (4, 3),
        "xyxy": np.array(column(st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS))),
        "labels": np.array(column(INDICES)),
        "scores": np.array(column(st.floats(0, 1))) if draw(st.booleans()) else None,
        "crowd": np.array(column(st.booleans())),
        "areas": np.array(column(NUMBERS)),
        "scale": draw(st.sampled_from([1.0, 0.25, 1 / 3])),
    }
    return Instances(**fields, masks=tuple(column(RUNS | POLYGONS))) if draw(st.booleans()) else Boxes(**fields)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.builds(Label, INDICES) | st.builds(MaskFiles, LAYERS, st.sampled_from([0, IGNORE])) | objects())
def test_a_target_read_back_from_json_is_the_same(target: Target) -> None:
    back = target_from_json(json.loads(json.dumps(target_json(target), allow_nan=False)))
    assert type(back) is type(target)
    assert back == target


def test_a_label_map_in_memory_has_no_json_form() -> None:
    with pytest.raises(TypeError, match="no JSON form"):
        target_json(LabelMap(np.zeros((2, 2), np.uint8)))


@pytest.mark.parametrize(
    "column",
    [
        {"labels": np.zeros(3)},  # a label too many
        {"labels": np.zeros(2), "scores": np.zeros(1)},  # a score too few
        {"labels": np.zeros(2), "masks": (b"", b"", b"")},  # a mask too many
    ],
    ids=["labels", "scores", "masks"],
)
def test_columns_of_different_lengths_are_refused(column: dict[str, Any]) -> None:
    kind = Instances if "masks" in column else Boxes
    with pytest.raises(ValueError, match=r"boxes, but|labels, but"):
        kind((8, 8), np.zeros((2, 4)), **column)


def test_boxes_that_differ_in_one_number_differ() -> None:
    target = Boxes((8, 8), np.array([[0.0, 0, 4, 4]]), np.array([1]))
    assert target == Boxes((8, 8), np.array([[0.0, 0, 4, 4]]), np.array([1]))
    assert target != Boxes((8, 8), np.array([[0.0, 0, 4, 4]]), np.array([2]))
    assert target != Boxes((8, 8), np.array([[0.0, 0, 4, 4.5]]), np.array([1]))
    assert target != Instances((8, 8), target.xyxy, target.labels, masks=((),))


@pytest.mark.parametrize("seed", range(4))
def test_run_lengths_keep_every_pixel(seed: int) -> None:
    pixels = np.random.default_rng(seed).random((7, 9)) < 0.3
    runs = masks.to_runs(pixels, (9, 7))
    assert np.array_equal(masks.to_pixels(runs, (9, 7)), pixels)
    assert masks.area(runs, (9, 7)) == pixels.sum()
    rows, columns = np.nonzero(pixels)
    assert masks.bounds(runs, (9, 7)) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_outlines_of_a_mask_draw_the_same_mask() -> None:
    pixels = np.zeros((24, 30), bool)
    pixels[2:9, 3:11] = True
    pixels[5:20, 9:14] = True  # an L
    pixels[15, 20] = True  # one pixel
    pixels[18:20, 22:29] = True  # a thin part
    outlines = masks.to_polygons(masks.to_runs(pixels, (30, 24)), (30, 24))
    assert len(outlines) == 3
    assert np.array_equal(masks.to_pixels(outlines, (30, 24)), pixels)


def test_an_empty_mask_has_an_empty_box() -> None:
    for empty in ((), masks.to_runs(np.zeros((5, 6), bool), (6, 5))):
        assert masks.bounds(empty, (6, 5)) == (0, 0, 0, 0)
        assert not masks.to_pixels(empty, (6, 5)).any()


def test_a_polygon_beyond_its_image_is_cut_at_the_border() -> None:
    pixels = masks.to_pixels(((-5.0, -5, 40, -5, 40, 3, -5, 3),), (10, 8))
    assert pixels[:3].all()
    assert not pixels[3:].any()


@pytest.mark.parametrize("far", [1e12, -1e12, float("nan"), float("inf")])
def test_a_polygon_with_wild_numbers_is_drawn_or_left_out(far: float) -> None:
    drawn = masks.to_pixels(((0.0, 0, far, 0, far, 8, 0, 8),), (10, 8))
    assert drawn.all() if far == 1e12 else not drawn.any()


def _write(folder: Path, name: str, values: NDArray[np.uint8], mode: str | None = None) -> str:
    image = Image.fromarray(values)
    image = masks.palette(values) if mode == "P" else image
    image.save(folder / name)
    return name


VALUES = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)
COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)


@pytest.mark.parametrize(
    ("mode", "coding", "expected"),
    [
        ("L", Coding("value", ((0, 2), (1, 1), (2, 0))), [[2, 1, 0], [0, 1, 2]]),  # grey values renumbered
        ("P", Coding("value", ((0, 0), (1, 1)), IGNORE), [[0, 1, 255], [255, 1, 0]]),  # palette indices, one ignored
        ("RGB", Coding("colour", ((0xFF0000, 0), (0x00FF00, 1), (0x0000FF, 2))), [[0, 1, 2], [2, 1, 0]]),  # colours
        ("L", Coding("threshold", ((2, 1),), 0), [[0, 0, 1], [1, 0, 0]]),  # bright is class 1
    ],
    ids=["grey", "palette", "colour", "threshold"],
)
def test_values_in_a_mask_file_mean_classes(
    tmp_path: Path, mode: str, coding: Coding, expected: list[list[int]]
) -> None:
    name = _write(tmp_path, "mask.png", COLOURS[VALUES] if mode == "RGB" else VALUES, mode)
    assert masks.read_label_map(tmp_path, MaskFiles(((name, coding),))).tolist() == expected


def test_later_layers_lie_over_earlier_ones_and_are_brought_to_their_size(tmp_path: Path) -> None:
    below = _write(tmp_path, "a.png", np.full((4, 6), 1, np.uint8))
    above = _write(tmp_path, "b.png", np.array([[0, 1, 0]], np.uint8))
    target = MaskFiles(
        ((below, Coding("value", ((1, 3),), CLEAR)), (above, Coding("value", ((1, 5),), CLEAR))), ground=0
    )
    assert masks.read_label_map(tmp_path, target).tolist() == [[3, 3, 5, 5, 3, 3]] * 4


def test_a_value_without_a_class_is_named_with_its_file(tmp_path: Path) -> None:
    name = _write(tmp_path, "mask.png", VALUES)
    with pytest.raises(DataError, match=r"mask\.png: the values \[2\] mean no class"):
        masks.read_label_map(tmp_path, MaskFiles(((name, Coding("value", ((0, 0), (1, 1)))),)))


def test_a_dataset_with_objects_is_read_back_with_the_same_fingerprint(tmp_path: Path) -> None:
    Image.new("RGB", (9, 7)).save(tmp_path / "a.png")
    found = Instances((9, 7), np.array([[1 / 3, 0, 4, 5]]), np.array([0]), masks=(((1 / 3, 0, 4, 0, 4, 5.1),),))
    dataset = Dataset("instance", ("x",), (Record("a.png", "a.png", found),), tmp_path)
    stored = dataset.to_json()
    again = Dataset.from_json(json.loads(json.dumps(stored)))
    assert again == dataset
    del again.__dict__["fingerprint"]
    assert again.fingerprint == dataset.fingerprint


def test_a_frame_of_the_same_size_moves_nothing() -> None:
    frame, boxes = Frame(16, 16, 16), np.array([[1.5, 2, 7, 9]])
    assert np.array_equal(frame.boxes(boxes), boxes)
    values = np.random.default_rng(0).integers(0, 9, (16, 16)).astype(np.uint8)
    assert np.array_equal(frame.pixels(values, IGNORE), values)


def test_masks_with_one_meaning_share_it_after_reading(tmp_path: Path) -> None:
    coding = Coding("value", tuple((value, value) for value in range(150)))
    records = tuple(Record(name, name, MaskFiles(((f"{name}.png", coding),))) for name in ("a.jpg", "b.jpg"))
    data = Dataset("semantic", tuple(f"{value:03d}" for value in range(150)), records, tmp_path)
    again = Dataset.from_json(json.loads(json.dumps(data.to_json())))
    assert again == data
    first, second = (record.target for record in again.records)
    assert isinstance(first, MaskFiles)
    assert isinstance(second, MaskFiles)
    assert first.layers[0][1] is second.layers[0][1]
