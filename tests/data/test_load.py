"""Tickets, augmentation, mixing and the cache: the control of the comparison."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from bakeoff.data.augment import Augment, AugmentName
from bakeoff.data.load import Feed, Order
from bakeoff.data.mix import Mix
from bakeoff.data.targets import Label


@pytest.fixture
def feed(tmp_path: Path) -> Feed:
    return make_feed(tmp_path)


def make_feed(folder: Path, augment: AugmentName = "standard", mix: Mix | None = None, workers: int = 0) -> Feed:
    """Return 22 random images of 16 pixels, 3 classes, batches of 4."""
    path = folder / "pixels.npy"
    if not path.exists():
        np.save(path, np.random.default_rng(0).integers(0, 255, (30, 16, 16, 3), np.uint8))
    rows, targets = np.arange(4, 26), [Label((row - 4) % 3) for row in range(30)]
    return Feed(path, rows, targets, rows, Augment(augment, 16), mix or Mix(3), batch=4, seed=7, workers=workers)


def test_an_epoch_is_a_permutation_that_another_epoch_does_not_repeat() -> None:
    first = [index for batch in Order(20, 4, 0).tickets(0) for index, _ in batch]
    second = [index for batch in Order(20, 4, 0).tickets(1) for index, _ in batch]
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second
    assert Order(20, 4, 0).tickets(0) == Order(20, 4, 0).tickets(0) != Order(20, 4, 1).tickets(0)


def test_every_sample_has_a_seed_of_its_own() -> None:
    seeds = [seed for epoch in range(3) for batch in Order(20, 4, 0).tickets(epoch) for _, seed in batch]
    assert len(set(seeds)) == 60


@pytest.mark.parametrize(
    ("size", "batch", "lengths"),
    [
        (22, 4, [4, 4, 4, 4, 4]),  # the rest is left out
        (8, 4, [4, 4]),  # even
        (3, 4, [3]),  # fewer than a batch
    ],
)
def test_batches(size: int, batch: int, lengths: list[int]) -> None:
    assert [len(tickets_) for tickets_ in Order(size, batch, 0).tickets(0)] == lengths


def test_balanced_sampling_draws_rare_classes_as_often() -> None:
    weights = np.where(np.arange(1000) < 100, 9.0, 1.0)
    drawn = [index for batch in Order(1000, 10, 0, weights).tickets(0) for index, _ in batch]
    assert 400 < sum(index < 100 for index in drawn) < 600


@pytest.mark.parametrize("augment", get_args(AugmentName))
def test_the_same_feed_twice_gives_the_same_batches(tmp_path: Path, augment: AugmentName) -> None:
    one, two = (list(make_feed(tmp_path, augment).epoch(1)) for _ in range(2))
    assert len(one) == 5
    for first, second in zip(one, two, strict=True):
        assert torch.equal(first.images, second.images)
        assert torch.equal(first.targets, second.targets)
        assert first.images.shape == (4, 3, 16, 16)
        assert 0 <= first.images.min() <= first.images.max() <= 1


def test_augmentation_draws_differ_between_epochs(feed: Feed) -> None:
    first, second = (torch.cat([batch.images for batch in feed.epoch(epoch)]) for epoch in (0, 1))
    assert not torch.equal(first.sum((1, 2, 3)).sort().values, second.sum((1, 2, 3)).sort().values)


def test_a_cut_epoch_goes_on_as_if_it_had_not_been_cut(feed: Feed) -> None:
    whole, rest = list(feed.epoch(2)), list(feed.epoch(2, start=3))
    assert len(rest) == 2
    assert all(torch.equal(a.images, b.images) for a, b in zip(whole[3:], rest, strict=True))


def test_mixing_depends_on_the_ticket_alone(tmp_path: Path) -> None:
    mixed = make_feed(tmp_path, mix=Mix(3, mixup=0.4, cutmix=1.0))
    whole, rest = list(mixed.epoch(0)), list(mixed.epoch(0, start=2))
    assert all(torch.equal(a.targets, b.targets) for a, b in zip(whole[2:], rest, strict=True))
    assert whole[0].targets.shape == (4, 3)
    assert torch.allclose(whole[0].targets.sum(1), torch.ones(4))


def test_workers_do_not_matter(tmp_path: Path) -> None:
    mix = Mix(3, mixup=0.4, cutmix_within=1.0)
    alone, helped = make_feed(tmp_path, mix=mix), make_feed(tmp_path, mix=mix, workers=2)
    for first, second in zip(alone.epoch(0), helped.epoch(0), strict=True):
        assert torch.equal(first.images, second.images)
        assert torch.equal(first.targets, second.targets)


def test_an_epoch_of_any_length_goes_through_all_images_alike() -> None:
    longer = [index for batch in Order(10, 5, 3, length=30).tickets(0) for index, _ in batch]
    assert sorted(longer) == sorted([*range(10)] * 3)
    shorter = [index for batch in Order(30, 5, 3, length=10).tickets(0) for index, _ in batch]
    assert len(set(shorter)) == 10 == 5 * Order(30, 5, 3, length=10).steps


def test_copies_come_back_in_turn() -> None:
    order = Order(6, 3, 0, copies=2)
    epochs = [dict(ticket for batch in order.tickets(epoch) for ticket in batch) for epoch in range(4)]
    assert epochs[0] == epochs[2] != epochs[1] == epochs[3]
