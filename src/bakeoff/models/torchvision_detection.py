"""Detection and instance segmentation from torchvision: its ready networks, which have weights trained on COCO."""

from __future__ import annotations

import inspect
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import nn

from bakeoff.data.dataset import TaskName
from bakeoff.errors import UsageError, nearest
from bakeoff.models import weights
from bakeoff.models.encoder_decoder import refuse_head
from bakeoff.models.spec import Card, ModelSpec, Network

MOST = 100  # detections per image
HEADS = (  # the layers that depend on the classes
    "roi_heads.box_predictor",
    "roi_heads.mask_predictor.mask_fcn_logits",
    "head.classification_head.cls_logits",  # RetinaNet, FCOS
    "head.classification_head.module_list",  # SSD
)
TWO_STAGE = ("fasterrcnn", "maskrcnn")
FROM_ONE = (*TWO_STAGE, "ssd")  # number 0 is the background


@cache
def names(task: TaskName) -> tuple[str, ...]:
    """Return torchvision's architectures for boxes or for instances."""
    import torchvision

    found = torchvision.models.list_models(module=torchvision.models.detection)
    masks = tuple(name for name in found if name.startswith("maskrcnn"))
    if task == "instance":
        return masks
    return tuple(name for name in found if name not in masks and not name.startswith("keypointrcnn"))


def card(arch: str) -> Card:
    """Return page and training data of the published weights."""
    import torchvision

    return _card(torchvision.models.get_model_weights(arch).DEFAULT)


def build(spec: ModelSpec, classes: int) -> Network:
    """Build one of torchvision's detectors; at most 100 detections.

    Its anchors are those of the paper, for images of 800 pixels (SSDLite: in proportion): for small images take the
    family "detectors".  `weights` "pretrained" or an entry's name ("COCO_V1") are those of the whole network, less the
    layers that depend on the classes; a file is one of the whole network.  Batch norms are trained, where torchvision
    freezes those of its first recipe: norm_statistics = "frozen" in the recipe keeps their statistics.  Raises
    UsageError for options or weights that there are not, ResourceError when weights cannot be had, WeightsMismatch for
    a file that does not fit.
    """
    from bakeoff.models.detectors.adapter import Detector
    from bakeoff.models.detectors.anchors import InFloat32

    refuse_head(spec)
    two_stage, background = spec.arch.startswith(TWO_STAGE), spec.arch.startswith(FROM_ONE)
    model = _create(spec, classes + background)
    loaded = _load(model, spec)
    mean, std = tuple(model.transform.image_mean), tuple(model.transform.image_std)
    place: Any = model.rpn if two_stage else model
    place.anchor_generator = InFloat32(place.anchor_generator)
    limited: Any = model.roi_heads if two_stage else model
    limited.detections_per_img = min(MOST, limited.detections_per_img)
    body = Detector(model, int(background))
    return Network(body, body.layer_groups(), mean, std, loaded)


def _create(spec: ModelSpec, count: int) -> Any:
    """Call torchvision's factory; it swallows options that nobody knows, so their names are checked afterwards."""
    import torchvision

    given: dict[str, Any] = {"weights": None, "weights_backbone": None, "num_classes": count, **spec.options}
    try:
        model: nn.Module = torchvision.models.get_model(spec.arch, **given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"torchvision:{spec.arch} cannot be built with {spec.options}: {error}") from error
    known = {name for kind in type(model).__mro__[:2] for name in inspect.signature(kind).parameters}
    for name in spec.options:
        if name not in known:
            raise UsageError(f"torchvision:{spec.arch} has no option {name!r}{nearest(name, known)}")
    return model


def _load(model: nn.Module, spec: ModelSpec) -> Card:
    """Load what the spec asks for."""
    import torchvision

    if spec.weights == "none":
        return Card(pretraining="none")
    entries, name = torchvision.models.get_model_weights(spec.arch), f"torchvision:{spec.arch}"
    heads = [head for head in HEADS if any(own.startswith(head) for own, _ in model.named_parameters())]
    if spec.weights == "pretrained" or spec.weights in entries.__members__:
        entry = entries.DEFAULT if spec.weights == "pretrained" else entries[spec.weights]
        state = _modern(weights.published_state(entry, name), spec, len(entry.meta["categories"]))
        return replace(_card(entry), loaded=weights.fit(model, state, heads, name))
    if "." not in spec.weights:
        has = ", ".join(["none", "pretrained", *(entry.name for entry in entries)])
        raise UsageError(f'{name} has no weights "{spec.weights}"; it has {has}, or give a file')
    return weights.load_file(model, spec.weights, heads)


def _modern(state: weights.State, spec: ModelSpec, count: int) -> weights.State:
    """Name published tensors as torchvision does now: its modules translate older names while they are loaded."""
    with torch.device("meta"):
        twin = _create(spec.model_copy(update={"options": {}}), count)
    unknown = twin.load_state_dict(state, strict=False, assign=True).unexpected_keys
    loaded = {name: value for name, value in twin.state_dict().items() if not value.is_meta}
    return {**loaded, **{name: state[name] for name in unknown}}


def _card(entry: Any) -> Card:
    """Read a weights entry's own statements."""
    return Card(entry.meta.get("license"), f"COCO ({entry.name})", entry.meta.get("recipe"))
