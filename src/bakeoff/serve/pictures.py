"""Small pictures of test images, with their truth or a kept prediction drawn on them."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bakeoff.data.dataset import Dataset
from bakeoff.data.decode import read_image, resize
from bakeoff.data.draw import draw
from bakeoff.data.predictions import DIGITS, prediction_from_json, prediction_json
from bakeoff.data.targets import Boxes, Target
from bakeoff.errors import DataError
from bakeoff.report.material import Material
from bakeoff.report.overlays import TILE, Atlas
from bakeoff.serve.tested import Tested

KEPT_RUNS = 32  # whose predictions stay in memory, as run lengths
ENCODED = 512  # pictures that stay in memory: about ten megabytes
Pixels = NDArray[np.uint8]


class Pictures:
    """Pictures of test images by their row, from the study's caches, or where there is none from the image's file."""

    def __init__(self, material: Material, tested: Tested, dataset: Dataset | None) -> None:
        """Open the caches; `dataset` is None where the study's own description of its data is gone."""
        self._tested, self._dataset, self._material = tested, dataset, material
        self._atlas = Atlas(material, tested.showings, set())
        self.encoded = lru_cache(maxsize=ENCODED)(self._encoded)
        self._kept = lru_cache(maxsize=KEPT_RUNS)(self._read)

    def image(self, row: int) -> Pixels:
        """Return an image as networks see it, about TILE pixels large.  Raises DataError where it is not there."""
        id = self._tested.ids[row]
        found = self._atlas.image(id)
        return found if found is not None else resize(self.original(row), TILE)

    def original(self, row: int) -> Pixels:
        """Return an image from its file.  Raises DataError where it is not there."""
        id = self._tested.ids[row]
        if self._dataset is None:
            raise DataError(f"{id}: the study does not say where its images are")
        return read_image(self._dataset, self._dataset.records[self._dataset.index[id]])

    def has_prediction(self, row: int, place: int) -> bool:
        """Say whether there is a candidate at this place, one of whose runs kept its prediction of an image."""
        showings = self._tested.showings
        return place < len(showings) and self._tested.ids[row] in showings[place].runs

    def _encoded(self, row: int, of: str) -> tuple[bytes, str]:
        """Return a picture and its media type: of the "image", its "truth", or what candidate "0", "1", … predicts.

        Raises DataError where there is none.
        """
        image = self.image(row)
        if of != "image":
            target = self._truth(row) if of == "truth" else self._prediction(row, int(of))
            image = draw(image, target, self._tested.classes)
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(image)).save(buffer, "WEBP", quality=85, method=3)
        return buffer.getvalue(), "image/webp"

    def _truth(self, row: int) -> Target:
        found = self._atlas.truth(self._tested.ids[row])
        if found is None or not self._tested.dense:
            raise DataError("the truth of this image cannot be drawn: it is not in the study's cache")
        return found

    def _prediction(self, row: int, place: int) -> Target:
        """Return what the run that is shown of a candidate says, objects with too low a score left out."""
        if not self.has_prediction(row, place):
            raise DataError("no run kept its prediction of this image")
        showing, id = self._tested.showings[place], self._tested.ids[row]
        run = showing.runs[id]
        found = prediction_from_json(self._kept(run)[id])
        if isinstance(found, Boxes) and found.scores is not None:
            return found.take(found.scores >= round(showing.least.get(run, 0.0), DIGITS))
        return found

    def _read(self, run: str) -> dict[str, Any]:
        """Read a run's predictions, to be kept in their small form: label maps as run lengths."""
        return {id: prediction_json(one) for id, one in self._material.folder.run(run).predictions().items()}


def png(pixels: Pixels) -> bytes:
    """Return pixels as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
    return buffer.getvalue()
