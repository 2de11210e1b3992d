"""Looking into training: nothing changes, what is noted is right by hand, and a run that is cut notes the same."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bakeoff.data.augment import Augment
from bakeoff.data.load import Feed
from bakeoff.data.mix import Mix
from bakeoff.data.targets import Label
from bakeoff.models import build
from bakeoff.models.spec import ModelSpec, Network
from bakeoff.models.trained import weights_hash
from bakeoff.tasks.classification import Classification
from bakeoff.tasks.inference import Conditions
from bakeoff.train.diagnosis import MOST, Diagnosis, Inside, Moment, inside, moments, observed
from bakeoff.train.features import FrozenFeatures
from bakeoff.train.loop import Fact, State, Step, to_json, train
from bakeoff.train.probe import probing
from bakeoff.train.recipe import Recipe, Stage

TASK = Classification(("a", "b", "c"))


@pytest.fixture
def feed(tmp_path: Path) -> Feed:
    """Return 30 images of 16 pixels whose brightness is their class."""
    targets = np.arange(30) % 3
    pixels = np.random.default_rng(0).integers(0, 60, (30, 16, 16, 3), np.uint8) + (80 * targets)[:, None, None, None]
    np.save(tmp_path / "pixels.npy", pixels.astype(np.uint8))
    rows, labels = np.arange(30), [Label(int(target)) for target in targets]
    return Feed(tmp_path / "pixels.npy", rows, labels, rows, Augment("light", 16), Mix(3), batch=6, seed=3)


def make_state(arch: str, precision: str = "fp32", **recipe: Any) -> State:
    """Return a fresh small network under a recipe of 2 epochs."""
    torch.manual_seed(0)
    spec = ModelSpec(arch=arch, weights="none")
    options = {"epochs": 2, "batch": 6, "augment": "light", **recipe}
    return State(build(spec, 3, 16), Recipe(**options), Conditions("cpu", precision, channels_last=True))


def without_times(facts: list[Fact]) -> list[dict[str, Any]]:
    """Return facts as JSON, less what a clock says."""
    timed = ("seconds", "images_per_second")
    return [{key: value for key, value in to_json(fact).items() if key not in timed} for fact in facts]


@pytest.mark.parametrize(
    ("arch", "precision", "recipe"),
    [
        ("small:cnn", "fp32", {"ema": 0.9}),  # modules that work in place, an average
        ("small:vit", "bf16", {}),  # attention, under autocast
        ("small:resnet", "fp32", {"optimiser": "sgd", "clip": 0.1}),  # clipped gradients, momentum
        ("timm:mobilenetv3_small_050", "fp32", {"norm_statistics": "frozen"}),  # ReLU, hard swish, frozen norms
        ("small:mlp", "fp32", {"stages": (Stage(layers="head", epochs=1), Stage(rate=1e-3))}),  # frozen at first
    ],
)
def test_looking_changes_no_number(feed: Feed, arch: str, precision: str, recipe: dict[str, Any]) -> None:
    blind, seeing = make_state(arch, precision, **recipe), make_state(arch, precision, **recipe)
    facts = list(train(blind, TASK, feed))
    told = list(train(seeing, TASK, feed, diagnose=True))
    assert weights_hash(seeing.network) == weights_hash(blind.network)
    assert weights_hash(seeing.finish()) == weights_hash(blind.finish())
    diagnoses = [fact for fact in told if isinstance(fact, Diagnosis)]
    assert [fact.step for fact in diagnoses] == [1, 2, 3, 5, 6, 8]
    assert without_times([fact for fact in told if not isinstance(fact, Diagnosis)]) == without_times(facts)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in seeing.network.modules())


@pytest.mark.parametrize("cut", [1, 4, 5, 7])
def test_a_cut_run_notes_the_same(feed: Feed, cut: int) -> None:
    whole = list(train(make_state("small:resnet"), TASK, feed, diagnose=True))
    begun, before = make_state("small:resnet"), []
    for fact in train(begun, TASK, feed, diagnose=True):
        before.append(fact)
        if isinstance(fact, Step) and fact.step == cut:
            break
    resumed = make_state("small:resnet")
    resumed.restore(begun.export())
    assert without_times(before + list(train(resumed, TASK, feed, diagnose=True))) == without_times(whole)


def linear() -> Network:
    """Return a linear classifier of 16 pixels whose logits begin equal; weights and biases are a group each."""
    body = nn.Sequential(nn.Flatten(), nn.Linear(3 * 256, 3))
    nn.init.zeros_(body[1].weight)  # type: ignore[arg-type]
    nn.init.ones_(body[1].bias)  # type: ignore[arg-type]
    return Network(body, (("1.weight",), ("1.bias",)), (0.0,) * 3, (1.0,) * 3)


def test_norms_are_those_made_by_hand(feed: Feed) -> None:
    feed = Feed(**{**vars(feed), "augment": Augment("none", 16)})
    stage = Stage(rate=0.5, schedule="constant")
    recipe = Recipe(epochs=1, batch=6, optimiser="sgd", momentum=0, weight_decay=0, clip=0.01, stages=(stage,))
    fact = next(
        fact
        for fact in train(State(linear(), recipe, Conditions()), TASK, feed, diagnose=True)
        if fact.kind == "diagnosis"
    )
    assert isinstance(fact, Diagnosis)
    batch = next(iter(feed.epoch(0)))
    x, truth = batch.images.flatten(1).double().numpy(), np.asarray(batch.targets)
    off = (np.full((6, 3), 1 / 3) - np.eye(3)[truth]) / 6  # of equal logits: softmax less the truth
    weight, bias = np.linalg.norm(off.T @ x), np.linalg.norm(off.sum(axis=0))
    assert fact.gradient == pytest.approx((weight, bias), rel=1e-4)
    assert weight > 0.01  # it was clipped, and what is noted is not
    shrunk = 0.5 * 0.01 / math.hypot(weight, bias)
    assert fact.update == pytest.approx((weight * shrunk, bias * shrunk), rel=1e-3)
    assert fact.weight == pytest.approx((0.0, 3**0.5), rel=1e-6)
    assert fact.dead == (None, None)


class Planted(nn.Module):
    """One grey value through ReLUs of which it is known who is dead, written in every way that there is."""

    def __init__(self) -> None:
        super().__init__()
        self.channels = nn.Conv2d(3, 4, 1)
        self.shared = nn.Linear(4, 2)
        self.narrow = nn.Linear(4, 4)
        self.head = nn.Linear(4, 3)
        with torch.no_grad():
            for layer in (self.channels, self.shared, self.narrow):
                layer.weight.zero_()
            self.channels.weight[3] = 1.0  # alive for images that are brighter than 0.9 somewhere
            self.channels.get_parameter("bias").copy_(torch.tensor([1.0, -1.0, -1.0, -2.7]))
            self.shared.bias.copy_(torch.tensor([-1.0, -1.0]))
            self.shared.weight[1, 0] = 1.0
            self.narrow.bias.copy_(torch.tensor([7.0, 2.0, -1.0, -1.0]))

    def forward(self, images: Tensor) -> Tensor:
        """Call one layer twice, where its second unit is dead once."""
        pooled = F.relu(self.channels(images), inplace=True).mean((2, 3))
        F.relu(self.shared(pooled))
        torch.relu(self.shared(3 * pooled))
        scores: Tensor = self.head(F.relu6(self.narrow(pooled)))
        return scores


@pytest.mark.parametrize(
    ("brightest", "share"),
    [
        (0.5, 0.75),  # the channel that waits for light sees none
        (1.0, 0.5),  # one bright pixel of one image wakes it
    ],
)
def test_dead_units_are_counted_over_all_images_and_calls(brightest: float, share: float) -> None:
    groups = tuple((f"{name}.weight", f"{name}.bias") for name in ("channels", "shared", "narrow", "head"))
    network = Network(Planted(), groups, (0.0,) * 3, (1.0,) * 3)
    images = torch.full((5, 3, 4, 4), 0.2)
    images[3, :, 2, 1] = brightest
    with probing(network) as probe:
        network(images).sum().backward()
    assert probe.diagnosis(0, 1, 0.0).dead == (share, 0.5, 0.5, None)


def test_what_is_not_run_and_what_is_frozen_is_not_known(feed: Feed, tmp_path: Path) -> None:
    feed = Feed(**{**vars(feed), "augment": Augment("none", 16)})
    state = make_state("small:cnn", augment="none", frozen="backbone", stages=(Stage(layers="head"),))
    frozen = FrozenFeatures(feed, tmp_path / "features", state.conditions, "cnn")
    facts = [fact for fact in train(state, TASK, feed, None, frozen, True) if isinstance(fact, Diagnosis)]
    assert len(facts) == 6
    for fact in facts:
        assert fact.groups[-1] == "head"
        assert [value is None for value in fact.gradient] == [True] * (len(fact.groups) - 1) + [False]
        assert fact.update[:-1] == fact.weight[:-1] == fact.dead[:-1] == (None,) * (len(fact.groups) - 1)
        assert fact.update[-1]


def test_few_steps_of_a_long_run_are_looked_at() -> None:
    looked = [step for step in range(1000 * 50) if observed(step, 50, 1000)]
    assert len(looked) <= 2 * MOST + 7
    assert max(looked) > 980 * 50
    assert all(observed(epoch, 1, 30) for epoch in range(30))  # epochs of one step


def seen(gradient: list[float | None], ratio: float = 1e-3, dead: float | None = 0.0) -> Inside:
    """Return what one moment comes to."""
    update, groups = (
        tuple(None if value is None else ratio for value in gradient),
        tuple(map(str, range(len(gradient)))),
    )
    fact = Diagnosis(0, 1, 0.0, groups, tuple(gradient), (1.0,) * len(groups), update, (dead,) * len(groups))
    return inside(*moments([[to_json(fact)]]))


@pytest.mark.parametrize(
    ("found", "flow", "reach"),
    [
        (seen([1e-5, 1e-3, 1.0]), "vanishes", 1e-5),  # smaller and smaller
        (seen([0.0, 0.0, 1.0]), "vanishes", 0.0),  # nothing arrives at all
        (seen([0.1, 0.5, 1.0]), "arrives", 0.1),  # as usual
        (seen([None, 0.5, 1.0]), "arrives", 0.5),  # the stem is frozen
        (seen([5e3, 10.0, 1.0]), "explodes", 5e3),  # larger and larger
        (seen([None, 1.0]), "unknown", None),  # the head alone learns
    ],
)
def test_how_the_gradient_flows(found: Inside, flow: str, reach: float | None) -> None:
    assert found.flow == flow
    assert found.reach == pytest.approx(reach)


def test_how_the_gradient_began_is_kept_beside_the_median() -> None:
    course = [Moment(float(at), (stem, 1.0), (1e-3,) * 2, (None,) * 2) for at, stem in enumerate((300.0, 4.0, 2.0))]
    found = inside(("stem", "head"), course)
    assert (found.begin, found.reach, found.flow) == (300.0, 4.0, "arrives")


def test_groups_that_stand_out_are_named() -> None:
    assert seen([1.0, 1.0], ratio=1e-6).still == (0, 1)
    assert seen([1.0, 1.0], ratio=0.2).restless == (0, 1)
    assert seen([1.0, 1.0], dead=0.5).silent == (0, 1)
    fine = seen([1.0, 1.0], dead=None)
    assert fine.still == fine.restless == fine.silent == ()


def test_the_median_of_runs_is_taken_step_by_step() -> None:
    def fact(step: int, value: float, groups: tuple[str, ...] = ("stem", "head")) -> dict[str, Any]:
        column = (value,) * len(groups)
        return {"kind": "diagnosis", **asdict(Diagnosis(0, step, step - 1.0, groups, column, column, column, column))}

    runs = [[fact(1, 1.0), fact(2, 5.0)], [{"kind": "epoch"}, fact(1, 2.0)], [fact(1, 9.0)], [fact(1, 7.0, ("other",))]]
    groups, found = moments(runs)
    assert groups == ("stem", "head")
    assert [(moment.at, moment.gradient, moment.ratio) for moment in found] == [
        (0.0, (2.0, 2.0), (1.0, 1.0)),
        (1.0, (5.0, 5.0), (1.0, 1.0)),
    ]
