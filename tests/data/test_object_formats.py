"""Boxes and masks in every format that has a place for them: what is written is read back, or refused."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from bakeoff.data import formats
from bakeoff.data.dataset import Dataset, Record, TaskName
from bakeoff.data.decode import read_image
from bakeoff.data.masks import to_pixels
from bakeoff.data.targets import Boxes, Instances
from bakeoff.errors import DataError, UsageError

sys.path.insert(0, str(Path(__file__).parent))

from annotated import made

TASKS: tuple[TaskName, ...] = ("detection", "instance")
OBJECTS = [
    (format.NAME, task)
    for format in formats.FORMATS
    for task in TASKS
    if task in format.TASKS and format.NAME != "panoptic"  # which knows no boxes but those of its segments
]
CROWD = ("voc", "coco")  # formats with a mark for crowd or difficult objects
EXACT = {("voc", "detection"), ("coco", "detection"), ("yolo", "detection"), ("via", "detection"), ("coco", "instance")}


def boxes(record: Record) -> Boxes:
    assert isinstance(record.target, Boxes)
    return record.target


def facts(dataset: Dataset, exact: bool) -> list[tuple[object, ...]]:
    """What must survive any conversion: pixels, split, group, classes, and the boxes (exact) or masks to the pixel."""
    rows: list[tuple[object, ...]] = []
    for record in dataset.records:
        target = boxes(record)
        names = [dataset.classes[label] for label in target.labels]
        if exact:
            shape: object = [target.xyxy.tolist(), target.areas.tolist(), target.crowd.tolist()]
        else:
            assert isinstance(target, Instances)
            shape = sorted(int(to_pixels(mask, target.size).sum()) for mask in target.masks)
        rows.append((read_image(dataset, record).tobytes(), record.split, record.group, sorted(names), shape))
    return sorted(rows, key=str)


@pytest.mark.parametrize("prescribed", [False, True])
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize(("name", "task"), OBJECTS)
def test_read_of_write_is_the_same(tmp_path: Path, name: str, task: TaskName, prescribed: bool, grouped: bool) -> None:
    source = made(tmp_path / "source", task, prescribed, grouped, crowd=name in CROWD)
    formats.write(source, tmp_path / "first", name)
    first = formats.read(tmp_path / "first")
    assert (first.format, first.task, first.classes, first.remarks) == (name, task, source.classes, ())
    assert all(record.size == (37, 23) for record in first.records)
    exact = (name, task) in EXACT
    assert facts(first, exact) == facts(source, exact)
    formats.write(first, tmp_path / "second", name)
    second = formats.read(tmp_path / "second")
    assert (second, second.fingerprint) == (first, first.fingerprint)
    assert sorted(os.listdir(tmp_path)) == ["first", "second", "source"]


def test_coco_keeps_masks_as_they_are(tmp_path: Path) -> None:
    source = made(tmp_path / "source", "instance", crowd=True)
    formats.write(source, tmp_path / "coco", "coco")
    found = formats.read(tmp_path / "coco")
    assert {str(r.target) for r in found.records} == {str(r.target) for r in source.records}


@pytest.mark.parametrize("task", get_args(TaskName))
def test_writers_refuse_other_tasks_and_name_those_that_can(tmp_path: Path, task: TaskName) -> None:
    dataset = made(tmp_path / "source", "instance")
    labels = Dataset("detection", dataset.classes, (), dataset.source) if task == "detection" else dataset
    for format in formats.FORMATS:
        if labels.task not in format.TASKS:
            with pytest.raises(UsageError, match=r"formats that can: .*coco"):
                formats.write(labels, tmp_path / "out", format.NAME)
            assert not (tmp_path / "out").exists()


REFUSED: list[tuple[str, TaskName, Callable[[Path], Dataset], str]] = [
    (
        "yolo",
        "detection",
        lambda path: made(path, "detection", crowd=True),
        "4 images with crowd.*write coco",
    ),  # no mark
    ("via", "instance", lambda path: made(path, "instance", crowd=True), "4 images with crowd"),  # no mark either
    ("objects", "instance", lambda path: made(path, "instance", crowd=True), "4 images with crowd"),  # nor here
    ("coco", "detection", lambda path: half_split(made(path, "detection")), "4 records have no split"),  # some splits
    ("yolo", "detection", lambda path: half_split(made(path, "detection")), "4 records have no split"),  # some splits
    ("voc", "detection", lambda path: renamed(made(path, "detection"), "\0"), "XML cannot hold"),  # no such character
    ("objects", "instance", lambda path: renamed(made(path, "instance"), "a/b"), "'a/b' cannot be the name"),  # folder
]


def half_split(dataset: Dataset) -> Dataset:
    first, *rest = dataset.records
    return Dataset(dataset.task, dataset.classes, (Record(first.id, first.image, first.target, split="train"), *rest),
                   dataset.source)  # fmt: skip


def renamed(dataset: Dataset, name: str) -> Dataset:
    return Dataset(dataset.task, tuple(sorted((name, "x", "y"))), dataset.records, dataset.source)


@pytest.mark.parametrize(("name", "task", "spoilt", "message"), REFUSED)
def test_writers_refuse_what_they_cannot_say(
    tmp_path: Path, name: str, task: TaskName, spoilt: Callable[[Path], Dataset], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        formats.write(spoilt(tmp_path / "source"), tmp_path / "out", name)
    assert os.listdir(tmp_path) == ["source"]


def test_reading_as_detection_drops_masks(tmp_path: Path) -> None:
    source = made(tmp_path / "source", "instance")
    for name in ("coco", "yolo", "via"):
        formats.write(source, tmp_path / name, name)
        found = formats.read(tmp_path / name, task="detection")
        assert found.task == "detection"
        assert not any(isinstance(record.target, Instances) for record in found.records)
        assert np.allclose(boxes(found.records[0]).xyxy[0], boxes(source.records[0]).xyxy[0])


def test_group_patterns_and_label_patterns(tmp_path: Path) -> None:
    formats.write(made(tmp_path / "source", "detection"), tmp_path / "coco", "coco")
    found = formats.read(tmp_path / "coco", group_from=r"x (?P<group>\d)")
    assert {record.group for record in found.records} == {"0", "1", "2"}
    with pytest.raises(UsageError, match="classification"):
        formats.read(tmp_path / "coco", "coco", label_from=r"(?P<label>\d)")


def test_an_unreadable_image_is_left_to_the_audit(tmp_path: Path) -> None:
    for name in ("voc", "coco", "yolo"):
        formats.write(made(tmp_path / name / "source", "detection"), tmp_path / name / "out", name)
        image = sorted((tmp_path / name / "out").rglob("*.png"))[0]
        image.write_bytes(b"nothing")
        found = formats.read(tmp_path / name / "out")
        broken = [record for record in found.records if record.size is None]
        assert [found.path(record) for record in broken] == [image]
        assert boxes(broken[0]).size == ((1, 1) if name == "yolo" else (37, 23))


# --- the example data: counts as in their README.md ---

REAL: list[tuple[str, str, TaskName, int, int]] = [
    ("fruits_voc", "voc", "detection", 240, 465),
    ("bccd_voc", "voc", "detection", 364, 4888),
    ("dates_coco", "coco", "instance", 18, 165),
    ("coco128/object_detection", "yolo", "detection", 128, 941 - 12),  # 12 boxes are those of 2 images that are absent
    ("coco128/instance_segmentation", "yolo", "instance", 100, 746),
]


@pytest.mark.parametrize(("name", "format", "task", "images", "objects"), REAL)
def test_example_data(shared: Path, name: str, format: str, task: TaskName, images: int, objects: int) -> None:
    dataset = formats.read(shared / name)
    assert (dataset.format, dataset.task, len(dataset)) == (format, task, images)
    assert sum(dataset.counts().values()) == objects
    assert all(record.size == boxes(record).size for record in dataset.records)


def test_example_remarks(shared: Path) -> None:
    fruits = formats.read(shared / "fruits_voc").remarks
    assert [(remark.code, len(remark.records)) for remark in fruits] == [("size-zero", 33)]
    coco = formats.read(shared / "coco128/object_detection").remarks
    assert [remark.code for remark in coco] == ["no-label-file", "label-without-image"]
    assert "2 label files without an image (12 objects)" in coco[1].sentence
    blood = [boxes(record).xyxy for record in formats.read(shared / "bccd_voc").records]
    assert sum(int((box[:, 2:] <= box[:, :2]).any(axis=1).sum()) for box in blood) == 2
