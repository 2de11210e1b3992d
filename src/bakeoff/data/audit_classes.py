"""Checks of classes and parts: how often each class is there, in the whole data and in each part of a split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bakeoff.data.columns import image_counts
from bakeoff.data.quality import Observation, View
from bakeoff.data.split import class_missing as missing_classes
from bakeoff.data.split import validation_small as small_validation
from bakeoff.findings import Severity, listed, plural, printable

IMBALANCE, STRONG_IMBALANCE = 3.0, 10.0  # images or objects of the largest class per one of the smallest
PIXELS, STRONG_PIXELS = 10.0, 100.0  # the same for pixels: things and their surroundings differ in size
RARE = 20  # images or objects of a class below which its numbers say little
ORDER = {"error": 0, "warning": 1, "info": 2}


def class_imbalance(view: View) -> Observation | None:
    """Classes of very different size: in images, or in objects."""
    counts, single = view.dataset.counts(), view.dataset.task == "classification"
    large, small = _extremes(counts if single else {name: n for name, n in counts.items() if n} or counts)
    ratio = counts[large] / max(counts[small], 1)
    if ratio < IMBALANCE:
        return None
    severity: Severity = "warning" if ratio >= STRONG_IMBALANCE else "info"
    if not single:
        sentence = f"class {printable(large)} has {plural(counts[large], 'object')} and {printable(small)} "
        advice = "the mean over classes counts them alike: read the numbers of each class"
        return Observation(f"{sentence}{counts[small]:,}; {advice}", (), severity)
    share = counts[large] / max(len(view.dataset), 1)
    sentence = (
        f"class {printable(large)} has {counts[large]:,} images and {printable(small)} {counts[small]:,}: "
        f"always answering {printable(large)} is right in {share:.0%}"
    )
    advice = "read balanced accuracy, try class weights or balanced sampling"
    return Observation(f"{sentence}; {advice}", (), severity)


def pixel_imbalance(view: View) -> Observation | None:
    """Classes that cover very different shares of the pixels."""
    counts = dict(zip(view.dataset.classes, view.maps.pixels.sum(axis=0).tolist(), strict=True))
    total = max(sum(counts.values()), 1)
    large, small = _extremes({name: count for name, count in counts.items() if count} or counts)
    ratio = counts[large] / max(counts[small], 1)
    if ratio < PIXELS:
        return None
    sentence = (
        f"class {printable(large)} covers {counts[large] / total:.1%} of the labelled pixels and {printable(small)} "
        f"{counts[small] / total:.2%}: pixel accuracy hardly sees the small classes"
    )
    advice = "read the mean IoU and each class's own; try a Dice or focal loss, or class weights"
    return Observation(f"{sentence}; {advice}", (), "warning" if ratio >= STRONG_PIXELS else "info")


def _extremes(counts: Mapping[str, int]) -> tuple[str, str]:
    """Return the most and the least frequent class."""
    return max(counts, key=lambda name: counts[name]), min(counts, key=lambda name: counts[name])


def class_rare(view: View) -> Observation | None:
    """Classes too small to judge: by images, and in detection by objects."""
    data = view.dataset
    whole = image_counts(data) if data.task == "semantic" else data.counts()
    noun = "images" if data.task in ("classification", "semantic") else "objects"
    rare = {name: n for name, n in whole.items() if n < RARE and (n or data.task == "classification")}
    if not rare:
        return None
    named = [f"{name} ({n})" for name, n in sorted(rare.items(), key=lambda item: item[1])]
    few = f"{len(rare)} of {len(data.classes)} classes {'has' if len(rare) == 1 else 'have'}"
    sentence = f"{few} fewer than {RARE} {noun}: {listed(named)}"
    return Observation(
        f"{sentence}; their own numbers will say little: bring more, or join classes", _with_any(view, tuple(rare))
    )


def _with_any(view: View, names: Sequence[str]) -> tuple[str, ...]:
    """Return the ids of the images that hold any of these classes."""
    columns = [view.dataset.classes.index(name) for name in names]
    return view.holding(np.flatnonzero(view.presence[:, columns].any(axis=1)))


def class_unused(view: View) -> Observation | None:
    """Classes that are listed but never occur."""
    unused = [name for name, count in image_counts(view.dataset).items() if count == 0]
    if not unused:
        return None
    few = f"{len(unused)} of {len(view.dataset.classes)} classes never occur"
    return Observation(f"{few}: {listed(unused)}; nothing can be said about them: leave them out of the class list")


def class_missing(view: View) -> Observation | None:
    """Classes without an image in a part."""
    found = missing_classes(view.dataset, view.splits)
    if not found:
        return None
    gravest = min((finding.severity for finding in found), key=lambda severity: ORDER[severity])
    return Observation("; ".join(finding.sentence for finding in found), (), gravest)


def validation_small(view: View) -> Observation | None:
    """A validation part too small to choose an epoch."""
    found = small_validation(view.dataset, view.splits)
    return None if found is None else Observation(found.sentence)
