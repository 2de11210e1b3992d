"""Features in the images' stead: the same weights as without them, cut anywhere, and nothing left on the disk."""

from __future__ import annotations

import resource
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bakeoff import verbs
from bakeoff.data.augment import Augment, AugmentName
from bakeoff.data.load import Feed
from bakeoff.data.mix import Mix
from bakeoff.data.targets import Label
from bakeoff.errors import ResourceError, UsageError
from bakeoff.models import build
from bakeoff.models.spec import Head, ModelSpec
from bakeoff.models.trained import weights_hash
from bakeoff.store import StudyFolder
from bakeoff.tasks.classification import Classification
from bakeoff.tasks.inference import Conditions, inferring
from bakeoff.train.features import FrozenFeatures
from bakeoff.train.loop import State, Step, train
from bakeoff.train.recipe import Recipe, Stage

TASK = Classification(("a", "b", "c"))
COUNT, SIDE = 26, 32  # no multiple of the batch
HEAD = (Stage(layers="head", rate=0.01),)


@pytest.fixture
def feed(tmp_path: Path) -> Feed:
    """Return images whose brightness is their class, in batches of 6."""
    targets = np.arange(COUNT) % 3
    noise = np.random.default_rng(0).integers(0, 60, (COUNT, SIDE, SIDE, 3), np.uint8)
    np.save(tmp_path / "pixels.npy", (noise + (80 * targets)[:, None, None, None]).astype(np.uint8))
    rows, labels = np.arange(COUNT), [Label(int(target)) for target in targets]
    return Feed(tmp_path / "pixels.npy", rows, labels, rows, Augment("none", SIDE), Mix(3), batch=6, seed=3)


def drawn(feed: Feed, augment: AugmentName, copies: int) -> Feed:
    return replace(feed, augment=Augment(augment, SIDE), copies=copies)


def make_state(arch: str = "small:resnet", head: Head | None = None, **recipe: Any) -> State:
    """Return a fresh network under a recipe of 5 epochs that trains its head alone."""
    torch.manual_seed(0)
    options = {"epochs": 5, "batch": 6, "frozen": "backbone", "stages": HEAD, **recipe}
    spec = ModelSpec(arch=arch, weights="none", head=head or Head())
    return State(build(spec, 3, SIDE), Recipe(**options), Conditions())


def stored(feed: Feed, folder: Path) -> FrozenFeatures:
    return FrozenFeatures(feed, folder, Conditions(), "the candidate")


def calls_of_the_trunk(state: State) -> list[int]:
    """Return a list that gets an entry for each batch that goes through the frozen trunk."""
    seen: list[int] = []
    trunk = state.network.body.get_submodule("trunk")
    trunk.register_forward_pre_hook(lambda _module, given: seen.append(len(given[0])))
    return seen


ROWS: list[tuple[str, Head | None, AugmentName, int, dict[str, Any]]] = [
    ("small:cnn", None, "none", 0, {}),
    ("small:resnet", None, "standard", 3, {"ema": 0.9}),  # an average; copies that differ
    ("small:resnet", Head(hidden=(8,), dropout=0.5), "light", 2, {}),  # dropout keeps drawing
    ("timm:test_vit", None, "none", 2, {"optimiser": "sgd", "clip": 1.0}),
    ("timm:test_convnext", None, "flip", 3, {"label_smoothing": 0.1}),
    ("timm:test_efficientnet", None, "light", 1, {"norm_statistics": "frozen"}),
]


@pytest.mark.parametrize(("arch", "head", "augment", "copies", "recipe"), ROWS)
def test_features_give_the_weights_that_recomputing_gives(
    feed: Feed,
    tmp_path: Path,
    arch: str,
    head: Head | None,
    augment: AugmentName,
    copies: int,
    recipe: dict[str, Any],
) -> None:
    feed = drawn(feed, augment, copies)
    plain, cached = make_state(arch, head, **recipe), make_state(arch, head, **recipe)
    before = {name: value.clone() for name, value in plain.network.state_dict().items()}
    facts = [fact for fact in train(plain, TASK, feed) if isinstance(fact, Step)]
    again = [fact for fact in train(cached, TASK, feed, frozen=stored(feed, tmp_path / "f")) if isinstance(fact, Step)]
    assert [fact.loss for fact in again] == pytest.approx([fact.loss for fact in facts], abs=1e-5)
    other = cached.finish().state_dict()
    assert all((other[name] - value).abs().max() <= 1e-5 for name, value in plain.finish().state_dict().items())
    assert any((other[name] - value).abs().max() > 1e-2 for name, value in before.items())  # it did learn
    images = torch.rand(5, 3, SIDE, SIDE)
    with inferring(plain.judged), inferring(cached.judged):
        assert (plain.judged(images) - cached.judged(images)).abs().max() <= 1e-5


@pytest.mark.parametrize(("copies", "most"), [(1, 1), (2, 2)])
def test_every_copy_goes_through_the_backbone_once(feed: Feed, tmp_path: Path, copies: int, most: int) -> None:
    feed, state = drawn(feed, "light", copies), make_state()
    seen, features = calls_of_the_trunk(state), stored(drawn(feed, "light", copies), tmp_path / "f")
    epochs = train(state, TASK, feed, frozen=features)
    assert len(list(epochs)) > 5 * feed.steps
    full = [size for size in seen if size == 6]
    assert len(full) == most * 5  # 26 images are 5 batches of 6
    assert len(seen) - len(full) < 10  # those that look for the cut
    assert len(list((tmp_path / "f").glob("features-*.npy"))) == copies
    features.clear()
    assert not list((tmp_path / "f").iterdir())


@pytest.mark.parametrize("kept", [True, False])
def test_a_cut_run_ends_with_the_same_weights(feed: Feed, tmp_path: Path, kept: bool) -> None:
    feed, head = drawn(feed, "standard", 2), Head(hidden=(8,), dropout=0.5)
    whole, begun, resumed = (make_state(head=head) for _ in range(3))
    list(train(whole, TASK, feed, frozen=stored(feed, tmp_path / "whole")))
    for fact in train(begun, TASK, feed, frozen=stored(feed, tmp_path / "cut")):
        if isinstance(fact, Step) and fact.step == 7:
            break
    resumed.restore(begun.export())
    seen = calls_of_the_trunk(resumed)
    list(train(resumed, TASK, feed, frozen=stored(feed, tmp_path / ("cut" if kept else "fresh"))))
    assert weights_hash(resumed.finish()) == weights_hash(whole.finish())
    assert seen.count(6) == (0 if kept else 10)


def test_head_first_drops_the_features_when_the_backbone_learns(feed: Feed, tmp_path: Path) -> None:
    stages = (Stage(layers="head", epochs=2, rate=0.01), Stage(rate=1e-4, epochs=1), Stage(layers="head", rate=0.01))
    plain, cached = (make_state(frozen="none", stages=stages, optimiser="sgd") for _ in range(2))
    list(train(plain, TASK, feed))
    files = [
        sorted(file.name for file in (tmp_path / "f").iterdir())
        for fact in train(cached, TASK, feed, frozen=stored(feed, tmp_path / "f"))
        if isinstance(fact, Step) and fact.step % feed.steps == 0
    ]
    assert files[0] == files[1]
    assert files[2] == []
    assert len(files[3]) == 1
    assert files[3] != files[0]  # of the backbone that has learned meanwhile
    found = cached.finish().state_dict()
    assert all((found[name] - value).abs().max() <= 1e-5 for name, value in plain.finish().state_dict().items())


def test_a_full_disk_is_said(feed: Feed, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))
    try:
        with pytest.raises(ResourceError, match=r"features-.* cannot be written"):
            list(train(make_state(), TASK, feed, frozen=stored(feed, tmp_path / "f")))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list((tmp_path / "f").iterdir())


def test_a_candidate_that_cannot_be_cut_is_named(feed: Feed, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build(ModelSpec(arch="timm:test_vit", weights="none", options={"pos_drop_rate": 0.3}), 3, SIDE)
    state = State(network, Recipe(epochs=1, batch=6, frozen="backbone", stages=HEAD), Conditions())
    with pytest.raises(UsageError, match=r"the candidate: recipe.cache_features: .*draws at random"):
        list(train(state, TASK, feed, frozen=stored(feed, tmp_path / "f")))


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"augment": "light"}, "set copies = 3"),  # draws that never come back
        ({"augment": "none", "mixup": 0.2}, "set mixup = 0"),  # what is mixed is not an image's
        ({"augment": "none", "frozen": "none", "stages": [{}]}, "trains the head alone"),  # nothing to store
    ],
)
def test_recipes_that_leave_nothing_to_store(recipe: dict[str, Any], message: str) -> None:
    given = {"frozen": "backbone", "stages": HEAD, "cache_features": True, **recipe}
    with pytest.raises(ValueError, match=message):
        Recipe.model_validate(given)


@pytest.mark.usefixtures("inline")
def test_a_study_gives_the_same_outcomes_with_features_and_without(tmp_path: Path) -> None:
    for label in range(3):
        (tmp_path / "photos" / str(label)).mkdir(parents=True)
        for number in range(20):
            pixels = np.random.default_rng(20 * label + number).integers(60 * label, 60 * label + 120, (16, 16, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "photos" / str(label) / f"{number}.png")
    probe = {"epochs": 4, "batch": 8, "augment": "light", "copies": 2, "frozen": "backbone"}
    recipe = {**probe, "stages": [{"layers": "head", "rate": 0.01}]}
    found = []
    for stored_features in (False, True):
        study = tmp_path / f"study-{stored_features}"
        candidate = {"name": "probe", "model": "small:cnn", "recipe": {**recipe, "cache_features": stored_features}}
        settings = {"size": 16, "seeds": 1, "repeat_one": False, "candidates": [candidate]}
        verbs.run(tmp_path / "photos", study, settings=settings)
        (done,) = StudyFolder(study).runs()
        assert not list(study.rglob("features-*"))
        found.append((done, StudyFolder(study).run(done.id)))
    (plain, first), (cached, second) = found
    assert plain.id != cached.id
    scores = [folder.outcomes().columns["scores"] for folder in (first, second)]
    assert np.abs(scores[0] - scores[1]).max() <= 1e-5
    assert cached.facts["metrics"] == pytest.approx(plain.facts["metrics"], abs=1e-5)
