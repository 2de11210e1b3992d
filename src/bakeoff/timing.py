"""How fast a candidate is: a training step by precision and layout, before a study; one prediction, after it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from bakeoff.data.examples import example
from bakeoff.errors import UsageError
from bakeoff.evaluate.outcomes import latency
from bakeoff.models import build, trained
from bakeoff.models.spec import ModelSpec
from bakeoff.tasks import TASKS
from bakeoff.tasks.inference import Conditions
from bakeoff.train.loop import State, training_step
from bakeoff.train.recipe import Recipe
from bakeoff.train.stages import Moment

CHOICES = (("fp32", "contiguous"), ("fp32", "channels_last"), ("bf16", "contiguous"), ("bf16", "channels_last"))
BUDGET = 4.0  # seconds per candidate and choice, after which no further step is timed
STEPS = 5
GAIN = 0.9  # another precision than fp32 must take at most this share of the time: rounding is not free


def measure(payload: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Build one candidate as it is asked for, then time its training steps.

    Yields one fact {"kind": "timing", "seconds": {choice: median}}.  Raises what models.build raises: weights that
    cannot be had or do not fit stop a study here, before anything trains.
    """
    spec, recipe = ModelSpec.model_validate(payload["model"]), Recipe.model_validate(payload["recipe"])
    classes, size = int(payload["classes"]), int(payload["size"])
    task = payload["task"]
    build(spec, classes, size, task)
    seconds = {}
    for precision, layout in CHOICES:
        torch.manual_seed(0)
        bare = spec.model_copy(update={"weights": "none"})  # the values do not matter for the time
        conditions = Conditions(payload["device"], precision, layout == "channels_last")
        state = State(build(bare, classes, size, task), recipe, conditions)
        try:
            seconds[f"{precision} {layout}"] = _seconds(state, classes, size, task)
        except ValueError as error:  # torch's word for a batch that a layer cannot learn from
            raise UsageError(f"a training step fails under this recipe: {error}") from error
    yield {"kind": "timing", "candidate": payload["candidate"], "seconds": seconds}


def predict(payload: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Time a trained model on one image at a time; yields one fact {"kind": "latency", "milliseconds": median}."""
    ready = trained.load(payload["model"])
    network = ready.network.to(payload["device"])
    yield {"kind": "latency", "milliseconds": latency(network, ready.size, payload["device"])}


def _seconds(state: State, classes: int, size: int, task_name: str) -> float:
    """Return the median seconds of a training step after one that is not counted."""
    task = TASKS[task_name](tuple(f"class {number}" for number in range(classes)))
    batch = example(task_name, classes, state.recipe.batch, size)
    batch = batch.to(state.conditions.device, state.conditions.channels_last)
    times: list[float] = []
    began = time.perf_counter()
    while len(times) <= STEPS and (len(times) < 2 or time.perf_counter() - began < BUDGET):
        start = time.perf_counter()
        training_step(state, task, batch, 0, Moment(0, 1e-4))
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def choose(timings: Sequence[dict[str, float]], steps: Sequence[float], allowed: str = "auto") -> tuple[str, str]:
    """Return the (precision, layout) with the least time over all candidates, each weighed by its `steps`.

    bf16 is taken only where it saves a tenth or more against the best fp32.

    >>> choose([{"fp32 contiguous": 1.0, "bf16 contiguous": 0.5}], [10])
    ('bf16', 'contiguous')
    """
    totals: dict[str, float] = {}
    for choice in timings[0]:
        if allowed in ("auto", choice.split()[0]):
            totals[choice] = sum(times[choice] * count for times, count in zip(timings, steps, strict=True))
    best = min(totals, key=lambda choice: totals[choice])
    plain = {choice: total for choice, total in totals.items() if choice.startswith("fp32")}
    if plain and totals[best] > GAIN * min(plain.values()):
        best = min(plain, key=lambda choice: plain[choice])
    precision, layout = best.split()
    return precision, layout
