"""The layer table and the operation count, against numbers known from elsewhere."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bakeoff.models import build
from bakeoff.models.layers import Layer, describe, flops, layer_table, parameters
from bakeoff.models.spec import ModelSpec

CLASSIFIER = ("classifier.0", "classifier.3", "classifier.6")


def test_vgg13_bn_as_torchsummary_prints_it() -> None:
    table, operations = describe(ModelSpec(arch="vgg13_bn"), 100, 256)
    assert len(table.rows) == 43
    assert table.total_parameters == table.trainable_parameters == 129_366_436
    assert table.forward_backward_mb == pytest.approx(381.63, abs=0.005)
    assert table.input_mb == 0.75
    assert table.parameters_mb == pytest.approx(493.49, abs=0.005)
    assert table.rows[0] == Layer("features.0", "Conv2d", (64, 256, 256), 1792)
    assert table.rows[-1] == Layer("classifier.6", "Linear", (100,), 409_700)
    assert table.groups == (*(f"features.{n}" for n in (0, 3, 7, 10, 14, 17, 21, 24, 28, 31)), *CLASSIFIER)
    assert 29e9 < operations < 30e9  # 14.8 GMAC: 11.32 GMAC at 224 pixels x (256/224)^2, the classifier unchanged


@pytest.mark.parametrize(
    ("arch", "gmac"),
    [
        ("timm:vit_small_patch16_224", 4.6),  # the paper of DeiT-S; attention counted
        ("torchvision:vit_b_16", 17.56),  # torchvision's table; torch's own attention
        ("timm:mobilenetv2_100", 0.30),  # the paper of MobileNetV2
    ],
)
def test_flops(arch: str, gmac: float) -> None:
    _, operations = describe(ModelSpec(arch=arch), 1000, 224)
    assert operations == pytest.approx(2e9 * gmac, rel=0.03)


def test_flops_are_those_of_the_real_device() -> None:
    spec = ModelSpec(arch="small:vit")
    network = build(spec, 10, 28)
    assert flops(network, 28) == describe(spec, 10, 28)[1] > 0


@pytest.mark.parametrize(
    "arch", ["small:vit", "timm:test_vit", "torchvision:swin_t", "timm:mobilenetv2_100", "small:resnet"]
)  # own attention, timm's, functional attention, norms with activation, shared functions
def test_rows_and_the_rest_add_up(arch: str) -> None:
    table, _ = describe(ModelSpec(arch=arch), 5, 64)
    assert sum(row.parameters for row in table.rows) + table.other_parameters == table.total_parameters
    assert 0 <= table.other_parameters < 0.03 * table.total_parameters


def test_a_layer_called_twice_has_two_rows_and_counts_once() -> None:
    layer = nn.Conv2d(3, 3, 1)
    network = nn.Sequential(layer, layer)
    network[0].weight.requires_grad_(False)
    table = layer_table(network, 8)
    assert [row.parameters for row in table.rows] == [12, 0]
    assert (table.total_parameters, table.trainable_parameters) == (12, 3)
    assert parameters(network) == 12


def test_modes_and_hooks_are_left_as_found() -> None:
    network = build(ModelSpec(arch="small:cnn"), 3, 16).train()
    network.body.get_submodule("trunk").eval()
    before = [module.training for module in network.modules()]
    statistics = network.get_buffer("body.trunk.0.1.running_mean").clone()
    layer_table(network, 16)
    flops(network, 16)
    assert [module.training for module in network.modules()] == before
    assert torch.equal(network.get_buffer("body.trunk.0.1.running_mean"), statistics)
    assert not any(module._forward_hooks for module in network.modules())
