"""COCO's panoptic form: label maps and objects out of one PNG, and back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from bakeoff.data import formats
from bakeoff.data.dataset import Dataset
from bakeoff.data.decode import read_image
from bakeoff.data.masks import read_label_map, to_pixels, to_runs
from bakeoff.data.targets import IGNORE, Instances, MaskFiles
from bakeoff.errors import DataError, UsageError

CATEGORIES = [
    {"id": 1, "name": "person", "isthing": 1},
    {"id": 7, "name": "car", "isthing": 1},
    {"id": 200, "name": "sky", "isthing": 0},
]
IDS = np.array([[300, 300, 0, 70000], [300, 9, 9, 70000], [5, 5, 9, 70000]], np.int64)
SEGMENTS: list[dict[str, Any]] = [
    {"id": 300, "category_id": 7, "iscrowd": 0, "bbox": [0, 0, 2, 2], "area": 3},
    {"id": 70000, "category_id": 200, "iscrowd": 0, "bbox": [3, 0, 1, 3], "area": 3},
    {"id": 9, "category_id": 1, "iscrowd": 0},
    {"id": 5, "category_id": 1, "iscrowd": 1, "bbox": [0, 2, 2, 1], "area": 2},
]


def data(folder: Path, name: str = "panoptic", **changes: Any) -> Path:
    """Write an image, its PNG and the JSON file, in which some keys are changed."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).mkdir()
    pixels = np.random.default_rng(len(name)).integers(0, 256, (3, 4, 3), np.uint8)
    Image.fromarray(pixels).save(folder / f"{name}-a.jpg")
    colours = np.stack([IDS % 256, IDS // 256 % 256, IDS // 65536], axis=2).astype(np.uint8)
    Image.fromarray(colours).save(folder / name / "a.png")
    content: dict[str, Any] = {
        "images": [{"id": 3, "file_name": f"{name}-a.jpg", "width": 4, "height": 3}],
        "annotations": [{"image_id": 3, "file_name": "a.png", "segments_info": SEGMENTS}],
        "categories": CATEGORIES,
    }
    (folder / f"{name}.json").write_text(json.dumps({**content, **changes}))
    return folder


def label_map(dataset: Dataset, place: int = 0) -> NDArray[np.uint8]:
    """Return the label map of a record."""
    target = dataset.records[place].target
    assert isinstance(target, MaskFiles)
    return read_label_map(dataset.source, target)


def objects(dataset: Dataset, place: int = 0) -> Instances:
    """Return the objects of a record."""
    target = dataset.records[place].target
    assert isinstance(target, Instances)
    return target


def test_label_maps(tmp_path: Path) -> None:
    dataset = formats.read(data(tmp_path))
    assert (dataset.task, dataset.format, dataset.classes) == ("semantic", "panoptic", ("car", "person", "sky"))
    assert np.array_equal(label_map(dataset), [[0, 0, IGNORE, 2], [0, 1, 1, 2], [1, 1, 1, 2]])
    assert (dataset.records[0].size, dataset.records[0].split) == ((4, 3), None)
    without = formats.read(tmp_path, ignore=("sky",))
    assert without.classes == ("car", "person")
    assert np.array_equal(label_map(without)[0], [0, 0, IGNORE, IGNORE])
    with pytest.raises(UsageError, match=r"nothing to ignore is called 'skye' \(did you mean sky\?\)"):
        formats.read(tmp_path, ignore=("skye",))
    assert formats.read(tmp_path / "panoptic.json") == dataset


def test_objects(tmp_path: Path) -> None:
    dataset = formats.read(data(tmp_path), task="instance")
    assert (dataset.task, dataset.classes) == ("instance", ("car", "person"))
    found = objects(dataset)
    assert found.labels.tolist() == [0, 1, 1]
    assert found.crowd.tolist() == [False, False, True]
    assert found.xyxy.tolist() == [[0, 0, 2, 2], [1, 1, 3, 3], [0, 2, 2, 3]]
    assert found.areas.tolist() == [3, 3, 2]
    assert [to_pixels(mask, (4, 3)).sum() for mask in found.masks] == [3, 3, 2]
    assert np.array_equal(to_pixels(found.masks[1], (4, 3)), IDS == 9)
    with pytest.raises(UsageError, match=r"data\.ignore is for label maps"):
        formats.read(tmp_path, task="instance", ignore=("car",))


@pytest.mark.parametrize("task", ["semantic", "instance"])
@pytest.mark.parametrize("split", [False, True])
def test_read_of_write_is_the_same(tmp_path: Path, task: str, split: bool) -> None:
    data(tmp_path / "data", "panoptic_train2017")
    if split:
        data(tmp_path / "data", "panoptic_val2017")
    dataset = formats.read(tmp_path / "data", task=task, group_from="(?P<group>.)-a")
    assert [record.split for record in dataset.records] == (["train", "val"] if split else [None])
    formats.write(dataset, tmp_path / "first", "panoptic")
    first = formats.read(tmp_path / "first", task=task)
    names = tuple(name for name in dataset.classes if name in first.classes)
    assert names == dataset.classes == first.classes
    for place, record in enumerate(dataset.records):
        again = first.records[place]
        assert (again.split, again.group, again.size) == (record.split, record.group, record.size)
        assert np.array_equal(read_image(first, again), read_image(dataset, record))
        if task == "instance":
            assert again.target == record.target
        else:
            assert np.array_equal(label_map(first, place), label_map(dataset, place))
    formats.write(first, tmp_path / "second", "panoptic")
    assert formats.read(tmp_path / "second", task=task) == first
    assert formats.read(tmp_path / "second", task=task).fingerprint == first.fingerprint


def test_objects_that_overlap_are_refused(tmp_path: Path) -> None:
    dataset = formats.read(data(tmp_path / "data"), task="instance")
    full = to_runs(np.ones((3, 4), np.uint8), (4, 3))
    target = replace(objects(dataset), masks=(full, *objects(dataset).masks[1:]))
    with pytest.raises(DataError, match=r"panoptic-a\.jpg: objects overlap, .*write coco instead"):
        formats.write(replace(dataset, records=(replace(dataset.records[0], target=target),)), tmp_path / "out", NAME)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


NAME = "panoptic"
IMAGE = {"id": 3, "file_name": "panoptic-a.jpg"}
ANNOTATION = {"image_id": 3, "file_name": "a.png"}
FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"images": [{"id": 3, "file_name": "b.jpg"}]}, r"1 of 1 images lack their picture or their PNG.*: b\.jpg"),  # gone
    ({"annotations": [{**ANNOTATION, "file_name": "b.png"}]}, r"lack their picture or their PNG.*: b\.png"),  # no PNG
    ({"annotations": []}, "no annotation of the images 3"),
    ({"images": [IMAGE, IMAGE]}, "ids of images must be there and unique"),
    ({"annotations": [ANNOTATION, ANNOTATION]}, "two annotations of the images 3"),
    ({"annotations": [ANNOTATION, {"image_id": 4}]}, "annotations of unknown images 4"),
    ({"categories": [*CATEGORIES, {"id": 8, "name": "car"}]}, "names of categories must be .* unique: 'car'"),
    ({"categories": CATEGORIES[1:]}, "segment 9 has the unknown category 1"),
    ({"annotations": [{**ANNOTATION, "segments_info": [SEGMENTS[0], SEGMENTS[0]]}]}, "stand twice: 300"),
    ({"annotations": [{**ANNOTATION, "segments_info": [{"id": 0, "category_id": 7}]}]}, "not 0, not 0"),  # void
    ({"annotations": [{**ANNOTATION, "segments_info": SEGMENTS[1:]}]}, "#2c0100 belong to no segment"),  # unexplained
    ({"categories": [{**row, "isthing": 0} for row in CATEGORIES]}, "none of the 3 categories is a thing"),
]


@pytest.mark.parametrize(("changes", "message"), FAULTS)
def test_faults(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        formats.read(data(tmp_path, **changes) / "panoptic.json", NAME, task="instance")


def test_a_png_of_another_size(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(data(tmp_path) / "panoptic-a.jpg")
    assert label_map(formats.read(tmp_path)).shape == (3, 4)
    with pytest.raises(DataError, match=r"a\.png: 4x3 pixels, but panoptic-a\.jpg has 8x6"):
        formats.read(tmp_path, task="instance")


def test_real_data(shared: Path) -> None:
    dataset = formats.read(shared / "coco128" / "panoptic_segmentation")
    assert (dataset.task, len(dataset), len(dataset.classes)) == ("semantic", 100, 133)
    things = formats.read(shared / "coco128" / "panoptic_segmentation", task="instance")
    found = [objects(things, place) for place in range(len(things))]
    assert (len(things.classes), sum(map(len, found)), sum(int(one.crowd.sum()) for one in found)) == (80, 746, 6)
    semantic = formats.read(shared / "coco128" / "semantic_segmentation")  # made from the same PNG files
    names = {**dict(enumerate(dataset.classes)), IGNORE: "unlabeled"}
    place = semantic.index["images/train2017/000000000009.jpg"]
    other = {**dict(enumerate(semantic.classes)), IGNORE: "-"}
    ours, theirs = label_map(dataset), label_map(semantic, place)
    assert dataset.records[0].id == "images/train2017/000000000009.jpg"
    met = {(names[a], other[b]) for a, b in zip(ours.ravel().tolist(), theirs.ravel().tolist(), strict=True)}
    assert {pair for pair in met if pair[0] != pair[1]} == set()
