"""Feature maps at chosen strides from any timm architecture, with its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bakeoff.errors import UsageError, nearest
from bakeoff.models import from_timm, weights
from bakeoff.models.head import first_line
from bakeoff.models.spec import Card, ModelSpec


@dataclass(frozen=True)
class Maps:
    """A module images -> list of maps (B, C, H, W), one for each of `strides`, finest first; normalisation and card.

    A plain transformer has one stride, `plain` then says of how many channels; its map is to be rescaled.
    """

    trunk: nn.Module
    strides: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    card: Card
    plain: int = 0


def feature_maps(spec: ModelSpec, size: int, wanted: Sequence[int]) -> Maps:
    """Build timm's `spec.arch` up to its feature maps at the strides in `wanted`, those of them that it has.

    `size` is the input side in pixels; `spec.options` and `spec.weights` are as for a classifier.  Raises UsageError
    for an architecture that timm lacks or that gives no maps, ResourceError and WeightsMismatch for weights.
    """
    import timm

    name = spec.arch
    if not timm.is_model(name):
        raise UsageError(f"timm has no backbone {name!r}{nearest(name, timm.list_models())}; bakeoff models lists them")
    with torch.device("meta"):  # the layout alone: no weight is made
        layout: Any = _create(spec, size)
    info = layout.feature_info.info
    places = {int(one["reduction"]): place for place, one in enumerate(info)}  # the last map of each stride
    if len(places) == 1:
        stride, place = next(iter(places.items()))
        strides: tuple[int, ...] = (stride,)
        plain = int(info[place]["num_chs"])
    else:
        strides, plain = tuple(stride for stride in sorted(places) if stride in wanted), 0
    if not strides or any(stride & (stride - 1) for stride in strides):  # patches of 14 pixels
        has, needed = ", ".join(map(str, sorted(places))), ", ".join(map(str, wanted))
        raise UsageError(
            f"timm:{name} has feature maps of stride {has}; needed are some of {needed}, or one that is a power of two"
        )
    trunk, card = _loaded(spec, size, [places[stride] for stride in strides])
    if getattr(layout, "output_fmt", "NCHW") == "NHWC":
        trunk = ChannelsFirst(trunk)
    config = from_timm._config(name)
    return Maps(trunk, strides, tuple(config.mean), tuple(config.std), card, plain)


class ChannelsFirst(nn.Module):
    """A trunk whose maps are (B, H, W, C), turned into (B, C, H, W)."""

    def __init__(self, trunk: nn.Module) -> None:
        """Take the trunk over."""
        super().__init__()
        self.trunk = trunk

    def forward(self, images: Tensor) -> list[Tensor]:
        """Run it and turn its maps."""
        return [found.permute(0, 3, 1, 2) for found in self.trunk(images)]


def _create(spec: ModelSpec, size: int, **given: Any) -> nn.Module:
    """Call timm's factory for feature maps, with its errors in our words."""
    import timm

    options: dict[str, Any] = dict(spec.options)
    if from_timm._config(spec.arch).fixed_input_size:
        options.setdefault("img_size", size)
    try:
        model: nn.Module = timm.create_model(spec.arch, features_only=True, **options, **given)
    except (TypeError, ValueError, AssertionError, KeyError, AttributeError, RuntimeError, IndexError) as error:
        told = f" with options {spec.options}" if spec.options else ""
        raise UsageError(f"timm:{spec.arch} gives no feature maps{told}: {first_line(error)}") from error
    return model


def _loaded(spec: ModelSpec, size: int, places: list[int]) -> tuple[nn.Module, Card]:
    """Build the trunk with its weights."""
    if spec.weights == "none":
        return _create(spec, size, out_indices=places), from_timm.RANDOM
    if spec.weights == "pretrained":
        with from_timm._fetching(from_timm._config(spec.arch), spec):
            return _create(spec, size, out_indices=places, pretrained=True), from_timm.card(spec.arch)
    state, card = _state(spec, size)
    trunk = _create(spec, size, out_indices=places)
    own = trunk.state_dict()
    if own.keys() <= state.keys():
        trunk.load_state_dict({name: state[name] for name in own})
    else:  # timm renames what it takes apart, so it has to load the whole before
        trunk = _create(spec, size, out_indices=places, pretrained=True, pretrained_cfg_overlay={"state_dict": state})
    note = f"{len(own)} tensors of the backbone loaded; neck and heads start at random"
    return trunk, Card(card.licence, card.pretraining, card.url, note)


def _state(spec: ModelSpec, size: int) -> tuple[weights.State, Card]:
    """Return a file's weights under timm's names, checked against the whole classifier."""
    with torch.random.fork_rng(devices=[]):
        model = from_timm._create(spec.model_copy(update={"weights": "none"}), 2, size)
    card = weights.load_file(
        model, spec.weights, from_timm._heads(model), lambda state: from_timm._adapted(model, state)
    )
    return model.state_dict(), card
