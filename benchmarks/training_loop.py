"""What bakeoff's loop costs over a bare loop.

An epoch with tickets, cache, augmentation and facts against forward, backward and step on batches that are in memory
already; both in turn in one process; medians and the median ratio.

    python benchmarks/training_loop.py [rounds]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from bakeoff.data.augment import Augment, AugmentName, Mix
from bakeoff.data.load import Batch, Feed
from bakeoff.models import build
from bakeoff.models.spec import ModelSpec
from bakeoff.tasks.classification import Classification
from bakeoff.tasks.inference import Conditions
from bakeoff.train.loop import State, train
from bakeoff.train.recipe import Recipe

IMAGES, BATCH, CLASSES = 512, 32, 10
TASK = Classification(tuple(f"class {number}" for number in range(CLASSES)))


def fresh(arch: str, size: int) -> State:
    """Return a network at step 0."""
    torch.manual_seed(0)
    network = build(ModelSpec(arch=arch, weights="none"), CLASSES, size)
    return State(network, Recipe(epochs=1, batch=BATCH), Conditions())


def bare(arch: str, batches: list[Batch], size: int) -> float:
    """Return the seconds of an epoch without anything around it."""
    state = fresh(arch, size)
    state.network.train()
    began = time.perf_counter()
    for batch in batches:
        loss = TASK.loss(state.network, batch)
        state.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        state.optimiser.step()
    return time.perf_counter() - began


def whole(arch: str, feed: Feed, size: int) -> float:
    """Return the seconds of an epoch of train()."""
    state = fresh(arch, size)
    began = time.perf_counter()
    for _fact in train(state, TASK, feed):
        pass
    return time.perf_counter() - began


def main() -> None:
    """Print a line for each network, size and augmentation."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    torch.set_num_threads(1)
    cases: list[tuple[str, int, AugmentName]] = [
        ("small:cnn", 32, "none"),
        ("small:cnn", 32, "standard"),
        ("torchvision:resnet18", 64, "none"),
        ("torchvision:resnet18", 64, "standard"),
        ("timm:mobilenetv2_100", 64, "standard"),
    ]
    print(
        f"{'network':24} {'px':>4} {'augment':>9} {'bare s':>8} {'loop s':>8} {'loop/bare':>10}  (median of {rounds})"
    )
    with tempfile.TemporaryDirectory() as folder:
        for arch, size, augment in cases:
            path = Path(folder) / f"{size}.npy"
            np.save(path, np.random.default_rng(0).integers(0, 255, (IMAGES, size, size, 3), np.uint8))
            targets = np.arange(IMAGES) % CLASSES
            feed = Feed(path, np.arange(IMAGES), targets, Augment(augment, size), Mix(CLASSES), BATCH, 0)
            resident = [batch.to("cpu") for batch in feed.epoch(0)]
            pairs = [(bare(arch, resident, size), whole(arch, feed, size)) for _ in range(rounds + 1)][1:]
            plain, looped = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
            ratio = statistics.median(loop / base for base, loop in pairs)
            print(f"{arch:24} {size:4} {augment:>9} {plain:8.3f} {looped:8.3f} {ratio:6.2f}")


if __name__ == "__main__":
    main()
