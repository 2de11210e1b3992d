"""What cached features save: a head trained on them against recomputing the frozen backbone at every step.

The same recipe with recipe.cache_features on and off, in turn in one process; the time of the cached run includes
finding the cut and computing the features.  Medians and the median ratio.

    python benchmarks/head_on_features.py [rounds] [epochs]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from bakeoff.data.augment import Augment, AugmentName
from bakeoff.data.load import Feed
from bakeoff.data.mix import Mix
from bakeoff.data.targets import Label
from bakeoff.models import build
from bakeoff.models.spec import ModelSpec
from bakeoff.tasks.classification import Classification
from bakeoff.tasks.inference import Conditions
from bakeoff.train.features import FrozenFeatures
from bakeoff.train.loop import State, train
from bakeoff.train.recipe import Recipe, Stage

IMAGES, BATCH, CLASSES, SIZE = 192, 16, 10, 64
TASK = Classification(tuple(f"class {number}" for number in range(CLASSES)))


def timed(arch: str, feed: Feed, epochs: int, folder: Path | None) -> tuple[float, State]:
    """Return the seconds of training a head, on features kept in `folder` or (None) without, and what it ended with."""
    torch.manual_seed(0)
    network = build(ModelSpec(arch=arch, weights="none"), CLASSES, SIZE)
    stages = (Stage(layers="head", rate=1e-2),)
    recipe = Recipe(epochs=epochs, batch=BATCH, frozen="backbone", stages=stages)
    state = State(network, recipe, Conditions())
    began = time.perf_counter()
    frozen = FrozenFeatures(feed, folder, Conditions(), arch) if folder is not None else None
    for _fact in train(state, TASK, feed, frozen=frozen):
        pass
    if frozen is not None:
        frozen.clear()
    return time.perf_counter() - began, state


def apart(one: State, other: State) -> float:
    """Return the largest difference of the weights of two runs."""
    weights = other.network.state_dict()
    return max(float((weights[name] - value).abs().max()) for name, value in one.network.state_dict().items())


def main() -> None:
    """Print a line for each network and augmentation."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    epochs = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    torch.set_num_threads(1)
    cases: list[tuple[str, AugmentName, int]] = [
        ("timm:mobilenetv2_100", "none", 0),
        ("timm:mobilenetv2_100", "standard", 4),
        ("torchvision:resnet18", "none", 0),
        ("timm:resnet50", "none", 0),
    ]
    print(f"{IMAGES} images of {SIZE} px, {epochs} epochs of the head, median of {rounds}")
    print(
        f"{'network':24} {'augment':>9} {'copies':>6} {'plain s':>8} {'cached s':>9} {'ratio':>6} {'weights apart':>14}"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pixels.npy"
        np.save(path, np.random.default_rng(0).integers(0, 255, (IMAGES, SIZE, SIZE, 3), np.uint8))
        labels = [Label(number % CLASSES) for number in range(IMAGES)]
        rows = np.arange(IMAGES)
        for arch, augment, copies in cases:
            feed = Feed(path, rows, labels, rows, Augment(augment, SIZE), Mix(CLASSES), BATCH, 0, copies=copies)
            pairs = [(timed(arch, feed, epochs, None), timed(arch, feed, epochs, Path(folder))) for _ in range(rounds)]
            plain, cached = (statistics.median(pair[side][0] for pair in pairs) for side in (0, 1))
            ratio = statistics.median(slow[0] / fast[0] for slow, fast in pairs)
            gap = max(apart(slow[1], fast[1]) for slow, fast in pairs)
            print(f"{arch:24} {augment:>9} {copies:6} {plain:8.2f} {cached:9.2f} {ratio:6.1f} {gap:14.1e}", flush=True)


if __name__ == "__main__":
    main()
