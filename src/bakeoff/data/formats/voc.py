"""Pascal VOC: a folder of images and one XML file with boxes for each; read as detection or as classification."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bakeoff.data.dataset import Dataset, Record, SplitName, TaskName
from bakeoff.data.decode import measure
from bakeoff.data.formats.annotations import Annotations, Item, Picture, Size, boxes, check_splits, measured
from bakeoff.data.formats.listing import folders_in, is_image, names_in
from bakeoff.data.formats.rows import UNLABELLED, Options, Row, assemble, examples, split_name
from bakeoff.data.formats.target import new_folder, places, put
from bakeoff.data.formats.voc_xml import Annotation, parse, tree
from bakeoff.errors import DataError, UnreadableImage

NAME = "voc"
TASKS: tuple[TaskName, ...] = ("classification", "detection")
EXPECTS = "images with Pascal VOC .xml files beside them, or JPEGImages/, Annotations/ and ImageSets/Main/"
MIXED, EMPTY = "mixed", "none"
UNNAMED = "have an object without a name"
IMAGE_FOLDERS = ("jpegimages", "images")
ANNOTATION_FOLDERS = ("annotations",)


class Place(NamedTuple):
    """Folders, relative to the data folder, where images and annotations lie, and the split they stand for."""

    images: str
    annotations: str
    split: SplitName | None = None


class Pair(NamedTuple):
    """An image, relative to the data folder, with its annotation and the split that the layout prescribes."""

    image: str
    annotation: Annotation
    split: SplitName | None


def sniff(path: Path) -> str | None:
    """Say why this is Pascal VOC, or None."""
    for place in _places(path):
        names = _xml_files(path / place.annotations)
        if names:
            where = place.annotations or "the folder"
            return f"{len(names)} Pascal VOC annotations in {where}, the first is {names[0]}"
    return None


def read(path: Path, options: Options) -> Dataset:
    """Read every annotated image: as detection, or with labels from names or `task` as classification.

    Classification: the label is the class of the objects, "mixed" for several, "none" for no object.  Detection: see
    voc_xml.Annotation.items for the pixels; `difficult` objects are neither learned nor judged; the size in the XML is
    compared with the image's and otherwise not used.  Images and annotations belong together by stem, else by the XML's
    `filename`.  Raises DataError for an image without annotation or the reverse, for damaged XML, and for an unknown
    layout.
    """
    pairs, notes = _found(path)
    if options.task == "classification" or (options.task is None and options.label_from is not None):
        return _classification(path, pairs, notes, options)
    sizes = measured(path, [pair.image for pair in pairs])
    pictures = [
        Picture(image, note.items(), sizes[image], note.size, str(note.file), note.group, split)
        for image, note, split in pairs
    ]
    return Annotations(path, NAME, pictures, None, notes).dataset(options)


def write(dataset: Dataset, path: Path) -> None:
    """Write JPEGImages/, Annotations/ and, where records have splits, ImageSets/Main/ into a new folder.

    Of a classification record the class becomes one box around the whole image; crowd objects become `difficult`; the
    group is an element `group`.  Raises DataError for names that XML cannot hold, and for splits that only some records
    have.
    """
    check_splits(dataset)
    with new_folder(path) as root:
        chosen = places(dataset, lambda _: "JPEGImages", by_stem=True)
        (root / "Annotations").mkdir()
        for record in dataset.records:
            image = root / chosen[record.id]
            put(dataset, record, image)
            size, items = _objects(dataset, record) if dataset.task == "detection" else _whole(dataset, record, image)
            written = tree(image.name, size, items, record.group)
            written.write(root / "Annotations" / f"{image.stem}.xml", encoding="utf-8")
        for split in {record.split for record in dataset.records} - {None}:
            stems = [Path(chosen[record.id]).stem for record in dataset.records if record.split == split]
            file = root / "ImageSets" / "Main" / f"{split}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(f"{stem}\n" for stem in stems), encoding="utf-8", errors="surrogateescape")


def _found(path: Path) -> tuple[list[Pair], list[str]]:
    """Return all images with their annotations, and notes on what was left out."""
    found = _places(path)
    if not found:
        raise DataError(f"{path}: no Pascal VOC annotation was found; expected {EXPECTS}")
    pairs: list[Pair] = []
    notes: list[str] = []
    for place in found:
        known = _pairs(path, place)
        listed = _image_sets(path, known) if place.split is None else {}
        left = len(known) - len(listed) if listed else 0
        if left:
            notes.append(f"{left} images that are in no list of ImageSets/Main were left out")
        absent = sorted(stem for stem in listed if stem not in known)
        if absent:
            raise DataError(f"{path}: {len(absent)} images listed in ImageSets/Main are missing: {examples(absent)}")
        for stem in listed or known:
            name, annotation = known[stem]
            pairs.append(Pair(f"{place.images}/{name}".lstrip("/"), annotation, listed.get(stem, place.split)))
    return pairs, notes


def _classification(path: Path, pairs: Sequence[Pair], notes: Sequence[str], options: Options) -> Dataset:
    """Read as classification: one label for each image."""
    rows: list[Row] = []
    for image, annotation, split in pairs:
        label = _label(annotation) if all(annotation.names) else None
        rows.append((Record(image, image, UNLABELLED, annotation.group, split), label))
    lineage = ["read as classification: an image's label is the class of its objects", *notes]
    if options.label_from is None:
        lineage += _note(rows)
    return assemble(path, rows, NAME, options, lineage, UNNAMED)


def _label(annotation: Annotation) -> str:
    """Return the one class of all objects, "mixed" or "none"."""
    distinct = set(annotation.names)
    return (distinct.pop() if len(distinct) == 1 else MIXED) if distinct else EMPTY


def _objects(dataset: Dataset, record: Record) -> tuple[Size, list[Item]]:
    """Return the size and the objects of a detection record."""
    target = boxes(record)
    items = []
    for i, label in enumerate(target.labels.tolist()):
        left, top, right, bottom = target.xyxy[i].tolist()
        area, crowd = float(target.areas[i]), bool(target.crowd[i])
        items.append(Item(dataset.classes[label], (left, top, right, bottom), crowd=crowd, area=area))
    return target.size, items


def _whole(dataset: Dataset, record: Record, image: Path) -> tuple[Size, list[Item]]:
    """Return the size of a labelled image and one box around all of it."""
    try:
        size = measure(image)
    except UnreadableImage as error:
        raise UnreadableImage(dataset.path(record), error.reason) from None
    return size, [Item(dataset.classes[record.label], (0.0, 0.0, float(size[0]), float(size[1])))]


def _places(path: Path) -> list[Place]:
    """Find the layout: two folders side by side, the same inside split folders, or all in one folder."""
    own = _pair_of_folders(path)
    if own is not None:
        return [own]
    if _xml_files(path):
        return [Place("", "")]
    inside = []
    for name in folders_in(path):
        split = split_name(name)
        pair = (_pair_of_folders(path / name) or Place("", "")) if split else None
        if pair is not None and _xml_files(path / name / pair.annotations):
            images, annotations = (f"{name}/{part}".rstrip("/") for part in pair[:2])
            inside.append(Place(images, annotations, split))
    return inside


def _pair_of_folders(path: Path) -> Place | None:
    """Return the folders JPEGImages (or images) and Annotations of one folder, if both are there."""
    folders = {name.casefold(): name for name in folders_in(path)}
    images = next((folders[name] for name in IMAGE_FOLDERS if name in folders), None)
    annotations = next((folders[name] for name in ANNOTATION_FOLDERS if name in folders), None)
    if images is None or annotations is None or not _xml_files(path / annotations):
        return None
    return Place(images, annotations)


def _xml_files(folder: Path) -> list[str]:
    """Return the names of the XML files in a folder, when the first of them is a VOC annotation."""
    names = [name for name in names_in(folder) if name.lower().endswith(".xml")]
    if not names:
        return []
    try:
        with (folder / names[0]).open("rb") as stream:
            return names if b"<annotation" in stream.read(4096) else []
    except OSError:
        return []


def _pairs(path: Path, place: Place) -> dict[str, tuple[str, Annotation]]:
    """Match annotations with images: stem of the image -> (its name, annotation)."""
    images: dict[str, str] = {}
    for name in filter(is_image, names_in(path / place.images)):
        if images.setdefault(_stem(name), name) != name:
            twins = f"{images[_stem(name)]} and {name} share the stem {_stem(name)}"
            raise DataError(f"{path / place.images}: {twins}: whose is {_stem(name)}.xml? rename or remove one")
    annotations = {name: parse(path / place.annotations / name) for name in _xml_files(path / place.annotations)}
    pairs: dict[str, tuple[str, Annotation]] = {}
    lost = []
    for name in sorted(annotations, key=lambda name: _stem(name) not in images):  # first those that match by stem
        stem = _stem(name) if _stem(name) in images else _stem(_base(annotations[name].filename))
        if stem in images and stem not in pairs:
            pairs[stem] = (images[stem], annotations[name])
        else:
            lost.append(name)
    _check_pairs(path, lost, [name for stem, name in images.items() if stem not in pairs])
    return pairs


def _check_pairs(path: Path, lost: list[str], bare: list[str]) -> None:
    """Raise DataError for annotations without an image and images without an annotation."""
    if lost:
        raise DataError(f"{path}: {len(lost)} annotations have no image: {examples(lost)}")
    if bare:
        raise DataError(f"{path}: {len(bare)} images have no annotation of their own: {examples(sorted(bare))}")


def _image_sets(path: Path, known: Container[str]) -> dict[str, SplitName]:
    """Read ImageSets/Main/{train,val,test}.txt: stem -> split; none when there are no lists."""
    folder = path / "ImageSets" / "Main"
    names = set(names_in(folder))
    merged = "trainval.txt" in names and "train.txt" not in names
    lists: dict[str, SplitName] = {"trainval.txt" if merged else "train.txt": "train", "test.txt": "test"}
    if not merged:
        lists["val.txt"] = "val"
    found: dict[str, SplitName] = {}
    for name, split in lists.items():
        for line in _lines(folder / name) if name in names else ():
            stem = line if line in known else re.sub(r"\s+-?[01]$", "", line)  # lists for one class add 1, 0 or -1
            if found.setdefault(stem, split) != split:
                raise DataError(f"{folder / name}: {stem} is also listed as {found[stem]}: keep it in one list")
    return found


def _lines(file: Path) -> list[str]:
    """Return the lines of a list, empty ones left out."""
    try:
        lines = file.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from None
    return [line.strip() for line in lines if line.strip()]


def _note(rows: list[Row]) -> list[str]:
    """Say how many images got a label that is no class of an object."""
    counts: Mapping[str | None, int] = Counter(label for _, label in rows)
    several = [f"{counts[MIXED]} images with objects of several classes are class {MIXED!r}"] if counts[MIXED] else []
    none = [f"{counts[EMPTY]} images without an object are class {EMPTY!r}"] if counts[EMPTY] else []
    return several + none


def _stem(name: str) -> str:
    """Return a file name without its suffix."""
    return os.path.splitext(name)[0]


def _base(path: str) -> str:
    """Return the last part of a path of either system."""
    return re.split(r"[\\/]", path.strip())[-1]
