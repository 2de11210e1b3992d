"""Trained model x image files -> predictions, with the very preprocessing that training saw."""

from __future__ import annotations

import csv
import glob
import json
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from bakeoff.data.decode import SUFFIXES, Resize, decode, resize
from bakeoff.data.targets import Label
from bakeoff.errors import DataError, UnreadableImage, UsageError, nearest
from bakeoff.findings import printable
from bakeoff.models import trained
from bakeoff.models.trained import Trained
from bakeoff.tasks import TASKS
from bakeoff.tasks.inference import Conditions, choose_device, predict_pixels
from bakeoff.tasks.task import Task

DECODERS = 4  # threads: Pillow lets go of the interpreter while it decodes
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a cell that starts so is run by spreadsheets

Read = tuple[Path, NDArray[np.uint8] | UnreadableImage]


@dataclass(frozen=True)
class Prediction:
    """What the model says of one file: the most probable class, its probability, and that of every class.

    For a file that cannot be used, `error` says why and `label` and `probability` are None.
    """

    path: str
    label: str | None = None
    probability: float | None = None
    scores: dict[str, float] = field(default_factory=dict)
    error: str | None = None


def predict(
    model: Trained | Path | str, inputs: Iterable[Path | str], batch: int = 64, device: str = "auto"
) -> Iterator[Prediction]:
    """Predict images, folders (searched through, hidden names left out) and glob patterns, in order, as they are read.

    `model` is a trained model or the path of one; `batch` images are decoded and predicted at a time.  A file that
    cannot be read is told in its prediction's `error` and the others go on.  Raises UsageError for an input that does
    not exist, DataError when there is no image at all or the model cannot be read, before anything is predicted.
    """
    if batch < 1:
        raise UsageError(f"batch must be at least 1, got {batch}")
    paths = find_images(inputs)
    chosen = choose_device(device)
    ready = model if isinstance(model, Trained) else trained.load(Path(model))
    ready.network.to(chosen)
    return _predictions(ready, paths, batch, Conditions(chosen))


def _predictions(model: Trained, paths: Sequence[Path], batch: int, conditions: Conditions) -> Iterator[Prediction]:
    """Yield the predictions of files, batch by batch."""
    task: Task = TASKS[model.task](model.classes)
    for chunk in _batches(paths, model.size, model.resize, batch):
        images = [image for _, image in chunk if not isinstance(image, UnreadableImage)]
        found = iter(predict_pixels(task, model.network, np.stack(images), conditions) if images else ())
        for path, image in chunk:
            if isinstance(image, UnreadableImage):
                yield Prediction(str(path), error=image.reason)
            else:
                label = next(found)
                scores = label.scores if isinstance(label, Label) else None
                yield _named(path, scores or (), model.classes)


def _named(path: Path, scores: tuple[float, ...], classes: tuple[str, ...]) -> Prediction:
    """Give the scores of one image the names of their classes."""
    if not np.isfinite(scores).all():
        return Prediction(str(path), error="the model's probabilities are not finite for this image")
    best = int(np.argmax(scores))
    return Prediction(str(path), classes[best], scores[best], dict(zip(classes, scores, strict=True)))


def _batches(paths: Sequence[Path], size: int, policy: Resize, batch: int) -> Iterator[list[Read]]:
    """Yield read files in batches, the next batch being decoded while this one is used."""
    waiting: deque[list[Future[Read]]] = deque()
    with ThreadPoolExecutor(DECODERS) as pool:
        for start in range(0, len(paths), batch):
            waiting.append([pool.submit(_read, path, size, policy) for path in paths[start : start + batch]])
            if len(waiting) > 1:
                yield [future.result() for future in waiting.popleft()]
        while waiting:
            yield [future.result() for future in waiting.popleft()]


def _read(path: Path, size: int, policy: Resize) -> Read:
    """Decode and resize one file, or return why it cannot be."""
    try:
        return path, resize(decode(path), size, policy)
    except UnreadableImage as error:
        return path, error


def find_images(inputs: Iterable[Path | str]) -> list[Path]:
    """Return the files that inputs mean, each once, in the order of the inputs and by name within a folder.

    A file named by itself is taken whatever its suffix; in folders only image suffixes count.
    """
    found: dict[str, Path] = {}
    for given in inputs:
        for path in _expand(str(given)):
            found.setdefault(os.path.abspath(path), path)
    if not found:
        raise UsageError("no image was named; give image files, folders or patterns")
    return list(found.values())


def _expand(given: str) -> list[Path]:
    """Return the files of one input."""
    path = Path(given)
    if path.is_dir():
        inside = [Path(folder, name) for folder, names in _walk(path) for name in names]
        images = [file for file in inside if file.suffix.lower() in SUFFIXES]
        if not images:
            raise DataError(f"{path}: there is no image in this folder ({len(inside)} other files)")
        return images
    if path.exists():
        return [path]
    matches = [file for name in sorted(glob.glob(given, recursive=True)) if (file := Path(name)).is_file()]
    if not matches and glob.has_magic(given):
        raise UsageError(f"{given}: no file matches this pattern")
    if not matches:
        beside = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UsageError(f"{given}: no such file or folder{nearest(path.name, beside)}")
    return matches


def _walk(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield (folder, file names) from top to bottom in name order, without hidden ones."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield place, sorted(name for name in names if not name.startswith("."))


def write_csv(predictions: Iterable[Prediction], stream: TextIO, classes: Sequence[str], escaped: bool = False) -> int:
    r"""Write path, label, probability, error and a score per class; return how many files could not be used.

    A cell that starts with = + - @ gets an apostrophe in front, so that no spreadsheet runs it as a formula.  Names
    stay exact otherwise, control and bidirectional characters included (a line break is quoted), since programs open
    files by them; with `escaped`, meant for terminals, which such characters steer, they are written as \x1b, \u202e.
    """
    show = printable if escaped else str
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["path", "label", "probability", "error", *(_cell(show(f"score:{name}")) for name in classes)])
    failed = 0
    for found in predictions:
        scores = [f"{found.scores[name]:.7g}" if found.scores else "" for name in classes]
        chance = "" if found.probability is None else f"{found.probability:.7g}"
        path, label, error = (_cell(show(text or "")) for text in (found.path, found.label, found.error))
        writer.writerow([path, label, chance, error, *scores])
        failed += found.error is not None
    return failed


def write_jsonl(predictions: Iterable[Prediction], stream: TextIO) -> int:
    """Write one JSON object a line (the fields of Prediction); return how many files could not be used."""
    failed = 0
    for found in predictions:
        stream.write(json.dumps(asdict(found), allow_nan=False) + "\n")
        failed += found.error is not None
    return failed


def _cell(text: str) -> str:
    """Make text harmless in a spreadsheet, and writable where a file name is not valid UTF-8."""
    safe = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return f"'{safe}" if safe.startswith(FORMULA) else safe
