"""The gate: an exported file is run on the user's own images, and must say what the trained network says."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bakeoff.data.cache import Counter
from bakeoff.data.targets import Target
from bakeoff.errors import Refused
from bakeoff.evaluate.outcomes import Images, stack
from bakeoff.evaluate.pairs import Estimate
from bakeoff.evaluate.score import Interval, intervals
from bakeoff.evaluate.variance import Codes
from bakeoff.evaluate.versus import versus
from bakeoff.export.difference import EXACT, ROUGH, TOLERANCE, Far, Matching, gap
from bakeoff.findings import printable
from bakeoff.models.trained import Trained
from bakeoff.tasks import TASKS
from bakeoff.tasks.inference import predict_pixels
from bakeoff.tasks.task import Metric, Outcomes, Row, Task

SAME_DECISIONS = 0.999  # the share that must be the same; with equal numbers only ties can go the other way
SMALL_DECISIONS = 0.9  # the same of an 8-bit file: below, its metric is as good by luck alone
MOVED = 0.1  # points that the metric of an export in full precision may move, by such ties
TIMED, TIMED_SECONDS = 40, 10.0  # single images timed alternately, until one of the two is used up
WARM_UP = 3  # images that are not counted
Runner = Callable[[NDArray[np.uint8]], Sequence[Target]]


@dataclass(frozen=True)
class Exam:
    """What a file is tested on: `ids` of `images`, `units` (n,) the groups that the images belong to.

    `source` says in words what they are.
    """

    images: Images
    ids: tuple[str, ...]
    units: Codes
    source: str


@dataclass(frozen=True)
class Difference:
    """How far an output of the file lies from the network's at most: in the image `id`, and what each says there."""

    output: str
    largest: float
    id: str
    network: float
    file: float
    tolerance: float | None  # None: of a file of 8-bit integers its metric decides


@dataclass(frozen=True)
class Parity:
    """What the gate measured on `images` images.

    `same` of `decisions` labels, pixels or objects (with a score from .5 on) were the same; `other` tells the first
    that was not.  `before` and `after` are every metric of network and file with its 95 % interval, `change` the paired
    difference of the headline, after less before (None where it is undefined).  Latencies are medians in milliseconds
    for one image, measured alternately with `threads` threads.
    """

    task: str
    headline: str
    images: int
    source: str
    differences: tuple[Difference, ...]
    same: int
    decisions: int
    other: str
    before: dict[str, Interval]
    after: dict[str, Interval]
    change: Estimate
    latency: tuple[float, float]
    threads: int

    @property
    def share(self) -> float:
        """The share of decisions that are the same; 1 where nothing was decided."""
        return self.same / self.decisions if self.decisions else 1.0

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able dictionary; differences that are not finite are words."""
        content = asdict(self) | {"share": self.share}
        for one in content["differences"]:
            one |= {name: _finite(one[name]) for name in ("largest", "network", "file")}
        return content


@dataclass
class _Tally:
    """What was seen so far."""

    before: list[Row] = field(default_factory=list)
    after: list[Row] = field(default_factory=list)
    far: dict[str, tuple[str, Far]] = field(default_factory=dict)
    same: int = 0
    decisions: int = 0
    other: str = ""

    def add(self, id: str, network: Target, file: Target, classes: tuple[str, ...], matching: Matching) -> None:
        """Compare the two predictions of an image."""
        found = gap(network, file, classes, matching)
        for name, far in found.far.items():
            if name not in self.far or far.size > self.far[name][1].size:
                self.far[name] = (id, far)
        self.same, self.decisions = self.same + found.same, self.decisions + found.total
        if found.other and not self.other:
            self.other = f"{printable(id)}: {found.other}"


def measure(model: Trained, file: Runner, exam: Exam, exact: bool = True, progress: Counter | None = None) -> Parity:
    """Run network and file on the images of an exam, and time them one image at a time, alternately.

    `exact` files should give the network's numbers.  Raises Refused when the file's numbers are not finite.
    """
    task: Task = TASKS[model.task](model.classes)
    tally, dataset = _Tally(), exam.images.dataset
    places = np.array([dataset.index[id] for id in exam.ids], np.intp)
    for start in range(0, len(places), task.batch):
        chunk = places[start : start + task.batch]
        pixels = exam.images.pixels[chunk]
        pairs = zip(chunk, predict_pixels(task, model.network, pixels), file(pixels), strict=True)
        for place, network, exported in pairs:
            record = dataset.records[place]
            target = record.target if exam.images.targets is None else exam.images.targets[int(place)]
            tally.add(record.id, network, exported, model.classes, EXACT if exact else ROUGH)
            tally.before.append(task.outcome(network, target))
            tally.after.append(task.outcome(exported, target))
        if progress is not None:
            progress(min(start + task.batch, len(places)), len(places))
    return _parity(task, tally, exam, exact, _latencies(task, model, file, exam))


def _parity(task: Task, tally: _Tally, exam: Exam, exact: bool, latency: tuple[float, float]) -> Parity:
    """Make metrics and intervals of what was seen."""
    differences = tuple(
        Difference(name, far.size, id, far.network, far.file, TOLERANCE[name] if exact else None)
        for name, (id, far) in tally.far.items()
    )
    broken = [one for one in differences if not np.isfinite(one.largest)]
    if broken:
        raise Refused(f"the file's {broken[0].output} are not finite for {printable(broken[0].id)}; nothing is written")
    before, after = (stack(rows, exam.ids, exam.images.dataset.classes) for rows in (tally.before, tally.after))
    headline = task.table[task.headline]
    return Parity(
        task=task.name,
        headline=task.headline,
        images=len(exam.ids),
        source=exam.source,
        differences=differences,
        same=tally.same,
        decisions=tally.decisions,
        other=tally.other,
        before=intervals(task.table, before, exam.units),
        after=intervals(task.table, after, exam.units),
        change=_change(after, before, exam.units, headline),
        latency=latency,
        threads=torch.get_num_threads(),
    )


def _change(after: Outcomes, before: Outcomes, units: Codes, metric: Metric) -> Estimate:
    """Return after - before with its interval, images paired; without interval where nothing can be inferred."""
    values = metric.function(after), metric.function(before)
    if not np.isfinite(values).all():
        return Estimate(None)
    plain = Estimate(float(values[0] - values[1]))
    if units.max() == 0:
        return plain
    found = versus(("file", "network"), (after, before), units, {"metric": metric}, "metric").differences["metric"]
    return plain if found.value is None else Estimate(plain.value, found.low, found.high)


def _latencies(task: Task, model: Trained, file: Runner, exam: Exam) -> tuple[float, float]:
    """Return the median milliseconds for one image of network and file, in turn on the same images."""
    times: Mapping[str, list[float]] = {"network": [], "file": []}
    runs: Mapping[str, Runner] = {"network": lambda pixels: predict_pixels(task, model.network, pixels), "file": file}
    first = [exam.images.dataset.index[id] for id in exam.ids[:TIMED]]
    pixels = exam.images.pixels[np.array(first, np.intp)]
    began = time.perf_counter()
    for number in range(WARM_UP + TIMED):
        image = pixels[number % len(pixels)][None]
        if number > WARM_UP and time.perf_counter() - began > TIMED_SECONDS:
            break
        for name, run in runs.items():
            start = time.perf_counter()
            run(image)
            if number >= WARM_UP:
                times[name].append(time.perf_counter() - start)
    return 1000 * statistics.median(times["network"]), 1000 * statistics.median(times["file"])


def check(parity: Parity, name: str) -> None:
    """Raise Refused, telling where they differ, when an exact file does not say what its network says."""
    far = [one for one in parity.differences if one.tolerance is not None and one.largest > one.tolerance]
    if far:
        worst = max(far, key=lambda one: one.largest / (one.tolerance or 1))
        raise Refused(
            f"{name} does not agree with the trained network: its {worst.output} differ by {worst.largest:.3g} in "
            f"{printable(worst.id)} (network {worst.network:.6g}, file {worst.file:.6g}; allowed {worst.tolerance:g}), "
            f"and {parity.same:,} of {parity.decisions:,} decisions are the same. Nothing was written"
        )
    if parity.share < SAME_DECISIONS:
        raise Refused(
            f"{name} does not decide as the trained network does: {parity.same:,} of {parity.decisions:,} decisions "
            f"are the same ({parity.other}). Nothing was written"
        )
    check_metric(parity, name, MOVED, both=True)


def check_small(parity: Parity, name: str, allow: float) -> None:
    """Raise Refused when an 8-bit file lost more than `allow` points of the metric, or became another model."""
    check_metric(parity, name, allow)
    if parity.share < SMALL_DECISIONS:
        raise Refused(
            f"{name} has become another model: {parity.same:,} of {parity.decisions:,} decisions are the network's "
            f"({100 * SMALL_DECISIONS:g} % are asked for), whatever its {parity.headline} is. This network does not "
            "bear 8-bit weights; export it in full precision. Nothing was written"
        )


def check_metric(parity: Parity, name: str, allow: float, both: bool = False) -> None:
    """Raise Refused when the headline metric fell by more than `allow` points (or, with `both`, moved by more)."""
    moved = parity.change.value
    if moved is None:
        return
    points = 100 * moved
    if -points > allow or (both and points > allow):
        before, after = parity.before[parity.headline].value, parity.after[parity.headline].value
        span = "" if parity.change.low is None else f" [{100 * parity.change.low:.2f}, {_hundred(parity.change.high)}]"
        raise Refused(
            f"{name} changes {parity.headline} on {parity.source} from {_hundred(before)} to {_hundred(after)}: "
            f"{points:+.2f} points{span}, allowed {allow:g}. Nothing was written"
        )


def _hundred(value: float | None) -> str:
    """Write a share in points."""
    return "undefined" if value is None else f"{100 * value:.2f}"


def _finite(value: float) -> float | str:
    """Return a number as JSON has it."""
    return value if np.isfinite(value) else str(value)
