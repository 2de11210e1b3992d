"""Sheets: every picture that is asked for, one self-contained file, and names that can do no harm."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bakeoff.data.audit import audit
from bakeoff.data.dataset import Dataset, Record, labelled
from bakeoff.data.sheet import (
    MOST,
    Section,
    audit_sheet,
    contact_sheet,
    draw_per_class,
    picture_sheet,
    show_sheet,
)
from bakeoff.data.targets import Boxes, Coding, Label, MaskFiles

NASTY = "<b>$x_1$ \u202egnp & [red]{{ 7*7 }}"
COLOURS = {"blue": (0, 0, 255), "red": (255, 0, 0), NASTY: (0, 255, 0)}


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """Thirty plain pictures of each of three classes, one class with a name full of markup; one file is broken."""
    rows = []
    for number, (name, colour) in enumerate(COLOURS.items()):
        for i in range(30):
            file = f"{number}-{i:02d}.png"
            Image.new("RGB", (40 + 4 * i, 40), colour).save(tmp_path / file)
            rows.append((Record(file, file, Label(0)), name))
    (tmp_path / "0-00.png").write_text("broken")
    return labelled(tmp_path, rows, "folder")


def pictures(page: str) -> list[Image.Image]:
    found = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    return [Image.open(io.BytesIO(base64.b64decode(content))) for content in found]


def test_a_section_shows_its_pictures_and_says_what_it_hides(data: Dataset) -> None:
    ids = tuple(record.id for record in data.records if data.classes[record.label] == "red")
    page = contact_sheet(data, [Section("Red ones", "All of them.", ids, "warning")], "Title")
    shown = pictures(page)
    assert len(shown) == MOST
    assert all(max(picture.size) <= 160 for picture in shown)
    assert np.abs(np.asarray(shown[0], int).mean(axis=(0, 1)) - (255, 0, 0)).max() < 8
    assert "and 6 more" in page
    assert '<span class="mark warning">' in page


def test_an_unreadable_image_is_a_tile_that_says_why(data: Dataset) -> None:
    page = contact_sheet(data, [Section("Broken", "", ("0-00.png",), "error")], "Title")
    assert pictures(page) == []
    assert "damaged" in page


def test_names_are_harmless_and_nothing_is_fetched(data: Dataset) -> None:
    page = audit_sheet(data, audit(data)) + show_sheet(data)
    assert "<b>$x_1$" not in page
    assert "&lt;b&gt;$x_1$ \\u202egnp &amp; [red]{{ 7*7 }}" in page
    assert "\u202e" not in page
    assert not re.search(r'(src|href)="(?!data:)|<script|url\(|@import', page)


def test_the_audit_sheet_has_a_section_per_finding(data: Dataset) -> None:
    result = audit(data)
    page = audit_sheet(data, result)
    assert page.count('<span class="mark ') == len(result.findings) > 0
    assert "Unreadable images" in page
    assert "90 images in 3 classes, 89 of them readable" in page
    assert "0-00.png" in audit_sheet(data.without(["0-00.png"]), result)  # left out, but still named


def test_pictures_are_drawn_by_the_seed(data: Dataset) -> None:
    first = draw_per_class(data, 5, seed=1)
    assert {name: len(ids) for name, ids in first.items()} == dict.fromkeys(COLOURS, 5)
    assert first == draw_per_class(data, 5, seed=1) != draw_per_class(data, 5, seed=2)
    assert all(data.classes[data.records[data.index[id]].label] == n for n, ids in first.items() for id in ids)
    assert show_sheet(data, 5, seed=1) == show_sheet(data, 5, seed=1) != show_sheet(data, 5, seed=2)


def test_the_picture_sheet_has_a_row_per_class(data: Dataset) -> None:
    sheet = np.asarray(picture_sheet(data, per_class=3), int)
    rows = np.array_split(sheet[: sheet.shape[0] // 3 * 3], 3)
    colours = [COLOURS[name] for name in data.classes]
    for row, colour in zip(rows, colours, strict=True):
        assert (np.abs(row - colour).max(axis=2) < 3).sum() > 3 * 40 * 40
        others = [other for other in colours if other != colour]
        assert all((np.abs(row[30:-30] - other).max(axis=2) < 3).sum() == 0 for other in others)


# --- targets drawn on their pictures ---


@pytest.fixture
def marked(tmp_path: Path) -> dict[str, Dataset]:
    """Twelve grey pictures with a square of class b on the left of every second one, as boxes and as label maps."""
    boxes, maps, coding = [], [], Coding("value", ((0, 0), (1, 1)))
    for i in range(12):
        name, here = f"{i:02d}.png", i % 2
        Image.new("RGB", (64, 64), (100, 100, 100)).save(tmp_path / name)
        pixels = np.zeros((64, 64), np.uint8)
        pixels[16:48, 16:48] = here
        Image.fromarray(pixels).save(tmp_path / f"m{name}")
        box = Boxes((64, 64), np.array([[16.0, 16, 48, 48]] * here).reshape(-1, 4), np.ones(here, np.int64))
        boxes.append(Record(name, name, box))
        maps.append(Record(name, name, MaskFiles(((f"m{name}", coding),))))
    (tmp_path / "m11.png").write_text("broken")
    kinds = (("detection", boxes), ("semantic", maps))
    return {task: Dataset(task, ("background", f"c{NASTY}"), tuple(rows), tmp_path) for task, rows in kinds}  # type: ignore[arg-type]


def coloured(picture: Image.Image) -> float:
    """Return the share of a picture that is not grey."""
    return float((np.ptp(np.asarray(picture, int), axis=2) > 20).mean())


def test_boxes_are_drawn_and_images_without_any_have_their_own_section(marked: dict[str, Dataset]) -> None:
    page = show_sheet(marked["detection"], 4, seed=0)
    shown = pictures(page)
    assert len(shown) == 8
    assert [coloured(picture) > 0.02 for picture in shown] == [True] * 4 + [False] * 4
    assert all(text in page for text in ("6 objects in 6 images", "without any object", "Objects per class"))
    assert page.count('<svg class="plot"') == 2
    assert '<span class="swatch" style="background: #' in page
    assert "<b>$x_1$" not in page


def test_label_maps_are_drawn_and_a_broken_one_is_named(marked: dict[str, Dataset]) -> None:
    data = marked["semantic"]
    page = show_sheet(data, 20, seed=0)
    assert "Pixels per class" in page
    assert "11% in 5 images" in page  # 5 quarters of 11 label maps
    assert [round(coloured(picture), 2) for picture in pictures(page)] == [0, 0.25] * 5 + [0] + [0.25] * 5
    found = audit(data)
    tile = audit_sheet(data, found).split("Unreadable masks")[1].split("</section>")[0]
    assert "the mask cannot be read" in tile
    assert [coloured(picture) for picture in pictures(tile)] == [0]


@pytest.mark.parametrize("task", ["detection", "semantic"])
def test_a_picture_sheet_of_targets_has_a_row_per_class(task: str, marked: dict[str, Dataset]) -> None:
    sheet = picture_sheet(marked[task], per_class=3)
    height = sheet.height // 2  # boxes: class c, and images without objects; label maps: background, and class c
    shares = [coloured(sheet.crop((0, row * height + 22, sheet.width, (row + 1) * height))) for row in (0, 1)]
    assert shares[task == "semantic"] > 0.02
    assert task == "semantic" or shares[1] < 0.001
