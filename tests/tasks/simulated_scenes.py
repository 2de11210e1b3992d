"""Made-up scenes of objects and detections, and pycocotools as the judge of them."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from bakeoff.data.masks import bounds, to_runs
from bakeoff.data.targets import Boxes, Instances
from bakeoff.evaluate.outcomes import stack
from bakeoff.tasks.task import Outcomes, Task

Scene = tuple[Boxes, Boxes]  # what was found, and the truth
SIDE = 320


def jittered(draws: np.random.Generator, truth: Boxes, count: int, classes: int) -> Boxes:
    """Draw detections around the objects of a target: good, bad and wrong ones, with scores that are often equal."""
    source = draws.integers(0, max(1, len(truth)), count)
    objects = truth.xyxy if len(truth) else np.array([[40.0, 40, 120, 90]])
    labels = truth.labels if len(truth) else np.zeros(1, np.int64)
    sides = objects[source, 2:] - objects[source, :2]
    noise = draws.normal(0, 1, (count, 4)) * np.tile(sides, 2) * draws.choice([0.0, 0.02, 0.1, 0.4], (count, 1))
    corners = objects[source] + noise
    boxes = np.hstack([np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])])
    named = np.where(draws.random(count) < 0.8, labels[source], draws.integers(0, classes, count))
    return Boxes(truth.size, boxes, named, draws.integers(1, 9, count) / 10)


def box_scene(draws: np.random.Generator, classes: int) -> Scene:
    """Draw up to 12 objects of all sizes, some of them crowds, and up to 60 detections; either may be none."""
    count = int(draws.integers(0, 13))
    sides = np.exp(draws.uniform(np.log(6), np.log(200), (count, 2)))
    corner = draws.uniform(0, SIDE - 60, (count, 2))
    labels, crowd = draws.integers(0, classes, count), draws.random(count) < 0.15
    truth = Boxes((SIDE, SIDE), np.hstack([corner, corner + sides]), labels, crowd=crowd)
    return jittered(draws, truth, int(draws.integers(0, 61)), classes), truth


def with_masks(boxes: Boxes) -> Instances:
    """Put an ellipse into every box; it has the area of its pixels, and the box stays where it is."""
    width, height = boxes.size
    y, x = np.mgrid[:height, :width] + 0.5
    masks = []
    for x1, y1, x2, y2 in boxes.xyxy:
        inside = ((2 * x - x1 - x2) / (x2 - x1)) ** 2 + ((2 * y - y1 - y2) / (y2 - y1)) ** 2 <= 1
        masks.append(to_runs(inside, boxes.size))
    found = np.array([bounds(mask, boxes.size) for mask in masks]).reshape(-1, 4)
    return Instances(boxes.size, found, boxes.labels, boxes.scores, boxes.crowd, boxes.areas, masks=tuple(masks))


def outcomes(task: Task, scenes: Sequence[Scene]) -> Outcomes:
    """Judge scenes by a task."""
    ids = tuple(f"{place:04}.png" for place in range(len(scenes)))
    classes: tuple[str, ...] = task.classes  # type: ignore[attr-defined]
    return stack([task.outcome(found, truth) for found, truth in scenes], ids, classes)


def judge(scenes: Sequence[Scene], classes: int, kind: str) -> NDArray[np.float64]:
    """Return pycocotools' twelve numbers for "bbox" or "segm", NaN where it says -1."""
    truths: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for image, (prediction, truth) in enumerate(scenes):
        for one in entries(truth, image, kind):
            truths.append({**one, "id": len(truths) + 1})
        found += entries(prediction, image, kind)
    coco = COCO()
    coco.dataset = {
        "info": {},
        "images": [{"id": i, "width": t.size[0], "height": t.size[1]} for i, (_, t) in enumerate(scenes)],
        "categories": [{"id": index, "name": str(index)} for index in range(classes)],
        "annotations": truths,
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        judged = COCOeval(coco, coco.loadRes(found), kind)
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    return np.where(judged.stats < 0, np.nan, judged.stats)


def entries(boxes: Boxes, image: int, kind: str) -> list[dict[str, Any]]:
    """Return the objects of an image in COCO's form; a detection has a mask or a box, whose area is its area."""
    entries = []
    sides = boxes.xyxy[:, 2:] - boxes.xyxy[:, :2]
    for place in range(len(boxes)):
        entry: dict[str, Any] = {"image_id": image, "category_id": int(boxes.labels[place])}
        if kind == "segm" and isinstance(boxes, Instances):
            runs = boxes.masks[place]
            assert isinstance(runs, bytes)
            entry["segmentation"] = {"size": [boxes.size[1], boxes.size[0]], "counts": runs.decode("ascii")}
        if kind == "bbox" or boxes.scores is None:
            entry["bbox"] = [*boxes.xyxy[place, :2].tolist(), *sides[place].tolist()]
        if boxes.scores is None:
            entry |= {"iscrowd": int(boxes.crowd[place]), "area": float(boxes.areas[place])}
        else:
            entry["score"] = float(boxes.scores[place])
        entries.append(entry)
    return entries
