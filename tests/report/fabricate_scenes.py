"""A fabricated study of label maps, boxes or instances: painted scenes; predictions are the truth made worse."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bakeoff.compare import Question, compare
from bakeoff.data.cache import build_pixels
from bakeoff.data.dataset import Dataset, Record, TaskName
from bakeoff.data.masks import bounds, to_runs
from bakeoff.data.stored import build_targets, open_targets
from bakeoff.data.targets import IGNORE, Boxes, Coding, Instances, LabelMap, MaskFiles, Target
from bakeoff.evaluate.outcomes import stack
from bakeoff.files import write_json, write_text
from bakeoff.seeds import generator
from bakeoff.store import Run, StudyFolder, pictured
from bakeoff.tasks import TASKS
from bakeoff.tasks.task import Outcomes

SIZE = (96, 72)  # of the images, in pixels
SHAPES = ("bar", "disc", "square")
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Scenes:
    """What to fabricate; `skills` lie in 0..1, `side` is the network's input."""

    task: TaskName = "detection"
    names: tuple[str, ...] = ("retina", "faster", "tiny")
    skills: tuple[float, ...] = (0.9, 0.8, 0.5)
    shapes: tuple[str, ...] = SHAPES
    images: int = 30
    seeds: int = 3
    folds: int = 1
    side: int = 64
    prefix: str = "scene"


def make_scenes(path: Path, plan: Scenes) -> StudyFolder:
    """Write a whole study folder and return it."""
    folder = StudyFolder(path / "study")
    dataset = _data(path / "data", plan)
    write_json(folder.data, dataset.to_json())
    build_pixels(dataset, folder.cache, plan.side)
    build_targets(dataset, folder.cache, plan.side)
    targets = open_targets(dataset, folder.cache, plan.side, "squash")
    results = list(_runs(folder, plan, dataset, list(targets)))
    question = Question(folds=plan.folds, repeats=plan.seeds if plan.folds > 1 else 1)
    write_json(folder.comparison, compare(TASKS[plan.task](dataset.classes), question, results).to_json())
    return folder


def _data(path: Path, plan: Scenes) -> Dataset:
    """Paint the images and return them with their labels."""
    path.mkdir(parents=True)
    names = plan.shapes if plan.task != "semantic" else ("background", *plan.shapes)
    classes = tuple(sorted(names))
    places = [classes.index(name) for name in plan.shapes]
    records = []
    for number in range(plan.images):
        image, shapes = _scene(number, len(plan.shapes))
        Image.fromarray(image).save(path / f"{number:03}.png")
        target = _target(path, plan.task, number, [(places[kind], mask) for kind, mask in shapes])
        records.append(Record(f"{plan.prefix}{number:03}.png", f"{number:03}.png", target))
    return Dataset(plan.task, classes, tuple(records), path)


def _scene(number: int, kinds: int) -> tuple[Pixels, list[tuple[int, Pixels]]]:
    """Paint one image; the shapes are (kind, mask).  Every tenth image is empty."""
    draws = generator(number, "scene")
    image = draws.integers(30, 90, (*SIZE[::-1], 3)).astype(np.uint8)
    image = np.asarray(cv2.GaussianBlur(image, (0, 0), 3), np.uint8)
    shapes: list[tuple[int, Pixels]] = []
    for _ in range(0 if number % 10 == 9 else int(draws.integers(1, 5))):
        kind, mask = int(draws.integers(0, kinds)), np.zeros(SIZE[::-1], np.uint8)
        x, y, half = (int(draws.integers(a, b)) for a, b in ((14, 80), (14, 58), (6, 13)))
        if kind % 3 == 1:
            cv2.circle(mask, (x, y), half, 1, -1)
        else:
            low = half if kind % 3 else half // 2
            cv2.rectangle(mask, (x - half, y - low), (x + half, y + low), 1, -1)
        image[mask > 0] = draws.integers(120, 255, 3).astype(np.uint8)
        shapes = [(other, seen & ~mask) for other, seen in shapes if (seen & ~mask).sum() > 20]
        shapes.append((kind, mask))
    return image, shapes


def _target(path: Path, task: TaskName, number: int, shapes: list[tuple[int, Pixels]]) -> Target:
    """Return the label of one image, its mask written where there is one; a strip of it is not judged."""
    if task == "semantic":
        pixels = np.zeros(SIZE[::-1], np.uint8)
        for kind, mask in shapes:
            pixels[mask > 0] = kind
        pixels[:, :3] = IGNORE
        Image.fromarray(pixels).save(path / f"{number:03}-mask.png")
        values = [int(value) for value in np.unique(pixels) if value != IGNORE]
        coding = Coding("value", tuple((value, value) for value in values), rest=IGNORE)
        return MaskFiles(((f"{number:03}-mask.png", coding),))
    runs = tuple(to_runs(mask, SIZE) for _, mask in shapes)
    boxes, labels = np.array([bounds(run, SIZE) for run in runs]), np.array([kind for kind, _ in shapes], np.int64)
    crowd = np.arange(len(shapes)) == 3
    if task == "detection":
        return Boxes(SIZE, boxes, labels, crowd=crowd)
    return Instances(SIZE, boxes, labels, crowd=crowd, masks=runs)


def _runs(folder: StudyFolder, plan: Scenes, dataset: Dataset, targets: list[Target]) -> Iterator[tuple[Run, Outcomes]]:
    """Write every run and yield it with its outcomes."""
    task, ids = TASKS[plan.task](dataset.classes), [record.id for record in dataset.records]
    settings = {"size": plan.side, "judged": plan.side, "resize": "squash", "split": "5" * 64}
    for (place, name), seed, fold in product(enumerate(plan.names), range(plan.seeds), range(plan.folds)):
        facts = {"parameters": 10**6 * (place + 1), "seconds": 30.0 + place, "weights_hash": f"{place}{seed}" * 32}
        spec = {"name": name, "model": {"arch": name}}
        repeat = seed if plan.folds > 1 else 0
        run = Run(f"c{place}-s{seed}-{fold}", name, seed, repeat, fold, "done", spec, settings, facts)
        tested = {ids[row]: targets[row] for row in range(fold, len(ids), plan.folds)}
        draws = generator(7, name, seed)
        found = {id: worse(target, plan.skills[place], draws, dataset.classes) for id, target in tested.items()}
        rows = [task.outcome(found[id], target) for id, target in tested.items()]
        outcomes = stack(rows, tuple(tested), dataset.classes)
        _write(folder, run, outcomes, {id: found[id] for id in pictured(found)})
        yield run, outcomes


def _write(folder: StudyFolder, run: Run, outcomes: Outcomes, kept: dict[str, Target]) -> None:
    """Write one run's files."""
    here = folder.run(run.id)
    here.write(run)
    here.write_outcomes(outcomes)
    here.write_predictions(kept)
    here.model.write_bytes(b"weights")
    fact = {"kind": "epoch", "epoch": 0, "step": 1, "rate": 0.1, "seconds": 1.0, "images_per_second": 9.0}
    write_text(here.history_file, json.dumps({**fact, "train_loss": 1.0, "val_loss": 1.0, "val": {}}) + "\n")


def worse(target: Target, skill: float, draws: np.random.Generator, classes: tuple[str, ...]) -> Target:
    """Return a prediction that is the truth for the most part, the more so the higher the skill."""
    if isinstance(target, LabelMap):
        pixels = np.roll(target.pixels, int(draws.integers(0, round(12 * (1 - skill)) + 1)), axis=1)
        pixels = np.where(pixels == IGNORE, 0, pixels).astype(np.uint8)
        if draws.random() > skill:  # one class is taken for another
            one, other = draws.integers(0, len(classes), 2)
            pixels[pixels == one] = other
        return LabelMap(pixels)
    assert isinstance(target, Boxes)
    kept = target.take(draws.random(len(target)) < 0.4 + 0.6 * skill)
    extra = int(draws.random() > skill) + int(draws.random() > skill)  # an object that is not there, or found twice
    boxes = np.concatenate([kept.xyxy, draws.uniform(0, 40, (extra, 4)) + np.array([0, 0, 12, 12]), kept.xyxy[:1]])
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 4)
    labels = np.concatenate([kept.labels, draws.integers(0, len(classes), extra), kept.labels[:1]])
    wrong = draws.random(len(labels)) > 0.5 + 0.5 * skill
    labels = np.where(wrong, draws.integers(0, len(classes), len(labels)), labels)
    boxes = np.clip(boxes + draws.normal(0, 5 * (1 - skill), boxes.shape), 0, target.size[0])
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    sure = [draws.beta(2 + 6 * skill, 2, len(kept)), draws.beta(2, 4, len(labels) - len(kept))]
    order = np.argsort(-np.concatenate(sure))
    found = Boxes(target.size, boxes, labels, np.concatenate(sure)).take(order)
    if not isinstance(target, Instances):
        return found
    masks = tuple(_ellipse(box, found.size) for box in found.xyxy)
    return Instances(found.size, found.xyxy, found.labels, found.scores, masks=masks)


def _ellipse(box: NDArray[np.float64], size: tuple[int, int]) -> bytes:
    """Return the mask of an ellipse in a box."""
    pixels = np.zeros(size[::-1], np.uint8)
    (x, y), (a, b) = ((box[:2] + box[2:]) / 2).astype(int), ((box[2:] - box[:2]) / 2).astype(int)
    cv2.ellipse(pixels, (int(x), int(y)), (int(a), int(b)), 0, 0, 360, 1, -1)
    return to_runs(pixels, size)
