"""Occlusion sensitivity: how much less sure the network is where a grey square covers the image."""

from __future__ import annotations

import torch
from torch import Tensor

from bakeoff.data.dataset import TaskName
from bakeoff.explain.captum_extra import attribution, missing
from bakeoff.explain.explainer import Explanation, Options
from bakeoff.explain.subject import Subject
from bakeoff.models.spec import Network

NAME = "occlusion"
TITLE = "Occlusion"
SOURCE = "Zeiler and Fergus 2014, Visualizing and Understanding Convolutional Networks, section 4.2"


def applies(network: Network, task: TaskName, image: Tensor) -> str:  # noqa: ARG001
    """It looks at outputs alone, so it is defined for every network; Captum moves the square."""
    return missing()


def explain(network: Network, image: Tensor, subject: Subject, options: Options) -> Explanation:
    """Return, per pixel, the mean fall of the probability over the squares that cover it; signed.

    The square has the network's mean colour, a side of `options.window` of the image's, and moves by half of it.
    """
    side = image.shape[-1]
    window = max(1, round(options.window * side))
    method = attribution("Occlusion")(lambda images: subject.sure(network, images))
    with torch.no_grad():
        found = method.attribute(
            image,
            sliding_window_shapes=(3, window, window),
            strides=(3, max(1, window // 2), max(1, window // 2)),
            baselines=network.mean.expand_as(image),
            perturbations_per_eval=options.batch,
        )
    note = f"a square of {window} pixels; at most {100 * float(found.max()):.1f} points less sure"
    return Explanation(found[0, 0].float().cpu().numpy(), signed=True, note=note)
