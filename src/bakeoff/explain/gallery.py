"""The gallery: the same few images explained by the trained model of every candidate, kept for the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bakeoff.data.cache import Counter
from bakeoff.errors import DataError
from bakeoff.explain.explainer import Explainer, Options
from bakeoff.explain.explaining import Explained, Explaining
from bakeoff.explain.paint import Pixels, overlaid
from bakeoff.explain.sheet import drawn
from bakeoff.models.trained import Trained
from bakeoff.seeds import fold

IMAGES = 6
SIDE = 240  # pixels: larger pictures are made smaller
Look = Callable[[Trained, str], NDArray[np.uint8]]  # an image as a model sees it, by its record's id


@dataclass(frozen=True)
class Exhibitor:
    """A candidate with the run whose model explains itself."""

    candidate: str
    run: str
    model: Trained


def choose_images(tested: Sequence[Sequence[str]], count: int = IMAGES) -> list[str]:
    """Return test images that all models were tested on, drawn by the hash of their ids: the same ones every time."""
    shared = set(tested[0]).intersection(*tested[1:])
    return sorted(shared, key=lambda id: (fold(0, "gallery", id), id))[:count]


def gallery(
    exhibitors: Sequence[Exhibitor],
    images: Sequence[str],
    look: Look,
    how: tuple[Sequence[Explainer], Options],
    progress: Counter | None = None,
) -> tuple[dict[str, Any], dict[str, NDArray[np.uint8]]]:
    """Let every model explain what it is surest of in every image, by the methods and options of `how`.

    Return the content of explanations.json and, by the names that stand there, the pictures of explanations.npz.
    """
    methods, options = how
    pictures: dict[str, NDArray[np.uint8]] = {}
    entries: list[dict[str, Any]] = []
    for exhibitor in exhibitors:
        explaining = Explaining(exhibitor.model, tuple(methods), options)
        for id in images:
            entry = _entry(explaining, id, look(exhibitor.model, id))
            origin = {"candidate": exhibitor.candidate, "run": exhibitor.run, "image": id}
            entries.append({**entry.to_json(), **origin, **_pictures(entry, pictures)})
            if progress is not None:
                progress(len(entries), len(exhibitors) * len(images))
    content = {"schema_version": 1, "images": list(images), "methods": [method.NAME for method in methods]}
    return {**content, "entries": entries}, pictures


def _entry(explaining: Explaining, id: str, pixels: NDArray[np.uint8]) -> Explained:
    """Explain an image; one in which the model finds nothing has an error and its pixels."""
    try:
        return explaining.image(id, pixels)
    except DataError as error:
        return Explained(id, pixels=pixels, error=str(error))


def _pictures(entry: Explained, pictures: dict[str, NDArray[np.uint8]]) -> Mapping[str, Any]:
    """Add the pictures of an entry; return their names: of the image, and of every method's map or first picture."""
    assert entry.pixels is not None

    def keep(pixels: Pixels) -> str:
        name = f"p{len(pictures)}"
        pictures[name] = _small(pixels)
        return name

    own = entry.pixels if entry.subject is None else drawn(entry.pixels, entry.subject)
    methods = []
    for answer in entry.methods:
        told = answer.to_json()
        if answer.found is not None:
            mapped = answer.found.map is not None
            told["picture"] = keep(overlaid(entry.pixels, answer.found) if mapped else answer.found.pictures[0].pixels)
        methods.append(told)
    return {"picture": keep(own), "methods": methods}


def _small(pixels: Pixels) -> Pixels:
    """Return a picture of at most SIDE pixels."""
    if max(pixels.shape[:2]) <= SIDE:
        return np.ascontiguousarray(pixels)
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return np.asarray(picture)
