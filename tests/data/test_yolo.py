"""YOLO's text files: where images and labels are looked for, what lines mean, and what is refused."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from bakeoff.data import formats
from bakeoff.data.targets import Boxes, Instances
from bakeoff.errors import DataError

sys.path.insert(0, str(Path(__file__).parent))

from annotated import picture

NAMES = "names: [no, 012]\n"
LINE = "1 0.5 0.5 0.25 0.5\n"


def write(folder: Path, yaml: str, files: dict[str, str | None], size: tuple[int, int] = (40, 20)) -> Path:
    """Write data.yaml, and files: text, or an image for None."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data.yaml").write_text(yaml, encoding="utf-8")
    for seed, (name, text) in enumerate(files.items()):
        if text is None:
            picture(folder / name, seed, size)
        else:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
    return folder


def boxes(target: object) -> Boxes:
    assert isinstance(target, Boxes)
    return target


LAYOUTS: list[tuple[str, dict[str, str | None]]] = [
    ("train: images\n", {"images/a.jpg": None, "labels/a.txt": LINE}),  # one folder
    ("path: .\ntrain: images/train\n", {"images/train/a.jpg": None, "labels/train/a.txt": LINE}),  # Ultralytics
    ("path: ../datasets/mine\ntrain: images/x\n", {"images/x/a.jpg": None, "labels/x/a.txt": LINE}),  # another machine
    ("path: /home/me/mine\ntrain: images\n", {"images/a.jpg": None, "labels/a.txt": LINE}),  # another machine
    ("train: ../train/images\n", {"train/images/a.jpg": None, "train/labels/a.txt": LINE}),  # one step too high
    ("train: [one, two]\n", {"one/a.jpg": None, "one/a.txt": LINE, "two/b.jpg": None}),  # labels beside, two folders
    ("train: list.txt\n", {"list.txt": "./images/a.jpg\n\n", "images/a.jpg": None, "labels/a.txt": LINE}),  # a list
    ("train: images\nval: images\n", {"images/a.jpg": None, "labels/a.txt": LINE}),  # the same twice, as in coco128
    ("train: images\\x\nval: nowhere\n", {"images/x/a.jpg": None, "labels/x/a.txt": LINE}),  # a part that is not here
]


@pytest.mark.parametrize(("yaml", "files"), LAYOUTS)
def test_where_images_and_labels_are_looked_for(tmp_path: Path, yaml: str, files: dict[str, str | None]) -> None:
    write(tmp_path / "data", NAMES + yaml, files)
    assert formats.sniff(tmp_path / "data")[0] == "yolo"
    dataset = formats.read(tmp_path / "data")
    assert [record.image for record in dataset.records] == [name for name, text in files.items() if text is None]
    assert (dataset.task, dataset.classes, dataset.source) == ("detection", ("012", "no"), tmp_path / "data")
    assert {record.split for record in dataset.records} == {None}
    target = boxes(dataset.records[0].target)
    assert (target.xyxy.tolist(), target.labels.tolist()) == ([[15, 5, 25, 15]], [0])
    assert len(dataset.lineage) == ("nowhere" in yaml or yaml.count("images\n") == 2)
    assert formats.read(tmp_path / "data" / "data.yaml") == dataset


def test_images_beside_the_folder_of_the_yaml(tmp_path: Path) -> None:
    write(tmp_path / "boxes", f"path: .\ntrain: images/x\n{NAMES}", {"labels/x/a.txt": LINE})
    picture(tmp_path / "images" / "x" / "a.jpg")
    dataset = formats.read(tmp_path / "boxes")
    assert (dataset.source, dataset.records[0].image) == (tmp_path, "images/x/a.jpg")
    assert len(boxes(dataset.records[0].target)) == 1


def test_splits_groups_and_findings(tmp_path: Path) -> None:
    files: dict[str, str | None] = {}
    for split in ("train", "valid", "test"):
        files |= {f"{split}/images/a.jpg": None, f"{split}/labels/a.txt": LINE}
    files |= {"train/images/empty.jpg": None, "train/images/bare.jpg": None, "train/labels/empty.txt": "\n \n"}
    files |= {"train/labels/lost.txt": LINE * 3, "test/labels/a.txt": f"{LINE}7 .5 .5 .1 .1\n"}
    files["groups.csv"] = "path,group\ntest/images/a.jpg,p1\n"
    yaml = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnc: 2\nnames: {0: no, 1: 012}\n"
    dataset = formats.read(write(tmp_path, yaml, files))
    assert {r.id: (r.split, r.group, len(boxes(r.target))) for r in dataset.records} == {
        "test/images/a.jpg": ("test", "p1", 1),
        "train/images/a.jpg": ("train", None, 1),
        "train/images/bare.jpg": ("train", None, 0),
        "train/images/empty.jpg": ("train", None, 0),
        "valid/images/a.jpg": ("val", None, 1),
    }
    assert [(remark.code, remark.records) for remark in dataset.remarks] == [
        ("unknown-class", ("test/images/a.jpg",)),
        ("no-label-file", ("train/images/bare.jpg",)),
        ("label-without-image", ()),
    ]
    assert "(3 objects) left out: lost.txt" in dataset.remarks[2].sentence
    (tmp_path / "data.yaml").write_text(f"{yaml}skip_if_label_file_missing: true\n")
    assert len(formats.read(tmp_path)) == 4


def test_outlines(tmp_path: Path) -> None:
    line = "0 0.25 0.1 0.5 0.1 0.5 0.9\n"
    write(tmp_path, f"{NAMES}train: images", {"images/a.jpg": None, "labels/a.txt": line, "images/b.jpg": None})
    dataset = formats.read(tmp_path)
    target = dataset.records[0].target
    assert isinstance(target, Instances)
    assert (target.masks, target.xyxy.tolist()) == ((((10, 2, 20, 2, 20, 18),),), [[10, 2, 20, 18]])
    assert np.allclose(target.areas, 80)
    (tmp_path / "labels" / "b.txt").write_text(LINE)
    with pytest.raises(DataError, match=r"1 of 2 objects have a box but no mask .*b\.txt.*--task detection"):
        formats.read(tmp_path)
    assert formats.read(tmp_path, task="detection").counts() == {"012": 1, "no": 1}


LINES: list[tuple[str, str]] = [
    (f"{LINE}\nx 1 2 3 4", "a.txt:3: not numbers"),  # text; the empty line counts
    ("1.5 .1 .1 .1 .1", "a.txt:1: 1.5 is not the id"),  # a fraction
    ("-1 .1 .1 .1 .1", "a.txt:1: -1.0 is not the id"),  # negative
    ("nan .1 .1 .1 .1", "a.txt:1: nan is not the id"),  # no number
    ("1 .1 .1 .1", "a.txt:1: expected class cx cy w h"),  # short
    ("1", "a.txt:1: expected class cx cy w h"),  # class only
    ("1 .1 .1 .1 .1 .9", "a.txt:1: 5 numbers after the class: a prediction"),  # confidence
    ("1 .1 .1 .1 .1 .1 .1 .1", "a.txt:1: expected class"),  # odd outline
    ("1 120 80 30 20", "a.txt:1: coordinates must be fractions of the image, not pixels"),  # pixels
    ("1 nan .1 .1 .1", "a.txt:1: coordinates must be fractions"),  # not a number
]


@pytest.mark.parametrize(("text", "message"), LINES)
def test_bad_lines_are_named(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path, f"{NAMES}train: images", {"images/a.jpg": None, "labels/a.txt": text})
    with pytest.raises(DataError, match=message):
        formats.read(tmp_path)


YAMLS: list[tuple[str, str]] = [
    ("train: images", "no class names"),  # no names
    ("names: [a, ' a']\ntrain: images", "names must be there and unique: 'a'"),  # the same twice
    ("names: {a: 1}\ntrain: images", "whole numbers and names; found a: 1"),  # the wrong way round
    ("names: {0: a, 0: b}\ntrain: images", "damaged yaml: a key appears twice"),  # a key twice
    ("names: [a]\nnc: 2\ntrain: images", "nc says 2 classes, names has 1"),  # count
    ("names: [a\ntrain: images", "damaged yaml"),  # cut
    ("names: [a]\ntrain: pictures", "train: pictures is not there; paths start from"),  # no such folder
    ("names: [a]\ntrain: images\nval: more", "none of 1 images of val has a label file such as .*more/c.txt"),
    ("names: [a]\ntrain: images\nval: images/b", r"1 image in more than one split: .*b/b\.jpg"),  # overlapping
    ("names: [a]\nkpt_shape: [17, 3]\ntrain: images", "key points"),  # pose
    ("names: [a]\ntrain: list.txt", r"list.txt: 1 of 1 images are not there: .*x\.jpg"),  # lost
]


@pytest.mark.parametrize(("yaml", "message"), YAMLS)
def test_bad_yaml_is_named(tmp_path: Path, yaml: str, message: str) -> None:
    files: dict[str, str | None] = {"images/a.jpg": None, "labels/a.txt": "", "more/c.jpg": None, "list.txt": "x.jpg"}
    write(tmp_path, yaml, {**files, "images/b/b.jpg": None, "labels/b/b.txt": LINE})
    with pytest.raises(DataError, match=message):
        formats.read(tmp_path / "data.yaml", "yolo")


def test_two_images_that_share_a_label_file(tmp_path: Path) -> None:
    write(tmp_path, f"{NAMES}train: images", {"images/a.jpg": None, "labels/a.txt": LINE})
    shutil.copy(tmp_path / "images" / "a.jpg", tmp_path / "images" / "a.png")
    with pytest.raises(DataError, match=r"share one label file: .*a\.jpg, .*a\.png; rename or remove one"):
        formats.read(tmp_path)
