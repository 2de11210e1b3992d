"""train(): the loop, a generator of facts.  It never asks which task it is."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from bakeoff.data.load import Batch, Feed
from bakeoff.errors import Diverged
from bakeoff.models.spec import Network
from bakeoff.seeds import fold
from bakeoff.tasks.inference import Conditions
from bakeoff.tasks.task import Task
from bakeoff.train.diagnosis import Diagnosis, observed
from bakeoff.train.features import FrozenFeatures
from bakeoff.train.gap import epochs_above, gaps
from bakeoff.train.probe import probing
from bakeoff.train.recipe import Recipe
from bakeoff.train.stages import Moment, RateGroup, Schedule, apply_stage, rate_groups

Validate = Callable[[Network], dict[str, float]]


@dataclass(frozen=True)
class Step:
    """A step was made (`step` counts from 1, `epoch` from 0)."""

    kind: ClassVar[str] = "step"
    step: int
    steps: int
    epoch: int
    loss: float
    rate: float


@dataclass(frozen=True)
class Epoch:
    """An epoch ended; `val` are the validation metrics, {} without a validation split."""

    kind: ClassVar[str] = "epoch"
    epoch: int
    epochs: int
    step: int
    rate: float
    train_loss: float
    val_loss: float | None
    val: dict[str, float]
    seconds: float
    images_per_second: float


@dataclass(frozen=True)
class StageStarted:
    """A stage begins with the step after `step`."""

    kind: ClassVar[str] = "stage"
    epoch: int
    step: int
    stage: int
    layers: str
    rate: float


@dataclass(frozen=True)
class Best:
    """The validation headline has never been better."""

    kind: ClassVar[str] = "best"
    epoch: int
    step: int
    value: float


@dataclass(frozen=True)
class Stopped:
    """Training ended before its last epoch, because validation had not improved for `patience` epochs."""

    kind: ClassVar[str] = "stopped"
    epoch: int
    step: int
    patience: int


@dataclass(frozen=True)
class Gap:
    """The gap between training and validation has opened, and the stage ends (train/gap.py).

    The state as it was after epoch `taken`, the last before the gap opened, is taken up again after `epoch`.  What
    follows comes earlier than was planned: `epochs` and `steps` are what the run now has.
    """

    kind: ClassVar[str] = "gap"
    epoch: int
    step: int
    stage: int
    gap: float
    taken: int
    epochs: int
    steps: int


Fact = Step | Epoch | StageStarted | Best | Stopped | Gap | Diagnosis


def to_json(fact: Fact) -> dict[str, Any]:
    """Return a fact as a JSON-able dictionary with its kind; NaN becomes None."""
    content = {"kind": fact.kind, **asdict(fact)}
    if isinstance(fact, Epoch):
        content["val"] = {name: value if math.isfinite(value) else None for name, value in fact.val.items()}
    return content


class State:
    """All that a run is at a step: network, average, optimiser, counters, best so far."""

    def __init__(self, network: Network, recipe: Recipe, conditions: Conditions) -> None:
        """Start at step 0; the network is moved to the device and layout."""
        self.recipe, self.conditions = recipe, conditions
        layout = torch.channels_last if conditions.channels_last else torch.contiguous_format
        self.network = network.to(conditions.device, memory_format=layout)  # type: ignore[call-overload]
        groups = rate_groups(network, recipe)
        self.optimiser = optimiser(groups, recipe)
        self.scales = [group.scales for group in groups]  # of the optimiser's groups, stage by stage
        average = get_ema_multi_avg_fn(recipe.ema) if recipe.ema else None
        self.average = AveragedModel(network, multi_avg_fn=average) if average else None
        self.step = 0
        self.epoch = 0  # epochs closed: trained and validated
        self.loss_sum = 0.0  # of the epoch under way
        self.seconds = 0.0  # that the epoch under way has taken, before a cut too
        self.best: dict[str, Any] = {}  # value, epoch
        self.best_weights: dict[str, Tensor] = {}
        self.stopped = False
        self.losses: list[list[float]] = []  # epoch, training and validation loss, where the stage looks at their gap
        self.closed: dict[str, Any] = {}  # network, average and optimiser when the gap was last closed, and the epoch
        self.ended: dict[int, int] = {}  # stages that a gap ended, and the epochs that they took

    @property
    def judged(self) -> Network:
        """The network that is validated and handed over: the average where there is one."""
        return self.network if self.average is None else cast(Network, self.average.module)

    def export(self) -> dict[str, Any]:
        """Return the exact state (see checkpoint.save)."""
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict() if self.average is not None else {},
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "epoch": self.epoch,
            "loss_sum": self.loss_sum,
            "seconds": self.seconds,
            "best": self.best,
            "best_weights": self.best_weights,
            "stopped": self.stopped,
            "losses": self.losses,
            "closed": self.closed,
            "ended": self.ended,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up an exported state."""
        self._take_up(state)
        self.step, self.epoch = state["step"], state["epoch"]
        self.loss_sum, self.stopped = state["loss_sum"], state["stopped"]
        self.best, self.best_weights = state["best"], state["best_weights"]
        self.seconds = state.get("seconds", 0.0)
        self.losses, self.closed = state.get("losses", []), state.get("closed", {})
        self.ended = state.get("ended", {})

    def schedule(self, steps_per_epoch: int) -> Schedule:
        """Return the stages over the run's steps, as far as it is known when they end."""
        return Schedule.of(self.recipe, steps_per_epoch, self.ended)

    def keep_closed(self) -> None:
        """Keep a copy of all that learning changes, as of the epoch that just ended."""
        parts = {"network": self.network, "average": self.average, "optimiser": self.optimiser}
        kept = {name: copy.deepcopy(part.state_dict()) if part is not None else {} for name, part in parts.items()}
        self.closed = {**kept, "epoch": self.epoch}

    def go_back(self) -> int:
        """Take up what keep_closed kept and return its epoch; the optimiser goes on with the moments it had then."""
        kept, self.closed = self.closed, {}
        self._take_up(kept)
        return int(kept["epoch"])

    def _take_up(self, kept: dict[str, Any]) -> None:
        """Load network, average and optimiser."""
        self.network.load_state_dict(kept["network"])
        self.optimiser.load_state_dict(kept["optimiser"])
        if self.average is not None:
            self.average.load_state_dict(kept["average"])

    def finish(self) -> Network:
        """Return the network to hand over, by the recipe's checkpoint rule."""
        if self.recipe.checkpoint == "best" and self.best_weights:
            self.judged.load_state_dict(self.best_weights)
        return self.judged


def optimiser(groups: Sequence[RateGroup], recipe: Recipe) -> Optimizer:
    """Return the optimiser; its groups are in the order of these."""
    listed = [
        {"params": list(group.parameters), "weight_decay": recipe.weight_decay if group.decayed else 0.0}
        for group in groups
    ]
    if recipe.optimiser == "sgd":
        return SGD(listed, lr=0.0, momentum=recipe.momentum, nesterov=recipe.momentum > 0)
    return (AdamW if recipe.optimiser == "adamw" else Adam)(listed, lr=0.0)


def train(
    state: State,
    task: Task,
    feed: Feed,
    validate: Validate | None = None,
    frozen: FrozenFeatures | None = None,
    diagnose: bool = False,
) -> Iterator[Fact]:
    """Train from the state's step to the recipe's last one, yielding a fact for all that happens.

    Between two facts the state is consistent: the caller may export it, or stop.  Every draw depends on the feed's
    seed and the step alone, so a restored state continues as if it had never been cut.  Raises Diverged when the loss
    is not finite.  With `frozen` the stages that train the head alone read features in the images' stead.  With
    `diagnose` some steps are looked into, and their Diagnosis comes in front of their Step; nothing else changes.
    """
    conditions = state.conditions
    schedule = state.schedule(feed.steps)
    while state.epoch < schedule.epochs and not state.stopped:
        started, offset = time.perf_counter() - state.seconds, state.step - state.epoch * feed.steps
        course = None
        if offset < feed.steps:
            yield from _enter(state, schedule)
            course = frozen.course(state.network) if frozen is not None else None
        source, learner = (course.source, course.learner) if course is not None else (feed, state.network)
        for batch in source.epoch(state.epoch, offset) if offset < feed.steps else ():
            moment = schedule.at(state.step)
            batch = batch.to(conditions.device, conditions.channels_last)
            looked = diagnose and observed(state.step, feed.steps, state.recipe.epochs)
            with probing(state.network, learner) if looked else nullcontext() as probe:
                loss = training_step(state, task, batch, fold(feed.seed, "step", state.step), moment, learner)
            state.seconds = time.perf_counter() - started
            if probe is not None:
                yield probe.diagnosis(state.epoch, state.step, (state.step - 1) / feed.steps)
            yield Step(state.step, schedule.steps, state.epoch, loss, moment.rate)
        speed = feed.steps * feed.batch_size / max(1e-9, state.seconds)
        val = validate(state.judged) if validate is not None else {}
        fact = Epoch(
            epoch=state.epoch,
            epochs=schedule.epochs,
            step=state.step,
            rate=schedule.at(state.step - 1).rate,
            train_loss=state.loss_sum / feed.steps,
            val_loss=val.get(task.validation_loss),
            val=val,
            seconds=time.perf_counter() - started,
            images_per_second=speed,
        )
        events = _judge(state, val.get(task.headline), task.table[task.headline].higher_is_better)
        events += _watch_gap(state, schedule, fact)
        schedule = state.schedule(feed.steps)
        state.epoch, state.loss_sum, state.seconds = state.epoch + 1, 0.0, 0.0
        yield fact
        yield from events


def _enter(state: State, schedule: Schedule) -> Iterator[Fact]:
    """Set the network up for the stage of the epoch that begins or goes on; yield a fact where the stage begins."""
    number = schedule.at(state.step).stage
    stage = state.recipe.stages[number]
    apply_stage(state.network, stage, state.recipe.norm_statistics == "frozen")
    if state.step == schedule.begins(number):
        yield StageStarted(state.epoch, state.step, number, stage.layers, stage.rate)


def training_step(
    state: State, task: Task, batch: Batch, seed: int, moment: Moment, learner: nn.Module | None = None
) -> float:
    """One forward, backward and update; return the loss.  `learner` is what takes the batch: None, the network."""
    torch.manual_seed(seed)
    with state.conditions.autocast():
        loss = task.loss(learner if learner is not None else state.network, batch)
    value = float(loss.detach())
    if not math.isfinite(value):
        raise Diverged(state.step + 1, value)
    state.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    if state.recipe.clip is not None:
        nn.utils.clip_grad_norm_(state.network.parameters(), state.recipe.clip)
    for group, scales in zip(state.optimiser.param_groups, state.scales, strict=True):
        group["lr"] = moment.rate * scales[moment.stage]
    state.optimiser.step()
    if state.average is not None:
        state.average.update_parameters(state.network)
    state.loss_sum += value
    state.step += 1
    return value


def _judge(state: State, value: float | None, higher: bool) -> list[Fact]:
    """Note the best epoch so far and whether to stop early; return the facts of it."""
    if value is None or not math.isfinite(value):
        return []
    recipe, best = state.recipe, state.best.get("value")
    if best is None or (value > best if higher else value < best):
        state.best = {"value": value, "epoch": state.epoch}
        if recipe.checkpoint == "best":
            state.best_weights = {name: tensor.clone() for name, tensor in state.judged.state_dict().items()}
        return [Best(state.epoch, state.step, value)]
    if recipe.early_stop is not None and state.epoch - state.best["epoch"] >= recipe.early_stop:
        state.stopped = True
        return [Stopped(state.epoch, state.step, recipe.early_stop)]
    return []


def _watch_gap(state: State, schedule: Schedule, fact: Epoch) -> list[Fact]:
    """Follow the gap in a stage that ends when it opens; once it has, go back to where it was closed.

    An epoch without a finite validation loss is passed over.
    """
    stage = schedule.at(state.step - 1).stage
    rule, first = state.recipe.stages[stage].until, schedule.begins(stage) // schedule.steps_per_epoch
    if rule is None or state.stopped:
        return []
    if fact.val_loss is not None and math.isfinite(fact.val_loss):
        state.losses = [known for known in state.losses if known[0] >= first]  # those of stages before are over
        state.losses.append([fact.epoch, fact.train_loss, fact.val_loss])
        found = gaps([(train, val) for _, train, val in state.losses], rule)
        above = epochs_above(found, rule)
        if above == 0:
            state.keep_closed()
        if above >= rule.patience:
            state.ended[stage] = fact.epoch + 1 - first
            taken, now = state.go_back(), state.schedule(schedule.steps_per_epoch)
            return [Gap(fact.epoch, state.step, stage, found[-1], taken, now.epochs, now.steps)]
    if state.step == schedule.ends[stage]:
        state.closed = {}
    return []
