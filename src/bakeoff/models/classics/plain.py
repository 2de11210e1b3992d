"""Plain networks (He et al. 2016, figure 3 middle): ResNet-18 and ResNet-34 without their shortcuts.

The paper's question: a plain net of 34 layers trains worse than one of 18, although it could do all that the shallower
one does; with shortcuts it is the other way round.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from bakeoff.models import from_torchvision
from bakeoff.models.classics.options import whole_numbers
from bakeoff.models.spec import ModelSpec, Network

NAMES = ("plain18", "plain34")


def build(spec: ModelSpec, classes: int, size: int) -> Network:
    """Build the plain twin of torchvision's resnet18 or resnet34; it has no options.

    Under the same seed both start from the same weights in every layer that both have.  Raises UsageError for options
    and weights that there are not, and what weights.load_file raises.
    """
    import torchvision

    whole_numbers(spec, {})
    body = torchvision.models.get_model(spec.arch.replace("plain", "resnet"), weights=None, num_classes=classes)
    for stage in (body.layer1, body.layer2, body.layer3, body.layer4):
        for place, block in enumerate(stage):
            stage[place] = PlainBlock(block)
    return from_torchvision.finished(body, "fc", spec, classes, size)


class PlainBlock(nn.Module):
    """Two 3 x 3 convolutions with batch norm and ReLU, and nothing beside them: a basic block less its shortcut."""

    def __init__(self, block: Any) -> None:
        """Take the layers of torchvision's BasicBlock, all but the 1 x 1 convolution of its shortcut."""
        super().__init__()
        self.conv1, self.bn1, self.relu = block.conv1, block.bn1, block.relu
        self.conv2, self.bn2 = block.conv2, block.bn2

    def forward(self, features: Tensor) -> Tensor:
        """Run the layers; the last ReLU comes where the sum was."""
        inner = self.relu(self.bn1(self.conv1(features)))
        outer: Tensor = self.relu(self.bn2(self.conv2(inner)))
        return outer
