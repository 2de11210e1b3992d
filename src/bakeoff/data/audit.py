"""Coded findings about a dataset: what is broken, doubled, leaking, rare or odd, each in a sentence to act on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bakeoff.data.dataset import Dataset
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
from bakeoff.data.split import class_missing as missing_classes
from bakeoff.data.split import validation_small as small_validation
from bakeoff.findings import Finding, Severity, listed, plural, printable

IMBALANCE, STRONG_IMBALANCE = 3.0, 10.0  # images of the largest class per image of the smallest
RARE = 20  # images of a class below which its numbers say little
ORDER = {"error": 0, "warning": 1, "info": 2}


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
    """One thing to look for: its code for programs, a title for headings, its severity, and the function that looks."""

    code: str
    title: str
    severity: Severity
    look: Look

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
    """Run every check of CHECKS.

    Without `splits` the split that the data prescribes is looked at, if any.  `size` is the input size of the networks,
    `signatures` spares the pass over the images, `embed(dataset, ids) -> (n, d)` replaces the descriptor that outliers
    are found in, `progress(done, total)` follows the pass.
    """
    measured = sign(dataset, progress=progress) if signatures is None else signatures
    same = duplicates(measured)
    parts = _prescribed(dataset) if splits is None else splits.parts
    view = View(dataset, measured, same, parts, size, embed)
    findings = [finding for check in CHECKS if (finding := check(view)) is not None]
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
    """Equal pixels under two labels."""
    records, index = view.dataset.records, view.dataset.index
    at_odds = [group for group in view.duplicates.exact if len({records[index[id]].label for id in group}) > 1]
    return _alike(at_odds, "the same picture under different labels", "at least one label is wrong: correct it")


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


# --- classes and parts ---


def class_imbalance(view: View) -> Observation | None:
    """Classes of very different size."""
    counts = view.dataset.counts()
    large, small = max(counts, key=lambda name: counts[name]), min(counts, key=lambda name: counts[name])
    ratio = counts[large] / max(counts[small], 1)
    if ratio < IMBALANCE:
        return None
    share = counts[large] / max(len(view.dataset), 1)
    sentence = (
        f"class {printable(large)} has {counts[large]:,} images and {printable(small)} {counts[small]:,}: "
        f"always answering {printable(large)} is right in {share:.0%}"
    )
    advice = "read balanced accuracy, try class weights or balanced sampling"
    return Observation(f"{sentence}; {advice}", (), "warning" if ratio >= STRONG_IMBALANCE else "info")


def class_rare(view: View) -> Observation | None:
    """Classes too small to judge."""
    rare = {name: n for name, n in view.dataset.counts().items() if n < RARE}
    if not rare:
        return None
    named = [f"{name} ({n})" for name, n in sorted(rare.items(), key=lambda item: item[1])]
    few = f"{len(rare)} of {len(view.dataset.classes)} classes {'has' if len(rare) == 1 else 'have'}"
    sentence = f"{few} fewer than {RARE} images: {listed(named)}"
    ids = tuple(r.id for r in view.dataset.records if view.dataset.classes[r.label] in rare)
    return Observation(f"{sentence}; their own numbers will say little: bring more, or join classes", ids)


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
    Check("class-imbalance", "Unequal classes", "warning", class_imbalance),
    Check("class-rare", "Rare classes", "warning", class_rare),
    Check("validation-small", "Small validation", "warning", validation_small),
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
