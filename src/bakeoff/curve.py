"""The data-size curve of a study: its candidates on shares of the training images, under the study's own conditions.

An epoch keeps the length that it has with all training images (Feed.length), so that every point takes equally many
steps and sees equally many images, the fewer ones more often: else less data would also mean less training, and the
curve would show both.  Subsets are nested, every seed draws its own, and all candidates of a seed have the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bakeoff import contest
from bakeoff.data.subset import shrunk
from bakeoff.errors import UsageError
from bakeoff.evaluate.alignment import Cells
from bakeoff.evaluate.size_curve import Curve, Key, Traced, trace
from bakeoff.execution import decide
from bakeoff.files import write_json
from bakeoff.findings import listed, printable
from bakeoff.prepare import Tell, prepare, silent
from bakeoff.runs import Arena, Place, Variant, finish, make_run
from bakeoff.store import Run, StudyFolder
from bakeoff.study import Study
from bakeoff.tasks import TASKS

SHARES = (0.1, 0.25, 0.5, 1.0)


@dataclass(frozen=True)
class Design:
    """Which runs a curve is made of: by share and candidate, one for each place; and how many images a share is."""

    runs: Mapping[float, tuple[Run, ...]]
    sizes: Mapping[float, float]
    notes: tuple[str, ...]


def draw_curve(
    study: Study, path: Path, shares: Iterable[float] = SHARES, seeds: int | None = None, tell: Tell = silent
) -> Curve:
    """Train a study's candidates on shares of its training images and return their data-size curves.

    The study is run first where it is not finished; its own runs are the points on all training images, which are
    always among the `shares`.  `seeds` None: as many as the study has.  Validation and test stay as they are.  The
    result goes to curve.json; running again trains only what is missing.

    Raises what contest.run() raises, and UsageError for impossible shares or seeds.
    """
    wanted = check_shares(shares)
    if seeds is not None and study.split.folds > 1:
        raise UsageError("under cross-validation the repeats stand in the place of seeds: leave --seeds out")
    if seeds is not None and seeds < 1:
        raise UsageError(f"seeds must be 1 or more, not {seeds}")
    contest.run(study, path, tell)
    folder = StudyFolder(path)
    with folder.held():
        prepared = prepare(study, folder, tell)
        arena = Arena(study, prepared, decide(study, prepared, folder, tell), folder, tell)
        design = plan_curve(arena, wanted, seeds)
        finish(arena, [run for share in design.runs for run in design.runs[share]], "data-size curve")
        found = _judged(arena, design)
        write_json(folder.curve, found.to_json())
    return found


def check_shares(shares: Iterable[float]) -> tuple[float, ...]:
    """Return the shares in order, all of the training images among them; UsageError for impossible ones."""
    wanted = tuple(shares)
    for share in wanted:
        if not 0 < share <= 1:
            raise UsageError(
                f"a share of the training images must be above 0 and at most 1, not {share:g} (0.5 is half)"
            )
    found = tuple(sorted({*wanted, 1.0}))
    if len(found) < 2:
        raise UsageError("a data-size curve needs a share below 1, as in --shares 0.25,0.5")
    return found


def plan_curve(arena: Arena, shares: Sequence[float], seeds: int | None) -> Design:
    """Return the runs of a curve: those of the contest where they are, the others new."""
    study = arena.study
    ran = {(run.candidate, _place(run)): run for run in _contested(arena.folder)}
    chosen = {(run.candidate, run.repeat, run.fold): run.chosen for run in ran.values()}  # nested: each part its own
    entered = {name for name, _, _ in chosen}
    places = _places(sorted({place for _, place in ran}), seeds)
    shares, sizes, notes = _distinct(arena, places, shares)
    candidates = [candidate for candidate in study.candidates if candidate.name in entered]
    if left := [printable(candidate.name) for candidate in study.candidates if candidate.name not in entered]:
        notes.append(f"Not on the curve, since the study stopped them early: {listed(left, len(left))}.")
    runs = {
        share: tuple(
            (ran.get((candidate.name, place)) if share == 1 else None)
            or make_run(arena, candidate, place, Variant("curve", chosen[candidate.name, place[1], place[2]], share))
            for place in places
            for candidate in candidates
        )
        for share in shares
    }
    return Design(runs, sizes, tuple(notes))


def _contested(folder: StudyFolder) -> list[Run]:
    """Return the study's own runs, less one that is repeated as a self-check."""
    return [run for run in folder.planned() if run.purpose == "contest" and not run.id.endswith("-again")]


def _place(run: Run) -> Place:
    return run.seed, run.repeat, run.fold


def _places(known: list[Place], seeds: int | None) -> list[Place]:
    """Return the places of a curve: those of the contest, or the first `seeds` of them, or more of the kind."""
    if seeds is None:
        return known
    first = [seed for seed, _, _ in known]
    more = range(max(first) + 1, max(first) + 1 + seeds)
    return [(seed, 0, 0) for seed in [*first, *more][:seeds]]


def _distinct(
    arena: Arena, places: Sequence[Place], shares: Sequence[float]
) -> tuple[list[float], dict[float, float], list[str]]:
    """Return the shares that differ, how many images each is (a mean over places), and what was left out."""
    splits, dataset = arena.prepared.splits, arena.prepared.dataset
    parts = {(part.repeat, part.fold): part for part in splits.parts}
    counts: dict[float, tuple[int, ...]] = {
        share: tuple(
            len(shrunk(parts[repeat, fold], dataset, splits.groups, share, seed).train) for seed, repeat, fold in places
        )
        for share in shares
    }
    kept, notes = list[float](), list[str]()
    for share, larger in zip(shares, [*shares[1:], None], strict=True):
        if larger is not None and counts[share] == counts[larger]:
            why = "every class keeps an image, and groups stay whole"
            notes.append(f"{100 * share:g} % of the training images are the same as {100 * larger:g} %: {why}.")
        else:
            kept.append(share)
    return kept, {share: sum(counts[share]) / len(places) for share in kept}, notes


def _judged(arena: Arena, design: Design) -> Curve:
    """Read the finished runs' outcomes and trace the curve."""
    study, dataset, folder = arena.study, arena.prepared.dataset, arena.folder
    task = TASKS[dataset.task](dataset.classes)
    name = study.metric or task.headline
    crossed = study.split.folds > 1
    cells: dict[Key, dict[tuple[int, int], Any]] = {}
    failures: dict[str, tuple[str, ...]] = {}
    for share, planned in design.runs.items():
        for run in (folder.run(planned_run.id).read() or planned_run for planned_run in planned):
            mine = cells.setdefault((run.candidate, share), {})
            if run.state == "done":
                mine[(run.repeat, run.fold) if crossed else (run.seed, 0)] = folder.run(run.id).outcomes()
            else:
                where = f"repeat {run.repeat}, fold {run.fold}" if crossed else f"seed {run.seed}"
                words = f"{100 * share:g} % of the images, {where}: {run.error or 'failed'}"
                failures[run.candidate] = (*failures.get(run.candidate, ()), words)
    typed: Mapping[Key, Cells] = cells
    folds, groups = study.split.folds, arena.prepared.splits.groups
    traced = Traced(task.table[name], typed, design.sizes, failures, groups, folds, study.eps, study.baseline)
    full = [run.id for run in design.runs[1.0] if run.purpose == "contest"]
    return trace(task.name, name, traced, full, design.notes)
