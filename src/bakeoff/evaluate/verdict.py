"""docs/protocol.md section 6 in words: a sentence per pair, the verdict, and the cheapest next step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import get_args

from bakeoff.evaluate.pairs import LEAST_GROUPS, LEAST_IMAGES, Contest, Kind, Pair, best_set, result
from bakeoff.evaluate.planner import foreseen, next_step
from bakeoff.evaluate.statistics import equivalence
from bakeoff.findings import lowered, printable

RELIABLE = 0.75  # P(A>B) from which a better model is called reliably better
MANY_SEEDS = 20  # more seeds than this are no cheap next step
SMALL_TEST = 1000  # below, cross-validation gives many more test images


@dataclass(frozen=True)
class Unit:
    """How differences of a metric are written: percent metrics in points."""

    percent: bool

    def amount(self, value: float) -> str:
        """Write a size without sign, with its unit."""
        return f"{self.number(abs(value))} points" if self.percent else self.number(abs(value))

    def number(self, value: float) -> str:
        """Write a number, signed if negative; points get one decimal, or two below half a point."""
        if not self.percent:
            return f"{value:.3g}"
        points = 100 * value
        text = f"{points:.1f}" if abs(points) >= 0.5 or points == 0 else f"{points:.2f}"
        return text.removeprefix("-") if float(text) == 0 else text

    def interval(self, low: float, high: float) -> str:
        """Write [low, high] in the unit of number(), and say so where it is cut to what is possible."""
        ends = self.possible(low), self.possible(high)
        said = "" if ends == (low, high) else " (cut at 100 points, the most there can be)"
        return f"[{self.number(ends[0])}, {self.number(ends[1])}]{said}"

    def possible(self, difference: float) -> float:
        """Return a difference, or an end of its interval, cut to what can be: percent metrics lie in 0..1."""
        return min(1.0, max(-1.0, difference)) if self.percent else difference

    def gap(self, value: float) -> str:
        """Write eps as the user gave it."""
        if not self.percent:
            return f"{value:.3g}"
        return f"{100 * value:g} point" + ("" if round(100 * value, 9) == 1 else "s")


def worded(contest: Contest, pairs: Sequence[Pair], unit: Unit) -> tuple[Pair, ...]:
    """Return the pairs with their sentences: the claim, then P(A>B), which never stands alone."""
    return tuple(replace(pair, sentence=claim(contest, pair, unit, len(pairs)) + _chance(pair)) for pair in pairs)


def claim(contest: Contest, pair: Pair, unit: Unit, tests: int) -> str:
    """Say what may be said about a pair."""
    a, b = printable(pair.a), printable(pair.b)
    if pair.kind == "identical":
        return f"{a} and {b} are identical: all their runs score each of the {contest.images} test images alike"
    if not contest.claimable(pair.a, pair.b):
        return _no_claim(contest, pair, unit)
    if pair.kind in ("better", "worse"):
        return _better(contest, pair, unit, tests)
    if pair.kind == "equivalent":
        tested = result(contest, pair.a, pair.b, contest.looks.alpha / tests)
        inner = equivalence(tested, contest.eps, tested.level)
        share = f"{100 * (1 - 2 * tested.level):.3g} % interval"
        return (
            f"{a} and {b} are equivalent within {unit.gap(contest.eps)}: {unit.amount(pair.difference)} apart, "
            f"{share} {unit.interval(inner.low, inner.high)}"
        )
    return (
        f"no evidence of a difference between {a} and {b}: {_ahead(pair, unit)}; this study would have found a gap of "
        f"{unit.amount(pair.detectable or 0.0)} or more with 80 % power"
    )


def verdict(contest: Contest, pairs: Sequence[Pair], unit: Unit, title: str) -> str:
    """Return the verdict in a sentence, with claim level, S, n and G."""
    words = _headline(contest, pairs, unit, title)
    if contest.absent and pairs:
        words += f"; {_without_runs(contest)}"
    return f"{_capital(words)}. {scope(contest)}"


def scope(contest: Contest) -> str:
    """Say what kind of claim it is: level, S (or repeats), n and G."""
    counts = sorted({len(rows) for rows in contest.rows.values()})
    rows = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    unit = ("repeat" if contest.folds > 1 else "seed") + ("" if counts[-1] == 1 else "s")
    what = {
        "L0": "these trained files only, may not survive retraining",
        "L1": "these recipes on this training set",
        "L2": "these recipes on data sets like this one",
    }[contest.level]
    return (
        f"{contest.level} ({what}): S = {rows} {unit}, n = {contest.images} images, G = {contest.group_count} groups"
        + (f"; {contest.looks.where}, {contest.looks.confidence} intervals." if contest.looks.where else ".")
    )


def _headline(contest: Contest, pairs: Sequence[Pair], unit: Unit, title: str) -> str:
    """Return the verdict without its scope."""
    if not pairs:
        return _alone(contest, unit, title)
    if len(pairs) == 1 or contest.baseline is not None:
        return _against(contest, pairs, unit)
    if contest.level == "L0":
        return f"no claim about {len(contest.names)} candidates: {claim(contest, pairs[0], unit, len(pairs))}"
    return _field(contest, pairs, unit)


def _against(contest: Contest, pairs: Sequence[Pair], unit: Unit) -> str:
    """Say how one or two candidates compare with another; of more with a baseline the best, and count the rest."""
    if len(pairs) <= 2:
        return "; ".join(claim(contest, pair, unit, len(pairs)) for pair in pairs)
    first = next((pair for pair in pairs if pair.kind == "better"), pairs[0])
    counts = Counter(pair.kind for pair in pairs if pair is not first)
    told = [f"{counts[kind]} {'is' if counts[kind] == 1 else 'are'} {kind}" for kind in get_args(Kind) if counts[kind]]
    others = f"of the {len(pairs) - 1} others against {printable(contest.baseline or '')}"
    return f"{claim(contest, first, unit, len(pairs))}; {others}, {_listed(told)} (each below)"


def _alone(contest: Contest, unit: Unit, title: str) -> str:
    """Say how the only candidate does."""
    name = contest.names[0]
    value = abs(float(contest.tables[name].mean()))
    shown = f"{100 * value:.1f} %" if unit.percent else f"{value:.3g}"
    why = _without_runs(contest) if contest.absent else "one candidate"
    return f"{why}, so there is nothing to compare: {printable(name)} reaches {lowered(title)} {shown}"


def _without_runs(contest: Contest) -> str:
    """Name the candidates of which nothing is known, because their runs failed."""
    lacks = "repeat with all its folds" if contest.folds > 1 else "finished run"
    return f"{_listed(contest.absent)} {'has' if len(contest.absent) == 1 else 'have'} no {lacks}"


def _field(contest: Contest, pairs: Sequence[Pair], unit: Unit) -> str:
    """Say who leads a field of 3 or more, who is shown to be worse, and about whom nothing is claimed."""
    tested = [pair for pair in pairs if contest.claimable(pair.a, pair.b)]
    able = [name for name in contest.names if any(name in (pair.a, pair.b) for pair in tested)]
    worse = {pair.b for pair in tested if pair.kind == "better" and pair.a == able[0]}
    leading, behind = [n for n in able if n not in worse], [n for n in able if n in worse]
    mute = [name for name in contest.names if name not in able]
    if len(leading) == 1:
        closest = next(pair for pair in tested if {pair.a, pair.b} == {able[0], able[1]})
        words = claim(contest, closest, unit, len(pairs))
        if len(behind) > 1:
            words = f"{printable(able[0])} is better than each of the other {len(behind)}; {words}"
    else:
        words = _together(contest, [p for p in tested if p.a in leading and p.b in leading], leading, unit)
        words += f"; {printable(able[0])} is better than {_listed(behind)}" if behind else ""
    return words + (f"; nothing is claimed about {_listed(mute)}, too few runs finished" if mute else "")


def _together(contest: Contest, inside: Sequence[Pair], leading: Sequence[str], unit: Unit) -> str:
    """Say what is known of the leaders among themselves."""
    if all(pair.kind == "identical" for pair in inside):
        return f"{_listed(leading)} are identical: their runs score each of the {contest.images} test images alike"
    if all(pair.kind in ("equivalent", "identical") for pair in inside):
        return f"{_listed(leading)} are equivalent within {unit.gap(contest.eps)}"
    most = unit.amount(max(pair.detectable or 0.0 for pair in inside))
    found = f"(gaps of {most} or more would have been found with 80 % power)"
    return f"no evidence that {printable(leading[0])} is better than {_listed(leading[1:])} {found}"


def _better(contest: Contest, pair: Pair, unit: Unit, tests: int) -> str:
    """Say that one is better, by how much, and how that compares to eps."""
    turned = pair.difference < 0
    names = (pair.b, pair.a) if turned else (pair.a, pair.b)
    low, high = (-pair.high, -pair.low) if turned else (pair.low, pair.high)
    words = f"{printable(names[0])} is better than {printable(names[1])} by {unit.amount(pair.difference)} "
    words += unit.interval(low, high)
    if low <= 0:
        return f"{words} (Holm p = {pair.p_holm:.2g}; the simultaneous interval leaves open by how much)"
    if low > contest.eps:
        return f"{words}, by more than {unit.gap(contest.eps)}"
    tested = result(contest, pair.a, pair.b, contest.looks.alpha / tests)
    return (
        f"{words}, but by less than {unit.gap(contest.eps)}"
        if equivalence(tested, contest.eps, tested.level).holds
        else words
    )


def _no_claim(contest: Contest, pair: Pair, unit: Unit) -> str:
    """Say what these files show, and why nothing is claimed about the models."""
    if not contest.large_enough:
        why = f"{LEAST_IMAGES} test images in {LEAST_GROUPS} groups, here are {contest.images} in {contest.group_count}"
    else:
        what = "repeats" if contest.folds > 1 else "seeds"
        why = f"{contest.least} {what} of each, here are {len(contest.rows[pair.a])} and {len(contest.rows[pair.b])}"
    return f"on these files {_ahead(pair, unit)}, which may not survive retraining: a claim needs {why}"


def _ahead(pair: Pair, unit: Unit) -> str:
    """Write who is ahead by how much, with the interval of a - b."""
    turned = pair.difference < 0
    leader, other = (pair.b, pair.a) if turned else (pair.a, pair.b)
    low, high = (-pair.high, -pair.low) if turned else (pair.low, pair.high)
    if pair.difference == 0:
        return f"{printable(leader)} and {printable(other)} are level {unit.interval(low, high)}"
    gap = f"{unit.amount(pair.difference)} {unit.interval(low, high)}"
    return f"{printable(leader)} is ahead of {printable(other)} by {gap}"


def _chance(pair: Pair) -> str:
    """Say how often a fresh run of the one beats a fresh run of the other."""
    chance = pair.chance
    if chance is None or chance.value is None or pair.kind == "identical":
        return ""
    turned = pair.difference < 0
    value, low, high = (v if not turned else 1 - v for v in (chance.value, chance.low or 0.0, chance.high or 0.0))
    low, high = min(low, high), max(low, high)
    winner, loser = (pair.b, pair.a) if turned else (pair.a, pair.b)
    sure = pair.kind in ("better", "worse") and value >= RELIABLE and (pair.low > 0 or pair.high < 0)
    words = f"; a fresh run of {printable(winner)} beats one of {printable(loser)} with chance {_probability(value)}"
    return f"{words} [{_probability(low)}, {_probability(high)}]" + (": reliably better" if sure else "")


def _probability(value: float) -> str:
    """Write a probability, never as certain."""
    return "> 0.99" if value > 0.99 else "< 0.01" if value < 0.01 else f"{value:.2f}"


def advice(contest: Contest, pairs: Sequence[Pair], unit: Unit) -> str:
    """Return the cheapest next step; candidates that failed altogether are to be mended."""
    if not contest.absent:
        return _step(contest, pairs, unit)
    mend = f"Mend what made the runs of {_listed(contest.absent)} fail, and run the study again"
    if not pairs or contest.baseline in contest.absent:
        return f"{mend}: it then has something to compare."
    return f"{_step(contest, pairs, unit)} {mend} to compare {_listed(contest.absent)} too."


def _step(contest: Contest, pairs: Sequence[Pair], unit: Unit) -> str:
    """Return the cheapest next step for the candidates that can be compared."""
    if not pairs:
        return "Add a second candidate to compare with."
    if not contest.large_enough:
        return (
            f"Test on more images: a claim needs {LEAST_IMAGES} in {LEAST_GROUPS} groups; under cross-validation "
            "(--folds 5 --repeats 3) every image is a test image."
        )
    short = [name for name in contest.names if len(contest.rows[name]) < contest.least]
    if short:
        what = "repeats (--repeats)" if contest.folds > 1 else "seeds (--seeds)"
        return f"Finish at least {contest.least} {what} of {_listed(short)}; before that nothing can be claimed."
    leading = best_set(contest, pairs)
    open_pairs = [p for p in pairs if p.kind == "undecided" and (contest.baseline or {p.a, p.b} <= set(leading))]
    if open_pairs:
        return _settle(contest, open_pairs[0], unit, len(pairs))
    if contest.baseline is not None:
        others = "the others were not compared with each other"
        return f"Nothing more is needed to compare with the baseline {printable(contest.baseline)}; {others}."
    if len(leading) > 1:
        return f"Nothing more is needed: {_listed(leading)} do equally well here, so take the cheapest."
    return f"Nothing more is needed: take {printable(leading[0])}."


def _settle(contest: Contest, pair: Pair, unit: Unit, tests: int) -> str:
    """Say what would settle an undecided pair: the looks to come, or else more seeds, more images, or both."""
    tested = result(contest, pair.a, pair.b, contest.looks.alpha / tests)
    if contest.looks.ahead is not None:
        tables = (contest.tables[pair.a], contest.tables[pair.b])
        return _look_again(contest, pair, unit, foreseen(*tables, tested, contest.looks.ahead))
    found = pair.detectable or 0.0
    target = contest.eps if found > contest.eps else contest.eps / 2
    step = next_step(contest.tables[pair.a], contest.tables[pair.b], tested, target)
    rows, unit_name = min(len(contest.rows[n]) for n in (pair.a, pair.b)), "repeats" if contest.folds > 1 else "seeds"
    percent = round(100 * tested.image_share)
    share = f"test images are {percent} % of the variance, {unit_name} {100 - percent} %"
    goal = f"to find a gap of {unit.gap(target)} between {printable(pair.a)} and {printable(pair.b)}"
    crossed = contest.folds == 1 and contest.images < SMALL_TEST
    images = "images" if contest.group_count == contest.images else "groups of images"
    validate = "; cross-validation (--folds 5 --repeats 3) makes every image a test image" if crossed else ""
    if step.seeds is not None and (step.seeds <= MANY_SEEDS or step.images is None):
        return f"About {max(step.seeds, rows + 1)} {unit_name} instead of {rows} {goal} ({share})."
    if step.images is not None:
        more = f"{_rounded(step.images):,} test {images} instead of {contest.group_count:,}"
        return f"About {more} {goal}{validate} ({share})."
    return f"Many more {unit_name} and test {images} together {goal}: neither alone is enough{validate} ({share})."


def _look_again(contest: Contest, pair: Pair, unit: Unit, found: float) -> str:
    """Say what the looks to come can find for a pair that is still open, and when they are futile."""
    names = f"{printable(pair.a)} and {printable(pair.b)}"
    last = f"{contest.looks.ahead} seeds, at the last look, would find a gap of {unit.amount(found)} or more between"
    if found > contest.eps:
        futile = f"you care from {unit.gap(contest.eps)} on, so stopping here for futility is allowed"
        return f"Even {last} {names}: {futile}; run the study again to go on."
    return f"Run the study again to go on: {last} {names}."


def _rounded(count: int) -> int:
    """Round up to two figures."""
    unit: int = 10 ** max(0, len(str(count)) - 2)
    return -(-count // unit) * unit


def _listed(names: Sequence[str]) -> str:
    """Return 'A, B and C'."""
    shown = [printable(name) for name in names]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _capital(text: str) -> str:
    """Begin with a capital where the sentence begins with one of our own words, not with a candidate's name."""
    ours = ("no evidence", "no claim", "on these", "one candidate")
    return text[0].upper() + text[1:] if text.startswith(ours) else text
