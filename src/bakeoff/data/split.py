"""Grouped, stratified, duplicate-safe splits and folds, frozen by the fingerprint of the data (docs/protocol.md, 4).

`clusters` (see duplicates.clusters) maps each id to the name of what must stay together; a cluster is never torn.
Every split is a function of ids, classes, clusters and seed; the order of the records does not matter.
Derived images (offline expansion) are in no part: Dataset.derived_from says which ones go with a training part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bakeoff.data.allot import allot, allot_many
from bakeoff.data.columns import image_counts, presence
from bakeoff.data.dataset import Dataset
from bakeoff.data.leaks import PARTS, describe_leak, leaking_pairs
from bakeoff.errors import DataError, LeakError, UsageError
from bakeoff.files import digest
from bakeoff.findings import Finding, Severity, listed, plural
from bakeoff.seeds import generator

SMALL_VALIDATION, SMALL_PER_CLASS = 100, 10  # docs/protocol.md, 3: below, an epoch cannot be chosen
OFF_SHARE, OFF_CLASS, OFF_COUNT = 0.03, 0.25, 2  # what is called unbalanced: share of a part, of a class, and images

Clusters = Mapping[str, str]
Draw = tuple[int, *tuple[int | str, ...]]  # the seed and the keys folded into it


@dataclass(frozen=True)
class Split:
    """Sorted ids of the three parts; under cross-validation the repeat and fold they belong to."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    repeat: int = 0
    fold: int = 0

    @cached_property
    def hash(self) -> str:
        """sha256 (hex) of the split as JSON."""
        return digest(asdict(self))

    @property
    def part(self) -> dict[str, str]:
        """The part of each id."""
        return {id: name for name in PARTS for id in getattr(self, name)}


@dataclass(frozen=True)
class Splits:
    """One split, or repeats x folds of them, of the data with this fingerprint.

    `groups` names the cluster of each id that is not alone in its cluster or that has a user group.
    """

    parts: tuple[Split, ...]
    seed: int
    fingerprint: str
    groups: dict[str, str]
    findings: tuple[Finding, ...] = ()

    @cached_property
    def hash(self) -> str:
        """sha256 (hex) of what the runs depend on: parts, groups and data."""
        return digest([[part.hash for part in self.parts], self.groups, self.fingerprint])

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able dictionary."""
        return {
            "seed": self.seed,
            "fingerprint": self.fingerprint,
            "hash": self.hash,
            "parts": [asdict(part) for part in self.parts],
            "groups": self.groups,
            "findings": [finding.to_json() for finding in self.findings],
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any], dataset: Dataset | None = None) -> Splits:
        """Rebuild from to_json().

        Raises DataError when the content was edited, or when `dataset` is given and is not the data that was split.
        """
        parts = tuple(
            Split(**{**part, **{name: tuple(part[name]) for name in PARTS}}) for part in map(dict, content["parts"])
        )
        findings = tuple(Finding.from_json(finding) for finding in content["findings"])
        splits = cls(parts, content["seed"], content["fingerprint"], dict(content["groups"]), findings)
        if splits.hash != content["hash"]:
            raise DataError("the stored split was changed after it was made (its hash differs): make it again")
        if dataset is not None:
            splits.check(dataset)
        return splits

    def check(self, dataset: Dataset) -> None:
        """Raise DataError unless this is the data that was split."""
        if dataset.fingerprint != self.fingerprint:
            raise DataError(
                f"{dataset.source}: the data changed since it was split (fingerprint {dataset.fingerprint[:12]}, "
                f"the split was made for {self.fingerprint[:12]}): restore the data, or split it again into a new study"
            )


# --- three ways to split ---


def holdout(dataset: Dataset, clusters: Clusters, val: float = 0.15, test: float = 0.2, seed: int = 0) -> Splits:
    """Return one split; `val` and `test` are shares of all images, 0 < test, 0 <= val.

    Raises UsageError for impossible shares, DataError when a part would be empty.
    """
    if not (0 < test < 1 and val >= 0 and val + test < 1):
        raise UsageError(f"val={val} and test={test} must be shares of all images that leave some for training")
    names = sorted(record.id for record in dataset.originals.records)
    split = _divide(dataset, clusters, names, {"train": 1 - val - test, "val": val, "test": test}, (seed, "holdout"))
    return _reviewed(dataset, clusters, (split,), seed, wanted={"val": val, "test": test})


def folds(
    dataset: Dataset, clusters: Clusters, folds: int = 5, repeats: int = 3, val: float = 0.15, seed: int = 0
) -> Splits:
    """Return repeats x folds splits in which every image is tested once per repeat.

    `val` is the share of each training part that is carved from it, 0 for none.
    Raises UsageError for impossible numbers, DataError when there are fewer clusters than folds.
    """
    if folds < 2 or repeats < 1 or not 0 <= val < 1:
        raise UsageError(f"folds={folds} must be at least 2, repeats={repeats} at least 1, val={val} in 0..1")
    images = dataset.originals.records
    count = len({clusters.get(record.id, record.id) for record in images})
    if count < folds:
        raise DataError(f"{dataset.source}: {count} groups of images cannot fill {folds} folds: ask for fewer folds")
    names = np.array(sorted(record.id for record in images), dtype=object)
    parts = []
    for repeat in range(repeats):
        draws = generator(seed, "folds", repeat)
        place = _placed(dataset, clusters, names, np.full(folds, 1 / folds), draws)
        for fold in range(folds):
            carved = {"train": 1 - val, "val": val}
            rest = _divide(dataset, clusters, names[place != fold], carved, (seed, "val", repeat, fold))
            test = tuple(names[place == fold])
            parts.append(replace(rest, test=test, repeat=repeat, fold=fold))
    return _reviewed(dataset, clusters, tuple(parts), seed, wanted={"test": 1 / folds})


def given(
    dataset: Dataset, clusters: Clusters, val: float = 0.15, seed: int = 0, accept_leaks: bool = False
) -> Splits | None:
    """Return the split that the data prescribes, or None when it prescribes none.

    train, val and test are taken as they are; without val, a share `val` is carved from train; with train and val only,
    val becomes the test.  A val too small to choose an epoch is merged with train and carved anew.
    Raises LeakError when duplicates or groups cross the parts, unless `accept_leaks`: then it is a warning; DataError
    when there are held-out images but none to train on.
    """
    images = dataset.originals.records
    parts = {name: sorted(r.id for r in images if (r.split or "train") == name) for name in PARTS}
    if not parts["val"] and not parts["test"]:
        return None
    if not parts["train"]:
        raise DataError(f"{dataset.source}: the given split has no training images: name a part 'train', or split anew")
    findings = [_unassigned(dataset), *_roles(dataset, parts, val)]
    if not parts["test"]:
        fresh = holdout(dataset, clusters, val, seed=seed)
        return replace(fresh, findings=(*filter(None, findings), *fresh.findings))
    findings.append(_leak(dataset, clusters, parts, accept_leaks))
    split = Split(tuple(parts["train"]), tuple(parts["val"]), ())
    if not parts["val"]:
        split = _divide(dataset, clusters, parts["train"], {"train": 1 - val, "val": val}, (seed, "val", 0, 0))
    split = replace(split, test=tuple(parts["test"]))
    reviewed = _reviewed(dataset, clusters, (split,), seed, wanted={})
    return replace(reviewed, findings=(*filter(None, findings), *reviewed.findings))


def _placed(
    dataset: Dataset,
    clusters: Clusters,
    names: NDArray[Any],
    shares: NDArray[np.float64],
    draws: np.random.Generator,
    needed: Sequence[int] = (),
) -> NDArray[np.intp]:
    """Return the part of each id: by its label, or by all classes that it holds."""
    rows = np.array([dataset.index[id] for id in names], np.intp)
    numbers = np.unique([clusters.get(id, id) for id in names], return_inverse=True)[1]
    if dataset.task != "classification":
        return allot_many(presence(dataset)[rows], numbers, shares, draws, needed)
    labels = np.array(dataset.strata, np.intp)[rows]
    return allot(labels, numbers, shares, draws, needed)


def _divide(
    dataset: Dataset, clusters: Clusters, names: Sequence[str] | NDArray[Any], shares: dict[str, float], draw: Draw
) -> Split:
    """Divide ids by shares into a split; every class goes to train first and then to test where it can."""
    asked = [name for name in PARTS if shares.get(name, 0) > 0]
    needed = [asked.index(name) for name in ("train", "test") if name in asked]
    ids = np.array(names, dtype=object)
    place = _placed(dataset, clusters, ids, np.array([shares[name] for name in asked]), generator(*draw), needed)
    divided: dict[str, tuple[str, ...]] = dict.fromkeys(PARTS, ())
    divided.update({name: tuple(ids[place == number]) for number, name in enumerate(asked)})
    empty = [name for name in asked if not divided[name]]
    if empty:
        groups = len({clusters.get(id, id) for id in ids})
        raise DataError(
            f"{dataset.source}: {len(ids)} images in {groups} groups are too few to fill {listed(empty)}: "
            "every part needs a group of its own; bring more images"
        )
    return Split(divided["train"], divided["val"], divided["test"])


# --- given splits ---


def smallest_validation(dataset: Dataset) -> int:
    """Return the images from which on an epoch can be chosen; where an image holds many classes, it counts for each."""
    classes = len(dataset.classes) if dataset.task == "classification" else 0
    return max(SMALL_VALIDATION, SMALL_PER_CLASS * classes)


def _roles(dataset: Dataset, parts: dict[str, list[str]], val: float) -> list[Finding]:
    """Give val another role where it must have one, changing `parts`; say so."""
    count = len(parts["val"])
    small = count < smallest_validation(dataset)
    if not parts["test"] and not small:
        parts["test"], parts["val"] = parts["val"], []
        sentence = f"the data prescribes train and validation only: its {count} validation images are used as the test"
        return [Finding("validation-as-test", "info", f"{sentence}, and a new validation is carved from train")]
    gain = val * (len(parts["train"]) + count) > count
    if not small or not count or (parts["test"] and not gain):
        return []
    parts["train"], parts["val"] = sorted(parts["train"] + parts["val"]), []
    sentence = (
        f"the given validation of {count} images is too small to choose an epoch: merged with train and split anew"
    )
    return [Finding("validation-merged", "info", sentence)]


def _unassigned(dataset: Dataset) -> Finding | None:
    """Say which records the prescribed split leaves out."""
    ids = tuple(record.id for record in dataset.originals.records if record.split is None)
    sentence = f"{len(ids)} images are in no part of the given split and are used for training: {listed(ids)}"
    return Finding("split-unassigned", "warning", sentence, ids) if ids else None


def _leak(dataset: Dataset, clusters: Clusters, parts: dict[str, list[str]], accept: bool) -> Finding | None:
    """Refuse duplicates and groups on both sides of a given split, or warn of them when accepted."""
    part = {id: name for name in PARTS for id in parts[name]}
    members: dict[str, list[str]] = {}
    for id in sorted(part):
        members.setdefault(clusters.get(id, id), []).append(id)
    pairs = leaking_pairs(members.values(), part)
    if not pairs:
        return None
    sentence = describe_leak(dataset, pairs, part)
    if not accept:
        raise LeakError(
            f"{dataset.source}: {sentence}. Split the data afresh (split.given = false), or accept the leak "
            "(data.accept_leaks = true): the verdict is then printed with and without these images"
        )
    leaking = tuple(held for held, _ in pairs if part[held] == "test")
    return Finding("leak", "warning", f"accepted leak: {sentence}", leaking)


# --- what a split is like ---


def _reviewed(
    dataset: Dataset, clusters: Clusters, parts: tuple[Split, ...], seed: int, wanted: dict[str, float]
) -> Splits:
    """Freeze splits with the findings about them."""
    frozen, dataset = dataset.fingerprint, dataset.originals
    sizes = Counter(clusters.get(record.id, record.id) for record in dataset.records)
    groups = {
        r.id: clusters.get(r.id, r.id)
        for r in dataset.records
        if sizes[clusters.get(r.id, r.id)] > 1 or r.group is not None
    }
    findings = (*class_missing(dataset, parts), validation_small(dataset, parts), unbalanced(dataset, parts, wanted))
    return Splits(parts, seed, frozen, groups, tuple(filter(None, findings)))


def class_missing(dataset: Dataset, parts: Sequence[Split]) -> list[Finding]:
    """Say which classes a part lacks: an error in train, and in test unless another fold tests the class.

    Where an image may hold many classes it is a warning, and about classes that occur at all: a mean over classes
    leaves those out that the test has not.
    """
    findings = []
    single, whole = dataset.task == "classification", image_counts(dataset)
    for name in PARTS:
        pools = [getattr(split, name) for split in parts if getattr(split, name)]
        if name == "test" and len(parts) > 1:
            pools = [sum(pools, ())]
        counts = [image_counts(dataset, ids) for ids in pools]
        missing = sorted({label for held in counts for label, n in held.items() if n == 0 and (single or whole[label])})
        if missing:
            sentence = f"{len(missing)} of {len(dataset.classes)} classes have no image in {name}: {listed(missing)}"
            advice = "bring more images of them, or leave these classes out"
            severity: Severity = "error" if single and name != "val" else "warning"
            findings.append(Finding("class-missing", severity, f"{sentence}; {advice}"))
    return findings


def validation_small(dataset: Dataset, parts: Sequence[Split]) -> Finding | None:
    """Warn when a validation (one that was asked for) is too small to choose an epoch."""
    count = min((len(split.val) for split in parts if split.val), default=None)
    needed = smallest_validation(dataset)
    if count is None or count >= needed:
        return None
    why = f" ({SMALL_VALIDATION}, and {SMALL_PER_CLASS} per class)" if dataset.task == "classification" else ""
    sentence = f"validation has {plural(count, 'image')}, fewer than {needed}{why}"
    return Finding(
        "validation-small", "warning", f"{sentence}: the best epoch chosen on it is partly luck, take the last epoch"
    )


def unbalanced(dataset: Dataset, parts: Sequence[Split], wanted: Mapping[str, float]) -> Finding | None:
    """Say how far parts are from the wanted shares, and classes from their share of a part."""
    whole, count = image_counts(dataset), len(dataset)
    off: list[tuple[float, str]] = []
    for split in parts:
        for name in PARTS:
            ids = getattr(split, name)
            where = f"{name} of repeat {split.repeat} fold {split.fold}" if len(parts) > 1 else name
            share = len(ids) / count
            gap = abs(share - wanted.get(name, share))
            if gap > OFF_SHARE and gap * count > OFF_COUNT:
                off.append((gap, f"{where} is {share:.0%} of the images instead of {wanted[name]:.0%}"))
            for label, n in image_counts(dataset, ids).items():
                expected = whole[label] * share
                if abs(n - expected) > max(OFF_COUNT, OFF_CLASS * expected):
                    sentence = (
                        f"{where} has {plural(n, 'image')} of {listed([label])} where an even split has {expected:.0f}"
                    )
                    off.append((abs(n - expected) / count, sentence))
    if not off:
        return None
    worst = "; ".join(sentence for _, sentence in sorted(off, key=lambda item: -item[0])[:3])
    more = f"; and {len(off) - 3} more" if len(off) > 3 else ""
    return Finding("unbalanced-split", "info", f"some parts stay unbalanced: {worst}{more}")
