"""The checks: what a map marks matters, and a map that ignores the weights is found out."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bakeoff.explain import Explainer, Explanation
from bakeoff.explain.explaining import Explaining
from bakeoff.explain.removal import Removal
from bakeoff.explain.sanity import Check, correlation, rank_correlation, twins
from bakeoff.explain.subject import Subject
from bakeoff.models.spec import Network
from bakeoff.models.trained import Trained

Make = Callable[..., Trained]


def method(make_map: Callable[[Network, Tensor], Tensor]) -> Explainer:
    """Return a method whose map (S, S) is a function of network and image."""

    def explain(network: Network, image: Tensor, _subject: Subject, _options: Any) -> Explanation:
        return Explanation(make_map(network, image).abs().float().numpy())

    found = SimpleNamespace(NAME="own", TITLE="Own", SOURCE="", applies=lambda *_: "", explain=explain)
    return cast(Explainer, found)


def edges(_network: Network, image: Tensor) -> Tensor:
    """What an edge detector sees: nothing of the network."""
    return image.mean(dim=(0, 1)).diff(dim=0, append=torch.zeros(1, 32))


def first_layer(network: Network, image: Tensor) -> Tensor:
    """What one filter of the network sees."""
    weight = next(network.parameters()).detach()[:1]
    return nn.functional.conv2d(nn.functional.pad(image - 0.5, (1, 2, 1, 2)), weight)[0, 0]


@pytest.mark.parametrize(
    ("make_map", "depends"),
    [
        (edges, False),  # the same whatever the weights
        (first_layer, True),
    ],
)
def test_a_map_that_ignores_the_weights_is_marked(
    make: Make, photo: Tensor, make_map: Callable[[Network, Tensor], Tensor], depends: bool
) -> None:
    pixels = (255 * photo[0].permute(1, 2, 0).numpy()).astype(np.uint8)
    found = Explaining(make("small:cnn"), (method(make_map),)).image("photo", pixels)
    check = found.methods[0].check
    assert check is not None
    assert check.depends == depends
    assert ("DOES NOT DEPEND" in found.words) != depends
    assert found.to_json()["methods"][0]["depends_on_weights"] is depends
    if not depends:
        assert check.correlation == pytest.approx(1.0)


def test_a_map_that_is_the_same_everywhere_says_nothing(make: Make, photo: Tensor) -> None:
    pixels = (255 * photo[0].permute(1, 2, 0).numpy()).astype(np.uint8)
    flat = method(lambda _network, image: torch.zeros(image.shape[-2:]))
    found = Explaining(make("small:cnn"), (flat,)).image("photo", pixels).methods[0]
    assert found.check is None
    assert "says nothing" in found.words


def test_random_networks_are_others_and_reproducible(make: Make) -> None:
    model = make("small:cnn")
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    one, other = (twins(model, 2) for _ in range(2))
    name = next(name for name, _ in model.network.named_parameters())
    weights = [net.get_parameter(name) for net in (model.network, *one)]
    assert not any(torch.equal(a, b) for a, b in pairwise(weights))
    assert torch.equal(one[0].get_parameter(name), other[0].get_parameter(name))
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.network.state_dict().items())


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([1, 2, 3, 4], [2, 4, 6, 80], 1.0),  # ranks, not values
        ([1, -2, 3, -4], [1, 2, 3, 4], 1.0),  # magnitudes
        ([1, 2, 3, 4], [4, 3, 2, 1], -1.0),
        ([1, 1, 1, 1], [4, 3, 2, 1], 0.0),  # the same everywhere
        ([1, 2, 3, 4], [1, 3, 2, 4], 0.8),  # by hand: 1 - 6 x 2 / (4 x 15)
    ],
)
def test_rank_correlation(one: list[float], other: list[float], expected: float) -> None:
    found = rank_correlation(np.array(one, np.float32), np.array(other, np.float32))
    assert found == pytest.approx(expected)
    assert correlation(np.array(one, np.float32), [np.array(other, np.float32)] * 2) == pytest.approx(expected)


def looking_at(corner: tuple[slice, slice]) -> Network:
    """Return a network that is surer of class 1 the brighter a corner is."""
    body = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2))
    weights = torch.zeros(2, 3, 32, 32)
    weights[(1, slice(None), *corner)] = 0.04
    with torch.no_grad():
        body.get_parameter("1.weight").copy_(weights.flatten(1))
        body.get_parameter("1.bias").copy_(torch.tensor([0.0, -2.0]))
    return Network(body, (("1.weight", "1.bias"),), (0.0,) * 3, (1.0,) * 3).eval()


def test_deletion_and_insertion_tell_a_good_map_from_a_bad_one() -> None:
    corner = (slice(0, 8), slice(0, 8))
    network, image = looking_at(corner), torch.zeros(1, 3, 32, 32)
    image[(0, slice(None), *corner)] = 1.0
    sure = float(network(image).softmax(dim=1)[0, 1].detach())
    removal = Removal(network, Subject("classification", 1, "dog", sure), image, 16)
    good = np.zeros((32, 32), np.float32)
    good[corner] = 1.0
    deletion, insertion = removal.areas(good)
    worst = removal.areas(1 - good)
    chance = removal.random(0)
    assert deletion < chance[0] < worst[0]
    assert worst[1] < chance[1] < insertion
    least = float(torch.tensor(-2.0).sigmoid()) / sure  # what is left when the corner is black
    assert deletion == pytest.approx(least + (1 - least) / 32, rel=0.05)  # gone after the first of 16 steps


def test_words_say_all_four_numbers() -> None:
    words = Check(0.12, 0.2, 0.4, 0.8, 0.5).words
    assert words == (
        "correlation with random weights 0.12; deletion 0.20 (random order 0.40), insertion 0.80 (random order 0.50)"
    )
