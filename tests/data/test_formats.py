"""Every format: what is read, what is refused and how, and that what is written is read back."""

from __future__ import annotations

import csv
import gzip
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bakeoff.data import formats
from bakeoff.data.dataset import Dataset, SplitName
from bakeoff.data.decode import read_image
from bakeoff.errors import BakeoffError, DataError, UsageError

NAMES = [format.NAME for format in formats.FORMATS if "classification" in format.TASKS]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")


def picture(path: Path, value: int = 0, side: int = 4) -> Path:
    """Write a small grey image, unlike that of any other value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(value).integers(0, 256, (side, side), np.uint8)
    Image.fromarray(pixels).save(path, "PNG" if path.suffix == ".jpg" else None)
    return path


def annotation(path: Path, *names: str, filename: str = "wrong.jpg") -> None:
    """Write Pascal VOC XML with a size that is a lie."""
    path.parent.mkdir(parents=True, exist_ok=True)
    objects = "".join(f"<object><name>{name}</name><part><name>leaf</name></part></object>" for name in names)
    size = "<size><width>0</width><height>0</height></size>"
    path.write_text(f"<annotation><filename>{filename}</filename>{size}{objects}</annotation>", encoding="utf-8")


def table(folder: Path, *rows: str, header: str = "path,label", name: str = "data.csv") -> Path:
    """Write a CSV with images a0.png … a3.png beside it."""
    for i in range(4):
        picture(folder / f"a{i}.png", i)
    (folder / name).write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return folder / name


def labels(dataset: Dataset) -> dict[str, str]:
    return {record.id: dataset.classes[record.label] for record in dataset.records}


def splits(dataset: Dataset) -> dict[str, SplitName | None]:
    return {record.id: record.split for record in dataset.records}


# --- writing and reading back ---


def rich(folder: Path, prescribed: bool, grouped: bool) -> Dataset:
    """A table of 12 images in nested folders, two of the same name, with digits as classes."""
    header = ["path", "label", *(["group"] if grouped else []), *(["split"] if prescribed else [])]
    rows = [header]
    for i in range(12):
        name = f"{'ab'[i % 2]}/x {i // 2}.{'png' if i % 3 else 'jpg'}"
        picture(folder / name, i)
        split = "train" if i < 8 else "test"
        rows.append([name, str(i % 3), *([f"p{i // 4}"] if grouped else []), *([split] if prescribed else [])])
    with (folder / "t.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return formats.read(folder)


def facts(dataset: Dataset) -> list[tuple[bytes, str, str | None, str | None]]:
    """What must survive any conversion: pixels, label, group, split."""
    rows = [(read_image(dataset, r).tobytes(), dataset.classes[r.label], r.group, r.split) for r in dataset.records]
    return sorted(rows, key=str)


@pytest.mark.parametrize("prescribed", [False, True])
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_read_of_write_is_the_same(tmp_path: Path, name: str, prescribed: bool, grouped: bool) -> None:
    source = rich(tmp_path / "source", prescribed, grouped)
    if name == "idx" and grouped:
        with pytest.raises(DataError, match="12 records have a group"):
            formats.write(source, tmp_path / "first", name)
        assert sorted(os.listdir(tmp_path)) == ["source"]  # nothing half written is left
        return
    formats.write(source, tmp_path / "first", name)
    first = formats.read(tmp_path / "first", task="classification")
    assert (first.format, formats.sniff(tmp_path / "first")[0]) == (name, name)
    assert facts(first) == facts(source)
    formats.write(first, tmp_path / "second", name)
    second = formats.read(tmp_path / "second", task="classification")
    assert (second, second.fingerprint) == (first, first.fingerprint)
    assert sorted(os.listdir(tmp_path)) == ["first", "second", "source"]


@pytest.mark.parametrize("name", ["table", "folder", "voc"])
def test_frames_become_files_and_val_survives(tmp_path: Path, name: str) -> None:
    formats.write(rich(tmp_path / "source", True, False), tmp_path / "idx", "idx")
    dataset = formats.read(tmp_path / "idx")
    formats.write(dataset, tmp_path / "out", name)
    assert facts(formats.read(tmp_path / "out", task="classification")) == facts(dataset)
    three = table(tmp_path / "three", *(f"a{i}.png,{'ab'[i % 2]},{SPLITS[i]}" for i in range(3)), header=SPLIT_HEADER)
    formats.write(formats.read(three), tmp_path / "val", name)
    found = splits(formats.read(tmp_path / "val", task="classification"))
    assert sorted(filter(None, found.values())) == ["test", "train", "val"]


SPLIT_HEADER = "path,label,split"


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_overwritten(tmp_path: Path, name: str) -> None:
    source = rich(tmp_path / "source", False, False)
    keep = tmp_path / "full" / "precious.txt"
    keep.parent.mkdir()
    keep.write_text("mine")
    with pytest.raises(UsageError, match="exists and is not an empty folder"):
        formats.write(source, keep.parent, name)
    assert os.listdir(keep.parent) == ["precious.txt"]


def test_image_bytes_are_copied(tmp_path: Path) -> None:
    source = rich(tmp_path / "source", False, False)
    formats.write(source, tmp_path / "out", "folder")
    written = {path.read_bytes() for path in (tmp_path / "out").glob("*/*")}
    assert written == {source.path(record).read_bytes() for record in source.records}


def test_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    source = rich(tmp_path / "source", True, True)
    formats.write(source, tmp_path / "out" / "data.parquet", "table")
    assert facts(formats.read(tmp_path / "out")) == facts(source)
    assert formats.read(tmp_path / "out" / "data.parquet") == formats.read(tmp_path / "out")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1" + bytes(50))
    with pytest.raises(DataError, match="damaged Parquet"):
        formats.read(tmp_path / "broken.parquet")


# --- which format it is ---


def test_sniff_prefers_idx_then_voc_then_table_then_folder(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        picture(tmp_path / name / "1.png", len(name))
    assert formats.sniff(tmp_path) == ("folder", "2 images in the folders cat, dog")
    (tmp_path / "t.csv").write_text("path,label\ncat/1.png,x\ndog/1.png,y\n")
    assert formats.sniff(tmp_path) == ("table", "the only table with columns for path and label is t.csv")
    annotation(tmp_path / "1.xml", "cat")
    assert formats.sniff(tmp_path)[0] == "voc"
    (tmp_path / "train-images-idx3-ubyte").write_bytes(b"")
    assert formats.sniff(tmp_path)[0] == "idx"


def test_sniff_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the folder is empty") as caught:
        formats.sniff(tmp_path)
    assert all(f"\n  {name}: " in str(caught.value) for name in NAMES)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"passed over, not images: 1 \.txt"):
        formats.read(tmp_path)
    with pytest.raises(DataError, match="unpack it first"):
        formats.sniff(picture(tmp_path / "a.png").rename(tmp_path / "a.zip"))
    with pytest.raises(UsageError, match=r"did you mean notes\.txt\?"):
        formats.sniff(tmp_path / "note.txt")
    with pytest.raises(UsageError, match=r"unknown format 'fodler' \(did you mean folder\?\)"):
        formats.read(tmp_path, "fodler")


# --- class folders ---


def test_folder_passes_clutter_over(tmp_path: Path) -> None:
    for name in (
        "cat/1.png", "cat/deep/er/2.PNG", "dog/1.png", "dog/.hidden.png", ".ipynb_checkpoints/1.png",
        "__MACOSX/cat/1.png", "cat/.ipynb_checkpoints/1.png",
    ):  # fmt: skip
        picture(tmp_path / name)
    for name in ("cat/Thumbs.db", "cat/notes.txt", "read me"):
        (tmp_path / name).write_text("x")
    dataset = formats.read(tmp_path)
    assert labels(dataset) == {"cat/1.png": "cat", "cat/deep/er/2.PNG": "cat", "dog/1.png": "dog"}
    assert set(splits(dataset).values()) == {None}
    assert dataset.lineage in [
        (f"passed over, not images: {kinds}",) for kinds in ("1 .txt, 1 without suffix", "1 without suffix, 1 .txt")
    ]


def test_folder_splits_and_their_synonyms(tmp_path: Path) -> None:
    for split in ("Training", "valid", "TEST"):
        for name in ("cat", "dog"):
            picture(tmp_path / split / name / "1.png")
    dataset = formats.read(tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert splits(dataset)["Training/cat/1.png"] == "train"
    assert splits(dataset)["valid/dog/1.png"] == "val"
    assert splits(dataset)["TEST/dog/1.png"] == "test"


def test_folder_may_have_a_class_called_train(tmp_path: Path) -> None:
    for name in ("train", "bus"):
        picture(tmp_path / name / "1.png")
    assert formats.read(tmp_path).classes == ("bus", "train")


def test_folder_names_are_nfc(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        picture(tmp_path / "train" / unicodedata.normalize(form, "Äpfel") / f"{form}.png")
    picture(tmp_path / "train" / "Birnen" / "1.png")
    dataset = formats.read(tmp_path)
    assert dataset.classes == ("Birnen", unicodedata.normalize("NFC", "Äpfel"))
    assert all(dataset.path(record).is_file() for record in dataset.records)


def test_folder_follows_links_but_not_in_circles(tmp_path: Path) -> None:
    picture(tmp_path / "elsewhere" / "1.png")
    picture(tmp_path / "data" / "dog" / "1.png")
    (tmp_path / "data" / "cat").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "dog" / "again").symlink_to(tmp_path / "data")
    assert set(labels(formats.read(tmp_path / "data"))) == {"cat/1.png", "dog/1.png"}


FOLDER_FAULTS: list[tuple[tuple[str, ...], str]] = [
    (("a.png", "cat/1.png", "dog/1.png"), r"1 of 3 images lie outside a class folder .*--label-from.*: a\.png"),  # flat
    (("cat/1.png", "cat/2.png"), "all 2 images have the one class 'cat'"),  # one class
    (("set/cat/1.png", "set/dog/1.png"), r"the one class 'set'; did you mean .*/set\?"),  # unpacked one folder too deep
    (("train/cat/1.png", "test/dog/1.png", "new/1.png"), "images in new lie beside train, val and test"),  # mixed
    (("train/1.png", "test/2.png"), "2 of 2 images lie outside"),  # splits without classes
    (("images/1.png", "masks/2.png"), "folders called images, masks are not classes"),  # no pair of image and mask
]


@pytest.mark.parametrize(("names", "message"), FOLDER_FAULTS)
def test_folder_faults(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    for name in names:
        picture(tmp_path / name)
    with pytest.raises(DataError, match=message):
        formats.read(tmp_path)


def test_folder_refuses_what_it_cannot_say(tmp_path: Path) -> None:
    mixed = table(tmp_path / "1", "a0.png,x,train", "a1.png,y,", header=SPLIT_HEADER)
    slash = table(tmp_path / "2", "a0.png,x/y", "a1.png,z")
    train = table(tmp_path / "3", "a0.png,train", "a1.png,test")
    for file, message in ((mixed, "1 records have no split"), (slash, "'x/y' cannot be"), (train, "taken for splits")):
        with pytest.raises(DataError, match=message):
            formats.write(formats.read(file), tmp_path / "out", "folder")


# --- patterns ---


def test_labels_and_groups_from_names(tmp_path: Path) -> None:
    for name in ("apple_p1_a.png", "apple_p2_a.png", "pear_q1.png"):
        picture(tmp_path / name)
    dataset = formats.read(tmp_path, None, r"(?P<label>[a-z]+)_", r"_p(?P<group>\d)_|_q(?P<group2>\d)\.")
    assert labels(dataset) == {"apple_p1_a.png": "apple", "apple_p2_a.png": "apple", "pear_q1.png": "pear"}
    assert [record.group for record in dataset.records] == ["1", "2", "1"]
    assert len(dataset.lineage) == 2


PATTERN_FAULTS: list[tuple[str | None, str | None, type[BakeoffError], str]] = [
    ("(?P<label>[a-z]+", None, UsageError, "--label-from .*: not a regular expression: missing \\)"),  # bad expression
    ("([a-z]+)", None, UsageError, "a named group `label` is needed.*it has none"),  # no named group
    (None, r"(?P<patient>\d)", UsageError, "named group `group` is needed.*only patient"),  # another named group
    ("(?P<label>pear)", None, DataError, r"does not match 2 of 3 files: apple_1\.png, apple_2\.png"),  # some only
    ("(?P<label>x?)", None, DataError, "does not match 3 of 3 files"),  # matches nothing, everywhere
]


@pytest.mark.parametrize(("label", "group", "error", "message"), PATTERN_FAULTS)
def test_pattern_faults(
    tmp_path: Path, label: str | None, group: str | None, error: type[BakeoffError], message: str
) -> None:
    for name in ("apple_1.png", "apple_2.png", "pear_1.png"):
        picture(tmp_path / name)
    with pytest.raises(error, match=message):
        formats.read(tmp_path, "folder", label, group)


# --- tables ---


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ("path,label,split", ["a0.png,012,train", "./a1.png,no,Validation", " a2.png ,1e3,TEST"]),  # plain
        ("Image;Class;Split", ["a0.png;012;train", "a1.png;no;val", "a2.png;1e3;test"]),  # semicolons, other names
        ("note\tfile\tsplit\tlabel", ["x,y\ta0.png\ttrain\t012", "\ta1.png\tval\tno", "\ta2.png\ttest\t1e3"]),  # tabs
        ('\ufeff"path",label,split', ['"a0.png",012,train', "a1.png,no,val", "a2.png,1e3,test", ""]),  # mark, quotes
    ],
)
def test_table_cells_are_text(tmp_path: Path, header: str, rows: list[str]) -> None:
    table(tmp_path, *rows, header=header)
    dataset = formats.read(tmp_path)
    assert labels(dataset) == {"a0.png": "012", "a1.png": "no", "a2.png": "1e3"}
    assert list(splits(dataset).values()) == ["train", "val", "test"]
    assert dataset.format == "table"


TABLE_FAULTS: list[tuple[str, list[str], str]] = [
    ("path,label", ["a0.png,x", "a9.png,y", "b/a8.png,y"], r"2 of 3 images are not there: row 2 \(a9\.png\), row 3"),
    ("path,label", ["a0.png,x", "a1.png,"], r"1 of 2 images have no label.*a1\.png"),  # no label
    ("path,label", ["a0.png,x", ",y"], r"1 rows have no image path: row 2 \(no path\)"),  # no path
    ("path,label", ["a0.png,x", "./a0.png,y"], r"2 rows name an image that another row names: row 1"),  # twice
    ("path,label", ["a0.png,x", "a1.png"], "1 lines do not have 2 cells as the header has: 3"),  # short line
    ("path,label", [], "the table has no rows"),  # header only
    ("path,note", ["a0.png,x"], "no column label or class; found path, note"),  # no label column
    ("path,label,label", ["a0.png,x,y"], "column label appears more than once"),  # which label?
    ("path,label,split", ["a0.png,x,tset"], r"row 1 .*unknown split 'tset'; .*did you mean test\?"),  # typing error
    ("path,label", ['a0.png,"x', "a1.png,y"], "not a CSV table"),  # quote never closed
]


@pytest.mark.parametrize(("header", "rows", "message"), TABLE_FAULTS)
def test_table_faults(tmp_path: Path, header: str, rows: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        formats.read(table(tmp_path, *rows, header=header))


def test_table_of_another_encoding_is_refused(tmp_path: Path) -> None:
    file = table(tmp_path)
    file.write_bytes("path,label\na0.png,Äpfel\n".encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8 text"):
        formats.read(file)


def test_table_labels_from_names_need_no_label_column(tmp_path: Path) -> None:
    file = table(tmp_path, "a0.png", "a1.png", header="file")
    assert labels(formats.read(file, label_from=r"a(?P<label>\d)")) == {"a0.png": "0", "a1.png": "1"}


# --- idx ---


def idx(folder: Path, part: str = "train", images: int = 3, values: bytes = b"\7\0\7", suffix: str = "") -> None:
    """Write a pair of idx files."""
    folder.mkdir(parents=True, exist_ok=True)
    pack: Callable[[bytes], bytes] = gzip.compress if suffix else bytes
    head = bytes([0, 0, 8, 3, 0, 0, 0, images, 0, 0, 0, 2, 0, 0, 0, 5])
    (folder / f"{part}-images-idx3-ubyte{suffix}").write_bytes(pack(head + bytes(range(images * 10))))
    head = bytes([0, 0, 8, 1, 0, 0, 0, len(values)])
    (folder / f"{part}-labels-idx1-ubyte{suffix}").write_bytes(pack(head + values))


def test_idx_records(tmp_path: Path) -> None:
    idx(tmp_path, "train", suffix=".gz")
    alone = formats.read(tmp_path)
    assert labels(alone) == {f"train-images-idx3-ubyte.gz#{i}": name for i, name in enumerate("707")}
    assert set(splits(alone).values()) == {None}
    idx(tmp_path, "t10k", 2, b"\7\3")
    both = formats.read(tmp_path)
    assert both.classes == ("0", "3", "7")
    record = both.records[both.index["t10k-images-idx3-ubyte#1"]]
    assert (record.split, record.frame, record.size) == ("test", 1, (5, 2))
    assert read_image(both, record)[..., 0].tolist() == [[10, 11, 12, 13, 14], [15, 16, 17, 18, 19]]


def test_idx_faults(tmp_path: Path) -> None:
    idx(tmp_path / "count", values=b"\1\2")
    with pytest.raises(DataError, match=r"3 images in train-images.*, 2 labels in train-labels"):
        formats.read(tmp_path / "count")
    idx(tmp_path / "partner")
    (tmp_path / "partner" / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="train-images-idx3-ubyte has no partner with labels"):
        formats.read(tmp_path / "partner")
    idx(tmp_path / "magic")
    (tmp_path / "magic" / "train-images-idx3-ubyte").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(DataError, match="wrong magic number 89504e47"):
        formats.read(tmp_path / "magic")


def test_idx_refuses_what_it_cannot_say(tmp_path: Path) -> None:
    names = table(tmp_path / "1", "a0.png,x", "a1.png,7")
    sizes = table(tmp_path / "2", "a0.png,1", "big.png,7")
    picture(tmp_path / "2" / "big.png", 9, side=6)
    for file, message in ((names, "0 to 255 only, not 'x'"), (sizes, "6x6 pixels, but the first image has 4x4")):
        with pytest.raises(DataError, match=message):
            formats.write(formats.read(file, "table"), tmp_path / "out", "idx")
        assert not (tmp_path / "out").exists()


# --- Pascal VOC ---


def test_voc_flat_folder(tmp_path: Path) -> None:
    for name, objects in {"a": ("cat", "cat"), "b": ("dog",), "c": ("cat", "dog"), "d": ()}.items():
        picture(tmp_path / f"{name}.jpg")
        annotation(tmp_path / f"{name}.xml", *objects)
    dataset = formats.read(tmp_path, task="classification")
    assert labels(dataset) == {"a.jpg": "cat", "b.jpg": "dog", "c.jpg": "mixed", "d.jpg": "none"}
    assert any("1 images with objects of several classes are class 'mixed'" in note for note in dataset.lineage)
    assert any("1 images without an object are class 'none'" in note for note in dataset.lineage)
    assert all(record.size is None for record in dataset.records)
    assert set(labels(formats.read(tmp_path, label_from="(?P<label>[ab]|c|d)")).values()) == set("abcd")


def test_voc_filename_counts_where_the_stem_fails(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "b.jpg"):
        picture(tmp_path / name)
    annotation(tmp_path / "a.xml", "cat", filename=r"C:\images\a.png")
    annotation(tmp_path / "other.xml", "dog", filename="/data/a.jpg")
    annotation(tmp_path / "b.xml", "dog", filename="a.jpg")
    with pytest.raises(DataError, match="share the stem a"):
        formats.read(tmp_path, task="classification")
    (tmp_path / "a.jpg").rename(tmp_path / "c.jpg")
    annotation(tmp_path / "other.xml", "bird", filename="/data/c.jpg")
    assert labels(formats.read(tmp_path, task="classification")) == {"a.png": "cat", "b.jpg": "dog", "c.jpg": "bird"}


def test_voc_folders_with_image_sets(tmp_path: Path) -> None:
    for i, name in enumerate("abcd"):
        picture(tmp_path / "JPEGImages" / f"{name}.jpg", i)
        annotation(tmp_path / "Annotations" / f"{name}.xml", ("cat", "dog")[i % 2])
    sets = tmp_path / "ImageSets" / "Main"
    sets.mkdir(parents=True)
    for split, lines in {"train": "a  1\n", "val": "b -1\n\n", "test": "c\n", "trainval": "a\nb\n"}.items():
        (sets / f"{split}.txt").write_text(lines)
    dataset = formats.read(tmp_path, task="classification")
    assert splits(dataset) == {"JPEGImages/a.jpg": "train", "JPEGImages/b.jpg": "val", "JPEGImages/c.jpg": "test"}
    assert "1 images that are in no list of ImageSets/Main were left out" in dataset.lineage
    (sets / "test.txt").write_text("c\nx\n")
    with pytest.raises(DataError, match=r"1 images listed in ImageSets/Main are missing: x"):
        formats.read(tmp_path, task="classification")
    (sets / "test.txt").write_text("a\n")
    with pytest.raises(DataError, match=r"a is also listed as (train|test)"):
        formats.read(tmp_path, task="classification")


def test_voc_split_folders(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        for i, name in enumerate("ab"):
            picture(tmp_path / split / f"{name}.jpg", i)
            annotation(tmp_path / split / f"{name}.xml", ("cat", "dog")[i])
    dataset = formats.read(tmp_path, task="classification")
    assert splits(dataset)["valid/a.jpg"] == "val"
    assert labels(dataset)["train/b.jpg"] == "dog"


def hostile_depth(path: Path) -> None:
    path.write_text("<annotation>" + "<a>" * 200_000)


def hostile_entities(path: Path) -> None:
    path.write_text('<!DOCTYPE a [<!ENTITY b "bbbb">]><annotation><object><name>&b;</name></object></annotation>')


VOC_FAULTS: list[tuple[Callable[[Path], object], str]] = [
    (lambda xml: xml.unlink(), r"1 images have no annotation of their own: a\.jpg"),  # image alone
    (lambda xml: xml.with_suffix(".jpg").unlink(), r"1 annotations have no image: a\.xml"),  # annotation alone
    (lambda xml: xml.write_text("<annotation><object>"), r"a\.xml: damaged or unsafe XML"),  # cut
    (lambda xml: xml.write_text("<html><annotation/></html>"), "not a Pascal VOC annotation"),  # other XML
    (lambda xml: annotation(xml, "cat", ""), r"have an object without a name: a\.jpg"),  # no name
    (hostile_depth, "nested deeper"),  # 200,000 tags
    (hostile_entities, "unsafe XML"),  # entities
]


@pytest.mark.parametrize(("spoil", "message"), VOC_FAULTS)
def test_voc_faults(tmp_path: Path, spoil: Callable[[Path], object], message: str) -> None:
    for i, name in enumerate("ab"):
        picture(tmp_path / f"{name}.jpg", i)
        annotation(tmp_path / f"{name}.xml", ("cat", "dog")[i])
    spoil(tmp_path / "a.xml")
    with pytest.raises(DataError, match=message):
        formats.read(tmp_path, "voc", task="classification")


# --- the example data ---

REAL: list[tuple[str, str | None, str | None, str, dict[str, int]]] = [
    ("fruits_voc", None, None, "voc", {"apple": 75, "banana": 73, "mixed": 19, "orange": 73}),
    ("fruits_voc", "(?P<label>[a-z]+)_", None, "voc", {"apple": 75, "banana": 73, "mixed": 20, "orange": 72}),
    ("chest_xray", None, r"person(?P<group>\d+)_|IM-(?P<group2>\d+)", "folder", {"NORMAL": 600, "PNEUMONIA": 600}),
]


@pytest.mark.parametrize(("name", "label", "group", "format", "counts"), REAL)
def test_example_data(
    shared: Path, name: str, label: str | None, group: str | None, format: str, counts: dict[str, int]
) -> None:
    dataset = formats.read(shared / name, None, label, group, task="classification")
    assert (dataset.format, dataset.counts()) == (format, counts)
    assert all(record.group for record in dataset.records) == (group is not None)


def test_example_mnist(shared: Path) -> None:
    dataset = formats.read(shared / "mnist")
    assert (len(dataset), dataset.classes) == (70_000, tuple("0123456789"))
    assert [list(splits(dataset).values()).count(split) for split in ("train", "test")] == [60_000, 10_000]
    assert dataset.counts(r.id for r in dataset.records if r.split == "train")["1"] == 6742
