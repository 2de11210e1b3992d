"""The verbs: what the command line calls, and what `import bakeoff` offers under the same names."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bakeoff import contest, demos
from bakeoff.compare import Comparison
from bakeoff.curve import SHARES, draw_curve
from bakeoff.data.cache import Counter
from bakeoff.doctor import doctor as check_environment
from bakeoff.draft import DEFAULT_MODELS, commented, suggest_size
from bakeoff.errors import UsageError
from bakeoff.evaluate.score import Score
from bakeoff.evaluate.score import score as score_model
from bakeoff.evaluate.size_curve import Curve
from bakeoff.execution import count_runs
from bakeoff.explain.explainer import Options
from bakeoff.explain.explaining import DEFAULT, Explained, Explaining, find_methods
from bakeoff.explain.writing import explain_files, plan_pictures
from bakeoff.files import write_text
from bakeoff.findings import Finding
from bakeoff.grading import grade, is_submission
from bakeoff.models import FAMILIES, TASK_NAMES, find, resolve, trained
from bakeoff.models.catalogue import Entry, catalogue
from bakeoff.models.gate import check_licences
from bakeoff.models.layers import LayerTable, describe
from bakeoff.models.spec import ModelSpec
from bakeoff.predict import Output, Prediction, find_images, illustrated
from bakeoff.predict import predict as predict_images
from bakeoff.predict import write as write_output
from bakeoff.predict.pictures import file_names
from bakeoff.prepare import Tell, silent
from bakeoff.racing import foretold
from bakeoff.report import write_report
from bakeoff.runs import part_of
from bakeoff.settings import set_value
from bakeoff.store import StudyFolder
from bakeoff.study import Study, anchor, make_study, read_study, to_toml
from bakeoff.tuning import count_trials
from bakeoff.verbs_data import Settings, data_spec, read, task_name
from bakeoff.winners import find_model, is_study


def run(
    target: str | Path,
    out: str | Path | None = None,
    models: Sequence[str] = (),
    settings: Settings | None = None,
    tell: Tell | None = None,
) -> Comparison:
    """Run a study and write its report: train every candidate x seed, evaluate, compare.

    `target` is a study folder, its study.toml, or a data folder; then `models` are the candidates ("arch",
    "source:arch@weights") and the study goes to `out` (default: bakeoff-<name of the data>).  `settings` are any
    fields of study.toml by dotted path, {"recipe.epochs": 3}.  Running again goes on where it stopped.
    """
    study, folder = find_study(Path(target), Path(out) if out else None, models, settings or {})
    if not is_study(Path(target)):
        write_study(study, StudyFolder(folder).study)
    comparison = contest.run(study, folder, tell or silent)
    write_report(StudyFolder(folder))
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


def report(study: str | Path) -> Path:
    """Judge a study folder's runs again and rebuild its report, without loading a network; return the report's path."""
    if not Path(study).is_dir():
        raise UsageError(f"{study}: no such study folder")
    contest.judge(Path(study))
    return write_report(StudyFolder(Path(study)))


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


def predict(
    model: str | Path,
    inputs: Iterable[str | Path],
    batch: int | None = None,
    device: str = "auto",
    threshold: float = 0.5,
) -> Iterator[Prediction]:
    """Predict images, folders or globs with a trained model, a run's folder, or the winner of a study's folder.

    Objects with a score below `threshold` are left out.
    """
    return predict_images(find_model(Path(model)), inputs, batch, device, threshold)


def score(
    model: str | Path,
    data: str | Path,
    part: str | None = None,
    settings: Settings | None = None,
    against: str | Path | None = None,
) -> Score:
    """Evaluate a trained model (as in predict) on other labelled images: every metric with its interval.

    `model` may also be a file of predictions, which is graded (docs/grading.md); `against` is a second one.

    `part` (train, val, test) takes only those images of the same data that the model's own run had there.
    """
    if is_submission(Path(model)) or against is not None:
        if part is not None:
            raise UsageError(
                f"{model}: part is for trained models; a file of predictions is graded on all of the truth"
            )
        return grade(
            Path(model), data_spec(Path(data), settings).model_dump(), None if against is None else Path(against)
        )
    found, dataset = find_model(Path(model)), read(data, settings)
    return score_model(found, dataset, None if part is None else part_of(found, dataset, part))


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


def write_predictions(
    model: Path, inputs: Sequence[str], output: Output, how: tuple[int | None, str, float], progress: Counter | None
) -> int:
    """Predict (batch, device, threshold) and write the output; return how many files could not be read.

    With folders for pictures, Refused is raised before anything is predicted when files there would be overwritten.
    """
    found = trained.load(find_model(model))
    output.chosen(found.task)
    paths = find_images(inputs) if output.folders.kinds else []
    output.folders.check(paths, found.task)
    predictions = predict_images(found, inputs, *how, progress)
    return write_output(illustrated(predictions, paths, output.folders) if paths else predictions, output, found)


def explain(
    model: str | Path,
    inputs: Iterable[str | Path],
    out: str | Path = "explanations",
    methods: Sequence[str] = DEFAULT,
    wanted: str | None = None,
    options: Options | None = None,
) -> Iterator[Explained]:
    """Show why a trained model (as in predict) says what it says of images: a picture per image in the folder `out`.

    `methods` are names of bakeoff.explain.EXPLAINERS, or "all"; `wanted` is the class to explain (None: what the model
    is surest of).  Raises Refused, before anything is done, when pictures that are there would be overwritten.
    """
    paths, chosen = find_images(inputs), find_methods(methods)
    files = plan_pictures(Path(out), file_names(paths, ".png"))
    return explain_files(Explaining(trained.load(find_model(Path(model))), chosen, options or Options()), files, wanted)


def doctor() -> tuple[Finding, ...]:
    """Check the environment and bakeoff's own promises on tiny data."""
    return check_environment()
