"""Equal tuning: every candidate tries equally many settings on validation, before the contest's fresh seeds.

The space, and the settings drawn from it once for all candidates, are written to tuning.json before the first trial
runs.  Trials are runs like others; what is chosen is a function of what they recorded, so a cut study goes on to the
same choice.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from bakeoff.data.split import smallest_validation
from bakeoff.errors import UsageError
from bakeoff.evaluate.tuned import Choice, Part, Trial, Tuned, best_of
from bakeoff.files import read_json, write_json
from bakeoff.findings import printable
from bakeoff.models import build, python_file
from bakeoff.prepare import Prepared
from bakeoff.runs import Arena, Chosen, Variant, finish, make_run
from bakeoff.settings import set_value
from bakeoff.store import Run, StudyFolder
from bakeoff.study import Candidate, Study, explain
from bakeoff.tasks import TASKS
from bakeoff.tasks.task import Metric
from bakeoff.train.budget import shortened
from bakeoff.train.space import RATE, Range, Tune, edge_of, value_at

Point = Mapping[str, Any]  # a setting by the names of the space
Record = Mapping[str, Any]  # what tuning.json holds
FAR = 1_000_000_000  # from the first seed of the contest to that of its trials: no contest counts so far
MOST_DRAWS = 64  # per trial: a space of few choices is drawn from until all of it was found


def tune(arena: Arena) -> Chosen:
    """Return what every tuned candidate is trained with in each part of the split; {} where the study tunes nothing.

    Trains the trials that are not done yet.  Raises UsageError when the space was changed after trials were run in
    this folder, or without optuna.
    """
    study = arena.study
    if not tunable(study):
        return {}
    record = _register(arena.folder, study)
    plan = {candidate.name: _plan(arena, candidate, record) for candidate in tunable(study)}
    ids = {
        name: [{"repeat": r, "fold": f, "runs": [run.id for run in runs]} for (r, f), runs in parts.items()]
        for name, parts in plan.items()
    }
    record = {**record, "candidates": ids}
    write_json(arena.folder.tuning, record)
    _train(arena, [runs for parts in plan.values() for runs in parts.values()])
    chosen: dict[str, dict[Part, Mapping[str, Any]]] = {}
    for one in read_tuned(arena.folder, study, record, arena.prepared):
        by_part = {(choice.repeat, choice.fold): choice.settings for choice in one.choices}
        if by_part:
            first = next(iter(by_part.values()))  # of all parts, where tuning is not nested
            parts = [(part.repeat, part.fold) for part in arena.prepared.splits.parts]
            chosen[one.candidate] = {part: by_part.get(part, first) for part in parts}
    return chosen


def tunable(study: Study) -> list[Candidate]:
    """Return the candidates that the study tunes."""
    return [candidate for candidate in study.candidates if candidate.tune] if study.tune.trials else []


def count_trials(study: Study) -> int:
    """Return how many trials a study has, where no cap of seconds stops them."""
    parts = study.split.folds * study.split.repeats if study.split.folds > 1 and study.tune.nested else 1
    return len(tunable(study)) * parts * study.tune.trials


def recorded(folder: StudyFolder, study: Study) -> Record | None:
    """Return what a study's plan keeps of its trials; None where the study tunes nothing."""
    record: Record | None = read_json(folder.tuning) if tunable(study) else None
    return record


def extremes(study: Study, prepared: Prepared) -> list[Candidate]:
    """Return every tuned candidate at the ends of the space and at each choice, to be checked like other candidates.

    Networks that the space changes are built once, without weights.  Raises UsageError where a setting does not fit a
    candidate, or where there are no validation images to choose by.
    """
    candidates = tunable(study)
    if candidates and any(not part.val for part in prepared.splits.parts):
        raise UsageError("tuning chooses by validation images, and the split has none: set split.val above 0")
    points = [
        {path: value}
        for path, dimension in study.tune.space.items()
        for value in ((dimension.low, dimension.high) if isinstance(dimension, Range) else dimension)
    ]
    found = [laid_over(candidate, settings_at(candidate, point)) for candidate in candidates for point in points]
    _build_changed(study, prepared, found)
    return found


def _build_changed(study: Study, prepared: Prepared, candidates: Sequence[Candidate]) -> None:
    """Build each network that no candidate declares; raises UsageError naming the candidate whose it cannot be.

    One from a Python file is left to its trial: its code runs in workers alone.
    """
    known = [candidate.model for candidate in study.candidates]
    dataset = prepared.dataset
    for candidate in candidates:
        model = candidate.model
        if model in known or model.source == python_file.NAME:
            continue
        known.append(model)
        bare = model.model_copy(update={"weights": "none"})
        try:
            build(bare, len(dataset.classes), model.size or study.size, dataset.task)
        except UsageError as error:
            raise UsageError(f"tune.space, {printable(candidate.name)}: {error}") from None


def settings_at(candidate: Candidate, point: Point) -> dict[str, Any]:
    """Return the settings, by dotted path in the candidate, that a point of the space stands for.

    "rate" multiplies the rate of every stage, and the head's own where it has one.
    """
    settings = {path: value for path, value in point.items() if path != RATE}
    if RATE in point:
        for place, stage in enumerate(candidate.recipe.stages):
            rates = {"rate": stage.rate, "head_rate": stage.head_rate}
            for name, rate in rates.items():
                if rate is not None:
                    settings[f"recipe.stages.{place}.{name}"] = float(f"{rate * point[RATE]:.6g}")
    return settings


def laid_over(candidate: Candidate, settings: Mapping[str, Any]) -> Candidate:
    """Return the candidate with settings laid over it.  Raises UsageError, naming candidate and key, for a misfit."""
    content = candidate.model_dump(mode="json")
    source = f"tune.space, {printable(candidate.name)}"
    try:
        for path, value in settings.items():
            set_value(content, path, value)
        return Candidate.model_validate(content)
    except UsageError as error:
        raise UsageError(f"{source}: {error}") from None
    except ValidationError as error:
        raise UsageError(explain(error, source)) from None


# --- before the first trial ---


def _register(folder: StudyFolder, study: Study) -> dict[str, Any]:
    """Draw the settings that all candidates try, or take up those that were drawn when the folder's tuning began.

    More trials than before go on where the sequence stopped.
    """
    rule = study.tune
    asked = {key: rule.model_dump(mode="json")[key] for key in ("space", "epochs")}
    stored = read_json(folder.tuning) if folder.tuning.exists() else None
    if stored is not None and any(stored[key] != asked[key] for key in asked):
        if _begun(folder, stored):
            raise UsageError(
                f"{folder.tuning}: tune.space and tune.epochs were written down before the first trial of this study "
                "and cannot change after it; set them back, or start another study folder"
            )
        stored = None
    seed = stored["seed"] if stored else FAR + study.first_seed
    before = stored["points"] if stored else []
    points = before if len(before) >= rule.trials - 1 else [*before, *draw(rule, seed)[len(before) :]]
    return {"schema_version": 1, **asked, "seed": seed, "points": points}


def _begun(folder: StudyFolder, record: Record) -> bool:
    """Say whether any of the trials was started."""
    ids = (id for parts in record.get("candidates", {}).values() for part in parts for id in part["runs"])
    return any(run.state != "new" for run in (folder.run(id).read() for id in ids) if run is not None)


def draw(rule: Tune, seed: int) -> list[dict[str, Any]]:
    """Return trials - 1 different points of the space in quasi-random order; fewer where the space has no more."""
    count, drawn, names = rule.trials - 1, rule.trials - 1, sorted(rule.space)
    while True:
        found: list[dict[str, Any]] = []
        for places in unit_points(len(names), drawn, seed):
            point = {name: value_at(rule.space[name], at) for name, at in zip(names, places, strict=True)}
            found += [] if point in found else [point]
        if len(found) >= count or drawn >= MOST_DRAWS * count:
            return found[:count]
        drawn *= 4


def unit_points(dimensions: int, count: int, seed: int) -> list[list[float]]:
    """Return the first points (count, dimensions) in 0..1 of Optuna's scrambled Sobol sequence.

    A longer sequence begins with the shorter one.  Raises UsageError when optuna is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise UsageError(
            'tuning draws its settings with Optuna, which is not installed: pip install "bakeoff[tune]"'
        ) from None
    space: dict[str, Any] = {
        f"{place:03d}": optuna.distributions.FloatDistribution(0.0, 1.0) for place in range(dimensions)
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.QMCSampler(qmc_type="sobol", scramble=True, seed=seed % 2**32)
    spoken = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # or it would announce its study on stderr
    try:
        asked = optuna.create_study(sampler=sampler)
    finally:
        optuna.logging.set_verbosity(spoken)
    default = optuna.trial.create_trial(params=dict.fromkeys(space, 0.5), distributions=space, value=0.0)
    asked.add_trial(default)  # the sampler takes the space from trial 0
    drawn = (asked.ask(space).params for _ in range(count))
    return [[point[name] for name in space] for point in drawn]


def _plan(arena: Arena, candidate: Candidate, record: Record) -> dict[Part, list[Run]]:
    """Return a candidate's trials in each part that tunes: the recipe as declared, then the points in their order."""
    rule = arena.study.tune
    overlays = [{}, *(settings_at(candidate, point) for point in record["points"][: rule.trials - 1])]
    variants = [
        Variant("trial", {**settings, **shortened(laid_over(candidate, settings).recipe, rule.epochs)})
        for settings in overlays
    ]
    parts = arena.prepared.splits.parts if rule.nested else arena.prepared.splits.parts[:1]
    return {
        (part.repeat, part.fold): [
            make_run(arena, candidate, (record["seed"], part.repeat, part.fold), variant) for variant in variants
        ]
        for part in parts
    }


# --- the trials ---


def _train(arena: Arena, plans: Sequence[Sequence[Run]]) -> None:
    """Train trial by trial, so that a study cut short has something of every candidate."""
    for name, runs in _rounds(arena, plans):
        finish(arena, runs, name)


def _rounds(arena: Arena, plans: Sequence[Sequence[Run]]) -> Iterator[tuple[str, list[Run]]]:
    """Yield what may be trained together: everything, or under a cap of seconds the next trial of who has some left."""
    cap, most = arena.study.tune.seconds, max(map(len, plans))
    if cap is None:
        yield "tuning", [runs[number] for number in range(most) for runs in plans]
        return
    for number in range(most):
        able = [runs for runs in plans if _affordable(arena.folder, [run.id for run in runs], number, cap)]
        if able:
            yield f"tuning, trial {number + 1} of {most}", [runs[number] for runs in able]


def _affordable(folder: StudyFolder, ids: Sequence[str], number: int, cap: float | None) -> bool:
    """Say whether the trial of this number may begin: those before it have not used up the seconds."""
    return cap is None or sum(spent(folder, id) for id in ids[:number]) < cap


def spent(folder: StudyFolder, id: str) -> float:
    """Return the device-seconds that a run has used, a failed one too."""
    stored = folder.run(id).read()
    if stored is None or stored.state == "new":
        return 0.0
    epochs = sum(fact["seconds"] for fact in folder.run(id).history() if fact["kind"] == "epoch")
    return float(max(epochs, stored.facts.get("seconds", 0.0)))


# --- the choice, from the folder alone ---


@dataclass(frozen=True)
class _Reader:
    """What reading trials needs: the folder, the rule, the record, and the metric that decides."""

    folder: StudyFolder
    rule: Tune
    record: Record
    name: str
    metric: Metric

    def choice(self, candidate: Candidate, entry: Mapping[str, Any], images: int) -> Choice:
        """Return the best of a candidate's trials in a part of the split with so many validation images."""
        points = [declared(candidate, self.rule), *self.record["points"]]
        runs = [self.folder.run(id).read() for id in entry["runs"]]
        trials = tuple(
            self.trial(number, point, run)
            for number, (point, run) in enumerate(zip(points, runs, strict=False))
            if run is not None
            and run.state in ("done", "failed")
            and _affordable(self.folder, entry["runs"], number, self.rule.seconds)
        )
        best = best_of(trials, self.metric.higher_is_better)
        settings = settings_at(candidate, points[best]) if best else {}
        sides = {path: edge_of(self.rule.space[path], value) for path, value in points[best or 0].items()}
        edges = tuple(f"{path}: {side}" for path, side in sides.items() if side) if best is not None else ()
        return Choice(entry["repeat"], entry["fold"], images, trials, best, settings, edges)

    def trial(self, number: int, point: Point, run: Run) -> Trial:
        """Return what a finished trial gave."""
        value = run.facts.get("metrics", {}).get(self.name) if run.state == "done" else None
        error = run.error if run.state == "failed" else f"{self.name} is undefined" if value is None else None
        return Trial(number, dict(point), value, spent(self.folder, run.id), error)


def read_tuned(folder: StudyFolder, study: Study, record: Record | None, prepared: Prepared) -> tuple[Tuned, ...]:
    """Return how each candidate was tuned, without loading a network; () where the study tunes nothing."""
    if record is None:
        return ()
    task = TASKS[prepared.dataset.task](prepared.dataset.classes)
    name, rule = study.metric or task.headline, study.tune
    reader = _Reader(folder, rule, record, name, task.table[name])
    images = {(part.repeat, part.fold): len(part.val) for part in prepared.splits.parts}
    return tuple(
        Tuned(
            candidate=candidate.name,
            asked=rule.trials if candidate.tune else 0,
            choices=tuple(
                reader.choice(candidate, entry, images[entry["repeat"], entry["fold"]])
                for entry in record["candidates"].get(candidate.name, ())
            ),
            capped=rule.seconds is not None,
            nested=rule.nested,
            needed=smallest_validation(prepared.dataset),
        )
        for candidate in study.candidates
    )


def declared(candidate: Candidate, rule: Tune) -> dict[str, Any]:
    """Return where the candidate's own recipe lies in the space; None for what it does not say."""
    content = candidate.model_dump(mode="json")
    return {path: 1.0 if path == RATE else _get(content, path) for path in rule.space}


def _get(content: Any, path: str) -> Any:
    """Return the value at a dotted path, or None."""
    for key in path.split("."):
        if isinstance(content, list) and key.isdigit() and int(key) < len(content):
            content = content[int(key)]
        elif isinstance(content, dict):
            content = content.get(key)
        else:
            return None
    return content
