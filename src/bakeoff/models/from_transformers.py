"""Detectors and instance segmenters from the transformers library: RT-DETRv2, D-FINE, RF-DETR, Mask2Former, EoMT.

The library is an optional extra, bakeoff[detect]; it is imported when a network of it is built.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bakeoff.data.dataset import TaskName
from bakeoff.errors import UsageError, WeightsMismatch, nearest
from bakeoff.models import from_timm, weights
from bakeoff.models.detectors.published import KINDS, ON_TIMM, PUBLISHED, Published
from bakeoff.models.encoder_decoder import refuse_head
from bakeoff.models.head import first_line
from bakeoff.models.spec import Card, ModelSpec, Network

if TYPE_CHECKING:
    from bakeoff.models.detectors.queries import Queries

NAME = "transformers"
PAGE = "https://huggingface.co/"
FILES = ("model.safetensors", "pytorch_model.bin")
USUAL = ("mobilenetv2_100", "resnet18", "resnet50")  # the backbones that names() spells out
IDLE = (  # parameters that nothing depends on, or that are not learned
    "model.decoder.up",
    "model.decoder.reg_scale",
    "model.pixel_level_module.encoder.swin.layernorm.weight",
    "model.pixel_level_module.encoder.swin.layernorm.bias",
)


def names(task: TaskName = "classification") -> tuple[str, ...]:
    """Return the networks with published weights for a task, and those on some usual timm backbones."""
    ready = tuple(name for name, one in PUBLISHED.items() if KINDS[one.kind].task == task)
    mixed = (f"{kind}:{backbone}" for kind in ON_TIMM if KINDS[kind].task == task for backbone in USUAL)
    return (*ready, *mixed)


def has(arch: str, task: TaskName) -> bool:
    """Say whether an architecture is one for the task; whether timm has its backbone is found out by build()."""
    kind, _, backbone = arch.partition(":")
    return arch in names(task) or (kind in ON_TIMM and KINDS[kind].task == task and bool(backbone))


def card(arch: str) -> Card:
    """Return licence and page of the published weights; with a timm backbone, of the backbone's."""
    if arch in PUBLISHED:
        return Card(PUBLISHED[arch].licence, "COCO", PAGE + PUBLISHED[arch].hub)
    return from_timm.card(arch.partition(":")[2])


def build(spec: ModelSpec, classes: int, size: int, task: TaskName = "detection") -> Network:  # noqa: ARG001
    """Build a network for images of `size` pixels; `spec.options` are fields of the library's configuration.

    `weights` "pretrained" or a file fill the whole network, less the layers that depend on the classes; for
    "kind:backbone" they fill timm's backbone, and options that the configuration lacks go to it.  The number of queries
    is reduced to what the maps have room for.  Batch norms are trained, where the library freezes the backbone's:
    norm_statistics = "frozen" in the recipe keeps their statistics.  Raises UsageError without the library, or for
    options that do not fit, ResourceError and WeightsMismatch for weights.
    """
    if importlib.util.find_spec("transformers") is None:
        raise UsageError(f"transformers:{spec.arch} needs the transformers library: pip install 'bakeoff[detect]'")
    refuse_head(spec)
    if spec.arch in PUBLISHED:
        body, loaded = _published(spec, classes, size)
        kind = KINDS[PUBLISHED[spec.arch].kind]
        norm, trunks = kind.norm, kind.trunks
    else:
        body, loaded, norm = _on_timm(spec, classes, size)
        trunks = ("model.backbone.trunk",)
    return Network(body, body.layer_groups([f"model.{trunk}" for trunk in trunks]), *norm, loaded)


def _published(spec: ModelSpec, classes: int, size: int) -> tuple[Queries, Card]:
    """Build one of the networks that have weights, and load them where they are asked for."""
    one = PUBLISHED[spec.arch]
    config = _config(one, spec.options, classes, size)
    name = f"transformers:{spec.arch}"
    if spec.weights == "pretrained":
        with weights.fetching(name, PAGE + one.hub, one.hub, FILES):
            model = _network(one, config, name, fetch=True)
        return _adapted(one.kind, model, config), card(spec.arch)
    model = _network(one, config, name)
    if spec.weights == "none":
        return _adapted(one.kind, model, config), Card(pretraining="none")
    with torch.device("meta"):
        wider = _network(one, _config(one, spec.options, classes + 1, size), name).state_dict()
    heads = [key for key, value in model.state_dict().items() if value.shape != wider[key].shape]
    loaded = weights.load_file(model, spec.weights, heads)
    return _adapted(one.kind, model, config), loaded


def _on_timm(spec: ModelSpec, classes: int, size: int) -> tuple[Queries, Card, Any]:
    """Build a kind of network on a timm backbone: the library's own gives place to it."""
    from bakeoff.models.detectors.pyramid import Rescaled, widths_of
    from bakeoff.models.timm_maps import feature_maps

    name, _, backbone = spec.arch.partition(":")
    kind = KINDS[name]
    fields = _fields(kind.config)
    rest = {key: value for key, value in spec.options.items() if key not in fields}
    padded = size + -size % kind.multiple
    trunk_spec = spec.model_copy(update={"arch": backbone, "source": "timm", "options": rest})
    found = feature_maps(trunk_spec, padded, kind.strides)
    trunk = Rescaled(found.trunk, found.plain, found.strides[0], kind.strides) if found.plain else found.trunk
    if not found.plain and found.strides != kind.strides:
        raise UsageError(f"timm:{backbone} has no maps of strides 8, 16 and 32, which {name} looks at")
    widths = widths_of(trunk, padded)
    holder = {"embedding_size": 8, "hidden_sizes": [8, *widths], "depths": [1] * 4}
    one = Published(name, "", "", {"encoder_in_channels": widths}, holder)
    own = {key: value for key, value in spec.options.items() if key in fields}
    config = _config(one, own, classes, size, "RTDetrResNetConfig")
    model = _network(one, config, f"transformers:{spec.arch}")
    model.get_submodule("model").register_module("backbone", Encoder(trunk))
    return _adapted(name, model, config), found.card, (found.mean, found.std)


class Encoder(nn.Module):
    """A timm trunk in the place of the library's backbone."""

    def __init__(self, trunk: nn.Module) -> None:
        """Take the trunk over."""
        super().__init__()
        self.trunk = trunk

    def forward(self, pixel_values: Tensor, pixel_mask: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return maps with the mask that nobody looks at."""
        return [(found, pixel_mask) for found in self.trunk(pixel_values)]


def _fields(config: str) -> tuple[str, ...]:
    """Return the names of a configuration's fields."""
    import transformers

    return tuple(getattr(transformers, config).__dataclass_fields__)


def _config(one: Published, options: dict[str, Any], classes: int, size: int, backbone: str = "") -> Any:
    """Make the library's configuration: the published fields, then the user's."""
    import transformers

    kind = KINDS[one.kind]
    known, inner = _fields(kind.config), dict(options)
    for name in inner:
        if name not in known:
            raise UsageError(f"{one.kind} has no option {name!r}{nearest(name, known)}")
    room = sum((-(-size // stride)) ** 2 for stride in one.fields.get("feat_strides", kind.strides)) or one.queries
    fields: dict[str, Any] = {"num_queries": min(one.queries, room), **one.fields, "num_labels": classes}
    given = inner.pop("backbone_config", {})
    if "freeze_backbone_batch_norms" in known:
        fields["freeze_backbone_batch_norms"] = False
    if kind.backbone:
        below: dict[str, Any] = {"out_indices": list(kind.outs), **one.backbone, **given}
        fields["backbone_config"] = getattr(transformers, backbone or kind.backbone)(**below)
    else:
        fields["image_size"] = size + -size % kind.multiple
    try:
        return getattr(transformers, kind.config)(**{**fields, **inner})
    except Exception as error:  # the library's validation has a type of its own for each field
        raise UsageError(f"{one.kind} cannot be configured with {options}: {first_line(error)}") from error


def _network(one: Published, config: Any, name: str, fetch: bool = False) -> nn.Module:
    """Build the network, with the published weights where they are asked for."""
    import transformers

    kind = getattr(transformers, KINDS[one.kind].network)
    if not fetch:
        try:
            model: nn.Module = kind(config)
        except (ValueError, RuntimeError, AssertionError, IndexError, TypeError) as error:
            raise UsageError(f"{name} cannot be built: {first_line(error)}") from error
    else:
        model, report = kind.from_pretrained(
            one.hub, config=config, ignore_mismatched_sizes=True, output_loading_info=True
        )
        _check(report, name)
    return model


def _check(report: dict[str, Any], name: str) -> None:
    """Raise WeightsMismatch when more than the layers that depend on the classes starts at random."""
    words = ("class", "score", "empty_weight")
    lost = [*report["missing_keys"], *(key[0] if isinstance(key, tuple) else key for key in report["mismatched_keys"])]
    if wrong := sorted(key for key in lost if not any(word in key for word in words)):
        raise WeightsMismatch(
            f"{name}: {len(wrong)} of its tensors are not in the published weights in this shape ({wrong[0]}, ...); "
            "leave the options out, and take images large enough for all queries"
        )


def _adapted(kind: str, model: nn.Module, config: Any) -> Queries:
    """Put the network under our contract; idle parameters become buffers."""
    from bakeoff.models.detectors.queries import BoxQueries, MaskQueries

    parameters = dict(model.named_parameters())
    for name in IDLE:
        if name in parameters:
            parent, _, child = name.rpartition(".")
            holder = model.get_submodule(parent)
            delattr(holder, child)
            holder.register_buffer(child, parameters[name].detach())
    if torch.get_default_device().type == "meta":
        model = model.to("meta")  # some parameters are made without asking for the default device
        if hasattr(model, "attn_mask_probs"):
            model.attn_mask_probs = torch.ones(config.num_blocks, device="cpu")  # it asks for their values
    form = BoxQueries if KINDS[kind].task == "detection" else MaskQueries
    return form(model, KINDS[kind].multiple)
