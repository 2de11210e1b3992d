"""The receptive field: the pixels that one place of a layer can see at all, whatever the image and the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from bakeoff.explain.guided import PLAIN
from bakeoff.explain.layers import as_grid, output_of
from bakeoff.models.spec import Network

Field = tuple[int, int, int, int]  # left, top, right, bottom in the image's pixels; the last two lie outside
BOUNDED = (F.relu6, F.hardtanh, F.hardswish, F.hardsigmoid)


class Open(TorchFunctionMode):
    """While it is active no ReLU is closed and every max pooling averages.

    So the gradient of a place reaches every pixel that the place could see, and not only those that happen to count.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch's, or its open twin."""
        given = dict(kwargs or {})
        if func in PLAIN or func in BOUNDED:
            return args[0] if args else given["input"]
        if func in (F.max_pool2d, torch.max_pool2d):
            return _averaged(*args, **given)
        return func(*args, **given)


def _averaged(*args: Any, **named: Any) -> Tensor:
    """Average where F.max_pool2d would take the maximum; a window with holes (dilation) is taken without them."""
    given = (
        dict(zip(("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode"), args, strict=False)) | named
    )
    kernel, holes = (_pair(given.get(name, 1)) for name in ("kernel_size", "dilation"))
    window = (holes[0] * (kernel[0] - 1) + 1, holes[1] * (kernel[1] - 1) + 1)
    stride = given.get("stride") or kernel
    return F.avg_pool2d(given["input"], window, stride, given.get("padding", 0), given.get("ceil_mode", False))


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    """Return a size of a window as (height, width)."""
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def receptive_field(network: Network, layer: str, place: tuple[int, int], image: Tensor) -> Field:
    """Return the bounding box of the pixels that a place (row, column) of a layer's map can see in (1, 3, S, S).

    It is cut at the image's edges.  Behind global attention, or a gate that is made of the whole map, it is the image.
    """
    watched = image.detach().clone().requires_grad_()
    with torch.enable_grad(), Open():
        grid = as_grid(output_of(network, layer, watched))
        assert grid is not None
        shares = torch.linspace(1, 2, len(grid), device=grid.device)  # unequal: behind a layer norm the sum is constant
        (gradient,) = torch.autograd.grad((shares * grid[:, place[0], place[1]]).sum(), watched)
    seen = gradient[0].abs().sum(dim=0) > 0
    rows, columns = seen.any(dim=1).nonzero().flatten(), seen.any(dim=0).nonzero().flatten()
    if not len(rows):
        return 0, 0, image.shape[-1], image.shape[-2]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
