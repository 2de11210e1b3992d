"""The truth to grade against: a labelled dataset in any format, or a file of the submission's kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bakeoff.data import formats
from bakeoff.data.dataset import Dataset, Record, TaskName
from bakeoff.data.draw import loaded
from bakeoff.data.formats import coco
from bakeoff.data.formats.rows import Options, assemble, examples, grouped
from bakeoff.data.masks import area, bounds
from bakeoff.data.targets import GROUNDS, Boxes, Instances, Label, Target
from bakeoff.errors import DataError, UsageError
from bakeoff.files import digest
from bakeoff.grading.painting import Painter
from bakeoff.grading.regions import Found, Id, Regions, from_sheet
from bakeoff.grading.sheet import SUFFIXES, Sheet, columns_of, read_sheet
from bakeoff.predict.output import CORNERS

ALONE = "object"  # the class of masks that state none
Reading = Mapping[str, Any]  # the fields of a study's [data] section


@dataclass(frozen=True)
class Truth:
    """What is true of each image, in the image's own pixels.

    `target` gives that of the image at a place of `ids`; `groups` id -> group; `data` is the fingerprint; `images` and
    `categories` say what the numbers in a COCO file mean.
    """

    source: str
    task: TaskName
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    target: Callable[[int], Target]
    groups: Mapping[str, str]
    data: str
    images: Mapping[Any, str] = field(default_factory=dict)
    categories: Mapping[Any, str] = field(default_factory=dict)
    dataset: Dataset | None = None


def read_truth(reading: Reading, tasks: Sequence[TaskName]) -> Truth:
    """Read the truth for a submission that can be graded as one of `tasks`, the likeliest first.

    `reading` has the fields of a study's [data] section.  A table of labels or run lengths and a COCO file need no
    images.  Raises what formats.read() raises, and DataError for a truth of another task.
    """
    path, asked = Path(reading["path"]), reading.get("task")
    if asked is not None and asked not in tasks:
        raise UsageError(f"the submission can be graded as {' or '.join(tasks)}, not as {asked}; leave --task out")
    if path.is_file() and path.suffix.lower() in SUFFIXES and reading.get("format") is None:
        columns = columns_of(path)
        if "rle" in columns or set(CORNERS) <= columns:
            return _regions(from_sheet(read_sheet(path)), _options(reading, asked), tasks)
        if "classification" in tasks and "id" in columns:
            return _labels(read_sheet(path), _options(reading, "classification"))
    for task in dict.fromkeys((asked or _own(tasks), *tasks)):
        found = _dataset(path, reading, task)
        if found.task in tasks:
            return found
    raise DataError(f"{path}: is for {found.task}, but the submission for {' or '.join(tasks)}")


def _own(tasks: Sequence[TaskName]) -> TaskName | None:
    """Return the task to read data as at first: None, what they hold, where a submission fits several."""
    return tasks[0] if len(tasks) == 1 else None


def _dataset(path: Path, reading: Reading, task: TaskName | None) -> Truth:
    """Read a labelled dataset; a COCO file without its images."""
    chosen = reading.get("format")
    able = task in (None, "detection", "instance") and chosen in (None, coco.NAME) and path.exists()
    if able and (chosen or formats.sniff(path, task)[0] == coco.NAME):
        numbered = coco.read_unopened(path, _options(reading, task))
        return _from(path, numbered.dataset, numbered.images, numbered.categories)
    more: formats.MaskOptions = {
        "task": task,
        "masks": reading.get("masks"),
        "classes": reading.get("classes"),
        "ignore": reading.get("ignore", ()),
    }
    return _from(path, formats.read(path, chosen, reading.get("label_from"), reading.get("group_from"), **more))


def _options(reading: Reading, task: TaskName | None) -> Options:
    """Return what applies to a file that is read without its images."""
    return Options.parse(reading.get("label_from"), reading.get("group_from"), task)


def _from(
    source: Path, dataset: Dataset, images: Mapping[Any, str] | None = None, categories: Mapping[Any, str] | None = None
) -> Truth:
    """Make the truth of a dataset read from `source`; derived images are never judged by."""
    judged = dataset.originals
    return Truth(
        str(source),
        dataset.task,
        dataset.classes,
        tuple(record.id for record in judged.records),
        lambda place: _sound(loaded(judged, judged.records[place])),
        {record.id: record.group for record in judged.records if record.group is not None},
        dataset.fingerprint,
        images or {},
        categories or {},
        judged,
    )


def _sound(target: Target) -> Target:
    """Leave out boxes that are not finite, without area or outside of the image: the audit names them."""
    if not isinstance(target, Boxes):
        return target
    finite = target.take(np.isfinite(target.xyxy).all(axis=1))
    inside = np.clip(finite.xyxy, 0, np.tile(target.size, 2))
    return finite.take(((inside[:, 2:] - inside[:, :2]) > 0).all(axis=1))


def _labels(sheet: Sheet, options: Options) -> Truth:
    """Make the truth of a table of ids and labels, whose images need not be there; rows of derived images are none."""
    sheet.need("id")
    originals = [row for row in sheet.rows if not row.text("derived_by")]
    if options.label_from is None:
        sheet.need("label")
    ids = [row.text("id").replace("\\", "/") for row in originals]
    if twice := [id for id, count in Counter(ids).items() if count > 1]:
        raise DataError(f"{sheet.path}: {len(twice)} ids appear more than once: {examples(twice)}")
    rows = [
        (Record(id, id, Label(0), row.text("group") or None), row.text("label") or None)
        for id, row in zip(ids, originals, strict=True)
    ]
    return _from(sheet.path, assemble(sheet.path.parent, rows, "table", options, [], "have no label"))


def _regions(regions: Regions, options: Options, tasks: Sequence[TaskName]) -> Truth:
    """Make the truth of a table of run lengths, or of boxes, which needs no images."""
    task = options.task or _task_of(regions, tasks)
    groups = _groups(regions, options)
    by_image: dict[Id, list[Found]] = {id: [] for id in regions.images}
    for found in regions.found:
        by_image[found.image].append(found)
    ids = tuple(sorted(str(id) for id in by_image))
    if task != "detection" and (lost := [id for id in ids if id not in regions.sizes]):
        raise DataError(
            f"{regions.path}: {len(lost)} images have no width and height columns filled in: {examples(lost)}"
        )
    names = {str(found.name) for found in regions.found if found.name is not None}
    if task == "semantic":
        names = names or {"foreground"}
        names |= set() if any(name.casefold() in GROUNDS for name in names) else {"background"}
    classes = tuple(sorted(names or {ALONE}))
    painter = Painter(classes)

    def target(place: int) -> Target:
        found = by_image[ids[place]]
        size = regions.sizes.get(ids[place], (1, 1))
        return painter.paint(found, size) if task == "semantic" else _objects(found, size, painter, task)

    content = [[one.image, one.name, one.box, one.mask] for one in regions.found]
    return Truth(str(regions.path), task, classes, ids, target, groups, digest([task, classes, ids, content]))


def _groups(regions: Regions, options: Options) -> dict[str, str]:
    """Return id -> group: of the column, or of the pattern."""
    if options.group_from is None:
        return {str(id): group for id, group in regions.groups.items()}
    records, _ = grouped(regions.path, [Record(str(id), str(id), Label(0)) for id in regions.images], options)
    return {record.id: record.group for record in records if record.group is not None}


def _task_of(regions: Regions, tasks: Sequence[TaskName]) -> TaskName:
    """Decide what run lengths are: one row per image and class is a label map, several are objects."""
    if regions.tasks == ("detection",):
        return "detection"
    pairs = [(one.image, one.name) for one in regions.found]
    single = len(set(pairs)) == len(pairs)
    likely: TaskName = "semantic" if single else "instance"
    return likely if likely in tasks else tasks[0]


def _objects(found: Sequence[Found], size: tuple[int, int], painter: Painter, task: TaskName) -> Boxes:
    """Return the objects of one image."""
    labels = np.array([painter.index(one) for one in found], np.int64)
    if task == "detection":
        return Boxes(size, np.array([one.box for one in found], np.float64).reshape(-1, 4), labels)
    masks = tuple(one.runs(size) for one in found)
    boxes = np.array([bounds(mask, size) for mask in masks]).reshape(-1, 4)
    areas = np.array([area(mask, size) for mask in masks])
    return Instances(size, boxes, labels, areas=areas, masks=masks)
