"""Runs -> Comparison: refuses what is not comparable, lists what was and what was not controlled."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import TypeAdapter

from bakeoff.errors import Refused, UsageError, nearest
from bakeoff.evaluate import selfchecks, tuned
from bakeoff.evaluate.alignment import Aligned, align
from bakeoff.evaluate.dropped import Dropped, stopped
from bakeoff.evaluate.estimates import headline_table, metric_estimates
from bakeoff.evaluate.ledger import Conditions, Control, ledger, refuse_undeclared, summarised
from bakeoff.evaluate.looks import ONCE, Looks
from bakeoff.evaluate.pairs import Contest, Estimate, Level, Pair, best_set, tested_pairs
from bakeoff.evaluate.selfchecks import Repeat
from bakeoff.evaluate.tuned import Tuned
from bakeoff.evaluate.variance import Codes, group_codes
from bakeoff.evaluate.verdict import Unit, advice, verdict, worded
from bakeoff.findings import Finding, plural, printable

if TYPE_CHECKING:  # a comparison is read and shown without torch
    from bakeoff.store import Run
    from bakeoff.tasks.task import Metric, Outcomes, Task

__all__ = [
    "SCHEMA_VERSION",
    "Comparison",
    "Control",
    "Dropped",
    "Estimate",
    "Level",
    "Looks",
    "Pair",
    "Question",
    "Row",
    "Tuned",
    "compare",
]

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Row:
    """One candidate: its metrics with intervals, what it cost, and what went wrong."""

    candidate: str
    runs: int  # finished runs behind the numbers
    metrics: dict[str, Estimate]
    seed_sd: float | None  # of the headline over seeds (L1) or repeats (L2); None with one
    facts: dict[str, Any]  # medians over runs: parameters, flops, latency_ms, seconds, images_per_second; licence, …
    failures: tuple[str, ...] = ()  # "seed 3: the loss became nan at step 12"


@dataclass(frozen=True)
class Question:
    """What is asked of the runs.

    `eps` is the smallest gap that matters, in points (for metrics that are no percentage: in their own unit).
    `groups` maps record ids to groups (absent: each image is its own).  `suspects` maps a reason ("near-duplicates",
    "flagged labels", "leaking images") to record ids: the verdict is also computed without them.  `folds` 1 means a
    hold-out test split (L0/L1), else L2.  `looks` say at which look these runs are judged, `dropped` whom the race
    stopped before, and `race` what it cost.  `tuning` is how each candidate was tuned.
    """

    eps: float = 1.0
    baseline: str | None = None
    metric: str | None = None  # None: the task's headline
    folds: int = 1
    repeats: int = 1
    groups: Mapping[str, str] | None = None
    suspects: Mapping[str, Sequence[str]] | None = None
    looks: Looks = ONCE
    dropped: tuple[Dropped, ...] = ()
    race: str = ""
    tuning: tuple[Tuned, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """The answer: rows, pairs, verdict, ledger and findings.  `to_json`/`from_json` are exact inverses."""

    task: str
    metric: str
    level: Level
    eps: float
    baseline: str | None
    seeds: int  # S, or the number of repeats at L2: the most that any candidate finished
    images: int  # n
    groups: int  # G
    rows: tuple[Row, ...]  # best headline first, candidates without a finished run last
    pairs: tuple[Pair, ...]
    best_set: tuple[str, ...]  # candidates not shown to be worse than the best-looking one, which comes first
    verdict: str
    next_step: str
    controls: tuple[Control, ...]
    findings: tuple[Finding, ...]  # self-checks of docs/protocol.md, section 8 included, passed ones as "info"
    schema_version: int = SCHEMA_VERSION
    looks: Looks = ONCE
    dropped: tuple[Dropped, ...] = ()  # whom the race stopped on validation: without test result or rank
    tuning: tuple[Tuned, ...] = ()  # what each candidate tried and chose on validation, in the order of the study

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able dictionary; what is undefined is null."""
        content: dict[str, Any] = _adapter().dump_python(self, mode="json")
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Comparison:
        """Rebuild from to_json().  Raises ValueError for content of another version or shape."""
        if content.get("schema_version") != SCHEMA_VERSION:
            raise ValueError(
                f"schema_version is {content.get('schema_version')}, expected {SCHEMA_VERSION}: compare the runs again"
            )
        return _adapter().validate_python(dict(content))

    def _repr_html_(self) -> str:
        """Show verdict, candidates and pairs in a notebook; every name is escaped."""
        rows = "".join(
            f"<tr><td>{_safe(row.candidate)}</td><td>{_shown(row.metrics.get(self.metric))}</td><td>{row.runs}</td></tr>"
            for row in self.rows
        )
        pairs = "".join(f"<li>{_safe(pair.sentence)}</li>" for pair in self.pairs)
        return (
            f"<div><p><strong>{_safe(self.verdict)}</strong></p>"
            f"<table><thead><tr><th>candidate</th><th>{_safe(self.metric)} [{self.looks.confidence} interval]</th>"
            f"<th>runs</th></tr></thead><tbody>{rows}</tbody></table><ul>{pairs}</ul><p>{_safe(self.next_step)}</p></div>"
        )


@dataclass(frozen=True)
class Side:
    """One candidate: all its runs, and its finished rows with their outcomes on the common images."""

    name: str
    runs: tuple[Run, ...]
    aligned: Aligned


def compare(task: Task, question: Question, results: Sequence[tuple[Run, Outcomes | None]]) -> Comparison:
    """Compare the runs of a study (outcomes None for failed runs); docs/protocol.md says how.

    Raises Refused, naming the condition, when data, split, test images, labels, seeds or any undeclared setting
    differ, or when runs are missing; UsageError for an unknown metric or baseline.
    """
    name, metric = _metric(task, question)
    first, again = _first_of_each(question, results)
    sides = _sides(question, first)
    specs = {side.name: side.runs[0].spec for side in sides}
    chosen = {side.name: [((run.repeat, run.fold), run.chosen) for run in side.runs] for side in sides}
    controls = (*ledger({s.name: _conditions(s) for s in sides}), *tuned.controls(question.tuning, chosen))
    refuse_undeclared(controls)
    contest = _contest(question, metric, sides)
    unit = Unit(metric.percent)
    pairs = worded(contest, tested_pairs(contest), unit)
    words = verdict(contest, pairs, unit, metric.title)
    return Comparison(
        task=task.name,
        metric=name,
        level=contest.level,
        eps=question.eps,
        baseline=question.baseline,
        seeds=max(len(rows) for rows in contest.rows.values()),
        images=contest.images,
        groups=contest.group_count,
        rows=_rows(task, question, sides, contest),
        pairs=pairs,
        best_set=best_set(contest, pairs),
        verdict=words + stopped(question.dropped, unit),
        next_step=advice(contest, pairs, unit),
        controls=controls,
        findings=(
            *selfchecks.failures({s.name: (len(s.runs), _failed(s, question)) for s in sides}),
            *selfchecks.sizes(contest),
            *selfchecks.a_against_a(contest),
            selfchecks.swap(contest),
            selfchecks.one_split(controls),
            *_suspects(question, metric, sides, (words, pairs)),
            *tuned.findings(question.tuning, pairs, tuned.twins(question.tuning, specs), unit),
            selfchecks.repeated(again),
            selfchecks.seeds_matter({s.name: [run.facts.get("weights_hash") for run in s.runs] for s in sides}),
            *selfchecks.seed_variances(contest),
            *([Finding("race", "info", question.race)] if question.race else []),
        ),
        looks=question.looks,
        dropped=question.dropped,
        tuning=question.tuning,
    )


def _metric(task: Task, question: Question) -> tuple[str, Metric]:
    """Return the headline's name and metric."""
    name = question.metric or task.headline
    if name not in task.table:
        known = f"known: {', '.join(task.table)}"
        raise UsageError(f"unknown metric {name!r}{nearest(name, task.table)}; {known}")
    return name, task.table[name]


def _first_of_each(
    question: Question,
    results: Sequence[tuple[Run, Outcomes | None]],
) -> tuple[list[tuple[Run, Outcomes | None]], list[Repeat]]:
    """Keep the first run of each candidate, seed, repeat and fold; later ones are repetitions to check it with."""
    first: dict[tuple[str, int, int, int], tuple[Run, Outcomes | None]] = {}
    again = []
    for run, outcomes in results:
        if run.state in ("new", "running") or (run.state == "done" and outcomes is None):
            raise Refused(f"run {run.id} is not finished (state: {run.state}); run the study again, it resumes")
        place = (run.candidate, run.seed, run.repeat, run.fold)
        if place in first:
            original, known = first[place]
            hashes = (original.facts.get("weights_hash"), run.facts.get("weights_hash"))
            again.append(Repeat(f"{run.candidate}, {_where(run, question)}", known, outcomes, hashes))
        else:
            first[place] = (run, outcomes)
    return list(first.values()), again


def _sides(question: Question, results: Sequence[tuple[Run, Outcomes | None]]) -> list[Side]:
    """Group the runs by candidate, check that the design is complete, and align the outcomes."""
    names = list(dict.fromkeys(run.candidate for run, _ in results))
    if not names:
        raise Refused("no runs were given; run the study first")
    if question.baseline is not None and question.baseline not in names:
        raise UsageError(f"the baseline {question.baseline!r} is no candidate{nearest(question.baseline, names)}")
    runs = {name: tuple(run for run, _ in results if run.candidate == name) for name in names}
    _refuse_incomplete(question, runs)
    crossed = question.folds > 1
    cells = {
        name: {
            (run.repeat, run.fold) if crossed else (run.seed, 0): outcomes
            for run, outcomes in results
            if run.candidate == name and run.state == "done" and outcomes is not None
        }
        for name in names
    }
    aligned = align(cells, question.folds)
    if not any(found.rows for found in aligned.values()):
        failed = next(run for run, _ in results if run.state == "failed")
        whole = "no repeat has all its folds" if crossed else "no run finished"
        raise Refused(f"{whole}, so there is nothing to compare; {failed.id} failed: {failed.error}")
    return [Side(name, runs[name], aligned[name]) for name in names]


def _refuse_incomplete(question: Question, runs: Mapping[str, Sequence[Run]]) -> None:
    """Refuse when candidates have other seeds, or when a cross-validation lacks folds (failed runs count as there)."""
    crossed = question.folds > 1
    places = {n: {(r.repeat, r.fold) if crossed else (r.seed, 0) for r in found} for n, found in runs.items()}
    if crossed:
        for name in runs:
            missing = {(r, f) for r in range(question.repeats) for f in range(question.folds)} - places[name]
            if missing or len(runs[name]) != len(places[name]):
                what = (
                    f"{plural(len(missing), 'repeat x fold')} missing"
                    if missing
                    else "some fold was run with two seeds"
                )
                raise Refused(f"{printable(name)}: {what}; run the study again, it resumes")
        return
    first = next(iter(places))
    for name in places:
        if places[name] != places[first]:
            seeds = [", ".join(str(seed) for seed, _ in sorted(places[n])) for n in (first, name)]
            raise Refused(
                f"different seeds: {printable(first)} has {seeds[0]}, {printable(name)} has {seeds[1]}; "
                "run the study again, it trains what is missing"
            )


def _conditions(side: Side) -> Conditions:
    """Return what the ledger compares."""
    settings: dict[Hashable, Mapping[str, Any]] = {(r.seed, r.repeat, r.fold): r.settings for r in side.runs}
    done = [run.facts for run in side.runs if run.state == "done"]
    return Conditions(settings, [run.spec for run in side.runs], summarised(done))


def _contest(question: Question, metric: Metric, sides: Sequence[Side], keep: Sequence[int] | None = None) -> Contest:
    """Make the score tables of all candidates with finished rows, on all images or the positions `keep`."""
    finished = {side.name: side.aligned for side in sides if side.aligned.rows}
    outcomes = {n: [o if keep is None else o.take(keep) for o in a.outcomes] for n, a in finished.items()}
    groups = _groups(question, next(iter(outcomes.values()))[0].ids)
    count = int(groups.max()) + 1
    if count < 2:
        raise Refused("the test set has a single image or group, from which nothing can be inferred; test on more")
    made = {n: headline_table(metric, rows, groups, count == len(groups)) for n, rows in outcomes.items()}
    for name, (table, _) in made.items():
        if not np.isfinite(table).all():
            raise Refused(
                f"{printable(name)}: {metric.title} is undefined on some of the test images, so it cannot decide the "
                "comparison; choose another metric"
            )
    units = next(iter(made.values()))[1]
    eps = question.eps / 100 if metric.percent else question.eps
    tables = {name: table for name, (table, _) in made.items()}
    rows = {name: aligned.rows for name, aligned in finished.items()}
    absent = tuple(side.name for side in sides if side.name not in finished)
    return Contest(tables, rows, units, count, question.folds, eps, question.baseline, absent, question.looks)


def _groups(question: Question, ids: Sequence[str]) -> Codes:
    """Return the group of each image; an image without one is its own."""
    known = question.groups or {}
    return group_codes([f"group {known[id]}" if id in known else f"image {id}" for id in ids], len(ids))


def _suspects(
    question: Question, metric: Metric, sides: Sequence[Side], found: tuple[str, Sequence[Pair]]
) -> list[Finding]:
    """Give the verdict without each list of suspect images."""
    ids = next(side.aligned.outcomes[0].ids for side in sides if side.aligned.rows)
    findings = []
    for reason, suspects in (question.suspects or {}).items():
        doubtful = sorted(set(suspects) & set(ids))
        keep = [place for place, id in enumerate(ids) if id not in set(doubtful)]
        verdicts, pairs = None, found[1]
        if doubtful and len(keep) > 1 and len(set(_groups(question, [ids[k] for k in keep]))) > 1:
            contest = _contest(question, metric, sides, keep)
            pairs = worded(contest, tested_pairs(contest), Unit(metric.percent))
            if contest.large_enough:
                verdicts = (found[0], verdict(contest, pairs, Unit(metric.percent), metric.title))
        findings.append(selfchecks.without(reason, doubtful, verdicts, (found[1], pairs)))
    return findings


def _failed(side: Side, question: Question) -> tuple[str, ...]:
    """Return what went wrong, run by run."""
    failed = (run for run in side.runs if run.state == "failed")
    return tuple(f"{_where(run, question)}: {run.error or 'failed'}" for run in failed)


def _where(run: Run, question: Question) -> str:
    """Name a run's place in the design."""
    return f"repeat {run.repeat}, fold {run.fold}" if question.folds > 1 else f"seed {run.seed}"


def _rows(task: Task, question: Question, sides: Sequence[Side], contest: Contest) -> tuple[Row, ...]:
    """Return a row per candidate: the best-looking first, those without a finished row last."""
    by_name = {side.name: side for side in sides}
    order = [*contest.names, *(side.name for side in sides if side.name not in contest.tables)]
    rows = []
    for side in (by_name[name] for name in order):
        metrics = dict.fromkeys(task.table, Estimate(None))
        spread = None
        if side.name in contest.tables:
            groups = _groups(question, side.aligned.outcomes[0].ids)
            metrics = metric_estimates(task.table, side.aligned.outcomes, groups, question.folds, question.looks.alpha)
            means = contest.tables[side.name].mean(axis=1)
            spread = float(means.std(ddof=1)) if len(means) > 1 else None
        done = tuple(run for run in side.runs if run.state == "done")
        rows.append(
            Row(side.name, len(done), metrics, spread, summarised([r.facts for r in done]), _failed(side, question))
        )
    return tuple(rows)


@cache
def _adapter() -> TypeAdapter[Comparison]:
    """Return what turns a comparison into JSON values and back."""
    return TypeAdapter(Comparison)


def _safe(text: str) -> str:
    """Escape a name for HTML."""
    return escape(printable(text))


def _shown(estimate: Estimate | None) -> str:
    """Write an estimate for the notebook."""
    if estimate is None or estimate.value is None:
        return "–"
    ends = "" if estimate.low is None or estimate.high is None else f" [{estimate.low:.4g}, {estimate.high:.4g}]"
    return f"{estimate.value:.4g}{ends}"
