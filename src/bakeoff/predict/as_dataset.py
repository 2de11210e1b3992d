"""Predictions as a labelled dataset in a folder: YOLO's text files or Pascal VOC's XML, for annotation tools."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from bakeoff.data.dataset import Dataset, Record, TaskName
from bakeoff.data.formats import voc, yolo
from bakeoff.data.targets import Boxes, Instances
from bakeoff.errors import UsageError
from bakeoff.files import write_text
from bakeoff.findings import plural
from bakeoff.predict.prediction import Prediction

FORMATS = ("yolo", "voc")
NAMES, ERRORS = "classes.txt", "errors.txt"


def check_folder(task: str, format: str, videos: int) -> None:
    """Raise UsageError, with the reason, for predictions that the format cannot hold."""
    if task not in ("detection", "instance"):
        raise UsageError(f"{format} holds boxes and outlines of objects; this model's task is {task}: use csv or jsonl")
    if videos:
        raise UsageError(f"{format} goes with image files; {plural(videos, 'input')} are videos: use coco or jsonl")


def write_folder(predictions: Iterable[Prediction], folder: Path, classes: Sequence[str], format: str) -> int:
    """Write predictions and copies of their images into a new folder; return how many files could not be used.

    yolo  data.yaml, images/, labels/ (a text file for each image: boxes, or outlines of instances) and classes.txt
    voc   JPEGImages/ and Annotations/ (an XML file for each image: boxes, also of instances) and classes.txt
    Neither has a place for scores: what reaches the threshold is in it.  Files that could not be used are listed in
    errors.txt, with the reason.  `bakeoff data show FOLDER` reads it back.  Raises UsageError when the folder is not
    new.
    """
    found = list(predictions)
    good = [one for one in found if isinstance(one.target, Boxes)]
    if good:
        dataset = _dataset(good, tuple(classes), format)
        (yolo if format == "yolo" else voc).write(dataset, folder)
    write_text(folder / NAMES, "".join(f"{name}\n" for name in classes))
    failed = [f"{one.path}\t{one.error}\n" for one in found if one.error is not None]
    if failed:
        write_text(folder / ERRORS, "".join(failed))
    return len(failed)


def _dataset(found: Sequence[Prediction], classes: tuple[str, ...], format: str) -> Dataset:
    """Return predictions as labels."""
    paths = [Path(os.path.abspath(one.path)) for one in found]
    source = Path(os.path.commonpath([path.parent for path in paths]))
    records = []
    for one, path in zip(found, paths, strict=True):
        name, target = path.relative_to(source).as_posix(), one.target
        assert isinstance(target, Boxes)
        records.append(Record(name, name, _labels(target, outlines=format == "yolo"), size=target.size))
    outlined = format == "yolo" and isinstance(found[0].target, Instances)
    task: TaskName = "instance" if outlined else "detection"
    return Dataset(task, classes, tuple(sorted(records, key=lambda record: record.id)), source)


def _labels(target: Boxes, outlines: bool) -> Boxes:
    """Return objects without what labels do not have: scores, and masks where the format has none."""
    if outlines and isinstance(target, Instances):
        return Instances(target.size, target.xyxy, target.labels, masks=target.masks)
    return Boxes(target.size, target.xyxy, target.labels)
