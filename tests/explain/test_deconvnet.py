"""The deconvnet: every way back by hand, the whole against automatic differentiation, and where there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bakeoff.errors import UsageError
from bakeoff.explain import Options, deconvnet
from bakeoff.explain.chain import Step, back, chain
from bakeoff.explain.deconvnet import Activation, reconstruction, strongest
from bakeoff.explain.receptive_field import receptive_field
from bakeoff.explain.subject import Subject
from bakeoff.models.spec import Network
from bakeoff.models.trained import Trained

Make = Callable[..., Trained]
SIZE = 32
SUBJECT = Subject("classification", 1, "dog")
NARROW = {"width": 6, "hidden": 8}
TINY = {"img_size": SIZE, "patch_size": 8, "depth": 2}


def plain(*layers: nn.Module) -> Network:
    """Wrap layers without a head; pixels go in as they are."""
    return Network(nn.Sequential(*layers), (), (0.0,) * 3, (1.0,) * 3).eval().requires_grad_(False)


class DeconvRelu(torch.autograd.Function):
    """ReLU whose way back cuts the signal and not the places that were cut forwards."""

    @staticmethod
    def forward(_context: Any, values: Tensor) -> Tensor:
        return values.relu()

    @staticmethod
    def backward(_context: Any, *signals: Tensor) -> Tensor:
        return signals[0].relu()


def by_autograd(steps: list[Step], image: Tensor, found: Activation) -> np.ndarray:
    """The deconvnet as a gradient: all its layers are linear at this image, but for ReLU and contrast."""
    values = watched = image.clone().requires_grad_()
    for step in steps:
        if isinstance(step.module, nn.ReLU):
            values = DeconvRelu.apply(values)
        elif isinstance(step.module, nn.LocalResponseNorm):
            values = values + (step.module(values) - values).detach()  # its value, with the way back of nothing
        else:
            values = step.module(values)
    chosen = values[0, found.channel, found.place[0], found.place[1]]
    (signal,) = torch.autograd.grad(chosen * found.value, watched)
    return signal[0].permute(1, 2, 0).numpy()


def test_without_pooling_it_is_the_transposed_convolution(photo: Tensor) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 5, stride=2, padding=1)
    network = plain(conv)
    steps = chain(network, photo).up_to("")
    found = strongest(steps[-1])
    signal = torch.zeros_like(conv(photo))
    signal[0, found.channel, found.place[0], found.place[1]] = conv(photo).max()
    expected = F.conv_transpose2d(signal, conv.weight, stride=2, padding=1, output_padding=1)
    np.testing.assert_allclose(
        reconstruction(network, steps, found), expected[0].permute(1, 2, 0).numpy(), rtol=1e-5, atol=1e-7
    )


def test_values_of_overlapping_windows_are_summed_where_they_came_from() -> None:
    row = torch.tensor([0.0, 1.0, 5.0, 1.0, 2.0])
    network = plain(nn.Conv2d(3, 1, 1), nn.MaxPool2d((1, 3), stride=(1, 2)))
    network.body.get_parameter("0.weight").copy_(torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1))
    network.body.get_parameter("0.bias").zero_()
    image = torch.zeros(1, 3, 1, 5)
    image[0, 0, 0] = row
    steps = chain(network, image).up_to("1")
    assert steps[-1].output.flatten().tolist() == [5.0, 5.0]  # of columns 0 to 2 and 2 to 4: one place, twice
    signal = torch.tensor([3.0, 4.0]).view(1, 1, 1, 2)
    assert back(steps[1:], signal).flatten().tolist() == [0, 0, 7, 0, 0]
    assert steps[1].switches is not None
    assert F.max_unpool2d(signal, steps[1].switches, (1, 3), (1, 2), output_size=(1, 5)).sum() < 7  # keeps one of them


def test_changing_the_switches_changes_the_picture(make: Make, photo: Tensor) -> None:
    network = make("classics:zfnet", **NARROW).network.requires_grad_(False)
    steps = chain(network, photo).up_to("features.relu5")
    found = strongest(steps[-1])
    before = reconstruction(network, steps, found)
    place = next(place for place, step in enumerate(steps) if step.switches is not None)
    switches = steps[place].switches
    assert switches is not None
    steps[place] = replace(steps[place], switches=(switches + 7) % steps[place].given[2:].numel())
    after = reconstruction(network, steps, found)
    assert abs(before).max() > 0
    assert abs(before - after).max() > 0.1 * abs(before).max()


def alexnet() -> list[nn.Module]:
    """The first half of AlexNet, narrow and for small images."""
    first = [nn.Conv2d(3, 8, 11, stride=2, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2)]
    return [*first, nn.Conv2d(8, 12, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2)]


def vgg() -> list[nn.Module]:
    """A narrow VGG of torchvision's, with batch norm."""
    from torchvision.models.vgg import make_layers

    return [make_layers([8, "M", 12, 12, "M", 16, "M"], batch_norm=True)]


@pytest.mark.parametrize(
    "build",
    [
        lambda make: make("classics:zfnet", **NARROW).network,  # normalisation of contrast, a stride that leaves a rest
        lambda _make: plain(*alexnet()),  # large filters and overlapping windows
        lambda _make: plain(*vgg()),  # batch norm with values as learned
        lambda make: make("classics:plain18").network,  # one ReLU used twice in every block
    ],
)
def test_the_way_back_is_the_one_of_automatic_differentiation(make: Make, build: Callable[[Make], Network]) -> None:
    network = build(make).requires_grad_(False)
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.running_var, module.weight, module.bias):
                assert tensor is not None
                tensor.uniform_(0.5, 1.5)
    image = torch.rand(1, 3, SIZE, SIZE)
    assert deconvnet.applies(network, "classification", image) == ""
    steps = chain(network, image).up_to("")
    found = strongest(steps[-1])
    ours = reconstruction(network, steps, found) / network.std.view(3).numpy()
    theirs = by_autograd(steps, (image - network.mean) / network.std, found)
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5 * abs(theirs).max())
    assert ours.any()


@pytest.mark.parametrize(
    ("arch", "options", "why"),
    [
        ("torchvision:resnet18", {}, "layer1.0.relu is given more than layer1.0.bn2 alone"),  # a sum in place
        ("small:resnet", {}, "is given more than"),  # a sum
        ("timm:vit_tiny_patch16_224", TINY, "is given more than patch_embed.proj alone"),  # tokens
        ("torchvision:mobilenet_v2", {}, "features.0.2 is a ReLU6"),  # no way back is known
        ("small:mlp", {}, "is a Flatten"),  # nothing to go back through
    ],
)
def test_it_says_precisely_where_there_is_no_way_back(
    make: Make, photo: Tensor, arch: str, options: dict[str, int], why: str
) -> None:
    assert why in deconvnet.applies(make(arch, **options).network, "classification", photo)


def test_an_average_has_no_switches(photo: Tensor) -> None:
    layers = (nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AvgPool2d(2))
    assert "2 averages over places" in deconvnet.applies(plain(*layers, nn.Conv2d(4, 4, 3)), "classification", photo)
    assert deconvnet.applies(plain(*layers), "classification", photo) == ""  # in front of the head it may


def test_a_channel_and_a_layer_can_be_chosen(make: Make, photo: Tensor) -> None:
    network = make("small:cnn").network.requires_grad_(False)
    found = deconvnet.explain(network, photo, SUBJECT, Options(layer="trunk.1", channel=3))
    (step,) = [one for one in chain(network, photo).steps if one.name == found.layer]
    best = int(step.output[0, 3].argmax())
    side = step.output.shape[3]
    assert (
        f"channel 3, strongest ({step.output[0, 3].max():.3g}) at row {best // side}, column {best % side}"
        in found.note
    )
    assert [picture.pixels.shape for picture in found.pictures] == [found.pictures[0].pixels.shape] * 2
    left, top, right, bottom = receptive_field(network, found.layer, (best // side, best % side), photo)
    assert found.map is not None
    assert found.map[top:bottom, left:right].max() == found.map.max() > 0
    outside = found.map.copy()
    outside[top:bottom, left:right] = 0
    assert not outside.any()
    with pytest.raises(UsageError, match="channels, 0 to 31, and no channel 32"):
        deconvnet.explain(network, photo, SUBJECT, Options(layer="trunk.1", channel=32))
    with pytest.raises(UsageError, match="did you mean trunk"):
        deconvnet.explain(network, photo, SUBJECT, Options(layer="trunk.99"))


@pytest.mark.parametrize(
    ("arch", "layer", "place", "expected"),
    [
        ("classics:zfnet", "features.conv1", (3, 5), (9, 5, 16, 12)),  # 7 pixels, 2 apart, 1 of padding
        ("classics:zfnet", "features.pool1", (2, 3), (9, 5, 20, 16)),  # 7 + 2 x 2 pixels, 4 apart, the first at -3
        (
            "torchvision:resnet18",
            "layer1.0",
            (4, 4),
            (3, 3, 30, 30),
        ),  # 7, 11 with the pooling, 27 with two convolutions
        ("small:vit", "trunk", (1, 1), (0, 0, 32, 32)),  # attention sees everything
    ],
)
def test_receptive_fields(
    make: Make, photo: Tensor, arch: str, layer: str, place: tuple[int, int], expected: tuple[int, ...]
) -> None:
    options = NARROW if arch == "classics:zfnet" else {}
    assert receptive_field(make(arch, **options).network, layer, place, photo) == expected
