"""Predictions as YOLO and VOC folders: bakeoff's own readers give the objects back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bakeoff.data import formats
from bakeoff.data.dataset import TaskName
from bakeoff.data.masks import to_pixels
from bakeoff.data.targets import Boxes, Instances
from bakeoff.errors import UsageError
from bakeoff.predict import Output, write
from bakeoff.predict.prediction import label

from .simple import Light

SQUARES = {"a.png": [(4, 6, 20, 30)], "b/c.png": [(0, 0, 10, 10), (30, 40, 60, 63)], "d.png": []}


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Return images of 64 pixels with light squares, one without any, and a file that is no image."""
    found = []
    for name, boxes in SQUARES.items():
        image = np.zeros((64, 64, 3), np.uint8)
        for left, top, right, bottom in boxes:
            image[top:bottom, left:right] = 255
        found.append(tmp_path / "in" / name)
        found[-1].parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(found[-1])
    found.append(tmp_path / "in" / "bad.png")
    found[-1].write_bytes(b"no image")
    return found


KINDS: list[tuple[str, TaskName, TaskName]] = [
    ("yolo", "detection", "detection"),
    ("voc", "detection", "detection"),
    ("yolo", "instance", "instance"),  # outlines
    ("voc", "instance", "detection"),  # which has boxes alone
]


@pytest.mark.parametrize(("format", "task", "read_as"), KINDS, ids=[f"{row[0]} {row[1]}" for row in KINDS])
def test_labels_that_were_written_read_back(
    tmp_path: Path, files: list[Path], format: str, task: TaskName, read_as: TaskName
) -> None:
    model, folder = Light(task), tmp_path / "out"
    assert write(label(model, files), Output(folder, format), model) == 1
    dataset = formats.read(folder, format, task=read_as)
    assert (dataset.task, set(dataset.classes)) == (read_as, {"light"} | ({"dark"} if format == "yolo" else set()))
    assert sorted(Path(record.image).name for record in dataset.records) == ["a.png", "c.png", "d.png"]
    for record in dataset.records:
        truth = next(boxes for name, boxes in SQUARES.items() if Path(name).name == Path(record.image).name)
        target = record.target
        assert isinstance(target, Instances if read_as == "instance" else Boxes)
        found = np.array(sorted(target.xyxy.tolist()))
        np.testing.assert_allclose(found, np.array(sorted(truth), float), atol=0.3)  # outlines end inside their pixels
        assert {dataset.classes[index] for index in target.labels} <= {"light"}
        if isinstance(target, Instances):
            areas = sorted(int(to_pixels(mask, target.size).sum()) for mask in target.masks)
            assert areas == sorted((right - left) * (bottom - top) for left, top, right, bottom in truth)
    assert (folder / "classes.txt").read_text() == "dark\nlight\n"
    assert (folder / "errors.txt").read_text().startswith(f"{files[-1]}\tdamaged")


def test_a_folder_that_is_there_stays_as_it_is(tmp_path: Path, files: list[Path]) -> None:
    model = Light("detection")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    with pytest.raises(UsageError, match="not an empty folder"):
        write(label(model, files), Output(tmp_path / "out", "voc"), model)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["mine.txt"]


WRONG = [
    (Output(Path("x"), "yolo"), "classification", 0, "this model's task is classification"),  # no objects
    (Output(Path("x"), "voc"), "semantic", 0, "this model's task is semantic"),  # regions are no objects
    (Output(None, "yolo"), "detection", 0, "name a new one with --out"),  # a folder is no stream
    (Output(Path("x"), "voc"), "detection", 2, "2 inputs are videos"),  # frames are no files
    (Output(Path("x"), "yoloo"), "detection", 0, "new folder"),  # a typo, and no file
]


@pytest.mark.parametrize(("output", "task", "videos", "message"), WRONG, ids=range(len(WRONG)))
def test_what_has_no_place_in_the_format_is_refused(output: Output, task: str, videos: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        output.chosen(task, videos)
