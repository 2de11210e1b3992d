"""Integrated gradients: the gradient, averaged on the way from a black image to this one, times the way."""

from __future__ import annotations

import torch
from torch import Tensor

from bakeoff.data.dataset import TaskName
from bakeoff.explain.captum_extra import attribution, missing
from bakeoff.explain.explainer import Explanation, Options
from bakeoff.explain.subject import Subject
from bakeoff.models.spec import Network

NAME = "integrated_gradients"
TITLE = "Integrated gradients"
SOURCE = "Sundararajan et al. 2017, Axiomatic Attribution for Deep Networks"
STEPS = 50


def applies(network: Network, task: TaskName, image: Tensor) -> str:  # noqa: ARG001
    """It is defined for every network that has gradients; Captum computes it."""
    return missing()


def explain(network: Network, image: Tensor, subject: Subject, options: Options) -> Explanation:
    """Return the attributions of all pixels, colours summed; signed.

    They sum to the difference of the value between the image and black, but for the error of the sum over
    `options.steps` points (Gauss-Legendre; STEPS where not given), which the note tells.
    """
    method = attribution("IntegratedGradients")(lambda images: subject.value(network, images))
    with torch.enable_grad():
        found, error = method.attribute(
            image.detach().clone(),
            baselines=torch.zeros_like(image),
            n_steps=options.steps or STEPS,
            internal_batch_size=options.batch,
            return_convergence_delta=True,
        )
    total = float(found.sum())
    note = f"sums to {total:.3g}; the value differs from a black image's by {total - float(error):.3g}"
    return Explanation(found[0].sum(dim=0).detach().float().cpu().numpy(), signed=True, note=note)
