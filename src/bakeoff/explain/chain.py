"""A network as a plain chain of layers, and the way back through each of them (Zeiler & Fergus 2014, section 2.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.grad import conv2d_input

from bakeoff.explain.layers import as_grid, no_layer
from bakeoff.models.spec import Network


@dataclass(frozen=True)
class Step:
    """One layer of a chain as it ran: its `name` in the body, the shape of what it was `given`, its `output`.

    `switches` are a max pooling's: for every place of its output, where in its input the maximum stood.
    """

    name: str
    module: Any
    given: torch.Size
    output: Tensor
    switches: Tensor | None = None


def transposed(step: Step, signal: Tensor) -> Tensor:
    """Go back through a convolution: its filters transposed, without the bias."""
    conv = step.module
    how = (conv.stride, conv.padding, conv.dilation, conv.groups)
    given: Tensor = conv2d_input(step.given, conv.weight, signal, *how)
    return given


def unpooled(step: Step, signal: Tensor) -> Tensor:
    """Put every value back where its maximum was taken from; what was no maximum is 0.

    The windows of AlexNet and ZFNet overlap, so several values may come from one place.  They are summed there, as
    they were all made of it: F.max_unpool2d would keep one of them, and which one is not defined.
    """
    assert step.switches is not None
    flat = signal.new_zeros(step.given).flatten(2)
    return flat.scatter_add(2, step.switches.flatten(2), signal.flatten(2)).view(step.given)


def rectified(_step: Step, signal: Tensor) -> Tensor:
    """Go back through a ReLU as forwards: what is below 0 is cut, whatever was cut on the way there."""
    return signal.relu()


def scaled(step: Step, signal: Tensor) -> Tensor:
    """Go back through a batch norm: its scale without its shift, as if it were part of the filters before it."""
    norm = step.module
    scale = (norm.running_var + norm.eps).rsqrt() * (1.0 if norm.weight is None else norm.weight)
    given: Tensor = signal * scale.view(1, -1, 1, 1)
    return given


def unchanged(_step: Step, signal: Tensor) -> Tensor:
    """Go back through what is none in use (dropout), or what the paper leaves out: normalisation of contrast."""
    return signal


WAYS: Mapping[type[nn.Module], Callable[[Step, Tensor], Tensor]] = {
    nn.Conv2d: transposed,
    nn.MaxPool2d: unpooled,
    nn.ReLU: rectified,
    nn.BatchNorm2d: scaled,
    nn.LocalResponseNorm: unchanged,
    nn.Dropout: unchanged,
    nn.Dropout2d: unchanged,
    nn.Identity: unchanged,
}
AVERAGES = (nn.AvgPool2d, nn.AdaptiveAvgPool2d)


@dataclass
class Chain:
    """The layers of a network that ran one after the other, as far as each was given what the one before it made.

    `why` says why there is no way back through the network: "" where nothing but poolings to one size and linear
    layers follow behind the chain.
    """

    steps: list[Step] = field(default_factory=list)
    why: str = ""

    def up_to(self, layer: str) -> list[Step]:
        """Return the steps up to a layer, or up to the last one inside a module of this name.

        Without a name up to the last one that keeps places apart.  Raises UsageError for a name that there is not.
        """
        if not layer:
            kept = [place for place, step in enumerate(self.steps) if as_grid(step.output) is not None]
            return self.steps[: max(kept, default=len(self.steps) - 1) + 1]
        for place in reversed(range(len(self.steps))):
            if f"{self.steps[place].name}.".startswith(f"{layer}."):
                return self.steps[: place + 1]
        names = list(dict.fromkeys(step.name for step in self.steps))
        raise no_layer(layer, names, "in its chain")


def back(steps: list[Step], signal: Tensor) -> Tensor:
    """Send a signal, of the shape of the last step's output, back through all steps to the normalised image."""
    for step in reversed(steps):
        signal = WAYS[type(step.module)](step, signal)
    return signal


@torch.no_grad()
def chain(network: Network, image: Tensor) -> Chain:
    """Watch an image (1, 3, S, S) go through a network in eval mode, layer by layer."""
    walk = _Walk()
    handles = [network.body.register_forward_pre_hook(walk.enter)]
    for name, module in _layers(network.body):
        handles.append(module.register_forward_pre_hook(walk.before))
        handles.append(module.register_forward_hook(walk.behind(name)))
    try:
        network(image)
    finally:
        for handle in handles:
            handle.remove()
    if not any(isinstance(step.module, nn.Conv2d) for step in walk.found.steps):
        return Chain([], walk.broken or "none of its layers is a convolution")
    return Chain(walk.found.steps, walk.broken if walk.more else "")


def _layers(module: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules that compute something themselves: without children, or with parameters of their own."""
    for name, child in module.named_children():
        whole = f"{path}.{name}" if path else name
        if not any(True for _ in child.children()) or any(True for _ in child.parameters(recurse=False)):
            yield whole, child
        else:
            yield from _layers(child, whole)


class _Walk:
    """Follows one tensor from layer to layer.

    What a layer gives is passed on as a copy.  The next layer must be given that very copy, and nobody may have written
    to it: then nothing was computed in between, neither a sum nor a function.
    """

    def __init__(self) -> None:
        """Start in front of the body."""
        self.found = Chain()
        self.broken, self.more = "", False  # why the chain ended; whether a layer behind its end keeps places apart
        self.latest: Tensor | None = None  # what the last layer gave
        self.passed: Tensor | None = None  # its copy
        self.joined = False

    def enter(self, _body: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Take the normalised images as what is passed to the first layer."""
        if not isinstance(given[0], Tensor):
            return None
        return (self._pass(given[0]), *given[1:])

    def _pass(self, output: Tensor) -> Tensor:
        """Keep a layer's output and return the copy that goes on."""
        self.latest, self.passed = output, output.clone()
        return self.passed

    def before(self, _module: nn.Module, given: tuple[Any, ...]) -> None:
        """Compare what a layer is given with what was passed on."""
        self.joined = bool(given) and isinstance(given[0], Tensor) and given[0] is self.passed and not given[0]._version

    def behind(self, name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], Any]:
        """Return the hook that adds a layer to the chain, or ends it."""

        def hook(module: nn.Module, _given: tuple[Any, ...], output: Any) -> Any:
            self.broken = self.broken or self._obstacle(name, module)
            if self.broken:
                own = any(True for _ in module.parameters())
                self.more = self.more or (own and as_grid(output) is not None)
                return None
            assert self.latest is not None
            self.found.steps.append(Step(name, module, self.latest.shape, output, _switches(module, self.latest)))
            return self._pass(output)

        return hook

    def _obstacle(self, name: str, module: nn.Module) -> str:
        """Say why there is no way back through a layer; "" where there is one."""
        if isinstance(module, AVERAGES):
            return f"{name} averages over places, and an average has no switches to go back by"
        if type(module) not in WAYS:
            known = "convolutions, batch norm, ReLU and max pooling"
            return f"{name} is a {type(module).__name__}, and the way back leads through {known} alone"
        if not self.joined:
            last = self.found.steps[-1].name if self.found.steps else "the image"
            return f"{name} is given more than {last} alone: something is computed in between, such as a residual's sum"
        if isinstance(module, nn.Conv2d) and (module.padding_mode != "zeros" or isinstance(module.padding, str)):
            return f"{name} pads its input in a way of its own ({module.padding_mode}, {module.padding})"
        if isinstance(module, nn.BatchNorm2d) and module.running_var is None:
            return f"{name} has no scale of its own: it normalises by the image at hand"
        if isinstance(module, nn.MaxPool2d) and module.return_indices:
            return f"{name} gives its switches to another layer"
        return ""


def _switches(module: nn.Module, given: Tensor) -> Tensor | None:
    """Return a max pooling's switches: indices into the flattened map of each channel."""
    if not isinstance(module, nn.MaxPool2d):
        return None
    how = (module.kernel_size, module.stride, module.padding, module.dilation)
    switches: Tensor = nn.MaxPool2d(*how, return_indices=True, ceil_mode=module.ceil_mode)(given)[1]
    return switches
