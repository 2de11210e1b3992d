"""Recipe and Stage: how a network is trained, as data."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from bakeoff.data.augment import AugmentName

Layers = Literal["all", "head", "backbone"]


class Stage(BaseModel):
    """A stretch of training: which layers learn, at which rate, for how long.

    `layers` is "all", "head" (the last layer group) or "backbone" (all the others); layers outside are frozen, their
    batch-norm statistics too.  `rate` is the peak learning rate; `schedule` leads from it to its end over the stage's
    own steps: "constant"; "cosine" to 0; "step" times 0.1 after each third.  `warmup` is the share of the stage spent
    rising linearly from 0.  `epochs` None: what the recipe's epochs leave over (one stage at most).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    layers: Layers = "all"
    rate: float = Field(1e-3, gt=0)
    schedule: Literal["constant", "cosine", "step"] = "cosine"
    warmup: float = Field(0.0, ge=0, lt=1)
    epochs: int | None = Field(None, ge=1)


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
        trained = {stage.layers for stage in self.stages}
        covered = {"head", "backbone"} if "all" in trained else trained
        if missing := {"head", "backbone"} - covered - {self.frozen}:
            layer = missing.pop()
            raise ValueError(f'no stage trains the {layer}; add one, or say frozen = "{layer}"')
        return self
