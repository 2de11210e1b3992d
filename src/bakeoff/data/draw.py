"""Targets and predictions drawn on their image: boxes with names, masks and label maps as a veil of colour."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from bakeoff.data.dataset import Dataset, Record
from bakeoff.data.masks import colours, read_label_map, to_pixels
from bakeoff.data.targets import GROUNDS, IGNORE, Boxes, Instances, Label, LabelMap, MaskFiles, Target
from bakeoff.findings import printable

VEIL = 0.5  # how much of the colour lies over the image
SMALLEST_TEXT, LARGEST_TEXT = 9, 28  # pixels
CROWDED = 20  # objects from which on only names that fit are written
CROWD = (160, 160, 160)

Pixels = NDArray[np.uint8]
Colour = tuple[int, int, int]
Rectangle = tuple[float, float, float, float]


def draw(image: Pixels, target: Target, classes: Sequence[str]) -> Pixels:
    """Return the image (H, W, 3) uint8 with a target or a prediction drawn on it; `image` is left as it is.

    Boxes have their class's name, where it has room and there is more than one class, and as a prediction their score;
    masks and label maps are a veil in the class's colour (see colour_of), masks of one class a colour per object.
    Regions to ignore are grey.  A target in a frame of another size is brought to the image's.  Raises TypeError for
    mask files: see loaded().
    """
    if isinstance(target, LabelMap):
        return _veiled_map(image, target, classes)
    if isinstance(target, Boxes):
        return _objects(image, target, classes)
    if not isinstance(target, Label):
        raise TypeError("mask files have to be read before they can be drawn: draw.loaded() does")
    name = printable(classes[target.index])
    text = name if target.scores is None else f"{name} {target.scores[target.index]:.2f}"
    sheet = Image.fromarray(image)
    _Names(sheet).write(text, (0, 0), colour_of(target.index))
    return np.asarray(sheet)


def loaded(dataset: Dataset, record: Record) -> Target:
    """Return a record's target with its mask files read.  Raises UnreadableImage and DataError for those."""
    if isinstance(record.target, MaskFiles):
        return LabelMap(read_label_map(dataset.source, record.target))
    return record.target


def is_clear(name: str) -> bool:
    """Say whether a class of a label map is left unpainted, because it means that nothing is there."""
    return name.casefold() in GROUNDS


def colour_of(index: int) -> Colour:
    """Return the colour of a class: Pascal VOC's, without its black, and lighter so that it shows on dark images."""
    red, green, blue = (int(value) for value in _palette()[index])
    return red, green, blue


@lru_cache(maxsize=1)
def _palette() -> Pixels:
    """Return 256 colours (256, 3): that of IGNORE is grey."""
    values = np.roll(colours(), -1, axis=0).astype(np.float64)
    values[IGNORE] = CROWD
    return np.rint(values * 0.8 + 51).astype(np.uint8)


# --- label maps ---


def _veiled_map(image: Pixels, target: LabelMap, classes: Sequence[str]) -> Pixels:
    """Lay the colours of a label map over the image; classes that mean nothing stay clear, IGNORE is grey."""
    size = (image.shape[1], image.shape[0])
    pixels = np.asarray(cv2.resize(target.pixels, size, interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
    painted = ~np.isin(pixels, [index for index, name in enumerate(classes) if is_clear(name)])
    return _veil(image, painted, _palette()[pixels])


def _veil(image: Pixels, where: NDArray[np.bool_], colour: NDArray[np.uint8]) -> Pixels:
    """Mix a colour, or one per pixel, into the image where the mask is true."""
    mixed = image * (1 - VEIL) + colour * VEIL
    return np.where(where[..., None], np.rint(mixed), image).astype(np.uint8)


# --- boxes and masks ---


def _objects(image: Pixels, target: Boxes, classes: Sequence[str]) -> Pixels:
    """Draw masks first, then boxes, then as many names as have room."""
    height, width = image.shape[:2]
    scale = np.tile((width / max(target.size[0], 1), height / max(target.size[1], 1)), 2)
    kept = target.take(np.flatnonzero(np.isfinite(target.xyxy).all(axis=1)))
    boxes = np.clip(kept.xyxy * scale, -width - height, 2 * (width + height))
    shades = [_shade(kept, place, len(classes)) for place in range(len(kept))]
    if isinstance(kept, Instances):
        image = _masked(image, kept, shades)
    sheet = Image.fromarray(image)
    pen, line = ImageDraw.Draw(sheet), max(1, round(max(height, width) ** 0.5 / 8))
    for box, shade in zip(boxes, shades, strict=True):
        _box(pen, box, shade, line)
    _name_all(sheet, kept, boxes, shades, classes)
    return np.asarray(sheet)


def _name_all(
    sheet: Image.Image, target: Boxes, boxes: NDArray[np.float64], shades: Sequence[Colour], classes: Sequence[str]
) -> None:
    """Write names and scores, those of the large objects first; in a crowd only those that fit above their box."""
    names, sides = _Names(sheet), boxes[:, 2:] - boxes[:, :2]
    for place in np.argsort(-sides.prod(axis=1), kind="stable").tolist():
        name = printable(classes[target.labels[place]]) if len(classes) > 1 else ""
        score = "" if target.scores is None else f"{target.scores[place]:.2f}"
        crowd = "(crowd)" if target.crowd[place] else ""
        text = " ".join(filter(None, (name, score, crowd)))
        if text and (len(target) <= CROWDED or names.width(text) <= sides[place, 0]):
            names.write(text, (boxes[place, 0], boxes[place, 1]), shades[place], boxes[place, 3])


def _shade(target: Boxes, place: int, classes: int) -> Colour:
    """Return the colour of an object: its class's, or its own where masks of one class would run together."""
    if target.crowd[place]:
        return CROWD
    if isinstance(target, Instances) and classes == 1:
        return colour_of(place % 60)
    return colour_of(int(target.labels[place]))


def _masked(image: Pixels, target: Instances, shades: Sequence[Colour]) -> Pixels:
    """Lay the masks over the image, the large ones first, each with its outline."""
    canvas, size = image.copy(), (image.shape[1], image.shape[0])
    pixels = [to_pixels(mask, target.size).astype(np.uint8) for mask in target.masks]
    line = max(1, round(max(size) / 480))
    for place in sorted(range(len(pixels)), key=lambda place: -int(pixels[place].sum())):
        mask = np.asarray(cv2.resize(pixels[place], size, interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
        left, top, width, height = cv2.boundingRect(mask)
        part = (slice(top, top + height), slice(left, left + width))
        canvas[part] = _veil(canvas[part], mask[part].astype(np.bool_), np.array(shades[place], np.uint8))
        outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, outlines, -1, shades[place], line)
    return canvas


def _box(pen: ImageDraw.ImageDraw, box: NDArray[np.float64], shade: Colour, line: int) -> None:
    """Draw a rectangle inside the pixels that a box covers, with a dark edge; corners may be swapped or equal."""
    left, top = (float(value) for value in np.minimum(box[:2], box[2:]))
    right, bottom = (float(value) for value in np.maximum(box[:2], box[2:]) - 1)
    right, bottom = max(left, right), max(top, bottom)
    pen.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=(20, 20, 20), width=1)
    pen.rectangle((left, top, right, bottom), outline=shade, width=line)


class _Names:
    """Writes names on a picture, each only where it covers no other."""

    def __init__(self, sheet: Image.Image) -> None:
        """Choose a size of text that fits the picture."""
        self.sheet, self.pen = sheet, ImageDraw.Draw(sheet)
        self.font = font(int(np.clip(max(sheet.size) / 42, SMALLEST_TEXT, LARGEST_TEXT)))
        self.taken: list[Rectangle] = []

    def width(self, text: str) -> float:
        """Return the pixels that a text takes."""
        return float(self.pen.textlength(text, font=self.font)) + 4

    def write(self, text: str, corner: tuple[float, float], shade: Colour, below: float | None = None) -> None:
        """Write above the corner of a box, or inside it, or below its lower edge at `below`; else leave it out."""
        left, top, right, bottom = self.pen.textbbox((0, 0), text, font=self.font)
        width, height = right - left + 4, bottom - top + 3
        x = float(np.clip(corner[0], 0, max(0, self.sheet.width - width)))
        for y in (corner[1] - height, corner[1] + 1, below):
            if y is None or not 0 <= y <= self.sheet.height - height:
                continue
            place = (x, y, x + width, y + height)
            if not any(_overlap(place, other) for other in self.taken):
                self.taken.append(place)
                self.pen.rectangle(place, fill=shade)
                ink = "black" if np.dot(shade, (0.299, 0.587, 0.114)) > 110 else "white"
                self.pen.text((x + 2 - left, y + 1 - top), text, fill=ink, font=self.font)
                return


def _overlap(one: Rectangle, other: Rectangle) -> bool:
    """Say whether two rectangles share a pixel."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


@lru_cache(maxsize=32)
def font(size: int = 12) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return matplotlib's DejaVu Sans, which knows more scripts than Pillow's own; without importing matplotlib."""
    spec = find_spec("matplotlib")
    if spec is not None and spec.origin is not None:
        file = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if file.exists():
            return ImageFont.truetype(file, size)
    return ImageFont.load_default(size)
