"""Subsets of the training images: nested, even over classes, groups whole, derived images beside their originals."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bakeoff.data.dataset import Dataset, Derived, Record
from bakeoff.data.split import Split
from bakeoff.data.subset import shrunk, subset
from bakeoff.data.targets import Boxes, Label
from bakeoff.errors import UsageError

SHARES = (0.02, 0.1, 0.25, 0.5, 0.8, 1.0)


def images(labels: list[int]) -> Dataset:
    """Return records of these classes, without files."""
    classes = tuple(f"c{number:02d}" for number in range(max(labels) + 1))
    records = tuple(Record(f"{place:04d}", "none.png", Label(label)) for place, label in enumerate(labels))
    return Dataset("classification", classes, records, Path())


def ids(dataset: Dataset) -> list[str]:
    return [record.id for record in dataset.records]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=120),
    st.lists(st.integers(0, 30), min_size=120, max_size=120),
    st.integers(0, 99),
)
def test_subsets_are_nested_hold_every_class_and_never_tear_a_group(
    labels: list[int], clusters: list[int], seed: int
) -> None:
    dataset = images(labels)
    names = ids(dataset)
    groups = {id: f"g{cluster}" for id, cluster in zip(names, clusters, strict=False) if cluster < 20}
    chosen = [set(subset(dataset, names, groups, share, seed)) for share in SHARES]
    assert all(a <= b for a, b in pairwise(chosen))
    assert chosen[-1] == set(names)
    largest = max(Counter(groups.get(id, id) for id in names).values())
    for share, found in zip(SHARES, chosen, strict=True):
        assert {dataset.records[dataset.index[id]].label for id in found} == set(labels)
        assert not {groups.get(id, id) for id in found} & {groups.get(id, id) for id in set(names) - found}
        assert share * len(names) - len(found) <= largest / 2  # never too few; too many only to hold every class


def test_each_class_keeps_its_share() -> None:
    dataset = images([0] * 200 + [1] * 80 + [2] * 20)
    for seed in range(5):
        for share in (0.1, 0.25, 0.5):
            tally = dataset.counts(subset(dataset, ids(dataset), {}, share, seed))
            assert list(tally.values()) == [200 * share, 80 * share, 20 * share]


def test_a_subset_depends_on_the_seed_and_not_on_the_order() -> None:
    dataset = images([0, 1] * 50)
    names = ids(dataset)
    turned = replace(dataset, records=tuple(reversed(dataset.records)))
    assert subset(dataset, names, {}, 0.3, 1) == subset(turned, names[::-1], {}, 0.3, 1)
    assert subset(dataset, names, {}, 0.3, 1) != subset(dataset, names, {}, 0.3, 2)
    split = Split(tuple(names[:80]), tuple(names[80:90]), tuple(names[90:]))
    less = shrunk(split, dataset, {}, 0.5, 1)
    assert (len(less.train), less.val, less.test) == (40, split.val, split.test)
    assert shrunk(replace(split, fold=1), dataset, {}, 0.5, 1).train != less.train
    assert shrunk(split, dataset, {}, 1.0, 1) is split


def test_an_object_class_that_only_stands_beside_rarer_ones_is_kept_too() -> None:
    def boxes(labels: list[int]) -> Boxes:
        return Boxes((9, 9), np.tile([1.0, 1, 5, 5], (len(labels), 1)), np.array(labels, np.int64))

    held = [[0]] * 60 + [[1, 2]] * 6 + [[2, 1, 3]] * 5 + [[]] * 3  # 1 and 2 are never the rarest of their images alone
    records = tuple(Record(f"{place:03d}", "none.png", boxes(labels)) for place, labels in enumerate(held))
    dataset = Dataset("detection", ("a", "b", "c", "d"), records, Path())
    for seed in range(10):
        found = subset(dataset, ids(dataset), {}, 0.05, seed)
        assert all(dataset.counts(found).values())
        assert len(found) <= 5


def test_derived_images_come_with_all_their_originals() -> None:
    plain = images([0] * 40)
    names = ids(plain)
    pairs = [(names[place], names[place + 1]) for place in range(0, 40, 2)]
    made = tuple(Record(f"x{a}{b}", "none.png", Label(0), derived=Derived("cutmix", (a, b))) for a, b in pairs)
    dataset = replace(plain, records=(*plain.records, *made))
    found = set(subset(dataset, ids(dataset), {}, 0.5, 3))
    originals = found & set(names)
    assert len(originals) == 20
    assert found - originals == {f"x{a}{b}" for a, b in pairs if {a, b} <= originals} != set()


@pytest.mark.parametrize("share", [0, -0.1, 1.01, float("nan")])
def test_impossible_shares_are_refused(share: float) -> None:
    with pytest.raises(UsageError, match="share"):
        subset(images([0, 1]), ["0000"], {}, share, 0)
