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
from bakeoff.data.targets import Label

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
