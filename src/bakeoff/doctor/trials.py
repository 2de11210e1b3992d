"""What bakeoff promises for every task, tried on its small network and made-up images."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bakeoff.data.augment import Augment
from bakeoff.data.cache import open_pixels
from bakeoff.data.dataset import TaskName
from bakeoff.data.examples import example
from bakeoff.data.load import Batch, Feed
from bakeoff.data.masks import to_runs
from bakeoff.data.mix import Mix
from bakeoff.data.targets import Boxes, Instances, Label, LabelMap, Target
from bakeoff.evaluate.outcomes import stack
from bakeoff.findings import Finding, Severity
from bakeoff.guards.probes import gradient, overfit, skip
from bakeoff.guards.subject import Subject
from bakeoff.models import build
from bakeoff.models.spec import ModelSpec
from bakeoff.models.trained import weights_hash
from bakeoff.seeds import fold, generator
from bakeoff.tasks import TASKS
from bakeoff.tasks.inference import Conditions, predict_pixels
from bakeoff.tasks.task import Task
from bakeoff.train.loop import State, train
from bakeoff.train.recipe import Recipe, Stage

BATCH = 8
RESUME_IMAGES, RESUME_CUT = 24, 4  # three steps per epoch, cut in the second one
LOADERS = 1  # processes that load the rest of the run that was cut
LEAST_GAIN = 0.25  # of the headline over chance, for labels that are right
MOST_LEAK = 1 / 3  # of that gain, for labels that were shuffled
SHUFFLES = 3  # of the targets, to see what chance is


@dataclass(frozen=True)
class Trial:
    """A task's small network, and how much it takes to learn the made-up images."""

    task: TaskName
    arch: str
    classes: int = 3
    size: int = 32
    images: int = 64
    epochs: int = 8
    share: float = 0.3  # of the image's side, for a square
    rate: float = 3e-3

    @property
    def judge(self) -> Task:
        """The task for these classes."""
        return TASKS[self.task](tuple(f"class {number:02}" for number in range(self.classes)))

    def state(self, epochs: int) -> State:
        """Return the network at the start of its training; it is always the same."""
        torch.manual_seed(fold(0, "doctor"))
        recipe = Recipe(epochs=epochs, batch=BATCH, stages=(Stage(rate=self.rate, warmup=0.1),))
        network = build(ModelSpec(arch=f"small:{self.arch}"), self.classes, self.size, self.task)
        return State(network, recipe, Conditions())

    def payload(self) -> dict[str, Any]:
        """Return what the guards ask for."""
        model = ModelSpec(arch=f"small:{self.arch}").model_dump(mode="json")
        rest = {"classes": self.classes, "size": self.size, "task": self.task, "device": "cpu"}
        return {"candidate": self.arch, "model": model, "recipe": {}, **rest}


TRIALS = {
    trial.task: trial
    for trial in (
        Trial("classification", "cnn", classes=10),
        Trial("semantic", "unet"),
        Trial("detection", "fcos", epochs=15),
        Trial("instance", "mask_rcnn", rate=6e-3),
    )
}


def attempt(payload: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Try the small network of the payload's `task`; yields findings as JSON."""
    trial = TRIALS[payload["task"]]
    with tempfile.TemporaryDirectory() as folder:
        feed = _feed(trial, Path(folder))
        yield _resumes(trial, feed).to_json()
        yield from (finding.to_json() for finding in _guarded(trial))
        yield _shuffled(trial, feed).to_json()


def _feed(trial: Trial, folder: Path) -> Feed:
    """Write made-up images, as a cache has them, and return a feed of the first half."""
    batch = example(trial.task, trial.classes, trial.images, trial.size, share=trial.share)
    pixels = folder / f"{trial.task}.npy"
    np.save(pixels, batch.images.mul(255).round().byte().permute(0, 2, 3, 1).numpy())
    rows = np.arange(trial.images // 2)
    augment, mix = Augment("flip", trial.size), Mix(trial.classes)
    return Feed(pixels, rows, _targets(trial, batch), rows, augment, mix, batch=BATCH, seed=0)


def _targets(trial: Trial, batch: Batch) -> list[Target]:
    """Return the targets of a batch as a dataset has them."""
    if trial.task == "classification":
        return [Label(int(index)) for index in batch.targets]
    if trial.task == "semantic":
        return [LabelMap(pixels.numpy().astype(np.uint8)) for pixels in batch.targets]
    size: tuple[int, int] = (trial.size, trial.size)
    found: list[Target] = []
    for one in batch.targets:
        boxes, labels = one["boxes"].double().numpy(), one["labels"].numpy()
        runs = tuple(to_runs(mask.numpy(), size) for mask in one.get("masks", ()))
        found.append(Instances(size, boxes, labels, masks=runs) if runs else Boxes(size, boxes, labels))
    return found


def _resumes(trial: Trial, feed: Feed) -> Finding:
    """Train twice, once cut within an epoch and resumed with a loader process: the weights must be equal."""
    some = slice(RESUME_IMAGES)
    feed = replace(feed, rows=feed.rows[some], labels=feed.labels[some], augment=Augment("standard", trial.size))
    whole, cut, again = (trial.state(2) for _ in range(3))
    list(train(whole, trial.judge, feed))
    for _fact in train(cut, trial.judge, feed):
        if cut.step == RESUME_CUT:
            break
    again.restore(cut.export())
    list(train(again, trial.judge, replace(feed, workers=LOADERS)))
    if weights_hash(whole.network) == weights_hash(again.network):
        words = "a run that is cut and resumed, with another number of loaders, ends with the same weights, bit by bit"
        return _finding("resume", trial, True, words)
    return _finding("resume", trial, False, "a resumed run ends with other weights: results here are not repeatable")


def _guarded(trial: Trial) -> Iterator[Finding]:
    """Put the small network through the guards that a study's candidates go through."""
    subject = Subject.of(trial.payload())
    for guard in (skip, gradient, overfit):
        result = guard(subject)
        yield _finding(result["code"], trial, result["ok"], result["sentence"])


def _shuffled(trial: Trial, feed: Feed) -> Finding:
    """Train on true and on shuffled targets: if the second is better than chance, the answer leaks into the input."""
    shuffled = replace(feed, labels=generator(0, "doctor", trial.task).permutation(feed.labels))
    (right, chance), (wrong, level) = _scored(trial, feed), _scored(trial, shuffled)
    gain, leak = right - chance, wrong - level
    words = (
        f"{trial.judge.table[trial.judge.headline].title} {100 * right:.0f} on new images after training, "
        f"{100 * wrong:.0f} after training on shuffled labels; chance is {100 * level:.0f}"
    )
    if gain < LEAST_GAIN:
        return _finding("shuffled", trial, False, f"the small network learns too little: {words}")
    if leak > MOST_LEAK * gain:
        return _finding("shuffled", trial, False, f"the answer leaks into the input: {words}")
    return _finding("shuffled", trial, True, words)


def _scored(trial: Trial, feed: Feed) -> tuple[float, float]:
    """Train, and return the headline on the images that were not trained on, and what chance gives there."""
    state, task = trial.state(trial.epochs), trial.judge
    list(train(state, task, feed))
    rest = np.setdiff1d(np.arange(trial.images), feed.rows)
    predictions = predict_pixels(task, state.finish(), np.array(open_pixels(feed.pixels)[rest]))

    def score(places: NDArray[np.intp]) -> float:
        rows = [task.outcome(found, feed.targets[int(place)]) for found, place in zip(predictions, places, strict=True)]
        outcomes = stack(rows, tuple(map(str, rest)), tuple(f"class {number:02}" for number in range(trial.classes)))
        return task.metrics(outcomes)[task.headline]

    draws = generator(0, "doctor", "chance")
    return score(rest), float(np.mean([score(draws.permutation(rest)) for _ in range(SHUFFLES)]))


def _finding(code: str, trial: Trial, good: bool, words: str) -> Finding:
    """Return a finding that names the task."""
    severity: Severity = "info" if good else "error"
    return Finding(code, severity, f"{trial.task}: {words}")
