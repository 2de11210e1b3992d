"""Made photographs: a coloured thing in the middle of a busy background, two classes that differ in its colour."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

COLOURS = {"plum": (150, 40, 160), "lime": (120, 220, 40)}
Pixels = NDArray[np.uint8]


def thing(seed: int, name: str, size: tuple[int, int] = (48, 40)) -> tuple[Pixels, NDArray[np.bool_]]:
    """Return a picture of (width, height) and where its thing is."""
    draws = np.random.default_rng((seed, *name.encode()))
    width, height = size
    noise = draws.normal(0, 1, (7, 7, 3)).astype(np.float32)
    ground = 128 + 14 * np.asarray(cv2.resize(noise, size, interpolation=cv2.INTER_CUBIC))
    rows, columns = np.indices((height, width))
    middle = np.array([height, width]) * draws.uniform(0.42, 0.58, 2)
    inside = ((rows - middle[0]) / height) ** 2 + ((columns - middle[1]) / width) ** 2 < draws.uniform(0.22, 0.3) ** 2
    ground[inside] = np.array(COLOURS[name]) + draws.normal(0, 6, (int(inside.sum()), 3))
    return np.clip(ground, 0, 255).astype(np.uint8), inside


def photos(folder: Path, count: int = 8, part: str = "", first: int = 0) -> Path:
    """Write `count` pictures of each class into class folders: every third a JPEG."""
    for name in COLOURS:
        (folder / part / name).mkdir(parents=True, exist_ok=True)
        for i in range(first, first + count):
            suffix = "png" if i % 3 else "jpg"
            Image.fromarray(thing(i, name)[0]).save(folder / part / name / f"{i:02d}.{suffix}")
    return folder
