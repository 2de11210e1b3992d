"""What an image is labelled with, one class per task; a prediction is a target with scores, the same class.

Coordinates are continuous pixels from the top left corner (COCO's): a box over the first pixel is (0, 0, 1, 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

IGNORE = 255  # in a label map: this pixel is neither learned nor judged
CLEAR = 254  # in a coding: this layer says nothing here, what lies below shows
MOST_CLASSES = 254  # of a label map of bytes
GROUNDS = ("background", "unlabeled", "unlabelled", "void")  # usual names of what is no object

Polygons = tuple[tuple[float, ...], ...]  # the parts of one object, each x1, y1, x2, y2, …
Mask = Polygons | bytes  # bytes: COCO's compressed run lengths, at the size that the target states


@dataclass(frozen=True)
class Label:
    """A class index; as a prediction it carries the probability of every class."""

    index: int
    scores: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Coding:
    """How the values in a mask file mean classes: (value, class index) pairs, and what every other value means.

    value      grey value or palette index
    colour     red << 16 | green << 8 | blue
    threshold  one pair (t, class): t and brighter is that class, darker is `rest`
    `rest` is a class index, IGNORE, CLEAR, or None: another value is an error.
    """

    kind: Literal["value", "colour", "threshold"]
    classes: tuple[tuple[int, int], ...]
    rest: int | None = None


@dataclass(frozen=True)
class MaskFiles:
    """A label map on disk: (file, coding) layers, later ones over earlier ones, on a ground of class `ground`.

    Files are POSIX paths relative to `Dataset.source`.  A mask may be smaller or larger than its image.
    """

    layers: tuple[tuple[str, Coding], ...]
    ground: int = IGNORE


@dataclass(frozen=True, eq=False)
class LabelMap:
    """A class index per pixel: (H, W) uint8, IGNORE where there is none; `scores` (classes, H, W) as a prediction."""

    pixels: NDArray[np.uint8]
    scores: NDArray[np.floating[Any]] | None = None

    def __eq__(self, other: object) -> bool:
        """Compare pixel by pixel."""
        return isinstance(other, LabelMap) and np.array_equal(self.pixels, other.pixels)

    def __hash__(self) -> int:
        """Hash the pixels."""
        return hash(self.pixels.tobytes())


@dataclass(frozen=True, eq=False)
class Boxes:
    """Objects in a frame of `size` (width, height) pixels.

    xyxy (N, 4) float64; labels (N,) int64 class indices; scores (N,) float64 in a prediction, else None; crowd (N,)
    bool: not trained on, and finding or missing one is no error (COCO's iscrowd, VOC's difficult); areas (N,) float64
    in pixels of the original image, COCO's `area` (left out: those of the boxes).  `scale` is how many of those pixels
    one pixel of this frame is: it brings the area of what is found here to the same unit.  As data they are what the
    file says, wrong boxes included: the audit names those, and `frame.framed` leaves them out.
    Raises ValueError when shapes do not agree.
    """

    size: tuple[int, int]
    xyxy: NDArray[np.float64]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64] | None = None
    crowd: NDArray[np.bool_] = None  # type: ignore[assignment]  # filled in below
    areas: NDArray[np.float64] = None  # type: ignore[assignment]
    scale: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        """Bring every column to its type, fill in the defaults and compare lengths."""
        boxes = np.asarray(self.xyxy, np.float64).reshape(-1, 4)
        with np.errstate(invalid="ignore", over="ignore"):  # of boxes that are not finite
            sides = boxes[:, 2:] - boxes[:, :2]
            areas = sides[:, 0] * sides[:, 1] if self.areas is None else self.areas
        columns = {
            "xyxy": boxes,
            "labels": np.asarray(self.labels, np.int64),
            "scores": None if self.scores is None else np.asarray(self.scores, np.float64),
            "crowd": np.zeros(len(boxes), np.bool_) if self.crowd is None else np.asarray(self.crowd, np.bool_),
            "areas": np.asarray(areas, np.float64),
        }
        for name, column in columns.items():
            if column is not None and len(column) != len(boxes):
                raise ValueError(f"{len(boxes)} boxes, but {len(column)} {name}")
            object.__setattr__(self, name, column)

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.labels)

    def __eq__(self, other: object) -> bool:
        """Compare every column."""
        return type(other) is type(self) and self._key() == other._key()

    def __hash__(self) -> int:
        """Hash every column."""
        return hash(self._key())

    def _key(self) -> tuple[Any, ...]:
        columns = (self.xyxy, self.labels, self.crowd, self.areas, self.scores)
        return (self.size, self.scale, *(None if column is None else column.tobytes() for column in columns))

    def take(self, places: ArrayLike) -> Boxes:
        """Return the objects at these positions, or where a mask of booleans is true."""
        index = np.arange(len(self))[np.asarray(places)]
        scores = None if self.scores is None else self.scores[index]
        return replace(
            self,
            xyxy=self.xyxy[index],
            labels=self.labels[index],
            scores=scores,
            crowd=self.crowd[index],
            areas=self.areas[index],
        )


@dataclass(frozen=True, eq=False)
class Instances(Boxes):
    """Objects with a mask each: polygons in the frame's pixels, or COCO run lengths at the frame's `size`."""

    masks: tuple[Mask, ...] = ()

    def __post_init__(self) -> None:
        """Compare the number of masks too."""
        super().__post_init__()
        if len(self.masks) != len(self.labels):
            raise ValueError(f"{len(self.labels)} boxes, but {len(self.masks)} masks")

    def _key(self) -> tuple[Any, ...]:
        return (*super()._key(), self.masks)

    def take(self, places: ArrayLike) -> Instances:
        """Return the objects at these positions, or where a mask of booleans is true."""
        index = np.arange(len(self))[np.asarray(places)]
        scores = None if self.scores is None else self.scores[index]
        return Instances(
            self.size,
            self.xyxy[index],
            self.labels[index],
            scores,
            self.crowd[index],
            self.areas[index],
            tuple(self.masks[place] for place in index),
            scale=self.scale,
        )


Target = Label | MaskFiles | LabelMap | Boxes | Instances


def stripped(prediction: Target) -> Target:
    """Return a prediction without what only an evaluation needs: the probability of every class at every pixel."""
    return LabelMap(prediction.pixels) if isinstance(prediction, LabelMap) else prediction


def target_json(target: Target) -> Any:
    """Return a target of a dataset's record as JSON; a label is its index.  Predictions keep scores of boxes."""
    if isinstance(target, Label):
        return target.index
    if isinstance(target, MaskFiles):
        layers = [
            [file, coding.kind, [list(pair) for pair in coding.classes], coding.rest] for file, coding in target.layers
        ]
        return {"layers": layers, "ground": target.ground}
    if isinstance(target, LabelMap):
        raise TypeError("a label map in memory has no JSON form; masks.encode() gives run lengths")
    content = {
        "size": list(target.size),
        "xyxy": [_numbers(row) for row in target.xyxy],
        "labels": target.labels.tolist(),
        "areas": _numbers(target.areas),
    }
    if target.scale != 1:
        content["scale"] = target.scale
    if target.crowd.any():
        content["crowd"] = target.crowd.tolist()
    if target.scores is not None:
        content["scores"] = target.scores.tolist()
    if isinstance(target, Instances):
        content["masks"] = [_mask_text(mask) for mask in target.masks]
    return content


def target_from_json(content: Any) -> Target:
    """Rebuild a target from target_json()."""
    if isinstance(content, int):
        return Label(content)
    if "layers" in content:
        layers = tuple(
            (file, _coding(kind, tuple((int(a), int(b)) for a, b in pairs), rest))
            for file, kind, pairs, rest in content["layers"]
        )
        return MaskFiles(layers, content["ground"])
    size = (int(content["size"][0]), int(content["size"][1]))
    fields: dict[str, Any] = {name: content.get(name) for name in ("labels", "scores", "crowd")}
    fields["xyxy"] = [[float(value) for value in row] for row in content["xyxy"]]
    fields["areas"] = [float(value) for value in content["areas"]]
    fields["scale"] = content.get("scale", 1.0)
    if "masks" in content:
        return Instances(size, **fields, masks=tuple(_mask_from(text) for text in content["masks"]))
    return Boxes(size, **fields)


@lru_cache(maxsize=256)
def _coding(kind: Any, pairs: tuple[tuple[int, int], ...], rest: int | None) -> Coding:
    """Return a coding that thousands of masks share: with 150 classes in each they would fill the memory."""
    return Coding(kind, pairs, rest)


def _numbers(values: NDArray[np.float64]) -> list[float | str]:
    """Return numbers as JSON has them; it has none for NaN and infinity, which are written as words."""
    return [value if math.isfinite(value) else str(value) for value in values.tolist()]


def _mask_text(mask: Mask) -> str:
    """Write a mask on one line: run lengths as they are, polygons as numbers between bars."""
    if isinstance(mask, bytes):
        return f"rle {mask.decode('ascii')}"
    return "xy " + "|".join(",".join(repr(float(value)).removesuffix(".0") for value in part) for part in mask)


def _mask_from(text: str) -> Mask:
    """Read what _mask_text wrote."""
    kind, _, body = text.partition(" ")
    if kind == "rle":
        return body.encode("ascii")
    return tuple(tuple(float(value) for value in part.split(",")) for part in body.split("|") if part)
