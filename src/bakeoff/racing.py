"""docs/protocol.md section 7: losers are dropped on VALIDATION, by short schedules, before the contest begins.

Each rung of the race trains every candidate left with a complete schedule of a quarter, then half, of its epochs, under
a seed that no contest uses.  Whoever is clearly behind, and the leader, train a second seed: short schedules can vary
much more from seed to seed than the one point that a single run is given.  Survivors meet in the contest as if there
had been no race: fresh seeds, untouched test.
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
from bakeoff.train.budget import shortened
from bakeoff.train.recipe import Recipe

SHARES = (0.25, 0.5)  # of the full schedule, rung by rung
KEEP = 2  # candidates that the race never goes below
POINT = 0.01  # the seed's standard deviation that is reckoned with where each candidate has one run


@dataclass(frozen=True)
class Entry:
    """One candidate at one rung: its runs, their mean score on validation, and whether it leaves.

    `behind` [`low`, `high`] is the leader's score less its own with the race's interval, in the metric's unit; None
    where its run failed or nothing can be said, and `reason` says why.
    """

    candidate: str
    runs: tuple[str, ...]
    epochs: int
    seconds: float
    value: float | None = None
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
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Race:
    """What is left: the arena with the survivors alone, whom the race dropped, and in a sentence what it cost."""

    arena: Arena
    dropped: tuple[Dropped, ...] = ()
    sentence: str = ""


def check_race(study: Study, prepared: Prepared) -> None:
    """Raise UsageError for a recipe too short to race, before anything trains."""
    if not study.race or _pointless(study, prepared):
        return
    for candidate in study.candidates:
        recipe, stages = candidate.recipe, len(candidate.recipe.stages)
        if int(recipe.epochs * SHARES[0]) < stages:
            least = f"an epoch for each of its {stages} stages" if stages > 1 else "an epoch"
            raise UsageError(
                f"{printable(candidate.name)}: recipe.epochs = {recipe.epochs} is too short to race: the first rung "
                f"trains {100 * SHARES[0]:g} % of it, less than {least}; take {round(stages / SHARES[0])} or more, or "
                "race = false"
            )


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


def foretold(study: Study, prepared: Prepared) -> str:
    """Say before training what the race will do."""
    why = _pointless(study, prepared)
    return f"there will be none: {why}" if why else f"{len(SHARES)} rungs before the contest; whom it drops has no run"


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
    """Train and judge one rung; before anyone is dropped, losers and leader train once more under another seed."""
    task = TASKS[arena.prepared.dataset.task](arena.prepared.dataset.classes)
    name = arena.study.metric or task.headline
    metric, rung = task.table[name], (number, settings)
    runs = {run.candidate: [run] for run in _train(arena, rung, 1)}
    finished = {candidate: own for candidate, own in runs.items() if own[0].state == "done"}
    losers, behind = _standing(arena, metric, finished)
    losers = [loser for loser in losers if loser != arena.study.baseline]
    if losers:
        leader = max(behind, key=lambda candidate: -behind[candidate].gap)
        again = _without(arena, {*runs} - {leader, *losers})
        for run in _train(again, rung, 2):
            runs[run.candidate].append(run)
        twice = {candidate: [run for run in runs[candidate] if run.state == "done"] for candidate in (leader, *losers)}
        behind |= _standing(arena, metric, twice, len(finished))[1]
    entries = [_entry(own, name, behind, losers) for own in runs.values()]
    return Rung(number, SHARES[number - 1], _ranked(arena.study, entries))


def _train(arena: Arena, rung: tuple[int, Mapping[str, Mapping[str, Any]]], time: int) -> list[Run]:
    """Train one run of each candidate for a rung (its number, and the settings of each), for the first or second time.

    Seeds are below 0: no contest, of this study or the next, has them.
    """
    number, settings = rung
    seed = -(4 * arena.study.first_seed + 2 * number - 2 + time)
    planned = []
    for candidate in arena.study.candidates:
        own = settings[candidate.name]
        shorter = {**own, **shortened(_recipe(candidate, own), SHARES[number - 1])}
        planned.append(make_run(arena, candidate, (seed, 0, 0), Variant("rung", shorter)))
    finish(arena, planned, f"race, rung {number} of {len(SHARES)}{', second seed' if time > 1 else ''}")
    return [arena.folder.run(run.id).read() or run for run in planned]


def _tables(arena: Arena, metric: Metric, runs: Mapping[str, Sequence[Run]]) -> tuple[list[Scores], Codes] | None:
    """Return the validation scores (S, n_val) of each candidate's runs and their units; None where one is undefined."""
    outcomes = [[arena.folder.run(run.id).outcomes("validation") for run in own] for own in runs.values()]
    if not outcomes:
        return None
    codes = _groups(arena.prepared, outcomes[0][0].ids)
    made = [headline_table(metric, own, codes, int(codes.max()) + 1 == len(codes)) for own in outcomes]
    tables = [table for table, _ in made]
    return (tables, made[0][1]) if all(np.isfinite(table).all() for table in tables) else None


def _standing(
    arena: Arena, metric: Metric, runs: Mapping[str, Sequence[Run]], field: int | None = None
) -> tuple[list[str], dict[str, Behind]]:
    """Return who is clearly behind, the worst first, and how far each candidate is behind the leader.

    The leader is the best one; of a part of the `field` the first.
    """
    found = _tables(arena, metric, runs)
    if found is None:
        return [], {}
    (tables, units), names = found, list(runs)
    prior = POINT if metric.percent else arena.study.eps  # a seed is reckoned to move the metric by this at least
    gaps = behind_leader(tables, len(SHARES), prior, units, None if field is None else 0, field)
    losers = dropped_in_race(tables, len(SHARES), prior, KEEP, units)
    return [names[k] for k in losers], dict(zip(names, gaps, strict=True))


def _entry(runs: Sequence[Run], metric: str, behind: Mapping[str, Behind], losers: Sequence[str]) -> Entry:
    """Return one candidate's entry."""
    first, done = runs[0], [run for run in runs if run.state == "done"]
    values = [run.facts["metrics"].get(metric) for run in done]
    entry = Entry(
        candidate=first.candidate,
        runs=tuple(run.id for run in runs),
        epochs=first.chosen["recipe.epochs"],
        seconds=sum(run.facts["seconds"] for run in done),
        value=None if not values or None in values else sum(values) / len(values),
    )
    if not done:
        return replace(entry, dropped=True, reason=f"its run failed: {first.error or 'lost'}")
    if first.candidate not in behind:
        return replace(entry, reason="the metric is undefined on these validation images")
    gap, suspect = behind[first.candidate], first.candidate in losers
    kept = "a second seed says otherwise" if suspect and gap.low <= 0 else ""
    return replace(entry, behind=gap.gap, low=gap.low, high=gap.high, dropped=suspect and gap.low > 0, reason=kept)


def _ranked(study: Study, entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """Return the entries best first, those that failed last; the baseline stays, and so many that KEEP are left."""
    order = sorted(entries, key=lambda e: (e.behind is None and bool(e.dropped), e.behind or 0.0))
    stays = {study.baseline, *(e.candidate for e in order if not e.dropped)}
    for entry in order:
        if len(stays - {None}) < KEEP:
            stays.add(entry.candidate)
    return tuple(_settled(entry, study.baseline, entry.candidate not in stays) for entry in order)


def _settled(entry: Entry, baseline: str | None, dropped: bool) -> Entry:
    """Return the entry with what becomes of it, and why one that is clearly behind goes on."""
    behind = entry.low is not None and entry.low > 0
    if dropped or not behind:
        return replace(entry, dropped=dropped)
    why = "the baseline stays" if entry.candidate == baseline else f"{KEEP} are left at least"
    return replace(entry, dropped=False, reason=why)


def _price(study: Study, rungs: Sequence[Rung], settings: Mapping[str, Mapping[str, Any]]) -> str:
    """Say what the race cost in training, and what it spares: the contest runs of those that it dropped."""
    entries = [entry for rung in rungs for entry in rung.entries]
    seconds = sum(entry.seconds for entry in entries)
    cost = f"The race took {plural(sum(len(e.runs) for e in entries), 'run')}, {seconds:.0f} s of training"
    gone = [entry for entry in entries if entry.dropped]
    if not gone:
        return f"{cost}, and dropped nobody."
    full = {c.name: _recipe(c, settings[c.name]).epochs for c in study.candidates}
    seeds = study.looks[0] if study.looks else study.seeds
    spared = sum(seeds * e.seconds / len(e.runs) * full[e.candidate] / e.epochs for e in gone)
    who = listed([entry.candidate for entry in gone])
    least = " at least" if study.looks else ""
    return f"{cost}, and dropped {who}: {plural(seeds, 'run')} of each spared{least}, about {spared:.0f} s of training."
