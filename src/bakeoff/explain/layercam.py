"""LayerCAM: every place of every channel, weighed by its own positive gradient."""

from __future__ import annotations

from torch import Tensor

from bakeoff.explain.explainer import Explanation, Options
from bakeoff.explain.gradcam import applies
from bakeoff.explain.layers import enlarged, find_layer
from bakeoff.explain.subject import Subject
from bakeoff.models.spec import Network

NAME = "layercam"
TITLE = "LayerCAM"
SOURCE = "Jiang et al. 2021, LayerCAM: Exploring Hierarchical Class Activation Maps for Localization"
__all__ = ["NAME", "SOURCE", "TITLE", "applies", "explain"]  # it needs what Grad-CAM needs


def explain(network: Network, image: Tensor, subject: Subject, options: Options) -> Explanation:
    """Return ReLU(sum over channels of ReLU(gradient) x activation) of one layer, enlarged bilinearly."""
    layer = find_layer(network, subject, image, options.layer)
    grid = (layer.gradient.relu() * layer.activation).sum(dim=0).relu()
    side = grid.shape[-1]
    note = f"layer {layer.name}, {side} x {side}"
    return Explanation(enlarged(grid, network, image.shape[-1]), note=note, layer=layer.name)
