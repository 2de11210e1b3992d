"""YOLO's text files, one for each image: boxes or outlines as fractions of the image, and a yaml that names classes."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bakeoff.data.dataset import Dataset, SplitName, TaskName
from bakeoff.data.formats.annotations import (
    Annotations,
    Item,
    Picture,
    Size,
    box_of,
    boxes,
    check_crowd,
    check_splits,
    measured,
    one_outline,
)
from bakeoff.data.formats.groups import read_groups, write_groups
from bakeoff.data.formats.listing import names_in
from bakeoff.data.formats.rows import Options, examples
from bakeoff.data.formats.target import new_folder, places, put
from bakeoff.data.formats.yolo_config import Config, find_config, read_config
from bakeoff.data.targets import Boxes, Instances
from bakeoff.errors import DataError
from bakeoff.findings import Finding, plural

NAME = "yolo"
EXPECTS = "a yaml file with names and train, val or test, and a .txt file for each image (labels/ beside images/)"
TASKS: tuple[TaskName, ...] = ("detection", "instance")
MAX_BYTES = 32 << 20  # of one label file
FAR = 4.0  # of the image's side; a value beyond it is meant in pixels
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class _Layout:
    """The images below `source` with their label files, and which split each belongs to."""

    source: Path
    texts: Mapping[str, Path]
    splits: Mapping[str, SplitName]
    notes: tuple[str, ...]


def sniff(path: Path) -> str | None:
    """Say why this is YOLO's layout, or None."""
    file = find_config(path)
    if file is None:
        return None
    try:
        config = read_config(file)
        images, _ = config.images()
    except DataError:
        return f"{file.name} has class names" if path.is_file() else None  # reading it says what is wrong
    texts = (config.label(image) for part in images.values() for image in part)
    found = next((text for text in texts if text.is_file()), None)
    return f"{file.name} and text files in {os.path.relpath(found.parent, file.parent)}" if found is not None else None


def read(path: Path, options: Options) -> Dataset:
    """Read a yaml file, or a folder with one: `names` (a list or id: name), `path`, and `train`, `val`, `test`.

    A split is a folder, a list of folders, or a .txt file that lists images; one that is not there is left out with a
    note, and one alone prescribes no split.  Label files: see yolo_config.Config.label.  A line is `class cx cy w h`,
    or `class x1 y1 x2 y2 x3 y3 …` for an outline.  An image without a file has no object; with the key
    `skip_if_label_file_missing: true` it is left out.  Ids without a name are left out and found by the audit.  Groups
    are in groups.csv.  Raises DataError naming file and line.
    """
    file = find_config(path)
    if file is None:
        raise DataError(f"{path}: not one YOLO yaml was found; expected {EXPECTS}")
    config = read_config(file)
    layout = _layout(config)
    groups = read_groups(layout.source)
    unknown: defaultdict[int, set[str]] = defaultdict(set)
    pictures = []
    for image, size in measured(layout.source, sorted(layout.texts)).items():
        text = layout.texts[image]
        lines = _lines(text)
        if any(id not in config.names for id, _ in lines):
            for id in {id for id, _ in lines} - set(config.names):
                unknown[id].add(image)
        items = tuple(_item(config.names[id], values, size or (1, 1)) for id, values in lines if id in config.names)
        pictures.append(Picture(image, items, size, None, str(text), groups.get(image), layout.splits.get(image)))
    remarks = [*_unknown(unknown), *_unpaired(layout)]
    names = config.names.values()
    return Annotations(layout.source, NAME, pictures, names, list(layout.notes), remarks).dataset(options)


def write(dataset: Dataset, path: Path) -> None:
    """Write data.yaml, images/, labels/ (both with train/, val/, test/ where records have splits) and groups.csv.

    Run lengths become outlines, parts are joined to one, holes are filled, and objects without three points are left
    out.  Raises DataError for crowd objects and splits that only some records have.
    """
    check_splits(dataset)
    check_crowd(dataset, NAME)
    with new_folder(path) as root:
        chosen = places(dataset, lambda record: f"images/{record.split}" if record.split else "images", by_stem=True)
        for record in dataset.records:
            put(dataset, record, root / chosen[record.id])
            text = (root / chosen[record.id].replace("images", "labels", 1)).with_suffix(".txt")
            text.parent.mkdir(parents=True, exist_ok=True)
            text.write_text("".join(f"{line}\n" for line in _written(boxes(record))), encoding="ascii")
        write_groups(root, {chosen[record.id]: record.group for record in dataset.records})
        present = {record.split for record in dataset.records}
        parts = {str(split): f"images/{split}" for split in SPLITS if split in present} or {"train": "images"}
        content: dict[str, Any] = {"path": ".", **parts, "names": dict(enumerate(dataset.classes))}
        (root / "data.yaml").write_bytes(yaml.safe_dump(content, encoding="utf-8", allow_unicode=True, sort_keys=False))


def _layout(config: Config) -> _Layout:
    """Find images and label files.  Raises DataError when there are none, or when an image is in several splits."""
    parts, missing = config.images()
    notes = [f"{sentence}: left out" for sentence in missing]
    if not any(parts.values()):
        why = "; ".join(missing) or "train, val and test name no image"
        raise DataError(f"{config.file}: {why}; paths start from the key `path` or from the yaml's folder")
    if len(parts) > 1 and len({tuple(images) for images in parts.values()}) == 1:
        notes.append(f"{', '.join(parts)} are the same images: taken once, without a split")
        parts = dict(list(parts.items())[:1])
    texts = {image: config.label(image) for images in parts.values() for image in images}
    if config.skips_unlabelled:
        bare = [image for image, text in texts.items() if not text.is_file()]
        texts = {image: text for image, text in texts.items() if text.is_file()}
        notes += [f"{plural(len(bare), 'image')} without a label file left out, as the yaml wishes"] if bare else []
    _check(config, texts, parts)
    source = Path(os.path.commonpath([config.file.parent, *(image.parent for image in texts)]))
    within = {image: os.path.relpath(image, source) for image in texts}
    splits = {within[image]: split for split, images in parts.items() for image in images if image in texts}
    return _Layout(
        source, {within[image]: text for image, text in texts.items()}, splits if len(parts) > 1 else {}, tuple(notes)
    )


def _check(config: Config, texts: Mapping[Path, Path], parts: Mapping[SplitName, list[Path]]) -> None:
    """Raise DataError for splits without a label file or that share images, and for images that share a label file."""
    for split, images in parts.items():
        if images and not any(texts[image].is_file() for image in images if image in texts):
            where = config.label(images[0])
            raise DataError(f"{config.file}: none of {len(images)} images of {split} has a label file such as {where}")
    twice = [str(image) for image, count in Counter(i for part in parts.values() for i in part).items() if count > 1]
    if twice:
        raise DataError(f"{config.file}: {plural(len(twice), 'image')} in more than one split: {examples(twice)}")
    counts = Counter(texts.values())
    shared = [str(image) for image, text in texts.items() if counts[text] > 1]
    if shared:
        raise DataError(f"{config.file}: images that share one label file: {examples(shared)}; rename or remove one")


def _lines(file: Path) -> list[tuple[int, list[float]]]:
    """Return the class id and the numbers of every line of a label file; none when it is not there."""
    try:
        if file.stat().st_size > MAX_BYTES:
            raise DataError(f"{file}: larger than {MAX_BYTES >> 20} MB, which no label file is")
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return []
    except UnicodeDecodeError:
        raise DataError(f"{file}: not a text file") from None
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from None
    return [_parsed(line, f"{file}:{number}") for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def _parsed(line: str, where: str) -> tuple[int, list[float]]:
    """Read one line: a class id and 4 numbers, or 6 and more in pairs."""
    try:
        id, *values = [float(text) for text in line.split()]
    except ValueError:
        raise DataError(f"{where}: not numbers: {line.strip()[:60]!r}") from None
    if not id.is_integer() or id < 0:
        raise DataError(f"{where}: {id} is not the id of a class")
    shown = repr(line.strip()[:60])
    if len(values) == 5:
        raise DataError(f"{where}: 5 numbers after the class: a prediction with its confidence? Labels have 4: {shown}")
    if len(values) < 4 or len(values) % 2:
        raise DataError(f"{where}: expected class cx cy w h, or class and x y of 3 points or more, found {shown}")
    if not all(abs(value) <= FAR for value in values):  # not: NaN is neither
        raise DataError(f"{where}: coordinates must be fractions of the image, not pixels: {shown}")
    return int(id), values


def _item(name: str, values: list[float], size: Size) -> Item:
    """Return an object in pixels."""
    width, height = size
    if len(values) == 4:
        x, y, w, h = values[0] * width, values[1] * height, values[2] * width, values[3] * height
        return Item(name, (x - w / 2, y - h / 2, x + w / 2, y + h / 2))
    outline = tuple(value * size[position % 2] for position, value in enumerate(values))
    return Item(name, box_of((outline,), size), (outline,))


def _written(target: Boxes) -> list[str]:
    """Return the lines of one image."""
    width, height = target.size
    lines = []
    for i, label in enumerate(target.labels.tolist()):
        if isinstance(target, Instances):
            outline = one_outline(target.masks[i], target.size)
            if len(outline) < 6:
                continue
            values = [value / target.size[position % 2] for position, value in enumerate(outline)]
        else:
            x1, y1, x2, y2 = target.xyxy[i].tolist()
            values = [(x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height]
        lines.append(" ".join([str(label), *map(repr, values)]))
    return lines


def _unknown(found: Mapping[int, set[str]]) -> list[Finding]:
    """Return the finding about objects of classes without a name."""
    if not found:
        return []
    ids = examples(str(id) for id in sorted(found))
    sentence = f"objects of the class ids {ids}, which the yaml does not name, were left out"
    return [Finding("unknown-class", "error", sentence, tuple(sorted(set().union(*found.values()))))]


def _unpaired(layout: _Layout) -> list[Finding]:
    """Return the findings about images without a label file, and label files without an image."""
    found = []
    bare = sorted(image for image, text in layout.texts.items() if not text.is_file())
    if bare:
        sentence = f"{plural(len(bare), 'image')} without a label file: taken as images without an object"
        found.append(Finding("no-label-file", "info", sentence, tuple(bare)))
    used = set(layout.texts.values())
    folders = {text.parent for text in used if text.is_file()} - {layout.source / Path(i).parent for i in layout.texts}
    texts = [folder / name for folder in sorted(folders) for name in names_in(folder) if name.lower().endswith(".txt")]
    lost = [text for text in texts if text not in used and text.name != "classes.txt"]
    if lost:
        objects = plural(sum(len(_lines(text)) for text in lost), "object")
        names = examples(text.name for text in lost)
        sentence = f"{plural(len(lost), 'label file')} without an image ({objects}) left out: {names}"
        found.append(Finding("label-without-image", "warning", sentence))
    return found
