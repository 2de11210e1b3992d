"""Pascal VOC read as detection: pixels counted from 1, marks, sizes and numbers that are none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bakeoff.data import formats
from bakeoff.data.targets import Boxes
from bakeoff.errors import DataError

sys.path.insert(0, str(Path(__file__).parent))

from annotated import HEIGHT, WIDTH, picture


def thing(name: str = "cat", box: str = "1 1 5 9", more: str = "") -> str:
    """Return an object in XML."""
    tags = ("xmin", "ymin", "xmax", "ymax")
    corners = "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(tags, box.split(), strict=True))
    part = "<part><name>head</name><bndbox><xmin>7</xmin></bndbox></part>"
    return f"<object>{part}<name>{name}</name>{more}<bndbox>{corners}</bndbox></object>"


def write(folder: Path, objects: str, size: str = f"<width>{WIDTH}</width><height>{HEIGHT}</height>") -> Path:
    """Write a.png with its XML."""
    picture(folder / "a.png")
    (folder / "a.xml").write_text(f"<annotation><size>{size}</size>{objects}</annotation>")
    return folder


BOXES: list[tuple[str, tuple[float, ...]]] = [
    ("1 1 5 9", (0, 0, 5, 9)),  # the first pixel is 1, the last is included
    ("1.1 2.5 5.25 9", (0.1, 1.5, 5.25, 9)),  # fractions
    ("0 0 37 23", (-1, -1, 37, 23)),  # a tool that counts from 0: one pixel off, and out of the image
    ("4 2 4 9", (4, 1, 4, 9)),  # no width
    ("4 9 6 9", (3, 9, 6, 9)),  # no height
    ("9 1 5 9", (8, 0, 5, 9)),  # the wrong way round
    ("30 1 99 9", (29, 0, 99, 9)),  # out of the image
]


@pytest.mark.parametrize(("box", "expected"), BOXES)
def test_pixels_count_from_one(tmp_path: Path, box: str, expected: tuple[float, ...]) -> None:
    dataset = formats.read(write(tmp_path / "data", thing(box=box)))
    target = dataset.records[0].target
    assert isinstance(target, Boxes)
    assert (dataset.task, target.size, target.xyxy[0].tolist()) == ("detection", (WIDTH, HEIGHT), list(expected))
    formats.write(dataset, tmp_path / "again", "voc")
    assert formats.read(tmp_path / "again").records[0].target == target


def test_difficult_objects_and_empty_images(tmp_path: Path) -> None:
    write(tmp_path, thing(more="<difficult>1</difficult>") + thing("dog", more="<difficult>0</difficult>"))
    picture(tmp_path / "b.png", 1)
    (tmp_path / "b.xml").write_text("<annotation><filename>b.png</filename></annotation>")
    dataset = formats.read(tmp_path)
    first, second = (record.target for record in dataset.records)
    assert isinstance(first, Boxes)
    assert isinstance(second, Boxes)
    assert (first.crowd.tolist(), len(second)) == ([True, False], 0)
    assert [(remark.code, remark.records) for remark in dataset.remarks] == [("size-zero", ("b.png",))]


SIZES: list[tuple[str, str]] = [
    ("<width>0</width><height>0</height>", "size-zero"),  # as in many exports
    ("<width>x</width>", "size-zero"),  # no number
    (f"<width>{HEIGHT}</width><height>{WIDTH}</height>", "size-turned"),  # the wrong way round
    ("<width>640</width><height>480</height>", "size-wrong"),  # of another image
]


@pytest.mark.parametrize(("size", "code"), SIZES)
def test_sizes_are_those_of_the_images(tmp_path: Path, size: str, code: str) -> None:
    dataset = formats.read(write(tmp_path, thing(), size))
    assert dataset.records[0].size == (WIDTH, HEIGHT)
    assert [remark.code for remark in dataset.remarks] == [code]


FAULTS: list[tuple[str, str]] = [
    (thing(box="nan 1 5 9"), r"a\.xml: object 1 \(cat\): nan is not a number of pixels"),  # not a number
    (thing() + thing("dog", "1 1 1e8 9"), r"object 2 \(dog\): 100000000\.0 is not"),  # would crash libraries
    (thing(box="1 1 five 9"), r"object 1 \(cat\): xmax must be a number, not 'five'"),  # text
    ("<object><name>cat</name></object>", r"object 1 \(cat\): xmin must be a number, not None"),  # no box
    (thing(name=" "), r"a\.xml: object 1 has no class name"),  # no name
    ("", "1 image, but not one object"),  # nothing at all
]


@pytest.mark.parametrize(("objects", "message"), FAULTS)
def test_faults(tmp_path: Path, objects: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        formats.read(write(tmp_path, objects))
