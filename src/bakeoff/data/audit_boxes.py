"""Checks of objects: boxes and masks that cannot be right, cannot be learned, or stand there twice."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
from faster_coco_eval.core import mask as coco
from numpy.typing import NDArray

from bakeoff.data.columns import ObjectColumns
from bakeoff.data.masks import to_runs
from bakeoff.data.quality import Observation, View
from bakeoff.data.targets import Instances
from bakeoff.findings import Severity, listed, plural, printable

ROUNDING = 0.5  # pixels that a box may reach out of the image
FAR_OUT = 0.1  # of a box's area outside, from which on it is more than a careless edge
SWAPPED = 0.05  # of the image's side that a box must reach out before swapped axes are thought of
SAME = 0.95  # overlap (IoU) from which on two boxes are one
FULL = 0.995  # of the image that a mask covers
PAIRS = 1_000_000  # of boxes compared at a time
MANY_OFF = 0.02  # of the objects
APART = (3.0, 0.1)  # pixels, and share of the box's longer side, that a box may lie off its mask


def box_without_area(view: View) -> Observation | None:
    """Boxes without width or height, with swapped corners, or with coordinates that are no numbers."""
    return _seen(
        view,
        ~view.objects.sound,
        "boxes without an area",
        "they are left out of training and judging; draw them again, or remove them",
    )


def box_out_of_image(view: View) -> Observation | None:
    """Boxes that reach out of their image, and how far."""
    columns = view.objects
    reach = np.where(columns.sound, _overreach(columns.xyxy, columns.sizes).max(axis=1), 0)
    out = reach > ROUNDING
    if not out.any():
        return None
    lost = 1 - _area(_clipped(columns.xyxy, columns.sizes)[out]) / _area(columns.xyxy[out])
    gone, far = int((lost >= 1).sum()), bool((lost > FAR_OUT).any())
    where = f", {gone:,} of them wholly outside and left out" if gone else ""
    what = f"boxes that reach out of the image, by up to {reach[out].max():,.0f} pixels{where}"
    advice = "they are cut at its edge; see whether they belong to another image, or to another size of it"
    return _seen(view, out, what, advice if far else "they are cut at its edge", "warning" if far else "info")


def axes_swapped(view: View) -> Observation | None:
    """Images whose boxes reach far out as they are, but would all fit with x and y exchanged."""
    columns = view.objects
    turned = columns.xyxy[:, [1, 0, 3, 2]]
    fits = (_overreach(turned, columns.sizes) <= ROUNDING).all(axis=1)
    far = columns.sound & (_overreach(columns.xyxy, columns.sizes) > SWAPPED * np.tile(columns.sizes, 2)).any(axis=1)
    wrong = np.setdiff1d(columns.records[far], columns.records[columns.sound & ~fits])
    if not len(wrong):
        return None
    ids = view.holding(wrong)
    sentence = f"x and y look exchanged: the boxes reach far out, and would fit the other way round: {view.some(ids)}"
    return Observation(f"{sentence}; look at them, and exchange the columns in the annotations", ids)


def object_below_pixel(view: View) -> Observation | None:
    """Objects that are less than a pixel wide or high at the input size of the networks (images squashed to it)."""
    if view.size is None:
        return None
    columns = view.objects
    small = columns.sound & ~columns.crowd & (columns.sides * view.size < columns.sizes).any(axis=1)
    what = f"objects narrower or lower than a pixel at the input size of {view.size}"
    advice = "nothing can learn or find them: choose a larger input, or cut the images into tiles"
    return _seen(view, small, what, advice, "warning" if small.sum() * 100 > len(columns) else "info")


def duplicate_box(view: View) -> Observation | None:
    """Two boxes of one class on one object."""
    return _twice(view, True, "the same object marked twice", "each counts as an object of its own: remove the copies")


def conflicting_box(view: View) -> Observation | None:
    """Two boxes of different classes on one object."""
    return _twice(view, False, "one object under two classes", "at least one is wrong, unless classes overlap")


def no_objects(view: View) -> Observation | None:
    """Images without any object."""
    empty = np.setdiff1d(np.arange(len(view.dataset)), view.objects.records)
    ids = view.holding(empty)
    if not ids:
        return None
    advice = "they teach what is no object; make sure that they are not merely unlabelled"
    severity: Severity = "warning" if 2 * len(ids) > len(view.dataset) else "info"
    return Observation(f"without any object: {view.some(ids)}; {advice}", ids, severity)


def crowd(view: View) -> Observation | None:
    """Regions that are neither learned nor judged."""
    return _seen(
        view, view.objects.crowd, "crowds and difficult objects", "they are not trained on, nor is finding one an error"
    )


def frame_differs(view: View) -> Observation | None:
    """Annotations made for another size than the image has."""
    columns = view.objects
    sizes = view.measured(columns.records)
    other = (sizes > 0).all(axis=1) & (sizes != columns.sizes).any(axis=1)
    advice = "the boxes may sit in the wrong place: label the images as they are, or resize them back"
    return _seen(view, other, "objects stated for another size than their image has", advice)


# --- masks ---


def mask_empty(view: View) -> Observation | None:
    """Objects whose mask has no pixel."""
    areas = view.objects.mask_areas
    if areas is None:
        return None
    return _seen(view, areas == 0, "masks without a pixel", "they are left out; draw them again, or remove them")


def mask_full(view: View) -> Observation | None:
    """Objects whose mask is the whole image."""
    columns = view.objects
    if columns.mask_areas is None:
        return None
    full = ~columns.crowd & (columns.mask_areas >= FULL * columns.sizes.prod(axis=1))
    return _seen(view, full, "masks that cover the whole image", "see whether the object was cut out by mistake")


def mask_off_box(view: View) -> Observation | None:
    """Objects whose box is not around their mask."""
    columns = view.objects
    if columns.mask_areas is None or columns.mask_boxes is None:
        return None
    checked = columns.sound & ~columns.crowd & (columns.mask_areas > 0)
    gap = np.abs(_clipped(columns.xyxy, columns.sizes) - columns.mask_boxes).max(axis=1)
    off = checked & (gap > np.maximum(APART[0], APART[1] * columns.sides.max(axis=1)))
    advice = "the mask is believed, and the box drawn around it; see which of the two is wrong"
    many = off.sum() > MANY_OFF * len(columns)  # a few may be slivers of outlines that enclose no pixel
    return _seen(view, off, "boxes that do not enclose their mask", advice, "warning" if many else "info")


# --- how ---


def _seen(
    view: View, mask: NDArray[np.bool_], what: str, advice: str, severity: Severity | None = None
) -> Observation | None:
    """Return 'what: n of m (class n, …) in k of l images (names); advice', or None where the mask is empty."""
    columns = view.objects
    if not mask.any():
        return None
    ids = view.holding(columns.records[mask])
    counts = np.bincount(columns.labels[mask], minlength=len(view.dataset.classes))
    order = [int(index) for index in np.argsort(-counts, kind="stable") if counts[index]]
    classes = listed([f"{view.dataset.classes[index]} {counts[index]:,}" for index in order])
    whole = f"{int(mask.sum()):,} of {plural(len(columns), 'object')} ({classes})"
    return Observation(f"{what}: {whole} in {view.some(ids)}; {advice}", ids, severity)


def _overreach(xyxy: NDArray[np.float64], sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return by how many pixels boxes lie beyond the left, upper, right and lower edge, (N, 4)."""
    return np.concatenate([-xyxy[:, :2], xyxy[:, 2:] - sizes], axis=1)


def _clipped(xyxy: NDArray[np.float64], sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return boxes cut at the edges of their images."""
    return np.asarray(np.clip(xyxy, 0, np.tile(sizes, 2)))


def _area(xyxy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the area of boxes."""
    return np.asarray((xyxy[:, 2:] - xyxy[:, :2]).prod(axis=1))


def _twice(view: View, same_class: bool, what: str, advice: str) -> Observation | None:
    """Name images in which two boxes, of one class or of two, are in one place."""
    columns = view.objects
    pairs = [
        (first, second)
        for first, second in _same_place(view)
        if (columns.labels[first] == columns.labels[second]) == same_class
    ]
    if not pairs:
        return None
    ids = view.holding(columns.records[[first for first, _ in pairs]])
    named = []
    for first, second in pairs:
        one, other = (printable(view.dataset.classes[columns.labels[place]]) for place in (first, second))
        named.append(one if same_class else f"{one} and {other}")
    kinds = [f"{name} {count:,}" for name, count in Counter(named).most_common()]
    sentence = f"{what}: {plural(len(pairs), 'pair')} of boxes ({listed(kinds)}) in {view.some(ids)}"
    return Observation(f"{sentence}; {advice}", ids)


def _same_place(view: View) -> list[tuple[int, int]]:
    """Return the pairs of objects in one image whose boxes, and masks if there are any, are one."""
    columns, found = view.objects, []
    useful = columns.sound & ~columns.crowd
    ends = np.searchsorted(columns.records, np.arange(len(view.dataset) + 1))
    for record, (start, end) in enumerate(pairwise(ends.tolist())):
        rows = np.flatnonzero(useful[start:end]) + start
        for first, second in _overlapping(columns, rows):
            if columns.mask_areas is None or _same_mask(view, record, first - start, second - start):
                found.append((first, second))
    return found


def _overlapping(columns: ObjectColumns, rows: NDArray[np.intp]) -> list[tuple[int, int]]:
    """Return the pairs among these objects whose boxes overlap by SAME; some rows at a time, so that crowds fit."""
    boxes = columns.xyxy[rows]
    areas, step = _area(boxes), max(1, PAIRS // max(1, len(rows)))
    found: list[tuple[int, int]] = []
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        corner = np.maximum(boxes[part, None, :2], boxes[None, :, :2])
        shared = np.maximum(np.minimum(boxes[part, None, 2:], boxes[None, :, 2:]) - corner, 0).prod(axis=2)
        first, second = np.nonzero(shared > SAME * (areas[part, None] + areas - shared))
        found += [(int(rows[i + start]), int(rows[j])) for i, j in zip(first, second, strict=True) if i + start < j]
    return found


def _same_mask(view: View, record: int, first: int, second: int) -> bool:
    """Say whether two masks of a record overlap by SAME."""
    target = view.dataset.records[record].target
    assert isinstance(target, Instances), "columns have masks where all targets do"
    width, height = target.size
    one, other = (
        [{"size": [height, width], "counts": to_runs(target.masks[place], target.size)}] for place in (first, second)
    )
    return float(np.asarray(coco.iou(one, other, [0]))[0, 0]) > SAME
