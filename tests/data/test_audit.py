"""Audit: every planted fault is found and named, a clean data set is left in peace; duplicates and clusters."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from bakeoff.data.audit import CHECKS, Audit, audit
from bakeoff.data.dataset import Dataset, Derived, Record, labelled
from bakeoff.data.duplicates import ORIENTATIONS, clusters, duplicates, signatures
from bakeoff.data.targets import Label
from bakeoff.errors import UnreadableImage
from bakeoff.findings import Finding

Picture = NDArray[np.uint8]
COUNT = 60


def texture(seed: int, side: int = 96) -> Picture:
    """Return a colour picture with structure at every scale, as photographs have."""
    draws = np.random.default_rng(seed)
    picture = np.zeros((side, side, 3), np.float32)
    for cells in (3, 6, 12, 24, 48):
        noise = draws.normal(0, 1, (cells, cells, 3)).astype(np.float32) + draws.normal(0, 0.7, (cells, cells, 1))
        enlarged = cv2.resize(noise.astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
        picture += np.asarray(enlarged, np.float32) * 3 / cells**0.5
    return np.clip(128 + 28 * picture, 0, 255).astype(np.uint8)


def save(picture: Picture, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def read(folder: Path) -> Dataset:
    """Read class folders; train/val/test folders above them are given splits.

    'g1_' in a name is the group 1, 'made-000.png' an image derived from 000.png.
    """
    rows = []
    for file in sorted(folder.rglob("*.*")):
        name = file.relative_to(folder).as_posix()
        part = name.split("/")[0] if name.count("/") == 2 else None
        group = file.name.split("_")[0] if file.name.startswith("g") else None
        record = Record(name, name, Label(0), group=group, split=part)  # type: ignore[arg-type]
        if file.name.startswith("made-"):
            record = replace(record, derived=Derived("background", (name.replace("made-", ""),)))
        rows.append((record, file.parent.name))
    return labelled(folder, rows, "folder")


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty pictures of each of two classes, with nothing wrong."""
    folder = tmp_path_factory.mktemp("clean")
    for i in range(COUNT):
        save(texture(i), folder / "ab"[i % 2] / f"{i:03d}.png")
    return folder


@pytest.fixture
def faulty(clean: Path, tmp_path: Path) -> Path:
    """A copy of the clean folder to plant faults in."""
    for file in clean.rglob("*.png"):
        (tmp_path / file.parent.name).mkdir(exist_ok=True)
        (tmp_path / file.parent.name / file.name).write_bytes(file.read_bytes())
    return tmp_path


def found(result: Audit, code: str) -> Finding:
    (finding,) = [finding for finding in result.findings if finding.code == code]
    return finding


# --- planted faults: (code, plant(folder), the ids that must be named) ---


def plant_unreadable(folder: Path) -> None:
    (folder / "a/broken.png").write_text("no picture")


def plant_truncated(folder: Path) -> None:
    Image.fromarray(texture(99)).save(folder / "a/cut.jpg")
    (folder / "a/cut.jpg").write_bytes((folder / "a/cut.jpg").read_bytes()[:2000])


def plant_duplicate(folder: Path) -> None:
    save(texture(0), folder / "a/copy.bmp")


def plant_near(folder: Path) -> None:
    save(np.ascontiguousarray(cv2.resize(texture(1), (70, 70))[::-1]).astype(np.uint8), folder / "b/mirror.jpg")


def plant_conflict(folder: Path) -> None:
    save(texture(0), folder / "b/copy.png")


def plant_split(folder: Path) -> None:
    """Give the folder a split with 20 validation and 20 test images, and a class c without test images."""
    for file in sorted(folder.rglob("*.png")):
        part = ("train", "val", "test")[int(file.stem) // 2 % 3]
        target = folder / part / file.parent.name / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        file.rename(target)
    for i in range(3):
        save(texture(200 + i), folder / f"train/c/{i}.png")


def plant_across(folder: Path) -> None:
    plant_split(folder)
    save(texture(0), folder / "test/a/copy.bmp")
    plant_near(folder / "test")


def plant_groups(folder: Path) -> None:
    plant_split(folder)
    save(texture(80), folder / "train/a/g1_x.png")
    save(texture(81), folder / "test/a/g1_y.png")


def plant_imbalance(folder: Path) -> None:
    for i in range(3):
        save(texture(300 + i), folder / f"c/{i}.png")


def plant_sizes(folder: Path) -> None:
    save(texture(90, 400), folder / "a/large.png")
    save(texture(91, 400)[:, :40], folder / "a/tall.png")


def plant_light(folder: Path) -> None:
    save(texture(92) // 20, folder / "a/dark.png")
    save(250 - texture(93) // 20, folder / "a/bright.png")
    save(np.full((96, 96, 3), 120, np.uint8), folder / "a/blank.png")


def plant_blur(folder: Path) -> None:
    save(cv2.GaussianBlur(texture(94), (0, 0), 9).astype(np.uint8), folder / "a/soft.png")


def plant_suffix(folder: Path) -> None:
    Image.fromarray(texture(95)).save(folder / "a/png.jpg", "PNG")


def plant_grey(folder: Path) -> None:
    save(np.repeat(texture(96)[..., :1], 3, axis=2), folder / "a/grey.png")


def plant_odd_one(folder: Path) -> None:
    board = np.indices((96, 96)).sum(axis=0) // 12 % 2 * 255
    save(np.stack([board, 0 * board, 255 - board], axis=2).astype(np.uint8), folder / "a/board.png")


def plant_derived(folder: Path) -> None:
    (folder / "a/made-000.png").write_bytes((folder / "a/000.png").read_bytes())


PLANTED: list[tuple[str, Callable[[Path], None], set[str] | None]] = [
    ("unreadable", plant_unreadable, {"a/broken.png"}),  # text named .png
    ("truncated", plant_truncated, {"a/cut.jpg"}),  # the first 2,000 bytes of a JPEG
    ("duplicate", plant_duplicate, {"a/000.png", "a/copy.bmp"}),  # another file format, the same pixels
    ("near-duplicate", plant_near, {"b/001.png", "b/mirror.jpg"}),  # flipped, smaller and recompressed
    ("label-conflict", plant_conflict, {"a/000.png", "b/copy.png"}),  # a copy in the other class
    ("duplicate-across-splits", plant_across, {"test/a/copy.bmp"}),  # a training image in test
    ("near-duplicate-across-splits", plant_across, {"test/b/mirror.jpg"}),  # flipped in test
    ("leaking-group", plant_groups, {"test/a/g1_y.png"}),  # one patient in train and test
    ("class-missing", plant_split, None),  # class c only in train
    ("validation-small", plant_split, None),  # 20 images
    ("class-imbalance", plant_imbalance, None),  # 30 to 3
    ("class-rare", plant_imbalance, {"c/0.png", "c/1.png", "c/2.png"}),  # 3 images
    ("expanded", plant_derived, None),  # and no duplicate
    ("odd-size", plant_sizes, {"a/large.png"}),  # 17 times the area
    ("odd-aspect", plant_sizes, {"a/tall.png"}),  # ten times as tall as wide
    ("smaller-than-input", plant_sizes, {"a/tall.png"}),  # 40 pixels wide
    ("very-dark", plant_light, {"a/dark.png"}),  # levels 0 to 12
    ("very-bright", plant_light, {"a/bright.png"}),  # levels 238 to 250
    ("low-contrast", plant_light, {"a/blank.png", "a/bright.png", "a/dark.png"}),  # one of them blank
    ("blurred", plant_blur, {"a/soft.png"}),  # Gaussian blur of 9 pixels
    ("wrong-suffix", plant_suffix, {"a/png.jpg"}),  # a PNG named .jpg
    ("greyscale-mixed", plant_grey, {"a/grey.png"}),  # one grey among colour
    ("outlier", plant_odd_one, {"a/board.png"}),  # a chequerboard
]


@pytest.mark.parametrize(("code", "plant", "ids"), PLANTED, ids=[code for code, _, _ in PLANTED])
def test_a_planted_fault_is_found(code: str, plant: Callable[[Path], None], ids: set[str] | None, faulty: Path) -> None:
    plant(faulty)
    finding = found(audit(read(faulty), size=64), code)
    if ids is not None:
        assert set(finding.records) == ids
        assert any(name in finding.sentence for name in (*ids, " c (3)"))
    severity = next(check.severity for check in CHECKS if check.code == code)
    assert finding.severity == severity or (code, finding.severity) in {("low-contrast", "warning")}


def test_every_check_has_a_planted_fault_and_a_title() -> None:
    assert {code for code, _, _ in PLANTED} == {check.code for check in CHECKS if "classification" in check.tasks}
    assert len({check.title for check in CHECKS}) == len(CHECKS)


def test_clean_data_raises_nothing_and_goes_to_json(clean: Path) -> None:
    calls: list[tuple[int, int]] = []
    result = audit(read(clean), size=64, progress=lambda done, total: calls.append((done, total)))
    assert [finding.code for finding in result.findings if finding.code != "outlier"] == []
    assert calls[-1] == (COUNT, COUNT)
    assert json.loads(json.dumps(result.to_json()))["readable"] == COUNT


def test_errors_come_first(faulty: Path) -> None:
    plant_across(faulty)
    severities = [finding.severity for finding in audit(read(faulty)).findings]
    assert severities == sorted(severities, key=["error", "warning", "info"].index)
    assert severities[0] == "error"


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        (lambda p: p // 16, {"very-dark", "low-contrast"}),  # dark and flat throughout
        (lambda p: 250 - p // 16, {"very-bright", "low-contrast"}),  # bright throughout
        (lambda p: cv2.GaussianBlur(p, (0, 0), 4), {"blurred"}),  # soft throughout
        (lambda p: np.repeat(p[..., :1], 3, axis=2), {"greyscale-mixed"}),  # grey throughout
    ],
)
def test_what_all_images_share_is_no_fault(change: Callable[[Picture], Picture], codes: set[str], faulty: Path) -> None:
    for file in faulty.rglob("*.png"):
        save(change(np.asarray(Image.open(file))), file)
    assert not codes & {finding.code for finding in audit(read(faulty)).findings}


def test_a_class_known_by_its_colour_is_a_warning(faulty: Path) -> None:
    for file in faulty.glob("b/*.png"):
        save(np.repeat(np.asarray(Image.open(file))[..., :1], 3, axis=2), file)
    finding = found(audit(read(faulty)), "greyscale-mixed")
    assert (finding.severity, "class b" in finding.sentence) == ("warning", True)


def test_another_embedding_may_choose_the_outliers(clean: Path) -> None:
    data = read(clean)
    points = np.random.default_rng(0).normal(size=(COUNT, 4))
    points[7] = 50
    assert found(audit(data, embed=lambda *_: points), "outlier").records == (data.records[7].id,)


def test_names_cannot_spoil_a_sentence(faulty: Path) -> None:
    (faulty / "a/x\u202egnp.\x1b[31m.png").write_text("no picture")
    sentence = found(audit(read(faulty)), "unreadable").sentence
    assert sentence.isprintable()
    assert "\\u202e" in sentence


# --- signatures, duplicates, clusters ---


def test_signatures_skip_or_raise(faulty: Path) -> None:
    plant_unreadable(faulty)
    data = read(faulty)
    measured = signatures(data)
    assert (len(measured), set(measured.unreadable)) == (COUNT, {"a/broken.png"})
    assert measured.stored[0] == "PNG"
    assert measured.sizes[0].tolist() == [96, 96]
    with pytest.raises(UnreadableImage, match=r"broken\.png"):
        signatures(data, unreadable="raise")


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=str)
def test_every_orientation_is_the_same_picture(orientation: tuple[bool, int, int], faulty: Path) -> None:
    turned, up, left = orientation
    picture = texture(5).transpose(1, 0, 2) if turned else texture(5)
    noise = np.random.default_rng(0).normal(0, 3, picture.shape)
    other = np.clip(picture[::up, ::left] * 0.9 + 5 + noise, 0, 255).astype(np.uint8)
    save(other, faulty / "a/other.png")
    assert duplicates(signatures(read(faulty))).near == (("a/other.png", "b/005.png"),)


def test_small_images_have_exact_duplicates_only(tmp_path: Path) -> None:
    six = np.zeros((28, 28, 3), np.uint8)
    cv2.putText(six, "6", (5, 23), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (255, 255, 255), 2)
    for name, picture in (("6/a", six), ("6/b", six), ("9/c", six[::-1, ::-1])):
        save(np.ascontiguousarray(picture), tmp_path / f"{name}.png")
    found = duplicates(signatures(read(tmp_path)))
    assert (found.exact, found.near) == ((("6/a.png", "6/b.png"),), ())
    assert "not applicable because most images are smaller than 32 pixels" in found.note


def test_look_alikes_are_not_duplicates(tmp_path: Path) -> None:
    for i in range(40):  # one scene, forty frames
        save(
            np.clip(texture(0) + np.random.default_rng(i).normal(0, 4, (96, 96, 3)), 0, 255).astype(np.uint8),
            tmp_path / f"a/{i:02d}.png",
        )
    result = audit(read(tmp_path))
    assert result.duplicates.near == ()
    assert "not applicable because 40 images chain" in found(result, "near-duplicate").sentence


def test_enlarged_icons_have_no_detail_to_compare(tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    for i in range(4):
        icon = draws.integers(0, 255, (4, 4, 3), dtype=np.uint8)
        save(np.asarray(cv2.resize(icon, (64, 64), interpolation=cv2.INTER_CUBIC), np.uint8), tmp_path / f"a/{i}.png")
    assert "without detail (4)" in duplicates(signatures(read(tmp_path))).note


def test_clusters_join_copies_and_groups(faulty: Path) -> None:
    plant_duplicate(faulty)  # a/000.png = a/copy.bmp
    plant_near(faulty)  # b/001.png ~ b/mirror.jpg
    data = read(faulty)
    grouped = {"a/copy.bmp": "p1", "a/002.png": "p1", "a/004.png": "p2"}
    data = replace(data, records=tuple(replace(r, group=grouped.get(r.id)) for r in data.records))
    joined = clusters(data, duplicates(signatures(data)))
    assert len(joined) == len(data)
    assert {id for id, name in joined.items() if name == "group:p1"} == {"a/000.png", "a/002.png", "a/copy.bmp"}
    assert {id for id, name in joined.items() if name == "copies:b/001.png"} == {"b/001.png", "b/mirror.jpg"}
    assert (joined["a/004.png"], joined["a/006.png"]) == ("group:p2", "a/006.png")
