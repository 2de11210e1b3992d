"""ZFNet (Zeiler & Fergus 2014, figure 3): AlexNet with a finer first layer, found by looking at what layers see.

Every layer of `features` is a module of its own, in the order in which it runs: pictures of what a feature map saw are
made by going back through them, with the places that the poolings took their maxima from.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from bakeoff.errors import UsageError
from bakeoff.models import from_torchvision
from bakeoff.models.blocks import he_weights
from bakeoff.models.classics.options import whole_numbers
from bakeoff.models.head import probe
from bakeoff.models.spec import ModelSpec, Network

NAMES = ("zfnet",)
WIDTHS = {"width": 96, "hidden": 4096}  # of the first layer, and of the two hidden ones of the classifier
LEAST = 21  # pixels: below, nothing is left for the second convolution
POOL = 3


def build(spec: ModelSpec, classes: int, size: int) -> Network:
    """Build ZFNet for images of `size` pixels, 21 at least; options `width` (96) and `hidden` (4096).

    Convolution weights are drawn for ReLU (He et al. 2015): from the paper's own, 0.01 wide, little is learned of few
    images.  Raises UsageError for options, sizes and weights that there are not, and what weights.load_file raises.
    """
    if size < LEAST:
        raise UsageError(f"classics:{spec.arch} takes images of {LEAST} pixels or more, not {size}")
    body = he_weights(ZFNet(classes, size, **whole_numbers(spec, WIDTHS)))
    return from_torchvision.finished(body, "classifier.7", spec, classes, size)


class ZFNet(nn.Module):
    """images (B, 3, H, W) -> logits (B, classes): five convolutions, three poolings, three linear layers.

    The parts bear the names of torchvision's AlexNet.  `avgpool` brings maps of other images to the size that the
    first linear layer was made for, 6 x 6 for the paper's 224 pixels; on the images of `size` it changes nothing.
    """

    def __init__(self, classes: int, size: int, width: int = 96, hidden: int = 4096) -> None:
        """Set the widths; the last map of an image of `size` pixels is measured."""
        super().__init__()
        self.features = _features(width)
        if min(probe(self.features, size).shape[2:]) >= 2 * POOL:  # small images go without the last pooling
            self.features.add_module("pool5", nn.MaxPool2d(POOL, 2))
        channels, side = probe(self.features, size).shape[1:3]
        self.avgpool = nn.AdaptiveAvgPool2d(side)
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(),
            nn.Linear(channels * side * side, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Run the three parts in turn."""
        logits: Tensor = self.classifier(self.avgpool(self.features(images)))
        return logits


def _features(width: int) -> nn.Sequential:
    """Return the layers up to the fifth convolution; contrast is normalised across the first two maps' channels."""
    second, third = max(1, width * 8 // 3), 4 * width
    plan = [(3, width, 7, 2, 1), (width, second, 5, 2, 0), (second, third, 3, 1, 1), (third, third, 3, 1, 1)]
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, sizes in enumerate([*plan, (third, second, 3, 1, 1)], 1):
        layers[f"conv{number}"] = nn.Conv2d(*sizes)
        layers[f"relu{number}"] = nn.ReLU(inplace=True)
        if number <= 2:
            layers[f"pool{number}"] = nn.MaxPool2d(POOL, 2, 1)
            layers[f"norm{number}"] = nn.LocalResponseNorm(5, 1e-4, 0.75, 2.0)
    return nn.Sequential(layers)
