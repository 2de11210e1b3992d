"""Contact sheets: the pictures behind findings, or some of every class, as one HTML file or one picture."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from bakeoff.data.audit import CHECKS, Audit
from bakeoff.data.dataset import Dataset, Record
from bakeoff.data.decode import read_image
from bakeoff.errors import UnreadableImage, UsageError
from bakeoff.findings import Severity, plural, printable
from bakeoff.seeds import generator

MOST = 24  # pictures of one section
THUMBNAIL, TINY = 160, 64  # pixels of the longer side; below TINY the pixels are shown as squares
CLASSES = 100  # bars, and classes shown
CELL, CAPTION = 128, 18  # pixels of a picture and of its caption in a picture sheet

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Section:
    """A heading, a sentence and the ids of the pictures below it, with a mark where it is a finding."""

    heading: str
    text: str = ""
    records: tuple[str, ...] = ()
    severity: Severity | None = None


def contact_sheet(
    dataset: Dataset,
    sections: Sequence[Section],
    title: str,
    lines: Sequence[str] = (),
    most: int = MOST,
    bars: bool = True,
) -> str:
    """Return one self-contained HTML page: counts per class as bars, then the sections, `most` pictures in each.

    `lines` are printed below the title.  Names are escaped, an unreadable image is a tile that says why.
    """
    rows = [_section(dataset, section, most) for section in sections]
    context = {
        "title": printable(title),
        "lines": [printable(line) for line in lines],
        "sections": rows,
        "bars": _bars(dataset) if bars else [],
        "hidden_classes": max(0, len(dataset.classes) - CLASSES),
    }
    return _environment().get_template("sheet.html.j2").render(context)


def audit_sheet(dataset: Dataset, audit: Audit) -> str:
    """Return the contact sheet of an audit: a section per finding, the gravest first."""
    titles = {check.code: check.title for check in CHECKS}
    sections = [
        Section(titles.get(finding.code, finding.code), finding.sentence, finding.records, finding.severity)
        for finding in audit.findings
    ]
    counts = [sum(f.severity == severity for f in audit.findings) for severity in ("error", "warning", "info")]
    lines = [
        f"{len(dataset):,} images in {len(dataset.classes)} classes, {len(audit.signatures):,} of them readable.",
        "Nothing found."
        if not audit.findings
        else f"Errors {counts[0]}, warnings {counts[1]}, for information {counts[2]}.",
    ]
    return contact_sheet(dataset, sections, f"Audit of {dataset.source.name}", lines)


def show_sheet(dataset: Dataset, per_class: int = 8, seed: int = 0) -> str:
    """Return a contact sheet with `per_class` pictures of every class, drawn by the seed."""
    drawn = draw_per_class(dataset, per_class, seed)
    counts = dataset.counts()
    sections = [Section(printable(name), plural(counts[name], "image"), ids) for name, ids in drawn.items()]
    line = f"{len(dataset):,} images in {len(dataset.classes)} classes; {per_class} of each, drawn with seed {seed}."
    return contact_sheet(dataset, sections, dataset.source.name, [line], most=per_class)


def draw_per_class(dataset: Dataset, per_class: int, seed: int) -> dict[str, tuple[str, ...]]:
    """Return up to `per_class` ids of each of the first 100 classes, a function of the ids and the seed."""
    if per_class < 1:
        raise UsageError(f"a sheet needs at least 1 picture of each class, not {per_class}")
    ids: dict[str, list[str]] = {name: [] for name in dataset.classes[:CLASSES]}
    for record in dataset.records:
        name = dataset.classes[record.label]
        if name in ids:
            ids[name].append(record.id)
    drawn = {}
    for name, pool in ids.items():
        order = generator(seed, "show", name).permutation(len(pool))[:per_class]
        drawn[name] = tuple(sorted(pool)[i] for i in np.sort(order))
    return drawn


@lru_cache(maxsize=1)
def _environment() -> Environment:
    """Return the templates of this room; everything put into them is escaped."""
    return Environment(loader=PackageLoader("bakeoff.data"), autoescape=True, trim_blocks=True)


def _bars(dataset: Dataset) -> list[dict[str, Any]]:
    """Return name, count and length of each class's bar."""
    counts = dataset.counts()
    most = max(counts.values(), default=1) or 1
    return [
        {"name": printable(name), "count": counts[name], "percent": 100 * counts[name] / most}
        for name in dataset.classes[:CLASSES]
    ]


def _section(dataset: Dataset, section: Section, most: int) -> dict[str, Any]:
    """Return a section as the template takes it."""
    known = [id for id in section.records if id in dataset.index]  # unreadable ones may have been left out
    shown = [dataset.records[dataset.index[id]] for id in known[:most]]
    return {
        "heading": printable(section.heading),
        "text": printable(section.text),
        "severity": section.severity,
        "tiles": [_tile(dataset, record) for record in shown],
        "hidden": len(known) - len(shown),
    }


def _tile(dataset: Dataset, record: Record) -> dict[str, Any]:
    """Return one picture with its label and name, or the reason why there is none."""
    tile: dict[str, Any] = {
        "label": printable(dataset.classes[record.label]),
        "name": printable(record.id),
        "image": "",
    }
    try:
        image = read_image(dataset, record)
    except UnreadableImage as error:
        return {**tile, "reason": printable(error.reason)}
    buffer = io.BytesIO()
    _thumbnail(image, THUMBNAIL).save(buffer, "JPEG", quality=80)
    tile["image"] = base64.b64encode(buffer.getvalue()).decode()
    return {**tile, "tiny": max(image.shape[:2]) < TINY}


def _thumbnail(image: Pixels, side: int) -> Image.Image:
    """Return a picture no larger than `side` pixels, in its own aspect ratio."""
    picture = Image.fromarray(image)
    picture.thumbnail((side, side), Image.Resampling.BICUBIC)
    return picture


# --- as one picture ---


def picture_sheet(dataset: Dataset, per_class: int = 8, seed: int = 0) -> Image.Image:
    """Return one picture: a row per class (the first 100) with `per_class` pictures under the class's name."""
    drawn = draw_per_class(dataset, per_class, seed)
    height = CELL + CAPTION + 4
    sheet = Image.new("RGB", (per_class * (CELL + 4) + 4, len(drawn) * height + 4), "white")
    pen, font = ImageDraw.Draw(sheet), _font()
    counts = dataset.counts()
    for row, (name, ids) in enumerate(drawn.items()):
        pen.text((6, row * height + 3), f"{printable(name)}  ({counts[name]:,})", fill="black", font=font)
        for column, id in enumerate(ids):
            picture = _cell(dataset, dataset.records[dataset.index[id]])
            sheet.paste(picture, (4 + column * (CELL + 4), row * height + CAPTION + 4))
    return sheet


def _cell(dataset: Dataset, record: Record) -> Image.Image:
    """Return a square cell with the picture in its middle, tiny ones enlarged in squares; a cross when unreadable."""
    cell = Image.new("RGB", (CELL, CELL), (236, 238, 241))
    try:
        image = read_image(dataset, record)
    except UnreadableImage:
        pen = ImageDraw.Draw(cell)
        pen.line((0, 0, CELL, CELL), fill=(179, 38, 30), width=2)
        pen.line((0, CELL, CELL, 0), fill=(179, 38, 30), width=2)
        return cell
    factor = max(1, CELL // max(image.shape[:2]))
    enlarged = image.repeat(factor, axis=0).repeat(factor, axis=1) if factor > 1 else image
    picture = _thumbnail(enlarged, CELL)
    cell.paste(picture, ((CELL - picture.width) // 2, (CELL - picture.height) // 2))
    return cell


@lru_cache(maxsize=1)
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return matplotlib's DejaVu Sans, which knows more scripts than Pillow's own; without importing matplotlib."""
    spec = find_spec("matplotlib")
    if spec is not None and spec.origin is not None:
        file = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if file.exists():
            return ImageFont.truetype(file, 12)
    return ImageFont.load_default(12)
