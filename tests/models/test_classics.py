"""The classic networks are those of their papers, and learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from bakeoff.data.examples import example
from bakeoff.data.load import Batch
from bakeoff.errors import UsageError
from bakeoff.models import build, catalogue, classics
from bakeoff.models.features import cut
from bakeoff.models.layers import describe
from bakeoff.models.spec import Head, ModelSpec, Network
from bakeoff.tasks.classification import Classification
from bakeoff.train.recipe import Stage
from bakeoff.train.stages import apply_stage


def make(arch: str, classes: int = 3, size: int = 64, options: dict[str, Any] | None = None) -> Network:
    torch.manual_seed(1)
    return build(ModelSpec(arch=arch, weights="none", options=options or {}), classes, size)


def test_zfnet_is_that_of_the_paper() -> None:
    table, _ = describe(ModelSpec(arch="zfnet"), 1000, 224)
    shapes = {row.name: row.shape for row in table.rows}
    figure = {"conv1": (96, 110, 110), "pool1": (96, 55, 55), "conv2": (256, 26, 26), "pool2": (256, 13, 13)}
    figure |= {"conv3": (384, 13, 13), "conv4": (384, 13, 13), "conv5": (256, 13, 13), "pool5": (256, 6, 6)}
    assert {name: shapes[f"features.{name}"] for name in figure} == figure
    assert shapes["classifier.2"] == shapes["classifier.5"] == (4096,)
    assert shapes["classifier.7"] == (1000,)


@pytest.mark.parametrize("size", [21, 33, 64])  # pixels: the least; an odd side; the last pooling is left out of all
def test_zfnet_takes_small_images(size: int) -> None:
    network = make("zfnet", size=size, options={"width": 12, "hidden": 16})
    assert network(torch.rand(2, 3, size, size)).shape == (2, 3)
    assert not hasattr(network.body.get_submodule("features"), "pool5")
    with torch.no_grad():
        maps = network.body.get_submodule("features")(torch.rand(1, 3, size, size))
        assert torch.equal(network.body.get_submodule("avgpool")(maps), maps)


@pytest.mark.parametrize("depth", [18, 34])
def test_a_plain_network_is_the_residual_one_without_its_shortcuts(depth: int) -> None:
    plain, residual = make(f"plain{depth}"), make(f"torchvision:resnet{depth}")
    own, theirs = (dict(network.body.named_parameters()) for network in (plain, residual))
    assert [name for name in theirs if "downsample" not in name] == list(own)
    assert len(theirs) - len(own) == 3 * 3  # the weights of three convolutions and their norms
    assert all(torch.equal(own[name], theirs[name]) for name in own)  # the same seed starts both alike
    layers = [
        [str(module) for name, module in network.body.named_modules() if isinstance(module, nn.Conv2d) and
         "downsample" not in name] for network in (plain, residual)
    ]  # fmt: skip
    assert layers[0] == layers[1]
    images = torch.rand(2, 3, 64, 64)
    for stage in (1, 2, 3, 4):  # a residual block whose shortcut carries nothing is the plain one
        for block in residual.body.get_submodule(f"layer{stage}").children():
            block.downsample = Nothing()
    with torch.no_grad():
        assert torch.equal(plain.eval()(images), residual.eval()(images))


class Nothing(nn.Module):
    """A shortcut of zeros."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features.new_zeros(())


def auxiliary_losses(network: Network, batch: Batch) -> list[torch.Tensor]:
    """Return the losses of all outputs by torchvision's own GoogLeNet with the network's weights, in train mode."""
    model = torchvision.models.googlenet(weights=None, aux_logits=True, num_classes=3, init_weights=False)
    model.load_state_dict(network.body.state_dict())
    torch.manual_seed(5)
    output = model.train()((batch.images - 0.5) / 0.5)
    return [nn.functional.cross_entropy(logits, batch.targets).detach() for logits in output]


def test_auxiliary_losses_count_in_training_and_in_nothing_else() -> None:
    network, task = make("googlenet_aux").train(), Classification(("a", "b", "c"))
    batch = example("classification", 3, 6, 64)
    own, second, first = auxiliary_losses(network, batch)
    torch.manual_seed(5)
    loss = task.loss(network, batch)
    assert float(loss.detach()) == pytest.approx(float(own + 0.3 * second + 0.3 * first), rel=1e-6)
    loss.backward()
    assert not [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert {"aux1.fc2.weight", "aux2.fc2.weight", "fc.weight"} <= set(network.groups[-1])
    with torch.inference_mode():
        before = network.eval()(batch.images)
        for part in ("aux1", "aux2"):
            for parameter in network.body.get_submodule(part).parameters():
                parameter.fill_(7.0)
        assert torch.equal(network(batch.images), before)


def test_features_cannot_stand_in_for_a_backbone_with_auxiliary_classifiers() -> None:
    network = make("googlenet_aux")
    apply_stage(network, Stage(layers="head"))
    with pytest.raises(UsageError, match="auxiliary classifiers look into the backbone"):
        cut(network, torch.rand(2, 3, 64, 64))


def test_a_classic_takes_its_own_file(tmp_path: Path) -> None:
    small = {"width": 12, "hidden": 16}
    source = make("zfnet", options=small)
    save_file(source.body.state_dict(), tmp_path / "w.safetensors")
    spec = ModelSpec(arch="zfnet", weights=str(tmp_path / "w.safetensors"), options=dict(small))
    same, other = build(spec, 3, 64), build(spec, 5, 64)
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), same.parameters(), strict=True))
    assert torch.equal(
        other.get_parameter("body.features.conv1.weight"), source.get_parameter("body.features.conv1.weight")
    )
    assert "the head starts at random" in str(other.loaded)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (ModelSpec(arch="zfnet"), 'no published weights; use weights = "none" or a file'),  # nobody has any
        (ModelSpec(arch="zfnet@none", options={"widht": 8}), r"no option 'widht' \(did you mean width"),  # a typo
        (ModelSpec(arch="zfnet@none", options={"hidden": 0}), "no positive whole number"),  # too narrow
        (ModelSpec(arch="plain34@none", options={"width": 8}), "no option 'width'; it has none"),  # it is ResNet's
        (
            ModelSpec(arch="googlenet_aux@none", options={"aux_logits": False}),
            "without them it is torchvision:googlenet",
        ),
        (ModelSpec(arch="googlenet_aux@none", head=Head(pool="max")), "auxiliary outputs need head.pool"),  # cut off
    ],
)
def test_what_cannot_be_built_is_told(spec: ModelSpec, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(spec, 2, 64)


def test_too_small_images_are_told() -> None:
    with pytest.raises(UsageError, match="takes images of 21 pixels or more, not 16"):
        make("zfnet", size=16)


def test_classics_are_listed() -> None:
    listed = {entry.name: entry for entry in catalogue.catalogue(family="classics", task="classification")}
    assert set(listed) == set(classics.names())
    assert not listed["zfnet"].has_weights
    for arch in ("alexnet", "vgg16", "googlenet", "resnet34"):  # the others of the same papers come from torchvision
        assert catalogue.entry(arch).family == "torchvision"
