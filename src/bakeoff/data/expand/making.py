"""Which derived images are made of which originals, and their pixels; drawn evenly over the classes."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bakeoff.data.dataset import Dataset, Record
from bakeoff.data.decode import read_image
from bakeoff.data.expand import background, cutmix
from bakeoff.data.expand.background import Background
from bakeoff.data.expand.cutmix import one_class_cutmix
from bakeoff.data.expand.plan import Expansion, evenly
from bakeoff.errors import UsageError
from bakeoff.seeds import generator

WORKERS, CHUNK = 2, 64

Item = TypeVar("Item")
Classes = Sequence[Sequence[Record]]  # the originals to expand, class by class


@dataclass(frozen=True)
class Made:
    """One derived image: its method, its originals (the first is the one that was changed), and itself as PNG."""

    by: str
    of: tuple[Record, ...]
    png: bytes


def backgrounds(dataset: Dataset, classes: Classes, plan: Expansion) -> Iterator[Made | Record]:
    """Yield `plan.background` images, and the originals that no foreground was told from, whose place others take.

    Each original is used once for each background that there is.  Fewer are made where the originals do not suffice.
    Raises UsageError for a fill or a model that cannot be had, UnreadableImage.
    """
    maker = Background.of(dataset, plan)
    orders = [generator(plan.seed, background.METHOD, place).permutation(len(c)) for place, c in enumerate(classes)]
    queues = [
        deque((records[i], number) for number in range(maker.rounds) for i in order.tolist())
        for records, order in zip(classes, orders, strict=True)
    ]
    made = [0] * len(classes)
    while batch := _due(plan, made, queues):
        failed = set()
        for (place, record, _), png in _mapped(lambda item: _png(maker.make(item[1], item[2])), batch):
            if png is not None:
                made[place] += 1
                yield Made(background.METHOD, (record,), png)
            elif record.id not in failed:
                failed.add(record.id)
                yield record
        queues = [deque(item for item in queue if item[0].id not in failed) for queue in queues]


def _due(
    plan: Expansion, made: Sequence[int], queues: Sequence[deque[tuple[Record, int]]]
) -> list[tuple[int, Record, int]]:
    """Take what is to be made next from the queues, as (class, record, number of its background)."""
    room = [done + len(queue) for done, queue in zip(made, queues, strict=True)]
    goals = evenly(plan.background, room, generator(plan.seed, background.METHOD, "classes"))
    due = [(place, *queues[place].popleft()) for place, goal in enumerate(goals) for _ in range(goal - made[place])]
    return due[: plan.background - sum(made)]


def cutmixes(dataset: Dataset, classes: Classes, plan: Expansion) -> Iterator[Made]:
    """Yield `plan.cutmix` images, evenly over the classes with two originals and more.

    Every original of a class is changed once before one is changed again.  Raises UsageError when no class has two
    originals, and UnreadableImage.
    """
    room = [plan.cutmix if len(records) > 1 else 0 for records in classes]
    if not any(room):
        raise UsageError(f"{dataset.source}: one-class CutMix needs two images of a class, and no class has them")
    counts = evenly(plan.cutmix, room, generator(plan.seed, cutmix.METHOD, "classes"))
    items = [(place, number) for place, count in enumerate(counts) for number in range(count)]
    yield from (made for _, made in _mapped(partial(_cutmix, dataset, classes, plan), items))


def _cutmix(dataset: Dataset, classes: Classes, plan: Expansion, item: tuple[int, int]) -> Made:
    """Make the image of this number of a class."""
    place, number = item
    records = classes[place]
    order = generator(plan.seed, cutmix.METHOD, place, "order", number // len(records)).permutation(len(records))
    draws = generator(plan.seed, cutmix.METHOD, place, number)
    first = int(order[number % len(records)])
    second = (first + 1 + int(draws.integers(len(records) - 1))) % len(records)
    pair = (records[first], records[second])
    image, other = (read_image(dataset, record) for record in pair)
    png = _png(one_class_cutmix(image, other, plan.patches, plan.area, draws))
    assert png is not None, "there is an image"
    return Made(cutmix.METHOD, pair, png)


def _png(pixels: NDArray[np.uint8] | None) -> bytes | None:
    """Pack an image."""
    if pixels is None:
        return None
    packed = io.BytesIO()
    Image.fromarray(pixels).save(packed, "PNG", compress_level=3)
    return packed.getvalue()


Result = TypeVar("Result")


def _mapped(make: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[tuple[Item, Result]]:
    """Yield every item with its result, in order; made by a few threads, a chunk at a time."""
    waiting = iter(items)
    with ThreadPoolExecutor(WORKERS) as pool:
        while chunk := list(islice(waiting, CHUNK)):
            yield from zip(chunk, pool.map(make, chunk), strict=True)
