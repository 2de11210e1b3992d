"""The cut in front of a classifier's head: where it lies, and that nothing but time is saved by it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bakeoff.errors import UsageError
from bakeoff.models import build
from bakeoff.models.features import Rest, cut
from bakeoff.models.spec import Head, ModelSpec, Network
from bakeoff.train.recipe import Stage
from bakeoff.train.stages import apply_stage

OWN = """
import torch
from torch import nn

class TwoHeads(nn.Module):
    head_name = "heads"
    def __init__(self, classes):
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.heads = nn.ModuleList([nn.Linear(8, classes), nn.Linear(8, classes)])

    def forward(self, images):
        features = self.trunk(images)
        return self.heads[0](features) + self.heads[1](features)

class NormedHead(nn.Module):
    head_name = "top"
    def __init__(self, classes):
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.top = nn.Sequential(nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, classes))

    def forward(self, images):
        return self.top(self.trunk(images).mean((2, 3))) / 2

def two(classes, size):
    return TwoHeads(classes)

def normed(classes, size):
    return NormedHead(classes)
"""


def make(arch: str, head: Head | None = None, **options: float) -> Network:
    """Return a network for 5 classes and 32 pixels as a stage that trains its head has it."""
    torch.manual_seed(0)
    network = build(ModelSpec(arch=arch, weights="none", head=head or Head(), options=options), 5, 32)
    apply_stage(network, Stage(layers="head"))
    return network


def layers(rest: Rest) -> list[str]:
    return [type(module).__name__ for module in rest.layers]


ROWS = [
    ("small:cnn", None, {}, ["Linear"]),  # the last layer
    ("small:cnn", Head(hidden=(6,), dropout=0.5), {}, ["Sequential"]),  # a head of several layers
    ("small:cnn", Head(dropout=0.5), {}, ["Dropout", "Linear"]),  # dropout in front of the head keeps drawing
    ("small:resnet", None, {}, ["Linear"]),
    ("small:vit", None, {}, ["Linear"]),  # tokens
    ("timm:test_vit", None, {"drop_rate": 0.3}, ["Dropout", "Linear"]),  # dropout that is no neighbour in a Sequential
    ("timm:test_convnext", None, {}, ["Linear"]),  # a head with pooling and norm of its own
    ("timm:test_efficientnet", None, {"drop_rate": 0.3}, ["EfficientNet"]),  # dropout that is no module: timm's halves
    ("torchvision:squeezenet1_1", None, {}, ["Dropout", "Conv2d", "ReLU", "AdaptiveAvgPool2d"]),  # layers behind it
    ("torchvision:shufflenet_v2_x0_5", None, {}, ["Linear"]),
]


@pytest.mark.parametrize(("arch", "head", "options", "expected"), ROWS)
def test_logits_of_features_are_those_of_the_network(
    arch: str, head: Head | None, options: dict[str, float], expected: list[str]
) -> None:
    network, images = make(arch, head, **options), torch.rand(6, 3, 32, 32)
    rest = cut(network, images)
    assert layers(rest) == expected
    features = torch.cat([rest.features(network, images[:3]), rest.features(network, images[3:])])
    torch.manual_seed(9)
    whole = network(images)
    torch.manual_seed(9)
    again = rest(features)
    assert (again - whole).abs().max() <= 1e-5
    assert {id(p) for p in network.parameters() if p.requires_grad} <= {id(p) for p in rest.parameters()}


def test_what_learns_from_a_look_is_put_back(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(OWN)
    network, images = make(f"{tmp_path}/nets.py:normed"), torch.rand(4, 3, 32, 32)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(UsageError, match="no features can stand in"):  # the halving behind its head is no module
        cut(network, images)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    head = network.body.get_submodule("top")
    Rest(head).features(network, images)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_a_network_that_cannot_be_cut_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(OWN)
    for network in (make(f"{tmp_path}/nets.py:two"), make("timm:test_vit", pos_drop_rate=0.3)):
        with pytest.raises(UsageError, match="cache_features = false"):
            cut(network, torch.rand(4, 3, 32, 32))


def test_bfloat16_features_are_kept_as_they_are() -> None:
    network, images = make("small:resnet"), torch.rand(4, 3, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        rest = cut(network, images)
        features = rest.features(network, images)
        assert torch.equal(rest(features.float().to(features.dtype)), network(images))
