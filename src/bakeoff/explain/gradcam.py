"""Grad-CAM: the channels of a layer, each weighed by the mean gradient of the class."""

from __future__ import annotations

from torch import Tensor

from bakeoff.data.dataset import TaskName
from bakeoff.explain.explainer import Explanation, Options
from bakeoff.explain.layers import enlarged, find_layer, grids
from bakeoff.explain.subject import Subject
from bakeoff.models.spec import Network

NAME = "gradcam"
TITLE = "Grad-CAM"
SOURCE = "Selvaraju et al. 2017, Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization"


def applies(network: Network, task: TaskName, image: Tensor) -> str:  # noqa: ARG001
    """Grad-CAM needs a feature map."""
    return "" if grids(network, image) else "no layer of it keeps places apart (it has no feature map)"


def explain(network: Network, image: Tensor, subject: Subject, options: Options) -> Explanation:
    """Return ReLU(sum over channels of mean gradient x activation) of one layer, enlarged bilinearly."""
    layer = find_layer(network, subject, image, options.layer)
    weights = layer.gradient.mean(dim=(1, 2), keepdim=True)
    grid = (weights * layer.activation).sum(dim=0).relu()
    side = grid.shape[-1]
    note = f"layer {layer.name}, {side} x {side}"
    return Explanation(enlarged(grid, network, image.shape[-1]), note=note, layer=layer.name)
