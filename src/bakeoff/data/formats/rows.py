"""What every reader is told and hands over: options, records, class names, and how they become a Dataset."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from bakeoff.data.dataset import Dataset, Record, SplitName, TaskName, labelled
from bakeoff.data.targets import Label
from bakeoff.errors import DataError, UsageError, nearest

Row = tuple[Record, str | None]  # None: the format states no label for this image
UNLABELLED = Label(0)  # labelled() fills in the true index
SPLITS: dict[str, SplitName] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


@dataclass(frozen=True)
class Options:
    """What a person says about how data is to be read, see parse()."""

    label_from: re.Pattern[str] | None = None
    group_from: re.Pattern[str] | None = None
    task: TaskName | None = None
    masks: str | None = None
    classes: str | None = None
    ignore: tuple[str, ...] = ()

    @classmethod
    def parse(
        cls,
        label_from: str | None = None,
        group_from: str | None = None,
        task: str | None = None,
        masks: str | None = None,
        classes: str | None = None,
        ignore: Iterable[str] = (),
    ) -> Options:
        """Compile the regular expressions of --label-from and --group-from, and check the task's name.

        Each is searched for in the record's id (the POSIX path below the dataset's folder) and has a named group
        `label` or `group`.  For alternatives more named groups may follow whose names begin so (group1, group2): the
        first that takes part counts.  The same text is the same group, whichever alternative found it.
        `task`: what to read the data as, where a format allows several.  For label maps: `masks` is the folder of the
        mask files or a pattern with {stem} (see masks.read), `classes` the path of a table of class names, `ignore`
        class names or raw values ("11", "#ff00ff") that are neither learned nor judged; "*" means every value that
        has no class.
        Raises UsageError for a bad expression, a missing named group or an unknown task.
        """
        tasks = {name: name for name in get_args(TaskName)}
        if task is not None and task not in tasks:
            raise UsageError(f"unknown task {task!r}{nearest(task, tasks)}; known are {', '.join(tasks)}")
        patterns = _compile(label_from, "label"), _compile(group_from, "group")
        return cls(*patterns, None if task is None else tasks[task], masks, classes, tuple(ignore))


def split_name(text: str) -> SplitName | None:
    """Return the split that a folder or cell names, in any case and by its usual synonyms, else None."""
    return SPLITS.get(text.strip().casefold())


def class_name(text: str) -> str:
    """Return a class name as it is kept: Unicode NFC, no space around it."""
    return unicodedata.normalize("NFC", text).strip()


def examples(names: Iterable[str], shown: int = 5) -> str:
    """Return the first names and how many more there are, for an error message."""
    listed = list(names)
    more = f" and {len(listed) - shown} more" if len(listed) > shown else ""
    return ", ".join(listed[:shown]) + more


def assemble(
    source: Path, rows: Sequence[Row], format: str, options: Options, lineage: Sequence[str], unlabelled: str
) -> Dataset:
    """Make the dataset: apply the patterns, refuse images without a label, and fewer than two classes.

    `unlabelled` says for this format what an image without a label is and what to do about it.
    """
    notes = list(lineage)
    if options.label_from is not None:
        labels = _matches(source, [record for record, _ in rows], options.label_from, "label")
        rows = [(record, labels[record.id]) for record, _ in rows]
        notes.append(f"labels taken from file names by {options.label_from.pattern!r}")
    records, grouping = grouped(source, [record for record, _ in rows], options)
    rows = [(record, label) for record, (_, label) in zip(records, rows, strict=True)]
    notes += grouping
    named = [(record, class_name(label)) for record, label in rows if label]
    missing = [record.id for record, label in rows if not label or not class_name(label)]
    if missing:
        raise DataError(f"{source}: {len(missing)} of {len(rows)} images {unlabelled}: {examples(missing)}")
    dataset = labelled(source, named, format)
    if len(dataset.classes) < 2:
        only = f"the one class {dataset.classes[0]!r}"
        raise DataError(f"{source}: all {len(dataset)} images have {only}; a comparison needs at least two classes")
    return replace(dataset, lineage=tuple(notes))


def arranged(source: Path, records: Iterable[Record], options: Options) -> tuple[tuple[Record, ...], tuple[str, ...]]:
    """Return the records of any task but classification in the order of their ids, groups applied, and notes on that.

    Raises UsageError for --label-from, which is for classification, and DataError when there is no record or the
    pattern for groups does not match.
    """
    if options.label_from is not None:
        raise UsageError(f"{source}: --label-from is for classification; here the labels are in files of their own")
    ordered = sorted(records, key=lambda record: record.id)
    if not ordered:
        raise DataError(f"{source}: no labelled image was found")
    found, notes = grouped(source, ordered, options)
    return tuple(found), tuple(notes)


def grouped(source: Path, records: Sequence[Record], options: Options) -> tuple[list[Record], list[str]]:
    """Return the records with the groups that the pattern finds, and the note that says so."""
    if options.group_from is None:
        return list(records), []
    groups = _matches(source, records, options.group_from, "group")
    note = f"groups taken from file names by {options.group_from.pattern!r}"
    return [replace(record, group=groups[record.id]) for record in records], [note]


def _compile(text: str | None, name: str) -> re.Pattern[str] | None:
    """Compile one pattern and check that it has its named group."""
    if text is None:
        return None
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise UsageError(f"--{name}-from {text!r}: not a regular expression: {error}") from None
    if not any(key.startswith(name) for key in pattern.groupindex):
        found = f"only {examples(pattern.groupindex)}" if pattern.groupindex else "none"
        example = f"'(?P<{name}>[a-z]+)_'"
        raise UsageError(f"--{name}-from {text!r}: a named group `{name}` is needed, as in {example}; it has {found}")
    return pattern


def _matches(source: Path, records: Sequence[Record], pattern: re.Pattern[str], name: str) -> dict[str, str]:
    """Return the text that the pattern finds in each record's id.  Raises DataError where it finds none."""
    keys = [key for key in pattern.groupindex if key.startswith(name)]
    found: dict[str, str] = {}
    for record in records:
        match = pattern.search(record.id)
        texts = [match[key] for key in keys if match[key]] if match else []
        if texts:
            found[record.id] = texts[0]
    missing = [record.id for record in records if record.id not in found]
    if missing:
        count = f"{len(missing)} of {len(records)} files"
        raise DataError(
            f"{source}: --{name}-from {pattern.pattern!r} does not match {count}: {examples(missing)}; widen the"
            f" pattern (alternatives: {name}1, {name}2, …) or move these files away"
        )
    return found
