"""Masks: files of labelled pixels, polygons and COCO's run lengths, each to and from arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from faster_coco_eval.core import mask as coco
from numpy.typing import NDArray
from PIL import Image

from bakeoff.data.decode import opened
from bakeoff.data.targets import CLEAR, IGNORE, Coding, Mask, MaskFiles
from bakeoff.errors import DataError

NEVER = -1  # in a lookup table: no class has this value
TABLE = 1 << 16  # values below it are looked up in a table
FAR = 1e5  # pixels: points of a polygon beyond are moved here, since drawing takes time and memory by its length


def read_label_map(source: Path, target: MaskFiles) -> NDArray[np.uint8]:
    """Return the class index per pixel, (H, W) uint8, of a label map on disk, at the size of its first layer.

    Layers of other sizes are brought to it by nearest neighbour.  Raises UnreadableImage for a damaged file, and
    DataError naming file and value when a value means no class.
    """
    whole: NDArray[np.uint8] | None = None
    for file, coding in target.layers:
        layer = decoded(read_values(source / file, coding.kind), coding, source / file)
        if whole is None:
            whole = np.full(layer.shape, target.ground, np.uint8)
        if layer.shape != whole.shape:
            size = (whole.shape[1], whole.shape[0])
            layer = np.asarray(cv2.resize(layer, size, interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
        whole = np.where(layer == CLEAR, whole, layer)
    assert whole is not None, "a label map has at least one layer"
    return whole


def read_values(path: Path, kind: str) -> NDArray[np.int64]:
    """Return the raw values (H, W) of a mask file: palette indices and grey values as they are, colours as 24 bits.

    Raises UnreadableImage.
    """
    with opened(path, None) as image:
        image.load()
        if kind == "colour":
            red, green, blue = (np.asarray(channel, np.int64) for channel in image.convert("RGB").split())
            colour: NDArray[np.int64] = red << 16 | green << 8 | blue
            return colour
        # grey has one channel, P is its indices, 1 is 0 and 1; grey that was saved with colours has three equal ones
        return np.asarray(image if len(image.getbands()) == 1 else image.getchannel(0), np.int64)


def decoded(values: NDArray[np.int64], coding: Coding, path: Path) -> NDArray[np.uint8]:
    """Return class indices (H, W) for the raw values of a mask file.  Raises DataError for a value without a class."""
    rest = NEVER if coding.rest is None else coding.rest
    if coding.kind == "threshold":
        (level, index), *_ = coding.classes
        return np.where(values >= level, index, rest).astype(np.uint8)
    small = int(values.min()) >= 0 and int(values.max()) < TABLE
    found = np.flatnonzero(np.bincount(values.ravel())) if small else np.unique(values)
    meaning = dict(coding.classes)
    classes = np.array([meaning.get(int(value), rest) for value in found])
    if (classes == NEVER).any():
        strange = [int(value) for value in found[classes == NEVER]]
        shown = [f"#{value:06x}" for value in strange] if coding.kind == "colour" else strange
        raise DataError(f"{path}: the values {shown[:8]} mean no class; list them, or name them to be ignored")
    if not small:
        return classes[np.searchsorted(found, values)].astype(np.uint8)
    table = np.zeros(found[-1] + 1, np.uint8)  # ten times as fast as sorting the pixels
    table[found] = classes
    return table[values]


def to_pixels(mask: Mask, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return a mask as (H, W) booleans in a frame of `size` (width, height)."""
    pixels: NDArray[np.bool_] = coco.decode(_runs(mask, size)).astype(np.bool_)
    return pixels


def to_runs(mask: Mask | NDArray[Any], size: tuple[int, int]) -> bytes:
    """Return polygons or pixels (H, W) as COCO's compressed run lengths; run lengths are returned as they are."""
    if isinstance(mask, np.ndarray):
        return bytes(coco.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"])
    return bytes(_runs(mask, size)["counts"])


def to_polygons(mask: Mask, size: tuple[int, int]) -> tuple[tuple[float, ...], ...]:
    """Return the outlines of a mask's parts; polygons are returned as they are.  Holes are filled."""
    if not isinstance(mask, bytes):
        return mask
    # doubled first, so that outlines run along the borders of the pixels and thin parts keep their width
    pixels = to_pixels(mask, size).astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    outlines, _ = cv2.findContours(pixels, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    parts = [(outline.reshape(-1, 2) + 0.5) / 2 for outline in outlines if len(outline) >= 3]
    return tuple(tuple(float(value) for value in part.flatten()) for part in parts)


def bounds(mask: Mask, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return the box x1, y1, x2, y2 around a mask; all 0 when it is empty."""
    left, top, width, height = (float(value) for value in coco.toBbox(_runs(mask, size)))
    return left, top, left + width, top + height


def area(mask: Mask, size: tuple[int, int]) -> float:
    """Return the number of pixels of a mask."""
    return float(coco.area(_runs(mask, size)))


def palette(pixels: NDArray[np.uint8]) -> Image.Image:
    """Return a label map as a palette image, whose indices are the classes, in Pascal VOC's colours."""
    image = Image.fromarray(pixels).convert("L")
    image = Image.frombytes("P", image.size, image.tobytes())
    image.putpalette(colours().flatten().tolist())
    return image


def colours() -> NDArray[np.uint8]:
    """Return 256 well separated colours (256, 3), Pascal VOC's: the bits of the index dealt out to the channels."""
    index = np.arange(256)
    channels = np.zeros((256, 3), np.int64)
    for bit in range(8):
        for channel in range(3):
            channels[:, channel] |= ((index >> (3 * bit + channel)) & 1) << (7 - bit)
    channels[IGNORE] = (224, 224, 192)
    return channels.astype(np.uint8)


def _runs(mask: Mask, size: tuple[int, int]) -> dict[str, Any]:
    """Return a mask as the library's run lengths."""
    width, height = size
    if isinstance(mask, bytes):
        return {"size": [height, width], "counts": mask}
    parts = [np.clip(part, -FAR, FAR).tolist() for part in mask if len(part) >= 6 and np.isfinite(part).all()]
    if not parts:
        empty = np.zeros((height, width), np.uint8, order="F")
        return dict(coco.encode(empty))
    return dict(coco.merge(coco.frPyObjects(parts, height, width)))
