"""The candidates: which models there are, from whom, under which licence, trained on what."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources

from bakeoff.data.dataset import TaskName
from bakeoff.errors import UsageError, nearest
from bakeoff.models import FAMILIES, TASK_NAMES, find, from_timm, from_torchvision, licences

COUNTS = "timm_parameters.tsv"  # written by scripts/count_parameters.py


@dataclass(frozen=True)
class Entry:
    """One model with its published weights; `parameters` as published (1,000 classes), None where not known.

    For U-Nets and detectors the weights are those of the encoder or backbone.
    """

    name: str
    family: str
    parameters: int | None
    licence: str | None
    pretraining: str | None
    has_weights: bool
    tasks: tuple[TaskName, ...] = ("classification",)


def catalogue(
    pattern: str | None = None,
    family: str | None = None,
    licence: str | None = None,
    max_parameters: int | None = None,
    task: str | None = None,
) -> list[Entry]:
    """List models in order of family and name, without building any.

    `pattern` is a shell pattern (resnet*) or a part of the name; `licence` a part of the licence ("apache"), "none" for
    weights whose licence is not stated, or one of licences.KINDS for weights of that kind.  Models whose size is not
    known do not pass `max_parameters`.  Raises UsageError for a family, task or licence that does not exist.
    """
    if task is not None and task not in TASK_NAMES:
        raise UsageError(f"unknown task {task!r}{nearest(task, TASK_NAMES)}; known are {', '.join(TASK_NAMES)}")
    known = [member.NAME for member in FAMILIES]
    if family is not None and family not in known:
        raise UsageError(f"there is no model family {family!r}{nearest(family, known)}; there are {', '.join(known)}")
    entries = [
        entry(name, member.NAME)
        for member in FAMILIES
        if family in (None, member.NAME)
        for name in dict.fromkeys(name for one in TASK_NAMES if task in (None, one) for name in member.names(one))
        if _matches(name, pattern) or _matches(f"{member.NAME}:{name}", pattern)
    ]
    _check_licence(licence, entries)
    return [
        found
        for found in entries
        if (licence is None or _licensed(found, licence))
        and (max_parameters is None or (found.parameters is not None and found.parameters <= max_parameters))
    ]


def entry(arch: str, source: str | None = None) -> Entry:
    """Return the entry of one model; raises UsageError with the nearest name when there is none."""
    family = find(arch, source)
    card = family.card(arch)
    tasks = tuple(task for task in TASK_NAMES if family.has(arch, task))
    parameters, weights = None, card.pretraining not in (None, "none")
    if family.NAME == from_torchvision.NAME:
        parameters = from_torchvision.published(arch).meta["num_params"]
    if family.NAME == from_timm.NAME:
        parameters, weights = _counts().get(arch.partition(".")[0]), from_timm.has_weights(arch)
    return Entry(arch, family.NAME, parameters, card.licence, card.pretraining, weights, tasks)


def _matches(name: str, pattern: str | None) -> bool:
    """Match a shell pattern, or a part of the name where the pattern has no wildcard."""
    if pattern is None:
        return True
    wild = any(sign in pattern for sign in "*?[")
    return fnmatchcase(name.lower(), pattern.lower()) if wild else pattern.lower() in name.lower()


def _check_licence(asked: str | None, entries: list[Entry]) -> None:
    """Refuse a licence that is no kind, nor part of one that is known or stated: a list without rows would say less."""
    stated = {entry.licence or "" for entry in entries}
    known = {*licences.KINDS, *licences.PERMISSIVE, *licences.RESTRICTED, "none"}
    if asked is not None and not any(asked.lower() in name.lower() for name in known | stated):
        kinds = ", ".join(licences.KINDS)
        raise UsageError(f"no weights have the licence {asked!r}{nearest(asked, sorted(known))}; kinds are {kinds}")


def _licensed(found: Entry, licence: str) -> bool:
    """Match the kind of the licence, or a part of it; "none" matches what states none."""
    if licence.lower() in licences.KINDS:
        return found.has_weights and licences.kind(found.licence) == licence.lower()
    return found.licence is None if licence.lower() == "none" else licence.lower() in (found.licence or "").lower()


@cache
def _counts() -> dict[str, int]:
    """Parameter counts of timm's architectures as timm builds them by default."""
    text = resources.files("bakeoff.models").joinpath(COUNTS).read_text(encoding="utf-8")
    rows = (line.split("\t") for line in text.splitlines() if not line.startswith("#"))
    return {name: int(count) for name, count in rows}
