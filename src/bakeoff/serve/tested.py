"""The test images of a study: their truth, and how the runs of every candidate do on each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bakeoff.errors import DataError
from bakeoff.report import objects, semantic
from bakeoff.report.material import Candidate, Material
from bakeoff.report.overlays import Showing, gather, once
from bakeoff.report.pictures import majority
from bakeoff.store import Run
from bakeoff.tasks.matching import NOT_JUDGED
from bakeoff.tasks.task import Outcomes

Floats = NDArray[np.float64]
Runs = Sequence[tuple[Run, Outcomes]]
Measure = Callable[[Run, Outcomes], Floats]  # a number per image
QUARTER = 0.25  # of the images: where no answer is simply wrong, so many of the worst count as wrong


@dataclass(frozen=True)
class Judged:
    """What the runs of one candidate say of the n images, together.

    `runs` are their ids, with the images that each was tested on.
    `score` (n,) in 0..1 is how well they do: the mean probability of the true class, or the mean over runs of the
    image's own score.  `wrong` (n,): most runs name another class, or the score is in the lowest QUARTER and below 1.
    `spread` (n,) is how much the runs differ: the share that names another class than most, or the widest difference of
    their scores; `wavers` (n,) where that is worth a look.  `confidence` (n,) is NaN where it is not known.  `said`
    (n,) is the class that most runs name; None for tasks without one answer.
    """

    candidate: Candidate
    runs: Mapping[str, frozenset[str]]
    score: Floats
    wrong: NDArray[np.bool_]
    spread: Floats
    wavers: NDArray[np.bool_]
    confidence: Floats
    said: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Tested:
    """The n test images that all candidates were judged on, by the order of their ids.

    `truth` (n, classes) says which classes an image has.  `measure` says what a score is and `sure` what a confidence
    is.  `showings` are the kept predictions of label maps and objects, by candidate; () in classification.
    """

    classes: tuple[str, ...]
    ids: tuple[str, ...]
    truth: NDArray[np.bool_]
    judged: tuple[Judged, ...]
    measure: str
    sure: str
    showings: tuple[Showing, ...] = ()

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.ids)

    @property
    def dense(self) -> bool:
        """Whether answers are label maps or objects, not one class."""
        return bool(self.showings)


def read_tested(material: Material) -> Tested:
    """Read the outcomes of all finished runs.  Raises DataError where there is none, or one is damaged."""
    tested = [(candidate, runs) for candidate in material.candidates if (runs := list(material.tested(candidate)))]
    if not tested:
        raise DataError(f"{material.folder.path}: no run of this study has finished; run it again")
    shared = set.intersection(*({id for _, outcomes in runs for id in outcomes.ids} for _, runs in tested))
    ids = tuple(sorted(shared))
    if material.comparison.task == "classification":
        return _labelled(tested, ids)
    return _semantic(tested, ids) if material.comparison.task == "semantic" else _objects(material, ids)


def _labelled(tested: Sequence[tuple[Candidate, Runs]], ids: tuple[str, ...]) -> Tested:
    """Gather the votes of the runs."""
    judged = []
    for candidate, runs in tested:
        votes = majority([outcomes for _, outcomes in runs]).take(ids)
        others = _by_image(runs, ids, lambda _, o: o.columns["scores"].argmax(axis=1).astype(np.float64))
        spread = np.array([float(np.mean(labels != said)) for labels, said in zip(others, votes.label, strict=True)])
        wrong = votes.label != votes.truth
        judged.append(
            Judged(candidate, _tested_by(runs), votes.own, wrong, spread, spread > 0, votes.probability, votes.label)
        )
    classes = tested[0][1][0][1].classes
    truth = np.eye(len(classes), dtype=np.bool_)[votes.truth]
    sure = "the mean probability of the class that most of its runs name"
    return Tested(classes, ids, truth, tuple(judged), "mean probability of the true class", sure)


def _semantic(tested: Sequence[tuple[Candidate, Runs]], ids: tuple[str, ...]) -> Tested:
    """Gather the mean IoU of label maps."""

    def chance(_: Run, outcomes: Outcomes) -> Floats:
        columns = outcomes.columns
        if "surprise" not in columns:
            return np.full(len(outcomes), np.nan)
        found: Floats = np.exp(-columns["surprise"] / np.maximum(columns["valid"], 1))
        return found

    judged = [_scored(c, runs, ids, (lambda _, o: semantic.image_scores(o), chance)) for c, runs in tested]
    showings = tuple(gather(candidate, runs, semantic.image_scores, {}) for candidate, runs in tested)
    first = once([outcomes for _, outcomes in tested[0][1]])
    truth = (first.columns["tp"] + first.columns["fn"])[[first.ids.index(id) for id in ids]] > 0
    sure = "the geometric mean, over the pixels, of the probability of the true class (runs keep no other)"
    return Tested(first.classes, ids, truth, tuple(judged), semantic.MEASURE, sure, showings)


def _objects(material: Material, ids: tuple[str, ...]) -> Tested:
    """Gather the F1 of objects, each run at the score that makes its own F1 best."""
    evidence = objects.gathered(material)
    judged, showings = [], tuple(map(objects.showing, evidence))
    for entry, showing in zip(evidence, showings, strict=True):
        least = showing.least

        def f1(run: Run, outcomes: Outcomes, least: dict[str, float] = dict(least)) -> Floats:  # noqa: B006
            return objects.image_f1(outcomes, least[run.id])

        def mean_score(run: Run, outcomes: Outcomes, least: dict[str, float] = dict(least)) -> Floats:  # noqa: B006
            columns = outcomes.columns
            taken = (columns["scores"] >= least[run.id]) & (columns["kinds"] != NOT_JUDGED)
            total, number = np.where(taken, columns["scores"], 0).sum(axis=1), taken.sum(axis=1)
            found: Floats = np.where(number > 0, total / np.maximum(number, 1), np.nan)
            return found

        judged.append(_scored(entry.candidate, entry.tested, ids, (f1, mean_score)))
    first = once(evidence[0].runs)
    truth = first.columns["truths"][[first.ids.index(id) for id in ids], :, 0] > 0
    sure = "the mean score of the objects it finds, of those with at least the score that makes its F1 best"
    return Tested(first.classes, ids, truth, tuple(judged), objects.MEASURE, sure, showings)


def _scored(candidate: Candidate, runs: Runs, ids: Sequence[str], measures: tuple[Measure, Measure]) -> Judged:
    """Judge by a score and a confidence per image and run."""
    values = _by_image(runs, ids, measures[0])
    score, spread = (np.array([float(how(found)) for found in values]) for how in (np.mean, np.ptp))
    sure = np.array([float(np.mean(found)) for found in _by_image(runs, ids, measures[1])])
    wrong = (score <= np.quantile(score, QUARTER)) & (score < 1)
    wavers = (spread >= np.quantile(spread, 1 - QUARTER)) & (spread > 0)
    return Judged(candidate, _tested_by(runs), score, wrong, spread, wavers, sure)


def _by_image(runs: Runs, ids: Sequence[str], measure: Measure) -> list[Floats]:
    """Return the numbers of every image, one of each run that has it."""
    found: dict[str, list[float]] = {}
    for run, outcomes in runs:
        for id, value in zip(outcomes.ids, measure(run, outcomes).tolist(), strict=True):
            found.setdefault(id, []).append(value)
    return [np.array(found[id]) for id in ids]


def _tested_by(runs: Runs) -> dict[str, frozenset[str]]:
    """Return which images each run was tested on."""
    return {run.id: frozenset(outcomes.ids) for run, outcomes in runs}
