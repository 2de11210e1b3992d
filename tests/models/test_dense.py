"""The dense twin of a classifier gives its logits, and finds what the classifier knows in larger images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import box_iou

from bakeoff.errors import UsageError
from bakeoff.models import build
from bakeoff.models.classics.dense import dense_twin
from bakeoff.models.classics.heat_maps import HeatMap, class_map, find, heat_maps
from bakeoff.models.head import Pool, attach
from bakeoff.models.spec import Head, ModelSpec, Network

SIDE, NOTHING = 32, 10  # pixels of a digit; the class of windows that hold none
SMALL: dict[str, Any] = {"width": 12, "hidden": 16}


def make(arch: str, classes: int = 3, size: int = 64, head: Head | None = None, **options: Any) -> Network:
    torch.manual_seed(1)
    return build(ModelSpec(arch=arch, weights="none", head=head or Head(), options=options), classes, size)


TWINS = [
    ("zfnet", 64, None, SMALL),  # the first linear layer takes the whole map
    ("zfnet", 101, None, SMALL),  # an odd side
    ("small:cnn", 32, Head(pool="flatten", hidden=(8,)), {}),  # two linear layers
    ("small:cnn", 40, Head(pool="max"), {}),  # the largest value of the map
    ("plain18", 64, None, {}),  # the mean over the map
    ("timm:test_resnet", 64, Head(pool="flatten"), {}),  # another supplier's trunk
    ("timm:test_resnet", 64, None, {}),  # and its own head
]


@pytest.mark.parametrize(("arch", "size", "head", "options"), TWINS)
def test_a_twin_gives_the_classifier_s_logits(arch: str, size: int, head: Head | None, options: dict[str, Any]) -> None:
    network = make(arch, 3, size, head, **options).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    twin = dense_twin(network, size)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    images = torch.rand(2, 3, size, size)
    with torch.inference_mode():
        assert (twin(images).flatten(1) - network.eval()(images)).abs().max() < 1e-5
        grown = twin(torch.rand(1, 3, size + 2 * twin.stride, size + twin.stride))
    assert grown.shape == (1, 3, 3, 2)


def test_windows_of_a_network_without_padding_are_the_classifier_s_own() -> None:
    torch.manual_seed(2)
    trunk = nn.Sequential(nn.Conv2d(3, 8, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, 2), nn.ReLU())
    network = Network(attach(trunk, Pool("flatten"), Head(pool="flatten"), 3, 22), (), (0.5,) * 3, (0.5,) * 3).eval()
    twin, image = dense_twin(network, 22), torch.rand(3, 37, 46)
    assert twin.stride == 4
    for shifts, step in ((1, 4), (4, 1)):  # the stride; every pixel
        (found,) = heat_maps(twin, image, (1.0,), shifts)
        for row, column in ((0, 0), (0, 24 // step), (12 // step, 4 // step)):
            window = image[:, row * step : row * step + 22, column * step : column * step + 22]
            with torch.inference_mode():
                alone = network(window[None])[0].softmax(0)
            assert (found.scores[:, row, column] - alone).abs().max() < 1e-5
        assert found.scores.shape == (3, 15 // step + 1, 24 // step + 1)
        assert found.boxes()[1].tolist() == [step, 0, step + 22, 22]


def digits() -> tuple[Tensor, Tensor]:
    """Return the built-in digits (N, 3, 32, 32), white on black, and their classes."""
    pixels, labels = load_digits(return_X_y=True)
    small = torch.tensor(pixels / 16, dtype=torch.float32).view(-1, 1, 8, 8)
    large = F.interpolate(small, size=(SIDE, SIDE), mode="bicubic").clamp(0, 1)
    return large.expand(-1, 3, -1, -1), torch.tensor(labels)


def windows(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Shift every image: a third by some pixels, the others so far that there is no digit in the window any more."""
    moved, found = torch.zeros_like(images), labels.clone()
    for place, image in enumerate(images):
        near = place % 3 == 0
        reach = 3 if near else SIDE
        while True:
            down, right = torch.randint(-reach, reach + 1, (2,)).tolist()
            if near or max(abs(down), abs(right)) > 8:
                break
        canvas = F.pad(image, (SIDE,) * 4)
        moved[place] = canvas[:, SIDE - down : 2 * SIDE - down, SIDE - right : 2 * SIDE - right]
        found[place] = labels[place] if near else NOTHING
    return moved, found


def test_a_twin_finds_two_digits_in_a_scene_that_it_was_not_trained_on() -> None:
    images, labels = digits()
    network = make("small:cnn", 11, SIDE, Head(pool="flatten"), width=16).train()
    optimiser = torch.optim.AdamW(network.parameters(), 3e-3)
    for _ in range(120):
        chosen = torch.randint(0, 1500, (96,))
        inputs, targets = windows(images[chosen], labels[chosen])
        optimiser.zero_grad()
        F.cross_entropy(network(inputs), targets).backward()
        optimiser.step()
    twin = dense_twin(network, SIDE)
    places = torch.tensor([[10.0, 8.0, 42.0, 40.0], [70.0, 32.0, 102.0, 64.0]])
    for one, other in ((1600, 1700), (1510, 1520), (1777, 1788)):  # none of them was trained on
        scene = torch.zeros(3, 72, 120)
        scene[:, 8:40, 10:42], scene[:, 32:64, 70:102] = images[one], images[other]
        maps = heat_maps(twin, scene, (1.0, 1.25), shifts=4)
        found = find(maps, background=NOTHING)
        overlap = box_iou(places, found["boxes"][:2])  # the two best
        assert (overlap.amax(1) > 0.5).all()
        truth = [int(labels[one]), int(labels[other])]
        assert found["labels"][overlap.argmax(1)].tolist() == truth
        heat = class_map(maps, 72, 120)
        assert heat.shape == (11, 72, 120)
        assert [int(heat[:, 24, 26].argmax()), int(heat[:, 48, 86].argmax())] == truth  # at the digits' centres
        assert int(heat[:, 60, 20].argmax()) == NOTHING


class Wide(nn.Module):
    """A map of 5 cells whose average pooling makes 3 of them, a last layer without bias."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.avgpool = nn.Conv2d(3, 4, 4, 4), nn.AdaptiveAvgPool2d(3)
        self.classifier = nn.Sequential(nn.Dropout(), nn.Linear(36, 5), nn.ReLU(), nn.Linear(5, 2, bias=False))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.avgpool(self.features(images)).flatten(1))
        return logits


class Squared(Wide):
    """Something that is no layer stands behind the pooling."""

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.avgpool(self.features(images)).square().flatten(1))
        return logits


def test_a_pooling_becomes_a_part_of_the_first_convolution() -> None:
    torch.manual_seed(3)
    network = Network(Wide(), ())
    kinds = [module for module in dense_twin(network, 20).layers.modules() if isinstance(module, nn.Conv2d)]
    assert [module.kernel_size for module in kinds] == [(5, 5), (1, 1)]


@pytest.mark.parametrize(
    ("network", "size", "message"),
    [
        (lambda: Network(Squared(), ()), 20, "not linear layers alone"),  # the logits differ
        (lambda: Network(nn.Conv2d(3, 2, 1), ()), 20, r"\(Conv2d\) has no dense twin"),  # no head at all
        (lambda: make("small:vit", size=32), 32, "gives no square feature map"),  # tokens
        (lambda: make("torchvision:squeezenet1_1"), 64, 'give it a head with pool = "flatten"'),  # its own kind of head
    ],
)
def test_what_has_no_twin_is_told(network: Callable[[], Network], size: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        dense_twin(network(), size)


def test_what_cannot_be_mapped_is_told() -> None:
    twin = dense_twin(Network(Wide(), ()), 20)
    with pytest.raises(UsageError, match="10 x 30 pixels is smaller than a window of 20 at every scale"):
        heat_maps(twin, torch.rand(3, 10, 30), (1.0, 1.5))
    with pytest.raises(UsageError, match="a stride of 4 pixels cannot be divided by 3 shifts"):
        heat_maps(twin, torch.rand(3, 30, 30), shifts=3)


def test_the_weaker_of_two_boxes_goes() -> None:
    scores = torch.tensor([[[0.9, 0.6, 0.1]], [[0.1, 0.4, 0.9]]])  # two classes, three windows in a row
    found = find([HeatMap(scores, window=10.0, step=4.0)])
    assert found["boxes"].tolist() == [[0, 0, 10, 10], [8, 0, 18, 10]]
    assert found["labels"].tolist() == [0, 1]
    assert find([HeatMap(scores, window=10.0, step=4.0)], background=1)["labels"].tolist() == [0]
