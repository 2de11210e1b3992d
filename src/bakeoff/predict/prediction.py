"""Predictor x images -> predictions, with the very preprocessing that training saw."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bakeoff.data.cache import Counter
from bakeoff.data.targets import Boxes, Label, LabelMap, Target
from bakeoff.errors import UnreadableImage, UsageError
from bakeoff.predict.framing import Framing, Whole
from bakeoff.predict.opening import open_predictor
from bakeoff.predict.predictor import Predictor
from bakeoff.predict.sources import Item, Source, find_sources, is_live, items, total
from bakeoff.predict.video import Moment

if TYPE_CHECKING:
    from bakeoff.models.trained import Trained

DECODERS = (4, 16)  # threads, at least and at most: Pillow lets go of the interpreter while it decodes
HELD = 128 << 20  # bytes of frames that are read at a time
THRESHOLD = 0.5


@dataclass(frozen=True)
class Prediction:
    """What the model says of one image: a file, or with a `moment` a frame of a video, then called clip.mp4#000123.

    Classification: the most probable class, its probability, and that of every class; `temperature` is what they were
    calibrated with, if they were.  The other tasks: `target` is a LabelMap, Boxes or Instances in the pixels of the
    image as it is seen upright, whose numbers mean `classes`; `mask` and `overlay` are the paths of the pictures that
    were made of it.  For a file that cannot be used, `error` says why and the rest is None.
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
    moment: Moment | None = None
    temperature: float | None = None

    @property
    def frame(self) -> int | None:
        """The number of the frame in its video, from 0."""
        return None if self.moment is None else self.moment.frame

    @property
    def seconds(self) -> float | None:
        """The time of the frame in its video."""
        return None if self.moment is None else self.moment.seconds


@dataclass(frozen=True)
class Read:
    """An item with its views, and the width and height that it has; or why it could not be read."""

    item: Item
    views: list[NDArray[np.uint8]] = field(default_factory=list)
    size: tuple[int, int] = (0, 0)
    error: str | None = None


def predict(
    model: Predictor | Trained | Path | str,
    inputs: Iterable[Path | str],
    batch: int | None = None,
    device: str = "auto",
    threshold: float = THRESHOLD,
    progress: Counter | None = None,
) -> Iterator[Prediction]:
    """Predict images, folders (searched through, hidden names left out), glob patterns and videos, as they are read.

    `model` is a predictor, a trained model, or the path of one or of an exported file (see open_predictor); `batch`
    images are decoded and predicted at a time (None: as many as in evaluations of the task).  Objects with a score
    below `threshold` are left out.  A file that cannot be read is told in its prediction's `error` and the others go
    on.  Raises UsageError for an input that does not exist, DataError when there is no image at all or the model cannot
    be read, before anything is predicted.
    """
    check(batch, threshold)
    sources = find_sources(inputs)
    found = label(open_predictor(model, device), sources, batch, threshold)
    return found if progress is None else counted(found, total(sources), progress)


def check(batch: int | None, threshold: float) -> None:
    """Raise UsageError for numbers that cannot be."""
    if batch is not None and batch < 1:
        raise UsageError(f"batch must be at least 1, got {batch}")
    if not 0 <= threshold <= 1:
        raise UsageError(f"threshold must lie in 0 to 1, got {threshold}")


def label(
    predictor: Predictor,
    sources: Sequence[Source],
    batch: int | None = None,
    threshold: float = THRESHOLD,
    framing: Framing | None = None,
) -> Iterator[Prediction]:
    """Yield the predictions of images in their order; `framing` None: the whole image, as in training."""
    chosen: Framing = framing or Whole(predictor.size, predictor.resize)
    step = batch or (1 if is_live(sources) else predictor.batch)
    for chunk in _chunks(items(sources), chosen, step if chosen.together is None else chosen.together):
        found = _answers(predictor, (view for read in chunk for view in read.views), step)
        for read in chunk:
            if read.error is not None:
                yield Prediction(read.item.path, error=read.error, moment=read.item.moment)
            else:
                yield _prediction(read, islice(found, len(read.views)), chosen, predictor.classes, threshold)


def counted(predictions: Iterator[Prediction], total: int, progress: Counter) -> Iterator[Prediction]:
    """Tell how many are done, of a total that is 0 where it is not known."""
    for done, found in enumerate(predictions, 1):
        yield found
        progress(done, max(done, total) if total else 0)


def _answers(predictor: Predictor, views: Iterator[NDArray[np.uint8]], batch: int) -> Iterator[Target]:
    """Yield a prediction for every view, asking for `batch` at a time."""
    while chunk := list(islice(views, batch)):
        yield from predictor(np.stack(chunk))


class _NotFinite(Exception):
    """A prediction has numbers that are none."""


def _prediction(
    read: Read, found: Iterator[Target], framing: Framing, classes: tuple[str, ...], threshold: float
) -> Prediction:
    """Join what was found in an image's views, and give it the names of its classes."""
    path, moment = read.item.path, read.item.moment
    try:
        target = framing.joined((_kept(target, threshold) for target in found), read.size)
    except _NotFinite:
        deque(found, maxlen=0)  # the rest of this image's, so that the next image gets its own
        return Prediction(path, error="the model's probabilities are not finite for this image", moment=moment)
    if isinstance(target, Label):
        scores = target.scores or ()
        best = int(np.argmax(scores))
        named = dict(zip(classes, scores, strict=True))
        return Prediction(path, classes[best], scores[best], named, moment=moment)
    return Prediction(path, target=target, classes=classes, moment=moment)


def _kept(target: Target, threshold: float) -> Target:
    """Leave out the objects with a low score, before masks are brought to a large image.  Raises _NotFinite."""
    if not _finite(target):
        raise _NotFinite
    if isinstance(target, Boxes) and target.scores is not None:
        return target.take(target.scores >= threshold)
    return target


def _finite(target: Target) -> bool:
    """Say whether every number of a prediction is one."""
    if isinstance(target, Boxes):
        return bool(np.isfinite(target.xyxy).all() and (target.scores is None or np.isfinite(target.scores).all()))
    scores = target.scores if isinstance(target, Label | LabelMap) else None
    return scores is None or bool(np.isfinite(scores).all())


def _chunks(images: Iterable[Item], framing: Framing, count: int) -> Iterator[list[Read]]:
    """Yield images read in chunks, the next chunk being decoded while this one is used."""
    waiting: deque[list[Future[Read]]] = deque()
    images = iter(images)
    with ThreadPoolExecutor(decoders()) as pool:
        while chunk := _gathered(images, count):
            waiting.append([pool.submit(_read, item, framing) for item in chunk])
            if len(waiting) > 1:
                yield [future.result() for future in waiting.popleft()]
        while waiting:
            yield [future.result() for future in waiting.popleft()]


def _gathered(images: Iterator[Item], count: int) -> list[Item]:
    """Return the next images, fewer where frames of a video would fill the memory."""
    chunk: list[Item] = []
    held = 0
    while len(chunk) < count and held < HELD and (item := next(images, None)) is not None:
        chunk.append(item)
        held += 0 if item.moment is None else item.moment.image.nbytes
    return chunk


def decoders() -> int:
    """Return how many threads decode: one for every processor, within bounds."""
    return min(max(os.cpu_count() or 1, DECODERS[0]), DECODERS[1])


def _read(item: Item, framing: Framing) -> Read:
    """Bring one image to its views, or say why it cannot be."""
    if item.error is not None:
        return Read(item, error=item.error)
    try:
        views, size = framing.views(Path(item.path) if item.moment is None else item.moment.image)
    except UnreadableImage as error:
        return Read(item, error=error.reason)
    return Read(item, views, size)
