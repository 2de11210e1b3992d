"""Evaluation: what a network says of cached images, in the order asked for, leaving the network as it was."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from bakeoff.data.dataset import Dataset, Record
from bakeoff.data.targets import Label
from bakeoff.errors import ResourceError, RunError, UsageError
from bakeoff.evaluate.outcomes import Images, evaluate, latency, stack
from bakeoff.tasks.classification import Classification
from bakeoff.tasks.inference import Conditions, choose_device, inferring

BATCH = 64  # of classification
COUNT, SIZE = 2 * BATCH + 9, 8
CLASSES = ("a", "b", "c")
TASK = Classification(CLASSES)


@pytest.fixture
def pixels() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (COUNT, SIZE, SIZE, 3), np.uint8)


@pytest.fixture
def dataset() -> Dataset:
    records = tuple(Record(f"{i:04}", f"{i:04}.png", Label(i % 3)) for i in range(COUNT))
    return Dataset("classification", CLASSES, records, Path("nowhere"))


@pytest.fixture
def network() -> nn.Module:
    """A network whose eval mode matters: batch norm and dropout."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(288, 3))
    return nn.Sequential(*layers)


def test_scores_are_the_softmax_of_each_image_alone(
    network: nn.Module, dataset: Dataset, pixels: NDArray[np.uint8]
) -> None:
    ids = [record.id for record in dataset.records][::-1]
    found = evaluate(TASK, network, Images(dataset, pixels), ids)
    assert found.ids == tuple(ids)
    assert found.classes == CLASSES
    network.eval()
    for place in (0, BATCH, COUNT - 1):
        source = COUNT - 1 - place
        image = torch.tensor(pixels[source]).permute(2, 0, 1)[None] / 255
        with torch.no_grad():
            expected = network(image).softmax(1)[0]
        np.testing.assert_allclose(found.columns["scores"][place], expected, atol=1e-6)
        assert found.columns["truth"][place] == source % 3
    assert found.columns["scores"].dtype == np.float32
    assert found.columns["truth"].dtype == np.int64


def test_network_is_left_as_it_was(network: nn.Module, dataset: Dataset, pixels: NDArray[np.uint8]) -> None:
    network.train()
    network[1].eval()  # type: ignore[index]  # a frozen batch norm
    before = {name: value.clone() for name, value in network.state_dict().items()}
    evaluate(TASK, network, Images(dataset, pixels), ["0001", "0000"])
    assert [module.training for module in network.children()] == [True, False, True, True, True, True]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    network(torch.rand(2, 3, SIZE, SIZE)).sum().backward()  # nothing of the inference mode is left


def test_mode_comes_back_after_an_error(network: nn.Module) -> None:
    network.train()
    with pytest.raises(ZeroDivisionError), inferring(network):
        raise ZeroDivisionError
    assert all(module.training for module in network.modules())


def test_evaluation_repeats_bit_by_bit(network: nn.Module, dataset: Dataset, pixels: NDArray[np.uint8]) -> None:
    ids = [record.id for record in dataset.records]
    first, second = (evaluate(TASK, network, Images(dataset, pixels), ids).columns["scores"] for _ in range(2))
    np.testing.assert_array_equal(first, second)


CONDITIONS = [
    (Conditions(channels_last=True), 1e-5),  # another memory layout
    (Conditions(precision="bf16"), 0.02),  # 8 bits of mantissa
    (Conditions(precision="bf16", channels_last=True), 0.02),  # both
]


@pytest.mark.parametrize(("conditions", "tolerance"), CONDITIONS)
def test_conditions_change_the_scores_by_rounding_only(
    conditions: Conditions, tolerance: float, network: nn.Module, dataset: Dataset, pixels: NDArray[np.uint8]
) -> None:
    ids = [record.id for record in dataset.records]
    plain = evaluate(TASK, network, Images(dataset, pixels), ids).columns["scores"]
    other = evaluate(TASK, network, Images(dataset, pixels), ids, conditions).columns["scores"]
    np.testing.assert_allclose(other, plain, atol=tolerance)
    np.testing.assert_allclose(other.sum(axis=1), 1, atol=1e-6)  # the softmax is in float32 all the same
    assert (conditions.precision == "fp32") == (np.abs(other - plain).max() < 1e-5)


class Overflowing(nn.Module):
    """Gives NaN for images whose first value is 255."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = images.flatten(1)[:, :3]
        return torch.where(logits[:, :1] == 1, torch.nan, logits)


def test_numbers_that_are_not_finite_stop_the_run(dataset: Dataset, pixels: NDArray[np.uint8]) -> None:
    pixels[:, 0, 0, 0] = 0
    pixels[[70, 90], 0, 0, 0] = 255
    with pytest.raises(RunError, match="0070: the network's scores are not finite here and for 1 more"):
        evaluate(TASK, Overflowing(), Images(dataset, pixels), [record.id for record in dataset.records])


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ((), "no image to evaluate"),  # an empty split
        (("0001", "9999"), "1 records to evaluate are not in the data.*9999"),  # ids of other data
    ],
)
def test_wrong_ids_are_refused(
    ids: tuple[str, ...], message: str, network: nn.Module, dataset: Dataset, pixels: NDArray[np.uint8]
) -> None:
    with pytest.raises(UsageError, match=message):
        evaluate(TASK, network, Images(dataset, pixels), ids)


def test_rows_are_stacked_by_quantity() -> None:
    rows = [{"truth": np.int64(i), "scores": np.full(3, i, np.float32)} for i in range(4)]
    found = stack(rows, tuple("abcd"), CLASSES)
    assert found.take([2, 2]).ids == ("c", "c")
    assert found.columns["scores"].shape == (4, 3)
    assert found.columns["truth"].tolist() == [0, 1, 2, 3]


class Slow(nn.Module):
    """Takes 4 ms for one image of 8 pixels, and remembers the mode that it ran in."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[tuple[int, ...], bool]] = []
        self.images: list[torch.Tensor] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls.append((tuple(images.shape), self.training))
        self.images.append(images)
        time.sleep(0.004)
        return images.flatten(1)[:, :2]


def test_latency_is_the_median_of_single_images() -> None:
    network = Slow()
    assert 4 <= latency(network, 8) < 40
    assert set(network.calls) == {((1, 3, 8, 8), False)}
    assert len(network.calls) > 10
    assert len({tuple(image.flatten().tolist()) for image in network.images}) == len(network.calls)  # none twice
    assert network.training


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("gpu", UsageError),  # not a name of torch
        ("cuda:99", ResourceError),  # not in this machine
    ],
)
def test_wrong_device_is_refused(name: str, error: type[Exception]) -> None:
    with pytest.raises(error, match=name):
        choose_device(name)


def test_automatic_device_is_there() -> None:
    assert torch.zeros(1, device=choose_device()).sum() == 0
    assert choose_device("cpu") == "cpu"
