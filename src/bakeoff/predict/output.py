"""Predictions as text: CSV for spreadsheets, JSON lines for programs, COCO for annotation tools."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TextIO

import numpy as np

from bakeoff.data.masks import area, bounds, to_runs
from bakeoff.data.targets import IGNORE, Boxes, Instances, LabelMap
from bakeoff.findings import printable
from bakeoff.predict.prediction import Prediction

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a cell that starts so is run by spreadsheets
LABELLED = "classification"
CORNERS = ("x1", "y1", "x2", "y2")
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "semantic": ("label", "pixels", "share"),
    "detection": ("label", "score", *CORNERS),
    "instance": ("label", "score", *CORNERS, "pixels"),
}
Entry = dict[str, Any]


def write_csv(
    predictions: Iterable[Prediction],
    stream: TextIO,
    classes: Sequence[str],
    escaped: bool = False,
    task: str = LABELLED,
    more: Sequence[str] = (),
) -> int:
    r"""Write predictions as a table; return how many files could not be used.

    classification  a row per file: path, label, probability, error and a score per class
    semantic        a row per file and class that occurs in it: path, label, pixels, share of the image, error
    detection       a row per object: path, label, score, x1, y1, x2, y2 in the image's pixels, error
    instance        the same with pixels, the area of the mask
    A file without objects, or one that cannot be used, has one row without a label.  `more` are fields of Prediction
    ("mask", "overlay", "frame", "seconds", "temperature") that get a column at the end.

    A cell that starts with = + - @ gets an apostrophe in front, so that no spreadsheet runs it as a formula.  Names
    stay exact otherwise, control and bidirectional characters included (a line break is quoted), since programs open
    files by them; with `escaped`, meant for terminals, which such characters steer, they are written as \x1b, \u202e.
    """
    show = printable if escaped else str
    writer = csv.writer(stream, lineterminator="\n")
    scores = ["label", "probability", "error", *(f"score:{name}" for name in classes)]
    header = scores if task == LABELLED else [*COLUMNS[task], "error"]
    writer.writerow([_cell(show(name)) for name in ("path", *header, *more)])
    failed = 0
    for found in predictions:
        last = ["" if getattr(found, name) is None else getattr(found, name) for name in more]
        for row in _rows(found, classes, task):
            cells = (found.path, *row, *last)
            writer.writerow([_cell(show(cell)) if isinstance(cell, str) else f"{cell:.7g}" for cell in cells])
        failed += found.error is not None
    return failed


def _rows(found: Prediction, classes: Sequence[str], task: str) -> Iterator[list[str | float]]:
    """Yield the cells between path and pictures: of the file, of every object, or of every class in a label map."""
    if task == LABELLED:
        scores = [found.scores[name] if found.scores else "" for name in classes]
        yield [found.label or "", "" if found.probability is None else found.probability, found.error or "", *scores]
        return
    entries = list(_entries(found, classes))
    for entry in entries:
        flat = {**entry, **dict(zip(CORNERS, entry.get("box", ()), strict=False))}
        yield [*(flat[name] for name in COLUMNS[task]), ""]
    if not entries:
        yield [*[""] * len(COLUMNS[task]), found.error or ""]


def write_jsonl(
    predictions: Iterable[Prediction],
    stream: TextIO,
    classes: Sequence[str] = (),
    task: str = LABELLED,
    more: Sequence[str] = (),
) -> int:
    """Write one JSON object a line; return how many files could not be used.

    classification  path, label, probability, scores, error
    semantic        path, size (width, height), classes: label, pixels, share of those that occur; mask, overlay, error
    detection       path, size, objects: label, score, box (x1, y1, x2, y2 in the image's pixels); mask, overlay, error
    instance        the same with pixels (area) and mask (COCO's run lengths) of every object
    `more` are further fields of Prediction to be there: "frame", "seconds", "temperature".
    """
    failed = 0
    for found in predictions:
        if task == LABELLED:
            names: tuple[str, ...] = ("path", "label", "probability", "scores", "error")
            content = {name: getattr(found, name) for name in names}
        else:
            content = {"path": found.path, "size": None if found.target is None else _size(found.target)}
            content["classes" if task == "semantic" else "objects"] = list(_entries(found, classes))
            content |= {name: getattr(found, name) for name in ("mask", "overlay", "error")}
        content |= {name: getattr(found, name) for name in more}
        stream.write(json.dumps(content, allow_nan=False) + "\n")
        failed += found.error is not None
    return failed


def write_coco(predictions: Iterable[Prediction], stream: TextIO, classes: Sequence[str]) -> int:
    """Write objects, or the regions of a label map, as a COCO dataset; return how many files could not be used.

    Images, annotations and categories are numbered from 1, categories in the order of the classes.  Boxes are x, y,
    width, height; masks are run lengths; every object has its score.  A region is all pixels of one class.  Files that
    could not be used are listed under "errors", which is no part of COCO.
    """
    images: list[Entry] = []
    annotations: list[Entry] = []
    errors: list[Entry] = []
    for number, found in enumerate(predictions, 1):
        if found.target is None:
            errors.append({"file_name": found.path, "error": found.error})
            continue
        width, height = _size(found.target)
        images.append({"id": number, "file_name": found.path, "width": width, "height": height})
        for annotation in _annotations(found.target):
            annotations.append({"id": len(annotations) + 1, "image_id": number, "iscrowd": 0, **annotation})
    content = {
        "info": {"description": "predictions by bakeoff"},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": index, "name": name} for index, name in enumerate(classes, 1)],
        "errors": errors,
    }
    json.dump(content, stream, allow_nan=False)
    stream.write("\n")
    return len(errors)


def _size(target: Any) -> list[int]:
    """Return width and height of the image of a label map or of objects."""
    return [int(side) for side in (target.pixels.shape[::-1] if isinstance(target, LabelMap) else target.size)]


def _annotations(target: Any) -> Iterator[Entry]:
    """Yield category, box, area, and score or mask where there are any, of everything in an image."""
    size = _size(target)
    if isinstance(target, LabelMap):
        for index in np.unique(target.pixels[target.pixels != IGNORE]).tolist():
            runs = to_runs(target.pixels == index, (size[0], size[1]))
            left, top, right, bottom = bounds(runs, (size[0], size[1]))
            box = [left, top, right - left, bottom - top]
            yield {"category_id": index + 1, "bbox": box, **_masked(runs, size)}
        return
    for place, (left, top, right, bottom) in enumerate(target.xyxy.tolist()):
        box = [round(value, 2) for value in (left, top, right - left, bottom - top)]
        score = {} if target.scores is None else {"score": round(float(target.scores[place]), 6)}
        shape = {"area": round(box[2] * box[3], 2)}
        if isinstance(target, Instances):
            shape = _masked(to_runs(target.masks[place], target.size), size)
        yield {"category_id": int(target.labels[place]) + 1, "bbox": box, **shape, **score}


def _masked(runs: bytes, size: Sequence[int]) -> Entry:
    """Return the area and the mask of an object in COCO's form."""
    mask = {"size": [size[1], size[0]], "counts": runs.decode("ascii")}
    return {"area": area(runs, (size[0], size[1])), "segmentation": mask}


def _entries(found: Prediction, classes: Sequence[str]) -> Iterator[Entry]:
    """Yield the objects of an image, or the classes that occur in its label map."""
    target = found.target
    if isinstance(target, LabelMap):
        tally = np.bincount(target.pixels.ravel(), minlength=IGNORE + 1)[: len(classes)]
        for index in np.flatnonzero(tally).tolist():
            share = round(float(tally[index] / tally.sum()), 6)
            yield {"label": classes[index], "pixels": int(tally[index]), "share": share}
    elif isinstance(target, Boxes):
        for annotation, box in zip(_annotations(target), target.xyxy.tolist(), strict=True):
            entry = {"label": classes[annotation["category_id"] - 1], "score": annotation.get("score")}
            entry["box"] = [round(value, 2) for value in box]
            if "segmentation" in annotation:
                entry |= {"pixels": int(annotation["area"]), "mask": annotation["segmentation"]}
            yield entry


def _cell(text: str) -> str:
    """Make text harmless in a spreadsheet, and writable where a file name is not valid UTF-8."""
    safe = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return f"'{safe}" if safe.startswith(FORMULA) else safe
