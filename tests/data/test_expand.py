"""Offline expansion: what is made of what, drawn by the seed; what a split does with it; what is refused."""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))

from annotated import made as annotated
from photos import COLOURS, photos, thing

from bakeoff.data import formats
from bakeoff.data.audit import audit
from bakeoff.data.dataset import Dataset, Derived, Record, labelled
from bakeoff.data.decode import read_image
from bakeoff.data.duplicates import Duplicates, clusters, duplicates, signatures
from bakeoff.data.expand import Expansion, expand, making
from bakeoff.data.expand.cutmix import one_class_cutmix
from bakeoff.data.expand.fill import Fill
from bakeoff.data.expand.grabcut import matte
from bakeoff.data.expand.plan import evenly
from bakeoff.data.split import Splits, folds, holdout
from bakeoff.data.split import given as given_split
from bakeoff.data.targets import Label
from bakeoff.errors import BakeoffError, DataError, UnreadableImage, UsageError

BOTH = Expansion(background=10, cutmix=12)


def contents(folder: Path) -> dict[str, str]:
    """Return what every file below a folder holds."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {file.relative_to(folder).as_posix(): hashlib.md5(file.read_bytes()).hexdigest() for file in files}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photos(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def expanded(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return expand(formats.read(source), tmp_path_factory.mktemp("new") / "out", BOTH).dataset


# --- the new dataset ---


def test_originals_stay_and_what_was_made_says_of_what(source: Path, expanded: Dataset) -> None:
    assert len(expanded.originals) == 16
    assert expanded.methods == {"background": 10, "cutmix": 12}
    before, after = contents(source), contents(expanded.source)
    assert sorted(before.values()) == sorted(v for k, v in after.items() if k in expanded.originals.index)
    for record in expanded.records:
        of = record.derived.of if record.derived else ()
        originals = [expanded.records[expanded.index[id]] for id in of]
        assert {original.label for original in originals} <= {record.label}
        assert len({*of}) == {None: 0, "background": 1, "cutmix": 2}[record.derived.by if record.derived else None]
        if originals:  # changed, not copied
            image, first = read_image(expanded, record), read_image(expanded, originals[0])
            assert image.shape == first.shape
            assert (image != first).any()
    for method in expanded.methods:  # evenly over the classes
        labels = Counter(r.label for r in expanded.records if r.derived and r.derived.by == method)
        assert max(labels.values()) - min(labels.values()) <= 1
    assert expanded.lineage == (
        "expanded with seed 0: 16 originals to train on",
        "background: 10 images cut out by GrabCut, set before white; 0 originals left out whose foreground covers "
        "less than 2 % or more than 98 %",
        "cutmix: 12 images with 1 patch of 10 % to 40 % of the picture each from another image of the same class",
    )
    with Image.open(expanded.source / "expanded.png") as sheet:
        assert sheet.width > 1000


def test_every_draw_is_the_seeds(
    source: Path, expanded: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "WORKERS", 1)
    monkeypatch.setattr(making, "CHUNK", 3)
    again = expand(formats.read(source), tmp_path / "again", BOTH).dataset
    other = expand(formats.read(source), tmp_path / "other", replace(BOTH, seed=1)).dataset
    assert contents(again.source) == contents(expanded.source)
    assert again.fingerprint == expanded.fingerprint != other.fingerprint
    assert {r.derived.of for r in other.records if r.derived} != {r.derived.of for r in again.records if r.derived}


def test_only_training_images_of_a_given_split_are_expanded(tmp_path: Path) -> None:
    photos(tmp_path / "data", 6, "train")
    photos(tmp_path / "data", 4, "test", first=20)
    data = formats.read(tmp_path / "data", group_from=r"(?P<group>\d\d)\.")
    new = expand(data, tmp_path / "out", Expansion(originals=7, background=4, cutmix=9)).dataset
    parts = {record.id: record.split for record in new.records}
    assert Counter(record.split for record in new.originals.records) == {"train": 7, "test": 8}
    for record in new.records:
        if record.derived:
            groups = {new.records[new.index[id]].group for id in record.derived.of}
            assert {parts[id] for id in record.derived.of} == {record.split} == {"train"}
            assert record.group == (groups.pop() if len(groups) == 1 else None)
    splits = given_split(new, clusters(new, duplicates(signatures(new))))
    assert splits is not None
    held = {*splits.parts[0].test, *splits.parts[0].val, *splits.parts[0].train}
    assert held == set(new.originals.index)
    assert [f for f in splits.findings if f.code in ("leak", "split-unassigned")] == []


def test_an_expansion_that_is_cut_leaves_nothing(source: Path, tmp_path: Path) -> None:
    def cut(done: int, total: int) -> None:
        assert total == 22
        if done == 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        expand(formats.read(source), tmp_path / "out", BOTH, cut)
    assert list(tmp_path.iterdir()) == []


def test_pictures_without_a_foreground_are_left_out(tmp_path: Path) -> None:
    photos(tmp_path / "data", 5)
    for name in COLOURS:
        for i in range(70, 73):
            Image.new("RGB", (40, 40), (90, 90, 90)).save(tmp_path / "data" / name / f"{i}.png")
    data = formats.read(tmp_path / "data")
    found = expand(data, tmp_path / "out", Expansion(background=9))
    assert (found.dataset.methods, found.missing) == ({"background": 9}, 0)
    assert set(found.undivided) <= {f"{name}/{i}.png" for name in COLOURS for i in range(70, 73)}
    few = expand(data, tmp_path / "few", Expansion(background=16))
    assert (few.dataset.methods, few.missing, len(few.undivided)) == ({"background": 10}, 6, 6)
    assert "6 originals left out" in few.dataset.lineage[-1]


# --- what becomes of it ---


def test_the_audit_counts_derived_images_apart_and_calls_them_no_copies(expanded: Dataset) -> None:
    found = audit(expanded)
    assert [f.sentence for f in found.findings if f.code == "expanded"] == [
        "22 derived images (background 10, cutmix 12) beside 16 originals: they are trained on beside their originals, "
        "and never validated or tested on"
    ]
    assert set(found.signatures.ids) == set(expanded.originals.index)
    assert not {id for f in found.findings for id in f.records} - set(expanded.originals.index)


def test_copies_among_originals_are_joined_wherever_derived_images_stand() -> None:
    def record(id: str, derived: Derived | None = None) -> Record:
        return Record(id, id, Label(0), derived=derived)

    made = [record("a", Derived("cutmix", ("c", "e"))), record("d", Derived("cutmix", ("c", "e")))]
    data = Dataset("classification", ("x",), tuple(sorted([*made, *map(record, "bce")], key=lambda r: r.id)), Path())
    assert clusters(data, Duplicates((("c", "e"),), ())) == {"b": "b", "c": "copies:c", "e": "copies:c"}


def test_a_derived_image_that_cannot_be_read_is_named(expanded: Dataset) -> None:
    made = next(record for record in expanded.records if record.derived)
    lost = replace(expanded, records=tuple(replace(r, image="gone.png") if r is made else r for r in expanded.records))
    assert set(signatures(lost).unreadable) == {made.id}


def test_a_table_keeps_derived_images_and_no_other_format_takes_them(expanded: Dataset, tmp_path: Path) -> None:
    formats.write(expanded, tmp_path / "again", "table")
    again = formats.read(tmp_path / "again")
    assert (again.methods, again.lineage) == (expanded.methods, expanded.lineage)
    formats.write(again, tmp_path / "twice", "table")
    twice = formats.read(tmp_path / "twice")
    assert (twice, twice.fingerprint) == (again, again.fingerprint)
    assert Dataset.from_json(again.to_json()) == again
    with pytest.raises(UsageError, match="as folder they would be taken for originals; write a table"):
        formats.write(expanded, tmp_path / "folders", "folder")


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ("m.png,plum,cutmix,", r"row 3 \(m.png\): a derived image needs derived_from too"),  # half of it
        ("m.png,plum,,a.png", "needs derived_by too"),  # the other half
        ("m.png,plum,cutmix,c.png", r"m.png is derived from c.png, which is not there"),  # an unknown original
        ("m.png,lime,cutmix,a.png", "is of the class 'plum', not 'lime'"),  # another class
        ("m.png,plum,cutmix,m.png", "which is derived itself"),  # of itself
    ],
)
def test_table_faults(tmp_path: Path, cells: str, message: str) -> None:
    for name in ("a.png", "b.png", "m.png"):
        Image.fromarray(thing(1, "plum")[0]).save(tmp_path / name)
    lines = ("path,label,derived_by,derived_from", "a.png,plum,,", "b.png,lime,,", cells)
    (tmp_path / "t.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match=message):
        formats.read(tmp_path)


def test_names_with_separators_survive(tmp_path: Path) -> None:
    for name in ('a|"1".png', "a 2.png", "b.png", "m.png"):
        Image.fromarray(thing(len(name), "plum")[0]).save(tmp_path / name)
    of = ('a|"1".png', "a 2.png")
    rows = [(Record(n, n, Label(0)), "plum") for n in of] + [(Record("b.png", "b.png", Label(0)), "lime")]
    rows.append((Record("m.png", "m.png", Label(0), derived=Derived("cutmix", of)), "plum"))
    formats.write(labelled(tmp_path, rows, "table"), tmp_path / "out", "table")
    again = formats.read(tmp_path / "out")
    assert [r.derived.of for r in again.records if r.derived] == [tuple(f"images/{name}" for name in of)]


@given(some.integers(0, 10_000), some.integers(20, 60), some.integers(1, 40), some.booleans(), some.booleans())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_nothing_of_a_held_out_image_is_ever_trained_on(
    seed: int, size: int, made: int, crossed: bool, grouped: bool
) -> None:
    draws = np.random.default_rng(seed)
    names = [f"{i:03d}.png" for i in range(size)]
    groups = [f"g{draws.integers(12)}" if grouped else None for _ in names]
    rows = [
        (Record(n, "none.png", Label(0), g), "ab"[i % 2]) for i, (n, g) in enumerate(zip(names, groups, strict=True))
    ]
    for i in range(made):
        of = tuple(names[j] for j in draws.choice(np.arange(i % 2, size, 2), int(draws.integers(1, 3)), replace=False))
        record = Record(f"m{i}.png", "none.png", Label(0), split=None, derived=Derived("cutmix" if i % 3 else "x", of))
        rows.append((record, "ab"[i % 2]))
    data = labelled(Path("nowhere"), rows, "table")
    alone = {record.id: record.group or record.id for record in data.records}
    splits: Splits = folds(data, alone, 3, 1, seed=seed) if crossed else holdout(data, alone, seed=seed)
    bare = data.originals
    same = folds(bare, alone, 3, 1, seed=seed) if crossed else holdout(bare, alone, seed=seed)
    assert splits.parts == same.parts  # derived images move nothing
    for part in splits.parts:
        assert {*part.train, *part.val, *part.test} == set(names)
        beside = data.derived_from(part.train)
        records = [data.records[data.index[id]] for id in beside]
        assert all(r.derived and {*r.derived.of} <= {*part.train} for r in records)
        left = {r.id for r in data.records if r.derived} - {*beside}
        assert all({*data.records[data.index[id]].derived.of} - {*part.train} for id in left)  # type: ignore[union-attr]
        assert data.derived_from(part.train, ()) == ()
        assert {*data.derived_from(part.train, ("x",)), *data.derived_from(part.train, ("cutmix",))} == {*beside}


# --- how it is made ---


@pytest.mark.parametrize("size", [(32, 32), (48, 40), (500, 300)])
def test_grabcut_finds_the_thing_in_the_middle(size: tuple[int, int]) -> None:
    for seed, name in enumerate(("plum", "lime", "plum")):
        image, inside = thing(seed, name, size)
        found = matte(image, 7)
        assert found.shape == inside.shape
        assert np.array_equal(found, matte(image, 7))
        cut = found > 0.5
        assert (cut & inside).sum() / (cut | inside).sum() > 0.85
    assert matte(np.full((32, 32, 3), 90, np.uint8), 0).max() == 0  # nothing there
    assert matte(thing(0, "plum", (9, 3))[0], 0).shape == (3, 9)


@pytest.mark.parametrize(
    ("fill", "colour"),
    [
        ("white", (255, 255, 255)),  # by name
        ("black", (0, 0, 0)),  # by name
        ("#0a6432", (10, 100, 50)),  # by its code
        ("blur", (20, 200, 30)),  # the background's own, without a halo of the thing
        ("picture", (1, 2, 3)),  # a picture of another shape, covering
        ("folder", (1, 2, 3)),  # any of a folder
    ],
)
def test_fills(fill: str, colour: tuple[int, int, int], tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    Image.new("RGB", (90, 20), (1, 2, 3)).save(tmp_path / "folder" / "picture.png")
    name = {"picture": str(tmp_path / "folder" / "picture.png"), "folder": str(tmp_path / "folder")}.get(fill, fill)
    image = np.full((40, 48, 3), (20, 200, 30), np.uint8)
    image[10:30, 10:30] = (200, 0, 0)
    cover = (image[..., 0] == 200).astype(np.float32)
    result = Fill.parse(name).behind(image, cover, 0)
    assert np.array_equal(result[cover > 0], image[cover > 0])
    assert np.abs(result[cover == 0].astype(int) - colour).max() <= 1


@given(some.integers(0, 9999), some.integers(1, 3), some.floats(0.02, 0.6), some.floats(0.0, 0.3))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_patches_have_the_size_that_is_asked_for(seed: int, patches: int, low: float, more: float) -> None:
    draws = np.random.default_rng(seed)
    image, other = np.zeros((60, 40, 3), np.uint8), np.full((int(draws.integers(1, 99)), 31, 3), 255, np.uint8)
    mixed = one_class_cutmix(image, other, patches, (low, low + more), draws)
    share = float((mixed > 0).mean())
    assert set(np.unique(mixed)) == {0, 255}
    assert low * 0.8 - 0.01 <= share <= patches * ((low + more) * 1.2 + 0.02)
    assert image.max() == 0


def test_a_patch_comes_from_the_same_place() -> None:
    rows, columns = np.indices((60, 40))
    image = np.stack([4 * rows, 6 * columns, 0 * rows], axis=2).astype(np.uint8)
    assert np.array_equal(one_class_cutmix(image, image, 5, (0.1, 0.5), np.random.default_rng(0)), image)
    double = image.repeat(2, axis=0).repeat(2, axis=1)
    mixed = one_class_cutmix(image, double, 1, (0.3, 0.3), np.random.default_rng(0))
    assert np.abs(mixed.astype(int) - image).max() <= 6  # of one pixel, by rounding


@given(some.integers(0, 200), some.lists(some.integers(0, 30), min_size=1, max_size=9), some.integers(0, 99))
@settings(max_examples=80, deadline=None, derandomize=True)
def test_even_shares(amount: int, room: list[int], seed: int) -> None:
    taken = evenly(amount, room, np.random.default_rng(seed))
    assert sum(taken) == min(amount, sum(room))
    assert all(0 <= n <= most for n, most in zip(taken, room, strict=True))
    free = [n for n, most in zip(taken, room, strict=True) if n < most]
    assert not free or max(taken) - min(free) <= 1


# --- refused ---


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "nothing to make: say how many with --background N"),
        ({"background": -1}, "must be 0 or more images"),
        ({"cutmix": 3, "area": (0.5, 0.1)}, "--area 0.5 0.1: two shares"),
        ({"cutmix": 3, "patches": 0}, "--patches must be 1 or more"),
        ({"cutmix": 3, "originals": 0}, "--originals must be 1 or more"),
        ({"background": 3, "family": "isnet"}, "name its file too"),
        ({"background": 3, "fill": "whit"}, r"--fill whit: neither a colour nor a picture \(did you mean white\?\)"),
        ({"cutmix": 3, "originals": 2}, "no class has them"),  # one image of each class
    ],
)
def test_impossible_expansions(source: Path, tmp_path: Path, fields: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        expand(formats.read(source), tmp_path / "out", Expansion(**fields))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_expanded(source: Path, expanded: Dataset, tmp_path: Path) -> None:
    plan = Expansion(cutmix=2)
    boxes = annotated(tmp_path / "boxes", "detection")
    refused: list[tuple[Dataset, Path, type[BakeoffError], str]] = [
        (boxes, tmp_path / "out", UsageError, "is for classification, and these data are for detection"),
        (expanded, tmp_path / "out", UsageError, r"is expanded already \(background, cutmix\); expand its originals"),
        (formats.read(source), source, UsageError, "exists and is not an empty folder"),
    ]
    for data, out, error, message in refused:
        with pytest.raises(error, match=message):
            expand(data, out, plan)
    photos(tmp_path / "broken", 2)
    (tmp_path / "broken" / "plum" / "01.png").write_bytes(b"no picture")
    with pytest.raises(UnreadableImage, match=r"plum/01\.png"):
        expand(formats.read(tmp_path / "broken"), tmp_path / "out", Expansion(cutmix=4))
    assert not (tmp_path / "out").exists()
