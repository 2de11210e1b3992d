"""What is logged of a run: its parameters, points from the facts of its history, and its results.

Only what the history keeps is logged, so a log made afterwards is the one that was made live.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from bakeoff.files import digest
from bakeoff.store import Run, RunFolder

Fact = Mapping[str, Any]
Key = tuple[str, int, int]  # of a fact within its run: kind, epoch, step
Parameter = bool | int | float | str
State = Literal["done", "failed", "stopped"]  # "stopped" is cut short, to be resumed

COSTS = ("parameters", "flops", "seconds", "images_per_second")  # of Run.facts


@dataclass(frozen=True)
class Point:
    """What became known at a training step: numbers by tag, and a sentence where something happened."""

    step: int
    time: float  # seconds since 1970
    scalars: Mapping[str, float]
    mark: str = ""


@dataclass(frozen=True)
class End:
    """How a run ended, after `step` steps."""

    state: State
    step: int
    time: float
    error: str = ""

    @property
    def sentence(self) -> str:
        """The end in words."""
        return f"{self.state}: {self.error}" if self.error else self.state


@dataclass(frozen=True)
class Log:
    """A run that ended, as its folder tells it; points in order, the last one at the time of the history's last line.

    `results` are the test metrics (a trial or a rung has none) and what the run cost.
    """

    run: Run
    points: tuple[Point, ...]
    results: Mapping[str, float] = field(default_factory=dict)

    @property
    def began(self) -> float:
        """When training began, as reckoned back from its end."""
        return self.points[0].time if self.points else 0.0

    @property
    def end(self) -> End:
        """How the run ended."""
        step, time = (self.points[-1].step, self.points[-1].time) if self.points else (0, 0.0)
        return End("done" if self.run.state == "done" else "failed", step, time, self.run.error or "")

    @property
    def digest(self) -> str:
        """A hash of all that is logged but the times."""
        return digest([asdict(self.run), [(p.step, dict(p.scalars), p.mark) for p in self.points], dict(self.results)])


def read_log(folder: RunFolder) -> Log | None:
    """Return the log of a run that ended; None of one that did not."""
    run = folder.read()
    if run is None or run.state not in ("done", "failed"):
        return None
    history = folder.history()
    last = folder.history_file.stat().st_mtime if history else 0.0
    tested = run.facts.get("metrics", {}) if run.purpose in ("contest", "curve") else {}
    results = {
        **_tagged("test", tested),
        **_tagged("cost", {name: run.facts.get(name) for name in COSTS}),
    }
    return Log(run, tuple(points(history, last)), results)


def points(history: Sequence[Fact], last: float) -> Iterator[Point]:
    """Yield the points of a history whose last fact came at the time `last`; the others are reckoned back from it."""
    now = last - seconds(history)
    for fact in history:
        now += fact.get("seconds", 0.0)
        if (found := point(fact, now)) is not None:
            yield found


def seconds(history: Sequence[Fact]) -> float:
    """Return how long the epochs of a history took."""
    return math.fsum(fact.get("seconds", 0.0) for fact in history)


def point(fact: Fact, time: float) -> Point | None:
    """Return what is logged of a fact; None of those that no history keeps."""
    match fact["kind"]:
        case "epoch":
            scalars = {
                "epoch": fact["epoch"] + 1,
                **_tagged("train", {"loss": fact["train_loss"], "rate": fact["rate"]}),
                **_tagged("train", {"images_per_second": fact["images_per_second"]}),
                **_tagged("val", {"loss": fact["val_loss"], **fact["val"]}),
            }
            return Point(fact["step"], time, scalars)
        case "best":
            return Point(fact["step"], time, _tagged("val", {"best": fact["value"]}))
        case "diagnosis":
            return Point(fact["step"], time, _seen_inside(fact))
        case "stage" | "gap" | "stopped":
            return Point(fact["step"], time, {}, _mark(fact))
    return None


def key(fact: Fact) -> Key:
    """Return what tells a fact from all others of its run."""
    return fact["kind"], fact["epoch"], fact["step"]


def _mark(fact: Fact) -> str:
    """Say in a sentence what happened."""
    match fact["kind"]:
        case "stage":
            return f"stage {fact['stage'] + 1} begins: trains {fact['layers']} at the rate {fact['rate']:g}"
        case "gap":
            opened = f"the gap between training and validation opened ({fact['gap']:.2f})"
            return f"{opened}; goes on from the weights after epoch {fact['taken'] + 1}"
    return f"stopped early: no better for {fact['patience']} epochs"


def _seen_inside(fact: Fact) -> dict[str, float]:
    """Return what a step looked like from inside, by layer group."""
    pairs = zip(fact["update"], fact["weight"], strict=True)
    series = {
        "gradient": fact["gradient"],
        "update_ratio": [update / weight if update is not None and weight else None for update, weight in pairs],
        "dead": fact["dead"],
    }
    return {
        tag: value
        for name, values in series.items()
        for tag, value in _tagged(name, dict(zip(fact["groups"], values, strict=True))).items()
    }


def _tagged(prefix: str, values: Mapping[str, float | None]) -> dict[str, float]:
    """Return finite values under "prefix/name"."""
    return {f"{prefix}/{name}": float(v) for name, v in values.items() if v is not None and math.isfinite(v)}


def parameters(run: Run) -> dict[str, Parameter]:
    """Return all that a run was given, by dotted path: its place, its candidate, the study's conditions."""
    place = {name: getattr(run, name) for name in ("candidate", "seed", "repeat", "fold", "share", "purpose")}
    spec = {name: value for name, value in run.candidate_spec.items() if name != "name"}
    return dict(_flat({**place, **spec, "settings": run.settings}))


def _flat(content: Any, path: str = "") -> Iterator[tuple[str, Parameter]]:
    """Yield the leaves of nested dictionaries and lists by dotted path; None and empty ones as words."""
    if isinstance(content, dict | list) and content:
        pairs = content.items() if isinstance(content, dict) else enumerate(content)
        for name, value in pairs:
            yield from _flat(value, f"{path}.{name}" if path else str(name))
        return
    yield path, content if isinstance(content, Parameter) else "none"
