"""The loop: facts, exact resume, stages, early stop, and what happens when the loss is not finite."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bakeoff.data.augment import Augment
from bakeoff.data.load import Batch, Feed
from bakeoff.data.mix import Mix
from bakeoff.data.targets import Label
from bakeoff.errors import Diverged, ResourceError
from bakeoff.models import build
from bakeoff.models.spec import ModelSpec, Network
from bakeoff.models.trained import weights_hash
from bakeoff.tasks.classification import Classification
from bakeoff.tasks.inference import Conditions
from bakeoff.train import checkpoint
from bakeoff.train.loop import Best, Epoch, StageStarted, State, Step, Stopped, train
from bakeoff.train.recipe import Recipe, Stage
from bakeoff.train.stages import Schedule, part_of, rate

TASK = Classification(("a", "b", "c"))


@pytest.fixture
def feed(tmp_path: Path) -> Feed:
    """Return 30 images of 16 pixels whose brightness is their class."""
    targets = np.arange(30) % 3
    pixels = np.random.default_rng(0).integers(0, 60, (30, 16, 16, 3), np.uint8) + (80 * targets)[:, None, None, None]
    np.save(tmp_path / "pixels.npy", pixels.astype(np.uint8))
    rows, labels = np.arange(30), [Label(int(target)) for target in targets]
    return Feed(tmp_path / "pixels.npy", rows, labels, rows, Augment("light", 16), Mix(3), batch=6, seed=3)


def make_state(arch: str = "small:cnn", **recipe: Any) -> State:
    """Return a fresh small network under a recipe of 3 epochs."""
    torch.manual_seed(0)
    options = {"epochs": 3, "batch": 6, "augment": "light", **recipe}
    return State(build(ModelSpec(arch=arch), 3, 16), Recipe(**options), Conditions())


def accuracies(values: list[float]) -> Any:
    """Return a validation that gives these accuracies one after the other."""
    left = iter(values)
    return lambda _network: {"accuracy": next(left), "log_loss": 0.5}


RECIPES: list[dict[str, Any]] = [
    {},  # plain
    {"ema": 0.9, "checkpoint": "best"},  # average and best weights
    {"optimiser": "sgd", "clip": 1.0, "label_smoothing": 0.1},  # momentum
    {"stages": (Stage(layers="head", epochs=1), Stage(rate=1e-3, schedule="step", warmup=0.2))},  # frozen, then all
]


@pytest.mark.parametrize("recipe", RECIPES, ids=["plain", "ema", "sgd", "stages"])
@pytest.mark.parametrize("cut", [1, 5, 7, 14])
def test_a_cut_run_ends_with_the_same_weights_and_facts(
    feed: Feed, tmp_path: Path, recipe: dict[str, Any], cut: int
) -> None:
    values = [0.5, 0.7, 0.6]
    whole = make_state(**recipe)
    facts = [fact for fact in train(whole, TASK, feed, accuracies(values)) if not isinstance(fact, Epoch)]
    begun = make_state(**recipe)
    before = []
    for fact in train(begun, TASK, feed, accuracies(values)):
        before += [] if isinstance(fact, Epoch) else [fact]
        if isinstance(fact, Step) and fact.step == cut:
            checkpoint.save(tmp_path / "c", begun.step, begun.export())
            break
    resumed = make_state(**recipe)
    saved = checkpoint.load(tmp_path / "c")
    assert saved is not None
    resumed.restore(saved)
    rest = train(resumed, TASK, feed, accuracies(values[resumed.epoch :]))
    assert before + [fact for fact in rest if not isinstance(fact, Epoch)] == facts
    assert weights_hash(resumed.finish()) == weights_hash(whole.finish())


def test_a_resumed_epoch_counts_the_time_before_the_cut(feed: Feed) -> None:
    state = make_state(epochs=1)
    for fact in train(state, TASK, feed):
        if isinstance(fact, Step) and fact.step == 3:
            break
    resumed = make_state(epochs=1)
    resumed.restore({**state.export(), "seconds": 100.0})
    epoch = next(fact for fact in train(resumed, TASK, feed) if isinstance(fact, Epoch))
    assert epoch.seconds > 100
    assert 0 < epoch.images_per_second < 30 / 100


def test_two_seeds_train_two_networks(feed: Feed) -> None:
    one, two = make_state(), make_state()
    list(train(one, TASK, feed))
    list(train(two, TASK, Feed(**{**vars(feed), "seed": 4})))
    assert weights_hash(one.network) != weights_hash(two.network)


def test_the_facts_tell_what_happened(feed: Feed) -> None:
    facts = list(train(make_state(), TASK, feed, accuracies([0.5, 0.7, 0.6])))
    assert [type(fact) for fact in facts if not isinstance(fact, Step)] == [
        StageStarted,
        Epoch,
        Best,
        Epoch,
        Best,
        Epoch,
    ]
    assert [fact.step for fact in facts if isinstance(fact, Step)] == list(range(1, 16))
    epochs = [fact for fact in facts if isinstance(fact, Epoch)]
    assert epochs[0].train_loss > epochs[2].train_loss
    assert epochs[0].val_loss == 0.5


def test_early_stop_and_the_best_weights(feed: Feed) -> None:
    state = make_state(epochs=9, early_stop=2, checkpoint="best")
    facts = list(train(state, TASK, feed, accuracies([0.5, 0.9, 0.9, 0.8, 0.95])))
    assert isinstance(facts[-1], Stopped)
    assert facts[-1].epoch == 3
    kept = {name: tensor.clone() for name, tensor in state.best_weights.items()}
    assert any(not torch.equal(kept[name], tensor) for name, tensor in state.network.state_dict().items())
    assert all(torch.equal(kept[name], tensor) for name, tensor in state.finish().state_dict().items())


def test_a_frozen_backbone_keeps_its_weights_and_its_batch_norm(feed: Feed) -> None:
    state = make_state(frozen="backbone", stages=(Stage(layers="head"),))
    before = {name: tensor.clone() for name, tensor in state.network.body.state_dict().items()}
    list(train(state, TASK, feed))
    parts = part_of(state.network)
    moved = {name for name, tensor in state.network.body.state_dict().items() if not torch.equal(before[name], tensor)}
    assert moved == {name for name, part in parts.items() if part == "head"}


def test_frozen_statistics_stay_while_everything_learns(feed: Feed) -> None:
    state = make_state(norm_statistics="frozen")
    before = {name: tensor.clone() for name, tensor in state.network.body.state_dict().items()}
    list(train(state, TASK, feed))
    moved = {name for name, tensor in state.network.body.state_dict().items() if not torch.equal(before[name], tensor)}
    assert moved == {name for name, _ in state.network.body.named_parameters()}


def test_the_average_is_what_is_validated_and_handed_over(feed: Feed) -> None:
    state = make_state(ema=0.5)
    judged: list[Network] = []
    list(train(state, TASK, feed, lambda network: judged.append(network) or {}))  # type: ignore[func-returns-value]
    assert judged[-1] is state.finish()
    assert weights_hash(state.finish()) != weights_hash(state.network)


class Exploding(Classification):
    """A task whose loss is NaN at its third step."""

    steps = 0

    def loss(self, net: nn.Module, batch: Batch) -> Tensor:
        self.steps += 1
        return super().loss(net, batch) * (float("nan") if self.steps == 3 else 1.0)


def test_a_loss_that_is_not_finite_stops_with_the_step(feed: Feed) -> None:
    with pytest.raises(Diverged, match="nan at step 3"):
        list(train(make_state(), Exploding(("a", "b", "c")), feed))


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        (Stage(rate=1.0, schedule="constant"), [1, 1, 1, 1, 1, 1]),  # constant
        (Stage(rate=1.0, schedule="step"), [1, 1, 0.1, 0.1, 0.01, 0.01]),  # a tenth after each third
        (Stage(rate=1.0, schedule="constant", warmup=0.5), [0.25, 0.5, 0.75, 1, 1, 1]),  # linear warm-up
        (Stage(rate=2.0, schedule="cosine"), [2, 1.866, 1.5, 1, 0.5, 0.134]),  # half a cosine
    ],
)
def test_rates(stage: Stage, expected: list[float]) -> None:
    assert [rate(stage, step, 6) for step in range(6)] == pytest.approx(expected, abs=1e-3)


def test_stages_follow_each_other() -> None:
    recipe = Recipe(epochs=4, stages=(Stage(layers="head", epochs=1, rate=1.0), Stage(rate=0.5, schedule="constant")))
    schedule = Schedule.of(recipe, 10)
    assert [schedule.at(step).stage for step in (0, 9, 10, 39)] == [0, 0, 1, 1]
    assert schedule.steps == 40
    assert schedule.at(10).rate == 0.5


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"stages": [{"epochs": 2}], "epochs": 3}, "must add up"),  # too few epochs
        ({"stages": [{}, {}]}, "must add up"),  # two stages without epochs
        ({"stages": []}, "at least one stage"),  # none
        ({"stages": [{"layers": "head"}]}, "no stage trains the backbone"),  # uncovered
        ({"early_stop": 3}, 'needs checkpoint = "best"'),  # stop without best
        ({"rate": 1.0}, "Extra inputs"),  # unknown key
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(recipe: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe.model_validate(recipe)


@pytest.mark.parametrize("count", [1, 100, 100_000])
def test_a_checkpoint_that_cannot_be_written_is_said_and_the_one_before_stays(tmp_path: Path, count: int) -> None:
    checkpoint.save(tmp_path, 1, {"step": 1})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))  # as if the disk were full after 500 bytes
    try:
        with pytest.raises(ResourceError, match="cannot be written"):
            checkpoint.save(tmp_path, 2, {"step": 2, "weights": torch.rand(count)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert checkpoint.load(tmp_path) == {"step": 1}
    assert not list(tmp_path.glob(".tmp-*"))


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, step, {"step": step})
    assert len(list(tmp_path.glob("*.pt"))) == 2
    newest = tmp_path / "step-000000003.pt"
    newest.write_bytes(newest.read_bytes()[:-10])
    assert checkpoint.load(tmp_path) == {"step": 2}
    assert "step-000000003.pt is damaged" in caplog.text
    checkpoint.clear(tmp_path)
    assert not tmp_path.exists()
