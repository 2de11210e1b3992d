"""ModelSpec says which network; Network is what every family builds from one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator
from torch import Tensor, nn

Source = Literal["small", "torchvision", "timm", "smp", "classics", "detectors", "transformers", "python"]


class Head(BaseModel):
    """What stands between the last feature map and the logits.

    `pool` "default" keeps the architecture's own head unless `hidden` or `dropout` is set; otherwise the feature map is
    pooled (avg, max, avgmax) or flattened, then one linear layer with ReLU and dropout per entry of `hidden`, then the
    linear classifier.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    pool: Literal["default", "avg", "max", "avgmax", "flatten"] = "default"
    hidden: tuple[int, ...] = ()
    dropout: float = Field(0.0, ge=0, lt=1)


class ModelSpec(BaseModel):
    """One network: `arch` from `source` (looked up in all families when None), with `weights` and a `head`.

    `weights` is "none", "pretrained" (the family's published weights) or a path to a .safetensors, .pth or .pt file;
    left out it is "none" for small and python networks and "pretrained" for the others.  `size` is the input side in
    pixels (None: the study's).  `licence` is what the user knows of the licence of a weights file that states none
    itself.  `options` go to the architecture's constructor.  With source "python", `arch` is
    "path/to/file.py:function", called as function(classes=..., size=..., **options) and returning an nn.Module.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    arch: str
    source: Source | None = None
    weights: str = ""
    size: int | None = Field(None, ge=8)
    licence: str | None = None
    head: Head = Head()
    options: dict[str, JsonValue] = {}

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, given: object) -> object:
        """Accept 'source:arch@weights' for arch, and fill in the default of `weights`."""
        return split_arch(given) if isinstance(given, dict) else given


def split_arch(given: dict[str, Any]) -> dict[str, Any]:
    """Take a spec's short form 'source:arch@weights' apart and fill in the default of `weights`.

    >>> split_arch({"arch": "small:cnn"})
    {'arch': 'cnn', 'source': 'small', 'weights': 'none'}
    """
    filled = dict(given)
    arch, _, weights = str(filled.get("arch", "")).partition("@")
    prefix, _, rest = arch.partition(":")
    if prefix in get_args(Source) and rest:
        filled["source"], arch = prefix, rest
    if arch.partition(":")[0].endswith(".py"):
        filled["source"] = "python"
    own = filled.get("source") in ("small", "python")
    filled["arch"] = arch
    filled["weights"] = filled.get("weights") or weights or ("none" if own else "pretrained")
    return filled


@dataclass(frozen=True)
class Card:
    """Where weights come from: their licence, the data they were trained on, and a page; None where not stated.

    `pretraining` is "none" for a random start; `loaded` says which tensors of a file were taken and which left out.
    """

    licence: str | None = None
    pretraining: str | None = None
    url: str | None = None
    loaded: str | None = None


class Network(nn.Module):
    """images (B, 3, H, W), float in 0..1, RGB -> what the task needs; normalisation is part of the network.

    classification  logits (B, classes); in train mode it may give a list of (share, logits) instead, its own logits
                    first: the loss is the sum of share x loss (auxiliary classifiers)
    semantic        logits (B, classes, H, W)
    detection       network(images, targets) gives a dict of losses (scalars; targets as in load.Batch, labels from 0)
                    network(images) in eval mode a list of B dicts: boxes (N, 4) float x1 y1 x2 y2 in the images'
                    pixels, labels (N,) int64 from 0, scores (N,) falling; at most 100 objects
    instance        the same with masks (N, H, W) float in 0..1, the probability that a pixel belongs to the object

    `groups` are the names of `body`'s parameters in layer groups ordered from stem to head; together they cover every
    parameter exactly once, and the last group is the head.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        body: nn.Module,
        groups: tuple[tuple[str, ...], ...],
        mean: tuple[float, ...] = (0.5, 0.5, 0.5),
        std: tuple[float, ...] = (0.5, 0.5, 0.5),
        card: Card = Card(),
    ) -> None:
        """Wrap a body that takes normalised images; mean and std have 3 values."""
        super().__init__()
        self.body, self.groups, self.card = body, groups, card
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor, targets: list[dict[str, Tensor]] | None = None) -> Any:
        """Normalise, then run the body; `targets` are for detection and instances alone."""
        normal = (images - self.mean) / self.std
        return self.body(normal) if targets is None else self.body(normal, targets)

    @property
    def loaded(self) -> str | None:
        """Say which tensors of a weights file were taken; None when there was no file."""
        return self.card.loaded
