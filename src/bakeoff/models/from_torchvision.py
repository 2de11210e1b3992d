"""Classifiers from torchvision; torchvision_semantic and torchvision_detection have its other networks."""

from __future__ import annotations

from collections import OrderedDict
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from bakeoff.data.dataset import TaskName
from bakeoff.errors import UsageError
from bakeoff.models import auxiliary, torchvision_detection, torchvision_semantic, weights
from bakeoff.models.groups import from_children
from bakeoff.models.head import Pool, attach, classifier, first_line
from bakeoff.models.licences import identifier
from bakeoff.models.spec import Card, Head, ModelSpec, Network

NAME = "torchvision"
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
INCEPTIONS = ("googlenet", "inception_v3")  # trained on -1..1; torchvision converts inside, we by mean and std
SWAG = "cc-by-nc-4.0"  # the licence of its weights of that name, by torchvision's README
ENDS = ("avgpool", "flatten", "dropout", "fc", "classifier", "head", "heads")  # children behind the feature map


@cache
def names(task: TaskName = "classification") -> tuple[str, ...]:
    """Return torchvision's architectures for a task."""
    import torchvision

    if task == "semantic":
        return torchvision_semantic.names()
    if task != "classification":
        return torchvision_detection.names(task)
    return tuple(torchvision.models.list_models(module=torchvision.models))


def has(arch: str, task: TaskName) -> bool:
    """Say whether an architecture can be named for a task."""
    return arch in names(task)


def card(arch: str) -> Card:
    """Return the page and the training data of the default weights; torchvision states a licence for few of them."""
    if has(arch, "semantic"):
        return torchvision_semantic.card(arch)
    ready = has(arch, "detection") or has(arch, "instance")
    return torchvision_detection.card(arch) if ready else _card(published(arch))


def published(arch: str, which: str = "pretrained") -> Any:
    """Return torchvision's weights entry (its default, or one by name); raises UsageError when there is none."""
    import torchvision

    entries = torchvision.models.get_model_weights(arch)
    if which == "pretrained" and len(entries):
        return entries.DEFAULT
    if which in entries.__members__:
        return entries[which]
    raise UsageError(f'torchvision:{arch} has no weights "{which}"; it has {", ".join(entries.__members__) or "none"}')


def build(spec: ModelSpec, classes: int, size: int, task: TaskName = "classification") -> Network:
    """Build a torchvision classifier for images of `size` pixels, or a network of another task.

    GoogLeNet and Inception have no auxiliary outputs unless the option aux_logits is true.  `weights` may also name an
    entry of torchvision's, such as "IMAGENET1K_V1".  Raises UsageError for options or sizes that the architecture
    refuses, ResourceError when the weights cannot be had, WeightsMismatch for a file that does not fit.
    """
    if task == "semantic":
        return torchvision_semantic.build(spec, classes)
    if task != "classification":
        return torchvision_detection.build(spec, classes)
    model = _create(spec, classes, size)
    auxiliary.attach_losses(model, spec)
    head = _head(model)
    loaded = Card(pretraining="none")
    if spec.weights == "pretrained" or spec.weights.startswith("IMAGENET1K_"):
        loaded = _download(model, spec, head, size)
    elif spec.weights != "none":
        loaded = weights.load_file(
            model, spec.weights, (head, *auxiliary.PARTS), lambda state: _adapted(model, state, size)
        )
    body = model
    if spec.head != Head():
        body, head = headed(model, head, spec.head, classes, size)
    mean, std = ((0.5,) * 3, (0.5,) * 3) if spec.arch in INCEPTIONS else IMAGENET
    return Network(body, from_children(body, (*auxiliary.PARTS, head)), mean, std, loaded)


def _create(spec: ModelSpec, classes: int, size: int) -> nn.Module:
    """Call torchvision's factory, with its errors in our words."""
    import torchvision

    options: dict[str, Any] = dict(spec.options)
    if spec.arch in INCEPTIONS:
        options = {"aux_logits": False, "transform_input": False, "init_weights": True, **options}
    if spec.arch.startswith("vit_"):
        options.setdefault("image_size", size)
    if spec.arch == "maxvit_t":
        options.setdefault("input_size", (size, size))
    try:
        model: nn.Module = torchvision.models.get_model(spec.arch, weights=None, num_classes=classes, **options)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        told = f" with options {spec.options}" if spec.options else ""
        raise UsageError(
            f"torchvision:{spec.arch} cannot be built for {size} x {size} pixels{told}: {first_line(error)}"
        ) from error
    return model


def _download(model: nn.Module, spec: ModelSpec, head: str, size: int) -> Card:
    """Load published weights through torchvision's own code, from its cache where they are."""
    entry, name = published(spec.arch, spec.weights), f"torchvision:{spec.arch}"
    state = weights.published_state(entry, name)
    note = weights.fit(model, state, (head, *auxiliary.PARTS), name, lambda found: _adapted(model, found, size))
    page = _card(entry)
    return Card(page.licence, page.pretraining, page.url, note)


def _card(entry: Any) -> Card:
    """Read a weights entry's own statements."""
    data = "ImageNet-1k" if entry.name.startswith("IMAGENET1K") else None
    if "SWAG" in entry.name:
        data = "Instagram images with hashtags (SWAG), then ImageNet-1k"
    return Card(identifier(entry.meta.get("license")), data and f"{data} ({entry.name})", entry.meta.get("recipe"))


def finished(model: nn.Module, head: str, spec: ModelSpec, classes: int, size: int) -> Network:
    """Make a Network of a model like torchvision's that has no published weights: load a file, put the head on, group.

    `head` is the name of its last linear layer.  Raises UsageError when published weights are asked for, and what
    weights.load_file raises.
    """
    if spec.weights == "pretrained":
        raise UsageError(f'{spec.source}:{spec.arch} has no published weights; use weights = "none" or a file')
    loaded = Card(pretraining="none")
    if spec.weights != "none":
        loaded = weights.load_file(model, spec.weights, (head,))
    if spec.head != Head():
        model, head = headed(model, head, spec.head, classes, size)
    return Network(model, from_children(model, (head,)), *IMAGENET, loaded)


def _head(model: nn.Module) -> str:
    """Return the name of the last layer, a linear one or (SqueezeNet) a 1 x 1 convolution."""
    layers: list[str] = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    return layers[-1]


def headed(model: nn.Module, name: str, head: Head, classes: int, size: int) -> tuple[nn.Module, str]:
    """Put another head on: behind the architecture's own pooling, or behind the pooled feature map."""
    last = model.get_submodule(name)
    if head.pool == "default" and isinstance(last, nn.Linear):
        model.set_submodule(name, classifier(last.in_features, head, classes))
        return model, name
    kind = "avg" if head.pool == "default" else head.pool
    return attach(trunk_of(model), Pool(kind), head, classes, size), "head"


def trunk_of(model: nn.Module) -> nn.Module:
    """Return the part up to the feature map: the children in order, until pooling or classifier."""
    import torchvision

    if isinstance(model, torchvision.models.VisionTransformer):
        return Tokens(model)
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    for name, child in model.named_children():
        if name in ENDS:
            break
        parts[name] = nn.Sequential(*child) if isinstance(child, nn.ModuleList) else child
    if isinstance(model, torchvision.models.DenseNet):
        parts["relu"] = nn.ReLU()  # torchvision applies it in forward
    if isinstance(model, torchvision.models.ConvNeXt):
        parts["norm"] = model.classifier[0]  # its norm stands behind the pooling; here it comes before
    return nn.Sequential(parts)


class Tokens(nn.Module):
    """A torchvision vision transformer up to its patch tokens: (B, 3, H, W) -> (B, N, C)."""

    def __init__(self, transformer: nn.Module) -> None:
        """Take the transformer over, less its classifier."""
        super().__init__()
        transformer.heads = nn.Identity()
        self.backbone = transformer

    def forward(self, images: Tensor) -> Tensor:
        """Patches, class token, encoder; then the class token is dropped."""
        net: Any = self.backbone
        patches = net._process_input(images)
        tokens: Tensor = net.encoder(torch.cat([net.class_token.expand(len(images), -1, -1), patches], dim=1))
        return tokens[:, 1:]


def _adapted(model: nn.Module, state: weights.State, size: int) -> weights.State:
    """Resize a vision transformer's position embeddings to the network's image size."""
    import torchvision
    from torchvision.models.vision_transformer import interpolate_embeddings

    if not isinstance(model, torchvision.models.VisionTransformer):
        return state
    return dict(interpolate_embeddings(size, model.patch_size, OrderedDict(state)))
