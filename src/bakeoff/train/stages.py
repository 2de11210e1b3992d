"""Layer groups x stages -> the rate and the trained layers at a step: formulas, nothing is remembered."""

from __future__ import annotations

import math
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

    @classmethod
    def of(cls, recipe: Recipe, steps_per_epoch: int) -> Schedule:
        """Lay out a recipe; a stage without epochs takes what the others leave."""
        rest = recipe.epochs - sum(stage.epochs or 0 for stage in recipe.stages)
        ends, total = [], 0
        for stage in recipe.stages:
            total += (stage.epochs or rest) * steps_per_epoch
            ends.append(total)
        return cls(recipe.stages, tuple(ends))

    @property
    def steps(self) -> int:
        """Steps in all."""
        return self.ends[-1]

    def begins(self, stage: int) -> int:
        """Return the first step of a stage."""
        return self.ends[stage - 1] if stage else 0

    def at(self, step: int) -> Moment:
        """Return stage and rate at a step (0-based)."""
        number = next(i for i, end in enumerate(self.ends) if step < end)
        first = self.begins(number)
        return Moment(number, rate(self.stages[number], step - first, self.ends[number] - first))


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


def part_of(network: Network) -> dict[str, Part]:
    """Map every parameter name of the body to "head" (the last layer group) or "backbone"."""
    head = set(network.groups[-1])
    return {name: "head" if name in head else "backbone" for name, _ in network.body.named_parameters()}


def apply_stage(network: Network, stage: Stage, keep_statistics: bool = False) -> None:
    """Set train mode and requires_grad for a stage; a module whose parameters are all frozen runs in eval mode.

    With `keep_statistics` batch norms run in eval mode too: they learn scale and shift, and use the stored statistics.
    """
    parts = part_of(network)
    network.train()
    for name, parameter in network.body.named_parameters():
        parameter.requires_grad_(stage.layers in ("all", parts[name]))
    for module in network.body.modules():
        if keep_statistics and isinstance(module, _BatchNorm):
            module.eval()
        _rest(module)


def _rest(module: nn.Module) -> None:
    """Put a frozen module into eval mode, so that batch norm keeps its statistics and dropout is off."""
    parameters = list(module.parameters())
    if parameters and not any(parameter.requires_grad for parameter in parameters):
        module.eval()
