"""The guards themselves: each takes a Subject and gives {"code", "ok", "sentence"}."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from bakeoff.data.load import Batch
from bakeoff.findings import listed, plural
from bakeoff.guards.joins import Joins
from bakeoff.guards.subject import CLIP, Subject
from bakeoff.models import python_file
from bakeoff.models.skips import cut, skips

Result = dict[str, Any]
Cuts = dict[str, Callable[[], AbstractContextManager[Any]]]  # what is cut, in words -> a context where it is

MOST_CUTS = 40  # of a user's own network, the last ones: a decoder stands at the end
LEAST_CHANGE = 1e-6  # share of the output's spread: less is rounding
GRADIENT_STEPS = 3
UNUSED, ZERO, BROKEN = "is not used", "is always 0", "is not finite"
EXCUSED = 0.01  # share of the weights of a supplier's network
RATE = 1e-3
RATES = (1e-3, 1e-4)  # the second for networks that do not learn from random weights under the first
WARM_UP = 5  # steps
FITTED = 0.5  # of the loss with one another's targets: a network that ignores its input stays at 1
OVERFIT_STEPS, OVERFIT_EVERY = 150, 5
OVERFIT_SECONDS = 20.0  # of a processor core, per candidate
LARGER = 1  # of the subject's batches: its objects are large enough to weigh as much as the background


def skip(subject: Subject) -> Result:
    """Say whether every skip connection of an encoder-decoder, cut, changes the output.

    One that changes nothing at first is tried again after a few training steps: gates may start at zero.
    """
    subject.restart()
    cuts = _cuts(subject)
    if not cuts:
        return _result("skip", True, "not applicable, the network names no skip connections")
    idle = _idle(subject, cuts)
    if idle:
        subject.train(GRADIENT_STEPS, RATE)
        idle = _idle(subject, {words: cuts[words] for words in idle})
    if idle:
        told = listed(idle, 5)
        return _result("skip", False, f"cutting changes nothing in the output: {told}; the decoder does not use it")
    return _result("skip", True, f"cutting any one of {plural(len(cuts), 'connection')} changes the output")


def _cuts(subject: Subject) -> Cuts:
    """Return a way to cut each skip connection, or each join of maps in a user's own network of label maps."""
    network = subject.network
    found: Cuts = {f"skip connection {one.name}": partial(cut, network, one) for one in skips(network)}
    if found or subject.task.name != "semantic" or subject.spec.source != python_file.NAME:
        return found
    with Joins() as joins:
        subject.answer(subject.batch())
    return {join.words: partial(Joins, join) for join in joins.found[-MOST_CUTS:]}


def _idle(subject: Subject, cuts: Cuts) -> list[str]:
    """Return the cuts that do not change what the network says, beyond what a repetition changes."""
    batch = subject.batch()
    whole, again = subject.answer(batch), subject.answer(batch)
    least = 4 * _apart(whole, again) + LEAST_CHANGE * float(whole.max() - whole.min())
    idle = []
    for words, cutting in cuts.items():
        with cutting():
            changed = subject.answer(batch)
        if changed.shape == whole.shape and _apart(whole, changed) <= least:
            idle.append(words)
    return idle


def _apart(one: Tensor, other: Tensor) -> float:
    """Return the largest difference; NaN where both have it is none."""
    return float((one - other).abs().nan_to_num(0.0).max())


def gradient(subject: Subject) -> Result:
    """Say whether every parameter that the recipe trains gets a finite gradient that is not 0 in a few steps.

    What is always 0 is looked at again in a larger image: an attention over one place has nothing to choose.  What then
    is left of a supplier's network is excused up to a share of the weights, but not what is not used at all.
    """
    wrong, sizes = _ungraded(subject), _sizes(subject)
    larger = subject.larger() if wrong and set(wrong.values()) == {ZERO} else None
    if larger is not None:
        again = _ungraded(larger)
        wrong = {name: why for name, why in wrong.items() if name in again}
    share = sum(sizes[name] for name in wrong) / max(1, sum(sizes.values()))
    excused = set(wrong.values()) <= {ZERO} and share <= EXCUSED and subject.spec.source != python_file.NAME
    told = listed([f"{name} {why}" for name, why in wrong.items()], 5)
    if wrong and not excused:
        words = f"{len(wrong)} of {plural(len(sizes), 'parameter')} ({share:.2%} of the weights) get no sound gradient"
        return _result("gradient", False, f"{words}: {told}")
    rest = f", but for {told} ({share:.2%} of the weights)" if wrong else ""
    return _result("gradient", True, f"all of {plural(len(sizes), 'parameter')} get a gradient{rest}")


def _sizes(subject: Subject) -> dict[str, int]:
    """Return the number of weights of every parameter that the recipe trains."""
    parameters = dict(subject.network.body.named_parameters())
    return {name: parameters[name].numel() for name in subject.trained_names()}


def _ungraded(subject: Subject) -> dict[str, str]:
    """Train a few steps, and return the parameters that never got a gradient, and what they got instead."""
    parameters = dict(subject.restart().body.named_parameters())
    state = dict.fromkeys(subject.trained_names(), UNUSED)

    def look() -> None:
        for name, before in state.items():
            found = parameters[name].grad
            if found is None or before in (BROKEN, ""):
                continue
            state[name] = BROKEN if not found.isfinite().all() else "" if found.any() else ZERO

    subject.train(GRADIENT_STEPS, RATE, look)
    return {name: why for name, why in state.items() if why}


def overfit(subject: Subject) -> Result:
    """Say whether a handful of images can be learned by heart; see guards.check for the criterion."""
    deadline, steps, best = time.process_time() + OVERFIT_SECONDS, 0, math.inf
    batch = subject.batch(LARGER)
    swapped = Batch(batch.images, _neighbours(batch.targets))
    for rate in RATES:
        subject.restart()
        first = _value(subject, batch)
        optimiser = AdamW(subject.network.parameters(), rate, weight_decay=0.0)
        for step in range(1, OVERFIT_STEPS + 1):
            finite = _step(subject, optimiser, batch, rate * min(1.0, step / WARM_UP))
            steps, late = steps + 1, time.process_time() > deadline
            if not finite:
                break
            if late or step % OVERFIT_EVERY == 0:
                own, others = _value(subject, batch), _value(subject, swapped)
                best = min(best, own / others) if own < first else best
            if best <= FITTED:
                return _result("overfit", True, f"{len(batch.images)} images are told apart after {steps} steps")
            if late:
                return _result("overfit", True, f"not decided, {OVERFIT_SECONDS:.0f} s ({steps} steps) were too few")
    reached = f"their loss is {best:.2f} of the loss with one another's targets, not {FITTED:.2f} or less"
    words = f"{len(batch.images)} images cannot be told apart after {steps} steps: {reached}"
    return _result("overfit", False, f"{words}; look whether the output depends on the image")


def _step(subject: Subject, optimiser: AdamW, batch: Batch, rate: float) -> bool:
    """Make one step; say whether its loss was finite."""
    loss = subject.loss(batch)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(subject.network.parameters(), CLIP)
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.step()
    return math.isfinite(float(loss.detach()))


def _value(subject: Subject, batch: Batch) -> float:
    """Return the loss of a batch, a little above 0 at least; infinite where it is none."""
    with torch.no_grad():
        value = float(subject.loss(batch))
    return max(value, math.ulp(0.0)) if math.isfinite(value) else math.inf


def _neighbours(targets: Any) -> Any:
    """Return for each image the target of the one before."""
    return targets.roll(1, 0) if isinstance(targets, Tensor) else [targets[-1], *targets[:-1]]


def _result(code: str, ok: bool, sentence: str) -> Result:
    """Return a guard's result as JSON has it."""
    return {"code": code, "ok": ok, "sentence": sentence}
