"""Small datasets of boxes and masks for the tests of formats and conversions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from bakeoff.data.dataset import Dataset, Record, SplitName, TaskName
from bakeoff.data.masks import bounds, to_runs
from bakeoff.data.targets import Boxes, Instances, Mask

WIDTH, HEIGHT = 37, 23
CLASSES = ("012", "no", "Äpfel & Co")
SPLITS: tuple[SplitName | None, ...] = ("train", "val", "test", "train", "train")


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Path:
    """Write a noisy image of `size` (width, height), unlike that of any other seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def made(folder: Path, task: TaskName, prescribed: bool = False, grouped: bool = False, crowd: bool = False) -> Dataset:
    """Return five images in nested folders, two of the same name, the last without an object.

    Boxes have fractions of a pixel, one is a pixel wide and one without area; masks are polygons (one of two parts) and
    run lengths.
    """
    records = []
    for number in range(5):
        name = f"{'ab'[number % 2]}/x {number // 2}.png"
        picture(folder / name, number)
        target = _boxes(number, crowd) if task == "detection" else _instances(number, crowd)
        group = f"p{number // 2}" if grouped else None
        records.append(Record(name, name, target, group, SPLITS[number] if prescribed else None))
    return Dataset(task, CLASSES, tuple(sorted(records, key=lambda record: record.id)), folder)


def _boxes(number: int, crowd: bool) -> Boxes:
    """Return the boxes of one image."""
    count = 0 if number == 4 else 3
    xyxy = np.array([[1.25, 2, 30.123456, 20], [4, 5, 5, 6], [7 + number, 3, 7 + number, 9]])[:count]
    flags = np.array([False, False, crowd])[:count]
    return Boxes((WIDTH, HEIGHT), xyxy, np.array([0, 1, 2])[:count], crowd=flags)


def _instances(number: int, crowd: bool) -> Instances:
    """Return the objects of one image."""
    size = (WIDTH, HEIGHT)
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
    pixels[4:9, 20 + number : 30] = 1
    pixels[15:20, 3:6] = 1
    parts = ((1.5, 2.25, 9.0, 2.25, 9.0, 8.123456), (12.0, 12.0, 12.0, 16.0, 18.0, 16.0, 18.0, 12.0))
    masks: tuple[Mask, ...] = ((parts[0],), parts, to_runs(pixels, size))
    around = [(1.5, 2.25, 9.0, 8.123456), (1.5, 2.25, 18.0, 16.0), bounds(masks[2], size)]
    count = 0 if number == 4 else 3
    flags = np.array([False, False, crowd])[:count]
    labels = np.array([0, 1, 2])[:count]
    areas = np.array([22.025, 46.5, float(pixels.sum())])[:count]
    return Instances(size, np.array(around)[:count].reshape(-1, 4), labels, None, flags, areas, masks[:count])
