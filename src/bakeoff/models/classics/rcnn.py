"""R-CNN (Girshick et al. 2014): boxes that may hold an object, a classifier for each of them cut out, a better box.

Selective search proposes, every proposal is warped to a square with some of what lies around it, and a classifier of
images gives each crop a class and a correction of its box (appendix C).  As in Fast R-CNN (Girshick 2015) both come
from one layer and are learned together, where the paper trained support vector machines on stored features afterwards.
What is slow about it is what the paper's successors changed: every crop goes through the whole network.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bakeoff.errors import UsageError, nearest
from bakeoff.models import from_timm, from_torchvision, small, weights
from bakeoff.models.classics.crop_detector import CropDetector, Limits
from bakeoff.models.encoder_decoder import refuse_head
from bakeoff.models.spec import Head, ModelSpec, Network

BACKBONES = {"rcnn": "torchvision:alexnet", "rcnn_small": "small:cnn"}
LINEAR = ("alexnet", "vgg")  # have hidden layers of their own behind the feature map


class RcnnOptions(BaseModel):
    """What can be chosen; all other options go to the backbone.

    backbone   a classifier of torchvision's, timm's or small  torchvision:alexnet; rcnn_small: small:cnn
    crop       side of a crop in pixels                        half the image's, 64 to 224; rcnn_small: 32
    proposals  per image                                       500
    rois       of them, per image, that a step learns from     32; rcnn_small: 16
    threshold  score that a detection needs                    0.05
    overlap    IoU from which on the weaker of two goes        0.3
    pool       of the last map: the classifier's own, or none  flatten; alexnet, vgg: default
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    backbone: str = ""
    crop: int = Field(0, ge=0)
    proposals: int = Field(500, ge=1)
    rois: int = Field(32, ge=4)
    threshold: float = Field(0.05, ge=0, lt=1)
    overlap: float = Field(0.3, gt=0, le=1)
    pool: Literal["", "default", "avg", "flatten"] = ""


def build(spec: ModelSpec, classes: int, size: int) -> Network:
    """Build R-CNN for images of `size` pixels.

    `weights` are the backbone's, or a file of the whole network.  Raises UsageError for options that there are not, and
    what building the backbone raises.
    """
    refuse_head(spec)
    options = _options(spec, size)
    whole = Path(spec.weights).suffix in weights.FORMATS and _is_whole(spec.weights)
    bare = spec.model_copy(update={"weights": "none"}) if whole else spec
    limits = Limits(options.crop, options.proposals, options.rois, options.threshold, options.overlap)
    body = CropDetector(_backbone(bare, options, 5 * (classes + 1)), classes, limits)
    card = body.backbone.card
    if whole:
        head = sorted({name.rpartition(".")[0] for name in body.layer_groups()[-1]})
        card = weights.load_file(body, spec.weights, head)
    return Network(body, body.layer_groups(), (0.0,) * 3, (1.0,) * 3, card)


def _options(spec: ModelSpec, size: int) -> RcnnOptions:
    """Read the options and fill in what depends on network and size."""
    own: dict[str, Any] = {name: value for name, value in spec.options.items() if name in RcnnOptions.model_fields}
    tiny = spec.arch == "rcnn_small"
    own.setdefault("backbone", BACKBONES[spec.arch])
    own.setdefault("crop", 32 if tiny else min(224, max(64, size // 2)))
    own.setdefault("rois", 16 if tiny else 32)
    arch = str(own["backbone"]).rpartition(":")[2]
    own.setdefault("pool", "default" if arch.startswith(LINEAR) else "flatten")
    try:
        return RcnnOptions.model_validate(own)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            f"classics:{spec.arch}: option {first['loc'][0]} = {first['input']!r}: {first['msg']}"
        ) from error


def _is_whole(path: str) -> bool:
    """Say whether a file has the tensors of an R-CNN rather than those of a classifier."""
    return any("box_head.backbone." in name for name in weights.read(Path(path))[0])


def _backbone(spec: ModelSpec, options: RcnnOptions, outputs: int) -> Network:
    """Build the classifier of crops, with so many outputs."""
    prefix, _, arch = options.backbone.rpartition(":")
    families = {family.NAME: family for family in (small, from_torchvision, from_timm)}
    wanted = [families[prefix]] if prefix in families else [] if prefix else list(families.values())
    found = next((family for family in wanted if family.has(arch, "classification")), None)
    if found is None:
        known = [name for family in wanted or families.values() for name in family.names()]
        raise UsageError(f"{spec.arch}: there is no backbone {options.backbone!r}{nearest(arch, known)}")
    rest = {name: value for name, value in spec.options.items() if name not in RcnnOptions.model_fields}
    changed = {"arch": arch, "source": found.NAME, "options": rest, "head": Head(pool=options.pool or "default")}
    return cast(Network, found.build(spec.model_copy(update=changed), outputs, options.crop))
