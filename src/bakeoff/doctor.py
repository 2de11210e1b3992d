"""Check the environment and bakeoff's own promises on tiny data."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

from bakeoff.data.augment import Augment, Mix
from bakeoff.data.cache import build_pixels, open_pixels
from bakeoff.data.digits import write_digits
from bakeoff.data.formats import read
from bakeoff.data.load import Feed
from bakeoff.data.targets import Label
from bakeoff.evaluate.statistics import crossed_t
from bakeoff.findings import Finding, Severity
from bakeoff.models import build
from bakeoff.models.spec import ModelSpec
from bakeoff.models.trained import weights_hash
from bakeoff.tasks.classification import Classification
from bakeoff.tasks.inference import Conditions
from bakeoff.train.loop import State, train
from bakeoff.train.recipe import Recipe, Stage

PACKAGES = ("bakeoff", "torch", "torchvision", "timm", "numpy", "scikit-learn", "pillow")
LOW_DISK, LOW_MEMORY = 5, 4  # GB


def doctor() -> tuple[Finding, ...]:
    """Return findings: `info` for what is in order, `warning` for what may hurt, `error` for what must be mended."""
    with tempfile.TemporaryDirectory() as folder:
        feed = _feed(Path(folder))
        checks: tuple[Callable[[], Finding], ...] = (
            _versions,
            _device,
            _disk,
            _memory,
            lambda: _resumes(feed),
            lambda: _overfits(feed),
            _statistics,
        )
        return tuple(check() for check in checks)


def _versions() -> Finding:
    named = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    return Finding("versions", "info", f"Python {platform.python_version()}, {named}")


def _device() -> Finding:
    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count()))
        return Finding("device", "info", f"GPU: {names}")
    return Finding("device", "info", f"no GPU that torch can use; runs will share {os.cpu_count()} processor cores")


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    severity: Severity = "warning" if free < LOW_DISK else "info"
    return Finding("disk", severity, f"{free:.0f} GB are free in the working folder")


def _memory() -> Finding:
    if not hasattr(os, "sysconf"):
        return Finding("memory", "info", "memory: not applicable because this system does not tell")
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    severity: Severity = "warning" if size < LOW_MEMORY else "info"
    return Finding("memory", severity, f"{size:.0f} GB of memory")


def _feed(folder: Path) -> Feed:
    """Return 32 digits to train on."""
    dataset = read(write_digits(folder / "digits", 16))
    rows = np.arange(0, len(dataset), len(dataset) // 32)[:32]
    targets = [record.target for record in dataset.records]
    pixels = build_pixels(dataset, folder, 16)
    return Feed(pixels, rows, targets, rows, Augment("digits", 16), Mix(len(dataset.classes)), batch=8, seed=0)


def _state(epochs: int, rate: float = 1e-2) -> State:
    torch.manual_seed(0)
    recipe = Recipe(epochs=epochs, batch=8, stages=(Stage(rate=rate, schedule="constant"),))
    return State(build(ModelSpec(arch="small:cnn"), 10, 16), recipe, Conditions())


def _resumes(feed: Feed) -> Finding:
    """Train twice, once with a cut in the middle of an epoch: the weights must be equal to the last bit."""
    task = Classification(tuple("0123456789"))
    whole, cut = _state(2), _state(2)
    list(train(whole, task, feed))
    for _fact in train(cut, task, feed):
        if cut.step == 5:
            break
    again = _state(2)
    again.restore(cut.export())
    list(train(again, task, feed))
    if weights_hash(whole.network) == weights_hash(again.network):
        return Finding("resume", "info", "a run that is cut and resumed ends with the same weights, bit by bit")
    return Finding("resume", "error", "a resumed run ends with other weights: results here are not repeatable")


def _overfits(feed: Feed) -> Finding:
    """Fit 32 images: if a small network cannot, the training loop or the installation is broken."""
    task, state = Classification(tuple("0123456789")), _state(25, rate=3e-3)
    plain = replace(feed, augment=Augment("none", 16))
    labels = torch.tensor([label.index for label in feed.targets if isinstance(label, Label)])[feed.rows]
    list(train(state, task, plain))
    images = torch.from_numpy(np.array(open_pixels(feed.pixels)[feed.rows])).permute(0, 3, 1, 2).float() / 255
    state.network.eval()
    with torch.inference_mode():
        right = int((state.network(images).argmax(1) == labels).sum())
    severity: Severity = "info" if right >= 30 else "error"
    return Finding("overfit", severity, f"a small network learns {right} of 32 digits by heart")


def _statistics() -> Finding:
    """Hold the crossed t against a case worked out by hand: 2 seeds of 2 models on 3 images."""
    a, b = np.array([[1.0, 1, 0], [1, 1, 1]]), np.array([[0.0, 1, 0], [0, 0, 1]])
    found = crossed_t(a, b).difference
    severity: Severity = "info" if abs(found - 0.5) < 1e-12 else "error"
    return Finding(
        "statistics", severity, f"the crossed t gives {found:.3f} for a difference of 0.500 worked out by hand"
    )
