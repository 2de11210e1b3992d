"""A dataset as one of another task: what labels become, what is written, what is refused."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from PIL import Image

from bakeoff.data import formats
from bakeoff.data.convert import as_task
from bakeoff.data.dataset import Dataset, Record, TaskName
from bakeoff.data.decode import read_image
from bakeoff.data.masks import palette, read_label_map, to_pixels, to_runs
from bakeoff.data.targets import IGNORE, Boxes, Instances, Label, MaskFiles
from bakeoff.errors import DataError, UsageError

sys.path.insert(0, str(Path(__file__).parent))

from annotated import HEIGHT, WIDTH, made, picture

SIZE = (WIDTH, HEIGHT)


def label_map(dataset: Dataset, record: Record) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    assert isinstance(record.target, MaskFiles)
    return read_label_map(dataset.source, record.target)


def semantic(folder: Path, *maps: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], names: str) -> Dataset:
    """Write images with label maps, which may be of another size."""
    for number, pixels in enumerate(maps):
        picture(folder / "images" / f"{number}.png", number)
        (folder / "masks").mkdir(exist_ok=True)
        palette(pixels).save(folder / "masks" / f"{number}.png")
    (folder / "classes.txt").write_text(names)
    return formats.read(folder, task="semantic")


def test_boxes_of_masks_are_kept_as_they_are(tmp_path: Path) -> None:
    source = made(tmp_path / "source", "instance", prescribed=True, grouped=True, crowd=True)
    dataset = as_task(source, "detection", tmp_path / "out")
    assert (dataset.task, dataset.classes) == ("detection", source.classes)
    for before, after in zip(source.records, dataset.records, strict=True):
        assert (before.id, before.group, before.split) == (after.id, after.group, after.split)
        assert isinstance(before.target, Instances)
        assert type(after.target) is Boxes
        for column in ("size", "xyxy", "labels", "crowd", "areas"):
            assert np.array_equal(getattr(before.target, column), getattr(after.target, column))
    assert os.listdir(tmp_path) == ["source"]
    assert as_task(source, "instance", tmp_path / "out") is source


def test_crops_show_their_objects(tmp_path: Path) -> None:
    source = made(tmp_path / "source", "detection", prescribed=True, crowd=True)
    dataset = as_task(source, "classification", tmp_path / "crops")
    assert (dataset.task, dataset.classes, len(dataset)) == ("classification", ("012", "no"), 8)  # crowd left out
    (note,) = dataset.lineage
    assert note.endswith("4 objects without area in the image, or crowd, left out")
    images = {record.id: record for record in source.records}
    for record in dataset.records:
        assert record.group is not None
        whole = read_image(source, images[record.group])
        left, top, right, bottom = (1, 2, 31, 20) if record.label == 0 else (4, 5, 5, 6)
        assert np.array_equal(read_image(dataset, record), whole[top:bottom, left:right])
        assert (record.split, record.size) == (images[record.group].split, (right - left, bottom - top))
    wide = as_task(source, "classification", tmp_path / "wide", padding=0.5)
    assert {record.size for record in wide.records} == {(WIDTH, HEIGHT), (3, 3)}  # 1.25 - 14.4 … 30.1 + 14.4; 3.5 … 5.5
    formats.write(dataset, tmp_path / "folders", "folder")
    again = formats.read(tmp_path / "folders")
    assert sorted(record.group or "" for record in again.records) == sorted(r.group or "" for r in dataset.records)


def test_crops_stay_inside_the_image(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    xyxy = np.array([[-5, -5, 4, 4], [30, 20, 90, 90], [-9, -9, -1, -1], [50, 2, 60, 9], [0.4, 0.4, 0.6, 0.6]])
    target = Boxes(SIZE, xyxy, np.array([0, 1, 0, 1, 1]))
    source = Dataset("detection", ("x", "y"), (Record("a.png", "a.png", target, "g"),), tmp_path)
    dataset = as_task(source, "classification", tmp_path / "out")
    assert [(r.id, r.group, r.size) for r in dataset.records] == [
        ("a-0000.png", "g", (4, 4)), ("a-0001.png", "g", (7, 3)), ("a-0004.png", "g", (1, 1)),
    ]  # fmt: skip


def test_small_objects_are_painted_over_large_ones(tmp_path: Path) -> None:
    picture(tmp_path / "de" / "ep" / "a.png")
    (tmp_path / "data").symlink_to(tmp_path / "de" / "ep")  # a link: "data/.." is not where it lies
    frames = np.zeros((3, HEIGHT, WIDTH), np.uint8)
    frames[0, 4:8, 4:8] = frames[1, 2:12, 2:12] = frames[2, 6:20, 6:30] = 1
    areas = frames.sum((1, 2)).astype(np.float64)
    masks = tuple(to_runs(frame, SIZE) for frame in frames)
    target = Instances(SIZE, np.zeros((3, 4)), np.array([1, 0, 0]), None, np.array([0, 0, 1]), areas, masks)
    source = Dataset("instance", ("ape", "zoo"), (Record("a.png", "a.png", target),), tmp_path / "data")
    dataset = as_task(source, "semantic", tmp_path / "maps")
    expected = np.ones((HEIGHT, WIDTH), np.uint8)
    expected[6:20, 6:30] = IGNORE
    expected[2:12, 2:12] = 0
    expected[4:8, 4:8] = 2
    assert dataset.classes == ("ape", "background", "zoo")
    assert np.array_equal(label_map(dataset, dataset.records[0]), expected)
    formats.write(dataset, tmp_path / "written", "masks")
    again = formats.read(tmp_path / "written")
    assert np.array_equal(label_map(again, again.records[0]), expected)


def test_connected_parts_become_objects(tmp_path: Path) -> None:
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
    pixels[1:4, 1:4] = pixels[4:6, 4:6] = 1  # they touch at a corner: one object
    pixels[10:12, 3:9] = pixels[10:12, 20:22] = 2
    pixels[20:, 30:] = 255
    source = semantic(tmp_path / "data", pixels, np.zeros((4, 4), np.uint8), names="Unlabeled\nzebra\nant\n")
    dataset = as_task(source, "instance", tmp_path / "out")
    first, second = (record.target for record in dataset.records)
    assert isinstance(first, Instances)
    assert isinstance(second, Instances)
    assert dataset.classes == ("ant", "zebra")
    assert first.labels.tolist() == [0, 0, 1]
    assert first.xyxy.tolist() == [[3, 10, 9, 12], [20, 10, 22, 12], [1, 1, 6, 6]]
    assert first.areas.tolist() == [12, 4, 13]
    assert (len(second), second.size) == (0, SIZE)
    boxes = as_task(source, "detection", tmp_path / "out")
    assert (boxes.task, boxes.counts()) == ("detection", {"ant": 2, "zebra": 1})
    crops = as_task(source, "classification", tmp_path / "out")
    assert crops.counts() == {"ant": 2, "zebra": 1}


def test_smaller_label_maps_are_brought_to_the_image(tmp_path: Path) -> None:
    small = np.zeros((3, 3), np.uint8)
    small[0, 0] = 1
    source = semantic(tmp_path / "data", small, small, names="background\nx\n")
    target = as_task(source, "instance", tmp_path / "out").records[0].target
    assert isinstance(target, Instances)
    assert (target.size, target.xyxy.tolist()) == (SIZE, [[0, 0, 12, 8]])  # thirds, to the nearest centre


@settings(max_examples=25, deadline=None, derandomize=True)
@given(some.lists(some.integers(0, 2), min_size=24, max_size=24))
def test_there_and_back_is_the_same_label_map(tmp_path_factory: pytest.TempPathFactory, values: list[int]) -> None:
    folder = tmp_path_factory.mktemp("there")
    pixels = np.array(values, np.uint8).reshape(4, 6)
    Image.fromarray(pixels).save(folder / "a.png")
    parts = [to_runs((pixels == value).astype(np.uint8), (6, 4)) for value in (1, 2)]
    target = Instances((6, 4), np.zeros((2, 4)), np.array([0, 1]), masks=tuple(parts))
    source = Dataset("instance", ("x", "y"), (Record("a.png", "a.png", target, size=(6, 4)),), folder)
    there = as_task(source, "semantic", folder / "maps")
    back = as_task(there, "instance", folder / "unused")
    found = back.records[0].target
    assert isinstance(found, Instances)
    assert back.classes == ("x", "y")
    for value in (1, 2):
        masks = [to_pixels(m, (6, 4)) for m, label in zip(found.masks, found.labels, strict=True) if label == value - 1]
        whole = np.sum(masks, axis=0) if masks else np.zeros((4, 6))
        assert np.array_equal(whole, pixels == value)


@pytest.mark.parametrize("task", get_args(TaskName))
def test_what_labels_cannot_become(tmp_path: Path, task: TaskName) -> None:
    boxes = made(tmp_path / "source", "detection")
    labels = Dataset("classification", ("a",), (Record("a/x 0.png", "a/x 0.png", Label(0)),), boxes.source)
    if task != "classification":
        with pytest.raises(UsageError, match=r"cannot become labels for .*, nor for another task"):
            as_task(labels, task, tmp_path / "out")
    if task in ("semantic", "instance"):
        with pytest.raises(UsageError, match=r"labels for detection cannot become .*, only for classification$"):
            as_task(boxes, task, tmp_path / "out")
    assert os.listdir(tmp_path) == ["source"]


def test_nothing_is_overwritten_and_nothing_half_done_is_left(tmp_path: Path) -> None:
    source = made(tmp_path / "source", "instance")
    with pytest.raises(UsageError, match="exists and is not an empty folder"):
        as_task(source, "semantic", tmp_path / "source")
    source.path(source.records[-1]).unlink()
    with pytest.raises(DataError):
        as_task(source, "classification", tmp_path / "out")
    assert os.listdir(tmp_path) == ["source"]
    square = np.eye(4, dtype=np.uint8)
    plain = semantic(tmp_path / "maps", square, square, names="x\ny\n")
    with pytest.raises(UsageError, match="no class is called background, unlabeled"):
        as_task(plain, "instance", tmp_path / "out")
