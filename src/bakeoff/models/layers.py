"""What a network is made of and what it costs: the layer table, and floating-point operations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from os.path import commonpath
from pathlib import PurePosixPath
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bakeoff.data.dataset import TaskName
from bakeoff.models import TASK_NAMES, build, find, resolve
from bakeoff.models.spec import ModelSpec, Network

MEGABYTE = 2**20
BYTES = 4  # of a float32


@dataclass(frozen=True)
class Layer:
    """One call of a layer: the shape is for one image, without the batch; parameters count at the first call."""

    name: str
    type: str
    shape: tuple[int, ...]
    parameters: int


@dataclass(frozen=True)
class LayerTable:
    """Rows in order of execution and sums over them, for one image in float32; 1 MB is 2**20 bytes.

    `forward_backward_mb` counts every row's output twice (value and gradient), as torchsummary does.  The totals are
    of the whole network: `other_parameters` are those that no row holds, such as a transformer's class token.
    """

    rows: tuple[Layer, ...]
    total_parameters: int
    trainable_parameters: int
    forward_backward_mb: float
    parameters_mb: float
    input_mb: float
    groups: tuple[str, ...] = ()  # the layer groups that stages speak of, from stem to head

    @property
    def other_parameters(self) -> int:
        """Parameters held outside of the listed layers."""
        return self.total_parameters - sum(row.parameters for row in self.rows)


def layer_table(network: nn.Module, size: int) -> LayerTable:
    """Run one image of `size` pixels in evaluation mode and write down what every leaf module returned.

    A module that uses parameters without calling the layers that hold them (attention does) has a row of its own.
    """
    body = network.body if isinstance(network, Network) else network
    notes = _Notes()
    hooks = [layer.register_forward_hook(partial(notes, name, leaf)) for name, layer, leaf in _layers(body)]
    try:
        _run(network, size)
    finally:
        for hook in hooks:
            hook.remove()
    total = parameters(network)
    return LayerTable(
        rows=tuple(notes.rows),
        total_parameters=total,
        trainable_parameters=sum(p.numel() for p in network.parameters() if p.requires_grad),
        forward_backward_mb=2 * notes.elements * BYTES / MEGABYTE,
        parameters_mb=total * BYTES / MEGABYTE,
        input_mb=3 * size * size * BYTES / MEGABYTE,
        groups=group_names(network) if isinstance(network, Network) else (),
    )


def group_names(network: Network) -> tuple[str, ...]:
    """Name every layer group by the module that holds it alone, or by the module of its first parameter."""
    paths = [[PurePosixPath(*name.split(".")[:-1] or [name]) for name in group] for group in network.groups]
    holders = [commonpath(modules) for modules in paths]
    found = zip(holders, paths, strict=True)
    names = (holder if holder and holders.count(holder) == 1 else str(modules[0]) for holder, modules in found)
    return tuple(name.replace("/", ".") for name in names)


class _Notes:
    """The forward hook of every layer, and what it wrote down."""

    def __init__(self) -> None:
        self.rows: list[Layer] = []
        self.elements = 0
        self.seen: set[int] = set()

    def __call__(self, name: str, leaf: bool, layer: nn.Module, _given: Any, output: Any) -> None:
        """Add a row for a leaf, and for another module only where it used parameters that no row has yet."""
        own = [parameter for parameter in layer.parameters() if id(parameter) not in self.seen]
        if not (leaf or own):
            return
        self.seen.update(map(id, own))
        tensors = list(_tensors(output))
        if leaf or not any(row.name.startswith(f"{name}.") for row in self.rows):
            self.elements += sum(tensor.numel() for tensor in tensors)
        shape = tuple(tensors[0].shape[1:]) if tensors else ()
        self.rows.append(Layer(name, type(layer).__name__, shape, sum(p.numel() for p in own)))


def describe(spec: ModelSpec, classes: int, size: int, task: TaskName | None = None) -> tuple[LayerTable, int]:
    """Return the layer table and the FLOPs of a spec; nothing is computed or downloaded, however large the network.

    `task` None: the first that there is such an architecture for.
    """
    spec = resolve(spec, task)
    family = find(spec.arch, spec.source, task)
    fitting = TASK_NAMES if task is None else (task,)
    chosen = next(one for one in fitting if family.has(spec.arch, one))
    with torch.device("meta"):
        network = build(spec.model_copy(update={"weights": "none"}), classes, size, chosen)
        return layer_table(network, size), flops(network, size)


def parameters(network: nn.Module) -> int:
    """Return the number of parameters, trainable or not; shared ones count once."""
    return sum(parameter.numel() for parameter in network.parameters())


def flops(network: nn.Module, size: int) -> int:
    """Return the floating-point operations of the forward pass for one image.

    A multiply-accumulate counts as 2 operations (ViT-S/16 at 224 pixels: 4.6 GMAC, 9.2 GFLOPs); counted are matrix
    products, convolutions and attention, by torch.utils.flop_counter.
    """
    counter = FlopCounterMode(display=False)
    learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in learned:  # the counter asks inputs of modules for their gradient's function, parameters have none
        parameter.requires_grad_(False)
    try:
        with _open_attention(), counter:
            _run(network, size)
    finally:
        for parameter in learned:
            parameter.requires_grad_(True)
    return int(counter.get_total_flops())


@contextmanager
def _open_attention() -> Iterator[None]:
    """Make attention run as plain matrix products: the fused kernels of the processor are not counted."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _run(network: nn.Module, size: int) -> None:
    """Run one image in evaluation mode; modes are restored.  Detectors run on fixed numbers of objects."""
    run = getattr(network.body, "trace", network) if isinstance(network, Network) else network
    modes = [(module, module.training) for module in network.modules()]
    reference = next(network.parameters(), torch.empty(0))
    network.eval()
    try:
        with torch.no_grad():
            run(torch.zeros(1, 3, size, size, device=reference.device))
    finally:
        for module, training in modes:
            module.training = training


def _layers(body: nn.Module) -> Iterator[tuple[str, nn.Module, bool]]:
    """Yield every module below the body and whether it is a leaf.

    A module that holds all of its parameters itself (a norm with its activation) is a leaf; its children are left out.
    """
    inside: set[str] = set()
    for name, module in body.named_modules():
        own = sum(1 for _ in module.parameters(recurse=False))
        leaf = next(module.children(), None) is None or 0 < own == sum(1 for _ in module.parameters())
        if name.rpartition(".")[0] in inside or (leaf and name):
            inside.add(name)
        if name and name.rpartition(".")[0] not in inside:
            yield name, module, leaf


def _tensors(output: Any) -> Iterator[Tensor]:
    """Yield the tensors in a layer's output."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, list | tuple):
        for part in output:
            yield from _tensors(part)
    elif isinstance(output, dict):
        for part in output.values():
            yield from _tensors(part)
