"""Data read, audited and split, frozen in the study folder before anything trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bakeoff.data.audit import audit
from bakeoff.data.dataset import Dataset
from bakeoff.data.duplicates import clusters, duplicates, signatures
from bakeoff.data.formats import MaskOptions, read
from bakeoff.data.split import Splits, folds, given, holdout
from bakeoff.errors import DataError, UsageError
from bakeoff.files import digest, read_json, write_json
from bakeoff.store import StudyFolder
from bakeoff.study import DataSpec, SplitSpec, Study

Tell = Callable[[str, dict[str, Any]], None]  # (run id or "", fact): what a display is told


NAMED = 20  # unreadable images that an error names; the audit's sheet has all


def silent(_run: str, _fact: dict[str, Any]) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Prepared:
    """Data read, audited and split, as frozen in the study folder."""

    dataset: Dataset
    splits: Splits


def prepare(study: Study, folder: StudyFolder, tell: Tell = silent) -> Prepared:
    """Read, audit and split the data, or take up what the folder holds when neither data nor split rule changed."""
    tell("", {"kind": "phase", "name": "read"})
    spec = study.data
    dataset = _read(spec, folder)
    key = digest([dataset.fingerprint, study.split.model_dump(), spec.skip_unreadable, spec.accept_leaks])
    if folder.split.exists() and folder.audit.exists() and _up_to_date(read_json(folder.audit), key, study.size):
        return _taken_up(folder, dataset.source)
    tell("", {"kind": "phase", "name": "audit"})
    measured = signatures(dataset, progress=counter(tell))
    dataset = without_unreadable(dataset, measured.unreadable, spec.skip_unreadable)
    splits = split(study.split, dataset, clusters(dataset, duplicates(measured)), spec.accept_leaks)
    found = audit(dataset, splits, study.size, measured)
    for finding in found.findings:
        tell("", {"kind": "finding", **finding.to_json()})
    folder.audit.unlink(
        missing_ok=True
    )  # its key vouches for the other two: a kill between them must not leave an old one
    write_json(folder.data, dataset.to_json())
    write_json(folder.split, splits.to_json())
    write_json(folder.audit, {**found.to_json(), "key": key, "size": study.size})
    return Prepared(dataset, splits)


def _read(spec: DataSpec, folder: StudyFolder) -> Dataset:
    """Read the data of a study; where there is nothing any more, UsageError says how to name their new place."""
    if not Path(spec.path).exists():
        raise UsageError(
            f"{spec.path}: the data of the study {folder.path} are not there any more; if they were moved, name the "
            f"new place with --set data.path=NEW, or for good in {folder.study}"
        )
    return read_data(spec)


def read_data(spec: DataSpec) -> Dataset:
    """Read labelled images as the [data] section of a study says."""
    more: MaskOptions = {"task": spec.task, "masks": spec.masks, "classes": spec.classes, "ignore": spec.ignore}
    return read(Path(spec.path), spec.format, spec.label_from, spec.group_from, **more)


def _up_to_date(stored: Mapping[str, Any], key: str, size: int) -> bool:
    """Say whether a stored audit was made of the same data under the same rule, for networks of this input size."""
    return stored.get("key") == key and stored.get("size", size) == size


def _taken_up(folder: StudyFolder, source: Path) -> Prepared:
    """Return what the folder holds; the same images may have been moved to another `source` since."""
    content = read_json(folder.data)
    if content["source"] != str(source):
        content["source"] = str(source)
        write_json(folder.data, content)
    return Prepared(Dataset.from_json(content), Splits.from_json(read_json(folder.split)))


def without_unreadable(dataset: Dataset, unreadable: Mapping[str, str], skip: bool) -> Dataset:
    """Leave unreadable images (id -> reason) out if the user said so, else raise DataError naming them."""
    if not unreadable:
        return dataset
    if skip:
        return dataset.without(unreadable)
    named = "\n".join(f"  {dataset.source / id}: {reason}" for id, reason in list(unreadable.items())[:NAMED])
    more = f"\n  and {len(unreadable) - NAMED} more" if len(unreadable) > NAMED else ""
    raise DataError(
        f"{len(unreadable)} of {len(dataset)} images cannot be read:\n{named}{more}\n"
        "mend or remove them, or go on without them: --skip-unreadable (data.skip_unreadable = true)"
    )


def split(rule: SplitSpec, dataset: Dataset, joined: dict[str, str], accept_leaks: bool = False) -> Splits:
    """Split by a rule: cross-validation, the splits that the data prescribes, or a hold-out."""
    if rule.folds > 1:
        return folds(dataset, joined, rule.folds, rule.repeats, rule.val, rule.seed)
    prescribed = given(dataset, joined, rule.val, rule.seed, accept_leaks) if rule.given else None
    return prescribed or holdout(dataset, joined, rule.val, rule.test, rule.seed)


def counter(tell: Tell) -> Callable[[int, int], None]:
    """Return a progress callback that tells how many of how many images are done."""
    return lambda done, total: tell("", {"kind": "count", "done": done, "total": total})
