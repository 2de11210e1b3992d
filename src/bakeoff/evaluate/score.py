"""A trained model on other labelled data: every metric with its interval, labels matched by name."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bakeoff.data.dataset import Dataset, TaskName
from bakeoff.data.decode import Resize, read_image, resize
from bakeoff.data.frame import framed
from bakeoff.data.targets import Target
from bakeoff.errors import DataError
from bakeoff.evaluate.classes import per_class, with_classes
from bakeoff.evaluate.outcomes import Images, Predict, rate
from bakeoff.evaluate.resampling import jackknife_blocks, pseudo_values
from bakeoff.evaluate.statistics import one_sample_t
from bakeoff.evaluate.variance import Codes, group_codes
from bakeoff.evaluate.versus import Versus
from bakeoff.findings import Finding, listed, plural
from bakeoff.models import trained
from bakeoff.models.trained import Trained
from bakeoff.tasks import TASKS
from bakeoff.tasks.classification import confusion
from bakeoff.tasks.inference import Conditions, choose_device, predict_pixels
from bakeoff.tasks.task import Metric, Outcomes, Task

SCHEMA_VERSION = 1
DECODERS = 4  # threads
FEW_IMAGES, FEW_GROUPS = 20, 10  # below, an interval is hardly more than a guess
SAME_DATA = Finding(
    "same-data",
    "warning",
    "The model comes from a study on this very data: images that it was trained on are no evidence; "
    "score its test split only, or other data.",
)


@dataclass(frozen=True)
class Interval:
    """A metric's value with its 95 % interval, in its own unit (0..1 for percent metrics); None where undefined."""

    value: float | None
    low: float | None = None
    high: float | None = None


class Described(Protocol):
    """What an evaluation must know of a trained model, or of a file that was exported from one."""

    @property
    def task(self) -> TaskName:
        """What kind of prediction it makes."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """The canonical label map."""
        ...

    @property
    def size(self) -> int:
        """The input side in pixels."""
        ...

    @property
    def resize(self) -> Resize:
        """How an image is brought to the input side."""
        ...

    @property
    def info(self) -> Mapping[str, Any]:
        """Where it comes from: `data`, the fingerprint, and `judged`, the side of the frame that it was judged in."""
        ...


@dataclass(frozen=True)
class Score:
    """What one trained model, or file of predictions, is worth on one dataset.

    The intervals cover the choice of images, not of seeds.  `data` is the dataset's fingerprint, `groups` the number of
    units that the intervals are made of, `against` the comparison with a second file.
    """

    task: str
    headline: str
    metrics: dict[str, Interval]
    images: int
    groups: int
    data: str
    outcomes: Outcomes
    findings: tuple[Finding, ...] = ()
    against: Versus | None = None

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able dictionary with the table of classes; of labels also the confusion [truth, prediction]."""
        content = {
            "schema_version": SCHEMA_VERSION,
            "task": self.task,
            "headline": self.headline,
            "images": self.images,
            "groups": self.groups,
            "data": self.data,
            "metrics": {name: asdict(interval) for name, interval in self.metrics.items()},
            "classes": per_class(self.task, self.outcomes),
            "findings": [finding.to_json() for finding in self.findings],
            **({"against": self.against.to_json()} if self.against is not None else {}),
        }
        return content | ({"confusion": confusion(self.outcomes).tolist()} if self.task == "classification" else {})


def score(
    model: Trained | Path | str,
    dataset: Dataset,
    ids: Sequence[str] | None = None,
    groups: Mapping[str, str] | None = None,
    device: str = "auto",
) -> Score:
    """Evaluate a trained model on the records `ids` of a dataset (all of them when None).

    It is judged in the frame that its study was judged in, whatever its own input side.  Classes are matched by name: a
    dataset may lack some of the model's, but not have others.  `groups` maps record ids
    to groups (None: the groups of the records); an image without one is its own.  Raises DataError for classes that
    the model does not know or another task, UsageError when there is nothing to evaluate, UnreadableImage.
    """
    chosen = choose_device(device)
    ready = model if isinstance(model, Trained) else trained.load(Path(model))
    network, task = ready.network.to(chosen), TASKS[ready.task](ready.classes)
    predict = partial(predict_pixels, task, network, conditions=Conditions(chosen))
    return score_with(predict, ready, dataset, ids, groups)


def score_with(
    predict: Predict,
    model: Described,
    dataset: Dataset,
    ids: Sequence[str] | None = None,
    groups: Mapping[str, str] | None = None,
) -> Score:
    """Evaluate whatever predicts as `model` describes it, a network or an exported file, as score() does."""
    if dataset.task != model.task:
        raise DataError(
            f"{dataset.source}: its task is {dataset.task}, that of the model {model.task}; "
            f"read it with the task {model.task}, if its format can be read so"
        )
    names = [record.id for record in dataset.originals.records] if ids is None else list(ids)
    wanted = set(names)
    part = replace(dataset, records=tuple(record for record in dataset.records if record.id in wanted))
    matched = with_classes(part, model.classes)
    task: Task = TASKS[model.task](model.classes)
    outcomes = rate(task, predict, framed_images(model, matched), names)
    known = {r.id: r.group for r in dataset.records if r.group is not None} if groups is None else groups
    same = ids is None and model.info.get("data") == dataset.fingerprint  # who names images knows which they are
    return summarised(task, outcomes, units_of(names, known), dataset.fingerprint, (SAME_DATA,) if same else ())


def framed_images(model: Described, dataset: Dataset) -> Images:
    """Return a dataset's images as a model sees them, and their targets in the frame that its study judged it in."""
    judged = int(model.info.get("judged", model.size))
    return Images(dataset, Decoded(dataset, model.size, model.resize), Framed(dataset, judged, model.resize))


def units_of(ids: Sequence[str], groups: Mapping[str, str]) -> Codes:
    """Return the unit (0..G-1) of every image: its group, or itself."""
    return group_codes([f"g{groups[id]}" if id in groups else f"i{id}" for id in ids], len(ids))


def summarised(
    task: Task,
    outcomes: Outcomes,
    units: Codes,
    data: str,
    findings: Sequence[Finding] = (),
    without: Collection[str] = (),
) -> Score:
    """Return the score of outcomes, less the metrics `without`, which do not apply and get no value."""
    groups = int(units.max()) + 1
    table = {name: metric for name, metric in task.table.items() if name not in without}
    found = intervals(table, outcomes, units)
    return Score(
        task=task.name,
        headline=task.headline,
        metrics={name: found.get(name, Interval(None)) for name in task.table},
        images=len(outcomes),
        groups=groups,
        data=data,
        outcomes=outcomes,
        findings=(*findings, *_findings(task.name, outcomes, groups)),
    )


def intervals(table: Mapping[str, Metric], outcomes: Outcomes, groups: Codes) -> dict[str, Interval]:
    """Return each metric of one run with its 95 % interval over images, or over `groups` (n,), as in docs/protocol.md.

    Means over images use their values, the others jackknife pseudo-values.  A percent metric that is perfect on every
    image gets the exact binomial bound.  No interval (None) with fewer than 2 groups or where a metric is undefined.
    """
    values = {name: float(metric.function(outcomes)) for name, metric in table.items()}
    found = {name: Interval(value if np.isfinite(value) else None) for name, value in values.items()}
    if groups.max() == 0:
        return found
    for name, (images, units) in _per_image(table, outcomes, groups).items():
        if np.isfinite(images).all():
            result = one_sample_t(images, units, bounds=table[name].bounds)
            found[name] = Interval(values[name], result.low, result.high)
    return found


def _per_image(
    table: Mapping[str, Metric], outcomes: Outcomes, groups: Codes
) -> dict[str, tuple[NDArray[np.float64], Codes]]:
    """Return for each metric n values that average to it, and the groups that they are independent by."""
    single = int(groups.max()) + 1 == len(outcomes)
    blocks = jackknife_blocks(len(outcomes), None if single else groups)
    whole = {name: metric.function for name, metric in table.items() if metric.per_image is None}

    def kept(places: NDArray[np.intp]) -> NDArray[np.float64]:
        sample = outcomes.take(places)
        return np.array([function(sample) for function in whole.values()])

    means = {name: (metric.per_image(outcomes), groups) for name, metric in table.items() if metric.per_image}
    return means | {name: (row, blocks) for name, row in zip(whole, pseudo_values(kept, blocks), strict=True)}


def _findings(task: str, outcomes: Outcomes, groups: int) -> list[Finding]:
    """Return what a reader of the numbers must know."""
    found = []
    if len(outcomes) < FEW_IMAGES or groups < FEW_GROUPS:
        sentence = (
            f"{plural(len(outcomes), 'image')} in {plural(groups, 'group')} are too few for a trustworthy interval."
        )
        found.append(Finding("few-images", "warning", sentence))
    absent = [str(row["class"]) for row in per_class(task, outcomes) if not row["images"]]
    if absent:
        sentence = f"{len(absent)} of the classes have no image here ({listed(absent)}): "
        predicted = " unless they are predicted, which counts as 0" if task == "semantic" else ""
        found.append(Finding("class-absent", "info", f"{sentence}means over classes leave them out{predicted}."))
    return found


class Decoded:
    """The images of a dataset, decoded when they are asked for: what evaluate() takes in place of a cache."""

    def __init__(self, dataset: Dataset, size: int, policy: Resize) -> None:
        """Remember where the images are and what they become."""
        self.dataset, self.size, self.policy = dataset, size, policy

    def __getitem__(self, places: NDArray[np.intp]) -> NDArray[np.uint8]:
        """Return the images (B, size, size, 3) of the records at these places.  Raises UnreadableImage."""
        with ThreadPoolExecutor(DECODERS) as pool:
            return np.stack(list(pool.map(self._read, places)))

    def _read(self, place: int) -> NDArray[np.uint8]:
        """Decode and resize one image."""
        return resize(read_image(self.dataset, self.dataset.records[place]), self.size, self.policy)


class Framed(Sequence[Target]):
    """The targets of a dataset, brought to the frame of a network when they are asked for."""

    def __init__(self, dataset: Dataset, size: int, policy: Resize) -> None:
        """Remember whose they are, and the frame."""
        self.dataset, self.size, self.policy = dataset, size, policy

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.dataset)

    def __getitem__(self, place: Any) -> Any:
        """Return the target of one record, or those of a slice.  Raises UnreadableImage and DataError."""
        if isinstance(place, slice):
            return [self[index] for index in range(*place.indices(len(self)))]
        return framed(self.dataset, self.dataset.records[place], self.size, self.policy)
