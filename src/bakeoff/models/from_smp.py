"""Semantic segmentation from segmentation_models_pytorch: its decoders on its own encoders or on timm's."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bakeoff.data.dataset import TaskName
from bakeoff.errors import UsageError, nearest
from bakeoff.models import from_timm, timm_maps, weights
from bakeoff.models.encoder_decoder import EncoderDecoder, drop_unused, encoder_skips, refuse_head
from bakeoff.models.head import first_line
from bakeoff.models.spec import Card, ModelSpec, Network

NAME = "smp"
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
UNIVERSAL = "tu-"  # smp's prefix for an encoder from timm
DECODERS: dict[str, Callable[[int], range]] = {  # -> where its decoder's skips lie among the encoder's maps 0 .. depth
    "unet": lambda depth: range(1, depth),
    "unetplusplus": lambda depth: range(1, depth),
    "manet": lambda depth: range(1, depth),
    "linknet": lambda depth: range(1, depth),
    "fpn": lambda depth: range(depth - 3, depth),
    "pan": lambda depth: range(2, depth),
    "upernet": lambda depth: range(2, depth),
    "segformer": lambda depth: range(1, depth),
    "deeplabv3plus": lambda _depth: range(2, 3),
    "deeplabv3": lambda _depth: range(0),
    "pspnet": lambda _depth: range(0),
    "dpt": lambda depth: range(depth),
}
DILATED = ("deeplabv3", "deeplabv3plus", "pan")  # these cannot stand on encoders that pool with fixed strides
POOLING = ("vgg", "densenet", "inception", "xception")
UNEVEN = ("unetplusplus", "linknet")  # these need a map at every halving, which mix transformers lack
TRANSFORMERS = tuple(f"tu-vit_{size}_patch16_224" for size in ("tiny", "small", "base", "large"))  # for dpt
OURS = ("self", "encoder_name", "encoder_weights", "in_channels", "classes", "activation", "aux_params", "kwargs")
TWINS = {"mobilenet_v2": "mobilenetv2_100"}  # the same network in timm: the same tensors in the same order
DATA = {  # smp's names of weights -> what they were trained on
    "imagenet": "ImageNet-1k",
    "advprop": "ImageNet-1k with adversarial examples",
    "ssl": "unlabelled YFCC-100M images, then ImageNet-1k",
    "swsl": "Instagram images with hashtags, then ImageNet-1k",
    "instagram": "Instagram images with hashtags, then ImageNet-1k",
    "imagenet+5k": "ImageNet-1k and ImageNet-5k",
    "imagenet+background": "ImageNet-1k",
}
LICENCES = dict.fromkeys(("ssl", "swsl", "instagram"), "cc-by-nc-4.0")  # Facebook's; timm states it of the same weights


@cache
def names(task: TaskName = "classification") -> tuple[str, ...]:
    """Return decoder:encoder for every pair that fits together; with dpt, four of timm's vision transformers."""
    if task != "semantic":
        return ()
    pairs = [(decoder, encoder) for decoder in DECODERS for encoder in (*_encoders(), *TRANSFORMERS)]
    return tuple(sorted(f"{decoder}:{encoder}" for decoder, encoder in pairs if _fits(decoder, encoder)))


def has(arch: str, task: TaskName) -> bool:
    """Say whether an architecture can be named: a decoder, a colon, and smp's name of an encoder or tu- and timm's."""
    decoder, _, encoder = arch.partition(":")
    if task != "semantic" or decoder not in DECODERS or not encoder:
        return False
    if not encoder.startswith(UNIVERSAL):
        return encoder in _encoders() and _fits(decoder, encoder)
    import timm

    return bool(timm.is_model(encoder.removeprefix(UNIVERSAL)))


def card(arch: str) -> Card:
    """Return licence and pretraining data of the encoder's published weights; smp states none for most of its own."""
    encoder = arch.partition(":")[2]
    if encoder.startswith(UNIVERSAL):
        return from_timm.card(encoder.removeprefix(UNIVERSAL))
    which = _published(encoder, "pretrained")
    return Card() if which is None else _card(encoder, which)


def build(spec: ModelSpec, classes: int, size: int, task: TaskName = "classification") -> Network:  # noqa: ARG001
    """Build a decoder on an encoder for images of `size` pixels, padded inside to the multiple that they need.

    `weights` are the encoder's: published ("pretrained", or by smp's name such as "ssl"), or a file of the encoder or
    of the whole network; decoder and segmentation head otherwise start at random.  `options` go to smp's class, and
    with a tu- encoder also to timm.  Parameters that no logit depends on are left out.  Raises UsageError for options
    or sizes that do not fit, ResourceError when published weights cannot be had, WeightsMismatch for a file that does
    not fit.
    """
    refuse_head(spec)
    decoder, _, encoder = spec.arch.partition(":")
    multiple = _multiple(spec)
    side = size + -size % multiple
    model, found = _loaded(spec, classes, side)
    channels = model.encoder.out_channels
    skips = encoder_skips(channels, DECODERS[decoder](len(channels) - 1))
    body = EncoderDecoder(model.encoder, model.decoder, model.segmentation_head, skips, multiple)
    drop_unused(body, side)
    if found is None:
        found = weights.load_file(body, spec.weights, ("segmentation_head",))
    return Network(body, body.groups(), *_normalisation(encoder, spec.weights), found)


def _loaded(spec: ModelSpec, classes: int, side: int) -> tuple[Any, Card | None]:
    """Build smp's network with its encoder's weights; no card while a file of the whole is to be loaded yet."""
    encoder = spec.arch.partition(":")[2]
    if spec.weights == "none":
        return _create(spec, classes, side), Card(pretraining="none")
    which = None if encoder.startswith(UNIVERSAL) else _published(encoder, spec.weights)
    if which is not None:
        return _fetched(spec, classes, side, which)
    if spec.weights != "pretrained" and _whole(weights.read(Path(spec.weights))[0]):
        return _create(spec, classes, side), None
    if encoder.startswith(UNIVERSAL):
        return _universal(spec, classes, side)
    if spec.weights == "pretrained":
        raise UsageError(f'smp publishes no weights for {encoder}; give a file, or weights = "none"')
    model = _create(spec, classes, side)
    own = model.encoder.state_dict()
    found = weights.load_file(model.encoder, spec.weights, (), rename=lambda state: _renamed(state, encoder, own))
    return model, replace(found, loaded=f"{found.loaded}; the decoder starts at random")


def _fetched(spec: ModelSpec, classes: int, side: int, which: str) -> tuple[Any, Card]:
    """Build a network on one of smp's encoders with weights from the hub."""
    entry, found = _entry(spec.arch.partition(":")[2], which), _card(spec.arch.partition(":")[2], which)
    files = ("model.safetensors",)
    with weights.fetching(f"smp:{spec.arch}", str(found.url), entry["repo_id"], files, entry["revision"]):
        return _create(spec, classes, side, encoder_weights=which), found


def _universal(spec: ModelSpec, classes: int, side: int) -> tuple[Any, Card]:
    """Build a network on a timm encoder with timm's weights, or with those of a file of the whole classifier."""
    inner = spec.model_copy(update={"arch": spec.arch.partition(f":{UNIVERSAL}")[2], "options": _timm_options(spec)})
    if spec.weights == "pretrained":
        with from_timm._fetching(from_timm._config(inner.arch), inner):
            return _create(spec, classes, side, encoder_weights=True), from_timm.card(inner.arch)
    state, found = timm_maps._state(inner, side)
    overlay = {"pretrained_cfg_overlay": {"state_dict": state}}
    model = _create(spec, classes, side, encoder_weights=True, **overlay)
    note = f"{len(model.encoder.state_dict())} tensors of the encoder loaded; the decoder starts at random"
    return model, replace(found, loaded=note)


def _renamed(state: weights.State, encoder: str, own: weights.State) -> weights.State:
    """Give a file with timm's names those of smp's encoder, where the two are one network."""
    if encoder not in TWINS or set(own) <= set(state):
        return state
    with torch.device("meta"):
        twin = from_timm._create(ModelSpec(arch=TWINS[encoder], weights="none"), 1000, 224)
    return weights.in_order(state, list(twin.state_dict()), own) or state


def _whole(state: weights.State) -> bool:
    """Say whether a file holds more than an encoder."""
    return any(".decoder." in f".{name}" for name in state)


def _create(spec: ModelSpec, classes: int, side: int, encoder_weights: Any = None, **given: Any) -> Any:
    """Call smp's factory, with its errors in our words."""
    import segmentation_models_pytorch as smp

    decoder, _, encoder = spec.arch.partition(":")
    options: dict[str, Any] = {**spec.options, **given}
    _check_options(spec, smp.MODEL_ARCHITECTURES_MAPPING[decoder])
    if encoder.startswith(UNIVERSAL) and from_timm._config(encoder.removeprefix(UNIVERSAL)).fixed_input_size:
        options.setdefault("img_size", side)
    if decoder == "dpt":
        options["num_classes"] = 0  # timm's own classifier, which smp would leave in
    device = torch.get_default_device()
    # mix transformers compute with real numbers while they are built: nothing that a meta device could do
    place = torch.device("cpu") if encoder.startswith("mit_") else nullcontext()
    try:
        with _quiet(), place:
            model: nn.Module = smp.create_model(decoder, encoder, encoder_weights, 3, classes, **options)
    except (TypeError, ValueError, AssertionError, KeyError, AttributeError, IndexError) as error:
        told = f" with options {spec.options}" if spec.options else ""
        raise UsageError(f"smp:{spec.arch} cannot be built{told}: {first_line(error)}") from error
    return model.to(device)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back smp's warnings about its own defaults, and timm's about tensors that only a classifier needs."""
    logger = logging.getLogger("timm")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _check_options(spec: ModelSpec, function: Any) -> None:
    """Raise UsageError for an option that smp would swallow: on its own encoders, any that its class does not name."""
    known = [name for name in inspect.signature(function.__init__).parameters if name not in OURS]
    for name in spec.options:
        if name in OURS or (name not in known and f":{UNIVERSAL}" not in spec.arch):
            has = ", ".join(known)
            raise UsageError(f"smp:{spec.arch} has no option {name!r}{nearest(name, known)}; it has {has}")


def _timm_options(spec: ModelSpec) -> dict[str, Any]:
    """Return the options that are for timm's encoder, not for smp's class."""
    import segmentation_models_pytorch as smp

    function = smp.MODEL_ARCHITECTURES_MAPPING[spec.arch.partition(":")[0]]
    known = inspect.signature(function.__init__).parameters
    return {name: value for name, value in spec.options.items() if name not in known}


def _multiple(spec: ModelSpec) -> int:
    """Return what the side of an image must be a multiple of; dpt halves the grid of patches once."""
    decoder, _, encoder = spec.arch.partition(":")
    if decoder != "dpt":
        return 32
    with torch.device("meta"):
        model: Any = from_timm._create(ModelSpec(arch=encoder.removeprefix(UNIVERSAL), weights="none"), 0, 224)
    return 2 * int(model.feature_info[-1]["reduction"])


@cache
def _encoders() -> tuple[str, ...]:
    """Return smp's own encoders, less those that it has given up in favour of timm's."""
    from segmentation_models_pytorch.encoders import encoders

    return tuple(name for name in encoders if not name.startswith("timm-"))


def _fits(decoder: str, encoder: str) -> bool:
    """Say whether smp lets a decoder stand on an encoder."""
    if decoder == "dpt" or encoder.startswith(UNIVERSAL):
        return decoder == "dpt" and encoder.startswith(UNIVERSAL)
    if decoder in DILATED and encoder.startswith(POOLING):
        return False
    return not (decoder in UNEVEN and encoder.startswith("mit_"))


def _entry(encoder: str, which: str) -> dict[str, str]:
    """Return where the hub has weights of one of smp's encoders."""
    from segmentation_models_pytorch.encoders import encoders

    found: dict[str, str] = encoders[encoder]["pretrained_settings"][which]
    return found


def _published(encoder: str, which: str) -> str | None:
    """Return the name of an encoder's published weights ("pretrained": the first); None where there are none such."""
    from segmentation_models_pytorch.encoders import encoders

    known = list(encoders[encoder].get("pretrained_settings") or ())
    if which == "pretrained":
        return known[0] if known else None
    return which if which in known else None


def _card(encoder: str, which: str) -> Card:
    """Put smp's name of weights into words."""
    told = f"{DATA[which]} ({which})" if which in DATA else which
    return Card(LICENCES.get(which), told, f"https://huggingface.co/{_entry(encoder, which)['repo_id']}")


def _normalisation(encoder: str, given: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std for images in 0..1: timm's, those that published weights were made with, or ImageNet's."""
    if encoder.startswith(UNIVERSAL):
        config = from_timm._config(encoder.removeprefix(UNIVERSAL))
        return tuple(config.mean), tuple(config.std)
    which = None if given == "none" else _published(encoder, given)
    if which is None:
        return IMAGENET
    from segmentation_models_pytorch.encoders import get_preprocessing_params

    found = get_preprocessing_params(encoder, which)  # from the hub's cache, where loading has just put it
    scale = found["input_range"][1]
    return tuple(value / scale for value in found["mean"]), tuple(value / scale for value in found["std"])
