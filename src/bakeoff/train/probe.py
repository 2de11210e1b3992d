"""A probe looks into one training step without touching it: gradients, changes of the weights, silent ReLUs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.hooks import RemovableHandle

from bakeoff.models.layers import group_names
from bakeoff.models.spec import Network
from bakeoff.train.diagnosis import Diagnosis, Values

ATEN = torch.ops.aten
RELUS = {ATEN.relu.default, ATEN.relu_.default}
CLAMPS = {ATEN.hardtanh.default, ATEN.hardtanh_.default}  # ReLU6, where the lower end is 0
DIGITS = 6  # significant ones that are kept: histories stay small


class Probe:
    """What is noted while a step is made; diagnosis() gives it once the step is over."""

    def __init__(self, network: Network) -> None:
        """Remember the weights as they are, of all that learns at this step."""
        named = dict(network.body.named_parameters())
        self.names = group_names(network)
        self.learning = [[named[name] for name in group if named[name].requires_grad] for group in network.groups]
        self.before = [[parameter.detach().clone() for parameter in group] for group in self.learning]
        self.gradients: list[list[Tensor]] = [[] for _ in self.names]
        self.relus = Relus(network)
        self.weight = _norms(self.before)
        self.update: Values = ()

    def hooks(self, learner: nn.Module) -> Iterator[RemovableHandle]:
        """Register what notes gradients as they come, and ReLUs while `learner` computes."""
        for place, group in enumerate(self.learning):
            for parameter in group:
                yield parameter.register_post_accumulate_grad_hook(partial(self._note, place))
        yield from self.relus.hooks(learner)

    def _note(self, place: int, parameter: Tensor) -> None:
        """Note the norm of a gradient before anything clips it."""
        assert parameter.grad is not None
        self.gradients[place].append(torch.linalg.vector_norm(parameter.grad, dtype=torch.float32))

    def end(self) -> None:
        """Note how far the weights moved."""
        for now, before in zip(self.learning, self.before, strict=True):
            if now:
                torch._foreach_sub_(before, [parameter.detach() for parameter in now])
        self.update, self.before = _norms(self.before), []

    def diagnosis(self, epoch: int, step: int, at: float) -> Diagnosis:
        """Return the fact; see there for the arguments."""
        return Diagnosis(
            epoch, step, at, self.names, _norms(self.gradients), self.weight, self.update, self.relus.dead()
        )


class Relus(TorchDispatchMode):
    """Notes which units of a network's ReLUs give more than 0, written as modules or as functions alike.

    A ReLU belongs to the layer with parameters that ran before it; calls behind one layer count together: a unit is
    dead when it is so in all of them (a head that runs on every level of a pyramid).
    """

    def __init__(self, network: Network) -> None:
        """Look at nothing yet."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.layers: dict[str, nn.Module] = dict(network.body.named_modules())
        self.latest = ""
        self.alive: dict[tuple[str, int], Tensor] = {}
        place = {name: number for number, group in enumerate(network.groups) for name in group}
        own = {name: [key for key, _ in layer.named_parameters(name, False)] for name, layer in self.layers.items()}
        self.places = {name: place[keys[0]] for name, keys in own.items() if keys and keys[0] in place}
        self.count = len(network.groups)

    def hooks(self, learner: nn.Module) -> Iterator[RemovableHandle]:
        """Register what follows the layers, and looks at operations from the begin of `learner` to its end."""
        for name in self.places:
            yield self.layers[name].register_forward_hook(partial(self._passed, name))
        yield learner.register_forward_pre_hook(self._begin)
        yield learner.register_forward_hook(self._end, always_call=True)

    def _begin(self, *_: Any) -> None:
        self.__enter__()  # type: ignore[no-untyped-call]

    def _end(self, *_: Any) -> None:
        self.__exit__(None, None, None)  # type: ignore[no-untyped-call]

    def _passed(self, name: str, *_: Any) -> None:
        """Note that a layer has run."""
        self.latest = name

    def __torch_dispatch__(
        self, func: Callable[..., Any], _types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation as it is; look at the result of a ReLU."""
        result = func(*args, **(kwargs or {}))
        if func in RELUS or (func in CLAMPS and len(args) > 1 and args[1] == 0):
            self._look(result)
        return result

    def _look(self, result: Tensor) -> None:
        """Note the units that gave more than 0: channels of maps (B, C, H, W), else the last dimension."""
        unit = 1 if result.ndim > 3 else result.ndim - 1
        alive = result.amax([dim for dim in range(result.ndim) if dim != unit]) > 0 if result.numel() else None
        if alive is None or result.ndim < 2:  # no box was proposed, or a number without a batch
            return
        key = (self.latest, len(alive))
        self.alive[key] = self.alive[key] | alive if key in self.alive else alive

    def dead(self) -> Values:
        """Return the share of dead units by layer group; None where it has no ReLU that ran."""
        units, living = [0] * self.count, [0] * self.count
        for (name, count), alive in self.alive.items():
            place = self.places.get(name, 0)  # in front of all layers: the stem
            units[place] += count
            living[place] += int(alive.sum())
        return tuple(_rounded(1 - some / all_) if all_ else None for some, all_ in zip(living, units, strict=True))


@contextmanager
def probing(network: Network, learner: nn.Module | None = None) -> Iterator[Probe]:
    """Look into the training step that is made inside; neither numbers nor draws are touched.

    `learner` is what takes the batch where that is not the network itself.
    """
    probe = Probe(network)
    handles = list(probe.hooks(network if learner is None else learner))
    try:
        yield probe
    finally:
        for handle in handles:
            handle.remove()
    probe.end()


def _norms(groups: Sequence[Sequence[Tensor]]) -> Values:
    """Return the norm over all tensors of each group; None for a group without any."""
    norms = [get_total_norm(list(group)) for group in groups if group]
    found = iter(torch.stack(norms).tolist() if norms else ())
    return tuple(_rounded(next(found)) if group else None for group in groups)


def _rounded(value: float) -> float | None:
    """Return a value with DIGITS significant digits; None for one that is not finite."""
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
