"""COCO's panoptic form: a JSON file that says what each colour of each image's PNG is; read as label maps or objects.

A segment's id is R + 256 G + 65536 B of its pixels, 0 is no segment (Kirillov et al. 2019,
https://cocodataset.org/#format-data).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bakeoff.data.dataset import Dataset, Record, TaskName
from bakeoff.data.formats.annotations import DIGITS, THREADS, Annotations, Item, Picture, Size, check_splits, measured
from bakeoff.data.formats.lookup import Lookup
from bakeoff.data.formats.panoptic_json import (
    VOID,
    Category,
    Scene,
    files_in,
    is_panoptic,
    layout,
    read_categories,
    read_lists,
    read_scenes,
    splits_of,
)
from bakeoff.data.formats.rows import Options, arranged, examples
from bakeoff.data.formats.target import new_folder, places, put
from bakeoff.data.masks import bounds, read_label_map, read_values, to_pixels, to_runs
from bakeoff.data.targets import IGNORE, MOST_CLASSES, Coding, Instances, MaskFiles
from bakeoff.errors import DataError, UsageError, nearest
from bakeoff.findings import plural

NAME = "panoptic"
EXPECTS = "a COCO panoptic .json file with segments_info, and a folder of PNG files of its name beside it"
TASKS: tuple[TaskName, ...] = ("semantic", "instance")


def sniff(path: Path) -> str | None:
    """Say why this is COCO's panoptic form, or None."""
    if path.is_file():
        return "a COCO panoptic file" if is_panoptic(path) else None
    files = files_in(path)
    return f"COCO panoptic annotations in {examples(files)}" if files else None


def read(path: Path, options: Options) -> Dataset:
    """Read label maps, or, when the task is instance, the objects of the categories that are things.

    Label maps: the classes are all categories, pixels of no segment are ignored, and so are the categories that
    `options.ignore` names.  Objects: run lengths from the pixels, box and area as stated, `iscrowd` kept.
    Several files are the splits that their names speak of.  Images are looked for by file_name below the folder, and
    where a YAML file beside says (`train: {images: ../images, masks: …}`).  An image's group is its key `group`, our
    own.  Raises DataError for what is not there, not unique, or has no category.
    """
    source, files = layout(path)
    lookup = Lookup(source)
    splits = splits_of(source, files)
    every: dict[Any, Category] = {}
    found: list[Scene] = []
    for file in files:
        content = read_lists(source / file)
        known = read_categories(content["categories"], source / file)
        if every and known != every:
            raise DataError(f"{source / file}: its categories are not those of {files[0]}")
        every = known
        found += read_scenes(source / file, content, splits[file], lookup)
    twice = [image for image, count in Counter(scene.image for scene in found).items() if count > 1]
    if twice:
        raise DataError(f"{source}: {plural(len(twice), 'image')} stand more than once in the files: {examples(twice)}")
    sizes = measured(source, [scene.image for scene in found])
    if options.task == "instance":
        return _objects(source, found, sizes, every.values(), options)
    return _label_maps(source, found, sizes, every.values(), options)


def write(dataset: Dataset, path: Path) -> None:
    """Write images, annotations/panoptic[_split].json and a folder of PNG files of its name into a new folder.

    A label map becomes one segment for each class in it (ignored pixels: none), and no category is a thing; objects
    become segments of categories that are.  Raises DataError for objects that overlap, which this format cannot hold,
    and for splits that only some records have.
    """
    check_splits(dataset)
    with new_folder(path) as root:
        chosen = places(dataset, lambda record: record.split or "images", by_stem=True)
        for split in sorted({record.split for record in dataset.records}, key=str):
            folder = root / "annotations" / (f"panoptic_{split}" if split else "panoptic")
            folder.mkdir(parents=True)
            records = [record for record in dataset.records if record.split == split]
            for record in records:
                put(dataset, record, root / chosen[record.id])
            content = _content(dataset, records, chosen, folder)
            folder.with_suffix(".json").write_text(json.dumps(content, allow_nan=False), encoding="utf-8")


# --- label maps ---


def _label_maps(
    source: Path,
    scenes: Sequence[Scene],
    sizes: dict[str, Size | None],
    categories: Collection[Category],
    options: Options,
) -> Dataset:
    """Make the semantic dataset: per image a coding of the colours in its PNG."""
    every = sorted(category.name for category in categories)
    wrong = [name for name in options.ignore if name not in (*every, "*")]
    if wrong:
        raise UsageError(f"{source}: nothing to ignore is called {wrong[0]!r}{nearest(wrong[0], every)}")
    classes = tuple(name for name in every if name not in options.ignore)
    if not 2 <= len(classes) <= MOST_CLASSES:
        raise DataError(f"{source}: {len(classes)} classes; a comparison needs at least 2, and at most {MOST_CLASSES}")
    place = {name: index for index, name in enumerate(classes)}
    rest = IGNORE if "*" in options.ignore else None

    def target(scene: Scene) -> MaskFiles:
        pairs = {segment.colour: place.get(segment.name, IGNORE) for segment in scene.segments}
        return MaskFiles(((scene.png, Coding("colour", tuple(sorted({VOID: IGNORE, **pairs}.items())), rest)),))

    rows = [
        Record(scene.image, scene.image, target(scene), scene.group, scene.split, size=sizes[scene.image])
        for scene in scenes
    ]
    records, notes = arranged(source, rows, options)
    ignored = [f"ignored in the masks: {', '.join(options.ignore)}"] if options.ignore else []
    return Dataset("semantic", classes, records, source, NAME, (*ignored, *notes))


# --- objects ---


def _objects(
    source: Path,
    scenes: Sequence[Scene],
    sizes: dict[str, Size | None],
    categories: Collection[Category],
    options: Options,
) -> Dataset:
    """Make the dataset of objects: per thing in an image its pixels as run lengths."""
    if options.ignore:
        raise UsageError(f"{source}: data.ignore is for label maps; leave it out, or read with --task semantic")
    things = [category.name for category in categories if category.thing]
    if not things:
        raise DataError(f"{source}: none of the {len(categories)} categories is a thing; read with --task semantic")
    with ThreadPoolExecutor(THREADS) as pool:
        items = list(pool.map(lambda scene: _items(source, scene, sizes[scene.image]), scenes))
    pictures = [
        Picture(scene.image, found, sizes[scene.image], scene.stated, scene.png, scene.group, scene.split)
        for scene, found in zip(scenes, items, strict=True)
    ]
    notes = [f"{len(categories) - len(things)} categories that are no things were left out"]
    return Annotations(source, NAME, pictures, things, notes).dataset(options)


def _items(source: Path, scene: Scene, size: Size | None) -> tuple[Item, ...]:
    """Cut the things out of an image's PNG."""
    values = read_values(source / scene.png, "colour")
    own = (values.shape[1], values.shape[0])
    if size is not None and own != size:
        what = f"{own[0]}x{own[1]} pixels, but {scene.image} has {size[0]}x{size[1]}"
        raise DataError(f"{source / scene.png}: {what}: bring it to the image's size, or read with --task semantic")
    strange = np.setdiff1d(values, [VOID, *(segment.colour for segment in scene.segments)])
    if strange.size:
        shown = examples(f"#{value:06x}" for value in strange)
        raise DataError(f"{source / scene.png}: pixels of the colours {shown} belong to no segment in the JSON file")
    found = []
    for segment in scene.segments:
        if segment.thing:
            runs = to_runs(values == segment.colour, own)
            box = segment.box if segment.box is not None else bounds(runs, own)
            found.append(Item(segment.name, box, runs, segment.crowd, segment.area))
    return tuple(found)


# --- writing ---


def _content(dataset: Dataset, records: Sequence[Record], chosen: dict[str, str], folder: Path) -> dict[str, Any]:
    """Return what one file says, once the PNG files are written into their folder."""
    images, annotations = [], []
    for number, record in enumerate(records, 1):
        png = f"{PurePosixPath(chosen[record.id]).stem}.png"
        ids, segments = _segments(dataset, record)
        _save(ids, folder / png)
        row: dict[str, Any] = {"id": number, "file_name": chosen[record.id]}
        row |= {"width": ids.shape[1], "height": ids.shape[0]}
        images.append(row if record.group is None else {**row, "group": record.group})
        annotations.append({"image_id": number, "file_name": png, "segments_info": segments})
    thing = int(dataset.task == "instance")
    categories = [{"id": i, "name": name, "isthing": thing} for i, name in enumerate(dataset.classes, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _segments(dataset: Dataset, record: Record) -> tuple[NDArray[np.int64], list[dict[str, Any]]]:
    """Return the segment id of every pixel of a record, and its segments_info."""
    if isinstance(record.target, Instances):
        return _of_objects(record, record.target)
    assert isinstance(record.target, MaskFiles), "a record of a task that TASKS names"
    labels = read_label_map(dataset.source, record.target)
    ids = np.where(labels == IGNORE, VOID, labels.astype(np.int64) + 1)
    found = []
    for id in np.unique(ids[ids != VOID]).tolist():
        runs, size = to_runs(ids == id, ids.shape[::-1]), ids.shape[::-1]
        left, top, right, bottom = bounds(runs, size)
        entry = {"id": id, "category_id": id, "iscrowd": 0, "area": int((ids == id).sum())}
        found.append({**entry, "bbox": [left, top, right - left, bottom - top]})
    return ids, found


def _of_objects(record: Record, target: Instances) -> tuple[NDArray[np.int64], list[dict[str, Any]]]:
    """Draw objects that do not overlap, the n-th with the id n."""
    ids = np.zeros(target.size[::-1], np.int64)
    found = []
    for i, mask in enumerate(target.masks):
        pixels = to_pixels(mask, target.size)
        if ids[pixels].any():
            raise DataError(f"{record.id}: objects overlap, which {NAME} has no place for; write coco instead")
        ids[pixels] = i + 1
        left, top, right, bottom = target.xyxy[i].tolist()
        entry = {"id": i + 1, "category_id": int(target.labels[i]) + 1, "iscrowd": int(target.crowd[i])}
        found.append(
            {
                **entry,
                "area": float(target.areas[i]),
                "bbox": [left, top, round(right - left, DIGITS), round(bottom - top, DIGITS)],
            }
        )
    return ids, found


def _save(ids: NDArray[np.int64], file: Path) -> None:
    """Write segment ids as the colours of a PNG."""
    Image.fromarray(np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=2).astype(np.uint8)).save(file)
