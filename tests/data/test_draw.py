"""Drawing: targets land on their pixels, in the image's size, whatever the data holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bakeoff.data.dataset import Dataset, Record
from bakeoff.data.draw import colour_of, draw, loaded
from bakeoff.data.targets import IGNORE, Boxes, Coding, Instances, Label, LabelMap, MaskFiles, Target

CLASSES = ("background", "cat", "dog")
GREY = np.full((60, 80, 3), 100, np.uint8)
SQUARE = ((20.0, 20.0, 40.0, 20.0, 40.0, 40.0, 20.0, 40.0),)


def veiled(index: int) -> list[int]:
    """Return the colour of a class over GREY."""
    return [round(50 + value / 2) for value in colour_of(index)]


def test_a_label_map_is_a_veil_in_the_images_size() -> None:
    pixels = np.zeros((30, 40), np.uint8)  # half the image's size
    pixels[:15, :20], pixels[15:, 20:] = 2, IGNORE
    drawn = draw(GREY, LabelMap(pixels), CLASSES)
    assert np.abs(drawn[:30, :40].astype(int) - veiled(2)).max() <= 1
    assert (drawn[30:, :40] == GREY[30:, :40]).all()  # the background
    assert np.ptp(drawn[50, 70].astype(int)) == 0  # ignored: grey, and not the image's
    assert (drawn[50, 70] != GREY[50, 70]).all()
    assert (GREY == 100).all()


@pytest.mark.parametrize(
    "size",
    [
        (80, 60),  # the image's own
        (160, 120),  # a larger frame: scaled down
    ],
)
def test_a_box_is_drawn_on_its_border(size: tuple[int, int]) -> None:
    box = np.array([[20.0, 20, 40, 40]]) * (size[0] / 80)
    drawn = draw(GREY, Boxes(size, box, np.array([1])), CLASSES)
    assert drawn[39, 30].tolist() == drawn[30, 20].tolist() == drawn[30, 39].tolist() == list(colour_of(1))
    assert (drawn[25:35, 25:35] == 100).all()
    assert (drawn[42:, :] == 100).all()


@pytest.mark.parametrize("count", [1, 2])
def test_masks_are_veiled_by_class_or_each_in_its_own_colour(count: int) -> None:
    boxes = np.array([[20.0, 20, 40, 40], [50, 20, 70, 40]])
    other = tuple(x + 30 if place % 2 == 0 else x for place, x in enumerate(SQUARE[0]))
    drawn = draw(GREY, Instances((80, 60), boxes, np.array([0, 0]), masks=(SQUARE, (other,))), ("a", "b")[:count])
    assert np.abs(drawn[30, 30].astype(int) - veiled(0)).max() <= 1
    assert (drawn[30, 30].tolist() == drawn[30, 60].tolist()) == (count == 2)


@pytest.mark.parametrize(
    "box",
    [
        (40.0, 40, 20, 20),  # corners swapped
        (30.0, 10, 30, 50),  # no width
        (np.nan, 10, 30, 50),  # no number
        (-500.0, -500, 900, 900),  # around the image
        (1e12, 0, 2e12, 50),  # far outside
    ],
)
def test_wrong_boxes_are_drawn_as_far_as_they_can_be(box: tuple[float, ...]) -> None:
    assert draw(GREY, Boxes((80, 60), np.array([box]), np.array([2])), CLASSES).shape == GREY.shape


def test_names_do_not_cover_each_other() -> None:
    box = np.array([[10.0, 20, 70, 55]])
    one = draw(GREY, Boxes((80, 60), box, np.array([1])), CLASSES)
    many = draw(GREY, Boxes((80, 60), np.repeat(box, 9, axis=0), np.array([1] * 9)), CLASSES)
    ink = [int((drawn.max(axis=2) < 30)[:19].sum()) for drawn in (one, many)]  # above the boxes
    assert ink[0] == ink[1] > 5


def test_a_label_is_written_with_its_probability() -> None:
    plain, scored = draw(GREY, Label(1), CLASSES), draw(GREY, Label(1, (0.1, 0.8, 0.1)), CLASSES)
    width = [int((drawn == colour_of(1)).all(axis=2).any(axis=0).sum()) for drawn in (plain, scored)]
    assert 10 < width[0] < width[1]


def test_mask_files_are_read_first(tmp_path: Path) -> None:
    Image.fromarray(np.full((6, 8), 7, np.uint8)).save(tmp_path / "mask.png")
    target: Target = MaskFiles((("mask.png", Coding("value", ((7, 2),))),))
    record = Record("a", "a.png", target)
    found = loaded(Dataset("semantic", CLASSES, (record,), tmp_path), record)
    assert isinstance(found, LabelMap)
    assert (found.pixels == 2).all()
    with pytest.raises(TypeError, match="loaded"):
        draw(GREY, target, CLASSES)
