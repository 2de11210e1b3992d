"""The built-in data of the dense tasks: scikit-learn's real handwritten digits, set into coloured, textured scenes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bakeoff.data.dataset import TaskName
from bakeoff.data.formats.target import new_folder
from bakeoff.data.masks import bounds, palette, to_runs
from bakeoff.errors import UsageError
from bakeoff.files import read_json
from bakeoff.seeds import fold

COUNT = 500
AMOUNTS = (2, 3, 4, 5)  # digits in a scene, each as often as the others
DIGITS = 1797
MOST = DIGITS // 14 * 4  # scenes: no digit is in two
SIDES = (14, 28)  # pixels of a digit in a scene of 64
MARGIN = 0.25  # of a digit's side that may stick out: its own empty border
EDGE = (0.25, 0.55)  # ink between these is the stroke's smoothed edge
TRIES = 40  # places that are tried for a digit; the one that covers least is taken
BACKGROUND = "background"
CLASSES = (BACKGROUND, *"0123456789")  # of label maps: the index is the value in the mask
STAMP = "scenes.json"  # what the folder was made with, written with all the rest
VERSION = 1

Grey = NDArray[np.float64]


@dataclass(frozen=True)
class Thing:
    """One digit in a scene: its class and its visible pixels (size, size)."""

    digit: int
    pixels: NDArray[np.bool_]


def write_scenes(folder: Path, task: TaskName, count: int = COUNT, size: int = 64, seed: int = 0) -> Path:
    """Write `count` scenes of size x size pixels for a task other than classification; return the folder.

    Each scene holds two to five digits of 14 to 28 pixels (at size 64; in proportion otherwise), bright on a darker
    texture, later ones a little over earlier ones.  No digit is in two scenes, so any split is a fair one.
    semantic    images/, masks/ (palette PNG), classes.txt: background and the ten digits
    detection   images/, annotations/instances.json (COCO): boxes around what is visible
    instance    the same with run lengths
    The same arguments write the same pixels.  Nothing is done when the folder is already complete.
    Source: UCI Optical Recognition of Handwritten Digits (Alpaydin & Kaynak 1998), 8x8 pixels, scaled up bicubic.
    Raises UsageError when the folder holds something else, or for more scenes than there are digits for, and
    ResourceError when it cannot be written.
    """
    if task == "classification":
        raise UsageError("scenes are for semantic, detection and instance; digits.write_digits has single digits")
    if not 1 <= count <= MOST or size < 32:
        raise UsageError(f"{count} scenes of {size} px: at least 1 and at most {MOST}, of 32 px or more")
    made = {"task": task, "count": count, "size": size, "seed": seed, "version": VERSION}
    names = [f"scene-{number:04d}.png" for number in range(count)]
    if _complete(folder, made, names):
        return folder
    if folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"{folder}: holds something else than these {count} scenes of {size} px; name another folder")
    inks, labels = _digits()
    deals = _deal(count, seed)
    with new_folder(folder) as root:
        (root / "images").mkdir()
        scenes = []
        for number, deal in enumerate(deals):
            image, things = _scene([inks[i] for i in deal], [int(labels[i]) for i in deal], size, fold(seed, number))
            Image.fromarray(image).save(root / "images" / names[number])
            scenes.append(things)
        if task == "semantic":
            _write_masks(root, names, scenes, size)
        else:
            _write_coco(root, names, scenes, size, with_masks=task == "instance")
        (root / STAMP).write_text(json.dumps(made), encoding="utf-8")
    return folder


def _complete(folder: Path, made: dict[str, Any], names: Sequence[str]) -> bool:
    """Say whether the folder holds what would be written."""
    if not (folder / STAMP).is_file() or read_json(folder / STAMP) != made:
        return False
    wanted = {folder / "images" / name for name in names} | {folder / STAMP}
    if made["task"] == "semantic":
        wanted |= {folder / "masks" / name for name in names} | {folder / "classes.txt"}
    else:
        wanted |= {folder / "annotations" / "instances.json"}
    return {path for path in folder.rglob("*") if path.is_file()} == wanted


def _digits() -> tuple[list[Grey], NDArray[np.int64]]:
    """Return the ink of every digit, (8, 8) from 0 to 1, and its class."""
    from sklearn.datasets import load_digits  # takes more than a second

    images, labels = load_digits(return_X_y=True)
    return [pixels.reshape(8, 8) / 16 for pixels in images], np.asarray(labels, np.int64)


def _deal(count: int, seed: int) -> list[list[int]]:
    """Deal different digits to every scene: amounts in turn, in drawn order."""
    draws = np.random.default_rng(fold(seed, "deal"))
    amounts = draws.permutation(np.resize(AMOUNTS, count))
    order = draws.permutation(DIGITS)
    ends = np.cumsum(amounts)
    return [order[end - amount : end].tolist() for end, amount in zip(ends, amounts, strict=True)]


def _scene(inks: Sequence[Grey], labels: Sequence[int], size: int, seed: int) -> tuple[NDArray[np.uint8], list[Thing]]:
    """Paint digits one after the other; return the picture (size, size, 3) and what is visible of each."""
    draws = np.random.default_rng(seed)
    picture = _texture(size, draws)
    owner = np.full((size, size), -1)
    low, high = (side * size / 64 for side in SIDES)
    for number, ink in enumerate(inks):
        side = round(draws.uniform(low, high))
        stroke = _stroke(ink, side)
        left, top = _place(stroke, owner, draws)
        alpha = _shifted(stroke, left, top, size)
        colour = draws.uniform(0.55, 1.0, 3)
        colour *= draws.uniform(0.8, 1.0) / colour.max()
        picture += alpha[..., None] * (colour - picture)
        owner[alpha >= 0.5] = number
    things = [Thing(label, owner == number) for number, label in enumerate(labels)]
    noise = draws.normal(0, 0.015, picture.shape)
    return np.rint(np.clip(picture + noise, 0, 1) * 255).astype(np.uint8), [t for t in things if t.pixels.any()]


def _texture(size: int, draws: np.random.Generator) -> Grey:
    """Return a dark background (size, size, 3): a colour with soft blotches in it."""
    blotches = draws.uniform(-0.12, 0.12, (6, 6, 3))
    layers = [
        np.asarray(Image.fromarray(blotches[..., i].astype(np.float32)).resize((size, size), Image.Resampling.BICUBIC))
        for i in range(3)
    ]
    texture: Grey = np.clip(draws.uniform(0.12, 0.35, 3) + np.stack(layers, axis=2), 0, 1)
    return texture


def _stroke(ink: Grey, side: int) -> Grey:
    """Scale a digit up to side x side and sharpen it: 0 outside the stroke, 1 inside."""
    large = np.asarray(Image.fromarray(ink.astype(np.float32)).resize((side, side), Image.Resampling.BICUBIC))
    stroke: Grey = np.clip((large.astype(np.float64) - EDGE[0]) / (EDGE[1] - EDGE[0]), 0, 1)
    return stroke


def _place(stroke: Grey, owner: NDArray[np.int64], draws: np.random.Generator) -> tuple[int, int]:
    """Return the left and top of a digit: of some drawn places the first that covers no other, else the least."""
    size, side = len(owner), len(stroke)
    out = round(side * MARGIN)
    best, least = (0, 0), np.inf
    rows, columns = np.nonzero(stroke >= 0.5)
    for _ in range(TRIES):
        left, top = (int(value) for value in draws.integers(-out, size - side + out + 1, 2))
        y, x = rows + top, columns + left
        inside = (y >= 0) & (y < size) & (x >= 0) & (x < size)
        covered = float((owner[y[inside], x[inside]] >= 0).sum() + 4 * (~inside).sum())
        if covered < least:
            best, least = (left, top), covered
        if covered == 0:
            break
    return best


def _shifted(stroke: Grey, left: int, top: int, size: int) -> Grey:
    """Return a digit at its place in a scene (size, size)."""
    side = len(stroke)
    canvas = np.zeros((size + 2 * side, size + 2 * side))
    canvas[top + side : top + 2 * side, left + side : left + 2 * side] = stroke
    return canvas[side : side + size, side : side + size]


def _write_masks(root: Path, names: Sequence[str], scenes: Sequence[list[Thing]], size: int) -> None:
    """Write label maps and their table of classes."""
    (root / "masks").mkdir()
    for name, things in zip(names, scenes, strict=True):
        labels = np.zeros((size, size), np.uint8)
        for thing in things:
            labels[thing.pixels] = CLASSES.index(str(thing.digit))
        palette(labels).save(root / "masks" / name)
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES), encoding="utf-8")


def _write_coco(root: Path, names: Sequence[str], scenes: Sequence[list[Thing]], size: int, with_masks: bool) -> None:
    """Write COCO's JSON: the category of a digit is itself plus one."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (name, things) in enumerate(zip(names, scenes, strict=True), 1):
        images.append({"id": number, "file_name": f"images/{name}", "width": size, "height": size})
        for thing in things:
            runs = to_runs(thing.pixels, (size, size))
            left, top, right, bottom = bounds(runs, (size, size))
            box = [left, top, right - left, bottom - top]
            entry: dict[str, Any] = {"id": len(annotations) + 1, "image_id": number, "category_id": thing.digit + 1}
            entry |= {"iscrowd": 0, "bbox": box, "area": box[2] * box[3]}
            if with_masks:
                counts = {"size": [size, size], "counts": runs.decode("ascii")}
                entry |= {"segmentation": counts, "area": int(thing.pixels.sum())}
            annotations.append(entry)
    categories = [{"id": digit + 1, "name": str(digit)} for digit in range(10)]
    (root / "annotations").mkdir()
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations" / "instances.json").write_text(json.dumps(content), encoding="utf-8")
