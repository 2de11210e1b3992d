"""Guided backpropagation: the gradient of the image, where every ReLU lets only positive gradients pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from bakeoff.data.dataset import TaskName
from bakeoff.explain.explainer import Explanation, Options, Picture
from bakeoff.explain.paint import around_grey
from bakeoff.explain.subject import Subject
from bakeoff.models.spec import Network

NAME = "guided"
TITLE = "Guided backpropagation"
SOURCE = "Springenberg et al. 2015, Striving for Simplicity: The All Convolutional Net"
PLAIN: tuple[Callable[..., Any], ...] = (F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_)


class GuidedRelu(torch.autograd.Function):
    """ReLU, cut at `most`; its backward pass also drops negative gradients."""

    @staticmethod
    def forward(context: Any, values: Tensor, most: float) -> Tensor:
        """Return values in 0 to `most`."""
        context.save_for_backward((values > 0) & (values < most))
        return values.clamp(0, most)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Let a gradient pass where it is positive and its value was between the bounds."""
        (open_,) = context.saved_tensors
        return gradients[0].clamp(min=0) * open_, None


class Guided(TorchFunctionMode):
    """While it is active every ReLU and ReLU6, as a module or a function, is a GuidedRelu; `met` counts them.

    Hooks on modules (Captum's way) see neither functions nor ReLU6, and break on those that work in place.
    """

    def __init__(self) -> None:
        """Start counting at 0."""
        super().__init__()
        self.met = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch's, or GuidedRelu in its place."""
        given = dict(kwargs or {})
        most = _ceiling(func, args, given)
        if most is None:
            return func(*args, **given)
        self.met += 1
        return GuidedRelu.apply(args[0] if args else given["input"], most)


def _ceiling(func: Callable[..., Any], args: Sequence[Any], given: Mapping[str, Any]) -> float | None:
    """Return where a ReLU ends, infinity for the plain one; None for any other function."""
    if func in PLAIN:
        return math.inf
    if func is F.relu6:
        return 6.0
    if func is F.hardtanh:  # what nn.ReLU6 calls
        low = args[1] if len(args) > 1 else given.get("min_val", -1.0)
        high = args[2] if len(args) > 2 else given.get("max_val", 1.0)
        return float(high) if low == 0 else None
    return None


def applies(network: Network, task: TaskName, image: Tensor) -> str:  # noqa: ARG001
    """It changes how ReLUs send gradients back, so there must be some."""
    with torch.no_grad(), Guided() as mode:
        network(image)
    return "" if mode.met else "none of its activations is a ReLU, whose gradients it would change"


def explain(network: Network, image: Tensor, subject: Subject, options: Options) -> Explanation:  # noqa: ARG001
    """Return the guided gradient's largest magnitude over the colours, and the gradient as a picture around grey."""
    watched = image.detach().clone().requires_grad_()
    with torch.enable_grad(), Guided():
        (gradient,) = torch.autograd.grad(subject.value(network, watched).sum(), watched)
    found = gradient[0].detach().float().cpu().numpy()
    picture = Picture(around_grey(found.transpose(1, 2, 0)), "the guided gradient, around grey")
    return Explanation(abs(found).max(axis=0), pictures=(picture,))
