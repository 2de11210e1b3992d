"""The verbs: what the command line calls, and what `import bakeoff` offers under the same names."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bakeoff import contest, demos
from bakeoff.compare import Comparison
from bakeoff.curve import SHARES, draw_curve
from bakeoff.doctor import doctor as check_environment
from bakeoff.draft import DEFAULT_MODELS, commented, suggest_size
from bakeoff.errors import UsageError
from bakeoff.evaluate.size_curve import Curve
from bakeoff.execution import count_runs
from bakeoff.files import write_text
from bakeoff.findings import Finding
from bakeoff.models import FAMILIES, TASK_NAMES, find, resolve
from bakeoff.models.catalogue import Entry, catalogue
from bakeoff.models.gate import check_licences
from bakeoff.models.layers import LayerTable, describe
from bakeoff.models.spec import ModelSpec
from bakeoff.prepare import Tell, silent
from bakeoff.racing import foretold
from bakeoff.report import write_report
from bakeoff.settings import set_value
from bakeoff.store import StudyFolder
from bakeoff.study import Study, anchor, make_study, read_study, to_toml
from bakeoff.track import trackers
from bakeoff.track.following import Following, replay
from bakeoff.tuning import count_trials
from bakeoff.verbs_data import Settings, read, task_name
from bakeoff.winners import is_study


def run(
    target: str | Path,
    out: str | Path | None = None,
    models: Sequence[str] = (),
    settings: Settings | None = None,
    tell: Tell | None = None,
    track: Sequence[str] = (),
) -> Comparison:
    """Run a study and write its report: train every candidate x seed, evaluate, compare.

    `target` is a study folder, its study.toml, or a data folder; then `models` are the candidates ("arch",
    "source:arch@weights") and the study goes to `out` (default: bakeoff-<name of the data>).  `settings` are any
    fields of study.toml by dotted path, {"recipe.epochs": 3}.  Running again goes on where it stopped.  `track` names
    trackers, "tensorboard" and "mlflow", that follow the runs (docs/track.md).
    """
    kinds = trackers(track)
    study, folder = find_study(Path(target), Path(out) if out else None, models, settings or {})
    if not is_study(Path(target)):
        write_study(study, StudyFolder(folder).study)
    with Following(StudyFolder(folder), kinds, tell or silent) as following:
        comparison = contest.run(study, folder, following.tell)
        write_report(StudyFolder(folder))
        following.conclude()
    return comparison


def curve(
    study: str | Path,
    shares: Iterable[float] = SHARES,
    seeds: int | None = None,
    settings: Settings | None = None,
    tell: Tell | None = None,
) -> Curve:
    """Train a study's candidates on shares of its training images too: what would more images bring?

    `study` is a study folder or its study.toml; it is run first where it is not finished.  The report gains a section.
    """
    if not is_study(Path(study)):
        raise UsageError(f"{study}: no such study; begin with `bakeoff run {study}`")
    found, folder = find_study(Path(study), None, (), settings or {})
    drawn = draw_curve(found, folder, shares, seeds, tell or silent)
    write_report(StudyFolder(folder))
    return drawn


def write_study(study: Study, file: Path) -> None:
    """Write study.toml; one that a person wrote or edited is not overwritten: UsageError says how to run it."""
    if file.exists() and file.read_text(encoding="utf-8") != to_toml(read_study(file)):
        raise UsageError(f"{file} was edited by hand: run it with `bakeoff run {file.parent}`, or choose another --out")
    write_text(file, to_toml(study))


def find_study(target: Path, out: Path | None, models: Sequence[str], settings: Settings) -> tuple[Study, Path]:
    """Return the study that a target means, and its folder."""
    models = [models] if isinstance(models, str) else models  # else its letters would be the models
    file = target / "study.toml" if target.is_dir() else target
    if file.is_file() and file.suffix == ".toml":
        if models:
            raise UsageError(f"{file} names its candidates itself; leave the models out, or edit the file")
        return known_models(read_study(file, settings)), out or file.parent
    if not target.exists():
        raise UsageError(f"{target}: no such study or data")
    listed = list(models) or list(DEFAULT_MODELS[read(target, settings).task])
    content = {"data": {"path": str(target.resolve())}, "candidates": listed}
    study = _study(content, settings, "the command line")
    return study, out or Path(f"bakeoff-{target.resolve().stem}")


def _study(content: dict[str, Any], settings: Settings, source: str) -> Study:
    """Make a study whose relative paths start from the working folder."""
    content = anchor(content, Path.cwd())
    for key, value in settings.items():
        set_value(content, key, value)
    return known_models(make_study(content, source))


def known_models(study: Study) -> Study:
    """Return the study, before images are read or a folder is made.

    UsageError names a model that does not exist, Refused those whose licence does not fit.
    """
    for candidate in study.candidates:
        resolve(candidate.model)
    if study.licence == "permissive":
        check_licences({candidate.name: candidate.model for candidate in study.candidates})
    return study


def demo(
    out: str | Path | None = None,
    settings: Settings | None = None,
    tell: Tell | None = None,
    task: str = "classification",
) -> Comparison:
    """Run a whole study on scikit-learn's handwritten digits: small candidates, three seeds, no download.

    Tasks other than classification are about scenes that the digits are set into.  `out` is the study's folder
    (default: bakeoff-demo, or bakeoff-demo-<task>).
    """
    chosen = task_name(task)
    folder = Path(out) if out else demos.folder(chosen)
    content = {**copy.deepcopy(demos.STUDIES[chosen]), "data": {"path": str(demos.data(chosen, folder).resolve())}}
    study = _study(content, settings or {}, "the demo")
    write_study(study, StudyFolder(folder).study)
    return run(folder, tell=tell)


def report(study: str | Path, track: Sequence[str] = ()) -> Path:
    """Judge a study folder's runs again and rebuild its report, without loading a network; return the report's path.

    `track` names trackers, "tensorboard" and "mlflow", that the runs are written to as well (docs/track.md).
    """
    kinds = trackers(track)
    if not Path(study).is_dir():
        raise UsageError(f"{study}: no such study folder")
    contest.judge(Path(study))
    written = write_report(StudyFolder(Path(study)))
    replay(StudyFolder(Path(study)), kinds)
    return written


def init(
    data: str | Path, out: str | Path | None = None, models: Sequence[str] = (), settings: Settings | None = None
) -> Path:
    """Look at data, write a commented study.toml for it, and return its path.  Raises UsageError when there is one."""
    source = Path(data)
    dataset = read(source, settings).originals
    folder = Path(out) if out else Path(f"bakeoff-{source.resolve().stem}")
    file = StudyFolder(folder).study
    if file.exists():
        raise UsageError(f"{file} is there already; edit it, or choose another folder with --out")
    listed = list(models) or list(DEFAULT_MODELS[dataset.task])
    content = {"data": {"path": str(source.resolve())}, "candidates": listed}
    suggested = {"size": suggest_size(dataset), "split.folds": 5 if len(dataset) < 1000 else 1}
    if suggested["split.folds"] > 1:
        suggested["split.repeats"] = 3
    study = _study(content, {**suggested, **(settings or {})}, "init")
    write_text(file, commented(dataset, to_toml(study)))
    return file


def dry_run(
    target: str | Path,
    out: str | Path | None = None,
    models: Sequence[str] = (),
    settings: Settings | None = None,
    tell: Tell | None = None,
) -> dict[str, Any]:
    """Do all that run() does before it trains: read, audit, split, plan; return what would be run."""
    study, path = find_study(Path(target), Path(out) if out else None, models, settings or {})
    prepared, planner = contest.plan_only(study, path, tell or silent)
    first = prepared.splits.parts[0]
    return {
        "images": len(prepared.dataset),
        "classes": len(prepared.dataset.classes),
        "train": len(first.train),
        "val": len(first.val),
        "test": len(first.test),
        "candidates": [candidate.name for candidate in study.candidates],
        "runs": count_runs(study),
        "trials": count_trials(study),
        **({"race": foretold(study, prepared)} if study.race else {}),
        "planner": planner,
    }


def models(
    name: str | None = None, family: str | None = None, licence: str | None = None, task: str | None = None
) -> list[Entry]:
    """Return the models whose names contain `name`; UsageError with the nearest name when there is none."""
    found = catalogue(name, family, licence, task=task)
    if name is not None and not found:
        spec = ModelSpec(arch=name, weights="none")
        find(spec.arch, spec.source, None if task is None else task_name(task))
    return found


def layers(name: str, classes: int = 1000, size: int = 224, task: str | None = None) -> LayerTable | None:
    """Return the layer table of an architecture with random weights; None when no architecture has exactly this name.

    `task` None: the first that there is such an architecture for.
    """
    spec = ModelSpec(arch=name, weights="none")
    wanted = TASK_NAMES if task is None else (task_name(task),)
    families = [family for family in FAMILIES if spec.source in (None, family.NAME)]
    if not any(family.has(spec.arch, one) for family in families for one in wanted):
        return None
    return describe(spec, classes, size, None if task is None else task_name(task))[0]


def doctor() -> tuple[Finding, ...]:
    """Check the environment and bakeoff's own promises on tiny data."""
    return check_environment()
