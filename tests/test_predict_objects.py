"""Predicting label maps, boxes and instances: in the image's own pixels, as text in three forms, and as pictures."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from torch import Tensor, nn

from bakeoff.data.dataset import TaskName
from bakeoff.data.decode import Resize
from bakeoff.data.targets import IGNORE, Boxes, Instances, LabelMap
from bakeoff.errors import Refused, UsageError
from bakeoff.models.spec import ModelSpec, Network
from bakeoff.models.trained import Trained
from bakeoff.predict import Folders, Output, Prediction, illustrated, predict, write, write_coco, write_csv, write_jsonl
from bakeoff.predict.pictures import file_names

CLASSES = ("dark", "light")
SIZE = 64
LIGHT = (20, 12, 44, 30)  # the light rectangle of every image of 60 x 40 pixels
TASKS: list[TaskName] = ["semantic", "detection", "instance"]


class Bright(nn.Module):
    """Finds the light part of an image, surely, and its upper half, hardly."""

    def __init__(self, task: TaskName, sure: float = 0.9) -> None:
        super().__init__()
        self.task, self.sure = task, sure

    def forward(self, images: Tensor) -> Any:
        light = images.mean(dim=1) > 0
        if self.task == "semantic":
            return torch.stack([~light, light], dim=1) * 9.0
        found = []
        for mask in light:
            rows, columns = torch.nonzero(mask, as_tuple=True)
            box = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()
            half = torch.cat([box[:3], (box[1:2] + box[3:]) / 2])
            scores = torch.tensor([self.sure, 0.3])
            boxes = {"boxes": torch.stack([box, half]), "labels": torch.tensor([1, 0]), "scores": scores}
            found.append({**boxes, "masks": torch.stack([mask, mask]).float()})
        return found


def make_model(task: TaskName, resize: Resize = "squash", sure: float = 0.9) -> Trained:
    return Trained(Network(Bright(task, sure), ((),)), ModelSpec(arch="small:cnn"), task, CLASSES, SIZE, resize)


def paint(path: Path, turned: bool = False) -> Path:
    """Write the image with the light rectangle; `turned` stores it on its side and says so in EXIF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[LIGHT[1] : LIGHT[3], LIGHT[0] : LIGHT[2]] = 255
    exif = Image.Exif()
    if turned:
        pixels = np.rot90(pixels)
        exif[0x0112] = 6  # to be turned a quarter clockwise
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, exif=exif)
    return path


@pytest.mark.parametrize("resize", get_args(Resize))
@pytest.mark.parametrize("task", TASKS)
def test_what_is_found_lies_in_the_pixels_of_the_upright_image(tmp_path: Path, task: TaskName, resize: Resize) -> None:
    files = [paint(tmp_path / "plain.png"), paint(tmp_path / "turned.png", turned=True)]
    for found in predict(make_model(task, resize), files, device="cpu"):
        target = found.target
        if isinstance(target, LabelMap):
            assert target.pixels.shape == (40, 60)
            assert (target.pixels == IGNORE).any() == (resize == "crop")  # what was cut off is not known
            rows, columns = np.nonzero(target.pixels == 1)
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        else:
            assert isinstance(target, Instances if task == "instance" else Boxes)
            assert (target.size, target.labels.tolist()) == ((60, 40), [1])
            box = target.xyxy[0].tolist()
        np.testing.assert_allclose(box, LIGHT, atol=1)
        assert found.classes == CLASSES


def test_the_threshold_decides_what_is_shown(tmp_path: Path) -> None:
    file = paint(tmp_path / "a.png")
    for threshold, count in ((0.0, 2), (0.3, 2), (0.5, 1), (0.95, 0)):
        (found,) = predict(make_model("detection"), [file], None, "cpu", threshold)
        assert isinstance(found.target, Boxes)
        assert len(found.target) == count
    with pytest.raises(UsageError, match="threshold must lie in 0 to 1"):
        predict(make_model("detection"), [file], threshold=50)


def test_numbers_that_are_not_finite_are_an_error_of_the_file(tmp_path: Path) -> None:
    (found,) = predict(make_model("detection", sure=float("nan")), [paint(tmp_path / "a.png")], device="cpu")
    assert "not finite" in str(found.error)


def found_in(folder: Path, task: TaskName, threshold: float = 0.2) -> list[Prediction]:
    """Predict an image, one without anything in it above the threshold, and a file that is no image."""
    (folder / "b.png").write_bytes(b"no image")
    paint(folder / "a.png")
    return list(predict(make_model(task), [folder], None, "cpu", threshold))


def test_csv_has_a_row_for_every_object_or_class(tmp_path: Path) -> None:
    expected = {
        "semantic": [["dark", "1968", "0.82"], ["light", "432", "0.18"], [""] * 3],
        "detection": [["light", "0.9", "20", "12", "44", "30"], ["dark", "0.3", "20", "12", "44", "21"], [""] * 6],
        "instance": [["light", "0.9", "20", "12", "44", "30", "432"]],
    }
    for task in TASKS:
        stream = io.StringIO()
        assert write_csv(found_in(tmp_path, task), stream, CLASSES, task=task, more=("overlay",)) == 1
        header, *rows = csv.reader(io.StringIO(stream.getvalue()))
        assert (header[0], header[1], header[-2:]) == ("path", "label", ["error", "overlay"])
        for row, cells in zip(rows, expected[task], strict=False):
            for cell, value in zip(row[1:], cells, strict=False):
                try:
                    assert float(cell) == pytest.approx(float(value), abs=0.02 * float(value) + 1)
                except ValueError:
                    assert cell == value
        assert rows[-1][0].endswith("b.png")
        assert rows[-1][-2]


def test_a_file_without_objects_has_a_row(tmp_path: Path) -> None:
    stream = io.StringIO()
    write_csv(found_in(tmp_path, "detection", 0.95)[:1], stream, CLASSES, task="detection")
    assert stream.getvalue().splitlines()[1] == f"{tmp_path / 'a.png'},,,,,,,"


def test_json_lines_hold_all_that_was_found(tmp_path: Path) -> None:
    stream = io.StringIO()
    assert write_jsonl(found_in(tmp_path, "instance"), stream, CLASSES, "instance") == 1
    whole, broken = (json.loads(line) for line in stream.getvalue().splitlines())
    assert whole["size"] == [60, 40]
    assert [one["label"] for one in whole["objects"]] == ["light", "dark"]
    assert whole["objects"][0]["mask"]["size"] == [40, 60]
    assert (broken["size"], broken["objects"]) == (None, [])
    assert broken["error"]
    stream = io.StringIO()
    write_jsonl(found_in(tmp_path, "semantic"), stream, CLASSES, "semantic")
    classes = json.loads(stream.getvalue().splitlines()[0])["classes"]
    assert sum(one["pixels"] for one in classes) == 60 * 40
    assert sum(one["share"] for one in classes) == pytest.approx(1)


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # pycocotools with numpy 2
@pytest.mark.parametrize("task", TASKS)
def test_coco_is_read_by_its_own_library(tmp_path: Path, task: TaskName, capsys: pytest.CaptureFixture[str]) -> None:
    found, file = found_in(tmp_path, task), tmp_path / "found.json"
    with file.open("w", encoding="utf-8") as stream:
        assert write_coco(found, stream, CLASSES) == 1
    coco = COCO(str(file))
    capsys.readouterr()
    assert [one["name"] for one in coco.loadCats(coco.getCatIds())] == list(CLASSES)
    (image,) = coco.loadImgs(coco.getImgIds())
    assert (image["width"], image["height"], image["file_name"]) == (60, 40, str(tmp_path / "a.png"))
    light = next(one for one in coco.loadAnns(coco.getAnnIds()) if one["category_id"] == 2)
    left, top, width, height = light["bbox"]
    np.testing.assert_allclose([left, top, left + width, top + height], LIGHT, atol=1)
    assert light.get("score") == (None if task == "semantic" else 0.9)
    if task != "detection":
        mask = coco.annToMask(light)
        assert mask.shape == (40, 60)
        assert mask.sum() == light["area"]


NAMES = [
    (["x/a.png", "x/y/b.jpg"], ["a.png", "y/b.png"]),  # the tree below the folder that all share
    (["x/y/b.jpg"], ["b.png"]),  # a single file
    (["x/a.jpg", "x/a.png", "x/b.png"], ["a.jpg.png", "a.png.png", "b.png"]),  # the suffix alone differs
    (["x/a.png", "z/a.png"], ["x/a.png", "z/a.png"]),  # two folders
    (["x/A.png", "x/a.png"], ["A.png.png", "a.png-2.png"]),  # capitals, which some file systems do not tell apart
    (["a.png", "../main/b.png"], None),  # a path that leads up and down again stays inside
]


@pytest.mark.parametrize(("paths", "names"), NAMES, ids=range(len(NAMES)))
def test_every_picture_has_a_name_of_its_own(paths: list[str], names: list[str] | None) -> None:
    found = file_names([Path(path) for path in paths], ".png")
    assert list(found) == paths
    assert len({name.casefold() for name in found.values()}) == len(paths)
    assert not any(name.startswith(("/", "..")) for name in found.values())
    assert names is None or list(found.values()) == names


def test_masks_and_overlays_are_pictures_of_the_image(tmp_path: Path) -> None:
    files = [paint(tmp_path / "in" / name) for name in ("a.png", "a.bmp")]
    folders = Folders(tmp_path / "masks", tmp_path / "overlays")
    folders.check(files, "semantic")
    first, second = illustrated(predict(make_model("semantic"), files, device="cpu"), files, folders)
    assert (first.mask, second.mask) == (str(tmp_path / "masks/a.png.png"), str(tmp_path / "masks/a.bmp.png"))
    with Image.open(str(first.mask)) as mask:
        assert mask.mode == "P"
        assert isinstance(first.target, LabelMap)
        np.testing.assert_array_equal(np.asarray(mask), first.target.pixels)
    with Image.open(str(second.overlay)) as overlay:
        assert overlay.size == (60, 40)
        assert np.ptp(np.asarray(overlay)[20, 30].astype(int)) > 20  # the white part is coloured now
    with pytest.raises(Refused, match=r"2 files that would be written are there already \(a.png.png, a.bmp.png\)"):
        folders.check(files, "semantic")


def test_images_are_never_overwritten(tmp_path: Path) -> None:
    files = [paint(tmp_path / "a.png")]
    with pytest.raises(Refused, match="are there already"):
        Folders(tmp_path).check(files, "semantic")


WRONG = [
    (Folders(Path("m")), "detection", "masks are pictures of label maps"),  # boxes have no mask
    (Folders(Path("m"), Path("./m")), "semantic", "need a folder each"),  # they would overwrite each other
]


@pytest.mark.parametrize(("folders", "task", "message"), WRONG, ids=["boxes", "one folder"])
def test_pictures_that_cannot_be_made_are_refused(folders: Folders, task: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        folders.check([Path("a.png")], task)


OUTPUTS = [
    (Output(), "detection", "csv"),  # a stream
    (Output(Path("x.json")), "instance", "coco"),  # by its suffix
    (Output(Path("x.JSONL")), "classification", "jsonl"),  # capitals
    (Output(format="coco"), "semantic", "coco"),  # asked for
    (Output(Path("x.txt")), "detection", UsageError("a .csv, .jsonl or .json")),  # unknown suffix
    (Output(format="cocoo"), "detection", UsageError("did you mean coco")),  # a typo
    (Output(Path("x.csv"), "coco"), "detection", UsageError("suffix says csv")),  # a contradiction
    (Output(format="coco"), "classification", UsageError("use csv")),  # no objects
]


@pytest.mark.parametrize(("output", "task", "expected"), OUTPUTS, ids=range(len(OUTPUTS)))
def test_the_format_is_found_out(output: Output, task: str, expected: str | UsageError) -> None:
    if isinstance(expected, str):
        assert output.chosen(task) == expected
    else:
        with pytest.raises(UsageError, match=str(expected)):
            output.chosen(task)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    model, told = make_model("detection"), list[tuple[int, int]]()
    files = [paint(tmp_path / f"{name}.png") for name in "ab"]
    predictions = predict(model, files, 1, "cpu", 0.5, lambda done, total: told.append((done, total)))
    assert write(predictions, Output(tmp_path / "out.json"), model) == 0
    assert len(json.loads((tmp_path / "out.json").read_text())["annotations"]) == 2
    assert told == [(1, 2), (2, 2)]

    def broken() -> Any:
        yield from predict(model, files[:1], device="cpu")
        raise RuntimeError("the machine stops")

    with pytest.raises(RuntimeError, match="stops"):
        write(broken(), Output(tmp_path / "out.json"), model)
    assert len(json.loads((tmp_path / "out.json").read_text())["annotations"]) == 2  # as it was
