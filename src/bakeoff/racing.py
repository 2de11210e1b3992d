"""docs/protocol.md section 7: losers are dropped on VALIDATION, by short schedules, before the contest begins.

Each rung of the race trains every candidate left with a complete schedule of a quarter, then half, of its epochs, under
a seed that no contest uses.  Survivors meet in the contest as if there had been no race: fresh seeds, untouched test.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from bakeoff.errors import UsageError
from bakeoff.evaluate.dropped import Dropped
from bakeoff.evaluate.estimates import headline_table
from bakeoff.evaluate.pairs import LEAST_GROUPS, LEAST_IMAGES
from bakeoff.evaluate.planner import Behind, behind_leader, dropped_in_race
from bakeoff.evaluate.variance import Codes, Scores, group_codes
from bakeoff.files import write_json
from bakeoff.findings import listed, plural, printable
from bakeoff.prepare import Prepared
from bakeoff.runs import Arena, Chosen, Variant, finish, make_run
from bakeoff.settings import set_value
from bakeoff.store import Run
from bakeoff.study import Candidate, Study
from bakeoff.tasks import TASKS
from bakeoff.tasks.task import Metric
from bakeoff.train.recipe import Recipe

SHARES = (0.25, 0.5)  # of the full schedule, rung by rung
KEEP = 2  # candidates that the race never goes below
POINT = 0.01  # the seed's standard deviation that is reckoned with where each candidate has one run


@dataclass(frozen=True)
class Entry:
    """One candidate at one rung: its run, its score on validation, and whether it leaves.

    `behind` [`low`, `high`] is the leader's score less its own with the race's interval, in the metric's unit; None
    where the run failed or nothing can be said, and `reason` says why.
    """

    candidate: str
    run: str
    epochs: int
    seconds: float | None
    value: float | None
    behind: float | None = None
    low: float | None = None
    high: float | None = None
    dropped: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Rung:
    """One rung: its number (1, 2), the share of the full schedule that it trains, and the candidates, best first."""

    number: int
    share: float
    seed: int
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Race:
    """What is left: the arena with the survivors alone, whom the race dropped, and in a sentence what it cost."""

    arena: Arena
    dropped: tuple[Dropped, ...] = ()
    sentence: str = ""


def check_race(study: Study, prepared: Prepared) -> None:
    """Raise UsageError for a recipe too short to race, before anything trains."""
    if study.race and not _pointless(study, prepared):
        for candidate in study.candidates:
            try:
                shortened(candidate.recipe, SHARES[0])
            except UsageError as error:
                raise UsageError(f"{printable(candidate.name)}: {error}") from None


def shortened(recipe: Recipe, share: float) -> dict[str, Any]:
    """Return the settings that make a recipe a complete schedule of `share` of its epochs, by dotted path.

    Every stage keeps its share of the epochs, rounded by largest remainders, and one epoch at least.  Raises UsageError
    when the epochs are too few for the stages.

    >>> shortened(Recipe(epochs=20), 0.25)
    {'recipe.epochs': 5}
    """
    rest = recipe.epochs - sum(stage.epochs or 0 for stage in recipe.stages)
    lengths = [stage.epochs or rest for stage in recipe.stages]
    epochs = int(recipe.epochs * share)
    if epochs < len(lengths):
        stages = f" for its {len(lengths)} stages" if len(lengths) > 1 else ""
        raise UsageError(
            f"recipe.epochs = {recipe.epochs} is too short to race{stages}: the first rung trains "
            f"{100 * share:g} % of it; take {round(len(lengths) / share)} epochs or more, or race = false"
        )
    short = [1 + int(length / recipe.epochs * (epochs - len(lengths))) for length in lengths]
    wanting = sorted(range(len(short)), key=lambda i: short[i] - lengths[i] / recipe.epochs * epochs)
    for place in wanting[: epochs - sum(short)]:
        short[place] += 1
    fixed = {f"recipe.stages.{i}.epochs": short[i] for i, stage in enumerate(recipe.stages) if stage.epochs}
    return {"recipe.epochs": epochs, **fixed}


def race(arena: Arena, chosen: Chosen | None = None) -> Race:
    """Race the candidates of an arena on validation, and return the arena with the survivors.

    `chosen` are the settings that tuning gave each candidate.  What is trained already is not trained again: the race
    is a function of its runs.  race.json records every rung.  A declared baseline and the last two are never dropped.
    """
    study = arena.study
    if not study.race:
        return Race(arena)
    settings = {c.name: dict((chosen or {}).get(c.name, {}).get((0, 0), {})) for c in study.candidates}
    rungs: list[Rung] = []
    why = _pointless(study, arena.prepared)
    alive = arena
    for number in range(1, len(SHARES) + 1):
        if why or len(alive.study.candidates) <= KEEP:
            break
        rungs.append(_climb(alive, number, settings))
        alive = _without(alive, {entry.candidate for entry in rungs[-1].entries if entry.dropped})
    sentence = f"There was no race: {why}." if why else _price(study, rungs, settings)
    arena.tell("", {"kind": "race", "sentence": sentence})
    write_json(arena.folder.race, {"sentence": sentence, "rungs": [asdict(rung) for rung in rungs]})
    left = [(rung.number, entry) for rung in rungs for entry in rung.entries if entry.dropped]
    dropped = (Dropped(e.candidate, number, e.behind, e.low, e.high, e.reason) for number, e in left)
    return Race(alive, tuple(dropped), sentence)


def _pointless(study: Study, prepared: Prepared) -> str:
    """Say why there is nothing to race, or on nothing to judge it; empty where there is."""
    if len(study.candidates) <= KEEP:
        return f"it takes {KEEP + 1} candidates, here are {len(study.candidates)}"
    ids = prepared.splits.parts[0].val
    groups = int(_groups(prepared, ids).max()) + 1 if ids else 0
    if len(ids) < LEAST_IMAGES or groups < LEAST_GROUPS:
        return (
            f"it is judged on validation, which takes {LEAST_IMAGES} images in {LEAST_GROUPS} groups; here are "
            f"{len(ids)} in {groups} (split.val sets their share)"
        )
    return ""


def _groups(prepared: Prepared, ids: Sequence[str]) -> Codes:
    """Return the group of each image; an image without one is its own."""
    known = prepared.splits.groups
    return group_codes([f"group {known[id]}" if id in known else f"image {id}" for id in ids], len(ids))


def _without(arena: Arena, gone: Iterable[str]) -> Arena:
    """Return the arena without some candidates."""
    left = tuple(candidate for candidate in arena.study.candidates if candidate.name not in set(gone))
    return replace(arena, study=arena.study.model_copy(update={"candidates": left}))


def _recipe(candidate: Candidate, settings: Mapping[str, Any]) -> Recipe:
    """Return a candidate's full recipe under the settings chosen for it."""
    content = candidate.model_dump(mode="json")
    for path, value in settings.items():
        set_value(content, path, value)
    return Recipe.model_validate(content["recipe"])


def _climb(arena: Arena, number: int, settings: Mapping[str, Mapping[str, Any]]) -> Rung:
    """Train and judge one rung."""
    share = SHARES[number - 1]
    seed = -(len(SHARES) * arena.study.first_seed + number)  # below 0: no contest, of this study or the next, has it
    planned = []
    for candidate in arena.study.candidates:
        own = settings[candidate.name]
        shorter = {**own, **shortened(_recipe(candidate, own), share)}
        planned.append(make_run(arena, candidate, (seed, 0, 0), Variant("rung", shorter)))
    finish(arena, planned, f"race, rung {number} of {len(SHARES)}")
    stored = [arena.folder.run(run.id).read() or run for run in planned]
    return Rung(number, share, seed, _judge(arena, stored))


def _judge(arena: Arena, runs: Sequence[Run]) -> tuple[Entry, ...]:
    """Return every candidate's entry, the best first, those that failed last."""
    study, task = arena.study, TASKS[arena.prepared.dataset.task](arena.prepared.dataset.classes)
    name = study.metric or task.headline
    done = [run for run in runs if run.state == "done"]
    judged = [
        Entry(run.candidate, run.id, run.chosen["recipe.epochs"], run.facts["seconds"], run.facts["metrics"].get(name))
        for run in done
    ]
    gaps, losers = _gaps(arena, task.table[name], done)
    if gaps:
        judged = [
            replace(e, behind=gap.gap, low=gap.low, high=gap.high, dropped=e.candidate in losers - {study.baseline})
            for e, gap in zip(judged, gaps, strict=True)
        ]
    else:
        judged = [replace(e, reason=f"{task.table[name].title} is undefined on validation images") for e in judged]
    judged.sort(key=lambda entry: entry.behind or 0.0)
    spare = max(0, KEEP - len(done))  # failed ones that stay, since too few are left: the baseline first
    failed = sorted((run for run in runs if run.state != "done"), key=lambda run: run.candidate != study.baseline)
    stay = {run.candidate for run in failed[:spare]} | {study.baseline}
    return (
        *judged,
        *(
            Entry(run.candidate, run.id, run.chosen["recipe.epochs"], None, None, dropped=run.candidate not in stay,
                  reason=f"its run failed: {run.error or 'lost'}")
            for run in failed
        ),
    )  # fmt: skip


def _gaps(arena: Arena, metric: Metric, runs: Sequence[Run]) -> tuple[list[Behind], set[str]]:
    """Return how far each finished run is behind the leader on validation, and the names of the losers.

    Nothing where no run finished, or the metric is undefined on some of the images.  A seed is reckoned to move a
    percent metric by one point, another one by the study's eps.
    """
    if not runs:
        return [], set()
    outcomes = [arena.folder.run(run.id).outcomes("validation") for run in runs]
    codes = _groups(arena.prepared, outcomes[0].ids)
    single = int(codes.max()) + 1 == len(codes)
    made = [headline_table(metric, [one], codes, single) for one in outcomes]
    tables: list[Scores] = [table for table, _ in made]
    if not all(np.isfinite(table).all() for table in tables):
        return [], set()
    units, prior = made[0][1], POINT if metric.percent else arena.study.eps
    losers = dropped_in_race(tables, len(SHARES), prior, KEEP, units)
    return behind_leader(tables, len(SHARES), prior, units), {runs[k].candidate for k in losers}


def _price(study: Study, rungs: Sequence[Rung], settings: Mapping[str, Mapping[str, Any]]) -> str:
    """Say what the race cost in training, and what it spares: the contest runs of those that it dropped."""
    entries = [entry for rung in rungs for entry in rung.entries]
    seconds = sum(entry.seconds or 0.0 for entry in entries)
    cost = f"The race took {plural(len(entries), 'run')}, {seconds:.0f} s of training"
    gone = [entry for entry in entries if entry.dropped]
    if not gone:
        return f"{cost}, and dropped nobody."
    full = {c.name: _recipe(c, settings[c.name]).epochs for c in study.candidates}
    seeds = study.looks[0] if study.looks else study.seeds
    spared = sum(seeds * (entry.seconds or 0.0) * full[entry.candidate] / entry.epochs for entry in gone)
    who = listed([entry.candidate for entry in gone])
    least = " at least" if study.looks else ""
    return f"{cost}, and dropped {who}: {plural(seeds, 'run')} of each spared{least}, about {spared:.0f} s of training."
