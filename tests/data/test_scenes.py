"""The built-in scenes: real digits, each in one scene, the same labels in every form, always the same pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from bakeoff.data import formats
from bakeoff.data.dataset import Dataset, TaskName
from bakeoff.data.decode import read_image
from bakeoff.data.masks import bounds, read_label_map, to_pixels
from bakeoff.data.scenes import MOST, write_scenes
from bakeoff.data.targets import Boxes, Instances, MaskFiles
from bakeoff.errors import UsageError

TASKS: tuple[TaskName, ...] = ("semantic", "detection", "instance")


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Dataset]:
    """Return twelve scenes for each task."""
    root = tmp_path_factory.mktemp("scenes")
    return {task: formats.read(write_scenes(root / task, task, count=12)) for task in TASKS}


def test_every_task_has_the_same_scenes(few: dict[str, Dataset]) -> None:
    semantic, detection, instance = (few[task] for task in TASKS)
    assert [dataset.task for dataset in few.values()] == list(TASKS)
    assert detection.classes == instance.classes == tuple("0123456789")
    assert semantic.classes == (*"0123456789", "background")
    for dense, boxed, masked in zip(semantic.records, detection.records, instance.records, strict=True):
        assert dense.id == boxed.id == masked.id
        assert dense.size == boxed.size == masked.size == (64, 64)
        assert np.array_equal(read_image(semantic, dense), read_image(instance, masked))
        assert isinstance(dense.target, MaskFiles)
        assert isinstance(boxed.target, Boxes)
        assert isinstance(masked.target, Instances)
        labels = np.full((64, 64), semantic.classes.index("background"))
        for label, mask, box in zip(masked.target.labels, masked.target.masks, boxed.target.xyxy, strict=True):
            labels[to_pixels(mask, (64, 64))] = label
            assert bounds(mask, (64, 64)) == tuple(box)
        assert np.array_equal(read_label_map(semantic.source, dense.target), labels)
        assert np.array_equal(boxed.target.labels, masked.target.labels)


def test_digits_are_bright_and_hardly_covered(few: dict[str, Dataset]) -> None:
    dataset = few["instance"]
    for record in dataset.records:
        assert isinstance(record.target, Instances)
        assert 2 <= len(record.target) <= 5
        grey = read_image(dataset, record).mean(axis=2)
        masks = [to_pixels(mask, (64, 64)) for mask in record.target.masks]
        ground = grey[~np.any(masks, axis=0)].mean()
        assert all(grey[mask].mean() > ground + 50 for mask in masks)
        sides = record.target.xyxy[:, 2:] - record.target.xyxy[:, :2]
        assert (sides.max(axis=1) >= 9).all()
        assert (sides <= 28).all()


def test_no_digit_is_in_two_scenes(tmp_path: Path) -> None:
    dataset = formats.read(write_scenes(tmp_path, "detection", size=32))
    _, labels = load_digits(return_X_y=True)
    there = np.bincount(labels)
    counts = dataset.counts()
    assert (len(dataset), sum(counts.values())) == (500, 1750)
    assert all(count <= there[int(name)] for name, count in counts.items())


def test_the_same_arguments_write_the_same_pixels(tmp_path: Path) -> None:
    first = formats.read(write_scenes(tmp_path / "a", "instance", 6, 48))
    assert formats.read(write_scenes(tmp_path / "b", "instance", 6, 48)).fingerprint == first.fingerprint
    other = formats.read(write_scenes(tmp_path / "c", "instance", 6, 48, seed=1))
    assert other.fingerprint != first.fingerprint
    more = formats.read(write_scenes(tmp_path / "d", "instance", 7, 48, seed=1))
    assert len(more) == 7


@pytest.mark.parametrize("task", TASKS)
def test_scenes_are_written_once(tmp_path: Path, task: TaskName) -> None:
    folder = write_scenes(tmp_path / "scenes", task, 3, 32)
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert write_scenes(folder, task, 3, 32) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == times
    for count, size, seed in ((4, 32, 0), (3, 33, 0), (3, 32, 1)):
        with pytest.raises(UsageError, match="holds something else than these"):
            write_scenes(folder, task, count, size, seed)
    (folder / "images" / "scene-0001.png").unlink()
    with pytest.raises(UsageError, match="name another folder"):
        write_scenes(folder, task, 3, 32)


def test_what_cannot_be_made(tmp_path: Path) -> None:
    for task, count, size, message in (
        ("classification", 3, 32, "digits.write_digits has single digits"),
        ("semantic", MOST + 1, 32, f"at most {MOST}"),
        ("semantic", 3, 16, "of 32 px or more"),
    ):
        with pytest.raises(UsageError, match=message):
            write_scenes(tmp_path / "scenes", task, count, size)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_every_digit_that_there_is_can_be_dealt(tmp_path: Path) -> None:
    assert len(formats.read(write_scenes(tmp_path, "detection", MOST, 32, seed=3))) == MOST
