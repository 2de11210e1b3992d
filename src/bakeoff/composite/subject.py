"""What is cut out of a picture: a class that a model finds, what GrabCut finds in the middle, or a given mask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from bakeoff.composite.planes import Pixels, Plane
from bakeoff.data.decode import opened
from bakeoff.data.draw import is_clear
from bakeoff.data.expand import grabcut
from bakeoff.data.expand.onnx_matting import FAMILIES, OnnxMatting
from bakeoff.data.formats.listing import is_image
from bakeoff.data.frame import Frame
from bakeoff.data.masks import to_pixels
from bakeoff.data.targets import Boxes, Instances, LabelMap, Target
from bakeoff.errors import DataError, UsageError, nearest
from bakeoff.predict import Predictor, open_predictor
from bakeoff.predict.framing import Whole
from bakeoff.predict.opening import is_onnx

GRABCUT = "grabcut"
SEED = 0  # of GrabCut's colour clusters
TASKS = ("semantic", "instance")
LEAST = 2e-4  # share of the pixels: 8 x 8 of 640 x 480


@dataclass(frozen=True)
class Found:
    """How surely each pixel is the subject's, (H, W) in 0..1, and what the subject is called."""

    mask: Plane
    name: str

    @property
    def anything(self) -> bool:
        """Say whether anything is found."""
        return is_seen(self.mask)

    @property
    def problem(self) -> str | None:
        """Why the mask cannot be used, None where it can."""
        return None if np.isfinite(self.mask).all() else "the model's probabilities are not finite for this image"


def is_seen(plane: Plane) -> bool:
    """Say whether enough of a mask or matte is more than half the subject's for it to be one."""
    return bool((plane >= 0.5).mean() >= LEAST)


class Subject(Protocol):
    """Finds what is to be cut out."""

    def __call__(self, image: Pixels) -> Found:
        """Return what is found in an image (H, W, 3) uint8 RGB.  Raises DataError where the tool itself fails."""
        ...

    def settled(self, found: Found) -> Subject:
        """Return what finds the same thing in the other frames of a video as it found in one."""
        ...


@dataclass(frozen=True)
class ModelSubject:
    """A class of a semantic or instance model; `wanted` None: the one with most pixels in each image.

    Objects with a score below `threshold` are left out; all others of the class are cut out together.
    """

    predictor: Predictor
    wanted: int | None = None
    threshold: float = 0.5

    def __call__(self, image: Pixels) -> Found:
        """Return the probability of the class, or the union of its objects' masks."""
        predictor = self.predictor
        views, size = Whole(predictor.size, predictor.resize).views(image)
        planes = _planes(next(iter(predictor(np.stack(views)))), len(predictor.classes), self.threshold)
        index = self.wanted if self.wanted is not None else _largest(planes, predictor.classes)
        frame = Frame(*size, predictor.size, predictor.resize)
        return Found(to_image(planes[index], frame), predictor.classes[index])

    def settled(self, found: Found) -> ModelSubject:
        """Stay with the class that was found."""
        return replace(self, wanted=self.predictor.classes.index(found.name)) if found.anything else self


@dataclass(frozen=True)
class ToolSubject:
    """What a function (image, seed) -> matte takes for foreground: GrabCut, or the user's own matting network."""

    matting: Callable[[Pixels, int], Plane]
    name: str

    def __call__(self, image: Pixels) -> Found:
        """Return its matte."""
        return Found(self.matting(image, SEED), self.name)

    def settled(self, found: Found) -> ToolSubject:  # noqa: ARG002
        """Return itself."""
        return self


@dataclass(frozen=True)
class MaskSubject:
    """A given mask, brought to the size of each image."""

    mask: Plane
    name: str

    def __call__(self, image: Pixels) -> Found:
        """Return the mask at the image's size."""
        size = (image.shape[1], image.shape[0])
        smaller = size[0] < self.mask.shape[1]
        how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
        return Found(np.asarray(cv2.resize(self.mask, size, interpolation=how), np.float32), self.name)

    def settled(self, found: Found) -> MaskSubject:  # noqa: ARG002
        """Return itself."""
        return self


def open_subject(
    model: str, find: Callable[[Path], Path], wanted: str | None = None, threshold: float = 0.5, device: str = "auto"
) -> Subject:
    """Return what "grabcut", a mask's file, or a path of a model means; `find` resolves a study to its winner.

    An .onnx file with the name of a published matting network (u2net, isnet, birefnet) is one; others are exports.
    Raises UsageError for a class that the model does not have or a model that gives no masks, and DataError.
    """
    path = Path(model)
    plain = "".join(letter for letter in path.stem.casefold() if letter.isalnum())
    published = is_onnx(path) and any(name in plain for name in FAMILIES)
    if model == GRABCUT or published or is_image(path.name):
        if wanted is not None:
            raise UsageError(f"{model}: knows no classes; leave --class {wanted} out, or name a trained model")
        if model == GRABCUT:
            return ToolSubject(grabcut.matte, "foreground")
        return ToolSubject(OnnxMatting(path), "foreground") if published else read_mask(path)
    if not path.exists():
        raise UsageError(f"{model}: no such model or mask{nearest(model, [GRABCUT])}; it may also be {GRABCUT}")
    predictor = open_predictor(path if is_onnx(path) else find(path), device)
    if predictor.task not in TASKS:
        raise UsageError(
            f"{model}: a {predictor.task} model gives no masks to cut along; name a semantic or instance one"
        )
    return ModelSubject(predictor, None if wanted is None else _index(wanted, predictor.classes), threshold)


def read_mask(path: Path) -> MaskSubject:
    """Read a mask: its transparency where it has one, else its brightness; of two values the higher is the subject.

    Raises UnreadableImage, UsageError where the file is missing, and DataError when all of it has one value.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such mask; it may also be {GRABCUT} or a trained model")
    with opened(path, None) as image:
        image.load()
        clear = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
        values = np.asarray(image.convert("L") if clear is None else clear, np.float32)
    low, high = float(values.min()), float(values.max())
    if low == high:
        raise DataError(
            f"{path}: this mask has the value {low:g} everywhere; the subject should be brighter than the rest"
        )
    two = bool(((values == low) | (values == high)).all())
    levels = (values - low) / (high - low) if two else values / 255
    return MaskSubject(np.asarray(levels, np.float32), "mask")


def to_image(plane: Plane, frame: Frame) -> Plane:
    """Bring a plane (S, S) in 0..1 from a frame to its image (H, W), smoothly; 0 where the frame does not reach."""
    (across, down), (left, top) = frame.scale, frame.offset
    back = np.array([[across, 0, across / 2 + left - 0.5], [0, down, down / 2 + top - 0.5]])
    how = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    found = cv2.warpAffine(plane, back, (frame.width, frame.height), flags=how, borderMode=cv2.BORDER_REPLICATE)
    seen = frame.image_pixels(np.ones(plane.shape, np.uint8), 0)
    return np.asarray(np.clip(found, 0, 1) * seen, np.float32)


def _planes(target: Target, classes: int, threshold: float) -> Plane:
    """Return how surely each pixel of the frame is each class's, (classes, S, S)."""
    if isinstance(target, LabelMap):
        if target.scores is not None:
            return np.asarray(target.scores, np.float32)
        own = target.pixels == np.arange(classes)[:, None, None]
        return np.asarray(own, np.float32)
    assert isinstance(target, Boxes), "labels have been refused"
    width, height = target.size
    planes = np.zeros((classes, height, width), np.float32)
    kept = target if target.scores is None else target.take(target.scores >= threshold)
    if isinstance(kept, Instances):
        for label, mask in zip(kept.labels.tolist(), kept.masks, strict=True):
            planes[label][to_pixels(mask, kept.size)] = 1
    return planes


def _largest(planes: Plane, classes: Sequence[str]) -> int:
    """Return the class with most pixels, of those that are no background."""
    own = [index for index, name in enumerate(classes) if not is_clear(name)] or list(range(len(classes)))
    best = np.where(planes.max(axis=0) >= 0.5, planes.argmax(axis=0), -1)
    return max(own, key=lambda index: (int((best == index).sum()), float(planes[index].sum())))


def _index(name: str, classes: Sequence[str]) -> int:
    """Return the index of a class by its name."""
    if name not in classes:
        raise UsageError(f"class {name!r} is unknown{nearest(name, classes)}; the model knows {', '.join(classes)}")
    return classes.index(name)
