"""What an exported file takes and gives, what it says of itself, and how its arrays become predictions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from bakeoff.data.dataset import TaskName
from bakeoff.data.decode import Resize
from bakeoff.data.masks import to_runs
from bakeoff.data.targets import Boxes, Instances, Label, LabelMap, Target
from bakeoff.errors import DataError
from bakeoff.tasks.matching import DETECTIONS

FORMAT, SCHEMA_VERSION = "bakeoff export", 1
INPUT = "images"
OUTPUTS: Mapping[TaskName, tuple[str, ...]] = {
    "classification": ("probabilities",),
    "semantic": ("probabilities",),
    "detection": ("boxes", "labels", "scores"),
    "instance": ("boxes", "labels", "scores", "masks"),
}
Arrays = Sequence[NDArray[Any]]
Run = Callable[[NDArray[np.uint8]], Arrays]  # images that the file takes at once -> its outputs, in their order


@dataclass(frozen=True)
class Interface:
    """How to use an exported file: `images` (B, size, size, 3) uint8 RGB go in; by task come out what follows.

    classification  probabilities (B, classes)
    semantic        probabilities (B, classes, size, size)
    detection       of one image: boxes (N, 4) x1 y1 x2 y2 in its pixels, labels (N,) from 0, scores (N,)
    instance        the same with masks (N, size, size), the probability that a pixel belongs to the object

    `resize` is how an image is brought to `size` (see data.decode.resize), `batch` the only number of images that the
    file takes at once (None: any), and `model` the content of the trained model's model.json.
    """

    task: TaskName
    classes: tuple[str, ...]
    size: int
    resize: Resize
    batch: int | None = None
    model: Mapping[str, Any] = field(default_factory=dict)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of what comes out, in order."""
        return OUTPUTS[self.task]

    @property
    def info(self) -> Mapping[str, Any]:
        """Where the trained model comes from: study, data, metrics."""
        found: Mapping[str, Any] = self.model.get("info", {})
        return found

    def to_metadata(self) -> dict[str, str]:
        """Return what is written into the file, a text for each key; lists and the model are JSON."""
        return {
            "format": FORMAT,
            "schema_version": str(SCHEMA_VERSION),
            "task": self.task,
            "classes": json.dumps(list(self.classes)),
            "size": str(self.size),
            "resize": self.resize,
            "batch": "any" if self.batch is None else str(self.batch),
            "model": json.dumps(self.model, sort_keys=True, allow_nan=False),
        }

    @classmethod
    def from_metadata(cls, content: Mapping[str, str], path: Path) -> Interface:
        """Rebuild from to_metadata().  Raises DataError for a file that `bakeoff export` did not make."""
        if content.get("format") != FORMAT:
            raise DataError(f"{path}: was not made by `bakeoff export`: it does not say its task, classes and size")
        if content.get("schema_version") != str(SCHEMA_VERSION):
            version = content.get("schema_version")
            raise DataError(f"{path}: has schema version {version}, this bakeoff reads {SCHEMA_VERSION}: export anew")
        try:
            task, resize, batch = content["task"], content["resize"], content["batch"]
            if task not in get_args(TaskName) or resize not in get_args(Resize):
                raise ValueError(f"task {task!r}, resize {resize!r}")
            classes, size = tuple(json.loads(content["classes"])), int(content["size"])
            fixed = None if batch == "any" else int(batch)
            return cls(task, classes, size, resize, fixed, json.loads(content["model"]))  # type: ignore[arg-type]
        except (KeyError, ValueError) as error:
            raise DataError(f"{path}: what it says of itself is damaged ({error}): export it anew") from None


def label_images(interface: Interface, run: Run, pixels: NDArray[np.uint8]) -> list[Target]:
    """Return a prediction per image of `pixels` (B, S, S, 3) from `run`, as many at once as the file takes."""
    step = interface.batch or max(1, len(pixels))
    chunks = (np.ascontiguousarray(pixels[start : start + step]) for start in range(0, len(pixels), step))
    return [target for chunk in chunks for target in to_targets(interface, run(chunk))]


def to_targets(interface: Interface, arrays: Arrays) -> list[Target]:
    """Turn the outputs of a file, in their order, into a prediction per image, as the tasks' predict() gives them."""
    if interface.task == "classification":
        return [Label(int(row.argmax()), tuple(row.tolist())) for row in arrays[0]]
    if interface.task == "semantic":
        return [LabelMap(planes.argmax(axis=0).astype(np.uint8), planes) for planes in arrays[0]]
    return [_objects(interface, dict(zip(interface.outputs, arrays, strict=True)))]


def _objects(interface: Interface, found: Mapping[str, NDArray[Any]]) -> Boxes:
    """Return the objects of one image, best first, at most DETECTIONS."""
    size = (interface.size, interface.size)
    order = np.argsort(-found["scores"], kind="stable")[:DETECTIONS]
    boxes = Boxes(size, found["boxes"][order], found["labels"][order], found["scores"][order])
    if interface.task == "detection":
        return boxes
    masks = tuple(to_runs(found["masks"][place] >= 0.5, size) for place in order)
    return Instances(size, boxes.xyxy, boxes.labels, boxes.scores, masks=masks)
