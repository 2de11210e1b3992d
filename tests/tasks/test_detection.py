"""Detection and instances: COCO's numbers against pycocotools, what is stored, and the two functions of networks."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from bakeoff.data.dataset import Dataset, Record
from bakeoff.data.decode import Resize
from bakeoff.data.examples import example
from bakeoff.data.frame import Frame, framed
from bakeoff.data.masks import area, to_pixels, to_runs
from bakeoff.data.stored import build_targets, open_targets
from bakeoff.data.targets import Boxes, Instances
from bakeoff.errors import BakeoffError, DataError, RunError, UsageError
from bakeoff.evaluate.resampling import jackknife_blocks, pseudo_values
from bakeoff.tasks import TASKS
from bakeoff.tasks.detection import Detection
from bakeoff.tasks.instance import Instance
from bakeoff.tasks.precision import average_precision, best_score, curve, per_class
from bakeoff.tasks.task import LossOptions

sys.path.insert(0, str(Path(__file__).parent))

from simulated_scenes import SIDE, Scene, box_scene, jittered, judge, outcomes, with_masks

BOX_NAMES = tuple(name for name in Instance.table if name.startswith("box_"))


def names(classes: int) -> tuple[str, ...]:
    return tuple(f"class {index:02}" for index in range(classes))


def drawn(seed: int, images: int, classes: int) -> list[Scene]:
    draws = np.random.default_rng(seed)
    return [box_scene(draws, classes) for _ in range(images)]


def twelve(task: Detection, scenes: Sequence[Scene]) -> NDArray[np.float64]:
    found = task.metrics(outcomes(task, scenes))
    return np.array([value for name, value in found.items() if not name.startswith("box_")])


SCENES = [
    (0, 25, 1),  # one class
    (1, 30, 3),  # several
    (2, 40, 40),  # more classes than some occur in
]


@pytest.mark.parametrize(("seed", "images", "classes"), SCENES)
def test_boxes_are_judged_as_by_pycocotools(seed: int, images: int, classes: int) -> None:
    scenes = drawn(seed, images, classes)
    assert any(len(truth) == 0 for _, truth in scenes), "an image without objects is part of it"
    assert any(truth.crowd.any() for _, truth in scenes)
    expected = judge(scenes, classes, "bbox")
    assert 0.05 < expected[0] < 0.95
    np.testing.assert_allclose(twelve(Detection(names(classes)), scenes), expected, atol=1e-9)


def test_masks_and_boxes_of_instances_are_judged_as_by_pycocotools() -> None:
    scenes: list[Scene] = [(with_masks(found), with_masks(truth)) for found, truth in drawn(3, 15, 3)]
    task = Instance(names(3))
    np.testing.assert_allclose(twelve(task, scenes), judge(scenes, 3, "segm"), atol=1e-9)
    found = task.metrics(outcomes(task, scenes))
    np.testing.assert_allclose([found[name] for name in BOX_NAMES], judge(scenes, 3, "bbox")[:3], atol=1e-9)
    assert found["box_map"] != found["map"]


CORNERS: list[tuple[str, list[Any], list[Any]]] = [
    # name, found (box, label, score), truth (box, label, crowd)
    ("perfect", [((0, 0, 40, 40), 0, 0.9)], [((0, 0, 40, 40), 0, False)]),
    ("at the threshold", [((0, 0, 40, 20), 0, 0.9)], [((0, 0, 40, 40), 0, False)]),  # IoU is exactly .5
    ("nothing found", [], [((0, 0, 40, 40), 0, False)]),
    ("nothing there", [((0, 0, 40, 40), 0, 0.9)], []),
    ("crowd alone", [((0, 0, 20, 20), 0, 0.9)], [((0, 0, 40, 40), 0, True)]),
    ("two in a crowd", [((0, 0, 9, 9), 0, 0.9), ((9, 9, 20, 20), 0, 0.8)], [((0, 0, 40, 40), 0, True)] * 2),
    ("twice the same object", [((0, 0, 40, 40), 0, 0.9)], [((0, 0, 40, 40), 0, False)] * 2),
    ("twice found", [((0, 0, 40, 40), 0, 0.9), ((0, 0, 40, 41), 0, 0.9)], [((0, 0, 40, 40), 0, False)]),
    ("object before crowd", [((0, 0, 40, 40), 0, 0.9)], [((0, 0, 40, 40), 0, True), ((0, 0, 40, 50), 0, False)]),
    ("small found large", [((0, 0, 30, 30), 0, 0.9)], [((0, 0, 30, 40), 0, False)]),  # one in "small", one not
    ("on the edge of a range", [((0, 0, 32, 32), 0, 0.9)], [((0, 0, 32, 32), 0, False)]),  # 1024 is in two ranges
]


@pytest.mark.parametrize(("found", "truth"), [row[1:] for row in CORNERS], ids=[row[0] for row in CORNERS])
def test_corner_cases_are_judged_as_by_pycocotools(found: list[Any], truth: list[Any]) -> None:
    easy: Scene = (
        Boxes((64, 64), np.array([[5.0, 5, 50, 50]]), np.array([1]), np.array([0.5])),
        Boxes((64, 64), np.array([[5.0, 5, 50, 50]]), np.array([1])),
    )
    boxes, labels, scores = zip(*found, strict=True) if found else ((), (), ())
    objects, classes, crowd = zip(*truth, strict=True) if truth else ((), (), ())
    scene: Scene = (
        Boxes((64, 64), np.array(boxes, float), np.array(labels, int), np.array(scores, float)),
        Boxes((64, 64), np.array(objects, float), np.array(classes, int), crowd=np.array(crowd, bool)),
    )
    expected = judge([scene, easy], 2, "bbox")
    np.testing.assert_allclose(twelve(Detection(names(2)), [scene, easy]), expected, atol=1e-9)


@pytest.mark.parametrize("policy", ["squash", "pad"])
def test_a_frame_changes_neither_overlaps_nor_areas(policy: Resize) -> None:
    """Objects of a wide image, judged in a small square frame, give what they give in the image itself."""
    scenes = []
    for found, truth in drawn(4, 12, 2):
        wide = np.array([2.0, 1, 2, 1])
        inside = truth.take(np.flatnonzero((truth.xyxy[:, 2:] <= SIDE).all(axis=1)))  # framed() would clip the others
        scenes.append(
            (
                Boxes((2 * SIDE, SIDE), found.xyxy * wide, found.labels, found.scores),
                Boxes((2 * SIDE, SIDE), inside.xyxy * wide, inside.labels, crowd=inside.crowd),
            )
        )
    dataset = Dataset("detection", names(2), (), Path())
    frame, small = Frame(2 * SIDE, SIDE, 64, policy), []
    for found, truth in scenes:
        target = framed(dataset, Record("a", "a", truth), 64, policy)
        assert isinstance(target, Boxes)
        double = Boxes((128, 128), 2 * frame.boxes(found.xyxy), found.labels, found.scores)  # a larger input
        small.append((double, target))
    expected = judge(scenes, 2, "bbox")
    assert not np.isnan(expected).any(), "every range of areas has objects"
    np.testing.assert_allclose(twelve(Detection(names(2)), small), expected, atol=1e-6)


def test_stored_targets_keep_the_scale_of_their_image(tmp_path: Path) -> None:
    truths = [drawn(5, 1, 2)[0][1], Boxes((100, 400), np.zeros((0, 4)), np.zeros(0, int))]
    records = tuple(Record(f"{i}.png", f"{i}.png", truth) for i, truth in enumerate(truths))
    dataset = Dataset("detection", names(2), records, tmp_path)
    build_targets(dataset, tmp_path, 64)
    stored = open_targets(dataset, tmp_path, 64, "squash")
    scales = [target.scale for target in stored if isinstance(target, Boxes)]
    assert scales == pytest.approx([SIDE**2 / 64**2, 100 * 400 / 64**2])
    assert list(stored) == [framed(dataset, record, 64, "squash") for record in records]


def test_masks_of_another_size_are_brought_to_the_target() -> None:
    truth = with_masks(drawn(6, 1, 1)[0][1])
    whole = replace(truth, scores=np.linspace(0.9, 0.5, len(truth)))
    pixels = [to_pixels(mask, truth.size) for mask in whole.masks]
    doubled = Instances(
        (2 * SIDE, 2 * SIDE),
        2 * whole.xyxy,
        whole.labels,
        whole.scores,
        masks=tuple(_runs(one.repeat(2, axis=0).repeat(2, axis=1)) for one in pixels),
    )
    task = Instance(names(1))
    first, second = task.outcome(whole, truth), task.outcome(doubled, truth)
    assert all(np.array_equal(first[name], second[name]) for name in first)


def _runs(pixels: NDArray[np.bool_]) -> bytes:
    return to_runs(pixels, (pixels.shape[1], pixels.shape[0]))


def test_metrics_come_from_what_is_stored_and_can_be_resampled() -> None:
    task, scenes = Detection(names(3)), drawn(7, 20, 3)
    stored = outcomes(task, scenes)
    assert task.metrics(stored.take(range(20))) == task.metrics(stored)
    fewer = [scene for place, scene in enumerate(scenes) if place != 7]
    left = stored.take([place for place in range(20) if place != 7])
    np.testing.assert_allclose(list(task.metrics(left).values()), judge(fewer, 3, "bbox"), atol=1e-9)
    function = task.table[task.headline].function
    values = pseudo_values(lambda keep: function(stored.take(keep)), jackknife_blocks(20))
    assert values.mean() == pytest.approx(function(stored))
    assert values.std() > 0


def test_only_the_hundred_best_detections_count() -> None:
    truth = Boxes((64, 64), np.array([[0.0, 0, 30, 30]]), np.array([0]))
    boxes = np.tile([40.0, 40, 50, 50], (101, 1))
    boxes[0] = truth.xyxy[0]
    scores = np.linspace(0.9, 0.1, 101)
    task = Detection(names(1))
    first = outcomes(task, [(Boxes((64, 64), boxes, np.zeros(101, int), scores), truth)])
    last = outcomes(task, [(Boxes((64, 64), boxes, np.zeros(101, int), scores[::-1]), truth)])
    assert task.metrics(first)["map"] == 1.0
    assert task.metrics(last)["map"] == 0.0


def test_without_objects_nothing_is_defined() -> None:
    empty = Boxes((64, 64), np.zeros((0, 4)), np.zeros(0, int))
    found = Boxes((64, 64), np.array([[0.0, 0, 30, 30]]), np.array([0]), np.array([0.5]))
    task = Detection(names(2))
    stored = outcomes(task, [(found, empty), (found.take(np.zeros(0, int)), empty)])
    assert all(np.isnan(value) for value in task.metrics(stored).values())
    assert per_class(stored)[0] == {"class": "class 00", "images": 0, "objects": 0} | dict.fromkeys(
        ("ap", "ap50", "ar")
    )
    assert np.isnan(curve(stored)).all()
    assert np.isnan(best_score(stored)[1])


def test_per_class_curves_and_best_score() -> None:
    stored = outcomes(Detection(names(3)), drawn(8, 25, 3))
    rows, table = per_class(stored), average_precision(stored)
    assert [row["ap50"] for row in rows] == pytest.approx(curve(stored).mean(axis=1).tolist())
    assert np.mean([row["ap"] for row in rows]) == pytest.approx(table.mean())
    assert (np.diff(curve(stored, 0.75), axis=1) <= 0).all()
    with pytest.raises(UsageError, match=r"0\.33"):
        curve(stored, 0.33)
    least, best = best_score(stored)
    scores, labels = stored.columns["scores"], stored.columns["labels"]
    objects = stored.columns["truths"][:, :, 0].sum()
    every = {}
    for score in np.unique(scores[labels >= 0]):
        counted = (scores >= score) & (stored.columns["ignored"][..., 0] & 1 == 0) & (labels >= 0)
        hits = (counted & (stored.columns["matched"][..., 0] & 1 == 1)).sum()
        every[float(score)] = 2 * hits / (counted.sum() + objects)
    assert best == pytest.approx(max(every.values()))
    assert every[least] == pytest.approx(best)


class Answers(nn.Module):
    """Gives what it was made with, and remembers what it was asked."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer
        self.asked: tuple[Any, ...] = ()

    def forward(self, *asked: Any) -> Any:
        self.asked = asked
        return self.answer


def objects(scores: list[float], **more: Tensor) -> dict[str, Tensor]:
    count = len(scores)
    boxes = torch.arange(4.0).repeat(count, 1) * torch.tensor([1, 1, 4, 2]) + torch.arange(count)[:, None]
    return {"boxes": boxes, "labels": torch.arange(count) % 2, "scores": torch.tensor(scores), **more}


@pytest.mark.parametrize("task_name", ["detection", "instance"])
def test_the_loss_is_the_sum_of_what_the_network_names(task_name: str) -> None:
    task, batch = TASKS[task_name](names(2)), example(task_name, 2, 3, 32)
    net = Answers({"box": torch.tensor(1.5, dtype=torch.bfloat16), "class": torch.tensor(0.25)})
    loss = task.loss(net, batch)
    assert (loss.item(), loss.dtype) == (1.75, torch.float32)
    assert net.asked[0] is batch.images
    assert net.asked[1] is batch.targets
    with pytest.raises(RunError, match="dict of losses, got Tensor"):
        task.loss(Answers(torch.tensor(1.0)), batch)


def test_detections_are_sorted_and_cut_at_a_hundred() -> None:
    net = Answers([objects([0.25, 0.75, 0.5]), objects([0.5] * 120), objects([])])
    found = Detection(names(2)).predict(net, torch.zeros(3, 3, 24, 32))
    assert [len(boxes) for boxes in found] == [3, 100, 0]
    boxes = np.array([[1.0, 2, 9, 7], [2, 3, 10, 8], [0, 1, 8, 6]])
    assert found[0] == Boxes((32, 24), boxes, np.array([1, 0, 0]), np.array([0.75, 0.5, 0.25]))
    assert found[1].labels[:4].tolist() == [0, 1, 0, 1], "of equal scores the first stands first"


def test_masks_are_cut_at_one_half() -> None:
    masks = torch.zeros(2, 24, 32)
    masks[0, :4, :8], masks[1, 2:5, 3:9] = 0.5, 0.49
    masks[1, 7, 7] = 0.9
    found = Instance(names(2)).predict(Answers([objects([0.25, 0.75], masks=masks)]), torch.zeros(1, 3, 24, 32))[0]
    assert isinstance(found, Instances)
    assert [area(mask, found.size) for mask in found.masks] == [1.0, 32.0]
    assert np.array_equal(to_pixels(found.masks[1], found.size), masks[0].numpy() >= 0.5)


TRUTH = Boxes((64, 64), np.array([[0.0, 0, 30, 30]]), np.array([0]))
FOUND = replace(TRUTH, scores=np.array([0.5]))
WRONG: list[tuple[Any, type[BakeoffError], str]] = [
    (lambda: Detection(names(1)).outcome(TRUTH, TRUTH), UsageError, "scores"),  # a target in place of a prediction
    (lambda: Detection(names(1)).outcome(replace(FOUND, labels=np.array([3])), TRUTH), DataError, "class 3"),  # unknown
    (lambda: Instance(names(1)).outcome(FOUND, TRUTH), DataError, "mask"),  # boxes alone
    (lambda: Detection(names(1), LossOptions("focal")), UsageError, "focal"),  # a loss of another task
    (lambda: Instance(names(1), LossOptions(class_weights=(1.0,))), UsageError, "instance knows neither"),  # weights
    (
        lambda: Detection(names(1)).predict(Answers([{}]), torch.zeros(1, 3, 8, 8)),
        RunError,
        "lacks boxes",
    ),  # no columns
    (lambda: Detection(names(1)).predict(Answers([]), torch.zeros(1, 3, 8, 8)), RunError, "dict per image"),  # too few
]


@pytest.mark.parametrize(("call", "error", "words"), WRONG, ids=[row[2] for row in WRONG])
def test_what_is_wrong_is_named(call: Any, error: type[BakeoffError], words: str) -> None:
    with pytest.raises(error, match=words):
        call()


def test_real_boxes_are_judged_as_by_pycocotools(shared: Path) -> None:
    fruits = ("apple", "banana", "orange")
    draws, scenes = np.random.default_rng(9), []
    for file in sorted((shared / "fruits_voc").glob("*.xml"))[::4]:
        with Image.open(file.with_suffix(".jpg")) as image:
            size = image.size
        found = list(ElementTree.parse(file).iter("object"))
        corners = [[float(one.findtext(f"bndbox/{c}", "")) for c in ("xmin", "ymin", "xmax", "ymax")] for one in found]
        boxes = np.array(corners) - np.array([1, 1, 0, 0])
        labels = np.array([fruits.index(one.findtext("name", "")) for one in found])
        truth = Boxes(size, boxes, labels)
        scenes.append((jittered(draws, truth, 20, 3), truth))
    assert len(scenes) == 60
    np.testing.assert_allclose(twelve(Detection(fruits), scenes), judge(scenes, 3, "bbox"), atol=1e-9)


def test_real_masks_are_judged_as_by_pycocotools(shared: Path) -> None:
    folder = shared / "coco128" / "instance_segmentation" / "labels" / "train2017"
    draws, scenes = np.random.default_rng(10), []
    for file in sorted(folder.glob("*.txt"))[::4]:
        with Image.open(shared / "coco128" / "images" / "train2017" / f"{file.stem}.jpg") as image:
            size = image.size
        if file.stat().st_size == 0:  # an image without objects
            continue
        lines = [[float(word) for word in line.split()] for line in file.read_text("ascii").splitlines()]
        polygons = [np.array(line[1:]).reshape(-1, 2) * size for line in lines]
        runs = tuple(_filled(polygon, size) for polygon in polygons)
        boxes = np.array([[*polygon.min(axis=0), *polygon.max(axis=0)] for polygon in polygons])
        areas = np.array([area(mask, size) for mask in runs])
        truth = Instances(size, boxes, np.array([int(line[0]) for line in lines]), areas=areas, masks=runs)
        chosen = draws.integers(0, len(truth), 12)
        moved = tuple(_shifted(truth.masks[place], size, int(draws.integers(0, 9))) for place in chosen)
        found = Instances(size, boxes[chosen], truth.labels[chosen], draws.integers(1, 9, 12) / 10, masks=moved)
        scenes.append((found, truth))
    np.testing.assert_allclose(twelve(Instance(names(91)), scenes), judge(scenes, 91, "segm"), atol=1e-9)


def _filled(polygon: NDArray[np.float64], size: tuple[int, int]) -> bytes:
    return to_runs((tuple(polygon.ravel().tolist()),), size)


def _shifted(mask: Any, size: tuple[int, int], pixels: int) -> bytes:
    return _runs(np.roll(to_pixels(mask, size), pixels, axis=1))
