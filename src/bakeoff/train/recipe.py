"""Recipe and Stage: how a network is trained, as data."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from bakeoff.data.augment import AugmentName
from bakeoff.data.mix import MIXES
from bakeoff.train.gap import GapRule

LAYERS = re.compile(r"all|head|backbone|last [1-9][0-9]{0,3}")


class Stage(BaseModel):
    """A stretch of training: which layers learn, at which rate, for how long.

    `layers` is "all", "head" (the last layer group), "backbone" (all the others) or "last N" (the head and the N - 1
    groups before it); layers outside are frozen, their batch-norm statistics too.  `rate` is the peak learning rate;
    `schedule` leads from it to its end over the stage's own steps: "constant"; "cosine" to 0; "step" times 0.1 after
    each third.  `head_rate` is the head's own peak rate; a group that lies d groups before the head learns at
    rate * decay ** d.  `warmup` is the share of the stage spent rising linearly from 0.  `epochs` None: what the
    recipe's epochs leave over (one stage at most).  `until` ends the stage when the gap between training and
    validation opens: the weights of the last epoch before it did are taken up again, and the next stage begins with
    them; `epochs` are then the most that the stage may take.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    layers: str = "all"
    rate: float = Field(1e-3, gt=0)
    head_rate: float | None = Field(None, gt=0)
    decay: float = Field(1.0, gt=0, le=1)
    schedule: Literal["constant", "cosine", "step"] = "cosine"
    warmup: float = Field(0.0, ge=0, lt=1)
    epochs: int | None = Field(None, ge=1)
    until: GapRule | None = None

    @field_validator("layers")
    @classmethod
    def _known(cls, given: str) -> str:
        """Refuse other names of layers."""
        if not LAYERS.fullmatch(given):
            raise ValueError(f'expected "all", "head", "backbone" or "last N" (as in "last 3"), got {given!r}')
        return given

    @field_validator("until", mode="before")
    @classmethod
    def _ends(cls, given: object) -> object:
        """Accept "end" for no rule."""
        return None if given == "end" else given

    @model_validator(mode="after")
    def _learning(self) -> Stage:
        """A rate for the head needs a head that learns beside other layers."""
        if self.head_rate is not None and self.layers in ("head", "backbone", "last 1"):
            raise ValueError(f'head_rate is for stages that train more than the head; with "{self.layers}" use rate')
        return self


class Recipe(BaseModel):
    """Epochs, batch, optimiser, loss options, augmentation, and stages.

    `checkpoint` is the rule for the weights handed over: "last" epoch, or "best" epoch by validation headline (which
    an early stop needs).  `ema` is the decay of an exponential moving average of the weights that is then what is
    validated and handed over.  `early_stop` is the number of epochs without a better validation headline.
    `derived` names the methods whose images (offline expansion) are trained on beside the originals: "all", none, or
    some; an epoch stays as long as without them.
    `loss` is one of the task's own names, see docs/study.md.  `mixup`, `cutmix` and `cutmix_within` are the
    alpha of the Beta distribution (0: off; classification alone), `mosaic` (boxes and instances) and `copy_paste`
    (instances) the share of images that they change, see data/mix.py.  `class_weights` weighs the loss by inverse
    class frequency, `balanced` draws every class equally often.  `clip` is the largest gradient norm.  `frozen` names
    layers that no stage trains on purpose.  `norm_statistics` "frozen" keeps the batch-norm means and variances that
    the weights came with: batches of a few images estimate them badly, so pretrained networks on little data gain by
    it.  `label_noise` is the share of training labels that are shuffled among themselves: a planted handicap, to see
    what wrong labels cost.
    `copies` above 0 gives every image so many fixed draws of the augmentation, which the epochs take in turn; with 0
    every epoch draws anew.  `cache_features` computes what the frozen backbone gives once (per copy) for the stages
    that train the head alone, and keeps it on the disk while they last: the same result in less time (classification).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    epochs: int = Field(20, ge=1)
    batch: int = Field(32, ge=1)
    optimiser: Literal["adamw", "adam", "sgd"] = "adamw"
    weight_decay: float = Field(0.01, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    clip: float | None = Field(None, gt=0)
    augment: AugmentName = "standard"
    derived: tuple[str, ...] = ("all",)
    loss: str = "default"
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    class_weights: bool = False
    balanced: bool = False
    mixup: float = Field(0.0, ge=0)
    cutmix: float = Field(0.0, ge=0)
    cutmix_within: float = Field(0.0, ge=0)
    mosaic: float = Field(0.0, ge=0, le=1)
    copy_paste: float = Field(0.0, ge=0, le=1)
    label_noise: float = Field(0.0, ge=0, le=1)
    ema: float | None = Field(None, gt=0, lt=1)
    early_stop: int | None = Field(None, ge=1)
    checkpoint: Literal["last", "best"] = "last"
    norm_statistics: Literal["batch", "frozen"] = "batch"
    frozen: Literal["none", "head", "backbone"] = "none"
    stages: tuple[Stage, ...] = (Stage(warmup=0.1),)
    copies: int = Field(0, ge=0)
    cache_features: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        """Stages must fill the epochs and cover the layers, and an early stop needs the best checkpoint."""
        open_ended = [stage for stage in self.stages if stage.epochs is None]
        fixed = sum(stage.epochs or 0 for stage in self.stages)
        if not self.stages:
            raise ValueError("a recipe needs at least one stage")
        if len(open_ended) > 1 or (open_ended and fixed >= self.epochs) or (not open_ended and fixed != self.epochs):
            raise ValueError(f"the stages' epochs ({fixed}) must add up to epochs = {self.epochs}; one may be left out")
        if self.early_stop is not None and self.checkpoint != "best":
            raise ValueError('early_stop needs checkpoint = "best"')
        if self.stages[-1].until is not None:
            raise ValueError("the last stage has no stage to lead to: leave its until out, or use early_stop")
        _refuse_uncovered(self.stages, self.frozen)
        return self

    @model_validator(mode="after")
    def _cacheable(self) -> Recipe:
        """Features stand in for images only where these come back unchanged, before a head that learns alone."""
        if not self.cache_features:
            return self
        if all(stage.layers not in ("head", "last 1") for stage in self.stages):
            raise ValueError('cache_features needs a stage that trains the head alone: layers = "head"')
        if self.augment != "none" and not self.copies:
            raise ValueError('cache_features needs the same images again: set copies = 3, say, or augment = "none"')
        if mixing := [name for name in MIXES if getattr(self, name)]:
            raise ValueError(f"cache_features cannot mix images, only what comes of them; set {mixing[0]} = 0")
        return self


def _refuse_uncovered(stages: tuple[Stage, ...], frozen: str) -> None:
    """Raise ValueError naming the layers that no stage trains, unless they are frozen on purpose."""
    named = {stage.layers for stage in stages}
    if "all" in named:
        return
    last = max((int(layers.removeprefix("last ")) for layers in named if layers.startswith("last")), default=0)
    head, backbone = "head" in named or last > 0, "backbone" in named
    if not head and frozen != "head":
        raise ValueError('no stage trains the head; add one, or say frozen = "head"')
    if not backbone and frozen != "backbone":
        which = f"layer groups before the last {last}" if last > 1 else "backbone"
        raise ValueError(f'no stage trains the {which}; add one that does, or say frozen = "backbone"')
