"""Audit of label maps: masks that do not fit, say little or mean nothing are found, sound ones are left in peace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from bakeoff.data.audit import CHECKS, Audit, audit
from bakeoff.data.columns import image_counts, label_maps
from bakeoff.data.dataset import Dataset, Record
from bakeoff.data.targets import IGNORE, Coding, MaskFiles
from bakeoff.findings import Finding

SIZE, COUNT = (96, 64), 50
CLASSES = ("grass", "pole", "sky")
CODING = Coding("value", ((0, 0), (1, 1), (2, 2), (9, IGNORE)))


def halves() -> NDArray[np.uint8]:
    """Sky above, grass below, a pole between."""
    pixels = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    pixels[:32], pixels[20:40, 10:30] = 2, 1
    return pixels


def save(pixels: NDArray[np.uint8], path: Path) -> None:
    Image.fromarray(pixels).save(path)


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """Fifty pictures with sound masks."""
    draws, records = np.random.default_rng(0), []
    for i in range(COUNT):
        noise = cv2.resize(draws.integers(0, 255, (8, 12, 3), dtype=np.uint8), SIZE)
        save(np.asarray(noise, np.uint8), tmp_path / f"{i:02d}.png")
        save(halves(), tmp_path / f"m{i:02d}.png")
        records.append(Record(f"{i:02d}.png", f"{i:02d}.png", MaskFiles(((f"m{i:02d}.png", CODING),))))
    return Dataset("semantic", CLASSES, tuple(records), tmp_path)


def found(result: Audit, code: str) -> Finding:
    (finding,) = [finding for finding in result.findings if finding.code == code]
    return finding


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def patch(value: int) -> Callable[[Path], None]:
    """Give the left half of a mask another value."""

    def change(path: Path) -> None:
        pixels = halves()
        pixels[:, :48] = value
        save(pixels, path)

    return change


PLANTED: list[tuple[str, Callable[[Path], None], str]] = [
    ("mask-unreadable", cut, "m03.png"),  # the first 60 bytes
    ("mask-unreadable", Path.unlink, "No such file"),  # gone
    ("mask-value", patch(7), "the values [7] mean no class"),  # 7 has no class
    ("mask-size", lambda p: save(halves()[::2, ::2], p), "1 of them smaller, 0.50 to 0.50 times"),  # half the size
    ("mask-size", lambda p: save(halves()[::3, ::3], p), "03.png"),  # 32x22 of 96x64: rounded up
    ("mask-shape", lambda p: save(halves()[:, ::2], p), "96x64, its mask 48x64"),  # half the width
    ("mask-shape", lambda p: save(np.rot90(halves()), p), "1 of the images lie turned"),  # turned by 90 degrees
    ("mask-one-class", lambda p: save(halves() * 0, p), "all grass 1"),  # nothing but grass
    ("pixels-ignored", lambda p: save(np.full_like(halves(), 9), p), "nothing else is in 1 of 50"),  # all ignored
]


@pytest.mark.parametrize(("code", "plant", "told"), PLANTED, ids=[f"{i}-{row[0]}" for i, row in enumerate(PLANTED)])
def test_a_planted_fault_is_found(code: str, plant: Callable[[Path], None], told: str, data: Dataset) -> None:
    plant(data.source / "m03.png")
    finding = found(audit(data, size=32), code)
    assert told in finding.sentence
    assert finding.records == ("03.png",)


def test_sound_masks_are_left_in_peace(data: Dataset) -> None:
    checks = {check.code for check in CHECKS if check.tasks == ("semantic",)}
    assert checks - {"pixel-imbalance"} == {code for code, _, _ in PLANTED}
    assert not {finding.code for finding in audit(data, size=32).findings} - {"outlier"}


def test_classes_are_counted_in_images_and_pixels(data: Dataset) -> None:
    for i in range(COUNT):
        pixels = halves()
        pixels[pixels == 1], pixels[:32] = 0, 2
        pixels[0, : 5 * (i < 4)] = 1  # a pole of 5 pixels in four images
        save(pixels, data.source / f"m{i:02d}.png")
    data = replace(data, classes=(*CLASSES, "water"))
    result = audit(data)
    assert found(result, "class-rare").records == ("00.png", "01.png", "02.png", "03.png")
    assert "water" in found(result, "class-unused").sentence
    pixels_finding = found(result, "pixel-imbalance")
    assert "grass covers 50.0%" in pixels_finding.sentence
    assert pixels_finding.severity == "warning"
    assert image_counts(data) == {"grass": 50, "pole": 4, "sky": 50, "water": 0}
    assert label_maps(data).pixels.sum(axis=0).tolist() == [50 * 3072, 20, 50 * 3072 - 20, 0]


def test_ignored_pixels_are_told_and_half_of_them_are_a_warning(data: Dataset) -> None:
    patch(9)(data.source / "m03.png")
    finding = found(audit(data), "pixels-ignored")
    assert (finding.severity, finding.sentence.startswith("1.0% of all pixels")) == ("info", True)
    for i in range(COUNT):
        pixels = halves()
        pixels[:, :60] = 9
        save(pixels, data.source / f"m{i:02d}.png")
    assert found(audit(replace(data)), "pixels-ignored").severity == "warning"


def test_masks_are_decoded_once(data: Dataset) -> None:
    first = label_maps(data)
    assert label_maps(data) is first
    assert label_maps(replace(data)) is not first  # another dataset, though equal: its files may have changed


def test_copies_with_other_masks_are_at_odds(data: Dataset) -> None:
    for i in (1, 2):
        (data.source / f"{i:02d}.png").write_bytes((data.source / "00.png").read_bytes())
    assert "label-conflict" not in {finding.code for finding in audit(data).findings}
    patch(0)(data.source / "m02.png")
    assert found(audit(replace(data)), "label-conflict").records == ("00.png", "01.png", "02.png")
