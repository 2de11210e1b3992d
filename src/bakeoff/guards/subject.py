"""Subject: one candidate's network with random weights, at the smallest size that it takes, and made-up batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from bakeoff.data.examples import example
from bakeoff.data.load import Batch
from bakeoff.errors import UsageError
from bakeoff.models import build, resolve
from bakeoff.models.head import first_line
from bakeoff.models.spec import ModelSpec, Network
from bakeoff.seeds import fold
from bakeoff.tasks import TASKS
from bakeoff.tasks.task import LossOptions, Task
from bakeoff.train.recipe import Recipe
from bakeoff.train.stages import depths, learns

SIZES = (64, 96, 128, 160, 192, 224, 256, 320, 384, 448, 512)
IMAGES = 4  # in a batch
LABELLED = 6  # the same with one label each: these repeat after 2 or 3, so that no image has its neighbour's
SHARES = (0.2, 0.4, 0.8)  # of the image, batch by batch: a detector learns from objects of every size
CLIP = 1.0  # largest norm of a step's gradient: deep networks from random weights would jump
ERRORS = (ValueError, RuntimeError, AssertionError, IndexError, TypeError, ZeroDivisionError)


@dataclass(frozen=True)
class Subject:
    """A network with its random weights, the task with the recipe's loss, and what to try them on."""

    network: Network
    spec: ModelSpec
    task: Task
    recipe: Recipe
    classes: int
    size: int
    payload: dict[str, Any]
    weights: dict[str, Tensor]

    @classmethod
    def of(cls, payload: dict[str, Any], least: int = SIZES[0]) -> Subject:
        """Build the network of a payload (see guards.check) at the smallest size, from `least` on, that it learns at.

        Raises UsageError, naming the reason, when there is none.
        """
        model = ModelSpec.model_validate(payload["model"])
        spec = resolve(model, payload["task"]).model_copy(update={"weights": "none"})
        recipe = Recipe.model_validate(payload["recipe"])
        classes, largest = min(3, max(2, int(payload["classes"]))), int(payload["size"])
        task = TASKS[payload["task"]](tuple(f"class {number}" for number in range(classes)), LossOptions(recipe.loss))
        for size in (*(size for size in SIZES if least <= size < largest), largest):
            try:
                network = _built(spec, classes, size, task).to(payload["device"])
                weights = {name: value.detach().clone() for name, value in network.state_dict().items()}
                subject = cls(network, spec, task, recipe, classes, size, payload, weights)
                with torch.no_grad():
                    subject.loss(subject.batch())
            except (UsageError, *ERRORS) as error:
                if size == largest and isinstance(error, UsageError):
                    raise
                if size == largest:
                    raise UsageError(f"a training step fails at {size} pixels: {first_line(error)}") from error
            else:
                return subject
        raise AssertionError  # the last size returns or raises

    def batch(self, number: int = 0) -> Batch:
        """Return made-up images with their targets; every number draws others."""
        seed, share = fold(0, "guards", number), SHARES[number % len(SHARES)]
        count = LABELLED if self.task.name == "classification" else IMAGES
        batch = example(self.task.name, self.classes, count, self.size, seed, share)
        return batch.to(self.payload["device"])

    def larger(self) -> Subject | None:
        """Return the same network at twice the size or a little more; None where that is above the study's."""
        return Subject.of(self.payload, 2 * self.size) if 2 * self.size <= int(self.payload["size"]) else None

    def restart(self) -> Network:
        """Give the network its first weights back, in train mode with every parameter trained and no dropout."""
        with torch.no_grad():
            for name, value in self.network.state_dict().items():  # a module may refuse to load without its version
                value.copy_(self.weights[name])
        self.network.requires_grad_(True).train()
        for module in self.network.modules():
            if "drop" in type(module).__name__.lower() or type(module).__name__ == "StochasticDepth":
                module.eval()  # a layer left out by chance is no fault
        self.network.zero_grad(set_to_none=True)
        return self.network

    def loss(self, batch: Batch) -> Tensor:
        """Return the training loss of a batch in the mode that the network is in; sampled boxes are the same ones."""
        torch.manual_seed(fold(0, "guards", "draws"))
        return self.task.loss(self.network, batch)

    def answer(self, batch: Batch) -> Tensor:
        """Return what the network says about a batch as one row of numbers: logits, or the losses of a detector."""
        torch.manual_seed(fold(0, "guards", "draws"))
        with torch.no_grad():
            if isinstance(batch.targets, Tensor):
                logits: Tensor = self.network(batch.images)
                return logits.float().flatten()
            losses = self.network(batch.images, batch.targets)
        return torch.stack([loss.float().sum() for loss in losses.values()])

    def train(self, steps: int, rate: float, seen: Callable[[], None] = lambda: None) -> None:
        """Make steps of AdamW on as many batches; `seen` is called when the gradients of a step are there."""
        optimiser = AdamW(self.network.parameters(), rate, weight_decay=0.0)
        for number in range(steps):
            optimiser.zero_grad(set_to_none=True)
            self.loss(self.batch(number)).backward()
            seen()
            nn.utils.clip_grad_norm_(self.network.parameters(), CLIP)
            optimiser.step()

    def trained_names(self) -> list[str]:
        """Return the names of the body's parameters that a stage of the recipe trains."""
        stages = self.recipe.stages
        return [name for name, depth in depths(self.network).items() if any(learns(stage, depth) for stage in stages)]


def _built(spec: ModelSpec, classes: int, size: int, task: Task) -> Network:
    """Build with weights that are always the same."""
    torch.manual_seed(fold(0, "guards", "weights"))
    return build(spec, classes, size, task.name)
