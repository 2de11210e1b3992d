"""Audit of boxes and masks: every planted fault is found and named, sound annotations are left in peace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from bakeoff.data.audit import CHECKS, Audit, audit
from bakeoff.data.columns import image_counts, objects, presence
from bakeoff.data.dataset import Dataset, Record, TaskName
from bakeoff.data.masks import to_runs
from bakeoff.data.targets import Boxes, Instances, Mask
from bakeoff.findings import Finding

WIDTH, HEIGHT, COUNT = 96, 64, 50
Change = Callable[[Boxes], Boxes]


def polygon(box: tuple[float, ...]) -> Mask:
    x1, y1, x2, y2 = box
    return ((x1, y1, x2, y1, x2, y2, x1, y2),)


def target(task: TaskName, first: int) -> Boxes:
    """Two boxes of two of three classes, one class in every image."""
    boxes = [(8.0, 8.0, 40.0, 30.0), (44.0, 20.0, 90.0, 60.0)]
    labels = np.array([0, 1 + first % 2])
    if task == "detection":
        return Boxes((WIDTH, HEIGHT), np.array(boxes), labels)
    return Instances((WIDTH, HEIGHT), np.array(boxes), labels, masks=tuple(map(polygon, boxes)))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, draws = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for i in range(COUNT):
        noise = cv2.resize(draws.integers(0, 255, (8, 12, 3), dtype=np.uint8), (WIDTH, HEIGHT))
        Image.fromarray(np.asarray(noise, np.uint8)).save(folder / f"{i:02d}.png")
    return folder


def clean(folder: Path, task: TaskName) -> Dataset:
    records = tuple(Record(f"{i:02d}.png", f"{i:02d}.png", target(task, i)) for i in range(COUNT))
    return Dataset(task, ("ant", "bee", "cow"), records, folder)


def changed(data: Dataset, change: Change, number: int = 3) -> Dataset:
    """Return the dataset with the target of one record changed."""
    rows = list(data.records)
    found = rows[number].target
    assert isinstance(found, Boxes)
    rows[number] = replace(rows[number], target=change(found))
    return replace(data, records=tuple(rows))


def moved(box: tuple[float, ...], place: int = 0) -> Change:
    """Put one object's box somewhere else; its mask stays."""

    def change(found: Boxes) -> Boxes:
        boxes = found.xyxy.copy()
        boxes[place] = box
        return replace(found, xyxy=boxes)

    return change


def masked(mask: Mask) -> Change:
    def change(found: Boxes) -> Boxes:
        assert isinstance(found, Instances)
        return replace(found, masks=(mask, *found.masks[1:]))

    return change


def again(label: int) -> Change:
    """Mark the first object once more, a little beside it, as this class."""

    def change(found: Boxes) -> Boxes:
        both = found.take(np.array([0, 1, 0]))
        boxes, labels = both.xyxy.copy(), both.labels.copy()
        boxes[2] += 0.2
        labels[2] = label
        return replace(both, xyxy=boxes, labels=labels)

    return change


def found(result: Audit, code: str) -> Finding:
    (finding,) = [finding for finding in result.findings if finding.code == code]
    return finding


EVERYTHING = to_runs(np.ones((HEIGHT, WIDTH), np.uint8), (WIDTH, HEIGHT))
NOTHING = to_runs(np.zeros((HEIGHT, WIDTH), np.uint8), (WIDTH, HEIGHT))
PLANTED: list[tuple[str, TaskName, Change, str]] = [
    ("box-without-area", "detection", moved((8, 8, 8, 30)), "1 of 100 objects (ant 1)"),  # no width
    ("box-without-area", "detection", moved((40, 30, 8, 8)), "03.png"),  # corners swapped
    ("box-without-area", "detection", moved((8, np.nan, 40, 30)), "03.png"),  # no number
    ("box-out-of-image", "detection", moved((-20, 8, 40, 30)), "up to 20 pixels"),  # a third of it
    ("box-out-of-image", "detection", moved((100, 8, 140, 30)), "1 of them wholly outside"),  # all of it
    ("axes-swapped", "detection", moved((20, 44, 60, 90), 1), "exchanged"),  # x and y of the second box
    ("object-below-pixel", "detection", moved((8, 8, 10, 30)), "input size of 32"),  # 2 pixels of 96 in 32
    ("duplicate-box", "detection", again(0), "1 pair of boxes (ant 1)"),  # the same class
    ("duplicate-box", "instance", again(0), "03.png"),  # and the same mask
    ("conflicting-box", "detection", again(1), "(ant and bee 1)"),  # another class
    ("frame-differs", "detection", lambda t: replace(t, size=(192, 128)), "2 of 100 objects"),  # twice the image
    ("no-objects", "detection", lambda t: t.take(np.array([], np.intp)), "1 of 50 images (03.png)"),  # all removed
    ("crowd", "detection", lambda t: replace(t, crowd=np.array([True, False])), "1 of 100 objects"),  # one
    ("mask-empty", "instance", masked(NOTHING), "03.png"),  # no pixel
    ("mask-empty", "instance", masked(((1.0, 1.0, 5.0, 5.0),)), "03.png"),  # two points
    ("mask-full", "instance", masked(EVERYTHING), "03.png"),  # every pixel
    ("mask-off-box", "instance", moved((50, 8, 80, 30)), "03.png"),  # beside it
]


@pytest.mark.parametrize(
    ("code", "task", "change", "told"), PLANTED, ids=[f"{i}-{row[0]}" for i, row in enumerate(PLANTED)]
)
def test_a_planted_fault_is_found(code: str, task: TaskName, change: Change, told: str, pictures: Path) -> None:
    finding = found(audit(changed(clean(pictures, task), change), size=32), code)
    assert told in finding.sentence
    assert finding.records == ("03.png",)


@pytest.mark.parametrize("task", ["detection", "instance"])
def test_sound_annotations_are_left_in_peace(task: TaskName, pictures: Path) -> None:
    checks = {check.code for check in CHECKS if task in check.tasks and "classification" not in check.tasks}
    assert checks - {"class-unused"} <= {code for code, _, _, _ in PLANTED}
    codes = {finding.code for finding in audit(clean(pictures, task), size=32).findings}
    assert not codes - {"outlier", "smaller-than-input"}


def test_a_careless_edge_is_no_warning(pictures: Path) -> None:
    data = changed(clean(pictures, "detection"), moved((-1, 8, 40, 30)))  # as tools write that count from 0
    assert found(audit(data), "box-out-of-image").severity == "info"
    assert "axes-swapped" not in {finding.code for finding in audit(data).findings}


def test_touching_objects_are_not_one(pictures: Path) -> None:
    """Two masks that share a box, as crossed sticks do, are two objects."""
    upper = polygon((8.0, 8.0, 40.0, 19.0))

    def change(found: Boxes) -> Boxes:
        both = again(0)(found)
        assert isinstance(both, Instances)
        return replace(both, masks=(both.masks[0], both.masks[1], upper))

    assert "duplicate-box" not in {f.code for f in audit(changed(clean(pictures, "instance"), change)).findings}


def test_classes_of_objects(pictures: Path) -> None:
    wide = replace(clean(pictures, "detection"), classes=("ant", "bee", "cow", "dog", "elk"))
    wide = changed(wide, lambda t: replace(t, labels=np.array([0, 3])))
    result = audit(wide)
    assert "1 of 5 classes never occur: elk" in found(result, "class-unused").sentence
    rare = found(result, "class-rare")
    assert ("dog (1)" in rare.sentence, rare.records) == (True, ("03.png",))
    imbalance = found(result, "class-imbalance")
    assert "ant has 50 objects and dog 1" in imbalance.sentence
    assert imbalance.severity == "warning"
    assert image_counts(wide) == {"ant": 50, "bee": 25, "cow": 24, "dog": 1, "elk": 0}
    assert presence(wide)[3].tolist() == [True, False, False, True, False]


def test_what_the_reader_remarked_is_among_the_findings(pictures: Path) -> None:
    remark = Finding("size-zero", "info", "2 files state a size of 0", ("01.png",))
    result = audit(replace(clean(pictures, "detection"), remarks=(remark,)))
    assert remark in result.findings


def test_copies_with_other_objects_are_at_odds(pictures: Path, tmp_path: Path) -> None:
    for name in ("00.png", "01.png", "02.png"):
        (tmp_path / name).write_bytes((pictures / "00.png").read_bytes())
    first = target("detection", 0)
    records = [Record("00.png", "00.png", first), Record("01.png", "01.png", first.take(np.array([1, 0])))]
    data = Dataset("detection", ("ant", "bee", "cow"), tuple(records), tmp_path)
    assert "label-conflict" not in {finding.code for finding in audit(data).findings}  # the order does not count
    other = Record("02.png", "02.png", moved((9, 9, 60, 60))(first))
    data = replace(data, records=(*records, other))
    assert found(audit(data), "label-conflict").records == ("00.png", "01.png", "02.png")


def test_a_dataset_without_objects(pictures: Path) -> None:
    records = tuple(
        replace(r, target=Boxes((WIDTH, HEIGHT), np.empty((0, 4)), np.empty(0, np.int64)))
        for r in clean(pictures, "detection").records
    )
    data = Dataset("detection", ("ant",), records, pictures)
    assert (len(objects(data)), found(audit(data, size=32), "no-objects").severity) == (0, "warning")
