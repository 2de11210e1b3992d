"""What a candidate says of one picture: the prediction in every form, drawn on the picture, and why."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bakeoff.data.decode import decode, opened, resize
from bakeoff.data.draw import draw
from bakeoff.data.masks import palette
from bakeoff.data.targets import Label, LabelMap
from bakeoff.errors import DataError, UnreadableImage, UsageError
from bakeoff.explain.sheet import tiles_of
from bakeoff.predict import Prediction, predict, write_csv, write_jsonl
from bakeoff.serve.limits import Limits
from bakeoff.serve.models import Loaded
from bakeoff.serve.pictures import png

SMALLEST, LARGEST = 320, 1600  # pixels: the longer side of a drawn picture; smaller ones are enlarged pixel by pixel


class TooLarge(DataError):
    """A picture has more pixels than the server decodes."""


@dataclass(frozen=True)
class Sent:
    """A picture that someone sent: its bytes, and the name it has there."""

    content: bytes
    name: str


@contextmanager
def on_disk(sent: Sent, limits: Limits) -> Iterator[Path]:
    """Yield a picture as a file that is gone afterwards.

    Raises TooLarge when it has too many pixels, and UnreadableImage when it is none, before it is decoded.
    """
    with NamedTemporaryFile(prefix="bakeoff-sent-") as stream:
        stream.write(sent.content)
        stream.flush()
        width, height = _size(stream.name, sent.name)
        if width * height > limits.pixels:
            raise TooLarge(f"{width} x {height} pixels are more than {limits.pixels:,}: make the picture smaller")
        yield Path(stream.name)


def _size(file: str, name: str) -> tuple[int, int]:
    """Return width and height of a picture, told by its own name when it is none."""
    try:
        with opened(Path(file), None) as image:
            return image.size
    except UnreadableImage as error:
        raise UnreadableImage(name, error.reason) from None


def predicted(loaded: Loaded, file: Path, name: str, threshold: float) -> Prediction:
    """Return what a candidate says of a file, as `bakeoff predict` does.  Raises UnreadableImage, UsageError."""
    (found,) = predict(loaded.model, [file], batch=1, threshold=threshold)
    if found.error is not None:
        raise UnreadableImage(name, found.error)
    return replace(found, path=name)


def as_json(loaded: Loaded, found: Prediction) -> dict[str, Any]:
    """Return a prediction as `bakeoff predict --json` writes it, with candidate, run and task."""
    stream, model = io.StringIO(), loaded.model
    write_jsonl([found], stream, model.classes, model.task)
    content = {key: value for key, value in json.loads(stream.getvalue()).items() if key not in ABSENT}
    return {"candidate": loaded.candidate, "run": loaded.run, "task": model.task, **content}


ABSENT = ("mask", "overlay", "error")  # files that a folder of results has, and what is answered as an error


def as_csv(loaded: Loaded, found: Prediction) -> str:
    """Return a prediction as `bakeoff predict` writes it as CSV."""
    stream, model = io.StringIO(), loaded.model
    write_csv([found], stream, model.classes, task=model.task)
    return stream.getvalue()


def as_mask(found: Prediction) -> bytes:
    """Return a label map as a palette PNG, whose indices are the classes.  Raises UsageError for other tasks."""
    if not isinstance(found.target, LabelMap):
        raise UsageError("a mask is a picture of a label map, which this candidate does not make; ask for json")
    buffer = io.BytesIO()
    palette(found.target.pixels).save(buffer, "PNG")
    return buffer.getvalue()


def overlay(found: Prediction, image: NDArray[np.uint8]) -> bytes:
    """Return the picture (H, W, 3) with the prediction drawn on it, at least SMALLEST and at most LARGEST, as PNG."""
    picture = Image.fromarray(_enlarged(image))
    picture.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    target, names = found.target, found.classes
    if target is None:
        names = tuple(found.scores)
        target = Label(names.index(found.label or ""), tuple(found.scores.values()))
    return png(draw(np.asarray(picture), target, names))


def tried(loaded: Loaded, file: Path, name: str, how: tuple[float, str | None, bool]) -> dict[str, Any]:
    """Return all that the page shows: prediction, table, drawn picture, and (threshold, class, explain?) why.

    Pictures are data URIs.  Raises UnreadableImage and, for a class that there is not, UsageError.
    """
    threshold, wanted, why = how
    start = time.perf_counter()
    found = predicted(loaded, file, name, threshold)
    seconds = time.perf_counter() - start
    image = decode(file)
    return {
        **as_json(loaded, found),
        "seconds": round(seconds, 4),
        "csv": as_csv(loaded, found),
        "picture": _uri(overlay(found, image)),
        "explanation": explained(loaded, image, wanted) if why else None,
    }


def explained(loaded: Loaded, image: NDArray[np.uint8], wanted: str | None) -> dict[str, Any]:
    """Return what the explain room says: the subject, and tiles with a title, a picture and words, or why not."""
    model = loaded.model
    try:
        entry = loaded.explaining.image("", resize(image, model.size, model.resize), wanted)
    except UsageError:
        raise
    except DataError as error:  # nothing of the class is found
        return {"error": str(error), "tiles": []}
    told = [
        {"title": title, "picture": _uri(png(_enlarged(pixels))), "words": words, "warning": warning}
        for title, pixels, words, warning in tiles_of(entry)
    ]
    refusals = [f"{one.title}: {one.words}" for one in entry.methods if one.refusal]
    return {"error": "; ".join(refusals) or None, "tiles": told}


def _enlarged(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return small pictures enlarged by a whole number."""
    times = max(1, SMALLEST // max(pixels.shape[:2]))
    return pixels.repeat(times, axis=0).repeat(times, axis=1)


def _uri(content: bytes) -> str:
    """Return a PNG as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"
