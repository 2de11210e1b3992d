"""The new dataset: originals, what was made of them, a table that tells them apart, and a contact sheet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from bakeoff.data import formats
from bakeoff.data.dataset import Dataset, Derived, Record
from bakeoff.data.duplicates import Progress
from bakeoff.data.expand import background
from bakeoff.data.expand.making import Classes, Made, backgrounds, cutmixes
from bakeoff.data.expand.plan import Expansion, evenly
from bakeoff.data.expand.sheet import expansion_sheet
from bakeoff.data.formats import table
from bakeoff.data.formats.listing import is_clutter
from bakeoff.data.formats.target import new_folder, places, put
from bakeoff.errors import UsageError
from bakeoff.findings import listed, plural
from bakeoff.seeds import generator

TABLE, SHEET = "dataset.csv", "expanded.png"


@dataclass(frozen=True)
class Expanded:
    """The new dataset as read back, its contact sheet, and what fell short.

    `undivided` are the originals (ids of the old dataset) that no foreground was told from; `missing` is how many
    images fewer than asked for were made because of that, or because there were too few originals.
    """

    dataset: Dataset
    sheet: Path
    undivided: tuple[str, ...]
    missing: int


def expand(dataset: Dataset, out: Path, plan: Expansion, progress: Progress | None = None) -> Expanded:
    """Write originals and derived images into the new folder `out`, complete or not at all.

    Only images that may be trained on are expanded: where the data prescribe a split, those of its training part, else
    all of them (a split then keeps derived images with their originals).  Originals keep their bytes, groups and
    splits; `progress(done, total)` follows.  Every draw is a function of plan.seed.

    Raises UsageError for data that cannot be expanded or an `out` that is not new, UnreadableImage.
    """
    _check(dataset)
    source = _capped(dataset, plan)
    classes = _expandable(source)
    made = Counter[str]()
    undivided: list[str] = []
    with new_folder(out) as root:
        target = _Target(source, root)
        for item in _made(source, classes, plan):
            if isinstance(item, Record):
                undivided.append(item.id)
                continue
            target.add(item)
            made[item.by] += 1
            if progress is not None:
                progress(made.total(), plan.background + plan.cutmix)
        if not made:
            raise UsageError(f"{dataset.source}: no foreground was told from any image; try --model, or --cutmix alone")
        written = target.dataset(_lineage(dataset, source, plan, made, len(undivided)))
        table.write_rows(written, root / TABLE, {record.id: record.image for record in written.records})
        expansion_sheet(written, plan.seed).save(root / SHEET)
    missing = plan.background + plan.cutmix - made.total()
    return Expanded(formats.read(out, table.NAME), out / SHEET, tuple(undivided), missing)


def _check(dataset: Dataset) -> None:
    """Refuse what cannot be expanded."""
    if dataset.task != "classification":
        raise UsageError(
            f"{dataset.source}: offline expansion is for classification, and these data are for {dataset.task}; read "
            "them with --task classification where the format allows it, cut boxes out with `bakeoff data convert --as "
            "classification`, or use recipe.augment, recipe.mosaic and recipe.copy_paste, which work while training"
        )
    if dataset.methods:
        raise UsageError(
            f"{dataset.source}: is expanded already ({listed(list(dataset.methods))}); expand its originals, with all "
            "methods in one command"
        )


def _may_train(dataset: Dataset) -> set[str]:
    """Return the ids of the images that the data do not hold back for validation or test."""
    return {record.id for record in dataset.records if record.split in (None, "train")}


def _capped(dataset: Dataset, plan: Expansion) -> Dataset:
    """Return the dataset with at most plan.originals images to train on, drawn evenly over the classes."""
    able = _may_train(dataset)
    if plan.originals is None or len(able) <= plan.originals:
        return dataset
    groups = _expandable(dataset)
    counts = evenly(plan.originals, [len(group) for group in groups], generator(plan.seed, "originals", "classes"))
    kept = {
        group[i].id
        for place, (group, count) in enumerate(zip(groups, counts, strict=True))
        for i in generator(plan.seed, "originals", place).permutation(len(group))[:count]
    }
    return dataset.without(able - kept)


def _expandable(dataset: Dataset) -> Classes:
    """Return the images that may be trained on, class by class."""
    able = _may_train(dataset)
    classes: list[list[Record]] = [[] for _ in dataset.classes]
    for record in dataset.records:
        if record.id in able:
            classes[record.label].append(record)
    return classes


def _made(dataset: Dataset, classes: Classes, plan: Expansion) -> Iterator[Made | Record]:
    """Yield all that is asked for."""
    if plan.background:
        yield from backgrounds(dataset, classes, plan)
    if plan.cutmix:
        yield from cutmixes(dataset, classes, plan)


class _Target:
    """The folder that is being filled."""

    def __init__(self, source: Dataset, root: Path) -> None:
        """Copy the originals, byte for byte, into a folder for each class."""
        self.source, self.root = source, root
        self.places = places(source, lambda record: f"images/{_folder(source, record.label)}", by_stem=True)
        self.taken = {path.casefold() for path in self.places.values()}
        self.records = []
        for record in source.records:
            path = self.places[record.id]
            put(source, record, root / path)
            self.records.append(replace(record, id=path, image=path, frame=None))

    def add(self, made: Made) -> None:
        """Write a derived image: in its originals' class, in the group and split that they share."""
        path = self._free(PurePosixPath(self.places[made.of[0].id]), made.by)
        (self.root / path).write_bytes(made.png)
        groups, splits = ({getattr(record, name) for record in made.of} for name in ("group", "split"))
        self.records.append(
            Record(
                id=path,
                image=path,
                target=made.of[0].target,
                group=groups.pop() if len(groups) == 1 else None,
                split=splits.pop() if len(splits) == 1 else "train",
                derived=Derived(made.by, tuple(self.places[record.id] for record in made.of)),
            )
        )

    def dataset(self, lineage: tuple[str, ...]) -> Dataset:
        """Return what was written."""
        records = tuple(sorted(self.records, key=lambda record: record.id))
        return Dataset("classification", self.source.classes, records, self.root, table.NAME, lineage)

    def _free(self, original: PurePosixPath, method: str) -> str:
        """Return a name beside the original's that says the method, with a number where it is taken."""
        path, count = f"{original.parent}/{original.stem}-{method}.png", 1
        while path.casefold() in self.taken:
            count += 1
            path = f"{original.parent}/{original.stem}-{method}-{count}.png"
        self.taken.add(path.casefold())
        return path


def _folder(dataset: Dataset, label: int) -> str:
    """Return a class's name where it can name a folder on every system, else its number."""
    name = dataset.classes[label]
    harmless = name.isprintable() and not set('/\\:*?"<>|') & set(name) and not name.endswith((".", " "))
    return name if harmless and 0 < len(name.encode()) <= 100 and not is_clutter(name) else f"class-{label:03d}"


def _lineage(dataset: Dataset, source: Dataset, plan: Expansion, made: Counter[str], undivided: int) -> tuple[str, ...]:
    """Say what was done: methods, counts, options and seed."""
    kept, able = len(_may_train(source)), len(_may_train(dataset))
    cap = "" if kept == able else f", drawn evenly over the classes from {able:,}"
    notes = [f"expanded with seed {plan.seed}: {plural(kept, 'original')} to train on{cap}"]
    if plan.background:
        tool = "GrabCut" if plan.model is None else plan.model.name
        fill = plan.fill if not Path(plan.fill).exists() else Path(plan.fill).name
        low, high = (f"{100 * share:g} %" for share in (background.LEAST, background.MOST))
        bad = f"; {plural(undivided, 'original')} left out whose foreground covers less than {low} or more than {high}"
        notes.append(f"background: {made['background']:,} images cut out by {tool}, set before {fill}{bad}")
    if plan.cutmix:
        low, high = (f"{100 * share:g} %" for share in plan.area)
        what = f"{plan.patches} patch{'' if plan.patches == 1 else 'es'} of {low} to {high} of the picture each"
        notes.append(f"cutmix: {made['cutmix']:,} images with {what} from another image of the same class")
    return (*dataset.lineage, *notes)
