"""COCO's JSON: where files and images are looked for, what is kept, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from bakeoff.data import formats
from bakeoff.data.formats.coco_masks import read_mask
from bakeoff.data.masks import to_pixels, to_runs
from bakeoff.data.targets import Boxes, Instances
from bakeoff.errors import DataError

sys.path.insert(0, str(Path(__file__).parent))

from annotated import CLASSES, HEIGHT, WIDTH, made, picture

SIZE = (WIDTH, HEIGHT)
POLYGON = [1, 1, 5, 1, 5, 5]


def content(**changes: Any) -> dict[str, Any]:
    """Two images, the second without an object; category ids with gaps, out of order."""
    images = [{"id": 7, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}, {"id": "b", "file_name": "b.png"}]
    categories = [{"id": 90, "name": "cat"}, {"id": 3, "name": "ant"}, {"id": 4, "name": "dog"}]
    found = {"images": images, "annotations": [row(), row(category_id=3, bbox=[0.1, 0.2, 4, 5])]}
    return {**found, "categories": categories, "info": {}, **changes}


def row(**changes: Any) -> dict[str, Any]:
    """One annotation; None takes a key away."""
    fields = {"id": 1, "image_id": 7, "category_id": 90, "bbox": [1, 2, 3, 4], "area": 11.5, **changes}
    return {key: value for key, value in fields.items() if value is not None}


def write(folder: Path, what: Any, name: str = "data.json", images: tuple[str, ...] = ("a.png", "b.png")) -> Path:
    """Write a file, and images below the folder."""
    for seed, image in enumerate(images):
        picture(folder / image, seed)
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(what if isinstance(what, str) else json.dumps(what))
    return folder


def test_what_is_kept(tmp_path: Path) -> None:
    crowd = row(category_id=4, iscrowd=1, bbox=[-2, 0, 1e6, 1])
    images = [{**content()["images"][0], "group": "p1"}, content()["images"][1]]
    write(tmp_path, content(annotations=[*content()["annotations"], crowd], images=images))
    dataset = formats.read(tmp_path)
    assert (dataset.format, dataset.task, dataset.classes) == ("coco", "detection", ("ant", "cat", "dog"))
    assert [(r.id, r.group, r.split, r.size) for r in dataset.records] == [
        ("a.png", "p1", None, SIZE), ("b.png", None, None, SIZE),
    ]  # fmt: skip
    target = dataset.records[0].target
    assert isinstance(target, Boxes)
    assert target.xyxy.tolist() == [[1, 2, 4, 6], [0.1, 0.2, 4.1, 5.2], [-2, 0, 999998, 1]]
    assert (target.labels.tolist(), target.crowd.tolist()) == ([1, 0, 2], [False, False, True])
    assert target.areas.tolist() == [11.5, 11.5, 11.5]
    assert [remark.code for remark in dataset.remarks] == ["size-zero"]  # b.png states none
    assert dataset == formats.read(tmp_path / "data.json")


PLACES: list[tuple[str, tuple[str, str], str]] = [
    ("annotations/instances_all.json", ("images/a.png", "images/b.png"), ""),  # COCO's own
    ("x.json", ("train2017/a.png", "deep/er/b.png"), ""),  # anywhere below
    ("train/_annotations.coco.json", ("train/a.png", "train/b.png"), ""),  # Roboflow
    ("x.json", ("images/a.png", "images/b.png"), "images/"),  # with a folder
    ("x.json", ("images/a.png", "images/b.png"), "C:\\data\\images\\"),  # of another machine
    ("x.json", ("a.png", "b.png"), "/home/me/"),  # of another machine
]


@pytest.mark.parametrize(("name", "images", "prefix"), PLACES)
def test_where_images_are_looked_for(tmp_path: Path, name: str, images: tuple[str, ...], prefix: str) -> None:
    rows = [{**image, "file_name": prefix + image["file_name"]} for image in content()["images"]]
    write(tmp_path, content(images=rows), name, images)
    assert [record.image for record in formats.read(tmp_path).records] == sorted(images)
    assert len(formats.read(tmp_path / name)) == 2


def test_splits_and_files_that_repeat_others(tmp_path: Path) -> None:
    for split, ids in {"train2017": "ab", "val2017": "c", "test": "d"}.items():
        rows = [{"id": id, "file_name": f"{id}.png"} for id in ids]
        labels = [row(image_id=ids[0]), row(image_id=ids[0], category_id=3)]
        name = f"annotations/instances_{split}.json"
        write(tmp_path, content(images=rows, annotations=labels), name, tuple(f"{split}/{id}.png" for id in ids))
    write(tmp_path, {"images": [], "annotations": [], "categories": []}, "annotations/person_keypoints_val.json", ())
    dataset = formats.read(tmp_path)
    assert [(r.image, r.split) for r in dataset.records] == [
        ("test/d.png", "test"), ("train2017/a.png", "train"), ("train2017/b.png", "train"), ("val2017/c.png", "val"),
    ]  # fmt: skip
    write(tmp_path, content(images=[], annotations=[]), "annotations/instances_trainval.json", ())
    assert formats.read(tmp_path) == dataset
    write(tmp_path, content(images=[], annotations=[]), "annotations/instances_validation.json", ())
    with pytest.raises(DataError, match="not one file for each of train, val and test"):
        formats.read(tmp_path)


def test_one_name_in_several_folders(tmp_path: Path) -> None:
    write(tmp_path, content(), "x.json", ("one/a.png", "two/a.png", "b.png"))
    with pytest.raises(DataError, match=r"a\.png may mean one/a\.png, two/a\.png"):
        formats.read(tmp_path)


def test_masks_of_every_kind_are_one(tmp_path: Path) -> None:
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
    pixels[2:9, 4:11] = 1
    text = to_runs(pixels, SIZE).decode()
    counts = np.diff(np.flatnonzero(np.diff(np.pad(pixels.T.flatten(), 1, constant_values=2)))).tolist()
    box = [4, 2, 7, 7]
    shapes: list[Any] = [
        {"size": [HEIGHT, WIDTH], "counts": text}, {"size": [HEIGHT, WIDTH], "counts": counts},
        [[4, 2, 11, 2, 11, 9, 4, 9]], [4, 2, 11, 2, 11, 9, 4, 9],
    ]  # fmt: skip
    rows = [row(segmentation=shape, bbox=None if i % 2 else box, area=None) for i, shape in enumerate(shapes)]
    write(tmp_path, content(annotations=rows))
    dataset = formats.read(tmp_path)
    target = dataset.records[0].target
    assert isinstance(target, Instances)
    assert all(np.array_equal(to_pixels(mask, SIZE), pixels) for mask in target.masks)
    assert target.areas.tolist() == [49] * 4
    assert target.xyxy.tolist() == [[4, 2, 11, 9]] * 4
    assert formats.read(tmp_path, task="detection").task == "detection"


@settings(max_examples=60, deadline=None, derandomize=True)
@given(some.lists(some.booleans(), min_size=24, max_size=24), some.sampled_from([(6, 4), (4, 6), (24, 1), (1, 24)]))
def test_run_lengths_of_any_pixels_are_accepted(values: list[bool], size: tuple[int, int]) -> None:
    pixels = np.array(values, np.uint8).reshape(size[1], size[0])
    runs = to_runs(pixels, size)
    assert read_mask({"size": [size[1], size[0]], "counts": runs.decode()}, size, "here") == runs
    with pytest.raises(DataError, match="do not add up"):
        read_mask({"size": [size[1], size[0]], "counts": runs.decode() + "1"}, size, "here")


def doubled(key: str) -> dict[str, Any]:
    return content(**{key: content()[key] * 2})


FAULTS: list[tuple[Any, str]] = [
    ([row(score=0.5)], "a list of results"),  # predictions
    (content(annotations=[row(image_id=8)]), r"annotation 1: no image has the id 8"),  # unknown image
    (content(annotations=[row(bbox=[1, 2, 3])]), r"bbox must be \[x, y, width, height\], not \[1, 2, 3\]"),  # short
    (content(annotations=[row(bbox=["1", 2, 3, 4])]), "bbox must be"),  # text
    (content(annotations=[row(bbox=None)]), "bbox must be"),  # neither box nor mask
    (content(annotations=[row(bbox=[1e9, 2, 3, 4])]), r"image 7: object 1 \(cat\): 1000000000\.0 is not a number of"),
    (json.dumps(content(annotations=[row(area=1.5)])).replace("1.5", "1e999"), "inf is not a number of pixels"),
    (json.dumps(content(annotations=[row(area=1.5)])).replace("1.5", "NaN"), "NaN is not a JSON number"),  # NaN
    (json.dumps(content()).replace('"info"', '"images"'), "an object has the key 'images' twice"),  # a key twice
    (json.dumps(content())[:-9], "damaged JSON"),  # cut
    ('{"images":' + "[" * 100_000 + '"annotations":"categories":', "nested too deeply|damaged"),  # deep
    (content(categories={}), "expected a list of objects under the key 'categories'"),  # other form
    (doubled("images"), "ids of images must be there and unique: 7, 'b'"),  # ids twice
    (doubled("categories"), "ids of categories must be there and unique: 90"),  # ids twice
    (content(categories=[{"id": 90, "name": "x"}, {"id": 3, "name": " x"}]), "names of categories must be there and u"),
    (content(categories=[{"id": 90, "name": 4}]), "name must be text, not 4"),  # a number
    (content(images=[{"id": 7, "file_name": "c.png"}]), r"1 of 1 images are not there, looked for below .*c\.png"),
    (content(annotations=[row(segmentation=[POLYGON]), row(id=2)]), r"1 of 2 objects have a box but no mask.*--task"),
    (content(annotations=[row(segmentation=[[1, 1, 5]])]), "must be lists x1, y1"),  # odd
    (content(annotations=[row(segmentation=[["1", 1, 5, 5, 1, 5]])]), "must be lists x1, y1"),  # text
    (content(annotations=[row(segmentation="[]")]), "must be lists x1, y1"),  # text
    (content(annotations=[row(segmentation=[[1, 1, 1e9, 1, 5, 5]])]), r"1000000000\.0 is not a number of pixels"),
    (content(annotations=[row(segmentation={"size": [9, 9], "counts": "1"})]), "but the image has"),  # other size
    (content(annotations=[row(segmentation={"size": [HEIGHT, WIDTH], "counts": [1, 2]})]), "do not add up"),  # short
    (content(annotations=[row(segmentation={"size": [HEIGHT, WIDTH], "counts": "zz~"})]), "do not add up"),  # damaged
]  # fmt: skip


@pytest.mark.parametrize(("what", "message"), FAULTS, ids=range(len(FAULTS)))
def test_faults(tmp_path: Path, what: Any, message: str) -> None:
    write(tmp_path, what)
    with pytest.raises(DataError, match=message) as caught:
        formats.read(tmp_path / "data.json", "coco")
    assert str(tmp_path) in str(caught.value)


def test_objects_of_unknown_categories_are_findings(tmp_path: Path) -> None:
    write(tmp_path, content(annotations=[row(), row(category_id=5), row(category_id=None)]))
    dataset = formats.read(tmp_path)
    assert sum(dataset.counts().values()) == 1
    unknown = next(remark for remark in dataset.remarks if remark.code == "unknown-class")
    assert (unknown.severity, unknown.records) == ("error", ("a.png",))
    assert "5, None" in unknown.sentence


SIZES: list[tuple[int, int, str | None]] = [
    (WIDTH, HEIGHT, None),  # true
    (HEIGHT, WIDTH, "size-turned"),  # the other way round
    (0, 0, "size-zero"),  # nothing
    (WIDTH * 2, HEIGHT * 2, "size-wrong"),  # resized afterwards
]


@pytest.mark.parametrize(("width", "height", "code"), SIZES)
def test_stated_sizes_are_compared(tmp_path: Path, width: int, height: int, code: str | None) -> None:
    images = [{"id": 7, "file_name": "a.png", "width": width, "height": height}]
    dataset = formats.read(write(tmp_path, content(images=images)))
    assert [remark.code for remark in dataset.remarks] == ([code] if code else [])
    assert dataset.records[0].size == SIZE
    assert dataset.lineage == ("1 images that no annotation names were left out: b.png",)
    again = type(dataset).from_json(json.loads(json.dumps(dataset.to_json())))
    assert (again, again.remarks) == (dataset, dataset.remarks)


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # of the official library with numpy 2
def test_the_official_library_reads_what_is_written(tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    source = made(tmp_path / "source", "instance", crowd=True)
    formats.write(source, tmp_path / "out", "coco")
    official = COCO(str(tmp_path / "out" / "annotations" / "instances.json"))
    found = {record.image: record.target for record in formats.read(tmp_path / "out").records}
    assert len(official.imgs) == len(found)
    for image in official.loadImgs(official.getImgIds()):
        target = found[image["file_name"]]
        assert isinstance(target, Instances)
        rows = official.loadAnns(official.getAnnIds(imgIds=image["id"], iscrowd=None))
        assert [row["iscrowd"] for row in rows] == target.crowd.tolist()
        assert [official.cats[row["category_id"]]["name"] for row in rows] == [CLASSES[i] for i in target.labels]
        for row, mask in zip(rows, target.masks, strict=True):
            assert np.array_equal(official.annToMask(row), to_pixels(mask, target.size))
