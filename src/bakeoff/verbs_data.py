"""The verbs of `bakeoff data`: labelled images read, audited, split, shown, converted and expanded."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bakeoff.data import audit as audit_room
from bakeoff.data import formats
from bakeoff.data.audit import Audit
from bakeoff.data.cache import Counter
from bakeoff.data.convert import as_task
from bakeoff.data.dataset import Dataset, TaskName
from bakeoff.data.duplicates import clusters, duplicates, signatures
from bakeoff.data.expand import Expanded, Expansion
from bakeoff.data.expand import expand as write_expansion
from bakeoff.data.sheet import audit_sheet, picture_sheet, show_sheet
from bakeoff.data.split import Splits
from bakeoff.errors import UsageError, nearest
from bakeoff.files import replacing, write_json, write_text
from bakeoff.models import TASK_NAMES
from bakeoff.prepare import read_data, without_unreadable
from bakeoff.prepare import split as split_by_rule
from bakeoff.study import DataSpec, SplitSpec, anchor, make_part

Settings = Mapping[str, Any]


def read(data: str | Path, settings: Settings | None = None) -> Dataset:
    """Read labelled images in any format; `settings` may hold any field of the [data] section of a study."""
    return read_data(data_spec(Path(data), settings))


def data_spec(path: Path, settings: Settings | None = None) -> DataSpec:
    """Return the [data] section that settings by dotted path make."""
    chosen = {key.removeprefix("data."): value for key, value in (settings or {}).items() if key.startswith("data.")}
    content = anchor({"data": {**chosen, "path": str(path)}}, Path.cwd())
    return make_part(DataSpec, {**content["data"], "path": str(path)}, "data")


def audit(
    data: str | Path, out: str | Path | None = None, settings: Settings | None = None, progress: Counter | None = None
) -> Audit:
    """Audit labelled images and, with `out`, write the findings as an HTML contact sheet."""
    dataset = read(data, settings)
    found = audit_room.audit(dataset, progress=progress)
    if out is not None:
        write_audit(out, dataset, found)
    return found


def write_audit(out: str | Path, dataset: Dataset, found: Audit) -> None:
    """Write an audit's findings as an HTML contact sheet."""
    write_text(Path(out), audit_sheet(dataset, found))


def split(
    data: str | Path, out: str | Path = "split.json", settings: Settings | None = None, progress: Counter | None = None
) -> Splits:
    """Split labelled images by the rule of `settings` (split.val, split.test, split.folds, …) and write it as JSON."""
    dataset = read(data, settings)
    measured = signatures(dataset, progress=progress)
    spec = data_spec(Path(data), settings)
    readable = without_unreadable(dataset, measured.unreadable, spec.skip_unreadable)
    chosen = {key.removeprefix("split."): value for key, value in (settings or {}).items() if key.startswith("split.")}
    rule = make_part(SplitSpec, chosen, "split")
    splits = split_by_rule(rule, readable, clusters(readable, duplicates(measured)), spec.accept_leaks)
    write_json(Path(out), splits.to_json())
    return splits


def show(
    data: str | Path, out: str | Path, per_class: int = 8, seed: int = 0, settings: Settings | None = None
) -> Path:
    """Write a sheet of pictures with their labels: HTML, or PNG when `out` ends in .png; return its path."""
    dataset, target = read(data, settings), Path(out)
    if target.suffix.lower() == ".png":
        with replacing(target) as temporary:
            picture_sheet(dataset, per_class, seed).save(temporary, format="PNG")
    else:
        write_text(target, show_sheet(dataset, per_class, seed))
    return target


def convert(
    data: str | Path, out: str | Path, format: str, settings: Settings | None = None, task: str | None = None
) -> Dataset:
    """Write labelled images in another format and return the dataset as read back.

    `task` makes other labels of them first: boxes of masks, one image per box, a label map of masks; see data.convert.
    """
    _apart(Path(data), Path(out))
    dataset = read(data, settings)
    with tempfile.TemporaryDirectory() as folder:
        changed = dataset if task is None else as_task(dataset, task_name(task), Path(folder) / "images")
        formats.write(changed, Path(out), format)
    return formats.read(Path(out), format, task=changed.task)


def expand(
    data: str | Path,
    out: str | Path,
    plan: Expansion,
    settings: Settings | None = None,
    progress: Counter | None = None,
) -> Expanded:
    """Write labelled images into a new folder, and others derived from them that are trained on and never judged by."""
    _apart(Path(data), Path(out))
    return write_expansion(read(data, settings), Path(out), plan, progress)


def _apart(data: Path, out: Path) -> None:
    """Refuse a new folder inside that of the data: it would be read as part of them the next time."""
    if data.is_dir() and data.resolve() in out.resolve().parents:
        raise UsageError(f"{out}: lies in the folder of the data, {data}, and would be read with them; write elsewhere")


def task_name(name: str) -> TaskName:
    """Return a task's name as it is typed; UsageError for one that there is not."""
    for task in TASK_NAMES:
        if name == task:
            return task
    raise UsageError(f"unknown task {name!r}{nearest(name, TASK_NAMES)}; known are {', '.join(TASK_NAMES)}")
