"""Coded findings about a dataset: what is broken, doubled, leaking, rare or odd, each in a sentence to act on."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bakeoff.data.audit_boxes import (
    axes_swapped,
    box_out_of_image,
    box_without_area,
    conflicting_box,
    crowd,
    duplicate_box,
    frame_differs,
    mask_empty,
    mask_full,
    mask_off_box,
    no_objects,
    object_below_pixel,
)
from bakeoff.data.audit_classes import (
    ORDER,
    class_imbalance,
    class_missing,
    class_rare,
    class_unused,
    pixel_imbalance,
    validation_small,
)
from bakeoff.data.audit_maps import (
    ignored_pixels,
    map_of_one_class,
    mask_shape,
    mask_size,
    mask_unreadable,
    mask_value,
)
from bakeoff.data.dataset import Dataset, TaskName
from bakeoff.data.duplicates import Duplicates, Progress, Signatures, duplicates
from bakeoff.data.duplicates import signatures as sign
from bakeoff.data.leaks import PARTS, describe_leak, leaking_pairs
from bakeoff.data.outliers import Embed
from bakeoff.data.quality import (
    Look,
    Observation,
    View,
    blurred,
    greyscale_mixed,
    low_contrast,
    odd_aspect,
    odd_size,
    outlier,
    smaller_than_input,
    very_bright,
    very_dark,
    wrong_suffix,
)
from bakeoff.data.split import Split, Splits
from bakeoff.data.targets import Boxes, Label
from bakeoff.findings import Finding, Severity, listed, plural, printable

ALL: tuple[TaskName, ...] = ("classification", "semantic", "detection", "instance")
COUNTED: tuple[TaskName, ...] = ("classification", "detection", "instance")  # classes by images or objects
MANY: tuple[TaskName, ...] = ("semantic", "detection", "instance")  # classes may be in one image
MAPS: tuple[TaskName, ...] = ("semantic",)
OBJECTS: tuple[TaskName, ...] = ("detection", "instance")
MASKS: tuple[TaskName, ...] = ("instance",)


@dataclass(frozen=True)
class Audit:
    """Findings, the gravest first, and the signatures and duplicates they were drawn from."""

    findings: tuple[Finding, ...]
    signatures: Signatures
    duplicates: Duplicates

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able dictionary: findings, and how many images were read."""
        return {
            "images": len(self.signatures) + len(self.signatures.unreadable),
            "readable": len(self.signatures),
            "unreadable": dict(self.signatures.unreadable),
            "findings": [finding.to_json() for finding in self.findings],
        }


@dataclass(frozen=True)
class Check:
    """One thing to look for: its code for programs, a title for headings, its severity, and the function that looks.

    `tasks` are those whose data it applies to.
    """

    code: str
    title: str
    severity: Severity
    look: Look
    tasks: tuple[TaskName, ...] = ALL

    def __call__(self, view: View) -> Finding | None:
        """Return the finding, or None where there is nothing to say."""
        seen = self.look(view)
        return None if seen is None else Finding(self.code, seen.severity or self.severity, seen.sentence, seen.records)


def audit(
    dataset: Dataset,
    splits: Splits | None = None,
    size: int | None = None,
    signatures: Signatures | None = None,
    embed: Embed | None = None,
    progress: Progress | None = None,
) -> Audit:
    """Run every check of CHECKS that applies to the task; what the reader of the data remarked comes with its findings.

    Derived images are counted, and otherwise only tried for being readable: the checks are about the originals.

    Without `splits` the split that the data prescribes is looked at, if any.  `size` is the input size of the networks,
    `signatures` spares the pass over the images, `embed(dataset, ids) -> (n, d)` replaces the descriptor that outliers
    are found in, `progress(done, total)` follows the pass.
    """
    measured = sign(dataset, progress=progress) if signatures is None else signatures
    same = duplicates(measured)
    images = dataset.originals
    parts = _prescribed(images) if splits is None else splits.parts
    view = View(images, measured, same, parts, size, embed, dataset.methods)
    looked = [check(view) for check in CHECKS if dataset.task in check.tasks]
    findings = [*dataset.remarks, *(finding for finding in looked if finding is not None)]
    return Audit(tuple(sorted(findings, key=lambda finding: ORDER[finding.severity])), measured, same)


def _prescribed(dataset: Dataset) -> tuple[Split, ...]:
    """Return the split that the data prescribes, if any."""
    train, val, test = (tuple(r.id for r in dataset.records if r.split == name) for name in PARTS)
    return (Split(train, val, test),) if val or test else ()


# --- files ---


def unreadable(view: View) -> Observation | None:
    """Files that are no image, or a broken one."""
    return _broken(view, {i: why for i, why in view.signatures.unreadable.items() if not _is_cut(why)}, "unreadable")


def truncated(view: View) -> Observation | None:
    """Files that end too early."""
    return _broken(view, {i: why for i, why in view.signatures.unreadable.items() if _is_cut(why)}, "cut off")


def _is_cut(reason: str) -> bool:
    """Say whether a decoder's reason means that the file ends too early."""
    return any(word in reason.lower() for word in ("truncat", "too early", "premature", "end of file", "end-of-file"))


def _broken(view: View, reasons: Mapping[str, str], what: str) -> Observation | None:
    """Name broken files and the first reason."""
    if not reasons:
        return None
    ids = tuple(reasons)
    first = f"{printable(ids[0])}: {printable(reasons[ids[0]])}"
    return Observation(f"{what}: {view.some(ids)}; {first}; repair or remove them, or skip unreadable images", ids)


# --- the same picture twice ---


def duplicate(view: View) -> Observation | None:
    """Images with equal pixels."""
    advice = "they stay on one side of every split; remove the copies unless they are meant"
    return _alike(view.duplicates.exact, "equal pixels", advice)


def near_duplicate(view: View) -> Observation | None:
    """The same picture in two guises, or why that was not looked for."""
    note = f"{view.duplicates.note[:1].upper()}{view.duplicates.note[1:]}" if view.duplicates.note else ""
    seen = _alike(view.duplicates.near, "nearly the same picture", "they stay on one side of every split")
    if seen is None:
        return Observation(note, (), "info") if note else None
    return Observation(f"{seen.sentence}. {note}" if note else seen.sentence, seen.records, "info")


def _alike(groups: Sequence[tuple[str, ...]], what: str, advice: str) -> Observation | None:
    """Name groups of like images."""
    if not groups:
        return None
    first = "; ".join(" = ".join(printable(id) for id in group[:3]) for group in groups[:3])
    ids = tuple(id for group in groups for id in group)
    more = f"; and {len(groups) - 3} more" if len(groups) > 3 else ""
    return Observation(
        f"{what}: {len(ids):,} images show {plural(len(groups), 'picture')} ({first}{more}); {advice}", ids
    )


def label_conflict(view: View) -> Observation | None:
    """Equal pixels under two labels, or with different objects or label maps."""
    at_odds = [group for group in view.duplicates.exact if len({_content(view, id) for id in group}) > 1]
    return _alike(at_odds, "the same picture under different labels", "at least one label is wrong: correct it")


def _content(view: View, id: str) -> Hashable:
    """Return what tells the labels of two images with equal pixels apart; the order of objects does not count."""
    place = view.dataset.index[id]
    target = view.dataset.records[place].target
    if isinstance(target, Label):
        return target.index
    if isinstance(target, Boxes):
        rows = zip(target.labels.tolist(), np.rint(target.xyxy).tolist(), strict=True)
        return tuple(sorted((label, *box) for label, box in rows))
    return view.maps.digests[place]


def duplicate_across_splits(view: View) -> Observation | None:
    """Images with equal pixels on both sides of a split."""
    return _across(view, view.duplicates.exact, "a duplicate")


def near_duplicate_across_splits(view: View) -> Observation | None:
    """Nearly the same picture on both sides of a split."""
    return _across(view, view.duplicates.near, "a near-duplicate")


def leaking_group(view: View) -> Observation | None:
    """A patient, video or series on both sides of a split."""
    members: dict[str, list[str]] = {}
    for record in view.dataset.records:
        if record.group is not None:
            members.setdefault(record.group, []).append(record.id)
    return _across(view, list(members.values()), "their group")


def _across(view: View, groups: Sequence[Sequence[str]], what: str) -> Observation | None:
    """Name the pairs of these groups that stand on two sides of any of the splits."""
    for split in view.splits:  # folds leak alike: the first that does is named
        part = split.part
        pairs = leaking_pairs(groups, part)
        if pairs:
            sentence = describe_leak(view.dataset, pairs, part, what)
            advice = "split the data afresh, or accept the leak by name"
            return Observation(f"{sentence}; {advice}", tuple(held for held, _ in pairs))
    return None


def expanded(view: View) -> Observation | None:
    """Images that were made from others."""
    if not view.derived:
        return None
    made = listed([f"{method} {count:,}" for method, count in view.derived.items()])
    total = plural(sum(view.derived.values()), "derived image")
    advice = "they are trained on beside their originals, and never validated or tested on"
    return Observation(f"{total} ({made}) beside {plural(len(view.dataset), 'original')}: {advice}")


CHECKS = (
    Check("unreadable", "Unreadable images", "error", unreadable),
    Check("truncated", "Files that end too early", "error", truncated),
    Check("duplicate-across-splits", "Duplicates across splits", "error", duplicate_across_splits),
    Check("near-duplicate-across-splits", "Near-duplicates across splits", "error", near_duplicate_across_splits),
    Check("leaking-group", "Groups across splits", "error", leaking_group),
    Check("class-missing", "Classes missing from a part", "error", class_missing),
    Check("label-conflict", "One picture, two labels", "warning", label_conflict),
    Check("duplicate", "Duplicates", "warning", duplicate),
    Check("near-duplicate", "Near-duplicates", "info", near_duplicate),
    Check("class-imbalance", "Unequal classes", "warning", class_imbalance, COUNTED),
    Check("pixel-imbalance", "Unequal areas of classes", "warning", pixel_imbalance, MAPS),
    Check("class-rare", "Rare classes", "warning", class_rare),
    Check("class-unused", "Classes that never occur", "warning", class_unused, MANY),
    Check("validation-small", "Small validation", "warning", validation_small),
    Check("mask-unreadable", "Unreadable masks", "error", mask_unreadable, MAPS),
    Check("mask-value", "Mask values without a class", "error", mask_value, MAPS),
    Check("mask-shape", "Masks of another shape", "warning", mask_shape, MAPS),
    Check("mask-size", "Masks of another size", "info", mask_size, MAPS),
    Check("mask-one-class", "Empty and full masks", "info", map_of_one_class, MAPS),
    Check("pixels-ignored", "Ignored pixels", "info", ignored_pixels, MAPS),
    Check("box-without-area", "Boxes without area", "warning", box_without_area, OBJECTS),
    Check("box-out-of-image", "Boxes out of the image", "warning", box_out_of_image, OBJECTS),
    Check("axes-swapped", "Swapped axes?", "warning", axes_swapped, OBJECTS),
    Check("object-below-pixel", "Objects below a pixel", "warning", object_below_pixel, OBJECTS),
    Check("duplicate-box", "Objects marked twice", "warning", duplicate_box, OBJECTS),
    Check("conflicting-box", "One object, two classes", "warning", conflicting_box, OBJECTS),
    Check("frame-differs", "Labels for another size", "warning", frame_differs, OBJECTS),
    Check("mask-empty", "Masks without a pixel", "warning", mask_empty, MASKS),
    Check("mask-full", "Masks of the whole image", "info", mask_full, MASKS),
    Check("mask-off-box", "Boxes beside their masks", "warning", mask_off_box, MASKS),
    Check("no-objects", "Images without objects", "info", no_objects, OBJECTS),
    Check("crowd", "Crowds and difficult objects", "info", crowd, OBJECTS),
    Check("expanded", "Derived images", "info", expanded),
    Check("odd-size", "Odd sizes", "info", odd_size),
    Check("odd-aspect", "Odd shapes", "info", odd_aspect),
    Check("smaller-than-input", "Smaller than the input", "info", smaller_than_input),
    Check("very-dark", "Very dark", "info", very_dark),
    Check("very-bright", "Very bright", "info", very_bright),
    Check("low-contrast", "Low contrast", "info", low_contrast),
    Check("blurred", "Blurred", "info", blurred),
    Check("wrong-suffix", "Names that mislead", "info", wrong_suffix),
    Check("greyscale-mixed", "Grey and colour mixed", "info", greyscale_mixed),
    Check("outlier", "Outliers to review", "info", outlier),
)
