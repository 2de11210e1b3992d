"""Feature inversion: an image of which a layer makes the same as of this one shows what the layer still knows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bakeoff.explain.deconvnet import as_pixels
from bakeoff.explain.explainer import Explanation, Options, Picture
from bakeoff.explain.gradcam import applies
from bakeoff.explain.layers import find_name, output_of
from bakeoff.explain.subject import Subject
from bakeoff.models.spec import Network
from bakeoff.seeds import fold

NAME = "inversion"
TITLE = "Inversion"
SOURCE = "Mahendran and Vedaldi 2015, Understanding Deep Image Representations by Inverting Them"
__all__ = ["NAME", "SOURCE", "TITLE", "applies", "explain"]  # it needs a feature map, as Grad-CAM does
STEPS = 200
RATE = 0.05  # of Adam, in the image's values 0..1; falls to 0 along a cosine
NOISE = 0.05  # the standard deviation of the start, around grey
ALPHA, BETA = 6, 2  # the powers of the two regularisers
RANGE_SHARE, SMOOTH_SHARE = 1e-3, 5.0  # beside the squared error of the features


@dataclass(frozen=True)
class Goal:
    """What the layer makes of the image, and how far another image is from it."""

    network: Network
    layer: str
    wanted: Tensor

    def error(self, image: Tensor) -> Tensor:
        """Return the distance of the features as a share of their own length: 0 where they are equal."""
        apart = output_of(self.network, self.layer, image) - self.wanted
        share: Tensor = torch.linalg.vector_norm(apart) / torch.linalg.vector_norm(self.wanted)
        return share

    def loss(self, image: Tensor) -> Tensor:
        """Return error^2 + the alpha norm (values far from grey) + the total variation (steps between neighbours)."""
        far = (2 * image - 1).abs().pow(ALPHA).mean()
        down, right = image.diff(dim=2).pow(BETA).mean(), image.diff(dim=3).pow(BETA).mean()
        return self.error(image).square() + RANGE_SHARE * far + SMOOTH_SHARE * (down + right)


def explain(network: Network, image: Tensor, subject: Subject, options: Options) -> Explanation:  # noqa: ARG001
    """Return an image, found from noise in `options.steps` steps (STEPS where not given), with the same features.

    The layer is `options.layer`, else the last in front of the head.  The same `options.seed` gives the same image.
    The note tells the error of the features that is left, as a share of their length, beside that of the start.
    """
    layer = find_name(network, image, options.layer)
    with torch.no_grad():
        wanted = output_of(network, layer, image).detach()
        if not bool(wanted.any()):
            return Explanation(
                None, pictures=(Picture(as_pixels(image), "the image"),), note=f"layer {layer} is silent"
            )
        goal, steps = Goal(network, layer, wanted), options.steps or STEPS
    start = 0.5 + NOISE * torch.randn(image.shape, generator=torch.Generator().manual_seed(fold(options.seed, NAME)))
    start = start.to(image.device)
    found = inverted(goal, start, steps)
    with torch.no_grad():
        left, first = (float(goal.error(one)) for one in (found, start))
    note = f"layer {layer}: relative error of the features {left:.3g} after {steps} steps ({first:.3g} at the start)"
    return Explanation(
        None, pictures=(Picture(as_pixels(found), "an image with the same features"),), note=note, layer=layer
    )


def inverted(goal: Goal, start: Tensor, steps: int) -> Tensor:
    """Go down the loss with Adam; return the image, cut to 0..1."""
    image = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([image], lr=RATE)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = RATE * (1 + math.cos(math.pi * step / steps)) / 2
        with torch.enable_grad():
            (image.grad,) = torch.autograd.grad(goal.loss(image), image)
        optimiser.step()
    return image.detach().clamp(0, 1)
