"""Detectors and instance segmenters: torchvision's heads on any timm backbone, as "retinanet:mobilenetv2_100"."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from bakeoff.data.dataset import TaskName
from bakeoff.errors import UsageError, nearest
from bakeoff.models import from_timm
from bakeoff.models.spec import Card, Head, ModelSpec, Network

if TYPE_CHECKING:
    from bakeoff.models.detectors.heads import HeadOptions

NAME = "detectors"
KINDS: dict[TaskName, tuple[str, ...]] = {
    "detection": ("faster_rcnn", "fcos", "retinanet", "ssdlite"),
    "instance": ("mask_rcnn",),
}
BACKBONES = (  # what names() spells out; every timm architecture with feature maps can be named
    "convnext_tiny",
    "convnextv2_atto",
    "cspdarknet53",
    "densenet121",
    "efficientnet_b0",
    "efficientnet_lite0",
    "hrnet_w18",
    "mambaout_tiny",
    "mobilenetv2_100",
    "mobilenetv3_large_100",
    "mobilenetv4_conv_small",
    "pvt_v2_b0",
    "regnety_008",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "swin_tiny_patch4_window7_224",
    "vgg16_bn",
    "vit_small_patch16_224",
    "vit_tiny_patch16_224",
)


def names(task: TaskName = "classification") -> tuple[str, ...]:
    """Return every kind of detector for a task with some usual backbones; any other of timm's can be named too."""
    return tuple(f"{kind}:{backbone}" for kind in KINDS.get(task, ()) for backbone in BACKBONES)


def has(arch: str, task: TaskName) -> bool:
    """Say whether the kind of detector is one for the task; whether timm has the backbone is found out by build()."""
    kind, _, backbone = arch.partition(":")
    return kind in KINDS.get(task, ()) and bool(backbone)


def card(arch: str) -> Card:
    """Return licence and pretraining data of the backbone's published weights."""
    return from_timm.card(arch.partition(":")[2])


def build(spec: ModelSpec, classes: int, size: int, task: TaskName = "detection") -> Network:  # noqa: ARG001
    """Build "kind:backbone" for images of `size` pixels; a side that is no multiple of 32 is padded inside.

    `spec.weights` are the backbone's; neck and heads start at random.  `spec.options` are those of the heads (see
    detectors.heads.HeadOptions), all others go to timm.  Raises UsageError for names, options or sizes that do not fit,
    ResourceError and WeightsMismatch for weights.
    """
    from bakeoff.models.detectors import heads
    from bakeoff.models.detectors.pyramid import Rescaled
    from bakeoff.models.timm_maps import feature_maps

    kind, _, backbone = spec.arch.partition(":")
    if spec.head != Head():
        raise UsageError(f"{spec.arch}: head options are for classifiers; a detector's go into options")
    own = {name: value for name, value in spec.options.items() if name in heads.HeadOptions.model_fields}
    options = _checked(kind, own)
    rest = {name: value for name, value in spec.options.items() if name not in own}
    padded = heads.padded_side(size)
    wanted = [stride for stride in heads.strides(kind, size, options.smallest) if stride <= heads.DEEPEST]
    trunk_spec = spec.model_copy(update={"arch": backbone, "source": "timm", "options": rest})
    found = feature_maps(trunk_spec, padded, wanted)
    trunk, strides = found.trunk, found.strides
    if found.plain:
        trunk, strides = Rescaled(trunk, found.plain, strides[0], wanted), tuple(wanted)
    body = heads.detector(kind, trunk, strides, classes, size, options)
    return Network(body, body.layer_groups(), found.mean, found.std, found.card)


def _checked(kind: str, given: dict[str, Any]) -> HeadOptions:
    """Read the heads' options; an option of another kind of detector is an error."""
    from bakeoff.models.detectors.heads import TAKES, HeadOptions

    for name in given:
        if name not in TAKES[kind]:
            known = ", ".join(TAKES[kind])
            raise UsageError(f"{kind} has no option {name!r}{nearest(name, TAKES[kind])}; it has {known}")
    try:
        return HeadOptions(**given)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{kind}: option {first['loc'][0]} = {first['input']!r}: {first['msg']}") from error
