"""Semantic segmentation from torchvision: FCN and DeepLabV3 on ResNets or MobileNetV3, and LR-ASPP."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from bakeoff.errors import UsageError
from bakeoff.models import weights
from bakeoff.models.encoder_decoder import refuse_head, sized
from bakeoff.models.groups import from_children
from bakeoff.models.skips import Connected, Skip
from bakeoff.models.spec import Card, ModelSpec, Network

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
LAST = ("classifier.4", "classifier.low_classifier", "classifier.high_classifier")  # the layers that give the logits
AUXILIARY = "aux_classifier"  # a second head that trains along in torchvision: we want logits alone
FEATURES = "features."  # where a MobileNet keeps what is the backbone here


@cache
def names() -> tuple[str, ...]:
    """Return torchvision's architectures for semantic segmentation."""
    import torchvision

    return tuple(torchvision.models.list_models(module=torchvision.models.segmentation))


def card(arch: str) -> Card:
    """Return page and training data of the published weights of a whole network."""
    import torchvision

    return _card(torchvision.models.get_model_weights(arch).DEFAULT)


class Segmenter(Connected):
    """images (B, 3, H, W) -> logits (B, classes, H, W), by torchvision's backbone and classifier.

    LR-ASPP's classifier takes a coarse and a fine map; the fine one is a skip connection.
    """

    def __init__(self, model: Any) -> None:
        """Take the two over, under torchvision's names."""
        super().__init__()
        self.backbone, self.classifier = model.backbone, model.classifier
        self.both = "low" in model.backbone.return_layers.values()
        self.skips = (Skip("low-level map", "backbone", "low"),) if self.both else ()

    def forward(self, images: Tensor) -> Tensor:
        """Bring the classifier's logits to the images' size, bilinearly."""
        maps = self.backbone(images)
        return sized(self.classifier(maps if self.both else maps["out"]), images)


def build(spec: ModelSpec, classes: int) -> Network:
    """Build one of torchvision's networks, without its auxiliary head.

    `weights` "pretrained" are those of the whole network, trained on COCO with the classes of Pascal VOC; an entry's
    name of the backbone, such as "IMAGENET1K_V1", takes that entry; a file is one of the whole network or of the
    backbone.  Raises UsageError for options or weights that there are not, ResourceError when weights cannot be had,
    WeightsMismatch for a file that does not fit.
    """
    refuse_head(spec)
    body = Segmenter(_create(spec, classes))
    groups = from_children(body, ("classifier",))
    return Network(body, groups, *IMAGENET, _load(body, spec))


def _create(spec: ModelSpec, classes: int) -> nn.Module:
    """Call torchvision's factory."""
    import torchvision

    if spec.options:  # torchvision takes any name, and does nothing with it
        raise UsageError(f"torchvision:{spec.arch} has no options, but {', '.join(spec.options)} was given")
    options = {} if spec.arch.startswith("lraspp") else {"aux_loss": False}
    model: nn.Module = torchvision.models.get_model(
        spec.arch, weights=None, weights_backbone=None, num_classes=classes, **options
    )
    return model


def _load(body: Segmenter, spec: ModelSpec) -> Card:
    """Load what the spec asks for."""
    if spec.weights == "none":
        return Card(pretraining="none")
    whole, backbone = _entries(spec.arch)
    name, skipped = f"torchvision:{spec.arch}", (*LAST, AUXILIARY)
    if spec.weights == "pretrained" or spec.weights in whole.__members__:
        entry = whole.DEFAULT if spec.weights == "pretrained" else whole[spec.weights]
        note = weights.fit(body, weights.published_state(entry, name), skipped, name)
        return replace(_card(entry), loaded=note)
    if spec.weights in backbone.__members__:
        entry = backbone[spec.weights]
        note = weights.fit(body.backbone, _inner(weights.published_state(entry, name)), (), name)
        return replace(_card(entry), loaded=f"{note}; the classifier starts at random")
    if "." not in spec.weights:
        has = ", ".join(["none", "pretrained", *(entry.name for entry in (*whole, *backbone))])
        raise UsageError(f'{name} has no weights "{spec.weights}"; it has {has}, or give a file')
    own = body.state_dict()
    inside, _ = weights.strip(weights.read(Path(spec.weights))[0], own)
    if any(key.startswith("backbone.") and key in own for key in inside):
        return weights.load_file(body, spec.weights, skipped)
    found = weights.load_file(body.backbone, spec.weights, (), rename=_inner)
    return replace(found, loaded=f"{found.loaded}; the classifier starts at random")


def _entries(arch: str) -> tuple[Any, Any]:
    """Return torchvision's entries of weights for a whole network and for its backbone."""
    import torchvision

    backbone = arch.partition("_")[2]
    return torchvision.models.get_model_weights(arch), torchvision.models.get_model_weights(backbone)


def _inner(state: weights.State) -> weights.State:
    """Name a classifier's tensors as the backbone has them."""
    return {name.removeprefix(FEATURES): value for name, value in state.items()}


def _card(entry: Any) -> Card:
    """Read a weights entry's own statements."""
    data = "COCO with the classes of Pascal VOC" if entry.name.startswith("COCO") else "ImageNet-1k"
    return Card(entry.meta.get("license"), f"{data} ({entry.name})", entry.meta.get("recipe"))
