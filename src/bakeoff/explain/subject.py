"""The subject of an explanation: which of a network's statements about an image is to be explained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bakeoff.data.dataset import TaskName
from bakeoff.data.targets import GROUNDS
from bakeoff.errors import DataError, UsageError, nearest
from bakeoff.models.spec import Network

THRESHOLD = "score_thresh"  # torchvision's name for the least score that an object must have
MASKS = "mask_predictor"  # and for the part without which it makes none
Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Subject:
    """One statement about an image: a class of it, of its pixels, or of one object in it.

    `index` and `label` are the class and `probability` is how sure the network is of it: of the image, on average over
    the pixels, or the object's score.  `region` (S, S) bool are the pixels that the network gives this class (semantic
    segmentation), `box` are the object's corners in the image's pixels (detection, instances).
    """

    task: TaskName
    index: int
    label: str
    probability: float = 1.0
    region: Tensor | None = None
    box: Box | None = None

    def value(self, network: Network, images: Tensor) -> Tensor:
        """Return what gradients are taken of, (B,) for images (B, 3, S, S), with a gradient.

        The class's logit; for label maps its mean over the region (Vinogradova et al. 2020 take the sum); for objects
        their score, see sure().
        """
        if self.box is not None:
            return self.sure(network, images)
        return self._class(network(images).float())

    def sure(self, network: Network, images: Tensor) -> Tensor:
        """Return how sure the network is, (B,) in 0..1, with a gradient.

        For objects the largest product of score and IoU with the box among what it finds of this class, 0 where it
        finds nothing (the similarity of D-RISE, Petsiuk et al. 2021).
        """
        if self.box is None:
            return self._class(network(images).float().softmax(dim=1))
        with scores_alone(network):
            found = network(images)
        likely = [self._object(one) for one in found]
        return torch.stack(likely) + 0.0 * images.sum(dim=(1, 2, 3))  # has a gradient where nothing is found, too

    def _class(self, scores: Tensor) -> Tensor:
        """Take the class's score, on average over the region."""
        own = scores[:, self.index]
        return own if self.region is None else own[:, self.region].mean(dim=1)

    def _object(self, found: dict[str, Tensor]) -> Tensor:
        """Return score x IoU of the best match among one image's objects."""
        from torchvision.ops import box_iou

        own = found["labels"] == self.index
        if not bool(own.any()):
            return found["scores"].new_zeros(()).float()
        boxes, scores = found["boxes"][own].detach().float(), found["scores"][own].float()
        overlap = box_iou(boxes.new_tensor([self.box]), boxes)[0]
        best: Tensor = (scores * overlap)[(scores.detach() * overlap).argmax()]
        return best


@contextmanager
def scores_alone(network: nn.Module) -> Iterator[None]:
    """Let detectors of torchvision's return boxes of any score, since a threshold has no gradient, and no masks."""
    kept = [
        (module, name, getattr(module, name))
        for module in network.modules()
        for name in (THRESHOLD, MASKS)
        if hasattr(module, name)
    ]
    for module, name, _ in kept:
        setattr(module, name, 0.0 if name == THRESHOLD else None)
    try:
        yield
    finally:
        for module, name, value in kept:
            setattr(module, name, value)


def find_subject(
    network: Network, task: TaskName, classes: Sequence[str], image: Tensor, wanted: str | None = None
) -> Subject:
    """Choose what to explain in an image (1, 3, S, S): the class named `wanted`, or what the network is surest of.

    classification  the most probable class
    semantic        the class with most pixels; "background" and its like only where there is no other
    detection       the object with the highest score, of the class where one is wanted; likewise instance

    Raises UsageError for a class that there is not, DataError when the network finds nothing of it in this image.
    """
    index = None if wanted is None else _class_index(wanted, classes)
    with torch.no_grad():
        return CHOICES[task](network, classes, image, index)


def _class_index(name: str, classes: Sequence[str]) -> int:
    """Return the index of a class by its name."""
    if name not in classes:
        some = ", ".join(classes[:8]) + (", …" if len(classes) > 8 else "")
        raise UsageError(f"the model has no class {name!r}{nearest(name, classes)}; it has {some}")
    return list(classes).index(name)


def _of_image(network: Network, classes: Sequence[str], image: Tensor, wanted: int | None) -> Subject:
    """Choose a class of the whole image."""
    scores = network(image).float().softmax(dim=1)[0]
    index = int(scores.argmax()) if wanted is None else wanted
    return Subject("classification", index, classes[index], float(scores[index]))


def _of_pixels(network: Network, classes: Sequence[str], image: Tensor, wanted: int | None) -> Subject:
    """Choose a class of pixels, and the pixels that have it."""
    scores = network(image).float().softmax(dim=1)[0]
    labels = scores.argmax(dim=0)
    tally = torch.bincount(labels.flatten(), minlength=len(classes)).tolist()
    order = sorted(range(len(classes)), key=lambda i: (tally[i] == 0, classes[i].casefold() in GROUNDS, -tally[i], i))
    index = order[0] if wanted is None else wanted
    region = labels == index
    if not tally[index]:
        there = ", ".join(classes[i] for i in order[:5] if tally[i])
        raise DataError(f"the model gives no pixel of this image the class {classes[index]!r}; it sees {there}")
    return Subject("semantic", index, classes[index], float(scores[index][region].mean()), region)


def _of_objects(task: TaskName) -> Callable[[Network, Sequence[str], Tensor, int | None], Subject]:
    """Return the function that chooses an object for a task."""

    def choose(network: Network, classes: Sequence[str], image: Tensor, wanted: int | None) -> Subject:
        found: dict[str, Any] = network(image)[0]
        labels = found["labels"].tolist()
        own = [place for place, label in enumerate(labels) if wanted in (None, label)]
        if not own:
            raise DataError(f"the model finds no {'object' if wanted is None else classes[wanted]} in this image")
        best = max(own, key=lambda place: (float(found["scores"][place]), -place))
        index, score = int(labels[best]), float(found["scores"][best])
        left, top, right, bottom = (float(value) for value in found["boxes"][best])
        return Subject(task, index, classes[index], score, box=(left, top, right, bottom))

    return choose


CHOICES: Mapping[TaskName, Callable[[Network, Sequence[str], Tensor, int | None], Subject]] = {
    "classification": _of_image,
    "semantic": _of_pixels,
    "detection": _of_objects("detection"),
    "instance": _of_objects("instance"),
}
