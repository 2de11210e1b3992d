"""First filters as pictures, and images that are found from features."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bakeoff.explain import Options, filters, inversion
from bakeoff.explain.layers import output_of
from bakeoff.explain.subject import Subject
from bakeoff.models.groups import from_children
from bakeoff.models.spec import Network
from bakeoff.models.trained import Trained

Make = Callable[..., Trained]
SIZE = 32
SUBJECT = Subject("classification", 1, "dog")


def convolution(channels: int, side: int) -> Network:
    """Return a network whose first layer has so many filters of a size."""
    torch.manual_seed(0)
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    body = nn.Sequential(nn.Conv2d(3, channels, side), nn.ReLU(inplace=True), pool, nn.Linear(channels, 2))
    return Network(body, from_children(body, ("3",))).eval().requires_grad_(False)


def test_filters_are_laid_out_in_order_and_keep_their_signs(photo: Tensor) -> None:
    network = convolution(5, 4)
    weight = network.body.get_parameter("0.weight")
    weight.zero_()
    weight[1, 0] = 0.1  # red alone
    weight[2, :, 0, 0] = -7.0  # a black corner, however strong
    found = filters.explain(network, photo, SUBJECT, Options())
    picture = found.pictures[0].pixels
    assert picture.shape == (2 * 5 - 1, 3 * 5 - 1, 3)
    assert (picture[:4, :4] == 128).all()  # nothing is grey
    assert (picture[:4, 5:9] == (255, 128, 128)).all()
    assert (picture[0, 10], picture[1, 11].tolist()) == (pytest.approx([0, 0, 0]), [128] * 3)
    assert (picture[4] == 255).all()
    assert found.map is None
    assert "layer 0: 5 filters of 4 x 4 pixels" in found.note


def test_too_many_filters_leave_the_strongest(photo: Tensor) -> None:
    network = convolution(30, 100 // 4)
    weight = network.body.get_parameter("0.weight")
    weight.mul_(torch.arange(30).view(-1, 1, 1, 1) >= 20)
    filters_shown = filters.explain(network, photo, SUBJECT, Options())
    assert filters_shown.pictures[0].pixels.shape[1] <= filters.SIDE
    wide = convolution(200, 31)
    wide.body.get_parameter("0.weight")[150].fill_(1.0)
    note = filters.explain(wide, photo, SUBJECT, Options()).note
    assert "200 filters of 31 x 31 pixels, the 100 strongest of which are shown" in note


@pytest.mark.parametrize(
    ("arch", "layer"),
    [
        ("small:cnn", "trunk.0.0"),
        ("small:vit", "trunk.patches"),  # what embeds the patches
        ("small:mlp", ""),  # no convolution
    ],
)
def test_the_first_layer_is_found(make: Make, photo: Tensor, arch: str, layer: str) -> None:
    network = make(arch).network
    why = filters.applies(network, "classification", photo)
    assert bool(why) == (not layer)
    if layer:
        assert filters.explain(network, photo, SUBJECT, Options()).layer == layer


def test_inversion_finds_an_image_with_the_same_features(make: Make, photo: Tensor) -> None:
    network = make("small:cnn").network.requires_grad_(False)
    options = Options(layer="trunk.0", steps=150)
    found = inversion.explain(network, photo, SUBJECT, options)
    picture = torch.from_numpy(found.pictures[0].pixels).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        wanted, got = (output_of(network, "trunk.0", image) for image in (photo, picture))
        error = float((got - wanted).norm() / wanted.norm())
    assert f"{error:.1f}" in found.note
    assert error < 0.2
    assert np.corrcoef(picture.flatten(), photo.flatten())[0, 1] > 0.8  # so early, the image itself
    again = inversion.explain(network, photo, SUBJECT, options)
    assert (again.pictures[0].pixels == found.pictures[0].pixels).all()
    other = inversion.explain(network, photo, SUBJECT, Options(layer="trunk.0", steps=150, seed=1))
    assert (other.pictures[0].pixels != found.pictures[0].pixels).any()


def test_more_steps_come_nearer_and_a_silent_layer_says_so(make: Make, photo: Tensor) -> None:
    network = make("small:cnn").network.requires_grad_(False)
    few, many = (inversion.explain(network, photo, SUBJECT, Options(steps=steps)).note for steps in (2, 40))
    left = [float(note.split("features ")[1].split()[0]) for note in (few, many)]
    assert left[1] < left[0] / 2
    silent = convolution(4, 3)
    for name in ("0.weight", "0.bias"):
        silent.body.get_parameter(name).zero_()
    assert "layer 0 is silent" in inversion.explain(silent, photo, SUBJECT, Options(layer="0")).note
