"""Checks of label maps: files that do not fit their image, maps that say little, pixels that are ignored."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from bakeoff.data.quality import Observation, View
from bakeoff.findings import Severity, listed, printable

SHAPE = 0.01  # by which the aspect ratios of image and mask may differ, besides the rounding of a pixel
MUCH_IGNORED = 0.5  # share of all pixels


def mask_unreadable(view: View) -> Observation | None:
    """Mask files that are missing, damaged, or no image."""
    advice = "mend or remove them"
    return _named(view, view.maps.unreadable, "the mask cannot be read", advice)


def mask_value(view: View) -> Observation | None:
    """Values in mask files that mean no class."""
    advice = "give them a class, or name them to be ignored"
    return _named(view, view.maps.unknown, "values without a class in the mask", advice)


def _named(view: View, reasons: Mapping[str, str], what: str, advice: str) -> Observation | None:
    """Name records with the first reason."""
    if not reasons:
        return None
    ids = tuple(reasons)
    return Observation(f"{what}: {view.some(ids)}; {printable(reasons[ids[0]])}; {advice}", ids)


def mask_size(view: View) -> Observation | None:
    """Label maps larger or smaller than their image, in its shape."""
    image, mask = _sizes(view)
    resized = (image != mask).any(axis=1) & ~_misshapen(image, mask)
    ids = view.holding(np.flatnonzero(resized))
    if not ids:
        return None
    smaller = mask[resized].prod(axis=1) < image[resized].prod(axis=1)
    ratio = np.sqrt(mask[resized].prod(axis=1) / image[resized].prod(axis=1))
    sentence = (
        f"masks of another size than their image: {view.some(ids)}, {int(smaller.sum()):,} of them smaller, "
        f"{ratio.min():.2f} to {ratio.max():.2f} times its sides"
    )
    return Observation(f"{sentence}; they are brought to the input size as they are, fine edges may be lost", ids)


def mask_shape(view: View) -> Observation | None:
    """Label maps whose shape is not that of their image."""
    image, mask = _sizes(view)
    wrong = _misshapen(image, mask)
    ids = view.holding(np.flatnonzero(wrong))
    if not ids:
        return None
    row = int(np.flatnonzero(wrong)[0])
    first = f"{printable(ids[0])} has {image[row][0]}x{image[row][1]}, its mask {mask[row][0]}x{mask[row][1]}"
    turned = int((image[wrong] == mask[wrong][:, ::-1]).all(axis=1).sum())
    why = f"; {turned:,} of the images lie turned by 90 degrees, as EXIF orientation does" if turned else ""
    sentence = f"masks of another shape than their image: {view.some(ids)}; {first}{why}"
    return Observation(f"{sentence}; every pixel may be wrong: export mask and image alike", ids)


def map_of_one_class(view: View) -> Observation | None:
    """Label maps that hold one class only: empty ones and full ones."""
    maps, classes = view.maps, view.dataset.classes
    alone = maps.read & ((maps.pixels > 0).sum(axis=1) == 1)
    ids = view.holding(np.flatnonzero(alone))
    if not ids:
        return None
    counts = np.bincount(maps.pixels[alone].argmax(axis=1), minlength=len(classes))
    order = [int(index) for index in np.argsort(-counts, kind="stable") if counts[index]]
    kinds = listed([f"all {classes[index]} {counts[index]:,}" for index in order])
    sentence = f"masks of one class only, empty or full: {view.some(ids)}: {kinds}"
    severity: Severity | None = "warning" if 2 * len(ids) > len(view.dataset) else None
    return Observation(f"{sentence}; see whether something was left unlabelled", ids, severity)


def ignored_pixels(view: View) -> Observation | None:
    """The share of pixels that are neither learned nor judged, and images that are nothing else."""
    maps = view.maps
    total = int(maps.sizes.prod(axis=1).sum())
    if not maps.ignored.any():
        return None
    share = maps.ignored.sum() / total
    empty = view.holding(np.flatnonzero(maps.read & (maps.pixels.sum(axis=1) == 0)))
    sentence = f"{share:.1%} of all pixels are ignored: neither learned nor judged"
    if empty:
        return Observation(f"{sentence}; nothing else is in {view.some(empty)}: leave them out", empty, "warning")
    return Observation(sentence, (), "warning" if share > MUCH_IGNORED else None)


def _sizes(view: View) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return width and height of images and of masks, (n, 2); where either cannot be read, both are one pixel."""
    image, mask = view.measured(np.arange(len(view.dataset))), view.maps.sizes
    known = (image > 0).all(axis=1, keepdims=True) & (mask > 0).all(axis=1, keepdims=True)
    return np.where(known, image, 1), np.where(known, mask, 1)


def _misshapen(image: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which masks are scaled along x and y by factors that differ by more than rounding does."""
    across, down = (mask / image).T
    slack = SHAPE + 1 / np.minimum(image, mask).min(axis=1) * (image != mask).any(axis=1)
    return np.asarray(np.abs(across / down - 1) > slack)
