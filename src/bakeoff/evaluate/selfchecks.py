"""docs/protocol.md section 8: the checks that a comparison makes of itself; a passed one is a finding too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bakeoff.evaluate.ledger import Control
from bakeoff.evaluate.pairs import LEAST_GROUPS, LEAST_IMAGES, Contest, Pair
from bakeoff.evaluate.statistics import Result, crossed_t
from bakeoff.evaluate.variance import Codes, Scores, SeedVariance, seed_variance
from bakeoff.findings import Finding, Severity, listed, printable

if TYPE_CHECKING:  # importing tasks costs the import of torch, which nothing here needs
    from bakeoff.tasks.task import Outcomes

AA_LEVEL, AA_RUNS = 0.01, 4


@dataclass(frozen=True)
class Repeat:
    """One run made twice: its name, both outcomes (None: failed) and both weight hashes."""

    name: str
    first: Outcomes | None
    second: Outcomes | None
    hashes: tuple[str | None, str | None]


def a_against_a(contest: Contest) -> list[Finding]:
    """Test each candidate's rows in two halves: they must not differ at 1 %."""
    able = [name for name in contest.names if len(contest.tables[name]) >= AA_RUNS]
    if not able or contest.group_count < 2:
        return [_absent("aa", "A/A", f"no candidate has {AA_RUNS} finished runs, two for each half")]
    p = {name: halves(contest.tables[name], contest.groups).p for name in able}
    failed = [name for name in able if p[name] < AA_LEVEL]
    if failed:
        names = ", ".join(f"{printable(name)} (p = {p[name]:.2g})" for name in failed)
        sentence = f"A/A failed: two halves of the runs of {names} differ at 1 %, though they are one recipe."
        return [Finding("aa", "warning", f"{sentence} Look for runs that collapsed.")]
    lowest = f"smallest p {min(p.values()):.2g}"
    return [
        Finding("aa", "info", f"A/A passed: no candidate's runs in two halves differ at 1 % ({lowest} of {len(able)}).")
    ]


def halves(table: Scores, groups: Codes) -> Result:
    """Test every second row of a table (4 rows or more) against the others.

    The seed variance is pooled within the halves, since both are one recipe, and the image noise in it is not taken
    off: with so few degrees of freedom the cut at 0 would raise the false alarms at the 1 % level to 4 % in simulation
    (3 rows: 9 %); so they stay at 2.5 % or less.
    """
    both = (table[::2], table[1::2])
    parts = [seed_variance(half, groups) for half in both]
    df = sum(part.df for part in parts)
    total = sum(part.total * part.df for part in parts) / df
    return crossed_t(*both, groups=groups, pooled=SeedVariance(total, total, df))


def swap(contest: Contest) -> Finding:
    """Check that A - B is -(B - A), in value and interval."""
    matches = [m for m in contest.matches if min(len(contest.tables[name]) for name in m) > 1]
    if not matches or contest.group_count < 2:
        return _absent("swap", "swap", "no two candidates have 2 finished runs")
    worst = 0.0
    for a, b in matches:
        there = crossed_t(contest.tables[a], contest.tables[b], contest.groups)
        back = crossed_t(contest.tables[b], contest.tables[a], contest.groups)
        worst = max(worst, abs(there.difference + back.difference), abs(there.low + back.high), abs(there.p - back.p))
    severity: Severity = "info" if worst < 1e-9 else "error"
    word = "passed" if severity == "info" else "failed"
    return Finding("swap", severity, f"Swap {word}: A - B and -(B - A) differ by {worst:.1g} at most.")


def one_split(controls: Sequence[Control]) -> Finding:
    """Say whether all runs share one split; a difference was refused before."""
    for control in controls:
        if control.name == "split":
            short = printable(str(next(iter(control.values.values()))))[:12]
            return Finding("split", "info", f"One split in all runs (hash {short}).")
    return _absent("split", "one split", "the runs recorded no split hash")


def seeds_matter(weights: Mapping[str, Sequence[str | None]]) -> Finding:
    """Check that two runs of a candidate never end in the same weights."""
    known = {name: [h for h in hashes if h] for name, hashes in weights.items()}
    tested = {name: hashes for name, hashes in known.items() if len(hashes) > 1}
    if not tested:
        return _absent("seed-effect", "seed effect", "no candidate has two runs with a recorded weights hash")
    stuck = [printable(name) for name, hashes in tested.items() if len(set(hashes)) < len(hashes)]
    if stuck:
        sentence = f"The seed has no effect on {', '.join(stuck)}: runs with different seeds ended in equal weights."
        return Finding("seed-effect", "error", f"{sentence} Nothing drawn at random depends on the seed there.")
    return Finding("seed-effect", "info", "The seed has an effect: no two runs of a candidate ended in equal weights.")


def failures(candidates: Mapping[str, tuple[int, Sequence[str]]]) -> list[Finding]:
    """Return a warning per candidate with failed runs; candidates map to (number of runs, what went wrong)."""
    return [
        Finding(
            "failed-run",
            "warning",
            _told(name, runs, failed),
        )
        for name, (runs, failed) in candidates.items()
        if failed
    ]


def _told(name: str, runs: int, failed: Sequence[str]) -> str:
    """Say how many runs of a candidate failed, and what follows."""
    if len(failed) == runs:
        which = "The only run" if runs == 1 else f"All {runs} runs"
        return f"{which} of {printable(name)} failed ({listed(failed)}): nothing is known of it."
    return (
        f"{len(failed)} of {runs} runs of {printable(name)} failed ({listed(failed)}): the mean over the others "
        "flatters a recipe that sometimes fails."
    )


def sizes(contest: Contest) -> list[Finding]:
    """Warn when the test set is too small for any claim."""
    if contest.large_enough:
        return []
    sentence = (
        f"{contest.images} test images in {contest.group_count} groups are too few for a claim about models: "
        f"{LEAST_IMAGES} images in {LEAST_GROUPS} groups are the least."
    )
    return [Finding("small-test", "warning", sentence)]


def seed_variances(contest: Contest) -> list[Finding]:
    """Say whether the seed component was pooled."""
    spreads = {
        name: float(np.std(contest.tables[name].mean(axis=1), ddof=1))
        for name in contest.names
        if contest.claimable(name)
    }
    if len(spreads) < 3:
        return []
    if contest.pooled is not None:
        return [Finding("seed-variance", "info", f"The seed variance is pooled over {len(spreads)} candidates.")]
    least, most = min(spreads, key=lambda n: spreads[n]), max(spreads, key=lambda n: spreads[n])
    sentence = (
        f"Seeds matter unequally, most for {printable(most)} and least for {printable(least)}: each pair is tested "
        "with its own seed variance (Levene's test at 1 %, or repeats that failed)."
    )
    return [Finding("seed-variance", "info", sentence)]


def repeated(runs: Sequence[Repeat]) -> Finding:
    """Say whether a run that was made twice gave the same numbers; 0 difference is expected on a CPU."""
    if not runs:
        return _absent("repeated-run", "repeated run", "no run was made twice (repeat_one = true makes one)")
    lost = [printable(run.name) for run in runs if (run.first is None) != (run.second is None)]
    if lost:
        return Finding("repeated-run", "warning", f"{', '.join(lost)}: made twice, failed once.")
    worst = max(_difference(run) for run in runs)
    names = ", ".join(printable(run.name) for run in runs)
    same = all(run.hashes[0] == run.hashes[1] for run in runs)
    if worst == 0 and same:
        return Finding("repeated-run", "info", f"{names}: made twice, bit for bit the same outcomes and weights.")
    what = f"outcomes differ by up to {worst:.2g}" if worst else "outcomes are the same, weights are not"
    sentence = f"{names}: made twice, {what}. Expected on a GPU; on a CPU it means that something is not controlled."
    return Finding("repeated-run", "warning", sentence)


def _difference(run: Repeat) -> float:
    """Return the largest absolute difference of any number in two outcomes."""
    if run.first is None or run.second is None:
        return 0.0
    if run.first.ids != run.second.ids:
        return float("inf")
    columns = ((run.first.columns[key], run.second.columns[key]) for key in run.first.columns)
    return max(float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max(initial=0.0)) for a, b in columns)


def without(
    reason: str, ids: Sequence[str], verdicts: tuple[str, str] | None, pairs: tuple[Sequence[Pair], Sequence[Pair]]
) -> Finding:
    """Say whether the verdict changes when suspect test images are left out.

    `verdicts` and `pairs` are (with, without); verdicts None: too few images would be left.
    """
    code, what = f"without-{'-'.join(reason.split())}", f"{len(ids)} test images ({printable(reason)})"
    if not ids:
        return Finding(code, "info", f"No test image is among the {printable(reason)}.")
    if verdicts is None:
        sentence = f"The verdict without {what}: not applicable because too few test images would be left."
        return Finding(code, "warning", sentence, tuple(ids))
    kinds = [{frozenset((p.a, p.b)): _direction(p) for p in found} for found in pairs]
    if kinds[0] == kinds[1]:
        return Finding(code, "info", f"Without {what} the verdict is the same: {verdicts[1]}", tuple(ids))
    return Finding(code, "warning", f"Without {what} the verdict changes: {verdicts[1]}", tuple(ids))


def _direction(pair: Pair) -> str:
    """Return what a pair claims, whichever of the two stands first."""
    if pair.kind in ("better", "worse"):
        return f"better: {pair.a if pair.kind == 'better' else pair.b}"
    return pair.kind


def _absent(code: str, name: str, why: str) -> Finding:
    """Return a check that could not be made, as a finding."""
    return Finding(code, "info", f"{name[0].upper()}{name[1:]}: not applicable because {why}.")
