"""Every format that a dataset is read from and written to."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, TypedDict, Unpack

from bakeoff.data.dataset import Dataset, TaskName
from bakeoff.data.formats import coco, folder, idx, masks, objects, panoptic, table, via, voc, yolo
from bakeoff.data.formats.listing import list_images
from bakeoff.data.formats.rows import Options
from bakeoff.errors import DataError, UsageError, nearest

ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")


class Format(Protocol):
    """What a format module offers: `EXPECTS` says in a phrase what its data looks like, `TASKS` what it can carry.

    read() and write() in this module check the task first, so that a format need not.
    """

    NAME: str
    EXPECTS: str
    TASKS: tuple[TaskName, ...]

    def sniff(self, path: Path) -> str | None:
        """Say why the data at this path has the format, or None."""
        ...

    def read(self, path: Path, options: Options) -> Dataset:
        """Read the dataset.  Raises DataError."""
        ...

    def write(self, dataset: Dataset, path: Path) -> None:
        """Write the dataset into a new folder, such that read() gives it back.  Raises DataError, UsageError."""
        ...


# the first that fits wins
FORMATS: tuple[Format, ...] = (idx, voc, coco, yolo, via, panoptic, masks, objects, table, folder)


class MaskOptions(TypedDict, total=False):
    """What read() takes beside patterns, see rows.Options.parse."""

    task: str | None
    masks: str | None
    classes: str | None
    ignore: Iterable[str]


def sniff(path: Path | str, task: str | None = None) -> tuple[str, str]:
    """Return the name of the format found at a path, and why it is that one; `task`: only formats that can carry it.

    Raises UsageError when nothing is there, and DataError listing what each format expects when none fits.
    """
    path = _existing(Path(path))
    fitting = [format for format in FORMATS if task is None or task in format.TASKS]
    for format in fitting:
        why = format.sniff(path)
        if why is not None:
            return format.NAME, why
    expected = "".join(f"\n  {format.NAME}: {format.EXPECTS}" for format in fitting)
    raise DataError(f"{path}: {_what_is_there(path)}; expected one of:{expected}")


def read(
    path: Path | str,
    format: str | None = None,
    label_from: str | None = None,
    group_from: str | None = None,
    **more: Unpack[MaskOptions],
) -> Dataset:
    """Read a labelled dataset, by the named format or by the one that sniff() finds.

    `label_from` and `group_from` are regular expressions with a named group `label` or `group`, searched for in each
    record's path; `task`, `masks`, `classes` and `ignore`: see rows.Options.parse.  Raises UsageError for wrong
    arguments, DataError for data that cannot be used as it is.
    """
    options = Options.parse(label_from, group_from, **more)
    path = _existing(Path(path))
    task = options.task if options.label_from is None else options.task or "classification"
    if format is None:
        format = masks.NAME if options.masks is not None else sniff(path, task)[0]
    chosen = _format(format)
    _check_task(chosen, options.task, "read")
    if options.ignore and "semantic" not in chosen.TASKS:
        raise UsageError(f"{path}: data.ignore is for label maps; this was read as {chosen.NAME}")
    return chosen.read(path, options)


def write(dataset: Dataset, path: Path | str, format: str) -> None:
    """Write a dataset in the named format into a new folder, complete or not at all."""
    chosen = _format(format)
    _check_task(chosen, dataset.task, "written")
    if dataset.methods and chosen.NAME != table.NAME:
        raise UsageError(
            f"{dataset.source}: holds derived images, and as {chosen.NAME} they would be taken for originals; "
            f"write a {table.NAME}, or convert the data before they are expanded"
        )
    chosen.write(dataset, Path(path))


def _check_task(format: Format, task: str | None, verb: str) -> None:
    """Raise UsageError when a format has no place for the labels of a task."""
    if task is not None and task not in format.TASKS:
        others = [other.NAME for other in FORMATS if task in other.TASKS]
        raise UsageError(f"data for {task} cannot be {verb} as {format.NAME}; formats that can: {', '.join(others)}")


def _format(name: str) -> Format:
    """Return the format of that name."""
    for format in FORMATS:
        if name == format.NAME:
            return format
    names = [format.NAME for format in FORMATS]
    raise UsageError(f"unknown format {name!r}{nearest(name, names)}; known are {', '.join(names)}")


def _existing(path: Path) -> Path:
    """Return the path.  Raises UsageError with the nearest name beside it when nothing is there."""
    if path.exists():
        return path
    beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    raise UsageError(f"{path}: no such file or folder{nearest(path.name, beside)}")


def _what_is_there(path: Path) -> str:
    """Describe data that no format reads."""
    if path.is_file():
        return "a packed archive: unpack it first" if path.suffix.lower() in ARCHIVES else "not a table of images"
    listing = list_images(path)
    if not listing.ignored:
        return "the folder is empty"
    return f"no labelled images here ({'; '.join(listing.note())})"
