"""Grade a file of predictions as a competition does: every metric of the task with its interval, or a clear refusal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bakeoff.data.decode import measure
from bakeoff.data.formats.strict_json import first_mark, mentions
from bakeoff.data.targets import GROUNDS, IGNORE, Boxes, LabelMap, Target
from bakeoff.errors import DataError, UnreadableImage, UsageError, nearest
from bakeoff.evaluate.classes import renumbered
from bakeoff.evaluate.outcomes import stack
from bakeoff.evaluate.score import Score, summarised, units_of
from bakeoff.evaluate.versus import versus
from bakeoff.findings import Finding, listed, plural
from bakeoff.grading.labels import PROBABILISTIC, guesses
from bakeoff.grading.names import Names
from bakeoff.grading.painting import Painter
from bakeoff.grading.regions import Found, Id, Regions, Size, from_coco, from_sheet
from bakeoff.grading.sheet import SUFFIXES, Sheet, read_sheet
from bakeoff.grading.truth import Reading, Truth, read_truth
from bakeoff.predict.output import CORNERS
from bakeoff.tasks import TASKS
from bakeoff.tasks.matching import DETECTIONS
from bakeoff.tasks.task import Outcomes, Task

LEAST = 0.1  # scores that none is below look as if weaker objects had been left out


@dataclass(frozen=True)
class Graded:
    """A submission's outcomes; the metrics `without` do not apply."""

    task: Task
    outcomes: Outcomes
    findings: tuple[Finding, ...]
    without: tuple[str, ...] = ()


def is_submission(path: Path) -> bool:
    """Say whether a path is that of a file of predictions, not of a model: by its suffix, and what a .json says.

    A missing table is one too, so that it is missed as what it was meant for.
    """
    if not path.is_file():
        return path.suffix.lower() in SUFFIXES and path.suffix.lower() != ".json" and not path.exists()
    if path.suffix.lower() == ".json":
        described = first_mark(path) == "{" and "weights_sha256" in mentions(path, "weights_sha256")
        return not described
    return path.suffix.lower() in SUFFIXES


def grade(submission: Path, reading: Reading, against: Path | None = None) -> Score:
    """Grade a file of predictions (see docs/grading.md for the forms); `reading` are the fields of [data], the truth.

    Everything is judged in the image's own pixels, one image at a time.  With a second file `against` the score has the
    paired differences.  Raises DataError naming file, line and id for what cannot be graded, UsageError for a task that
    the file has no predictions for.
    """
    sheet = _read(submission)
    truth = read_truth(reading, sheet.tasks if isinstance(sheet, Regions) else ("classification",))
    graded = _graded(sheet, truth)
    units = units_of(truth.ids, truth.groups)
    score = summarised(graded.task, graded.outcomes, units, truth.data, graded.findings, graded.without)
    if against is None:
        return score
    other = _graded(_read(against), truth)
    names = (submission.name, against.name)
    names = (str(submission), str(against)) if len(set(names)) == 1 else names
    if len(set(names)) == 1:
        raise UsageError(f"{submission}: is the same file twice; name another to compare with")
    absent = {*graded.without, *other.without}
    table = {name: metric for name, metric in graded.task.table.items() if name not in absent}
    return replace(score, against=versus(names, (graded.outcomes, other.outcomes), units, table, score.headline))


def _read(path: Path) -> Sheet | Regions:
    """Read a file of predictions: a sheet of labels, or regions."""
    if not (path.is_file() and is_submission(path)):
        what = "no such file" if not path.exists() else "not a file of predictions"
        raise UsageError(f"{path}: {what}; expected .csv, .tsv, .jsonl or COCO's .json")
    if path.suffix.lower() == ".json":
        return from_coco(path)
    sheet = read_sheet(path)
    labelled = not (sheet.columns & {"rle", "pixels", *CORNERS})
    return sheet if labelled else from_sheet(sheet)


def _graded(submission: Sheet | Regions, truth: Truth) -> Graded:
    """Judge a submission."""
    names = Names(truth.ids, truth.source)
    if isinstance(submission, Regions):
        if truth.task not in submission.tasks:
            fits = " or ".join(submission.tasks)
            raise DataError(f"{submission.path}: holds predictions for {fits}, but the truth is for {truth.task}")
        return _regions(submission, truth, names)
    if truth.task != "classification":
        raise DataError(f"{submission.path}: holds labels of whole images, but the truth is for {truth.task}")
    found = guesses(submission, truth.classes, names)
    task = TASKS["classification"](found.classes)
    outcomes = _outcomes(task, truth, found.classes, lambda place, _target: found.labels[place])
    return Graded(task, outcomes, found.findings, () if found.probable else PROBABILISTIC)


def _outcomes(
    task: Task, truth: Truth, classes: tuple[str, ...], predicted: Callable[[int, Target], Target]
) -> Outcomes:
    """Judge image by image, so that one at a time is in memory."""
    numbers = np.arange(max(IGNORE + 1, len(truth.classes)))
    numbers[: len(truth.classes)] = [classes.index(name) for name in truth.classes]
    rows = []
    for place in range(len(truth.ids)):
        target = truth.target(place)
        target = (
            LabelMap(numbers[target.pixels].astype(np.uint8))
            if isinstance(target, LabelMap)
            else renumbered(target, numbers)
        )
        rows.append(task.outcome(predicted(place, target), target))
    return stack(rows, truth.ids, classes)


def _regions(regions: Regions, truth: Truth, names: Names) -> Graded:
    """Judge boxes, objects or label maps."""
    classes = _classes(regions, truth)
    found, there = _by_image(regions, truth, names)
    findings = [*names.findings()]
    categories = truth.categories if regions.numbered else None
    painter = Painter(classes, categories, _paints_ground(regions, truth))
    task = TASKS[truth.task](classes)
    if truth.task == "semantic":
        reasons = [f"{name}: {reason}" for name, reason in regions.errors.items()]
        if error := names.missing(str(regions.path), there, reasons):
            raise error
    else:
        findings += _about_objects(regions, truth, found)

    def predicted(place: int, target: Target) -> Target:
        mine = found.get(truth.ids[place], [])
        if isinstance(target, LabelMap):
            height, width = target.pixels.shape
            return painter.paint(mine, _size_of(mine, (width, height), truth, place))
        size = target.size if isinstance(target, Boxes) else (1, 1)
        return painter.detections(mine, size, truth.task == "instance")

    return Graded(task, _outcomes(task, truth, classes, predicted), tuple(findings), _unsure(truth.task))


def _unsure(task: str) -> tuple[str, ...]:
    """Return the metrics of probabilities, which regions do not have."""
    return ("log_loss",) if task == "semantic" else ()


def _classes(regions: Regions, truth: Truth) -> tuple[str, ...]:
    """Return the truth's classes and those that the file says it knows beside them."""
    if regions.declared is None:
        return truth.classes
    absent = [name for name in truth.classes if name not in regions.declared and name.casefold() not in GROUNDS]
    if absent:
        hint = nearest(absent[0], [name for name in regions.declared if name not in truth.classes])
        count = f"{len(absent)} of the {len(truth.classes)} classes of the truth are not among its categories"
        raise DataError(f"{regions.path}: {count}: {listed(absent)}{hint}")
    return tuple(sorted({*truth.classes, *regions.declared}))


def _paints_ground(regions: Regions, truth: Truth) -> bool:
    """Say whether the file has regions of the background itself: then what it leaves open stays open."""
    named = {truth.categories.get(one.name, one.name) if regions.numbered else one.name for one in regions.found}
    return any(isinstance(name, str) and name.casefold() in GROUNDS for name in named)


def _by_image(regions: Regions, truth: Truth, names: Names) -> tuple[dict[str, list[Found]], set[str]]:
    """Return the regions of every image of the truth, and the images that the file speaks of.

    Raises DataError for ids that the truth does not have, and for two ids that mean one image.
    """
    meaning: dict[Id, str] = {}
    strange: list[str] = []
    for image in regions.images:
        id = truth.images.get(image) if regions.numbered else None
        if id is None and not (isinstance(image, int) and truth.images):  # a number means the truth's own, or nothing
            id = names.find(image, str(regions.path))
        if id is None:
            strange.append(str(image))
        else:
            meaning[image] = id
    if strange:
        raise names.unknown(str(regions.path), strange)
    first: dict[str, Id] = {}
    for image, id in meaning.items():
        if first.setdefault(id, image) != image:
            raise DataError(f"{regions.path}: {first[id]!r} and {image!r} both mean {id}; write its id in one way")
    found: dict[str, list[Found]] = {}
    for one in regions.found:
        found.setdefault(meaning[one.image], []).append(one)
    return found, set(first)


def _about_objects(regions: Regions, truth: Truth, found: dict[str, list[Found]]) -> list[Finding]:
    """Say what a reader must know of a list of objects."""
    findings = []
    none = [id for id in truth.ids if not found.get(id)]
    if none:
        sentence = (
            f"In {len(none)} of the {plural(len(truth.ids), 'image')} the submission finds nothing ({listed(none)})."
        )
        findings.append(Finding("nothing-found", "info", sentence, tuple(none)))
    many = [id for id, mine in found.items() if len(mine) > DETECTIONS]
    if many:
        sentence = (
            f"{plural(len(many), 'image')} with more than {DETECTIONS} objects: the {DETECTIONS} best of each count."
        )
        findings.append(Finding("many-objects", "warning", sentence, tuple(many)))
    scores = [one.score for one in regions.found if one.score is not None]
    if regions.found and not scores:
        sentence = "The submission states no scores: all objects count as equally sure, in the order of the file."
        findings.append(Finding("no-scores", "warning", sentence))
    elif scores and LEAST <= min(scores) < max(scores):
        sentence = (
            f"No object has a score below {min(scores):.3g}: mean average precision looks at weaker ones too, and "
            "rises with them (predict with --threshold 0)."
        )
        findings.append(Finding("scores-cut", "info", sentence))
    return findings


def _size_of(found: Sequence[Found], size: Size, truth: Truth, place: int) -> Size:
    """Return the size that run lengths are stated for: the label map's or the image's, where those two differ."""
    stated = {one.stated for one in found} - {None}
    other = next(iter(stated - {size}), None)
    if other is None or truth.dataset is None:
        return size
    record = truth.dataset.records[place]
    try:
        return other if measure(truth.dataset.path(record)) == other and len(stated) == 1 else size
    except UnreadableImage:
        return size
