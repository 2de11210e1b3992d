"""Which test images a person wants to see: the filters of the image browser, in words and as a choice of rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bakeoff.errors import UsageError, nearest
from bakeoff.report.wording import number
from bakeoff.serve.tested import QUARTER, Floats, Judged, Tested

TENTH = 0.1  # of the images: so many are shown as those of low confidence
Choice = tuple[NDArray[np.bool_], Floats]  # which images, and by what they are ordered: the lowest first
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Show:
    """A filter: its title, and what it means in a task of one answer, or of label maps and objects."""

    title: str
    plain: str
    dense: str
    choose: Callable[[Tested, Sequence[Judged]], Choice]


def _everything(tested: Tested, _: Sequence[Judged]) -> Choice:
    return np.ones(len(tested), np.bool_), np.zeros(len(tested))


def _wrong(_: Tested, judged: Sequence[Judged]) -> Choice:
    return np.any([one.wrong for one in judged], axis=0), np.mean([one.score for one in judged], axis=0)


def _all_wrong(tested: Tested, _: Sequence[Judged]) -> Choice:
    return np.all([one.wrong for one in tested.judged], axis=0), np.mean([one.score for one in tested.judged], axis=0)


def _disagree(tested: Tested, judged: Sequence[Judged]) -> Choice:
    """Compare the chosen candidate with all others, or all with each other."""
    gap: Floats = np.ptp([one.score for one in tested.judged], axis=0)
    if not tested.dense:
        own = judged[0].said
        return np.any([one.said != own for one in tested.judged], axis=0), -gap
    if len(judged) == 1:
        gap = np.max([np.abs(one.score - judged[0].score) for one in tested.judged], axis=0)
    return (gap >= np.quantile(gap, 1 - QUARTER)) & (gap > 0), -gap


def _seeds(_: Tested, judged: Sequence[Judged]) -> Choice:
    return np.any([one.wavers for one in judged], axis=0), -np.max([one.spread for one in judged], axis=0)


def _unsure(_: Tested, judged: Sequence[Judged]) -> Choice:
    low = np.any([lowest(one.confidence) for one in judged], axis=0)
    return low, np.min([np.where(np.isnan(one.confidence), np.inf, one.confidence) for one in judged], axis=0)


def lowest(confidence: Floats) -> Mask:
    """Return which images are in the lowest TENTH of those whose confidence is known, and not quite sure."""
    known = confidence[~np.isnan(confidence)]
    if not len(known):
        return np.zeros(len(confidence), np.bool_)
    with np.errstate(invalid="ignore"):
        found: Mask = (confidence <= np.quantile(known, TENTH)) & (confidence < 1)
    return found


WORST = "the score is in the lowest quarter of the candidate's test images, and not perfect"
SHOWS: Mapping[str, Show] = {
    "all": Show("all images", "Every test image, by name.", "Every test image, by name.", _everything),
    "wrong": Show(
        "wrong",
        "Most runs of the candidate name another class than the truth; the worst first.",
        f"No answer is simply wrong here: {WORST}; the worst first.",
        _wrong,
    ),
    "all_wrong": Show(
        "wrong for every candidate",
        "Every candidate is wrong: look at the label, too. The worst first.",
        f"For every candidate {WORST}: look at the label, too.",
        _all_wrong,
    ),
    "disagree": Show(
        "candidates disagree",
        "Most runs of one candidate name another class than those of another; the widest gap first.",
        "The difference between the candidates' scores is in its highest quarter; the widest first.",
        _disagree,
    ),
    "seeds": Show(
        "seeds disagree",
        "Runs of the same candidate, which differ in their seed alone (or their fold), name different classes.",
        "The scores of runs of the same candidate differ most: the highest quarter; the widest difference first.",
        _seeds,
    ),
    "unsure": Show(
        "low confidence",
        "The tenth of the images of which the candidate is least sure; the least sure first.",
        "The tenth of the images of which the candidate is least sure; the least sure first.",
        _unsure,
    ),
}


def choose(tested: Tested, show: str = "all", candidate: str | None = None, truth: int | None = None) -> list[int]:
    """Return the rows of the images to show, in their order.

    `candidate` (None: any of them) is whom the filter is about, `truth` the class that an image must have.  Raises
    UsageError, naming the nearest, for a filter or a candidate that there is not.
    """
    if show not in SHOWS:
        raise UsageError(f"there is no filter {show!r}{nearest(show, SHOWS)}; there are {', '.join(SHOWS)}")
    names = [one.candidate.name for one in tested.judged]
    if candidate is not None and candidate not in names:
        raise UsageError(
            f"there is no candidate {candidate!r}{nearest(candidate, names)}; there are {', '.join(names)}"
        )
    if truth is not None and not 0 <= truth < len(tested.classes):
        raise UsageError(f"there is no class {truth}; the last one is {len(tested.classes) - 1}")
    judged = [one for one in tested.judged if candidate in (None, one.candidate.name)]
    mask, order = SHOWS[show].choose(tested, judged)
    if truth is not None:
        mask = mask & tested.truth[:, truth]
    rows = np.flatnonzero(mask)
    return [int(row) for row in rows[np.argsort(order[rows], kind="stable")]]


def words(tested: Tested, show: str) -> str:
    """Say what a filter means in this study, with its bounds where they are numbers."""
    found = SHOWS[show]
    text = found.dense if tested.dense else found.plain
    if show == "wrong" and tested.dense:
        bounds = [(one, np.quantile(one.score, QUARTER)) for one in tested.judged]
        text += f" Up to {_listed([(one, 100 * bound) for one, bound in bounds])}: {tested.measure}."
    if show == "unsure":
        known = [(one, one.confidence[~np.isnan(one.confidence)]) for one in tested.judged]
        bounds = [(one, np.quantile(values, TENTH)) for one, values in known if len(values)]
        if not bounds:
            return "Not known: the runs keep no probabilities."
        text += f" Up to {_listed([(one, 100 * bound) for one, bound in bounds])} %: {tested.sure}."
    return text


def _listed(values: Sequence[tuple[Judged, float]]) -> str:
    """Write a number for every candidate."""
    return ", ".join(f"{one.candidate.letter} {number(value)}" for one, value in values)
