"""The body of networks that give a logit per class and pixel: an encoder, a decoder, and what turns maps to logits."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bakeoff.errors import UsageError
from bakeoff.models.groups import Groups, from_children, with_head
from bakeoff.models.head import first_line
from bakeoff.models.skips import Connected, Skip
from bakeoff.models.spec import Head, ModelSpec

HEAD = ("decoder", "segmentation_head")  # the last layer group: what starts at random on a pretrained encoder


class EncoderDecoder(Connected):
    """images (B, 3, H, W) -> logits (B, classes, H, W), by encoder, decoder and segmentation head in turn.

    The encoder returns a list of maps, finest first, for the decoder; a tuple is handed over as several arguments.
    Images whose sides are no multiple of `multiple` are padded with zeros (once normalised: with the mean colour) at
    the right and at the bottom, and logits are cropped; logits of another size are resized bilinearly.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        segmentation_head: nn.Module,
        skips: Sequence[Skip] = (),
        multiple: int = 1,
    ) -> None:
        """Join the three."""
        super().__init__()
        self.encoder, self.decoder, self.segmentation_head = encoder, decoder, segmentation_head
        self.skips, self.multiple = tuple(skips), multiple

    def forward(self, images: Tensor) -> Tensor:
        """Pad, run, and bring the logits to the images' size."""
        height, width = images.shape[-2:]
        below, right = -height % self.multiple, -width % self.multiple
        if below or right:
            images = F.pad(images, (0, right, 0, below))
        features = self.encoder(images)
        maps = self.decoder(*features) if isinstance(features, tuple) else self.decoder(features)
        logits = sized(self.segmentation_head(maps), images)
        return logits[..., :height, :width]

    def groups(self) -> Groups:
        """Return the layer groups: the encoder's blocks, then decoder and segmentation head as one."""
        inner = "encoder.model" if hasattr(self.encoder, "model") else "encoder"  # smp wraps timm's networks
        blocks = from_children(self.get_submodule(inner), ())
        return with_head(self, [[f"{inner}.{name}" for name in block] for block in blocks], HEAD)


def sized(logits: Tensor, images: Tensor) -> Tensor:
    """Bring logits to the height and width of the images, bilinearly, in float32."""
    shape = images.shape[-2:]
    if logits.shape[-2:] == shape:
        return logits
    return F.interpolate(logits.float(), shape, mode="bilinear", align_corners=False)


def encoder_skips(channels: Sequence[int], places: Sequence[int]) -> tuple[Skip, ...]:
    """Name the encoder's maps at these places as skip connections, less those that have no channels."""
    return tuple(
        Skip(f"encoder map {place} ({channels[place]} channels)", "encoder", place)
        for place in places
        if channels[place]
    )


def refuse_head(spec: ModelSpec) -> None:
    """Raise UsageError when a spec asks for a classification head on a network that has its own."""
    if spec.head != Head():
        raise UsageError(f"{spec.arch}: head options are for classification; leave `head` out")


def drop_unused(body: nn.Module, size: int) -> None:
    """Take parameters out that no logit depends on, such as stages behind the last map that a decoder takes.

    A copy on torch's meta device, where a backward pass computes nothing, finds them.  Raises UsageError when the
    network cannot take images of `size` pixels.
    """
    twin = copy.deepcopy(body).to("meta").train()
    try:
        with torch.inference_mode(False), torch.enable_grad():
            twin(torch.zeros(2, 3, size, size, device="meta")).sum().backward()
    except (RuntimeError, ValueError, AssertionError, IndexError, TypeError) as error:
        raise UsageError(f"the network cannot take images of {size} x {size} pixels: {first_line(error)}") from error
    idle = {name for name, parameter in twin.named_parameters() if parameter.grad is None}
    for path, module in list(body.named_modules()):
        own = {f"{path}.{name}" for name, _ in module.named_parameters()}
        if own and own <= idle and not _gone(body, path):
            body.set_submodule(path, nn.Identity())
    for path in idle & {name for name, _ in body.named_parameters()}:
        module, _, name = path.rpartition(".")
        body.get_submodule(module).register_parameter(name, None)


def _gone(body: nn.Module, path: str) -> bool:
    """Say whether a module went with one above it."""
    try:
        body.get_submodule(path)
    except AttributeError:
        return True
    return False
