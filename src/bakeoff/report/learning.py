"""Learning curves: training loss and validation metric of every run, from the histories in the study folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bakeoff.findings import lowered, plural
from bakeoff.report.charts import Axes, Figure, Line, Point, curves
from bakeoff.report.material import Candidate, Material
from bakeoff.report.sections import Section, key
from bakeoff.report.wording import known, number, scaled
from bakeoff.store import Run

CROWD = 5  # candidates: above, single runs are only drawn in each candidate's own charts
SMALL = (400.0, 220.0)  # size of the charts that show one candidate


@dataclass(frozen=True)
class Course:
    """One run's curves: (epoch, value) with epochs counted from 1, values in the unit shown; and its stage starts."""

    candidate: Candidate
    run: Run
    train: tuple[Point, ...]
    val: tuple[Point, ...]
    quality: tuple[Point, ...]
    stages: tuple[float, ...]


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
    content = {"together": together, "alone": alone, "open": len(alone) <= 3}
    return Section("learning", "Learning curves", "learning.html.j2", content)


def read(material: Material, candidate: Candidate, run: Run) -> Course:
    """Read a run's history; values that are missing or not finite leave gaps."""
    facts = material.folder.run(run.id).history()
    epochs = [fact for fact in facts if fact.get("kind") == "epoch" and known(fact.get("epoch")) is not None]
    quality = [
        (fact["epoch"] + 1.0, scaled((fact.get("val") or {}).get(material.comparison.metric), material.metric))
        for fact in epochs
    ]
    starts = {fact["epoch"] + 0.5 for fact in facts if fact.get("kind") == "stage" and known(fact.get("epoch"))}
    finite = tuple((epoch, value) for epoch, value in quality if value is not None)
    return Course(
        candidate, run, _series(epochs, "train_loss"), _series(epochs, "val_loss"), finite, tuple(sorted(starts))
    )


def _series(epochs: Sequence[Mapping[str, Any]], name: str) -> tuple[Point, ...]:
    """Return the finite values of one fact over the epochs."""
    found = ((fact["epoch"] + 1.0, known(fact.get(name))) for fact in epochs)
    return tuple((epoch, value) for epoch, value in found if value is not None)


def _lines(courses: Sequence[Course], name: str, style: str = "thin") -> list[Line]:
    """Return one line per run for one of the curves."""
    found = ((course, getattr(course, name)) for course in courses)
    return [Line(c.candidate.colour, points, style, c.run.state == "failed") for c, points in found if points]


def _means(courses: Sequence[Course], name: str) -> list[Line]:
    """Return one thick line per candidate: the mean over its runs at the epochs that all of them reached."""
    lines = []
    for candidate in dict.fromkeys(course.candidate for course in courses):
        mine = [dict(getattr(c, name)) for c in courses if c.candidate is candidate and c.run.state == "done"]
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
    words = _words(mine, stages)
    titles = _titles(material)
    loss = Axes("epoch", titles[0], epochs, losses)
    quality = Axes("epoch", titles[1], epochs, [p[1] for c in everyone for p in c.quality], _log(material))
    drawings = (
        (_lines(mine, "train", "thin" if len(mine) > 1 else "thick") + _lines(mine, "val", "dashed"), loss, "Loss"),
        (_lines(mine, "quality") + _means(mine, "quality"), quality, "Validation"),
    )
    name = mine[0].candidate.name
    return [
        Figure(title, curves(lines, axes, stages, f"{title} of {name} by epoch. {words}", SMALL), words)
        for lines, axes, title in drawings
        if lines
    ]


def _words(mine: Sequence[Course], stages: Sequence[float]) -> str:
    """Say how many runs are shown, where stages begin and which runs failed."""
    failed = sum(course.run.state == "failed" for course in mine)
    words = plural(len(mine), "run")
    if stages:
        words += f"; a new stage begins after epoch {', '.join(number(start - 0.5, 0) for start in stages)}"
    if failed:
        words += f"; {plural(failed, 'run')} failed where the line ends in a cross"
    return words + "."
