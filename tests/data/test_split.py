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
from PIL import Image
from sklearn.model_selection import StratifiedGroupKFold

from bakeoff.data.allot import allot, allot_many
from bakeoff.data.columns import image_counts
from bakeoff.data.dataset import Dataset, Record, labelled
from bakeoff.data.split import Split, Splits, folds, given, holdout
from bakeoff.data.targets import Boxes, Coding, Label, MaskFiles
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


# --- images that hold many classes ---


def scenes(count: int = 200, seed: int = 0) -> Dataset:
    """Images with a very common class and ever rarer ones, down to three images; some without any."""
    draws = np.random.default_rng(seed)
    chance = np.array([0.8, 0.4, 0.1, 0.05, 0.0])
    table = draws.random((count, len(chance))) < chance
    table[draws.choice(count, 3, replace=False), 4] = True
    records = tuple(
        Record(f"{i:04d}", "none.png", Boxes((9, 9), np.tile((0.0, 0, 9, 9), (int(row.sum()), 1)), np.flatnonzero(row)))
        for i, row in enumerate(table)
    )
    return Dataset("detection", tuple("abcde"), records, Path("nowhere"))


@pytest.mark.parametrize("seed", range(5))
def test_rare_classes_are_spread_over_the_parts(seed: int) -> None:
    data = scenes(seed=seed)
    splits = holdout(data, alone(data), seed=seed)
    (split,) = splits.parts
    whole = image_counts(data)
    for part, share in (("train", 0.65), ("val", 0.15), ("test", 0.2)):
        ids = getattr(split, part)
        assert abs(len(ids) - share * len(data)) <= 4
        for name, held in image_counts(data, ids).items():
            assert abs(held - share * whole[name]) <= max(1.5, 0.15 * whole[name])
    assert image_counts(data, split.test)["e"] == 1
    assert not [f for f in splits.findings if f.code == "unbalanced-split"]


@examples(st.integers(0, 10_000), st.integers(3, 120), st.integers(0, 6), st.sampled_from([0, 3, 30]))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_clusters_of_scenes_stay_whole_and_needed_classes_arrive(
    seed: int, size: int, classes: int, clusters: int
) -> None:
    draws = np.random.default_rng(seed)
    table = draws.random((size, classes)) < draws.random(classes) ** 2
    groups = np.unique(draws.integers(0, clusters, size) if clusters else np.arange(size), return_inverse=True)[1]
    place = allot_many(table, groups, np.array([0.65, 0.15, 0.2]), draws, needed=[0, 2])
    assert set(place) <= {0, 1, 2}
    assert all(len(set(place[groups == g])) == 1 for g in set(groups))
    assert len(set(place)) == min(3, groups.max() + 1)
    rare = [label for label in range(classes) if len(set(groups[table[:, label]])) >= 3]
    if not clusters and size >= 30:
        assert all({0, 2} <= set(place[table[:, label]]) for label in rare)


def test_scenes_are_folded_evenly_and_classes_that_never_occur_are_no_fault() -> None:
    data = replace(scenes(), classes=(*"abcdef",))
    made = folds(data, alone(data), folds=5, repeats=1)
    assert sorted(id for part in made.parts for id in part.test) == sorted(data.index)
    held = np.array([list(image_counts(data, part.test).values()) for part in made.parts])
    assert (held.max(axis=0) - held.min(axis=0) <= 2).all()
    sentences = [f.sentence for f in made.findings if f.code == "class-missing"]
    assert sentences
    assert not any(": f" in sentence or "f;" in sentence for sentence in sentences)
    assert {f.severity for f in made.findings if f.code == "class-missing"} == {"warning"}  # three images of e


def test_label_maps_are_split_by_what_they_show(tmp_path: Path) -> None:
    records = []
    for i in range(60):
        pixels = np.zeros((4, 4), np.uint8)
        pixels[0, 0] = i % 20 == 0  # three images show class b
        Image.fromarray(pixels).save(tmp_path / f"{i:02d}.png")
        coding = Coding("value", ((0, 0), (1, 1)))
        records.append(Record(f"{i:02d}", f"{i:02d}.png", MaskFiles(((f"{i:02d}.png", coding),))))
    (tmp_path / "59.png").write_text("broken")  # holds nothing, and stops nothing
    data = Dataset("semantic", ("a", "b"), tuple(records), tmp_path)
    for seed in range(5):
        (split,) = holdout(data, alone(data), seed=seed).parts
        assert [image_counts(data, getattr(split, part))["b"] > 0 for part in ("train", "test")] == [True, True]
