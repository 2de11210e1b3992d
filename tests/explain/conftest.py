"""Tiny networks to explain, one per task, random but sure enough to find something."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bakeoff.data.dataset import TaskName
from bakeoff.models import build
from bakeoff.models.spec import ModelSpec
from bakeoff.models.trained import Trained, save

SIZE = 32
CLASSES = ("cat", "dog", "owl")
ARCHS: dict[TaskName, str] = {
    "classification": "small:cnn",
    "semantic": "small:unet",
    "detection": "small:fcos",
    "instance": "small:mask_rcnn",
}
Make = Callable[..., Trained]


@pytest.fixture(scope="session")
def make() -> Make:
    """Return a function that builds a model of an architecture for a task."""

    def model(arch: str, task: TaskName = "classification", **options: int) -> Trained:
        spec = ModelSpec(arch=arch, weights="none", options=dict(options))
        torch.manual_seed(5)
        network = build(spec, len(CLASSES), SIZE, task).eval()
        for name, parameter in network.named_parameters():
            if name.endswith("cls_logits.bias"):  # at their start detectors find nothing
                torch.nn.init.zeros_(parameter)
            if name.endswith(("second.1.weight", "cls_logits.weight")):  # and residual branches are silent
                torch.nn.init.normal_(parameter)
        return Trained(network, spec, task, CLASSES, SIZE, "squash")

    return model


@pytest.fixture(scope="session")
def photo() -> torch.Tensor:
    """Return an image (1, 3, 32, 32) of smooth blobs."""
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(1, 3, 5, 5, generator=generator)
    return torch.nn.functional.interpolate(coarse, (SIZE, SIZE), mode="bilinear")


@pytest.fixture
def photo_file(photo: torch.Tensor, tmp_path: Path) -> Path:
    """Return the same image as a file."""
    pixels = (255 * photo[0].permute(1, 2, 0).numpy()).astype(np.uint8)
    Image.fromarray(pixels).resize((80, 60)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def saved(make: Make, tmp_path: Path) -> Callable[[TaskName], Path]:
    """Return a function that writes a model of a task and returns its folder."""

    def write(task: TaskName) -> Path:
        folder = tmp_path / task
        save(folder, make(ARCHS[task], task))
        return folder

    return write
