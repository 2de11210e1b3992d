"""Which trained model a path on a command line means."""

from __future__ import annotations

from pathlib import Path

from bakeoff.compare import Comparison
from bakeoff.errors import UsageError
from bakeoff.files import read_json
from bakeoff.findings import plural
from bakeoff.predict.opening import is_onnx
from bakeoff.store import Run, StudyFolder
from bakeoff.tasks import TASKS


def is_study(target: Path) -> bool:
    """Say whether a path is a study folder or a study.toml, not data."""
    return target.suffix == ".toml" or (target / "study.toml").is_file()


def find_model(path: Path) -> Path:
    """Return the model that a path means: itself, or for a study folder the best run of its best candidate."""
    if is_onnx(path):
        raise UsageError(
            f"{path}: is an exported file, which labels images and can be scored, no more; name the run or the "
            "study that it came from"
        )
    folder = StudyFolder(path)
    if not folder.comparison.exists():
        if is_study(path):
            raise UsageError(f"{path}: this study is not finished; run `bakeoff run {path}`, or name one of its runs")
        return path
    found = Comparison.from_json(read_json(folder.comparison))
    return best_model(folder, found, found.rows[0].candidate)


def ensemble_of(path: Path) -> list[Path]:
    """Return the models of all finished contest runs of a study's best candidate, ordered by id.

    Raises UsageError for a path that is no finished study, and when there is only one such run.
    """
    folder = StudyFolder(path)
    if not folder.comparison.exists():
        raise UsageError(f"{path}: an ensemble is made of the runs of a finished study; name its folder")
    best = Comparison.from_json(read_json(folder.comparison)).rows[0].candidate
    runs = [run for run in folder.planned() if run.candidate == best and run.state == "done"]
    own = [run.id for run in runs if run.purpose == "contest" and not run.id.endswith("-again")]
    if len(own) < 2:
        raise UsageError(
            f"{path}: {best} has {plural(len(own), 'finished run')}; an ensemble needs two: train more seeds"
        )
    return [folder.run(id).path for id in own]


def shown_runs(folder: StudyFolder, found: Comparison) -> dict[str, Run]:
    """Return a finished run of every candidate that has one, best candidate first: the best, of the same test images.

    Under cross-validation the first candidate's best run says which repeat and fold they are of.
    """
    metric = TASKS[found.task](()).table.get(found.metric)
    runs: dict[str, Run] = {}
    for row in found.rows:
        best = folder.best_run(row.candidate, found.metric, metric is None or metric.higher_is_better)
        first = next(iter(runs.values()), best)
        if best is None or first is None:
            continue
        part = (first.repeat, first.fold)
        own = [run for run in folder.planned() if run.candidate == row.candidate and run.state == "done"]
        same = [best, *(run for run in own if not run.id.endswith("-again"))]
        if fitting := [run for run in same if (run.repeat, run.fold) == part]:
            runs[row.candidate] = fitting[0]
    return runs


def best_model(folder: StudyFolder, found: Comparison, candidate: str) -> Path:
    """Return the folder of a candidate's best run; UsageError when it has none that finished."""
    metric = TASKS[found.task](()).table.get(found.metric)
    run = folder.best_run(candidate, found.metric, metric is None or metric.higher_is_better)
    if run is None:
        raise UsageError(f"{folder.path}: the candidate {candidate} has no finished run here")
    return folder.run(run.id).path
