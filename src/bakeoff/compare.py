"""Runs -> Comparison: refuses what is not comparable, lists what was and what was not controlled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bakeoff.findings import Finding
from bakeoff.store import Run
from bakeoff.tasks.task import Outcomes, Task

SCHEMA_VERSION = 1
Level = Literal["L0", "L1", "L2"]


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval, in the metric's own unit (0..1 for percent metrics); NaN is stored as None."""

    value: float | None
    low: float | None = None
    high: float | None = None


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
class Pair:
    """One difference a - b on the headline metric, in its own unit."""

    a: str
    b: str
    difference: float
    low: float  # 95 % interval, simultaneous when there are more than two candidates
    high: float
    se: float
    df: float
    p: float
    p_holm: float
    chance: Estimate | None  # P(A>B) with the interval from low and high; None at L0
    kind: Literal["better", "worse", "equivalent", "undecided", "identical"]
    sentence: str
    image_share: float  # of the variance, 0..1; the seeds' share is the rest
    detectable: float | None  # the smallest gap found with 80 % power


@dataclass(frozen=True)
class Control:
    """One line of the fairness ledger: a condition and its value for every candidate.

    `status`: "equal", "declared" (differs because the candidate says so) or "undeclared" (nothing may be ranked).
    """

    name: str
    values: dict[str, Any]
    status: Literal["equal", "declared", "undeclared"]
    note: str = ""


@dataclass(frozen=True)
class Question:
    """What is asked of the runs.

    `eps` is the smallest gap that matters, in points.  `groups` maps record ids to groups (absent: each image is its
    own).  `suspects` maps a reason ("near-duplicates", "flagged labels", "leaking images") to record ids: the verdict
    is also computed without them.  `folds` 1 means a hold-out test split (L0/L1), else L2.
    """

    eps: float = 1.0
    baseline: str | None = None
    metric: str | None = None  # None: the task's headline
    folds: int = 1
    repeats: int = 1
    groups: Mapping[str, str] | None = None
    suspects: Mapping[str, Sequence[str]] | None = None


@dataclass(frozen=True)
class Comparison:
    """The answer: rows, pairs, verdict, ledger and findings.  `to_json`/`from_json` are exact inverses."""

    task: str
    metric: str
    level: Level
    eps: float
    baseline: str | None
    seeds: int  # S, or the number of repeats at L2
    images: int  # n
    groups: int  # G
    rows: tuple[Row, ...]  # best headline first
    pairs: tuple[Pair, ...]
    best_set: tuple[str, ...]  # candidates not worse than the best-looking one
    verdict: str
    next_step: str
    controls: tuple[Control, ...]
    findings: tuple[Finding, ...]  # self-checks of PROTOCOL section 8 included, passed ones as "info"
    schema_version: int = SCHEMA_VERSION


def compare(task: Task, question: Question, results: Sequence[tuple[Run, Outcomes | None]]) -> Comparison:
    """Compare the runs of a study (outcomes None for failed runs)."""
    raise NotImplementedError
