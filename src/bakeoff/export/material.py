"""Where a trained model comes from: its run and study, the images that it was tested on and those it learned from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bakeoff.compare import Comparison
from bakeoff.data.dataset import Dataset
from bakeoff.data.split import Split, Splits
from bakeoff.errors import DataError, UsageError
from bakeoff.evaluate.classes import with_classes
from bakeoff.evaluate.score import Decoded, framed_images, units_of
from bakeoff.export.parity import Exam
from bakeoff.files import read_json
from bakeoff.findings import plural
from bakeoff.models.trained import CARD, Trained
from bakeoff.seeds import generator
from bakeoff.store import Run, StudyFolder

MOST = 1000  # test images that a file is run on; more are drawn from


@dataclass(frozen=True)
class Origin:
    """A study that a model comes from: its run there, the data, the part of the split, and what was concluded."""

    run: Run
    dataset: Dataset
    split: Split
    groups: dict[str, str]
    comparison: Comparison | None


def description(model: Path) -> dict[str, Any]:
    """Return the content of a trained model's model.json."""
    content: dict[str, Any] = read_json(model / CARD if model.is_dir() else model.with_suffix(".json"))
    return content


def origin(model: Path) -> Origin | None:
    """Return the study that a trained model's files lie in; None for a model elsewhere.

    Raises DataError when the study's data or split are not those that the run was trained on.
    """
    place = (model if model.is_dir() else model.parent).resolve()
    study = StudyFolder(place.parent.parent)
    run = study.run(place.name).read() if place.parent.name == "runs" else None
    if run is None or not study.data.exists() or not study.split.exists():
        return None
    dataset, splits = Dataset.from_json(read_json(study.data)), Splits.from_json(read_json(study.split))
    if (dataset.fingerprint, splits.hash) != (run.settings["data"], run.settings["split"]):
        raise DataError(f"{place}: was trained on other data or another split than its study now has; name --images")
    split = next(part for part in splits.parts if (part.repeat, part.fold) == (run.repeat, run.fold))
    found = Comparison.from_json(read_json(study.comparison)) if study.comparison.exists() else None
    return Origin(run, dataset, split, splits.groups, found)


def exam_of(model: Trained, found: Origin | None, images: Dataset | None) -> Exam:
    """Return what a file is tested on: labelled `images`, else the test images of the study.

    Of more than MOST a fixed draw is taken.  Raises UsageError for a model without a study and no images, DataError
    for images of another task or with classes that the model does not know.
    """
    if images is not None:
        if images.task != model.task:
            raise DataError(f"{images.source}: its task is {images.task}, that of the model {model.task}")
        originals = images.originals
        groups = {record.id: record.group for record in originals.records if record.group is not None}
        return _exam(model, originals, [record.id for record in originals.records], groups, "images that were named")
    if found is None:
        raise UsageError(
            "this model lies in no study folder, so its test images are not known: name labelled images with --images"
        )
    return _exam(model, found.dataset, found.split.test, found.groups, "test images")


def training_images(model: Trained, found: Origin | None, count: int) -> NDArray[np.uint8]:
    """Return `count` images (n, S, S, 3) drawn from those that the model was trained on, as it sees them.

    Raises UsageError for a model without a study.
    """
    if found is None:
        raise UsageError("8-bit integers are calibrated with training images: export a run inside its study folder")
    ids = found.split.train
    drawn = generator(found.run.seed, "calibration").permutation(len(ids))[:count]
    places = np.array([found.dataset.index[ids[place]] for place in sorted(drawn)], np.intp)
    return Decoded(found.dataset, model.size, model.resize)[places]


def _exam(model: Trained, dataset: Dataset, ids: Sequence[str], groups: dict[str, str], what: str) -> Exam:
    """Draw the images and bring them to the model's frame, their targets to the one that its study judged it in."""
    if not ids:
        raise UsageError(f"{dataset.source}: there is no image to test the file on; name others with --images")
    source = plural(len(ids), what.removesuffix("s") if what == "test images" else "image")
    chosen = list(ids)
    if len(ids) > MOST:
        drawn = generator(0, "export", "exam").permutation(len(ids))[:MOST]
        chosen, source = [ids[place] for place in sorted(drawn)], f"{MOST:,} of {source}"
    matched = with_classes(dataset, model.classes)
    return Exam(framed_images(model, matched), tuple(chosen), units_of(chosen, groups), source)
