"""Trained model x image files -> predictions, with the very preprocessing that training saw."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bakeoff.data.cache import Counter
from bakeoff.data.decode import Resize, decode_resized
from bakeoff.data.frame import Frame, restored
from bakeoff.data.targets import Boxes, Label, LabelMap, Target
from bakeoff.errors import UnreadableImage, UsageError
from bakeoff.predict.inputs import find_images
from bakeoff.predict.opening import open_predictor
from bakeoff.predict.predictor import Predictor

if TYPE_CHECKING:
    from bakeoff.models.trained import Trained

DECODERS = (4, 16)  # threads, at least and at most: Pillow lets go of the interpreter while it decodes
THRESHOLD = 0.5


@dataclass(frozen=True)
class Prediction:
    """What the model says of one file.

    Classification: the most probable class, its probability, and that of every class.  The other tasks: `target` is a
    LabelMap, Boxes or Instances in the pixels of the image as it is seen upright, whose numbers mean `classes`; `mask`
    and `overlay` are the paths of the pictures that were made of it.  For a file that cannot be used, `error` says why
    and the rest is None.
    """

    path: str
    label: str | None = None
    probability: float | None = None
    scores: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    target: Target | None = None
    classes: tuple[str, ...] = ()
    mask: str | None = None
    overlay: str | None = None


@dataclass(frozen=True)
class Read:
    """One file brought to the frame, or why it could not be read."""

    path: Path
    pixels: NDArray[np.uint8] | None = None
    frame: Frame | None = None
    error: str | None = None


def predict(
    model: Predictor | Trained | Path | str,
    inputs: Iterable[Path | str],
    batch: int | None = None,
    device: str = "auto",
    threshold: float = THRESHOLD,
    progress: Counter | None = None,
) -> Iterator[Prediction]:
    """Predict images, folders (searched through, hidden names left out) and glob patterns, in order, as they are read.

    `model` is a predictor, a trained model, or the path of one or of an exported file (see open_predictor); `batch`
    images are decoded and predicted at a time (None: as many as in evaluations of the task).  Objects with a score
    below `threshold` are left out.  A file that cannot be read is told in its prediction's `error` and the others go
    on.  Raises UsageError for an input that does not exist, DataError when there is no image at all or the model cannot
    be read, before anything is predicted.
    """
    if batch is not None and batch < 1:
        raise UsageError(f"batch must be at least 1, got {batch}")
    if not 0 <= threshold <= 1:
        raise UsageError(f"threshold must lie in 0 to 1, got {threshold}")
    paths = find_images(inputs)
    predictor = open_predictor(model, device)
    found = _predictions(predictor, _batches(paths, predictor, batch or predictor.batch), threshold)
    return found if progress is None else _counted(found, len(paths), progress)


def _counted(predictions: Iterator[Prediction], total: int, progress: Counter) -> Iterator[Prediction]:
    """Tell how many are done."""
    for done, found in enumerate(predictions, 1):
        yield found
        progress(done, total)


def _predictions(predictor: Predictor, batches: Iterable[list[Read]], threshold: float) -> Iterator[Prediction]:
    """Yield the predictions of files, batch by batch."""
    for chunk in batches:
        images = [read.pixels for read in chunk if read.pixels is not None]
        found = iter(predictor(np.stack(images)) if images else ())
        for read in chunk:
            if read.frame is None:
                yield Prediction(str(read.path), error=read.error)
            else:
                yield _prediction(read.path, next(found), read.frame, predictor.classes, threshold)


def _prediction(path: Path, target: Target, frame: Frame, classes: tuple[str, ...], threshold: float) -> Prediction:
    """Give a target in the frame the names of its classes, or bring it to the image's own pixels."""
    if not _finite(target):
        return Prediction(str(path), error="the model's probabilities are not finite for this image")
    if isinstance(target, Label):
        scores = target.scores or ()
        best = int(np.argmax(scores))
        return Prediction(str(path), classes[best], scores[best], dict(zip(classes, scores, strict=True)))
    if isinstance(target, Boxes) and target.scores is not None:
        target = target.take(target.scores >= threshold)  # before masks are brought to a large image
    return Prediction(str(path), target=restored(target, frame), classes=classes)


def _finite(target: Target) -> bool:
    """Say whether every number of a prediction is one."""
    if isinstance(target, Boxes):
        return bool(np.isfinite(target.xyxy).all() and (target.scores is None or np.isfinite(target.scores).all()))
    scores = target.scores if isinstance(target, Label | LabelMap) else None
    return scores is None or bool(np.isfinite(scores).all())


def _batches(paths: Sequence[Path], predictor: Predictor, batch: int) -> Iterator[list[Read]]:
    """Yield read files in batches, the next batch being decoded while this one is used."""
    waiting: deque[list[Future[Read]]] = deque()
    with ThreadPoolExecutor(decoders()) as pool:
        for start in range(0, len(paths), batch):
            chunk = paths[start : start + batch]
            waiting.append([pool.submit(_read, path, predictor.size, predictor.resize) for path in chunk])
            if len(waiting) > 1:
                yield [future.result() for future in waiting.popleft()]
        while waiting:
            yield [future.result() for future in waiting.popleft()]


def decoders() -> int:
    """Return how many threads decode: one for every processor, within bounds."""
    return min(max(os.cpu_count() or 1, DECODERS[0]), DECODERS[1])


def _read(path: Path, size: int, policy: Resize) -> Read:
    """Decode and resize one file, or say why it cannot be."""
    try:
        pixels, (width, height) = decode_resized(path, size, policy)
    except UnreadableImage as error:
        return Read(path, error=error.reason)
    return Read(path, pixels, Frame(width, height, size, policy))
