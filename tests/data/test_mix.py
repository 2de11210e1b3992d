"""Mixing of batches: what it makes, that labels keep their pixels, and that its draws are those of the tickets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bakeoff.data.augment import Augment
from bakeoff.data.load import Batch, Feed, Samples, collate
from bakeoff.data.masks import to_runs
from bakeoff.data.mix import LEAST_SEEN, Mix, Objects
from bakeoff.data.targets import Instances, Label, Target
from bakeoff.seeds import generator

SIDE, BATCH = 32, 4
SEEDS = [11, 12, 13, 14]


def scene(number: int, count: int = 4) -> tuple[Tensor, Objects]:
    """Return an image (3, S, S) with disjoint rectangles: its colours are (image, object, label) of every pixel."""
    draws = generator(number, "scene")
    image, masks = torch.zeros(3, SIDE, SIDE), torch.zeros(count, SIDE, SIDE, dtype=torch.uint8)
    image[0] = number + 1
    labels = torch.from_numpy(draws.integers(0, 3, count))
    half = SIDE // 2
    for place in range(count):
        left, top = half * (place % 2), half * (place // 2)
        (x1, y1), (x2, y2) = draws.integers(0, 6, 2), draws.integers(9, half + 1, 2)
        masks[place, top + y1 : top + y2, left + x1 : left + x2] = 1
        image[1][masks[place] > 0] = place + 1
        image[2][masks[place] > 0] = labels[place] + 1
    return image, {"boxes": around(masks), "labels": labels, "masks": masks}


def around(masks: Tensor) -> Tensor:
    """Return the boxes around masks, written down the slow way."""
    rows = [(mask.any(0).nonzero(), mask.any(1).nonzero()) for mask in masks]
    boxes = [[int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1] for x, y in rows]
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)


def batch(counts: tuple[int, ...] = (4, 3, 4, 2), start: int = 0) -> tuple[Tensor, list[Objects]]:
    """Return images / 10 and their objects."""
    scenes = [scene(start + number, count) for number, count in enumerate(counts)]
    return torch.stack([image for image, _ in scenes]) / 10, [objects for _, objects in scenes]


def check(found: Objects) -> None:
    """A box around every mask, no pixel in two masks, the right types."""
    assert torch.equal(found["boxes"], around(found["masks"]))
    assert found["masks"].sum(0).max() <= 1
    assert (found["masks"].dtype, found["labels"].dtype) == (torch.uint8, torch.int64)
    assert len(found["labels"]) == len(found["masks"]) == len(found["boxes"])


# --- copy-paste ---


def test_pasted_objects_bring_their_pixels_and_take_those_below() -> None:
    pasted = 0
    for start in range(0, 40, 4):
        before, given = batch(start=start)
        images, found = Mix(3, copy_paste=1.0).objects(before, given, [start, start + 1, start + 2, start + 3])
        for place, (image, objects) in enumerate(zip((images * 10).round(), found, strict=True)):
            check(objects)
            union = objects["masks"].any(0).bool()
            own = image[0] == start + place + 1
            assert union[~own].all()  # what is of another image is an object
            pasted += int((~own).any())
            for mask, label in zip(objects["masks"].bool(), objects["labels"], strict=True):
                assert (
                    image[0][mask].unique().numel() == image[1][mask].unique().numel() == 1
                )  # one object, of one image
                assert image[2][mask].unique().tolist() == [label + 1]
            bare = own & ~union  # an object left out may show as less than a tenth of itself
            assert (image[2][bare] > 0).sum() <= LEAST_SEEN * given[place]["masks"].sum()
    assert pasted == 40


def test_an_object_that_is_covered_is_left_out() -> None:
    masks = torch.zeros(3, SIDE, SIDE, dtype=torch.uint8)
    masks[0, :20, :20], masks[1, 5:10, 5:10], masks[2, 10:30, 19:25] = 1, 1, 1
    over: Objects = {"boxes": around(masks[:1]), "labels": torch.tensor([0]), "masks": masks[:1]}
    below: Objects = {"boxes": around(masks[1:]), "labels": torch.tensor([1, 2]), "masks": masks[1:]}
    images = torch.stack([torch.zeros(3, SIDE, SIDE), torch.ones(3, SIDE, SIDE)])
    mixed, (found, _) = Mix(3, copy_paste=1.0).objects(images, [below, over], [1, 2])
    assert found["labels"].tolist() == [2, 0]
    assert found["masks"].sum((1, 2)).tolist() == [120 - 10, 400]
    assert found["boxes"].tolist() == [[19, 10, 25, 30], [0, 0, 20, 20]]
    assert mixed[0].sum() == 3 * 400


def test_nothing_is_pasted_from_images_without_objects() -> None:
    images, given = batch((0, 3))
    mixed, found = Mix(3, copy_paste=1.0).objects(images, given, [1, 2])
    assert len(found[0]["labels"]) > 0
    assert torch.equal(mixed[1], images[1])
    assert found[1] is given[1]
    with pytest.raises(ValueError, match="needs a mask"):
        Mix(3, copy_paste=1.0).objects(
            images, [{"boxes": one["boxes"], "labels": one["labels"]} for one in given], [1, 2]
        )


# --- mosaic ---


def test_a_mosaic_shows_four_images_and_their_objects_where_they_are() -> None:
    agreed = []
    for start in range(0, 24, 4):
        before, given = batch(start=start)
        images, found = Mix(3, mosaic=1.0).objects(before, given, [start + place for place in range(BATCH)])
        assert images.shape == before.shape
        for image, objects in zip(images * 10, found, strict=True):
            check(objects)
            assert set(image[0].round().unique().tolist()) == {start + 1 + place for place in range(BATCH)}
            painted = (objects["masks"] * (objects["labels"] + 1)[:, None, None]).sum(0)
            agreed.append(float((image[2].round() == painted).float().mean()))
    assert min(agreed) > 0.84  # edges are blurred; a pixel off it is .77
    assert np.mean(agreed) > 0.88  # and .81


def test_boxes_of_a_mosaic_are_those_around_its_masks() -> None:
    for start in range(0, 24, 4):
        images, given = batch(start=start)
        seeds = [start + place for place in range(BATCH)]
        _, whole = Mix(3, mosaic=1.0).objects(images, given, seeds)
        boxes: list[Objects] = [{name: one[name] for name in ("boxes", "labels")} for one in given]
        mixed, found = Mix(3, mosaic=1.0).objects(images, boxes, seeds)
        assert mixed.shape == images.shape
        for with_masks, alone in zip(whole, found, strict=True):
            assert alone["boxes"].min() >= 0
            assert alone["boxes"].max() <= SIDE
            for box, label in zip(with_masks["boxes"], with_masks["labels"], strict=True):
                if ((box[2:] - box[:2]) < 3).any():
                    continue  # rounded, it may be less than a tenth
                near = (alone["boxes"] - box).abs().amax(1) <= 1
                assert label in alone["labels"][near]


def test_a_mosaic_of_two_repeats_them_and_one_alone_stays() -> None:
    images, given = batch((2, 0))
    _, found = Mix(3, mosaic=1.0).objects(images, given, [3, 4])
    assert len(found) == 2
    alone, same = Mix(3, mosaic=1.0).objects(images[:1], given[:1], [3])
    assert torch.equal(alone, images[:1])
    assert same[0] is given[0]


# --- one-class CutMix ---


def test_a_patch_comes_from_another_image_of_the_class() -> None:
    classes = torch.tensor([0, 0, 1, 2, 2, 2])
    images = torch.arange(6.0).reshape(6, 1, 1, 1).expand(6, 3, SIDE, SIDE)
    patched = 0
    for seed in range(20):
        mixed, targets = Mix(3, cutmix_within=1.0).labels(images, classes, [seed * 6 + place for place in range(6)])
        assert torch.equal(targets, classes)
        assert torch.equal(mixed[2], images[2])  # alone of its class
        for place, image in enumerate(mixed):
            sources = {int(value) for value in image.unique()}
            assert {int(classes[source]) for source in sources} == {int(classes[place])}
            patched += len(sources) == 2
    assert 80 < patched <= 100


def test_each_batch_draws_one_of_the_ways() -> None:
    classes = torch.tensor([0, 0, 1, 1])
    images = torch.rand(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    mix = Mix(2, mixup=0.4, cutmix_within=1.0)
    shapes = [tuple(mix.labels(images, classes, [seed, 1, 2, 3])[1].shape) for seed in range(40)]
    assert 8 < shapes.count((4,)) < 32
    assert set(shapes) == {(4,), (4, 2)}


# --- the loader ---


def feed(folder: Path, task: str, mix: Mix, workers: int = 0) -> Feed:
    """Return 12 images of noise in batches of four, as labels or with four objects each."""
    path, rows = folder / "pixels.npy", np.arange(12)
    np.save(path, generator(0).integers(0, 255, (12, SIDE, SIDE, 3), np.uint8))
    targets: list[Target] = [Label(int(row) % 3) for row in rows]
    if task == "instance":
        objects = [scene(int(row))[1] for row in rows]
        targets = [
            Instances(
                (SIDE, SIDE),
                one["boxes"].double().numpy(),
                one["labels"].numpy(),
                masks=tuple(to_runs(mask.numpy(), (SIDE, SIDE)) for mask in one["masks"]),
            )
            for one in objects
        ]
    return Feed(path, rows, targets, rows, Augment("light", SIDE), mix, BATCH, seed=5, workers=workers)


def same(first: Batch, second: Batch) -> bool:
    """Say whether two batches are equal to the last bit."""
    if isinstance(first.targets, Tensor):
        return torch.equal(first.images, second.images) and torch.equal(first.targets, second.targets)
    pairs = [(a[name], b[name]) for a, b in zip(first.targets, second.targets, strict=True) for name in a]
    return torch.equal(first.images, second.images) and all(torch.equal(a, b) for a, b in pairs)


ON = {"classification": Mix(3, cutmix_within=1.0), "instance": Mix(3, mosaic=0.5, copy_paste=0.5)}


@pytest.mark.parametrize("task", ON)
def test_mixing_is_a_function_of_the_tickets(task: str, tmp_path: Path) -> None:
    whole = list(feed(tmp_path, task, ON[task]).epoch(1))
    if task == "instance":  # test_load.py has labels
        assert all(map(same, whole, feed(tmp_path, task, ON[task], workers=1).epoch(1)))
    assert all(map(same, whole[1:], feed(tmp_path, task, ON[task]).epoch(1, start=1)))
    assert not any(map(same, whole, feed(tmp_path, task, Mix(3)).epoch(1)))


@pytest.mark.parametrize("task", ON)
def test_with_all_off_a_batch_is_its_samples(task: str, tmp_path: Path) -> None:
    plain = feed(tmp_path, task, Mix(3))
    samples = Samples(plain)
    for tickets, made in zip(plain.order.tickets(0), plain.epoch(0), strict=True):
        images, targets, _ = zip(*(samples[ticket] for ticket in tickets), strict=True)
        expected = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255
        assert same(made, Batch(expected, torch.tensor(targets) if task == "classification" else list(targets)))
    assert same(collate([samples[ticket] for ticket in plain.order.tickets(0)[0]], Mix(3)), next(iter(plain.epoch(0))))
