"""Simulated runs of a made-up two-class task, for the tests of compare()."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from bakeoff.compare import Comparison
from bakeoff.seeds import generator
from bakeoff.store import Run
from bakeoff.tasks.task import Metric, Outcomes, Task

Results = list[tuple[Run, Outcomes | None]]
CLASSES = ("cat", "dog")


def hits(outcomes: Outcomes) -> NDArray[np.float64]:
    return np.asarray(outcomes.columns["scores"].argmax(axis=1) == outcomes.columns["truth"], np.float64)


def error(outcomes: Outcomes) -> NDArray[np.float64]:
    own = outcomes.columns["scores"][np.arange(len(outcomes)), outcomes.columns["truth"]]
    return np.asarray(-np.log(own), np.float64)


def balanced(outcomes: Outcomes) -> float:
    truth = outcomes.columns["truth"]
    return float(np.mean([hits(outcomes)[truth == k].mean() for k in (0, 1)]))


class Faked:
    """A two-class task with a headline, a metric of the whole set, and one that is better when lower."""

    name = "classification"
    headline = "accuracy"
    table = {  # noqa: RUF012
        "accuracy": Metric("Accuracy", lambda o: float(hits(o).mean()), hits),
        "balanced": Metric("Balanced accuracy", balanced),
        "log_loss": Metric("Log-loss", lambda o: float(error(o).mean()), error, False, percent=False),
        "undefined": Metric("Undefined", lambda _: float("nan")),
    }


TASK = cast(Task, Faked())


@dataclass
class Plan:
    """Simulated runs: `skill` by candidate (logits), on `images` images, with seeds or repeats x folds."""

    skill: dict[str, float]
    images: int = 400
    seeds: int = 4
    folds: int = 1
    repeats: int = 1
    seed_sd: float = 0.1
    spec: dict[str, dict[str, Any]] = field(default_factory=dict)

    def results(self) -> Results:
        """Draw the runs."""
        found: Results = []
        for name, skill in self.skill.items():
            spec: dict[str, Any] = {"name": name, "model": {"arch": name, "weights": "none"}, "recipe": {"epochs": 3}}
            spec |= self.spec.get(name, {})
            for seed, repeat, fold in self.places():
                facts = {"parameters": 1000, "seconds": 1.5 * seed, "weights_hash": f"{name}-{seed}-{repeat}-{fold}"}
                facts |= {"pretraining": "ImageNet" if spec["model"]["weights"] == "pretrained" else "none"}
                settings = {"data": "d0", "split": "s0", "size": 32, "precision": "fp32"}
                run = Run(f"{name}-s{seed}r{repeat}f{fold}", name, seed, repeat, fold, "done", spec, settings, facts)
                found.append((run, self.outcomes(name, skill, (seed, repeat, fold))))
        return found

    def places(self) -> list[tuple[int, int, int]]:
        """Return (seed, repeat, fold) of every run."""
        if self.folds > 1:
            return [(9, repeat, fold) for repeat in range(self.repeats) for fold in range(self.folds)]
        return [(seed, 0, 0) for seed in range(1, self.seeds + 1)]

    def outcomes(self, name: str, skill: float, place: tuple[int, int, int]) -> Outcomes:
        """Draw the outcomes of one run."""
        truth = np.arange(self.images) % 2
        hard = generator(0, "hard").normal(0, 2, self.images) + generator(0, "part", name).normal(0, 1, self.images)
        draws = generator(1, name, *place)
        margin = skill + hard + draws.normal(0, self.seed_sd) + draws.normal(0, 1, self.images)
        right = 1 / (1 + np.exp(-margin))
        scores = np.stack([np.where(truth == k, right, 1 - right) for k in (0, 1)], axis=1)
        fold_of = generator(2, place[1]).permutation(self.images) % self.folds
        here = np.flatnonzero(fold_of == place[2])
        ids = tuple(f"{i:04d}.png" for i in here)
        return Outcomes(ids, CLASSES, {"truth": truth[here], "scores": scores[here]})


def changed(results: Results, where: Callable[[Run], bool], **fields: Any) -> Results:
    """Replace fields of some runs."""
    return [(replace(run, **fields) if where(run) else run, outcomes) for run, outcomes in results]


def finding(comparison: Comparison, code: str) -> str:
    """Return '<severity>: <sentence>' of the finding with a code."""
    (found,) = [f for f in comparison.findings if f.code == code]
    return f"{found.severity}: {found.sentence}"


def failing(results: Results, where: Callable[[Run], bool]) -> Results:
    """Let some runs fail."""
    return [
        (replace(run, state="failed", error="the loss became nan at step 12"), None) if where(run) else (run, outcomes)
        for run, outcomes in results
    ]


CLEAR = Plan({"ant": 4.0, "bee": 1.0}).results()
EQUAL = Plan({"ant": 2.0, "bee": 2.0}).results()
THREE = Plan({"ant": 4.0, "bee": 3.9, "cow": 1.0}).results()


def is_bee(run: Run) -> bool:
    """Say whether a run is one of bee's."""
    return run.candidate == "bee"
