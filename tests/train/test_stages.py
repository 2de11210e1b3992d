"""Stages as data: layer groups, rates by depth, and the stage that ends when a gap opens; exact resume of all that."""

from __future__ import annotations

import doctest
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bakeoff import verbs
from bakeoff.data.augment import Augment
from bakeoff.data.digits import write_digits
from bakeoff.data.load import Feed
from bakeoff.data.mix import Mix
from bakeoff.data.targets import Label
from bakeoff.errors import UsageError
from bakeoff.models import build
from bakeoff.models.spec import ModelSpec
from bakeoff.models.trained import weights_hash
from bakeoff.store import RunFolder, StudyFolder
from bakeoff.study import make_study, to_toml
from bakeoff.tasks.classification import Classification
from bakeoff.tasks.inference import Conditions
from bakeoff.train import checkpoint, gap, stages
from bakeoff.train.gap import GapRule, epochs_above, gaps
from bakeoff.train.loop import Epoch, Fact, Gap, StageStarted, State, Step, to_json, train
from bakeoff.train.recipe import Recipe, Stage
from bakeoff.train.stages import depths, rate_groups, scale

TASK = Classification(("a", "b", "c"))
RULE = GapRule(gap=0.25, smoothing=0.0, patience=2)
OPENS = [1.0, 0.9, 1.1, 3.0, 4.0, 5.0, 5.0, 5.0]  # validation losses: closed after epoch 2, noticed after epoch 4
TWO = (Stage(rate=3e-3, schedule="constant", until=RULE), Stage(rate=1e-4, schedule="cosine", epochs=2))


@pytest.fixture
def feed(tmp_path: Path) -> Feed:
    """Return 18 images of 16 pixels whose brightness is their class: 3 steps an epoch."""
    targets = np.arange(18) % 3
    pixels = np.random.default_rng(0).integers(0, 60, (18, 16, 16, 3), np.uint8) + (80 * targets)[:, None, None, None]
    np.save(tmp_path / "pixels.npy", pixels.astype(np.uint8))
    rows, labels = np.arange(18), [Label(int(target)) for target in targets]
    return Feed(tmp_path / "pixels.npy", rows, labels, rows, Augment("light", 16), Mix(3), batch=6, seed=3)


def make_state(**recipe: Any) -> State:
    """Return a fresh small network under a recipe of 8 epochs."""
    torch.manual_seed(0)
    options = {"epochs": 8, "batch": 6, "augment": "light", **recipe}
    return State(build(ModelSpec(arch="small:cnn"), 3, 16), Recipe(**options), Conditions())


def validation(losses: Sequence[float]) -> Any:
    """Return a validation that gives these losses one after the other; the accuracy falls all the while."""
    left = iter(enumerate(losses))

    def validate(_network: object) -> dict[str, float]:
        epoch, loss = next(left)
        return {"accuracy": 0.9 - 0.1 * epoch, "log_loss": loss}

    return validate


def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the recorded training loss be 1, so that the gap follows the validation losses that a test gives."""
    monkeypatch.setattr("bakeoff.train.loop.gaps", lambda losses, rule: gaps([(1.0, val) for _, val in losses], rule))


@pytest.mark.parametrize("module", [gap, stages], ids=lambda module: module.__name__)
def test_examples_in_the_documentation(module: Any) -> None:
    done = doctest.testmod(module)
    assert done.attempted > 0
    assert done.failed == 0


@pytest.mark.parametrize(
    ("layers", "learning"),
    [
        ("all", range(6)),  # everything
        ("head", [0]),  # the last group
        ("backbone", range(1, 6)),  # all but the last
        ("last 1", [0]),  # another word for the head
        ("last 3", [0, 1, 2]),  # the head and two groups before it
        ("last 99", range(6)),  # more groups than there are
    ],
)
def test_a_stage_trains_its_layer_groups_alone(feed: Feed, layers: str, learning: Sequence[int]) -> None:
    state = make_state(epochs=1, frozen="backbone" if layers != "backbone" else "head", stages=(Stage(layers=layers),))
    before = {name: tensor.clone() for name, tensor in state.network.body.state_dict().items()}
    list(train(state, TASK, feed))
    depth_of = depths(state.network)
    assert max(depth_of.values()) == 5
    moved = {name for name, parameter in state.network.body.named_parameters() if _moved(before[name], parameter)}
    assert moved == {name for name, depth in depth_of.items() if depth in learning}


def _moved(before: Tensor, after: Tensor) -> bool:
    return not torch.equal(before, after.detach())


def test_rates_by_depth_reach_the_optimiser(feed: Feed) -> None:
    stage = Stage(rate=0.01, head_rate=0.05, decay=0.5, schedule="constant")
    state = make_state(epochs=1, optimiser="sgd", momentum=0.0, weight_decay=0.0, stages=(stage,))
    next(step for step in train(state, TASK, feed) if isinstance(step, Step))
    depth_of, network = depths(state.network), state.network
    rates = {id(p): group["lr"] for group in state.optimiser.param_groups for p in group["params"]}
    assert rates == {
        id(p): pytest.approx(0.05 if depth_of[name] == 0 else 0.01 * 0.5 ** depth_of[name])
        for name, p in network.body.named_parameters()
    }


def test_a_frozen_stage_is_followed_by_its_own_rates() -> None:
    recipe = Recipe(epochs=3, stages=(Stage(layers="head", epochs=1, rate=0.1), Stage(rate=0.01, decay=0.5)))
    groups = rate_groups(build(ModelSpec(arch="small:cnn"), 3, 16), recipe)
    assert len(groups) == 12  # six layer groups, each with and without weight decay
    assert {group.scales[1] for group in groups} == {0.5**depth for depth in range(6)}
    assert {scale(recipe.stages[0], 0), *(group.scales[0] for group in groups)} == {1.0}


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_dividing_the_optimisers_groups_changes_no_bit(feed: Feed, optimiser: str) -> None:
    found = []
    for decay in (1.0, 0.5):  # of the second stage, so the first is the same under 4 and under 12 groups
        stages = (Stage(epochs=2), Stage(epochs=1, decay=decay))
        state = make_state(epochs=3, optimiser=optimiser, stages=stages)
        facts = train(state, TASK, feed)
        next(fact for fact in facts if isinstance(fact, StageStarted) and fact.stage == 1)
        found.append((len(state.optimiser.param_groups), weights_hash(state.network)))
    (few, one), (many, other) = found
    assert (few, many) == (4, 12)
    assert one == other


STAGES: list[tuple[dict[str, Any], str]] = [
    ({"layers": "tail"}, 'expected "all", "head", "backbone" or "last N"'),  # no such layers
    ({"layers": "last 0"}, "last N"),  # none at all
    ({"layers": "head", "head_rate": 0.1}, 'with "head" use rate'),  # a second name for the rate
    ({"layers": "last 3"}, "no stage trains the layer groups before the last 3"),  # uncovered, though the head is not
    ({"layers": "backbone"}, 'no stage trains the head; add one, or say frozen = "head"'),  # uncovered head
    ({"until": {"gap": 0.3}}, "the last stage has no stage to lead to"),  # nothing would follow
    ({"until": {"gap": -1}}, "greater than 0"),  # a gap that is always open
    ({"until": {"tolerance": 1}}, "Extra inputs"),  # unknown key
    ({"until": "now"}, "GapRule"),  # neither the end nor a rule
    ({"decay": 1.5}, "less than or equal to 1"),  # a stem that learns faster than the head
]


@pytest.mark.parametrize(("stage", "message"), STAGES, ids=[str(stage) for stage, _ in STAGES])
def test_a_stage_that_makes_no_sense_is_refused(stage: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe.model_validate({"epochs": 5, "stages": [stage]})


def test_gradual_unfreezing_covers_all_layers() -> None:
    layers = ("head", "last 2", "last 4", "all")
    recipe = Recipe(epochs=8, stages=tuple(Stage(layers=name, epochs=2, until="end") for name in layers))
    assert [stage.until for stage in recipe.stages] == [None] * 4


losses = st.lists(st.tuples(st.floats(1e-3, 10), st.floats(1e-3, 10)), min_size=1, max_size=12)


@given(losses, st.floats(0.1, 10), st.floats(0, 0.9))
def test_what_inflates_the_training_loss_by_a_factor_does_not_move_the_gap(
    found: list[tuple[float, float]], factor: float, smoothing: float
) -> None:
    rule = GapRule(smoothing=smoothing)
    inflated = gaps([(factor * train, val) for train, val in found], rule)
    assert inflated == pytest.approx(gaps(found, rule), rel=1e-6, abs=1e-9)
    assert inflated[0] == 0
    assert min(inflated) >= 0


def test_the_gap_by_hand() -> None:
    rule = GapRule(gap=0.5, smoothing=0.5, patience=2)
    found = gaps([(1.0, 1.0), (1.0, 0.5), (1.0, 2.0), (1.0, 4.0)], rule)
    smooth = [0.0, -0.5, 0.25, 1.125]  # in units of ln 2, each halfway between the one before and the ratio
    assert found == pytest.approx([0, 0, 2**0.75 - 1, 2**1.625 - 1])
    assert found[-1] == pytest.approx(2 ** (smooth[-1] - min(smooth)) - 1)
    assert epochs_above(found, rule) == 2
    assert epochs_above([*found, 0.5], rule) == 0  # what does not exceed the gap is not above it
    assert math.isfinite(gaps([(1.0, 1.0), (0.0, 1.0)], rule)[-1])  # learned by heart


def told(facts: Sequence[Fact]) -> list[dict[str, Any]]:
    """Return facts as JSON without what depends on the clock."""
    return [{k: v for k, v in to_json(fact).items() if k not in ("seconds", "images_per_second")} for fact in facts]


def test_the_stage_ends_and_the_weights_before_the_gap_are_taken_up(
    feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    steady(monkeypatch)
    state, seen = make_state(stages=TWO, ema=0.5), dict[int, str]()
    facts = []
    for fact in train(state, TASK, feed, validation(OPENS)):
        facts.append(fact)
        if isinstance(fact, Epoch) and fact.epoch < 4:
            seen[fact.epoch] = weights_hash(state.network) + weights_hash(state.judged)
        if isinstance(fact, Gap):
            assert weights_hash(state.network) + weights_hash(state.judged) == seen[2]
            assert state.export()["closed"] == {}
    gap_fact = next(fact for fact in facts if isinstance(fact, Gap))
    assert gap_fact == Gap(epoch=4, step=15, stage=0, gap=gap_fact.gap, taken=2, epochs=7, steps=21)
    assert gap_fact.gap == pytest.approx(4 / 0.9 - 1)
    assert [fact.step for fact in facts if isinstance(fact, StageStarted)] == [0, 15]
    assert [fact.epoch for fact in facts if isinstance(fact, Epoch)] == list(range(7))
    assert {fact.steps for fact in facts if isinstance(fact, Step) and fact.step > 15} == {21}
    rates = [fact.rate for fact in facts if isinstance(fact, Step)]
    assert rates[:15] == [3e-3] * 15
    assert rates[15] == 1e-4 > rates[-1]


def test_a_gap_that_stays_closed_leaves_the_stages_as_planned(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    steady(monkeypatch)
    state = make_state(stages=TWO)
    facts = list(train(state, TASK, feed, validation([1.0, 2.0, 1.0, 2.0, float("nan"), 1.0, 2.0, 2.0])))
    assert not [fact for fact in facts if isinstance(fact, Gap)]
    assert [fact.step for fact in facts if isinstance(fact, StageStarted)] == [0, 18]
    assert state.epoch == 8
    assert state.closed == {}
    plain = make_state(stages=(TWO[0].model_copy(update={"until": None}), TWO[1]))
    list(train(plain, TASK, feed, validation([1.0] * 8)))
    assert weights_hash(plain.network) == weights_hash(state.network)


@pytest.mark.parametrize("options", [{"ema": 0.9, "checkpoint": "best"}, {"optimiser": "sgd"}], ids=["ema", "sgd"])
@pytest.mark.parametrize("cut", range(1, 21))
def test_a_run_cut_at_any_step_ends_as_if_it_had_not_been(
    feed: Feed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], cut: int
) -> None:
    """Steps 1 to 9: the gap is closed; 10 to 15: open, not yet for long enough; from 16 on: the next stage."""
    steady(monkeypatch)
    options = {**options, "stages": TWO}
    whole, folder = make_state(**options), RunFolder(tmp_path / "run")
    facts = told([fact for fact in train(whole, TASK, feed, validation(OPENS)) if not isinstance(fact, Step)])
    begun = make_state(**options)
    for fact in train(begun, TASK, feed, validation(OPENS)):
        if not isinstance(fact, Step):
            folder.append(to_json(fact))
        elif fact.step == cut:
            checkpoint.save(tmp_path / "c", begun.step, begun.export())
        elif fact.step == min(cut + 4, 21):  # what came after the checkpoint is lost
            break
    resumed = make_state(**options)
    saved = checkpoint.load(tmp_path / "c")
    assert saved is not None
    resumed.restore(saved)
    folder.rewind(resumed.epoch, resumed.step)
    for fact in train(resumed, TASK, feed, validation(OPENS[resumed.epoch :])):
        if not isinstance(fact, Step):
            folder.append(to_json(fact))
    kept = [{k: v for k, v in f.items() if k not in ("seconds", "images_per_second")} for f in folder.history()]
    assert _without_accuracy(kept) == _without_accuracy(facts)
    assert weights_hash(resumed.finish()) == weights_hash(whole.finish())


def _without_accuracy(facts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out what the made-up validation counts from its own start."""
    return [{k: v for k, v in fact.items() if k not in ("val", "value")} for fact in facts if fact["kind"] != "best"]


def gap_study(folder: Path, **changes: Any) -> Path:
    """Write a study of 200 digits whose first stage waits for a gap; return its folder."""
    data = write_digits(folder / "digits", 20)
    stages = [{"rate": 0.01, "until": {"gap": 0.05, "patience": 1}}, {"rate": 1e-6, "epochs": 2}]
    content = {
        "data": {"path": str(data)},
        "size": 16,
        "seeds": 1,
        "repeat_one": False,
        "execution": {"precision": "fp32"},
        "recipe": {"epochs": 14, "batch": 16, "augment": "none", "stages": stages},
        "candidates": ["small:mlp"],
        **changes,
    }
    (folder / "s").mkdir()
    (folder / "s" / "study.toml").write_text(to_toml(make_study(content)))
    return folder / "s"


@pytest.mark.usefixtures("inline")
def test_a_study_tells_the_gap_and_its_report_marks_it(tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    study = gap_study(tmp_path)
    verbs.run(study, tell=lambda _run, fact: told.append(fact))
    folder = StudyFolder(study)
    (done,) = folder.runs()
    history = folder.run(done.id).history()
    (found,) = [fact for fact in history if fact["kind"] == "gap"]
    (told_gap,) = [fact for fact in told if fact["kind"] == "gap"]
    assert told_gap == found
    assert 0 <= found["taken"] < found["epoch"]
    assert done.facts["epochs_done"] == found["epochs"] == found["epoch"] + 3 < 14
    page = folder.report.read_text(encoding="utf-8")
    assert f"the gap opened after epoch {found['taken'] + 1} (ring)" in page
    assert {"gap opens", "restart"} <= set(re.findall(r'class="note">([^<]+)<', page))


@pytest.mark.usefixtures("inline")
def test_a_gap_that_can_never_be_known_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"mlp: recipe.stages.0.until waits for the gap .* set split.val above 0"):
        verbs.run(gap_study(tmp_path, split={"val": 0.0}))
    assert not StudyFolder(tmp_path / "s").runs()
    assert gap.unknowable([RULE, None], "classification", "log_loss", validated=True) == ""
    assert "detection has no validation loss" in gap.unknowable([RULE, None], "detection", "", validated=True)
