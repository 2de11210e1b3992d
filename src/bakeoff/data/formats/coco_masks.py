"""COCO's `segmentation`: polygons, or run lengths as numbers or as text, checked before any library sees them."""

from __future__ import annotations

from typing import Any

from faster_coco_eval.core import mask as coco

from bakeoff.data.targets import Mask
from bakeoff.errors import DataError

Size = tuple[int, int]


def read_mask(content: Any, size: Size, where: str) -> Mask | None:
    """Return the mask that a `segmentation` states for an image of `size`; None when it states none.

    Raises DataError, beginning with `where`, for polygons that are no lists of x, y pairs and for run lengths of
    another size than the image or that do not add up to it.
    """
    if not content:
        return None
    if isinstance(content, dict):
        return _runs(content, size, where)
    parts = [content] if isinstance(content, list) and not isinstance(content[0], list) else content
    values = [numbers(part) for part in parts] if isinstance(parts, list) else [None]
    if any(part is None or len(part) % 2 for part in values):
        raise DataError(f"{where}: segmentation must be lists x1, y1, x2, y2, … of numbers, or run lengths")
    return tuple(tuple(part) for part in values if part)


def write_mask(mask: Mask, size: Size) -> Any:
    """Return a mask as the `segmentation` that read_mask() reads."""
    if isinstance(mask, bytes):
        return {"size": [size[1], size[0]], "counts": mask.decode("ascii")}
    return [list(part) for part in mask]


def numbers(values: Any) -> list[float] | None:
    """Return a list of numbers as floats, None when it is something else."""
    if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
        return None
    try:
        return [float(value) for value in values]
    except OverflowError:
        return [float("inf")] * len(values)


def _runs(content: dict[str, Any], size: Size, where: str) -> bytes:
    """Return run lengths as compressed bytes."""
    shape, counts = content.get("size"), content.get("counts")
    if shape != [size[1], size[0]]:
        raise DataError(f"{where}: run lengths for [height, width] {shape}, but the image has {[size[1], size[0]]}")
    if isinstance(counts, list):
        if not all(type(count) is int and count >= 0 for count in counts) or sum(counts) != size[0] * size[1]:
            raise DataError(f"{where}: run lengths do not add up to the image's {size[0] * size[1]} pixels")
        return bytes(coco.frPyObjects({"size": shape, "counts": counts}, *shape)["counts"])
    text = counts.encode("ascii", "replace") if isinstance(counts, str) else b""
    lengths = _lengths(text)
    if not lengths or min(lengths) < 0 or sum(lengths) != size[0] * size[1]:
        raise DataError(f"{where}: damaged run lengths: they do not add up to the image's {size[0] * size[1]} pixels")
    return text


def _lengths(text: bytes) -> list[int]:
    """Unpack COCO's compressed run lengths (maskApi.c, rleFrString): 5 bits a byte, differences from the third on."""
    found: list[int] = []
    value = shift = 0
    for byte in text:
        piece = byte - 48
        if not 0 <= piece < 64:
            return []
        value |= (piece & 0x1F) << shift
        shift += 5
        if piece & 0x20:
            continue
        if piece & 0x10:
            value -= 1 << shift
        found.append(value + (found[-2] if len(found) > 2 else 0))
        value = shift = 0
    return [] if shift else found
