"""VGG Image Annotator's JSON in its forms, and folders with one mask file for each object."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bakeoff.data import formats
from bakeoff.data.masks import to_pixels
from bakeoff.data.targets import Boxes, Instances
from bakeoff.errors import DataError, UnreadableImage

sys.path.insert(0, str(Path(__file__).parent))

from annotated import HEIGHT, WIDTH, picture

RECT = {"name": "rect", "x": 3, "y": 4, "width": 10, "height": 5}
POLYGON = {"name": "polygon", "all_points_x": [1, 9, 9], "all_points_y": [2, 2, 8]}


def region(shape: Any = None, **attributes: Any) -> dict[str, Any]:
    return {"shape_attributes": shape or RECT, "region_attributes": attributes}


def rows(*regions: dict[str, Any], keyed: bool = False, name: str = "a.png") -> dict[str, Any]:
    """Return one image with regions, as a list or by number."""
    numbered: Any = {str(i): r for i, r in enumerate(regions)} if keyed else list(regions)
    return {f"{name}123": {"filename": name, "size": 123, "regions": numbered, "file_attributes": {}}}


def write(folder: Path, content: Any, name: str = "via.json") -> Path:
    picture(folder / "a.png")
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def instances(target: object) -> Instances:
    assert isinstance(target, Instances)
    return target


FORMS: list[Any] = [
    rows(region(POLYGON, type="x"), region(type="y"), keyed=True),  # version 1: regions by number
    rows(region(POLYGON, type="x"), region(type="y")),  # version 2: a list
    {"_via_settings": {}, "_via_img_metadata": rows(region(POLYGON, type="x"), region(type="y"))},  # a project
    list(rows(region(POLYGON, type="x"), region(type="y")).values()),  # a list of images
    rows(region(POLYGON, type={"x": True, "z": False}, note="a"), region(type=" y ")),  # checkbox; the usual attribute
]


@pytest.mark.parametrize("content", FORMS, ids=range(len(FORMS)))
def test_every_form_is_the_same(tmp_path: Path, content: Any) -> None:
    dataset = formats.read(write(tmp_path, content))
    assert (dataset.format, dataset.task, dataset.classes) == ("via", "instance", ("x", "y"))
    target = instances(dataset.records[0].target)
    assert target.masks == (((1, 2, 9, 2, 9, 8),), ((3, 4, 13, 4, 13, 9, 3, 9),))
    assert (target.xyxy.tolist(), target.areas.tolist()) == ([[1, 2, 9, 8], [3, 4, 13, 9]], [24, 50])
    assert dataset == formats.read(tmp_path / "via.json")


def test_rectangles_alone_are_detection(tmp_path: Path) -> None:
    dataset = formats.read(write(tmp_path, rows(region(), region())))
    target = dataset.records[0].target
    assert (dataset.task, dataset.classes, type(target)) == ("detection", ("object",), Boxes)
    assert formats.read(tmp_path, task="instance").task == "instance"


SHAPES: list[tuple[dict[str, Any], list[float], float]] = [
    ({"name": "circle", "cx": 15, "cy": 10, "r": 5}, [10, 5, 20, 15], 25 * np.pi),  # a circle
    ({"name": "ellipse", "cx": 15, "cy": 10, "rx": 8, "ry": 4}, [7, 6, 23, 14], 32 * np.pi),  # without a turn
    ({"name": "ellipse", "cx": 15, "cy": 10, "rx": 8, "ry": 4, "theta": np.pi / 2}, [11, 2, 19, 18], 32 * np.pi),
]


@pytest.mark.parametrize(("shape", "box", "area"), SHAPES)
def test_round_shapes(tmp_path: Path, shape: dict[str, Any], box: list[float], area: float) -> None:
    target = instances(formats.read(write(tmp_path, rows(region(shape)))).records[0].target)
    assert np.allclose(target.xyxy[0], box)
    assert target.areas[0] == pytest.approx(area, rel=0.002)
    assert to_pixels(target.masks[0], target.size).sum() == pytest.approx(area, rel=0.05)


def test_points_are_findings_and_images_without_regions_are_kept(tmp_path: Path) -> None:
    for split in ("train", "val"):
        content = rows(region(POLYGON), region({"name": "point", "cx": 1, "cy": 2})) | rows(name="b.png")
        write(tmp_path / split, content)
        picture(tmp_path / split / "b.png", 1)
    dataset = formats.read(tmp_path)
    assert [(r.id, r.split, len(instances(r.target))) for r in dataset.records] == [
        ("train/a.png", "train", 1), ("train/b.png", "train", 0), ("val/a.png", "val", 1), ("val/b.png", "val", 0),
    ]  # fmt: skip
    assert [(r.code, r.records) for r in dataset.remarks] == [("shape-without-area", ("train/a.png", "val/a.png"))]
    assert dataset.remarks[0].sentence.startswith("2 regions drawn as point or line")


FAULTS: list[tuple[Any, str]] = [
    (rows(region(), name="c.png"), r"via\.json: c\.png: this image is not there"),  # no image
    (rows(region(kind="x"), region()), r"a\.png: region 2: has no kind"),  # a class is missing
    (rows(region(kind="x", colour="y")), "which attribute is the class: colour, kind"),  # which?
    (rows(region({"name": "star"})), r"region 1: unknown shape 'star'; known are polygon"),  # other shape
    (rows(region({"name": "rect", "x": 1})), "a rect needs the numbers x, y, width, height"),  # numbers missing
    (rows(region({**POLYGON, "all_points_y": [1]})), "as many numbers in all_points_x"),  # unequal
    (json.dumps(rows(region()))[:-5], "damaged JSON"),  # cut
    (rows(region()) | {"x": rows(region())["a.png123"]}, "1 images are named more than once: a.png"),  # twice
    ({"x": {"regions": [], "filename": 3}}, "expected images with a filename and regions"),  # other content
]  # fmt: skip


@pytest.mark.parametrize(("content", "message"), FAULTS, ids=range(len(FAULTS)))
def test_via_faults(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        formats.read(write(tmp_path, content) / "via.json", "via")


# --- one mask file for each object ---


def nuclei(folder: Path, name: str, masks: int, inner: str = "") -> Path:
    """Write one image with its masks: 0 and 255, the last 0 and 1."""
    picture(folder / name / "images" / f"{name}.png", masks)
    (folder / name / "masks" / inner).mkdir(parents=True, exist_ok=True)
    for number in range(masks):
        pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
        pixels[2 * number : 2 * number + 2, 1:6] = 1 if number == masks - 1 else 255
        Image.fromarray(pixels).save(folder / name / "masks" / inner / f"{number}.png")
    return folder


def test_masks_in_files(tmp_path: Path) -> None:
    for name, masks in {"a": 3, "b": 0, "c": 1}.items():
        nuclei(tmp_path / "stage1_train", name, masks)
    dataset = formats.read(tmp_path)
    assert (dataset.format, dataset.task, dataset.classes) == ("objects", "instance", ("object",))
    assert [record.id for record in dataset.records] == [f"stage1_train/{n}/images/{n}.png" for n in "abc"]
    first = instances(dataset.records[0].target)
    assert first.xyxy.tolist() == [[1, 0, 6, 2], [1, 2, 6, 4], [1, 4, 6, 6]]
    assert first.areas.tolist() == [10, 10, 10]
    assert [len(instances(r.target)) for r in dataset.records] == [3, 0, 1]
    assert {record.split for record in dataset.records} == {None}
    nuclei(tmp_path / "stage1_test", "d", 1)
    assert [record.split for record in formats.read(tmp_path).records] == ["test", "train", "train", "train"]


def test_masks_in_folders_of_classes(tmp_path: Path) -> None:
    nuclei(nuclei(tmp_path, "a", 2, "cell"), "b", 1, "debris")
    assert formats.read(tmp_path).counts() == {"cell": 2, "debris": 1}


def test_mask_file_faults(tmp_path: Path) -> None:
    nuclei(tmp_path, "a", 1)
    wrong = tmp_path / "a" / "masks" / "1.png"
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(wrong)
    with pytest.raises(DataError, match=r"1\.png: its size is \(3, 3\), that of a/images/a\.png \(37, 23\)"):
        formats.read(tmp_path)
    wrong.write_bytes(b"nothing")
    with pytest.raises(UnreadableImage, match=r"masks/1\.png"):
        formats.read(tmp_path)
    wrong.unlink()
    picture(tmp_path / "a" / "images" / "b.png")
    with pytest.raises(DataError, match="1 folders do not have one image in images/: a"):
        formats.read(tmp_path, "objects")
