"""Learning curves: training loss and validation metric of every run, from the histories in the study folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bakeoff.findings import lowered, plural
from bakeoff.report import gaps
from bakeoff.report.charts import Axes, Event, Figure, Line, Point, curves
from bakeoff.report.gaps import Opening
from bakeoff.report.material import Candidate, Material
from bakeoff.report.sections import Section, key
from bakeoff.report.wording import known, number, scaled
from bakeoff.store import Run

GAP = "How far the ratio of validation to training loss has grown over the smallest that it was; red: the tolerance."
CROWD = 5  # candidates: above, single runs are only drawn in each candidate's own charts
SMALL = (400.0, 220.0)  # size of the charts that show one candidate


@dataclass(frozen=True)
class Course:
    """One run's curves: (epoch, value) with epochs counted from 1, values in the unit shown; and its stage starts.

    `gap` holds, for every stage that waited for one, its tolerance and the gap after each epoch.
    """

    candidate: Candidate
    run: Run
    train: tuple[Point, ...]
    val: tuple[Point, ...]
    quality: tuple[Point, ...]
    stages: tuple[float, ...]
    opened: tuple[Opening, ...] = ()
    gap: tuple[tuple[float, tuple[Point, ...]], ...] = ()


def learning(material: Material) -> Section:
    """All candidates together, then each alone with its stages."""
    courses = [read(material, candidate, run) for candidate in material.candidates for run in candidate.counted]
    courses = [course for course in courses if course.train or course.quality]
    together = _together(material, courses) if len({course.candidate.place for course in courses}) > 1 else []
    alone = [
        (candidate, _alone(material, mine, courses))
        for candidate in material.candidates
        if (mine := [course for course in courses if course.candidate is candidate])
    ]
    marked = any(course.opened for course in courses)
    content = {"together": together, "alone": alone, "open": len(alone) <= 3, "marked": marked}
    return Section("learning", "Learning curves", "learning.html.j2", content)


def read(material: Material, candidate: Candidate, run: Run) -> Course:
    """Read a run's history; values that are missing or not finite leave gaps."""
    facts = material.folder.run(run.id).history()
    epochs = [fact for fact in facts if fact.get("kind") == "epoch" and known(fact.get("epoch")) is not None]
    quality = [
        (fact["epoch"] + 1.0, scaled((fact.get("val") or {}).get(material.comparison.metric), material.metric))
        for fact in epochs
    ]
    opened = gaps.openings(facts)
    starts = {fact["epoch"] + 0.5 for fact in facts if fact.get("kind") == "stage" and known(fact.get("epoch"))}
    starts -= {one.noticed + 0.5 for one in opened}
    finite = tuple((epoch, value) for epoch, value in quality if value is not None)
    losses = _series(epochs, "train_loss"), _series(epochs, "val_loss")
    waited = tuple(gaps.gap_series(facts, run.candidate_spec))
    return Course(candidate, run, *losses, finite, tuple(sorted(starts)), opened, waited)


def _series(epochs: Sequence[Mapping[str, Any]], name: str) -> tuple[Point, ...]:
    """Return the finite values of one fact over the epochs."""
    found = ((fact["epoch"] + 1.0, known(fact.get(name))) for fact in epochs)
    return tuple((epoch, value) for epoch, value in found if value is not None)


def _lines(courses: Sequence[Course], name: str, style: str = "thin") -> list[Line]:
    """Return one line per run for one of the curves; epochs that a run gave up leave it as a dotted branch."""
    lines = []
    for course in courses:
        points, colour, failed = getattr(course, name), course.candidate.colour, course.run.state == "failed"
        if path := gaps.kept(points, course.opened):
            lines.append(Line(colour, path, style, failed, gaps.rings(path, course.opened)))
        lines += [Line(colour, branch, "dotted") for branch in gaps.given_up(points, course.opened)]
    return lines


def _means(courses: Sequence[Course], name: str) -> list[Line]:
    """Return one thick line per candidate: the mean over its runs at the epochs that all of them kept."""
    lines = []
    for candidate in dict.fromkeys(course.candidate for course in courses):
        done = [c for c in courses if c.candidate is candidate and c.run.state == "done"]
        mine = [dict(gaps.kept(getattr(c, name), c.opened)) for c in done]
        shared = sorted(set.intersection(*map(set, mine))) if mine else []
        points = tuple((epoch, sum(run[epoch] for run in mine) / len(mine)) for epoch in shared)
        lines += [Line(candidate.colour, points, "thick")] if points else []
    return lines


def _titles(material: Material) -> tuple[str, str]:
    """Return the titles of the two vertical axes."""
    metric = material.metric
    unit = ", %" if metric.percent else ""
    return "loss (training solid, validation dashed)", f"validation {lowered(metric.title)}{unit}"


def _log(material: Material) -> bool | None:
    """Say how the metric's axis is scaled: a percentage is read on a linear one, however low it began."""
    return False if material.metric.percent else None


def _together(material: Material, courses: Sequence[Course]) -> list[Figure]:
    """Draw all candidates in two charts: training loss and validation metric."""
    shown = tuple(dict.fromkeys(course.candidate for course in courses))
    crowd = len(shown) > CROWD
    figures = []
    for name, title, axis in (("train", "Training loss", "loss"), ("quality", "Validation", _titles(material)[1])):
        lines = ([] if crowd else _lines(courses, name)) + _means(courses, name)
        if lines:
            caption = "Lines are means over runs." if crowd else "Thin lines are single runs, thick ones their mean."
            caption += _ends(courses) if name == "quality" else ""
            axes = Axes("epoch", axis, log=_log(material) if name == "quality" else None)
            drawing = curves(lines, axes, (), f"{title} of all candidates by epoch. {caption}")
            figures.append(Figure(title, drawing, caption, key(shown)))
    return figures


def _ends(courses: Sequence[Course]) -> str:
    """Say where every candidate's mean validation curve ends."""
    ends = []
    for candidate in dict.fromkeys(course.candidate for course in courses):
        last = [c.quality[-1][1] for c in courses if c.candidate is candidate and c.quality and c.run.state == "done"]
        if last:
            ends.append(f"{candidate.letter} {number(sum(last) / len(last))}")
    return f" Last epoch, mean over runs: {', '.join(ends)}." if ends else ""


def _alone(material: Material, mine: Sequence[Course], everyone: Sequence[Course]) -> list[Figure]:
    """Draw one candidate's loss and validation metric on the axes that all candidates share."""
    losses = [p[1] for course in everyone for name in ("train", "val") for p in getattr(course, name)]
    epochs = [p[0] for course in everyone for p in (*course.train, *course.quality)]
    stages = sorted({start for course in mine for start in course.stages})
    words, marks = _words(mine, stages), [*map(Event, stages), *gaps.events([o for c in mine for o in c.opened])]
    titles = _titles(material)
    loss = Axes("epoch", titles[0], epochs, losses)
    quality = Axes("epoch", titles[1], epochs, [p[1] for c in everyone for p in c.quality], _log(material))
    drawings = (
        (_lines(mine, "train", "thin" if len(mine) > 1 else "thick") + _lines(mine, "val", "dashed"), loss, "Loss"),
        (_lines(mine, "quality") + _means(mine, "quality"), quality, "Validation"),
        (_gap_lines(mine), Axes("epoch", "growth of validation over training loss", epochs, log=False), "Gap"),
    )
    name = mine[0].candidate.name
    return [
        Figure(title, curves(lines, axes, marks, f"{title} of {name} by epoch. {said}", SMALL), said)
        for lines, axes, title in drawings
        for said in [GAP if title == "Gap" else words]
        if lines
    ]


def _gap_lines(mine: Sequence[Course]) -> list[Line]:
    """Draw the gap of every run in the stages that waited for one, and the tolerance."""
    waited = [(course.candidate.colour, limit, points) for course in mine for limit, points in course.gap]
    limits = {limit: [p[0] for _, other, points in waited for p in points if other == limit] for _, limit, _ in waited}
    ends = [Line("", ((min(epochs), limit), (max(epochs), limit)), "limit") for limit, epochs in limits.items()]
    return [*ends, *(Line(colour, points, "thin" if len(mine) > 1 else "thick") for colour, _, points in waited)]


def _words(mine: Sequence[Course], stages: Sequence[float]) -> str:
    """Say how many runs are shown, where stages begin and which runs failed."""
    failed = sum(course.run.state == "failed" for course in mine)
    words = plural(len(mine), "run")
    if stages:
        words += f"; a new stage begins after epoch {', '.join(number(start - 0.5, 0) for start in stages)}"
    words += gaps.words([course.opened for course in mine])
    if failed:
        words += f"; {plural(failed, 'run')} failed where the line ends in a cross"
    return words + "."
