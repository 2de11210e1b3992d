"""The gallery of a study: its test images explained by every candidate's trained model, kept in its folder."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bakeoff.compare import Comparison
from bakeoff.data.cache import Counter, open_pixels, pixels_path
from bakeoff.data.dataset import Dataset
from bakeoff.data.decode import read_image, resize
from bakeoff.errors import UsageError
from bakeoff.explain.explainer import Options
from bakeoff.explain.explaining import DEFAULT, find_methods
from bakeoff.explain.gallery import Exhibitor, Look, choose_images, gallery
from bakeoff.files import read_json, write_bytes, write_json
from bakeoff.models import trained
from bakeoff.models.trained import Trained
from bakeoff.prepare import Tell, silent
from bakeoff.report import write_report
from bakeoff.store import StudyFolder
from bakeoff.winners import is_study, shown_runs


def explain_study(
    study: str | Path,
    methods: Sequence[str] = DEFAULT,
    options: Options | None = None,
    tell: Tell = silent,
    progress: Counter | None = None,
) -> Path:
    """Explain the same few test images by a trained model of every candidate; the report gains a section.

    Pictures and checks are kept in the study's folder, and made anew by the next call.  Returns the report's path.
    Raises UsageError for a study that is not finished and for methods that there are not or that fit no candidate.
    """
    folder, chosen = StudyFolder(Path(study)), find_methods(methods)
    if not folder.comparison.exists():
        what = "this study is not finished" if is_study(folder.path) else "no such study; to explain images, name them"
        raise UsageError(f"{study}: {what}")
    with folder.held():
        runs = shown_runs(folder, Comparison.from_json(read_json(folder.comparison)))
        tested = [folder.run(run.id).outcomes().ids for run in runs.values()]
        if not runs:
            raise UsageError(f"{study}: no candidate has a trained model")
        tell("", {"kind": "phase", "name": "explain"})
        models = [Exhibitor(name, run.id, trained.load(folder.run(run.id).path)) for name, run in runs.items()]
        how = (chosen, options or Options())
        content, pictures = gallery(models, choose_images(tested), looking(folder), how, progress)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **pictures)  # type: ignore[arg-type]
        write_bytes(folder.explained, buffer.getvalue())
        write_json(folder.explanations, content)
        return write_report(folder)


def looking(folder: StudyFolder) -> Look:
    """Return a function that gives an image as a model sees it: from the study's cache, else from its file."""
    dataset = Dataset.from_json(read_json(folder.data))
    rows = {record.id: row for row, record in enumerate(dataset.records)}

    def look(model: Trained, id: str) -> np.ndarray:
        path = pixels_path(folder.cache, model.size, model.resize)
        stamp = path.with_suffix(".json")
        if path.exists() and stamp.exists() and read_json(stamp)["fingerprint"] == dataset.fingerprint:
            return np.array(open_pixels(path)[rows[id]])
        return resize(read_image(dataset, dataset.records[rows[id]]), model.size, model.resize)

    return look
