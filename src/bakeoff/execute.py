"""One run, in the process that an engine gives it: build, train, evaluate, hand over; resumes where it was cut."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bakeoff.data.augment import Augment
from bakeoff.data.cache import open_pixels, pixels_path
from bakeoff.data.dataset import Dataset
from bakeoff.data.decode import Resize
from bakeoff.data.load import Feed
from bakeoff.data.mix import MIXES, Mix
from bakeoff.data.split import Split, Splits
from bakeoff.data.stored import open_targets, targets_path
from bakeoff.data.subset import shrunk
from bakeoff.data.targets import IGNORE, LabelMap, Target, stripped
from bakeoff.errors import DataError, Diverged
from bakeoff.evaluate.outcomes import Images, Keep, evaluate
from bakeoff.files import read_json, sweep
from bakeoff.models import build, layers, trained
from bakeoff.models.spec import ModelSpec, Network
from bakeoff.models.trained import Trained
from bakeoff.seeds import fold, generator
from bakeoff.store import Run, RunFolder, StudyFolder, pictured
from bakeoff.tasks import TASKS
from bakeoff.tasks.inference import Conditions
from bakeoff.tasks.task import LossOptions, Outcomes, Task
from bakeoff.train import checkpoint
from bakeoff.train.features import FrozenFeatures
from bakeoff.train.loop import State, Step, to_json, train
from bakeoff.train.recipe import Recipe

TELL_EVERY = 0.5  # seconds between two step facts told to the display
CHECKPOINT_EVERY = 20.0  # seconds; BAKEOFF_CHECKPOINT_SECONDS in the environment says otherwise


@dataclass(frozen=True)
class Work:
    """All that a run needs, made from its folder."""

    run: Run
    folder: RunFolder
    dataset: Dataset
    split: Split
    recipe: Recipe
    spec: ModelSpec
    size: int
    pixels: Path
    targets: Sequence[Target]
    judged: Sequence[Target]
    conditions: Conditions
    length: int  # images per epoch: those of the whole training part, so that a share of it is trained on as long
    diagnose: bool = False

    @property
    def seed(self) -> int:
        """The seed of order and draws: the same for all candidates, and another one for each share of the images."""
        share = () if self.run.share == 1 else ("share", repr(float(self.run.share)))
        return fold(self.run.seed, "run", self.run.repeat, self.run.fold, *share)

    @property
    def training(self) -> tuple[str, ...]:
        """Ids to train on: the training part, then the images derived from it alone that the recipe asks for."""
        return (*self.split.train, *self.dataset.derived_from(self.split.train, self.recipe.derived))

    def rows(self, ids: tuple[str, ...]) -> NDArray[np.int64]:
        """Return the cache rows of records."""
        return np.array([self.dataset.index[id] for id in ids], dtype=np.int64)

    def evaluate(self, task: Task, network: Network, ids: tuple[str, ...], keep: Keep | None = None) -> Outcomes:
        """Return the outcomes of a network on some records, judged in the frame of the study's own size."""
        images = Images(self.dataset, open_pixels(self.pixels), self.judged)
        return evaluate(task, network, images, ids, self.conditions, keep)


def execute(payload: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Train and evaluate the run named in the payload (`study`, `run`, `device`), yielding facts for a display.

    History, checkpoints, outcomes and model go to the run's folder; with `diagnose` in the payload the history tells
    what some steps look like from inside.  Raises Diverged when the loss is not finite, and records it: that run has
    failed for good.
    """
    began, work = time.perf_counter(), _open(payload)
    if work.conditions.device != "cpu":
        torch.backends.cudnn.benchmark = False  # its choice of algorithm differs from start to start
        torch.backends.cudnn.deterministic = True  # and some algorithms add up in another order each time
    sweep(work.folder.path)
    work.folder.write(replace(work.run, state="running"))
    try:
        yield from _train(work, every=float(os.environ.get("BAKEOFF_CHECKPOINT_SECONDS", CHECKPOINT_EVERY)))
    except Diverged as error:
        facts = {"diverged_at": error.step, "seconds": time.perf_counter() - began}
        work.folder.write(replace(work.run, state="failed", error=str(error), facts=facts))
        checkpoint.clear(work.folder.checkpoints)
        raise


def _train(work: Work, every: float) -> Iterator[dict[str, Any]]:
    """Train from the last checkpoint, then evaluate and hand over."""
    task, network, feed = make_task(work), make_network(work), make_feed(work)
    facts = {"parameters": layers.parameters(network), "flops": layers.flops(network, work.size)}
    state = State(network, work.recipe, work.conditions)
    if (saved := checkpoint.load(work.folder.checkpoints)) is not None:
        state.restore(saved)
    work.folder.rewind(state.epoch, state.step)
    run, schedule = work.run, state.schedule(feed.steps)
    yield {
        "kind": "run",
        "candidate": run.candidate,
        "seed": run.seed,
        "repeat": run.repeat,
        "fold": run.fold,
        "share": run.share,
        "purpose": run.purpose,
        "epochs": schedule.epochs,
        "steps": schedule.steps,
        "step": state.step,
    }
    yield from _facts(work, state, task, feed, every)
    yield from _hand_over(work, task, state, facts)


def _facts(work: Work, state: State, task: Task, feed: Feed, every: float) -> Iterator[dict[str, Any]]:
    """Write the facts of training down, save checkpoints now and then, and pass on what a display needs."""

    def validate(network: Network) -> dict[str, float]:
        return task.metrics(work.evaluate(task, network, work.split.val))

    saved = told = time.perf_counter()
    cached = work.recipe.cache_features
    frozen = FrozenFeatures(feed, work.folder.checkpoints, work.conditions, work.run.candidate) if cached else None
    for fact in train(state, task, feed, validate if work.split.val else None, frozen, work.diagnose):
        now = time.perf_counter()
        if not isinstance(fact, Step):
            work.folder.append(to_json(fact))
            yield to_json(fact)
            continue
        if now - saved >= every:  # only here: every earlier fact is in the history, so none is lost or written twice
            checkpoint.save(work.folder.checkpoints, state.step, state.export())
            saved = time.perf_counter()
        if now - told >= TELL_EVERY:
            told = now
            yield to_json(fact)


def _hand_over(work: Work, task: Task, state: State, facts: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Evaluate and write outcomes, model and run: on the test split, once, and on validation.

    What is judged on validation alone (a trial, a rung) never sees the test split, and leaves no model.
    """
    network = state.finish()
    epochs = [fact for fact in work.folder.history() if fact["kind"] == "epoch"]
    facts = {
        **facts,
        "seconds": sum(fact["seconds"] for fact in epochs),
        "images_per_second": float(np.median([fact["images_per_second"] for fact in epochs])),
        "weights_hash": trained.weights_hash(network),
        "epochs_done": len(epochs),
        "best_epoch": state.best.get("epoch"),
        "licence": network.card.licence,
        "pretraining": network.card.pretraining,
        "loaded": network.loaded,
    }
    judged = None
    if work.split.val:
        judged = work.evaluate(task, network, work.split.val)
        work.folder.write_outcomes(judged, "validation")
    if work.run.purpose in ("contest", "curve"):
        judged = _tested(work, task, network)
    if judged is None:
        raise DataError(f"{work.run.id}: a {work.run.purpose} is judged on validation images, and the split has none")
    metrics = {name: float(value) for name, value in task.metrics(judged).items()}
    facts["metrics"] = {name: value for name, value in metrics.items() if np.isfinite(value)}
    run = replace(work.run, state="done", facts=facts)
    if work.run.purpose == "contest":
        _save_model(work, network, run)
    work.folder.write(run)
    checkpoint.clear(work.folder.checkpoints)
    yield {"kind": "done", "metrics": facts["metrics"], "seconds": facts["seconds"]}


def _tested(work: Work, task: Task, network: Network) -> Outcomes:
    """Evaluate on the test split and write the outcomes, of some images the predictions too."""
    kept = dict[str, Target]()
    shown = pictured(work.split.test) if task.name != "classification" else set[str]()

    def keep(id: str, prediction: Target) -> None:
        if id in shown:
            kept[id] = stripped(prediction)

    outcomes = work.evaluate(task, network, work.split.test, keep)
    work.folder.write_outcomes(outcomes)
    if kept:
        work.folder.write_predictions(kept)
    return outcomes


def _save_model(work: Work, network: Network, run: Run) -> None:
    """Write the trained network with what is needed to use it elsewhere."""
    info = {"run": run.id, "candidate": run.candidate, "data": work.dataset.fingerprint, "facts": run.facts}
    info["judged"] = work.run.settings.get("judged", work.size)
    resize = work.run.settings["resize"]
    model = Trained(network, work.spec, work.dataset.task, work.dataset.classes, work.size, resize, info)
    trained.save(work.folder.path, model)


def make_task(work: Work) -> Task:
    """Return the task with the recipe's loss options."""
    weights = None
    if work.recipe.class_weights:
        weights = inverse_frequencies(_counts(work))
    options = LossOptions(work.recipe.loss, work.recipe.label_smoothing, weights)
    return TASKS[work.dataset.task](work.dataset.classes, options)


def inverse_frequencies(counts: NDArray[np.float64]) -> tuple[float, ...]:
    """Return class weights whose mean over all that was counted is 1; a class that does not occur has the weight 1."""
    found = counts.sum() / (len(counts) * np.maximum(counts, 1))
    return tuple(np.where(counts > 0, found, 1.0).tolist())  # label smoothing looks at absent classes too


def _counts(work: Work) -> NDArray[np.float64]:
    """Return how often each class occurs in the training part: images, objects, or pixels of label maps."""
    if work.dataset.task != "semantic":
        return np.array(list(work.dataset.counts(work.training).values()), dtype=float)
    counts = np.zeros(len(work.dataset.classes))
    for row in work.rows(work.split.train):
        target = work.targets[int(row)]
        assert isinstance(target, LabelMap)
        counts += np.bincount(target.pixels.ravel(), minlength=IGNORE + 1)[: len(counts)]
    return counts


def make_network(work: Work) -> Network:
    """Build the network; its initial weights depend on seed and candidate, so two names are two independent draws."""
    torch.manual_seed(fold(work.seed, "weights", work.run.candidate))
    return build(work.spec, len(work.dataset.classes), work.size, work.dataset.task)


def make_feed(work: Work) -> Feed:
    """Return the training images.  With derived ones, or fewer originals, an epoch stays as long as it was."""
    rows, recipe = work.rows(work.training), work.recipe
    labels = _labels(work, rows)
    strata = np.array(work.dataset.strata)[labels]
    weights = 1.0 / np.bincount(strata)[strata] if recipe.balanced else None
    return Feed(
        pixels=work.pixels,
        rows=rows,
        targets=work.targets,
        labels=labels,
        augment=Augment(recipe.augment, work.size),
        mix=Mix(len(work.dataset.classes), **{name: getattr(recipe, name) for name in MIXES}),
        batch=recipe.batch,
        seed=work.seed,
        weights=weights,
        workers=work.run.settings["loaders"],
        length=work.length if len(rows) != work.length else None,
        copies=recipe.copies,
    )


def _labels(work: Work, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the place of each row's target: label noise shuffles a share of the originals' among themselves.

    A derived image keeps the label of the (first) original that it was made of, right or wrong.
    """
    count, labels = len(work.split.train), rows.copy()
    if work.recipe.label_noise:
        draws = generator(work.seed, "label noise")
        chosen = draws.choice(count, round(work.recipe.label_noise * count), replace=False)
        labels[chosen] = labels[draws.permutation(chosen)]
        given = dict(zip(work.split.train, labels[:count], strict=True))
        made = (work.dataset.records[row].derived for row in rows[count:])
        labels[count:] = [given[derived.of[0]] for derived in made if derived is not None]
    return labels


def _open(payload: dict[str, Any]) -> Work:
    """Read a run's folder and the study's data and split."""
    study = StudyFolder(Path(payload["study"]))
    folder = study.run(payload["run"])
    run = folder.read()
    if run is None:
        raise FileNotFoundError(folder.path)
    dataset = _dataset(study.data, study.data.stat().st_mtime_ns)
    splits = _splits(study.split, study.split.stat().st_mtime_ns)
    settings, spec = run.settings, run.candidate_spec
    pixels = pixels_path(study.cache, settings["size"], settings["resize"])
    stamp = pixels.with_suffix(".json")
    cached = read_json(stamp)["fingerprint"] if stamp.exists() else None
    if (dataset.fingerprint, splits.hash, cached) != (settings["data"], settings["split"], settings["data"]):
        raise DataError(f"{study.path}: its data or split changed while runs were under way; run the study again")
    whole = next(part for part in splits.parts if (part.repeat, part.fold) == (run.repeat, run.fold))
    return Work(
        run=replace(run, error=None),  # of an attempt before this one
        folder=folder,
        dataset=dataset,
        split=shrunk(whole, dataset, splits.groups, run.share, run.seed),
        recipe=Recipe.model_validate(spec["recipe"]),
        spec=ModelSpec.model_validate(spec["model"]),
        size=settings["size"],
        pixels=pixels,
        targets=_targets(dataset, study.cache, settings["size"], settings["resize"]),
        judged=_targets(dataset, study.cache, settings.get("judged", settings["size"]), settings["resize"]),
        conditions=Conditions(
            payload.get("device", "cpu"), settings["precision"], settings["layout"] == "channels_last"
        ),
        length=len(whole.train),
        diagnose=bool(payload.get("diagnose")),
    )


@lru_cache(maxsize=1)
def _dataset(path: Path, _changed: int) -> Dataset:
    """Read data.json once per worker."""
    return Dataset.from_json(read_json(path))


def _targets(dataset: Dataset, cache: Path, size: int, policy: Resize) -> Sequence[Target]:
    """Return the targets in a frame.  Raises DataError when they were made of other data."""
    stamp = targets_path(cache, dataset.task, size, policy).with_suffix(".json")
    made = dataset.fingerprint if dataset.task == "classification" else read_json(stamp)["fingerprint"]
    if made != dataset.fingerprint:
        raise DataError(f"{stamp}: was made of other data; run the study again")
    return open_targets(dataset, cache, size, policy)


@lru_cache(maxsize=1)
def _splits(path: Path, _changed: int) -> Splits:
    """Read split.json once per worker."""
    return Splits.from_json(read_json(path))
