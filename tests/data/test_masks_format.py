"""Label maps in folders: which mask belongs to which image, what its values mean, and that what is written is read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from bakeoff.data import formats
from bakeoff.data.dataset import Dataset
from bakeoff.data.decode import read_image
from bakeoff.data.masks import palette, read_label_map
from bakeoff.data.targets import IGNORE, MaskFiles
from bakeoff.errors import DataError, UsageError

Pixels = NDArray[np.uint8]
THREE = np.array([[0, 1, 2, 2], [0, 1, 1, 2], [0, 0, 1, 255]], np.uint8)
TWO = np.array([[0, 0, 1, 1], [0, 1, 1, 1], [0, 0, 0, 1]], np.uint8)
COLOURS = np.array([[70, 130, 180], [128, 64, 128], [0, 0, 142]], np.uint8)  # of sky, road, car
CAMVID = "name,r,g,b\nsky,70,130,180\nroad,128,64,128\ncar,0,0,142\n"
SMOOTH = np.kron(TWO, np.full((40, 40), 255, np.uint8))


def picture(path: Path, seed: int = 0) -> None:
    """Write an image of 8 x 6 pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)).save(path)


def mask(path: Path, pixels: Pixels) -> None:
    """Write a mask as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def files(folder: Path, images: tuple[str, ...], masks: tuple[str, ...]) -> Path:
    """Write images, and masks of two values."""
    for seed, name in enumerate(images):
        picture(folder / name, seed)
    for name in masks:
        mask(folder / name, TWO * 255)
    return folder


def label_map(dataset: Dataset, place: int = 0) -> Pixels:
    """Return the label map of a record."""
    target = dataset.records[place].target
    assert isinstance(target, MaskFiles)
    return read_label_map(dataset.source, target)


def named(dataset: Dataset, place: int = 0) -> list[list[str]]:
    """Return the class of every pixel of a record by name."""
    names = {**dict(enumerate(dataset.classes)), IGNORE: "-"}
    return [[names[int(value)] for value in row] for row in label_map(dataset, place)]


def facts(dataset: Dataset) -> list[tuple[object, ...]]:
    """Return what must survive a conversion, without the names of files."""
    rows = [
        (read_image(dataset, record).tobytes(), named(dataset, place), record.group, record.split, record.size)
        for place, record in enumerate(dataset.records)
    ]
    return sorted(rows, key=str)


# --- which mask belongs to which image ---

LAYOUTS: list[tuple[tuple[str, ...], tuple[str, ...], list[str | None]]] = [
    (("images/a.png", "images/b.jpg"), ("masks/a.png", "masks/b.png"), [None, None]),  # side by side
    (("JPEGImages/a.png",), ("SegmentationClass/a.png",), [None]),  # Pascal VOC's names
    (("Training_Images/a.png",), ("Ground_Truth/a.png",), [None]),  # two folders whose other words differ
    (("img/a b.png", "img/a b_2.png"), ("labels/a b_mask.png", "labels/a b_2_mask.png"), [None, None]),  # endings
    (("images/1.png", "images/1_2.png"), ("masks/1_gt.png", "masks/1_2_gt.png"), [None, None]),  # one begins another
    (("images/train/a.png", "images/val/a.png"), ("masks/train/a.png", "masks/val/a.png"), ["train", "val"]),  # inside
    (("train/images/a.png", "test/images/a.png"), ("train/masks/a.png", "test/masks/a.png"), ["test", "train"]),  # in
    (("train/a.png", "val/a.png"), ("trainannot/a.png", "valannot/a.png"), ["train", "val"]),  # CamVid's
    (("train_images/a.png", "val_images/b.png"), ("train_masks/a_mask.gif", "val_masks/b_mask.gif"), ["train", "val"]),
    (("a.png", "b.png"), ("a_mask.png", "b_mask.png"), [None, None]),  # all in one folder
    (("p1/a.png", "p2/a.png"), ("p1/a_mask.png", "p2/a_mask.png"), [None, None]),  # the same in folders of patients
    (("train/a.png", "valid/a.png"), ("train/a_seg.png", "valid/a_seg.png"), ["train", "val"]),  # and of splits
]


@pytest.mark.parametrize(("images", "masks", "splits"), LAYOUTS)
def test_layouts(tmp_path: Path, images: tuple[str, ...], masks: tuple[str, ...], splits: list[str | None]) -> None:
    dataset = formats.read(files(tmp_path / "data", images, masks))
    assert (dataset.task, dataset.classes, dataset.format) == ("semantic", ("background", "foreground"), "masks")
    assert [record.id for record in dataset.records] == sorted(images)
    assert [record.split for record in dataset.records] == splits
    assert {record.size for record in dataset.records} == {(8, 6)}
    found = [record.target.layers[0][0] for record in dataset.records if isinstance(record.target, MaskFiles)]
    order = sorted(range(len(images)), key=lambda i: images[i])
    assert found == [masks[i] for i in order]
    assert np.array_equal(label_map(dataset), TWO)
    formats.write(dataset, tmp_path / "first", "masks")
    first = formats.read(tmp_path / "first")
    assert facts(first) == facts(dataset)
    formats.write(first, tmp_path / "second", "masks")
    assert formats.read(tmp_path / "second") == first
    assert formats.read(tmp_path / "second").fingerprint == first.fingerprint


def test_groups_and_splits_survive(tmp_path: Path) -> None:
    data = files(tmp_path / "data", ("train/x_1.png", "test/y_1.png"), ("trainannot/x_1.png", "testannot/y_1.png"))
    dataset = formats.read(data, group_from="(?P<group>[xy])_")
    formats.write(dataset, tmp_path / "out", "masks")
    again = formats.read(tmp_path / "out")
    assert [(record.id, record.group, record.split) for record in again.records] == [
        ("images/test/y_1.png", "y", "test"),
        ("images/train/x_1.png", "x", "train"),
    ]
    assert (tmp_path / "out" / "classes.csv").read_text() == "value,name\n0,background\n1,foreground\n"


def test_a_folder_or_pattern_may_be_named(tmp_path: Path) -> None:
    images = ("train_a/1.png", "val_a/1.png")
    data = files(tmp_path, images, ("train_a_x/1_m.png", "val_a_x/1_m.png", "other/9.png"))
    dataset = formats.read(data, masks="{folder}_x/{stem}_m.png")
    assert [record.id for record in dataset.records] == ["train_a/1.png", "val_a/1.png"]
    with pytest.raises(DataError, match=r"use \{folder\} in the pattern"):
        formats.read(data, masks="*_x/{stem}_m.png")
    for pattern in ("{folder}/1.png", "{stem}/{stem}.png", "{name}_{stem}.png"):
        with pytest.raises(UsageError, match=r"use \{stem\} once"):
            formats.read(data, masks=pattern)
    plain = files(tmp_path / "plain", ("photos/deep/1.png",), ("white/deep/1.png",))
    assert len(formats.read(plain, masks="white")) == 1
    with pytest.raises(UsageError, match=r"no folder of masks .did you mean white"):
        formats.read(plain, masks="whites")


@pytest.mark.parametrize("style", ["names", "folders", "pattern"])
def test_one_file_for_each_class(tmp_path: Path, style: str) -> None:
    car, road = np.zeros_like(TWO), np.zeros_like(TWO)
    car[0, :2], road[2] = 255, 255
    picture(tmp_path / "images" / "a.png", 0)
    picture(tmp_path / "images" / "b.png", 1)
    place: Callable[[str, str], str] = {
        "names": lambda stem, name: f"masks/{stem}_{name}.png",
        "folders": lambda stem, name: f"masks/{name}/{stem}.png",
        "pattern": lambda stem, name: f"white/{name}-{stem}.png",
    }[style]
    for stem, name, pixels in (("a", "car", car), ("a", "road", road), ("b", "road", road)):
        mask(tmp_path / place(stem, name), pixels)
    dataset = formats.read(tmp_path, masks="white/{class}-{stem}.png" if style == "pattern" else None)
    assert dataset.classes == ("background", "car", "road")
    assert named(dataset) == [["car", "car", "background", "background"], ["background"] * 4, ["road"] * 4]
    assert named(dataset, 1) == [["background"] * 4, ["background"] * 4, ["road"] * 4]
    pattern = "white/{class}-{stem}.png" if style == "pattern" else None
    ignoring = formats.read(tmp_path, masks=pattern, ignore=("car",))
    assert named(ignoring)[0] == ["-", "-", "background", "background"]


def test_parts_of_a_binary_mask_are_joined(tmp_path: Path) -> None:
    for name in ("a", "b"):
        picture(tmp_path / f"{name}.png")
    left, right = np.zeros_like(TWO), np.zeros_like(TWO)
    left[0, 0], right[2, 3] = 255, 255
    for name, pixels in (("a_mask", left), ("a_mask_1", right), ("b_mask", left)):
        mask(tmp_path / f"{name}.png", pixels)
    dataset = formats.read(tmp_path)
    assert dataset.classes == ("background", "foreground")
    assert np.array_equal(label_map(dataset), (left | right) // 255)


def test_a_yaml_file_may_name_the_folders(tmp_path: Path) -> None:
    files(tmp_path, ("images/t/1.png", "images/t/2.png"), ("semantic/masks/1.png",))
    text = (
        "train: {images: ../images/t, masks: masks}\nval: {images: ../images/v, masks: v}\nclasses: {0: no, 255: on}\n"
    )
    (tmp_path / "semantic" / "config.yaml").write_text(text)
    dataset = formats.read(tmp_path / "semantic")
    assert (dataset.source, dataset.classes) == (tmp_path, ("no", "on"))
    assert [(record.id, record.split) for record in dataset.records] == [("images/t/1.png", None)]
    assert dataset.lineage[1:] == (
        "config.yaml also names val, whose folders are not there",
        "1 images without a mask were left out",
    )


FAULTS: list[tuple[tuple[str, ...], tuple[str, ...], str]] = [
    (("images/a.png", "images/b.png"), ("masks/a.png",), r"1 images have no mask: images/b\.png"),  # bare
    (("images/a.png",), ("masks/a.png", "masks/c.png"), r"1 masks have no image: masks/c\.png"),  # lost
    (("images/a.png", "images/a.jpg"), ("masks/a.png",), "share their stem: whose is the mask"),  # twins
    (("images/a.png",), ("masks/a.png", "masks/a.gif"), r"masks/a\.gif and masks/a\.png are both the mask"),  # twice
    (("images/a.png",), ("masks/a.png", "masks/a_edge.png"), "say which files are masks"),  # what is _edge?
]


@pytest.mark.parametrize(("images", "masks", "message"), FAULTS)
def test_faults(tmp_path: Path, images: tuple[str, ...], masks: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        formats.read(files(tmp_path, images, masks), "masks")


def test_classification_stays_what_it_was(tmp_path: Path) -> None:
    data = files(tmp_path / "a", ("with_mask/1.png", "without_mask/2.png", "images/3.png"), ())
    assert formats.sniff(data)[0] == "folder"
    data = files(tmp_path / "b", ("images/cat_1.png", "images/dog_1.png"), ("masks/cat_1.png", "masks/dog_1.png"))
    assert formats.sniff(data)[0] == "masks"
    assert formats.read(data, label_from="(?P<label>cat|dog)_").task == "classification"
    with pytest.raises(UsageError, match="--label-from is for classification"):
        formats.read(data, "masks", label_from="(?P<label>cat|dog)_")
    with pytest.raises(UsageError, match=r"cannot be read as folder; formats that can: .*masks"):
        formats.read(data, "folder", task="semantic")
    with pytest.raises(UsageError, match=r"cannot be written as folder; formats that can: .*masks"):
        formats.write(formats.read(data), tmp_path / "out", "folder")
    with pytest.raises(UsageError, match=r"unknown task 'semantics' \(did you mean semantic\?\)"):
        formats.read(data, task="semantics")


# --- what values mean ---


def one(folder: Path, pixels: Pixels | Image.Image, suffix: str = "png", table: tuple[str, str] | None = None) -> Path:
    """Write a dataset of one image, and perhaps a table of classes."""
    picture(folder / "images" / "a.png")
    image = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
    (folder / "masks").mkdir()
    image.save(folder / "masks" / f"a.{suffix}")
    if table is not None:
        (folder / table[0]).write_text(table[1], encoding="utf-8")
    return folder


def test_values_are_classes(tmp_path: Path) -> None:
    dataset = formats.read(one(tmp_path, THREE))
    assert dataset.classes == ("0", "1", "2")
    assert np.array_equal(label_map(dataset), THREE)
    assert dataset.lineage == ("255 in the masks is ignored, by custom",)
    ignoring = formats.read(tmp_path, ignore=("2",))
    assert ignoring.classes == ("0", "1")
    assert named(ignoring)[0] == ["0", "1", "-", "-"]


def test_canonical_order_is_not_that_of_values(tmp_path: Path) -> None:
    dataset = formats.read(one(tmp_path, np.arange(12, dtype=np.uint8).reshape(3, 4)))
    assert dataset.classes == ("0", "1", "10", "11", "2", "3", "4", "5", "6", "7", "8", "9")
    assert named(dataset)[2] == ["8", "9", "10", "11"]


def test_indices_of_a_palette_decide(tmp_path: Path) -> None:
    dataset = formats.read(one(tmp_path, palette(THREE), table=("classes.txt", "sky\nroad\ncar\n")))
    assert named(dataset) == [
        ["sky", "road", "car", "car"],
        ["sky", "road", "road", "car"],
        ["sky", "sky", "road", "-"],
    ]


TABLES: list[tuple[str, str]] = [
    ("classes.txt", "sky\nroad\n\ncar\n"),  # the line's number
    ("labels.txt", "0: sky\n2: car\n1: road\n"),  # numbered
    ("classes.csv", "value,name\n0,sky\n2,car\n1,road\n"),  # with a header
    ("labels.csv", "sky,0\nroad,1\ncar,2\n"),  # without one, the other way round
    ("classes.json", '{"0": "sky", "1": "road", "2": "car"}'),  # value to name
    ("classes.json", '{"sky": 0, "road": 1, "car": 2}'),  # name to value
    ("categories.json", '[{"id": 1, "name": "road"}, {"id": 0, "name": "sky"}, {"id": 2, "name": "car"}]'),  # rows
    ("data.yaml", "nc: 3\nnames: [sky, road, car]\n"),  # as YOLO has it
    ("classes.yaml", "names:\n  0: sky\n  1: road\n  2: car\n"),  # a mapping
]


@pytest.mark.parametrize(("name", "text"), TABLES)
def test_tables(tmp_path: Path, name: str, text: str) -> None:
    folder = one(tmp_path / "data", THREE, table=(name, text))
    dataset = formats.read(folder)
    assert dataset.classes == ("car", "road", "sky")
    assert named(dataset)[0] == ["sky", "road", "car", "car"]
    (folder / name).rename(tmp_path / f"elsewhere.{name.rpartition('.')[2]}")
    assert formats.read(folder, classes=str(next(tmp_path.glob("elsewhere.*")))) == dataset
    ignoring = formats.read(folder, classes=str(next(tmp_path.glob("elsewhere.*"))), ignore=("sky",))
    assert (ignoring.classes, named(ignoring)[0]) == (("car", "road"), ["-", "road", "car", "car"])


COLOUR_TABLES: list[tuple[str, str]] = [
    ("class_dict.csv", CAMVID),  # CamVid's
    ("labelmap.txt", "# label:color_rgb:parts:actions\nsky:70,130,180::\nroad:128,64,128::\ncar:0,0,142::\n"),  # CVAT's
    ("label_colors.txt", "70 130 180\tsky\n128 64 128\troad\n0 0 142\tcar\n"),  # CamVid's older one
    ("classes.json", '{"classes": [{"name": "sky", "color": "#4682b4"}, {"name": "road", "color": [128, 64, 128]},'
     ' {"name": "car", "color": "0,0,142"}]}'),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text"), COLOUR_TABLES)
@pytest.mark.parametrize("mode", ["RGB", "P"])
def test_colours(tmp_path: Path, name: str, text: str, mode: str) -> None:
    labels = np.minimum(THREE, 2)
    image = Image.fromarray(COLOURS[labels])
    coded = image if mode == "RGB" else image.quantize(8, dither=Image.Dither.NONE)
    dataset = formats.read(one(tmp_path, coded, table=(name, text)))
    assert dataset.classes == ("car", "road", "sky")
    assert named(dataset)[0] == ["sky", "road", "car", "car"]
    assert named(formats.read(tmp_path, ignore=("#80 40 80".replace(" ", ""),)))[1] == ["sky", "-", "-", "car"]


def test_colours_without_a_table(tmp_path: Path) -> None:
    dataset = formats.read(one(tmp_path / "few", COLOURS[np.minimum(THREE, 2)]))
    assert dataset.classes == ("#00008e", "#4682b4", "#804080")
    many = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    with pytest.raises(DataError, match="the masks have 400 colours: name a table of classes"):
        formats.read(one(tmp_path / "many", many))
    with pytest.raises(DataError, match="coded by colour, but some classes have no colour"):
        formats.read(one(tmp_path / "uncoloured", COLOURS[np.minimum(THREE, 2)], table=("classes.txt", "a\nb\nc")))


BINARY: list[tuple[str, Callable[[], Image.Image], str]] = [
    ("0 and 255", lambda: Image.fromarray(TWO * 255), "png"),
    ("bilevel", lambda: Image.fromarray(TWO * 255).convert("1"), "png"),
    ("GIF with a palette", lambda: palette(TWO), "gif"),
    ("grey in three channels", lambda: Image.fromarray(TWO * 255).convert("RGB"), "png"),
    ("smoothed", lambda: Image.fromarray(SMOOTH).resize((150, 110), Image.Resampling.BICUBIC), "png"),
    ("JPEG", lambda: Image.fromarray(SMOOTH), "jpg"),
]


@pytest.mark.parametrize(("case", "make", "suffix"), BINARY, ids=[row[0] for row in BINARY])
@pytest.mark.parametrize("table", [None, ("classes.txt", "street\ncar\n")], ids=["bare", "named"])
def test_two_values(
    tmp_path: Path, case: str, make: Callable[[], Image.Image], suffix: str, table: tuple[str, str] | None
) -> None:
    dataset = formats.read(one(tmp_path, make(), suffix, table))
    dark, bright = ("street", "car") if table else ("background", "foreground")
    assert dataset.classes == tuple(sorted((dark, bright)))
    found = np.array(named(dataset)) == bright
    scaled = np.array(Image.fromarray(TWO).resize(found.shape[::-1], Image.Resampling.NEAREST), bool)
    assert (found == scaled).mean() > (0.98 if case in ("smoothed", "JPEG") else 0.9999)


def test_three_values_with_255_are_not_a_smoothed_mask(tmp_path: Path) -> None:
    trimap = np.zeros((20, 20), np.uint8)
    trimap[5, :3], trimap[8:] = 128, 255
    assert formats.read(one(tmp_path, trimap)).classes == ("0", "128", "255")


def voc_like() -> Pixels:
    """Return 21 classes, mostly the first, with a border of 255 as wide as Pascal VOC's."""
    labels = np.zeros((40, 40), np.uint8)
    labels[:3, :20] = np.arange(1, 21)
    labels[3:6] = 255
    return labels


def test_index_masks_with_a_border_are_not_binary(tmp_path: Path) -> None:
    dataset = formats.read(one(tmp_path, voc_like()))
    assert len(dataset.classes) == 21
    assert np.array_equal(label_map(dataset) == IGNORE, voc_like() == 255)


MEANINGLESS: list[tuple[Pixels, str, tuple[str, str] | None, tuple[str, ...], type[Exception], str]] = [
    (THREE, "png", ("classes.txt", "sky\nroad\n"), (), DataError, "the values 2 in the masks have no class"),
    (TWO * 0, "png", None, (), DataError, "the masks hold only '0'"),  # all empty
    (THREE, "png", None, ("0", "1"), DataError, "the masks hold only '2'"),  # all ignored but one
    (THREE, "png", ("classes.txt", "sky\nroad\ncar\n"), ("rode",), UsageError, r"did you mean road\?"),  # a typo
    (np.kron(THREE, np.full((9, 9), 60, np.uint8)), "jpg", None, (), DataError, "JPEG changes the values"),
    (THREE, "png", ("classes.csv", "value,name\n0,a\n0,b\n"), (), DataError, "the value 0 stands for two classes"),
    (THREE, "png", ("classes.json", '{"0": "a", "0": "b"}'), (), DataError, "a key appears twice"),
    (THREE, "png", ("classes.json", "{"), (), DataError, r"classes\.json: not a table of classes"),  # damaged
]


@pytest.mark.parametrize(("pixels", "suffix", "table", "ignore", "error", "message"), MEANINGLESS)
def test_values_without_a_meaning(
    tmp_path: Path, pixels: Pixels, suffix: str, table: tuple[str, str] | None, ignore: tuple[str, ...],
    error: type[Exception], message: str,
) -> None:  # fmt: skip
    with pytest.raises(error, match=message):
        formats.read(one(tmp_path, pixels, suffix, table), ignore=ignore)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.csv", "image,label\nimages/a.png,cat\n"),  # of images
        ("config.yaml", "epochs: 3\nseed: 0\n"),  # of a training
        ("classes.txt", "\n"),  # empty
    ],
    ids=["images", "training", "empty"],
)
def test_other_files_are_no_tables(tmp_path: Path, name: str, text: str) -> None:
    assert formats.read(one(tmp_path, THREE, table=(name, text))).classes == ("0", "1", "2")
    with pytest.raises(DataError, match="lists no classes"):
        formats.read(tmp_path, classes=name)


def test_tables_of_other_masks_are_found_out(tmp_path: Path) -> None:
    folder = one(tmp_path, TWO * 255, table=("classes.txt", "sky\nroad\ncar\n"))
    with pytest.raises(DataError, match="two values 0 and 255, but the table names 3 classes"):
        formats.read(folder)
    (folder / "labels.txt").write_text("dark\nbright\n")
    with pytest.raises(DataError, match=r"classes\.txt, labels\.txt are different tables of classes"):
        formats.read(folder)
    assert formats.read(folder, classes="labels.txt").classes == ("bright", "dark")
    with pytest.raises(UsageError, match=r"no such table of classes \(did you mean labels\.txt\?\)"):
        formats.read(folder, classes="label.txt")


def test_a_second_class_that_never_occurs_survives(tmp_path: Path) -> None:
    folder = one(tmp_path / "data", palette(TWO * 255), table=("c.csv", "value,name\n0,a\n1,b\n"))
    dataset = formats.read(folder, classes="c.csv")
    assert named(dataset)[0] == ["a", "a", "-", "-"]
    formats.write(dataset, tmp_path / "out", "masks")
    assert facts(formats.read(tmp_path / "out")) == facts(dataset)


def test_every_value_without_a_class_may_be_ignored(tmp_path: Path) -> None:
    dataset = formats.read(one(tmp_path, THREE, table=("classes.txt", "sky\nroad\n")), ignore=("*",))
    assert named(dataset)[0] == ["sky", "road", "-", "-"]


def test_masks_of_another_size_and_damaged_ones(tmp_path: Path) -> None:
    folder = one(tmp_path, np.kron(THREE, np.ones((5, 5), np.uint8)))
    dataset = formats.read(folder)
    assert (label_map(dataset).shape, dataset.records[0].size) == ((15, 20), (8, 6))
    (folder / "masks" / "a.png").write_bytes(b"not a PNG")
    with pytest.raises(DataError, match=r"a\.png: cannot be read as an image"):
        formats.read(folder)
    picture(folder / "images" / "b.png")
    mask(folder / "masks" / "b.png", TWO)
    assert len(formats.read(folder)) == 2  # the audit names the damaged mask
    (folder / "images" / "a.png").write_bytes(b"not a PNG")
    assert formats.read(folder).records[0].size is None  # and the damaged image


def test_nothing_is_overwritten_and_nothing_half_written(tmp_path: Path) -> None:
    dataset = formats.read(one(tmp_path / "data", THREE))
    with pytest.raises(UsageError, match="exists and is not an empty folder"):
        formats.write(dataset, tmp_path / "data", "masks")
    (tmp_path / "data" / "masks" / "a.png").unlink()
    with pytest.raises(DataError):
        formats.write(dataset, tmp_path / "out", "masks")
    assert sorted(os.listdir(tmp_path)) == ["data"]


REAL: list[tuple[str, dict[str, object], int, int]] = [
    ("camvid", {"ignore": ("11",)}, 59, 11),
    ("carvana", {"group_from": "(?P<group>[^/_]+)_[0-9]+[.]"}, 96, 2),
    ("human_seg", {}, 150, 2),
    ("coco128/semantic_segmentation", {}, 100, 130),
]


@pytest.mark.parametrize(("name", "options", "count", "classes"), REAL, ids=[row[0] for row in REAL])
def test_real_data(shared: Path, name: str, options: dict[str, object], count: int, classes: int) -> None:
    dataset = formats.read(shared / name, **options)  # type: ignore[arg-type]
    assert (len(dataset), len(dataset.classes), dataset.format) == (count, classes, "masks")
    assert label_map(dataset).max() in {*range(classes), IGNORE}
    if name == "carvana":
        assert len({record.group for record in dataset.records}) == 6
