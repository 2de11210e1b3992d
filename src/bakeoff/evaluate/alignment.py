"""Brings the outcomes of all runs onto the same images in the same order, or says whose images differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from bakeoff.errors import Refused
from bakeoff.findings import listed, printable

if TYPE_CHECKING:  # importing tasks costs the import of torch, which nothing here needs
    from bakeoff.tasks.task import Outcomes

Cells = Mapping[tuple[int, int], "Outcomes"]  # (row, fold) -> outcomes of a finished run


@dataclass(frozen=True)
class Aligned:
    """One candidate's finished rows (seeds, or repeats with all their folds) and their outcomes, in order of ids."""

    rows: tuple[int, ...]
    outcomes: tuple[Outcomes, ...]


def align(candidates: Mapping[str, Cells], folds: int) -> dict[str, Aligned]:
    """Return every candidate's rows on one image list, sorted by id (the dataset's order).

    Under cross-validation a row joins the folds of one repeat; a repeat that lacks a fold is left out.  Raises Refused,
    naming candidate and images, when the images, their labels or the classes of two rows differ.
    """
    aligned = {name: _joined(name, cells, folds) for name, cells in candidates.items()}
    every = [
        (name, row, o) for name, found in aligned.items() for row, o in zip(found.rows, found.outcomes, strict=True)
    ]
    for name, row, outcomes in every[1:]:
        _refuse_other_images(every[0][0], every[0][2], f"{printable(name)}, row {row}", outcomes)
    return aligned


def _joined(name: str, cells: Cells, folds: int) -> Aligned:
    """Join the folds of each row and sort by id."""
    rows = [row for row in sorted({row for row, _ in cells}) if all((row, fold) in cells for fold in range(folds))]
    joined = [_concatenated([cells[row, fold] for fold in range(folds)]) for row in rows]
    for row, outcomes in zip(rows, joined, strict=True):
        twice = [a for a, b in zip(outcomes.ids, outcomes.ids[1:], strict=False) if a == b]
        if twice:
            raise Refused(
                f"{printable(name)}, row {row}: {len(twice)} images were tested more than once ({listed(twice)}); "
                "run the study again in a new folder"
            )
    return Aligned(tuple(rows), tuple(joined))


def _concatenated(parts: Sequence[Outcomes]) -> Outcomes:
    """Put the outcomes of several folds together, in the order of their ids."""
    ids = [id for part in parts for id in part.ids]
    columns = {key: np.concatenate([part.columns[key] for part in parts]) for key in parts[0].columns}
    whole = replace(parts[0], ids=tuple(ids), columns=columns)
    order = sorted(range(len(ids)), key=ids.__getitem__)
    return whole if order == list(range(len(ids))) else whole.take(order)


def _refuse_other_images(first: str, reference: Outcomes, who: str, outcomes: Outcomes) -> None:
    """Compare images, classes and labels of two rows."""
    if outcomes.ids != reference.ids:
        ours, theirs = set(outcomes.ids), set(reference.ids)
        odd = sorted(ours ^ theirs)
        raise Refused(
            f"different test images: {who} was tested on {len(ours)} images, {printable(first)} on {len(theirs)}; "
            f"{len(odd)} are not in both ({listed(odd)}); run the study again so that all use one split"
        )
    if outcomes.classes != reference.classes:
        raise Refused(
            f"different classes: {who} has {listed(outcomes.classes)}, {printable(first)} {listed(reference.classes)}"
        )
    if "truth" in reference.columns and "truth" in outcomes.columns:
        differ = np.flatnonzero(outcomes.columns["truth"] != reference.columns["truth"])
        if differ.size:
            names = listed([outcomes.ids[place] for place in differ])
            both = f"{who} and {printable(first)}"
            raise Refused(f"different labels: {both} disagree on the truth of {differ.size} images ({names})")
