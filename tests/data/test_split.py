"""Splits: whole clusters, even classes, every image tested once, leaks refused, frozen by the fingerprint."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given as examples
from hypothesis import settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from bakeoff.data.allot import allot
from bakeoff.data.dataset import Dataset, Record, labelled
from bakeoff.data.split import Split, Splits, folds, given, holdout
from bakeoff.data.targets import Label
from bakeoff.errors import DataError, LeakError, UsageError


def make(counts: dict[str, int], part: str | None = None, group_of: int = 0) -> list[tuple[Record, str]]:
    """Rows of records without files; `group_of` > 0 puts so many neighbours of a class into one group."""
    return [
        (
            Record(
                f"{part or 'all'}/{name}/{i:04d}.png",
                "none.png",
                Label(0),
                group=f"{name}{part or ''}{i // group_of}" if group_of else None,
                split=part,  # type: ignore[arg-type]
            ),
            name,
        )
        for name, count in counts.items()
        for i in range(count)
    ]


def dataset(*rows: list[tuple[Record, str]], tmp_path: Path = Path("nowhere")) -> Dataset:
    return labelled(tmp_path, [row for part in rows for row in part], "folder")


def alone(data: Dataset) -> dict[str, str]:
    return {record.id: record.group or record.id for record in data.records}


# --- allot ---


@examples(st.integers(0, 10_000), st.integers(2, 200), st.integers(1, 5), st.sampled_from([0, 3, 30]))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_clusters_stay_whole_and_all_images_are_placed(seed: int, size: int, classes: int, clusters: int) -> None:
    draws = np.random.default_rng(seed)
    labels = np.unique(draws.integers(0, classes, size), return_inverse=True)[1]
    groups = np.unique(draws.integers(0, clusters, size) if clusters else np.arange(size), return_inverse=True)[1]
    place = allot(labels, groups, np.array([0.65, 0.15, 0.2]), draws, needed=[0, 2])
    assert set(place) <= {0, 1, 2}
    assert all(len(set(place[groups == g])) == 1 for g in set(groups))


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, (1, 0, 0)),  # one image trains
        (2, (1, 0, 1)),  # the second is tested
        (20, (13, 3, 4)),  # exact
        (1000, (650, 150, 200)),  # exact
    ],
)
def test_lone_images_fill_every_class_to_its_quota(count: int, expected: tuple[int, ...]) -> None:
    labels = np.repeat(np.arange(4), count)
    place = allot(labels, np.arange(len(labels)), np.array([0.65, 0.15, 0.2]), np.random.default_rng(0), [0, 2])
    for label in range(4):
        assert tuple(np.bincount(place[labels == label], minlength=3)) == expected


def test_odd_images_are_shared_out_over_the_classes() -> None:
    labels = np.repeat(np.arange(100), 7)  # 7 x .15 is 1.05: rounding must not add up
    place = allot(labels, np.arange(700), np.array([0.65, 0.15, 0.2]), np.random.default_rng(0), [0, 2])
    assert np.abs(np.bincount(place) - [455, 105, 140]).max() <= 5


def test_no_less_even_than_stratified_group_k_fold() -> None:
    ours: list[float] = []
    theirs: list[float] = []
    for seed in range(20):
        draws = np.random.default_rng(seed)
        groups = np.sort(draws.integers(0, 60, 600))
        labels = (draws.random(60)[groups] + draws.random(600) > draws.choice([0.8, 1.2])).astype(int)
        place = allot(labels, np.unique(groups, return_inverse=True)[1], np.full(5, 0.2), draws)
        peer = np.zeros(600, int)
        cut = StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(labels, labels, groups)
        for fold, (_, test) in enumerate(cut):
            peer[test] = fold
        for result, found in ((ours, place), (theirs, peer)):
            table = np.stack([np.bincount(found[labels == c], minlength=5) for c in (0, 1)])
            result.append(np.abs(table - table.mean(axis=1, keepdims=True)).max())
    assert np.mean(ours) <= np.mean(theirs)


# --- holdout and folds ---


def test_holdout_is_a_function_of_ids_and_seed() -> None:
    data = dataset(make({"a": 60, "b": 40}))
    shuffled = replace(data, records=tuple(reversed(data.records)))
    one, two = holdout(data, alone(data), seed=3), holdout(shuffled, alone(data), seed=3)
    assert one.parts == two.parts
    assert one.parts != holdout(data, alone(data), seed=4).parts
    assert [len(getattr(one.parts[0], name)) for name in ("train", "val", "test")] == [65, 15, 20]


def test_groups_are_kept_and_named() -> None:
    data = dataset(make({"a": 90, "b": 60}, group_of=5))
    splits = holdout(data, alone(data))
    part = splits.parts[0].part
    assert all(len({part[r.id] for r in data.records if r.group == g}) == 1 for g in set(splits.groups.values()))
    assert len(splits.groups) == 150
    assert set(part.values()) == {"train", "val", "test"}


def test_folds_test_every_image_once_per_repeat() -> None:
    data = dataset(make({"a": 50, "b": 30}, group_of=3))
    splits = folds(data, alone(data), folds=4, repeats=2, val=0.2)
    assert [(p.repeat, p.fold) for p in splits.parts] == [(r, f) for r in (0, 1) for f in range(4)]
    for repeat in (0, 1):
        tested = [id for p in splits.parts if p.repeat == repeat for id in p.test]
        assert sorted(tested) == [record.id for record in data.records]
    for split in splits.parts:
        assert sorted((*split.train, *split.val, *split.test)) == [record.id for record in data.records]
        assert len({alone(data)[i] for i in split.test} & {alone(data)[i] for i in (*split.train, *split.val)}) == 0
        assert split.val
    assert splits.parts[0].test != splits.parts[4].test


def test_a_huge_group_is_said_to_unbalance() -> None:
    data = dataset(make({"a": 50, "b": 50}, group_of=40))
    found = {finding.code for finding in holdout(data, alone(data)).findings}
    assert {"unbalanced-split", "validation-small"} <= found


def test_a_class_that_is_not_tested_is_an_error() -> None:
    data = dataset(make({"a": 100, "b": 100}), make({"c": 6}, group_of=6))
    missing = [f for f in holdout(data, alone(data)).findings if f.code == "class-missing"]
    assert "error" in {finding.severity for finding in missing}
    assert all(finding.sentence.count(" c;") for finding in missing)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"val": 0.5, "test": 0.5}, UsageError),  # nothing left to train on
        ({"test": 0.0}, UsageError),  # nothing to test on
        ({"val": -0.1}, UsageError),  # a negative share
    ],
)
def test_impossible_shares_are_refused(arguments: dict[str, float], error: type[Exception]) -> None:
    data = dataset(make({"a": 10, "b": 10}))
    with pytest.raises(error):
        holdout(data, alone(data), **arguments)  # type: ignore[arg-type]


def test_too_few_groups_are_refused() -> None:
    data = dataset(make({"a": 10, "b": 10}, group_of=10))
    with pytest.raises(DataError, match="2 groups of images cannot fill 5 folds"):
        folds(data, alone(data))
    with pytest.raises(DataError, match="too few to fill"):
        holdout(data, alone(data))


# --- given ---

PARTS = {"train": {"a": 300, "b": 300}, "val": {"a": 80, "b": 70}, "test": {"a": 60, "b": 60}}


@pytest.mark.parametrize(
    ("names", "val", "sizes", "code"),
    [
        (("train", "val", "test"), None, (600, 150, 120), None),  # as they are
        (("train", "test"), None, (510, 90, 120), "validation-small"),  # val carved from train
        (("train", "val"), None, (510, 90, 150), "validation-as-test"),  # val is the test
        (("train", "val", "test"), {"a": 8, "b": 8}, (524, 92, 120), "validation-merged"),  # too small a val
        (("train", "val"), {"a": 8, "b": 8}, (400, 93, 123), "validation-merged"),  # too small to be the test
    ],
)
def test_given_splits(
    names: tuple[str, ...], val: dict[str, int] | None, sizes: tuple[int, ...], code: str | None
) -> None:
    data = dataset(*(make(val if val and name == "val" else PARTS[name], name) for name in names))
    splits = given(data, alone(data))
    assert splits is not None
    found = splits.parts[0]
    assert (len(found.train), len(found.val), len(found.test)) == sizes
    assert code in [finding.code for finding in splits.findings] or (code is None and not splits.findings)
    if "test" in names:
        assert found.test == tuple(r.id for r in data.records if r.split == "test")


def test_nothing_given() -> None:
    data = dataset(make({"a": 10, "b": 10}))
    assert given(data, alone(data)) is None
    tested = dataset(make({"a": 10, "b": 10}, "test"))
    with pytest.raises(DataError, match="no training images"):
        given(tested, alone(tested))


def test_records_outside_a_given_split_are_said_to_train() -> None:
    data = dataset(make(PARTS["train"], "train"), make(PARTS["test"], "test"), make({"a": 5}))
    splits = given(data, alone(data), val=0)
    assert splits is not None
    assert len(splits.parts[0].train) == 605
    assert [len(f.records) for f in splits.findings if f.code == "split-unassigned"] == [5]


def test_a_leak_is_refused_by_name_and_can_be_accepted() -> None:
    data = dataset(*(make(PARTS[name], name) for name in PARTS))
    clusters = {
        **alone(data),
        "test/a/0001.png": "copies:x",
        "train/b/0002.png": "copies:x",
        "val/a/0003.png": "copies:x",
    }
    with pytest.raises(LeakError, match=r"2 \(.*test/a/0001.png in test and train/b/0002.png in train"):
        given(data, clusters)
    accepted = given(data, clusters, accept_leaks=True)
    assert accepted is not None
    assert [f.records for f in accepted.findings if f.code == "leak"] == [("test/a/0001.png",)]
    assert accepted.groups == dict.fromkeys(["test/a/0001.png", "train/b/0002.png", "val/a/0003.png"], "copies:x")


# --- frozen ---


def test_splits_come_back_from_json(tmp_path: Path) -> None:
    data = dataset(make({"a": 30, "b": 30}, group_of=2), tmp_path=tmp_path)
    splits = folds(data, alone(data), folds=2, repeats=1)
    stored = json.loads(json.dumps(splits.to_json()))
    assert Splits.from_json(stored, data) == splits
    assert Splits.from_json(stored).hash == splits.hash
    (tmp_path / "none.png").write_bytes(b"other pixels")
    changed = dataset(make({"a": 30, "b": 30}, group_of=2), tmp_path=tmp_path)
    with pytest.raises(DataError, match="changed since it was split"):
        Splits.from_json(stored, changed)
    stored["parts"][0]["train"].pop()
    with pytest.raises(DataError, match="changed after it was made"):
        Splits.from_json(stored)


def test_the_hash_depends_on_every_part() -> None:
    split = Split(("a",), ("b",), ("c",))
    others = [Split(("a",), ("c",), ("b",)), Split(("a", "b"), (), ("c",)), replace(split, fold=1)]
    assert len({split.hash, *(other.hash for other in others)}) == 4
