"""A classifier cut in front of its head: the frozen part gives a feature per image, the rest makes logits of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bakeoff.errors import UsageError
from bakeoff.models.spec import Network

EXACT = 1e-5  # how far logits from features may lie from the whole network's, in float32
ROUNDED = 1e-2  # the same under autocast: about one rounding of bfloat16
SEEDS = (1, 2)  # a feature that differs between them is drawn, not computed
ERRORS = (RuntimeError, TypeError, ValueError, IndexError, AttributeError)  # of a part that cannot be called alone


class Rest(nn.Module):
    """What stands behind the cut: features (B, ...) -> logits (B, classes).  The modules are the network's own."""

    def __init__(self, *layers: nn.Module) -> None:
        """Take the modules in the order in which they run."""
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """Run the modules in turn."""
        logits: Tensor = self.layers(features)
        return logits.flatten(1)

    def features(self, network: Network, images: Tensor) -> Tensor:
        """Return what the first module is given for images (B, 3, H, W), in the modes that the modules are in.

        The pass ends there, so that nothing behind the cut (a batch norm of the head) notices it.  No gradients.
        """
        handle = self.layers[0].register_forward_pre_hook(_stop, prepend=True)
        try:
            with torch.no_grad():
                network(images)
        except _Reached as reached:
            return reached.feature
        finally:
            handle.remove()
        raise UsageError(f"the head ({type(self.layers[0]).__name__}) is not called for every batch")


class HeadOfTimm(Rest):
    """The same by timm's own convention: body(x) is body.forward_head(body.forward_features(x)).

    Its features are whole maps or all tokens: larger than those in front of the last layer.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Pool, drop and classify."""
        body: Any = self.layers[0]
        logits: Tensor = body.forward_head(features)
        return logits

    def features(self, network: Network, images: Tensor) -> Tensor:
        """Return the last feature map or tokens."""
        body: Any = network.body
        with torch.no_grad():
            found = body.forward_features((images - network.mean) / network.std)
        if not isinstance(found, Tensor):
            raise TypeError(f"forward_features gives {type(found).__name__}, not one tensor")
        return found


@dataclass(frozen=True)
class Call:
    """One call of a module: its name in the body, what it was given and what it returned (None: no single tensor).

    `began` and `ended` count the begins and ends of all calls in order.
    """

    name: str
    module: nn.Module
    given: Tensor | None
    result: Tensor | None
    began: int
    ended: int


class _Reached(Exception):
    """The forward pass has come to the cut."""

    def __init__(self, feature: Tensor) -> None:
        self.feature = feature


def _stop(_module: nn.Module, given: tuple[Any, ...]) -> None:
    """End the forward pass with what a module is given."""
    raise _Reached(given[0])


def cut(network: Network, images: Tensor) -> Rest:
    """Find the smallest rest of a classifier that holds its head (the last layer group) and all that is drawn.

    The network must be in the modes of its stage (stages.apply_stage).  Dropout in front of the head, which stays
    active while the head learns, comes behind the cut.  Accepted is what gives the logits of the whole network for
    `images`, two at least, from features computed under another seed and in another order: to EXACT in float32, to
    ROUNDED under autocast, relative to the largest logit where that is above 1.  Neither weights nor buffers are
    changed; torch's generator is.  Raises UsageError when there is no such cut.
    """
    with _buffers_kept(network), torch.no_grad():
        calls, logits = _trace(network, images)
        for name in _around_head(network):
            chain = _behind(calls, name)
            while chain:
                rest = Rest(*(call.module for call in chain))
                if (features := _steady(network, rest, images)) is not None:
                    if _agrees(rest, features, logits):
                        return rest
                    break  # something that is no module comes behind it: try the module around it
                chain = _with_previous(calls, chain)
        with suppress(*ERRORS):  # a body without such halves, or whose halves are called otherwise
            rest = HeadOfTimm(network.body)
            features = _steady(network, rest, images)
            if features is not None and _agrees(rest, features, logits):
                return rest
    raise UsageError(
        "no features can stand in for its backbone: what comes in front of the head draws at random, or the head is no "
        "part of its own; use recipe.cache_features = false"
    )


def _around_head(network: Network) -> Iterator[str]:
    """Yield the smallest module of the body with all of the head's parameters, then those around it, not the body."""
    paths = [name.split(".")[:-1] for name in network.groups[-1]]
    shared = []
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    for length in range(len(shared), 0, -1):
        yield ".".join(shared[:length])


def _trace(network: Network, images: Tensor) -> tuple[list[Call], Tensor]:
    """Return the calls of all modules of the body in a forward pass under SEEDS[0], by their ends, and the logits."""
    calls: list[Call] = []
    open_calls: list[tuple[nn.Module, Tensor | None, int]] = []
    clock = iter(range(1 << 60))
    names = {module: name for name, module in network.body.named_modules()}

    def begin(module: nn.Module, given: tuple[Any, ...]) -> None:
        first = given[0] if given and isinstance(given[0], Tensor) else None
        open_calls.append((module, first, next(clock)))

    def end(module: nn.Module, _given: tuple[Any, ...], result: Any) -> None:
        _, first, began = open_calls.pop()
        found = result if isinstance(result, Tensor) else None
        calls.append(Call(names[module], module, first, found, began, next(clock)))

    handles = [module.register_forward_pre_hook(begin) for module in names]
    handles += [module.register_forward_hook(end) for module in names]
    torch.manual_seed(SEEDS[0])
    try:
        logits = network(images)
    finally:
        for handle in handles:
            handle.remove()
    if not isinstance(logits, Tensor):
        raise UsageError("auxiliary classifiers look into the backbone; use recipe.cache_features = false")
    return calls, logits


def _behind(calls: list[Call], name: str) -> list[Call]:
    """Return a module's call and those that follow it, each given what the one before returned; [] if called twice."""
    own = [call for call in calls if call.name == name]
    if len(own) != 1 or own[0].given is None:
        return []
    chain = own
    while following := [
        call for call in calls if call.given is chain[-1].result and call.began > chain[-1].ended and _is_leaf(call)
    ]:
        chain = [*chain, min(following, key=lambda call: call.began)]
    return chain


def _with_previous(calls: list[Call], chain: list[Call]) -> list[Call]:
    """Put the call in front that returned what the chain's first one was given; [] when no single module did."""
    first = chain[0]
    previous = [call for call in calls if call.result is first.given and call.ended < first.began and _is_leaf(call)]
    if not previous or previous[-1].given is None:
        return []
    return [previous[-1], *chain]


def _is_leaf(call: Call) -> bool:
    """Say whether a call's module has no children."""
    return next(call.module.children(), None) is None


def _steady(network: Network, rest: Rest, images: Tensor) -> Tensor | None:
    """Return the features under SEEDS[1], computed in another order; None when they depend on draws or neighbours."""
    found = []
    for seed, order in zip(SEEDS, (images, images.flip(0)), strict=True):
        torch.manual_seed(seed)
        found.append(rest.features(network, order))
    again = found[1].flip(0)
    return again if _apart(found[0], again) <= _near(images) * float(found[0].abs().max()) else None


def _agrees(rest: Rest, features: Tensor, logits: Tensor) -> bool:
    """Say whether the rest makes the network's logits, which were drawn under SEEDS[0], of the features."""
    torch.manual_seed(SEEDS[0])
    try:
        again = rest(features)
    except ERRORS:
        return False
    near = _near(features) * max(1.0, float(logits.abs().max()))
    return again.shape == logits.shape and _apart(again, logits) <= near


def _near(values: Tensor) -> float:
    """Return how far results may lie apart under the present precision."""
    return ROUNDED if torch.is_autocast_enabled(values.device.type) else EXACT


def _apart(one: Tensor, other: Tensor) -> float:
    """Return the largest difference, infinite where a value is none."""
    found = float((one.float() - other.float()).abs().max())
    return found if found == found else float("inf")


@contextmanager
def _buffers_kept(network: nn.Module) -> Iterator[None]:
    """Give every buffer its value back at the end: a batch norm in train mode learns from whatever it sees."""
    kept = [(buffer, buffer.clone()) for buffer in network.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in kept:
                buffer.copy_(value)
