"""Pascal VOC XML, read as classification: the label is the class of the objects in the image."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import iterparse

from bakeoff.data.dataset import Dataset, Record, SplitName, TaskName
from bakeoff.data.decode import measure
from bakeoff.data.formats.listing import folders_in, is_image, names_in
from bakeoff.data.formats.rows import UNLABELLED, Options, Row, assemble, class_name, examples, split_name
from bakeoff.data.formats.target import new_folder, places, put
from bakeoff.errors import DataError, UnreadableImage

NAME = "voc"
TASKS: tuple[TaskName, ...] = ("classification",)
EXPECTS = "images with Pascal VOC .xml files beside them, or JPEGImages/, Annotations/ and ImageSets/Main/"
MAX_BYTES, MAX_DEPTH = 8 << 20, 32  # expat would take 200,000 nested tags
MIXED, EMPTY = "mixed", "none"
UNNAMED = "have an object without a name"
IMAGE_FOLDERS = ("jpegimages", "images")
ANNOTATION_FOLDERS = ("annotations",)


class Place(NamedTuple):
    """Folders, relative to the data folder, where images and annotations lie, and the split they stand for."""

    images: str
    annotations: str
    split: SplitName | None = None


@dataclass(frozen=True)
class Annotation:
    """What an XML file says: class names of its objects, the image it was made for, and our own group element."""

    names: tuple[str, ...]
    filename: str
    group: str | None

    @property
    def label(self) -> str:
        """Return the one class of all objects, "mixed" or "none"."""
        distinct = set(self.names)
        return (distinct.pop() if len(distinct) == 1 else MIXED) if distinct else EMPTY


def sniff(path: Path) -> str | None:
    """Say why this is Pascal VOC, or None."""
    for place in _places(path):
        names = _xml_files(path / place.annotations)
        if names:
            where = place.annotations or "the folder"
            return f"{len(names)} Pascal VOC annotations in {where}, the first is {names[0]}"
    return None


def read(path: Path, options: Options) -> Dataset:
    """Read every annotated image: the label is the class of its objects, "mixed" for several, "none" for no object.

    Sizes in the XML are not looked at.  Images and annotations belong together by stem, else by the XML's `filename`.
    Raises DataError for an image without annotation or the reverse, for damaged XML, and for an unknown layout.
    """
    found = _places(path)
    if not found:
        raise DataError(f"{path}: no Pascal VOC annotation was found; expected {EXPECTS}")
    rows: list[Row] = []
    lineage = ["read as classification: an image's label is the class of its objects"]
    for place in found:
        pairs = _pairs(path, place)
        listed = _image_sets(path, pairs) if place.split is None else {}
        left = len(pairs) - len(listed) if listed else 0
        if left:
            lineage.append(f"{left} images that are in no list of ImageSets/Main were left out")
        absent = sorted(stem for stem in listed if stem not in pairs)
        if absent:
            raise DataError(f"{path}: {len(absent)} images listed in ImageSets/Main are missing: {examples(absent)}")
        rows += [_row(place, pairs[stem], listed.get(stem, place.split)) for stem in listed or pairs]
    if options.label_from is None:
        lineage += _note(rows)
    return assemble(path, rows, NAME, options, lineage, UNNAMED)


def write(dataset: Dataset, path: Path) -> None:
    """Write JPEGImages/, Annotations/ and, where records have splits, ImageSets/Main/ into a new folder.

    The class of a record becomes one box around the whole image; its group an element `group`.  Raises DataError for
    names that XML cannot hold, and for splits that only some records have.
    """
    splits = {record.split for record in dataset.records}
    if None in splits and len(splits) > 1:
        raise DataError("some records have a split and others have none; write a table instead")
    with new_folder(path) as root:
        chosen = places(dataset, lambda _: "JPEGImages", by_stem=True)
        (root / "Annotations").mkdir()
        for record in dataset.records:
            image = root / chosen[record.id]
            put(dataset, record, image)
            try:
                size = measure(image)
            except UnreadableImage as error:
                raise UnreadableImage(dataset.path(record), error.reason) from None
            tree = _tree(image.name, size, dataset.classes[record.label], record.group)
            tree.write(root / "Annotations" / f"{image.stem}.xml", encoding="utf-8")
        for split in splits - {None}:
            stems = [Path(chosen[record.id]).stem for record in dataset.records if record.split == split]
            file = root / "ImageSets" / "Main" / f"{split}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(f"{stem}\n" for stem in stems), encoding="utf-8", errors="surrogateescape")


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
    annotations = {name: _parse(path / place.annotations / name) for name in _xml_files(path / place.annotations)}
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


def _row(place: Place, pair: tuple[str, Annotation], split: SplitName | None) -> Row:
    """Return the record and label of one annotated image."""
    name, annotation = pair
    image = f"{place.images}/{name}".lstrip("/")
    label = annotation.label if all(annotation.names) else None
    return Record(image, image, UNLABELLED, annotation.group, split), label


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


def _parse(file: Path) -> Annotation:
    """Read one XML file, which may be hostile: its bytes, depth and entities are limited."""
    try:
        if file.stat().st_size > MAX_BYTES:
            raise DataError(f"{file}: larger than {MAX_BYTES >> 20} MB, which no annotation is")
        root, depth = None, 0
        with file.open("rb") as stream:
            for event, element in iterparse(stream, events=("start", "end"), forbid_dtd=True):
                root = element if root is None else root
                depth += 1 if event == "start" else -1
                if depth > MAX_DEPTH:
                    raise DataError(f"{file}: tags nested deeper than {MAX_DEPTH}")
    except (ElementTree.ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise DataError(f"{file}: damaged or unsafe XML: {error}") from None
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from None
    if root is None or root.tag != "annotation":
        raise DataError(f"{file}: not a Pascal VOC annotation (its root is not <annotation>)")
    names = tuple(class_name(element.findtext("name") or "") for element in root.findall("object"))
    return Annotation(names, root.findtext("filename") or "", root.findtext("group") or None)


def _note(rows: list[Row]) -> list[str]:
    """Say how many images got a label that is no class of an object."""
    counts: Mapping[str | None, int] = Counter(label for _, label in rows)
    several = [f"{counts[MIXED]} images with objects of several classes are class {MIXED!r}"] if counts[MIXED] else []
    none = [f"{counts[EMPTY]} images without an object are class {EMPTY!r}"] if counts[EMPTY] else []
    return several + none


def _tree(name: str, size: tuple[int, int], label: str, group: str | None) -> ElementTree.ElementTree:
    """Return the annotation of an image with one box around all of it: 1-based, inclusive."""
    for text in (label, group or "", name):
        if re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]", text):
            raise DataError(f"{text!r} has characters that XML cannot hold; write folders instead")
    width, height = size
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = name
    if group is not None:
        ElementTree.SubElement(root, "group").text = group
    _add(ElementTree.SubElement(root, "size"), {"width": width, "height": height, "depth": 3})
    item = ElementTree.SubElement(root, "object")
    _add(item, {"name": label, "pose": "Unspecified", "truncated": 0, "difficult": 0})
    _add(ElementTree.SubElement(item, "bndbox"), {"xmin": 1, "ymin": 1, "xmax": width, "ymax": height})
    ElementTree.indent(root)
    return ElementTree.ElementTree(root)


def _add(parent: ElementTree.Element, texts: Mapping[str, object]) -> None:
    """Add one child per text."""
    for tag, text in texts.items():
        ElementTree.SubElement(parent, tag).text = str(text)


def _stem(name: str) -> str:
    """Return a file name without its suffix."""
    return os.path.splitext(name)[0]


def _base(path: str) -> str:
    """Return the last part of a path of either system."""
    return re.split(r"[\\/]", path.strip())[-1]
