"""Kaggle's run lengths: "start length start length …", pixels counted from 1 down one column after another."""

from __future__ import annotations

import numpy as np
from faster_coco_eval.core import mask as coco

from bakeoff.errors import DataError

Size = tuple[int, int]
NOTHING = ("", "-1", "nan", "none")  # how competitions write an empty mask


def read_runs(text: str, size: Size, where: str) -> bytes:
    """Return COCO's compressed run lengths for an image of `size` (width, height).

    Raises DataError, beginning with `where`, for what is no list of pairs of whole numbers in rising order without
    overlap, and for pixels that the image does not have.
    """
    width, height = size
    pixels = width * height
    try:
        values = np.array([] if text.strip().casefold() in NOTHING else text.split(), np.int64)
    except (ValueError, OverflowError):
        raise DataError(f"{where}: run lengths are whole numbers, start length start length …") from None
    starts, lengths = values[::2], values[1::2]
    if len(starts) != len(lengths):
        raise DataError(f"{where}: {len(values)} numbers are no pairs of start and length")
    if len(starts) and (starts.min() < 1 or lengths.min() < 1):
        raise DataError(f"{where}: starts count from 1 and lengths are at least 1")
    ends = starts + lengths
    if (starts[1:] < ends[:-1]).any():
        place = int(np.flatnonzero(starts[1:] < ends[:-1])[0])
        raise DataError(
            f"{where}: the run at {starts[place + 1]} begins before the one at {starts[place]} ends: sort them"
        )
    if len(ends) and ends[-1] > pixels + 1:
        raise DataError(f"{where}: a run ends at pixel {ends[-1] - 1}, but the image has {pixels} ({width} x {height})")
    counts = np.empty(2 * len(starts) + 1, np.int64)
    counts[0::2] = np.append(starts, pixels + 1) - np.append(1, ends)
    counts[1::2] = lengths
    packed = coco.frPyObjects({"size": [height, width], "counts": counts.tolist()}, height, width)
    return bytes(packed["counts"])
