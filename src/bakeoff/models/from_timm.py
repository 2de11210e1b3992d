"""Classifiers from timm."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

from torch import nn

from bakeoff.data.dataset import TaskName
from bakeoff.errors import UsageError
from bakeoff.models import weights
from bakeoff.models.groups import Groups, from_children, last_layer, with_head
from bakeoff.models.head import Pool, attach, first_line
from bakeoff.models.spec import Card, Head, ModelSpec, Network

NAME = "timm"
RANDOM = Card(pretraining="none")
FILES = ("model.safetensors", "pytorch_model.bin")  # where timm looks on the hub, in this order
DATA = {  # words of timm's weight tags -> what they stand for (timm's own documentation of its tags)
    "in1k": "ImageNet-1k",
    "in12k": "ImageNet-12k",
    "in21k": "ImageNet-21k",
    "in22k": "ImageNet-22k",
    "laion2b": "LAION-2B",
    "laion400m": "LAION-400M",
    "laion": "LAION",
    "openai": "OpenAI's CLIP images",
    "lvd142m": "LVD-142M",
    "lvd1689m": "LVD-1689M",
    "jft300m": "JFT-300M",
    "jft": "JFT-300M",
    "ig1b": "1 billion Instagram images",
    "yfcc100m": "YFCC-100M",
    "webli": "WebLI",
    "dfn2b": "DFN-2B",
    "dfn5b": "DFN-5B",
}


@cache
def names(task: TaskName = "classification") -> tuple[str, ...]:
    """Return every architecture, and every architecture.tag that has published weights."""
    import timm

    if task != "classification":
        return ()
    return tuple(sorted({*timm.list_models(), *timm.list_models(pretrained=True)}))


def has(arch: str, task: TaskName) -> bool:
    """Say whether an architecture can be named for a task."""
    return arch in names(task)


def card(arch: str) -> Card:
    """Return licence and pretraining data of the published weights, where timm states them."""
    config = _config(arch)
    if not config.has_weights:
        return Card()
    page = config.origin_url or (f"https://huggingface.co/{config.hf_hub_id}" if config.hf_hub_id else config.url)
    licence = None if config.license == "unknown" else config.license
    return Card(licence, _pretraining(config.tag), page)


def has_weights(arch: str) -> bool:
    """Say whether weights of an architecture are published."""
    return bool(_config(arch).has_weights)


def build(spec: ModelSpec, classes: int, size: int, task: TaskName = "classification") -> Network:  # noqa: ARG001
    """Build a timm classifier for images of `size` pixels.

    Raises UsageError for options or sizes that the architecture refuses, ResourceError when pretrained weights cannot
    be had, WeightsMismatch for a file that does not fit.
    """
    config = _config(spec.arch)
    with _fetching(config, spec):
        model = _create(spec, classes, size)
    heads = _heads(model)
    loaded = RANDOM
    if spec.weights == "pretrained":
        loaded = card(spec.arch)
    elif spec.weights != "none":
        loaded = weights.load_file(model, spec.weights, heads, lambda state: _adapted(model, state))
    body, groups = model, _groups(model, heads)
    if spec.head != Head():
        body = _headed(model, spec, classes, size)
        trunk = ([f"trunk.{name}" for name in group] for group in _groups(model, ()))
        groups = with_head(body, trunk, ("head",))
    return Network(body, groups, tuple(config.mean), tuple(config.std), loaded)


def _create(spec: ModelSpec, classes: int, size: int) -> nn.Module:
    """Call timm's factory, with its errors in our words."""
    import timm

    config = _config(spec.arch)
    options: dict[str, Any] = dict(spec.options)
    if config.fixed_input_size and size != config.input_size[-1]:
        options.setdefault("img_size", size)
    try:
        model: nn.Module = timm.create_model(
            spec.arch, pretrained=spec.weights == "pretrained", num_classes=classes, **options
        )
    except (TypeError, ValueError, AssertionError, KeyError, ZeroDivisionError, AttributeError) as error:
        told = f" with options {spec.options}" if spec.options else ""
        raise UsageError(
            f"timm:{spec.arch} cannot be built for {size} x {size} pixels{told}: {first_line(error)}"
        ) from error
    return model


@contextmanager
def _fetching(config: Any, spec: ModelSpec) -> Iterator[None]:
    """Around timm's loading: see weights.fetching; nothing for weights that are not the published ones."""
    if spec.weights != "pretrained":
        yield
        return
    name, repository = f"timm:{spec.arch}", config.hf_hub_id
    if not config.has_weights:
        raise UsageError(f'{name}: timm publishes no weights for it; give a file, or weights = "none"')
    page = f"https://huggingface.co/{repository}" if repository else str(config.url)
    files = (config.hf_hub_filename,) if config.hf_hub_filename else FILES
    with weights.fetching(name, page, repository, files):
        yield


def _heads(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the classifier modules that hold parameters."""
    config: Any = model.pretrained_cfg
    stated = config.get("classifier") or ()
    stated = (stated,) if isinstance(stated, str) else tuple(stated)
    modules = dict(model.named_modules())
    found = tuple(name for name in stated if name in modules and any(True for _ in modules[name].parameters()))
    return found or (last_layer(model),)


def _headed(model: nn.Module, spec: ModelSpec, classes: int, size: int) -> nn.Module:
    """Take timm's own classifier off (its pooling too, when another is asked for) and put ours on."""
    reset: Any = model.reset_classifier
    try:
        reset(0) if spec.head.pool == "default" else reset(0, "")
    except (TypeError, AssertionError, ValueError) as error:
        raise UsageError(
            f'timm:{spec.arch} keeps its own pooling ({first_line(error)}); use head.pool = "default"'
        ) from error
    pool = Pool(
        spec.head.pool,
        channels_last=getattr(model, "output_fmt", "NCHW") == "NHWC",
        prefix=int(getattr(model, "num_prefix_tokens", 0)),
    )
    return attach(model, pool, spec.head, classes, size)


def _groups(model: nn.Module, heads: tuple[str, ...]) -> Groups:
    """Group by timm's own matcher (stem, blocks, norm); by children where an architecture has none."""
    from timm.models import group_parameters

    matcher = getattr(model, "group_matcher", None)
    if matcher is None:
        return from_children(model, heads)
    try:
        found = group_parameters(model, cast(Any, matcher)(coarse=False))
    except (NotImplementedError, AssertionError, TypeError, AttributeError):
        return from_children(model, heads)
    ordered = [found[key] for key in sorted(found)]
    names = sorted(name for group in ordered for name in group)
    whole = names == sorted(name for name, _ in model.named_parameters())
    return with_head(model, ordered, heads) if whole else from_children(model, heads)


def _adapted(model: nn.Module, state: weights.State) -> weights.State:
    """Resize position embeddings by the architecture's own checkpoint filter, where it has one."""
    filters = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    return state if filters is None else filters(state, model)


@cache
def _config(arch: str) -> Any:
    """Return timm's pretrained configuration of an architecture or architecture.tag."""
    import timm

    return timm.get_pretrained_cfg(arch)


def _pretraining(tag: str | None) -> str | None:
    """Put a weight tag such as 'fb_in22k_ft_in1k' into words; the tag itself stays beside them."""
    if not tag:
        return None
    parts = [DATA[word] for word in tag.split("_") if word in DATA]
    told = ", then ".join(dict.fromkeys(parts))
    return f"{told} ({tag})" if told else tag
