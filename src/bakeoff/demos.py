"""The built-in studies: handwritten digits, and scenes of them, for all four tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bakeoff.data.dataset import TaskName
from bakeoff.data.digits import write_digits
from bakeoff.data.scenes import write_scenes

STUDIES: dict[TaskName, dict[str, Any]] = {
    "classification": {
        "size": 32,
        "seeds": 3,
        "recipe": {"epochs": 12, "batch": 64, "augment": "digits", "stages": [{"rate": 3e-3, "warmup": 0.1}]},
        "candidates": ["small:mlp", "small:cnn", "small:resnet"],
    },
    "semantic": {
        "size": 64,
        "seeds": 3,
        "recipe": {"epochs": 20, "batch": 8, "augment": "digits", "stages": [{"rate": 3e-3, "warmup": 0.1}]},
        "candidates": ["small:unet", "small:fcn"],
    },
    "detection": {
        "size": 64,
        "seeds": 3,
        "recipe": {"epochs": 20, "batch": 16, "augment": "digits", "stages": [{"rate": 3e-3, "warmup": 0.1}]},
        "candidates": ["small:faster_rcnn", "small:fcos"],
    },
    "instance": {
        "size": 64,
        "seeds": 3,
        "recipe": {"epochs": 15, "batch": 16, "augment": "digits", "stages": [{"rate": 3e-3, "warmup": 0.1}]},
        "candidates": [
            "small:mask_rcnn",
            {"name": "mask_rcnn narrow", "model": {"arch": "small:mask_rcnn", "options": {"width": 12}}},
        ],
    },
}


def folder(task: str) -> Path:
    """Return where the study of a task goes when nobody says where."""
    return Path("bakeoff-demo" if task == "classification" else f"bakeoff-demo-{task}")


def data(task: TaskName, folder: Path) -> Path:
    """Write a task's data into the study's folder, unless they are there, and return their own folder."""
    return write_digits(folder / "digits") if task == "classification" else write_scenes(folder / "scenes", task)
