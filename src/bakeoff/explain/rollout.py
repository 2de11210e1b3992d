"""Attention rollout: from which patches a vision transformer's answer has gathered, block after block."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from bakeoff.data.dataset import TaskName
from bakeoff.explain.explainer import Explanation, Options
from bakeoff.explain.layers import MOST_TOKENS, enlarged
from bakeoff.explain.subject import Subject
from bakeoff.models.spec import Network

NAME = "rollout"
TITLE = "Attention rollout"
SOURCE = "Abnar and Zuidema 2020, Quantifying Attention Flow in Transformers"
FUSED = "fused_attn"  # timm's name for: use torch's attention function


class Attentions(TorchFunctionMode):
    """While it is active the attention matrices of all blocks are kept: `found`, each (B, N, N), heads averaged."""

    def __init__(self) -> None:
        """Start with none."""
        super().__init__()
        self.found: list[Tensor] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch's, and keep what attention it pays."""
        given = dict(kwargs or {})
        if func is F.scaled_dot_product_attention:
            self._keep(*args, **given)
        elif func is F.multi_head_attention_forward:
            mixed, weights = func(*args, **{**given, "need_weights": True, "average_attn_weights": True})
            self.found.append(weights.detach().float())
            return mixed, weights if given.get("need_weights", True) else None
        return func(*args, **given)

    def _keep(self, query: Tensor, key: Tensor, _value: Tensor, attn_mask: Tensor | None = None, **given: Any) -> None:
        """Compute the weights once more: the fused function does not return them."""
        scale = given.get("scale") or 1 / math.sqrt(query.shape[-1])
        scores = (query * scale) @ key.transpose(-2, -1)
        if attn_mask is not None:
            scores = scores.masked_fill(~attn_mask, -math.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
        weights = scores.float().softmax(dim=-1).detach()
        self.found.append(weights.mean(dim=1) if weights.ndim == 4 else weights)


def attentions(network: Network, image: Tensor) -> list[Tensor]:
    """Return the attention matrices (N, N) of all blocks, in order."""
    with torch.no_grad(), _fused(network), Attentions() as mode:
        network(image)
    return [weights[0] for weights in mode.found if len(weights) == 1]


def applies(network: Network, task: TaskName, image: Tensor) -> str:
    """It follows one set of tokens from the first block to the last, each looking at all others."""
    if task != "classification":
        return f"it tells where a whole image's answer comes from, and the task is {task}"
    found = attentions(network, image)
    if not found:
        return "it has no attention of every patch to every other"
    lengths = {tuple(weights.shape) for weights in found}
    count = found[0].shape[-1]
    if len(lengths) > 1 or count - math.isqrt(count) ** 2 > MOST_TOKENS or found[0].shape[0] != count:
        return "its blocks do not all see the same square grid of patches"
    return ""


def explain(network: Network, image: Tensor, subject: Subject, options: Options) -> Explanation:  # noqa: ARG001
    """Return how much of every patch reaches the class token; without one, the mean over all tokens.

    Rollout is the product over blocks of (attention + identity) / 2, rows normalised, heads averaged.  It knows nothing
    of classes: the map is the same for all.
    """
    found = attentions(network, image)
    count = found[0].shape[-1]
    flow = torch.eye(count, device=image.device)
    for weights in found:
        mixed = weights + torch.eye(count, device=image.device)
        flow = (mixed / mixed.sum(dim=-1, keepdim=True)) @ flow
    side = math.isqrt(count)
    extra = count - side * side
    row = flow[0] if extra else flow.mean(dim=0)
    grid = row[extra:].reshape(side, side)
    note = f"{len(found)} blocks, {side} x {side} patches; the same for every class"
    return Explanation(enlarged(grid, network, image.shape[-1]), note=note)


@contextmanager
def _fused(network: nn.Module) -> Iterator[None]:
    """Let timm's blocks call torch's attention function, where they would write it out."""
    kept = [(module, getattr(module, FUSED)) for module in network.modules() if hasattr(module, FUSED)]
    for module, _ in kept:
        setattr(module, FUSED, True)
    try:
        yield
    finally:
        for module, value in kept:
            setattr(module, FUSED, value)
