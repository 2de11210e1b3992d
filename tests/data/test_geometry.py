"""Geometry: image, boxes and masks move together, into the frame, through augmentation, and back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from bakeoff.data import masks
from bakeoff.data.augment import Augment, AugmentName
from bakeoff.data.cache import build_pixels
from bakeoff.data.dataset import Dataset, Record, TaskName
from bakeoff.data.decode import Resize, resize
from bakeoff.data.examples import example
from bakeoff.data.frame import Frame, framed, restored
from bakeoff.data.load import Batch, Feed, to_tensors
from bakeoff.data.mix import Mix
from bakeoff.data.stored import build_targets, open_targets, targets_path
from bakeoff.data.targets import IGNORE, Boxes, Coding, Instances, Label, MaskFiles, Target
from bakeoff.seeds import generator

FAMILIES: tuple[AugmentName, ...] = get_args(AugmentName)
CUTTING = ("light", "standard", "strong", "trivial", "randaugment")  # which show a part of the image
RECOLOURING = ("trivial", "randaugment")  # so strongly that colours may be turned around
POLICIES: tuple[Resize, ...] = get_args(Resize)
SHAPES = ((40, 30), (30, 50), (32, 32), (7, 90), (201, 64))  # width, height
SIDE = 64
DENSE: tuple[TaskName, ...] = ("semantic", "detection", "instance")


def _box(draws: np.random.Generator, width: int, height: int) -> tuple[int, int, int, int]:
    """Return a box of whole pixels, at least a sixth of the sides, inside an image."""
    wide, high = (int(draws.integers(max(1, side // 6), side // 2 + 1)) for side in (width, height))
    left, top = int(draws.integers(0, width - wide + 1)), int(draws.integers(0, height - high + 1))
    return left, top, left + wide, top + high


def _filled(box: tuple[int, int, int, int], width: int, height: int) -> NDArray[np.uint8]:
    pixels = np.zeros((height, width), np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = 1
    return pixels


def _around(pixels: NDArray[Any]) -> list[float]:
    """Return the box around the pixels that are not 0."""
    rows, columns = np.nonzero(pixels)
    return [float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1)]


# --- the frame ---


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(("width", "height"), SHAPES)
def test_a_mask_and_its_box_come_to_the_frame_together(width: int, height: int, policy: Resize) -> None:
    draws = generator(0, width, height)
    frame = Frame(width, height, SIDE, policy)
    for _ in range(20):
        box = _box(draws, width, height)
        moved = np.clip(frame.boxes(np.array([box], float))[0], 0, SIDE)
        pixels = frame.pixels(_filled(box, width, height), 0)
        if pixels.any():
            assert np.abs(np.array(_around(pixels)) - moved).max() <= 1
        else:
            assert (moved[2:] - moved[:2]).min() <= 1  # cut off, or thinner than a pixel


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(("width", "height"), SHAPES)
def test_boxes_come_back_from_the_frame(width: int, height: int, policy: Resize) -> None:
    draws = generator(1, width, height)
    frame = Frame(width, height, SIDE, policy)
    boxes = np.array([_box(draws, width, height) for _ in range(20)], float)
    assert np.allclose(frame.image_boxes(frame.boxes(boxes)), boxes, atol=1e-9)
    assert frame.image_boxes(np.array([[-1e3, -1e3, 1e3, 1e3]])).tolist()[0][:2] == [0, 0]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(("width", "height"), SHAPES)
def test_labels_lie_where_the_image_shows_them(width: int, height: int, policy: Resize) -> None:
    box = _box(generator(2, width, height), width, height)
    pixels = _filled(box, width, height)
    shown = resize(np.repeat(255 * pixels[..., None], 3, axis=2), SIDE, policy)[..., 0]
    labels = Frame(width, height, SIDE, policy).pixels(pixels, IGNORE)
    clear = (shown < 8) | (shown > 247)  # between the two, bicubic interpolation shows an edge
    clear &= labels != IGNORE
    assert clear.sum() > 0.5 * (labels != IGNORE).sum()
    assert np.array_equal(labels[clear], (shown > 127)[clear])
    inside = np.zeros((SIDE, SIDE), bool)
    left, top, right, bottom = Frame(width, height, SIDE, policy).boxes(np.array([[0.0, 0, width, height]]))[0]
    inside[max(0, round(top)) : round(bottom), max(0, round(left)) : round(right)] = True
    assert np.array_equal(labels != IGNORE, inside)  # all of the padding, and nothing else, has no label


@pytest.mark.parametrize("policy", POLICIES)
def test_labels_brought_to_a_larger_frame_come_back(policy: Resize) -> None:
    values = generator(3).integers(0, 5, (30, 40)).astype(np.uint8)
    frame = Frame(40, 30, 128, policy)
    back = frame.image_pixels(frame.pixels(values, IGNORE), IGNORE)
    kept = back != IGNORE
    assert kept.all() == (policy != "crop")
    assert kept[:, 5:35].all()
    assert np.array_equal(back[kept], values[kept])


def _records(folder: Path, task: TaskName) -> Dataset:
    """Write four images of different shapes with two objects each, the last without any; one object is a crowd."""
    draws, records = generator(4), []
    for number, (width, height) in enumerate(SHAPES[:4]):
        image = draws.integers(0, 60, (height, width, 3)).astype(np.uint8)
        boxes = [_box(draws, width, height) for _ in range(0 if number == 3 else 2)]
        whole = np.zeros((height, width), np.uint8)
        for label, box in enumerate(boxes):
            whole[box[1] : box[3], box[0] : box[2]] = label + 1
            image[box[1] : box[3], box[0] : box[2], label] = 255
        Image.fromarray(image).save(folder / f"{number}.png")
        Image.fromarray(whole).save(folder / f"{number}-mask.png")
        size = (width, height)
        fields: dict[str, Any] = {
            "xyxy": np.array(boxes, float),
            "labels": np.arange(len(boxes)),
            "crowd": np.arange(len(boxes)) + number == 3,
        }
        runs = tuple(masks.to_runs(_filled(box, *size), size) for box in boxes)
        coding = Coding("value", ((0, 0), (1, 1), (2, 2)), IGNORE)
        targets: dict[TaskName, Target] = {
            "classification": Label(number % 3),
            "semantic": MaskFiles(((f"{number}-mask.png", coding),)),
            "detection": Boxes(size, **fields),
            "instance": Instances(size, **fields, masks=runs),
        }
        records.append(Record(f"{number}.png", f"{number}.png", targets[task]))
    return Dataset(task, ("a", "b", "c"), tuple(records), folder)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("task", DENSE)
def test_stored_targets_are_those_of_the_records(tmp_path: Path, task: TaskName, policy: Resize) -> None:
    dataset = _records(tmp_path, task)
    build_targets(dataset, tmp_path, 48, policy)
    stored = open_targets(dataset, tmp_path, 48, policy)
    expected = [framed(dataset, record, 48, policy) for record in dataset.records]
    assert [stored[place] for place in range(4)] == expected
    assert list(stored) == expected == stored[:]
    assert stored[-1] == expected[-1]
    assert len(stored) == 4
    with pytest.raises(IndexError):
        stored[4]


def test_targets_are_made_again_for_other_data(tmp_path: Path) -> None:
    dataset = _records(tmp_path, "detection")
    build_targets(dataset, tmp_path, 48)
    before = targets_path(tmp_path, "detection", 48, "squash").stat().st_mtime_ns
    build_targets(dataset, tmp_path, 48)
    assert targets_path(tmp_path, "detection", 48, "squash").stat().st_mtime_ns == before
    other = replace(dataset, records=dataset.records[:3])
    build_targets(other, tmp_path, 48)
    assert len(open_targets(other, tmp_path, 48, "squash")) == 3


def test_boxes_that_are_no_boxes_are_left_out_of_the_frame(tmp_path: Path) -> None:
    wrong = [[0, 0, 5, 5], [9, 9, 9, 20], [12, 3, 8, 9], [30, 30, 40, 40], [np.nan, 0, 4, 4], [-5, -5, 50, 50]]
    target = Boxes((20, 20), np.array(wrong, float), np.arange(6))
    found = framed(
        Dataset("detection", tuple("abcdef"), (record := Record("x", "x", target),), tmp_path), record, 40, "squash"
    )
    assert isinstance(found, Boxes)
    assert found.labels.tolist() == [0, 5]
    assert found.xyxy.tolist() == [[0, 0, 10, 10], [0, 0, 40, 40]]
    assert found.areas.tolist() == [25, 55 * 55]  # in pixels of the image, as stated


@pytest.mark.parametrize("policy", POLICIES)
def test_what_is_found_in_the_frame_is_told_in_the_image(tmp_path: Path, policy: Resize) -> None:
    dataset = _records(tmp_path, "instance")
    for record in dataset.records[:3]:
        truth = record.target
        assert isinstance(truth, Instances)
        frame = Frame(*truth.size, 256, policy)
        found = restored(framed(dataset, record, 256, policy), frame)
        assert isinstance(found, Instances)
        assert found.size == truth.size
        for place, label in enumerate(found.labels):
            outline = np.array(_around(masks.to_pixels(found.masks[place], found.size)))
            assert np.abs(outline - found.xyxy[place]).max() <= 1
            if policy != "crop":  # which may cut it
                assert np.abs(found.xyxy[place] - truth.xyxy[label]).max() <= 1


# --- augmentation ---


def _drawn(family: AugmentName, seed: int, target: Tensor | dict[str, Tensor]) -> tuple[NDArray[np.uint8], Any]:
    """Augment an image of noise and its target, under the draws of a seed."""
    image = generator(seed, "image").integers(0, 255, (SIDE, SIDE, 3)).astype(np.uint8)
    torch.manual_seed(seed)
    return Augment(family, SIDE).together(image, target)


def _objects(seed: int, low: int = 0, high: int = SIDE) -> dict[str, Tensor]:
    """Return three rectangular objects with boxes and masks, between `low` and `high`."""
    draws = generator(seed, "objects")
    boxes = [tuple(low + value for value in _box(draws, high - low, high - low)) for _ in range(3)]
    pixels = np.stack([_filled((b[0], b[1], b[2], b[3]), SIDE, SIDE) for b in boxes])
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32),
        "labels": torch.arange(3),
        "masks": torch.from_numpy(pixels),
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_a_box_agrees_with_the_box_drawn_from_its_mask(family: AugmentName) -> None:
    for seed in range(25):
        whole = _objects(seed, 16, 48)  # at the border a turned box and a turned mask are cut differently
        _, boxes = _drawn(family, seed, {"boxes": whole["boxes"], "labels": whole["labels"]})
        _, both = _drawn(family, seed, whole)
        seen = dict(zip(both["labels"].tolist(), both["boxes"], strict=True))
        inside = {
            label: box
            for label, box in zip(boxes["labels"].tolist(), boxes["boxes"], strict=True)
            if box.min() > 0 and box.max() < SIDE
        }
        for label, box in inside.items():  # "strong" moves pixels twice, cut and turned, and rounds twice
            assert (box - seen[label]).abs().max() <= (1.5 if family == "strong" else 1)
        assert inside or family in CUTTING


@pytest.mark.parametrize("family", FAMILIES)
def test_objects_stay_whole_and_in_order(family: AugmentName) -> None:
    lost = 0
    for seed in range(25):
        given = _objects(seed)
        image, found = _drawn(family, seed, given)
        assert image.shape == (SIDE, SIDE, 3)
        assert found["masks"].shape == (len(found["labels"]), SIDE, SIDE)
        assert set(found["masks"].unique().tolist()) <= {0, 1}
        for box, mask in zip(found["boxes"].tolist(), found["masks"].numpy(), strict=True):
            assert box == _around(mask)
        assert found["labels"].tolist() == sorted(found["labels"].tolist())
        lost += 3 - len(found["labels"])
    assert lost == 0 if family in ("none", "flip") else lost < 20


@pytest.mark.parametrize("family", FAMILIES)
def test_a_label_map_gets_no_class_that_it_did_not_have(family: AugmentName) -> None:
    for seed in range(15):
        given = torch.from_numpy(generator(seed, "map").choice([0, 7, 200], (8, 8)).astype(np.uint8))
        given = given.repeat_interleave(8, 0).repeat_interleave(8, 1)
        _, found = _drawn(family, seed, given)
        assert found.shape == (SIDE, SIDE)
        assert found.dtype == torch.uint8
        allowed = {0, 7, 200, IGNORE} if family in ("strong", "digits") else {0, 7, 200}
        assert set(found.unique().tolist()) <= allowed


@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in RECOLOURING])
def test_a_label_map_moves_with_its_image(family: AugmentName) -> None:
    """The image's red is the label map: afterwards it is so still, but for edges, padding and changed colours."""
    for seed in range(10):
        labels = (generator(seed, "blobs").random((8, 8)) < 0.5).astype(np.uint8).repeat(8, 0).repeat(8, 1)
        image = np.zeros((SIDE, SIDE, 3), np.uint8)
        image[..., 0] = 255 * labels
        torch.manual_seed(seed)
        drawn, found = Augment(family, SIDE).together(image, torch.from_numpy(labels))
        shown, known = drawn.max(axis=2) > drawn.max() / 2, found.numpy() != IGNORE
        assert (shown[known] == found.numpy()[known].astype(bool)).mean() > (0.95 if family == "strong" else 0.97)


@pytest.mark.parametrize("family", RECOLOURING)
def test_what_recolours_images_moves_targets_as_light_does(family: AugmentName) -> None:
    changed = 0
    for seed in range(10):
        image, found = _drawn(family, seed, _objects(seed))
        moved, expected = _drawn("light", seed, _objects(seed))
        assert all(torch.equal(found[name], expected[name]) for name in expected)
        changed += not np.array_equal(image, moved)
    assert changed >= 5  # of the operations one is the identity


def test_a_flip_twice_is_the_identity() -> None:
    given, seed = _objects(5), next(seed for seed in range(20) if _flips(seed))
    image, once = _drawn("flip", seed, given)
    torch.manual_seed(seed)
    again, twice = Augment("flip", SIDE).together(image, once)
    untouched, _ = _drawn("none", seed, given)
    assert not np.array_equal(image, untouched)
    assert np.array_equal(again, untouched)
    assert all(torch.equal(twice[name], given[name]) for name in given)


def _flips(seed: int) -> bool:
    """Say whether the draws of a seed mirror the image."""
    marked = torch.zeros(SIDE, SIDE, dtype=torch.uint8)
    marked[0, 0] = 1
    return not _drawn("flip", seed, marked)[1][0, 0]


@pytest.mark.parametrize("family", FAMILIES)
def test_images_without_objects_pass(family: AugmentName) -> None:
    empty = {
        "boxes": torch.zeros(0, 4),
        "labels": torch.zeros(0, dtype=torch.int64),
        "masks": torch.zeros(0, SIDE, SIDE, dtype=torch.uint8),
    }
    _, found = _drawn(family, 0, empty)
    assert {name: tuple(value.shape) for name, value in found.items()} == {
        "boxes": (0, 4),
        "labels": (0,),
        "masks": (0, SIDE, SIDE),
    }


# --- batches ---


def _feed(folder: Path, task: TaskName, workers: int = 0) -> Feed:
    """Return a feed of the four records, in batches of two."""
    dataset = _records(folder, task)
    build_targets(dataset, folder, 32)
    rows, targets = np.arange(4), open_targets(dataset, folder, 32, "squash")
    pixels = build_pixels(dataset, folder, 32)
    return Feed(pixels, rows, targets, rows, Augment("strong", 32), Mix(3), batch=2, seed=3, workers=workers)


def _same(first: Batch, second: Batch) -> bool:
    """Say whether two batches are equal to the last bit."""
    same = torch.equal(first.images, second.images)
    if isinstance(first.targets, Tensor):
        return same and torch.equal(first.targets, second.targets)
    pairs = zip(first.targets, second.targets, strict=True)
    return same and all(set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a) for a, b in pairs)


@pytest.mark.parametrize(
    ("task", "workers"),
    [
        ("semantic", 2),  # a memory map sent to two processes
        ("detection", 1),  # columns sent to one
        ("instance", 1),  # with masks
    ],
)
def test_the_same_tickets_give_the_same_batch_in_other_processes(tmp_path: Path, task: TaskName, workers: int) -> None:
    alone, helped = (list(_feed(tmp_path, task, count).epoch(1)) for count in (0, workers))
    assert len(alone) == 2
    assert all(_same(first, second) for first, second in zip(alone, helped, strict=True))


@pytest.mark.parametrize("task", ["classification", *DENSE])
def test_batches_are_as_the_tasks_expect_them(tmp_path: Path, task: TaskName) -> None:
    for batch in (*_feed(tmp_path, task).epoch(0), example(task, 3, 2, 32)):
        assert batch.images.shape == (2, 3, 32, 32)
        assert batch.images.dtype == torch.float32
        assert batch.images.min() >= 0
        assert batch.images.max() <= 1
        if task in ("classification", "semantic"):
            assert batch.targets.dtype == torch.int64
            assert batch.targets.shape == ((2,) if task == "classification" else (2, 32, 32))
            assert set(batch.targets.unique().tolist()) <= {0, 1, 2, IGNORE}
            continue
        assert len(batch.targets) == 2
        for objects in batch.targets:
            assert objects["boxes"].shape == (len(objects["labels"]), 4)
            assert (objects["boxes"].dtype, objects["labels"].dtype) == (torch.float32, torch.int64)
            assert ((objects["boxes"] >= 0) & (objects["boxes"] <= 32)).all()
            assert ("masks" in objects) == (task == "instance")
            if task == "instance":
                assert objects["masks"].dtype == torch.uint8
                assert all(
                    _around(mask) == box
                    for mask, box in zip(objects["masks"].numpy(), objects["boxes"].tolist(), strict=True)
                )


def test_crowds_are_not_learned_from() -> None:
    target = Boxes((8, 8), np.array([[0.0, 0, 4, 4], [2, 2, 6, 6]]), np.array([1, 0]), crowd=np.array([False, True]))
    tensors = to_tensors(target)
    assert isinstance(tensors, dict)
    assert tensors["labels"].tolist() == [1]
    with pytest.raises(TypeError, match="Label is not a target in a frame"):
        to_tensors(Label(1))


@pytest.mark.parametrize("task", ["classification", *DENSE])
def test_an_example_shows_its_labels(task: TaskName) -> None:
    """Every square of a class has one colour, brighter than the background."""
    batch = example(task, 3, 4, 40, seed=2)
    again = example(task, 3, 4, 40, seed=2)
    assert _same(batch, again)
    assert not _same(batch, example(task, 3, 4, 40, seed=3))
    if task in ("detection", "instance"):
        image, objects = batch.images[0], batch.targets[0]
        for left, top, right, bottom in objects["boxes"].int().tolist():
            assert image[:, top:bottom, left:right].mean() > image[:, :, -1].mean() + 0.2
    elif task == "semantic":
        for label in (1, 2):
            shown = batch.images.permute(0, 2, 3, 1)[batch.targets == label]
            assert len(shown) > 0
            assert shown.mean() > 0.3
            assert shown.std(dim=0).max() < 0.1  # one colour, and the noise of the background
    else:
        assert batch.targets.tolist() == [0, 1, 2, 0]
        means = [image[:, :20, :20].mean(dim=(1, 2)) for image in batch.images]
        assert (means[0] - means[3]).abs().max() < 0.02 < (means[0] - means[1]).abs().max()
