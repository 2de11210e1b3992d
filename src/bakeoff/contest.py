"""From the question to the answer: prepare the data, plan the runs, run what is not yet done, compare."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any

from bakeoff.compare import Comparison, Question, compare
from bakeoff.data.cache import build_pixels
from bakeoff.data.dataset import Dataset
from bakeoff.data.mix import MIXES
from bakeoff.data.split import Splits
from bakeoff.data.stored import build_targets
from bakeoff.engines.engine import Job
from bakeoff.errors import Refused, RunError, UsageError, nearest
from bakeoff.evaluate.dropped import Dropped
from bakeoff.evaluate.looks import Looks
from bakeoff.evaluate.planner import Design, planner_table, smallest_difference
from bakeoff.execution import as_error, decide, open_engine
from bakeoff.files import read_json, write_json, write_text
from bakeoff.findings import lowered, plural, printable
from bakeoff.models.gate import check_licences
from bakeoff.prepare import Prepared, Tell, counter, prepare, silent
from bakeoff.racing import Race, check_race, race
from bakeoff.runs import Arena, Chosen, finish, plan_runs
from bakeoff.store import StudyFolder
from bakeoff.study import Candidate, Study, make_study, to_toml
from bakeoff.tasks import TASKS
from bakeoff.tasks.task import LossOptions, Metric
from bakeoff.train.gap import unknowable
from bakeoff.tuning import extremes, read_tuned, recorded, tune


def run(study: Study, path: Path, tell: Tell = silent) -> Comparison:
    """Run a study in the folder `path` and return the comparison; what is done there already is not done again.

    Raises DataError, UsageError, ResourceError or Refused before anything trains, RunError when no candidate could be
    trained.  Single failed runs are part of the comparison.  One process at a time may run a study.
    """
    folder = StudyFolder(path)
    with folder.held():
        if not folder.study.exists():
            write_text(folder.study, to_toml(study))
        prepared = prepare(study, folder, tell)
        check_question(study, prepared)
        speak_before(study, prepared, folder, tell)
        for size in study.sizes():
            tell("", {"kind": "phase", "name": f"cache {size} px"})
            build_pixels(prepared.dataset, folder.cache, size, study.resize, counter(tell))
        for size in {study.size, *study.sizes()}:
            build_targets(prepared.dataset, folder.cache, size, study.resize)
        execution = decide(study, prepared, folder, tell)
        arena = Arena(study, prepared, execution, folder, tell)
        _forget_other_plan(study, folder)
        chosen = tune(arena)
        _compete(study, race(arena, chosen), chosen)
        _time_predictions(folder, execution, tell)
        return judge(path)


def _forget_other_plan(study: Study, folder: StudyFolder) -> None:
    """Remove the plan of a question that was asked before in this folder: its answer is not that of this study."""
    if folder.plan.exists() and read_json(folder.plan)["study"] != study.model_dump(mode="json"):
        folder.plan.unlink()


def _compete(study: Study, raced: Race, chosen: Chosen) -> None:
    """Train the contest of those that the race left, look by look, until every tested pair is decided."""
    folder, tell, seeds = raced.arena.folder, raced.arena.tell, study.looks or (study.seeds,)
    content = {
        "study": study.model_dump(mode="json"),
        "dropped": [asdict(one) for one in raced.dropped],
        "tuning": recorded(folder, study),
    }
    plans: list[list[str]] = []
    for most in seeds:
        looks = Looks(seeds, len(plans) + 1)
        now = raced.arena.study.model_copy(update={"seeds": most, "looks": ()})
        plan = plan_runs(replace(raced.arena, study=now), chosen)
        plans.append([planned.id for planned in plan])
        runs = list(dict.fromkeys(chain(*plans)))
        write_json(folder.plan, {**content, "race": raced.sentence, "looks": plans, "runs": runs})
        finish(raced.arena, plan, looks.where)
        if looks.ahead is None:
            return
        found = judge(folder.path)
        open_pairs = sum(pair.kind == "undecided" for pair in found.pairs)
        end = found.next_step if open_pairs else "the study stops here."
        words = f"{looks.where}: {open_pairs} of {plural(len(found.pairs), 'pair')} undecided; {end}"
        tell("", {"kind": "look", "sentence": words})
        if not open_pairs:
            return


def plan_only(study: Study, path: Path, tell: Tell = silent) -> tuple[Prepared, str]:
    """Read, audit and split as run() does, and check the question; return the data and what the planner says."""
    folder = StudyFolder(path)
    with folder.held():
        prepared = prepare(study, folder, tell)
        check_question(study, prepared)
        return prepared, speak_before(study, prepared, folder, tell)


def check_question(study: Study, prepared: Prepared) -> None:
    """Raise UsageError for what would be found wrong too late or never: metric, no validation, too large a batch."""
    if study.licence == "permissive":
        check_licences({candidate.name: candidate.model for candidate in study.candidates}, prepared.dataset.task)
    table = TASKS[prepared.dataset.task](prepared.dataset.classes).table
    if study.metric is not None and study.metric not in table:
        raise UsageError(f"unknown metric {study.metric!r}{nearest(study.metric, table)}; known: {', '.join(table)}")
    choosing = [candidate.name for candidate in study.candidates if candidate.recipe.checkpoint == "best"]
    if choosing and any(not part.val for part in prepared.splits.parts):
        raise UsageError(
            f'{choosing[0]}: checkpoint = "best" needs validation images, and the split has none: set split.val above 0'
        )
    asked = [*study.candidates, *extremes(study, prepared)]
    validated = all(part.val for part in prepared.splits.parts)
    for candidate in asked:
        _check_recipe(candidate, prepared.dataset)
        loss = TASKS[prepared.dataset.task](prepared.dataset.classes).validation_loss
        if why := unknowable([s.until for s in candidate.recipe.stages], prepared.dataset.task, loss, validated):
            raise UsageError(f"{printable(candidate.name)}: {why}")
    check_race(study, prepared)
    images = min(len(part.train) for part in prepared.splits.parts)
    for candidate in asked:
        if candidate.recipe.batch > images:
            raise UsageError(
                f"{printable(candidate.name)}: recipe.batch = {candidate.recipe.batch} is more than the "
                f"{plural(images, 'training image')}; set it to {images} or less"
            )


def _check_recipe(candidate: Candidate, dataset: Dataset) -> None:
    """Raise UsageError for what a recipe asks for and the task does not have."""
    recipe = candidate.recipe
    weights = (1.0,) * len(dataset.classes) if recipe.class_weights else None
    try:
        TASKS[dataset.task](dataset.classes, LossOptions(recipe.loss, recipe.label_smoothing, weights))
    except UsageError as error:
        raise UsageError(f"{printable(candidate.name)}: recipe: {error}") from None
    if recipe.balanced and dataset.task == "semantic":
        raise UsageError(
            f"{printable(candidate.name)}: recipe.balanced draws images by their class, and a label map holds many: "
            "use recipe.class_weights"
        )
    if unknown := sorted({*recipe.derived} - {"all", *dataset.methods}):
        there = ", ".join(f'"{name}"' for name in ("all", *dataset.methods))
        why = f"it has {there}" if dataset.methods else "it has none: `bakeoff data expand` makes them"
        raise UsageError(
            f"{printable(candidate.name)}: recipe.derived names {unknown[0]!r}{nearest(unknown[0], dataset.methods)}, "
            f"and the data hold no such derived images; {why}"
        )
    if recipe.cache_features and dataset.task != "classification":
        raise UsageError(
            f"{printable(candidate.name)}: recipe.cache_features is for classification; the heads of {dataset.task} "
            "hold most of the work: set it to false"
        )
    for mixing in (name for name in MIXES if getattr(recipe, name)):
        if dataset.task not in MIXES[mixing]:
            tasks = " and ".join(MIXES[mixing])
            raise UsageError(f"{printable(candidate.name)}: recipe.{mixing} is for {tasks}, not for {dataset.task}")
        if recipe.batch == 1:
            raise UsageError(
                f"{printable(candidate.name)}: recipe.{mixing} mixes the images of a batch, and recipe.batch is 1: "
                "set it to 2 or more"
            )


def speak_before(study: Study, prepared: Prepared, folder: StudyFolder, tell: Tell = silent) -> str:
    """Say, before anything trains, the smallest difference that this study can find; keep it for the report."""
    tested = {id for part in prepared.splits.parts for id in part.test}
    groups = len({prepared.splits.groups.get(id, id) for id in tested})
    crossed = study.split.folds > 1
    seeds = study.split.repeats if crossed else study.most_seeds
    names = len(study.candidates)
    tests = max(1, names - 1 if study.baseline else names * (names - 1) // 2)
    task = TASKS[prepared.dataset.task](prepared.dataset.classes)
    name = study.metric or task.headline
    other = None if name == "accuracy" else task.table[name]
    words = planner_sentence(
        Design(groups, seeds, study.split.folds, tests, Looks(study.looks).alpha), study.eps, other
    )
    table = {
        f"{n} images": {f"{s} seeds": 100 * planner_table(images=(n,), seeds=(s,))[n, s] for s in (3, 5, 10)}
        for n in (50, 100, 200, 500, 1000, 2000, 5000)
    }
    write_json(folder.planner, {"sentence": words, "images": len(tested), "groups": groups, "table": table})
    tell("", {"kind": "planner", "sentence": words})
    return words


def planner_sentence(design: Design, eps: float, metric: Metric | None = None) -> str:
    """Say what a design can find (at accuracy 85 %, seed sd 1 point) and, when that is more than eps, what to do.

    `metric` is given where the study is about another one than accuracy, of which less is known beforehand.
    """
    unit = "repeat" if design.folds > 1 else "seed"
    plan = f"{plural(design.seeds, unit)} and {plural(design.images, 'independent test image')}"
    if design.seeds < 2 or design.images < 20:
        return f"{plan} are too few for a claim about the models: 3 {unit}s and 20 images are the least."
    found = 100 * smallest_difference(design)
    rough = "" if metric is None else f" (planned for accuracy near 85 %; for {lowered(metric.title)} a rough guide)"
    words = f"With {plan} this study finds a difference of {found:.1f} points or more with 80 % power{rough}."
    if found <= eps or (metric is not None and not metric.percent):  # points and eps are then of two kinds
        return words
    better = (
        "more seeds" if design.images >= 1000 else "cross-validation (every image is then a test image) or more images"
    )
    return f"{words} Smaller ones stay undecided, but you care from {eps:g} on: consider {better}."


def _time_predictions(folder: StudyFolder, execution: dict[str, Any], tell: Tell) -> None:
    """Time one image on a trained network of each candidate, one after the other, when nothing else runs."""
    known: dict[str, float] = read_json(folder.latency) if folder.latency.exists() else {}
    first = {run.candidate: run.id for run in reversed(folder.planned()) if run.state == "done"}
    todo = sorted(id for id in first.values() if id not in known)
    if not todo:
        return
    tell("", {"kind": "phase", "name": "time predictions"})
    alone = {**execution, "workers": 1, "devices": execution["devices"][:1]}
    jobs = [Job(id, "bakeoff.timing:predict", {"model": str(folder.run(id).path.resolve())}) for id in todo]
    with closing(open_engine(alone)) as engine:
        for message in engine.run(jobs):
            if message.kind == "failed":
                raise as_error(message)
            if message.kind == "fact":
                known[message.job_id] = message.content["milliseconds"]
    write_json(folder.latency, known)


def judge(path: Path) -> Comparison:
    """Compare the runs in a study folder, without loading a network, and write comparison.json.

    Raises RunError when runs are missing or none succeeded, Refused when they are not comparable.
    """
    folder = StudyFolder(path)
    if not folder.plan.exists():
        raise RunError(f"{path}: this study's contest has not begun yet; run `bakeoff run {path}`")
    plan = read_json(folder.plan)
    study = make_study(plan["study"], str(folder.plan))
    looks, ids = _reached(folder, study, plan.get("looks", [plan["runs"]]))
    dataset, splits = Dataset.from_json(read_json(folder.data)), Splits.from_json(read_json(folder.split))
    known = read_json(folder.latency) if folder.latency.exists() else {}
    latency = {run.candidate: known[run.id] for run in folder.planned() if run.id in known}
    results = []
    for id in ids:
        stored = folder.run(id).read()
        if stored is None or stored.state not in ("done", "failed"):
            raise RunError(f"{path}: run {id} is not finished; run `bakeoff run {path}` to go on")
        if stored.settings["split"] != splits.hash:
            raise Refused(f"{path}: data or split changed after run {id}; run `bakeoff run {path}` to train under them")
        stored = replace(stored, facts={**stored.facts, "latency_ms": latency.get(stored.candidate)})
        results.append((stored, folder.run(id).outcomes() if stored.state == "done" else None))
    if not any(outcomes is not None for _, outcomes in results):
        raise RunError(f"{path}: every run failed; the first: {results[0][0].error}")
    task = TASKS[dataset.task](dataset.classes)
    once = {(run.candidate, run.seed, run.repeat, run.fold): outcomes for run, outcomes in reversed(results)}
    question = Question(
        eps=study.eps,
        baseline=study.baseline,
        metric=study.metric,
        folds=study.split.folds,
        repeats=study.split.repeats,
        groups=splits.groups,
        suspects={
            "leaking images": [id for f in splits.findings if f.code == "leak" for id in f.records],
            "copies of another image": [
                id for id, name in splits.groups.items() if name.startswith("copies:") and name != f"copies:{id}"
            ],
            "flagged labels": task.doubtful([outcomes for outcomes in reversed(once.values()) if outcomes is not None]),
        },
        looks=looks,
        dropped=tuple(Dropped(**one) for one in plan.get("dropped", ())),
        race=plan.get("race", ""),
        tuning=read_tuned(folder, study, plan.get("tuning"), Prepared(dataset, splits)),
    )
    comparison = compare(task, question, results)
    write_json(folder.comparison, comparison.to_json())
    return comparison


def _reached(folder: StudyFolder, study: Study, plans: Sequence[list[str]]) -> tuple[Looks, list[str]]:
    """Return the last look whose runs all ended, and the ids of its runs; the first where none did."""

    def ended(ids: Sequence[str]) -> bool:
        found = (folder.run(id).read() for id in ids)
        return all(run is not None and run.state in ("done", "failed") for run in found)

    number = max((place for place, ids in enumerate(plans, 1) if ended(ids)), default=1)
    return Looks(study.looks, number if study.looks else 0), plans[number - 1]
