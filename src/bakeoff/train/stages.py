"""Layer groups x stages -> the rate and the trained layers at a step: formulas, nothing is remembered."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from bakeoff.models.spec import Network
from bakeoff.train.recipe import Recipe, Stage

Part = Literal["backbone", "head"]


@dataclass(frozen=True)
class Moment:
    """Where a step stands: its stage and the rate."""

    stage: int
    rate: float


@dataclass(frozen=True)
class Schedule:
    """The stages of a recipe laid out over steps."""

    stages: tuple[Stage, ...]
    ends: tuple[int, ...]  # first step after each stage
    lengths: tuple[int, ...]  # steps of each stage if it runs to its end: what its rate is a formula of
    steps_per_epoch: int

    @classmethod
    def of(cls, recipe: Recipe, steps_per_epoch: int, ended: Mapping[int, int] | None = None) -> Schedule:
        """Lay out a recipe; a stage without epochs takes what the others leave.

        `ended` gives, by the number of the stage, the epochs of those that a rule ended before their time: what
        follows them comes earlier.
        """
        rest = recipe.epochs - sum(stage.epochs or 0 for stage in recipe.stages)
        ends, lengths, total = [], [], 0
        for number, stage in enumerate(recipe.stages):
            epochs = stage.epochs or rest
            total += (ended or {}).get(number, epochs) * steps_per_epoch
            ends.append(total)
            lengths.append(epochs * steps_per_epoch)
        return cls(recipe.stages, tuple(ends), tuple(lengths), steps_per_epoch)

    @property
    def steps(self) -> int:
        """Steps in all."""
        return self.ends[-1]

    @property
    def epochs(self) -> int:
        """Epochs in all."""
        return self.steps // self.steps_per_epoch

    def begins(self, stage: int) -> int:
        """Return the first step of a stage."""
        return self.ends[stage - 1] if stage else 0

    def at(self, step: int) -> Moment:
        """Return stage and rate at a step (0-based)."""
        number = next(i for i, end in enumerate(self.ends) if step < end)
        return Moment(number, rate(self.stages[number], step - self.begins(number), self.lengths[number]))


def rate(stage: Stage, step: int, steps: int) -> float:
    """Return the learning rate at a step of a stage of `steps` steps.

    >>> [round(rate(Stage(rate=1.0, schedule="cosine"), s, 4), 2) for s in range(4)]
    [1.0, 0.85, 0.5, 0.15]
    """
    warm = round(stage.warmup * steps)
    if step < warm:
        return stage.rate * (step + 1) / (warm + 1)
    done = (step - warm) / max(1, steps - warm)
    if stage.schedule == "cosine":
        return stage.rate * 0.5 * (1 + math.cos(math.pi * done))
    if stage.schedule == "step":
        return stage.rate * 0.1 ** math.floor(3 * done)
    return stage.rate


def depths(network: Network) -> dict[str, int]:
    """Map every parameter name of the body to its depth, counted in layer groups from the head.

    The head (the last layer group) has depth 0, the group before it 1, the stem the largest.
    """
    found = {name: depth for depth, group in enumerate(reversed(network.groups)) for name in group}
    return {name: found.get(name, len(network.groups)) for name, _ in network.body.named_parameters()}


def part_of(network: Network) -> dict[str, Part]:
    """Map every parameter name of the body to "head" (the last layer group) or "backbone"."""
    return {name: "backbone" if depth else "head" for name, depth in depths(network).items()}


def learns(stage: Stage, depth: int) -> bool:
    """Say whether a stage trains the parameters at a depth.

    >>> [learns(Stage(layers="last 2"), depth) for depth in range(3)]
    [True, True, False]
    """
    match stage.layers.split():
        case ["last", count]:
            return depth < int(count)
        case ["head"]:
            return depth == 0
        case ["backbone"]:
            return depth > 0
    return True


def scale(stage: Stage, depth: int) -> float:
    """Return what the stage's rate is multiplied by at a depth: the head's own rate, else decay ** depth.

    Source of the decay: Clark et al., ELECTRA, ICLR 2020; of rates by layer: Howard and Ruder, ULMFiT, ACL 2018.

    >>> [scale(Stage(rate=0.5, head_rate=2.0, decay=0.5), depth) for depth in range(3)]
    [4.0, 0.5, 0.25]
    """
    if depth == 0:
        return 1.0 if stage.head_rate is None else stage.head_rate / stage.rate
    return float(stage.decay**depth)


@dataclass(frozen=True)
class RateGroup:
    """Parameters that have the same rate in every stage: `scales` is what each stage's is multiplied by."""

    parameters: tuple[nn.Parameter, ...]
    decayed: bool
    scales: tuple[float, ...]


def rate_groups(network: Network, recipe: Recipe) -> tuple[RateGroup, ...]:
    """Divide the parameters by part, rates, and whether they are decayed: biases and norms (one dimension) are not."""
    found: dict[tuple[bool, tuple[float, ...], bool], list[nn.Parameter]] = {}
    depth_of = depths(network)
    for name, parameter in network.body.named_parameters():
        depth = depth_of[name]
        scales = tuple(scale(stage, depth) for stage in recipe.stages)
        found.setdefault((depth == 0, scales, parameter.ndim > 1), []).append(parameter)
    ordered = sorted(found.items(), key=lambda item: item[0])
    return tuple(RateGroup(tuple(listed), decayed, scales) for (_, scales, decayed), listed in ordered)


def apply_stage(network: Network, stage: Stage, keep_statistics: bool = False) -> None:
    """Set train mode and requires_grad for a stage; a module whose parameters are all frozen runs in eval mode.

    With `keep_statistics` batch norms run in eval mode too: they learn scale and shift, and use the stored statistics.
    """
    depth_of = depths(network)
    network.train()
    for name, parameter in network.body.named_parameters():
        parameter.requires_grad_(learns(stage, depth_of[name]))
    for module in network.body.modules():
        if keep_statistics and isinstance(module, _BatchNorm):
            module.eval()
        _rest(module)


def _rest(module: nn.Module) -> None:
    """Put a frozen module into eval mode, so that batch norm keeps its statistics and dropout is off."""
    parameters = list(module.parameters())
    if parameters and not any(parameter.requires_grad for parameter in parameters):
        module.eval()
