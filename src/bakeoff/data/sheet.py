"""Contact sheets: the pictures behind findings, or some of every class, as one HTML file or one picture."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from bakeoff.data.audit import CHECKS, Audit
from bakeoff.data.columns import image_counts, label_maps, objects, presence
from bakeoff.data.dataset import Dataset, Record
from bakeoff.data.decode import read_image
from bakeoff.data.draw import Colour, colour_of, draw, font, is_clear, loaded
from bakeoff.data.plots import Plot, box_plots
from bakeoff.data.targets import Boxes, Label, LabelMap, Target
from bakeoff.errors import DataError, UnreadableImage, UsageError
from bakeoff.findings import Severity, listed, plural, printable
from bakeoff.seeds import generator

MOST = 24  # pictures of one section
THUMBNAIL, TINY = 160, 64  # pixels of the longer side; below TINY the pixels are shown as squares
DRAWN = 288  # of the longer side where a target is drawn on it
CLASSES = 100  # bars, and classes shown
CELL, CAPTION = 128, 18  # pixels of a picture and of its caption in a picture sheet
DRAWN_CELL = 240  # of a picture with its target

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Section:
    """A heading, a sentence and the ids of the pictures below it, with a mark where it is a finding.

    `colour` is that of the class which the section is about, where pictures are coloured by class.
    """

    heading: str
    text: str = ""
    records: tuple[str, ...] = ()
    severity: Severity | None = None
    colour: Colour | None = None


def contact_sheet(
    dataset: Dataset,
    sections: Sequence[Section],
    title: str,
    lines: Sequence[str] = (),
    most: int = MOST,
    bars: bool = True,
) -> str:
    """Return one self-contained HTML page: counts per class as bars, then the sections, `most` pictures in each.

    `lines` are printed below the title; boxes, masks and label maps are drawn on their pictures, and the sizes of boxes
    are plotted beside the bars.  Names are escaped, an unreadable image is a tile that says why.
    """
    tiles: dict[str, dict[str, Any]] = {}
    plots: tuple[Plot, ...] = box_plots(objects(dataset)) if bars and _boxed(dataset) else ()
    context = {
        "title": printable(title),
        "lines": [printable(line) for line in lines],
        "sections": [_section(dataset, section, most, tiles) for section in sections],
        "bars": _bars(dataset) if bars else [],
        "unit": {"classification": "Images", "semantic": "Pixels"}.get(dataset.task, "Objects"),
        "hidden_classes": max(0, len(dataset.classes) - CLASSES),
        "plots": plots,
        "wide": dataset.task != "classification",
    }
    return _environment().get_template("sheet.html.j2").render(context)


def audit_sheet(dataset: Dataset, audit: Audit) -> str:
    """Return the contact sheet of an audit: a section per finding, the gravest first."""
    titles = {check.code: check.title for check in CHECKS}
    sections = [
        Section(
            titles.get(finding.code, finding.code.replace("-", " ").capitalize()),
            finding.sentence,
            finding.records,
            finding.severity,
        )
        for finding in audit.findings
    ]
    counts = [sum(f.severity == severity for f in audit.findings) for severity in ("error", "warning", "info")]
    dataset = dataset.originals
    lines = [
        f"{len(dataset):,} images in {len(dataset.classes)} classes, {len(audit.signatures):,} of them readable.",
        "Nothing found."
        if not audit.findings
        else f"Errors {counts[0]}, warnings {counts[1]}, for information {counts[2]}.",
    ]
    return contact_sheet(dataset, sections, f"Audit of {dataset.source.name}", lines)


def show_sheet(dataset: Dataset, per_class: int = 8, seed: int = 0) -> str:
    """Return a contact sheet with `per_class` pictures of every class, drawn by the seed, labels drawn on them."""
    rows = _rows(dataset, per_class, seed)
    sections = [Section(printable(row.heading), row.text, row.records, colour=row.colour) for row in rows]
    line = f"{len(dataset):,} images in {len(dataset.classes)} classes; {per_class} of each, drawn with seed {seed}."
    return contact_sheet(dataset, sections, dataset.source.name, [line], most=per_class)


def draw_per_class(dataset: Dataset, per_class: int, seed: int) -> dict[str, tuple[str, ...]]:
    """Return up to `per_class` ids of images with each of the first 100 classes, a function of ids and seed."""
    if per_class < 1:
        raise UsageError(f"a sheet needs at least 1 picture of each class, not {per_class}")
    table, drawn = presence(dataset), {}
    for place, name in enumerate(dataset.classes[:CLASSES]):
        drawn[name] = _drawn_ids(dataset, np.flatnonzero(table[:, place]), per_class, (seed, name))
    return drawn


def _drawn_ids(dataset: Dataset, rows: NDArray[np.intp], count: int, draw_of: tuple[int, str]) -> tuple[str, ...]:
    """Return up to `count` ids of the records at these places; `draw_of` is the seed and what is drawn."""
    pool = sorted(dataset.records[row].id for row in rows)
    order = generator(draw_of[0], "show", draw_of[1]).permutation(len(pool))[:count]
    return tuple(pool[i] for i in np.sort(order))


def _rows(dataset: Dataset, per_class: int, seed: int) -> list[Section]:
    """Return a section per class, and one of the images without any object; the bars tell of classes without images."""
    amounts = _amounts(dataset)
    rows = [
        Section(name, amounts[name], ids, colour=_colour(dataset, dataset.classes.index(name)))
        for name, ids in draw_per_class(dataset, per_class, seed).items()
        if ids or dataset.task == "classification"
    ]
    empty = ~presence(dataset).any(axis=1)
    if _boxed(dataset) and empty.any():
        ids = _drawn_ids(dataset, np.flatnonzero(empty), per_class, (seed, ""))
        rows.append(Section("without any object", plural(int(empty.sum()), "image"), ids))
    return rows


def _amounts(dataset: Dataset) -> dict[str, str]:
    """Say for each class how much there is of it."""
    images = image_counts(dataset)
    if dataset.task == "classification":
        return {name: plural(count, "image") for name, count in images.items()}
    if dataset.task == "semantic":
        shares = _shares(dataset)
        return {name: f"{_percent(shares[name])} in {plural(n, 'image')}" for name, n in images.items()}
    counts = dataset.counts()
    return {name: f"{plural(counts[name], 'object')} in {plural(n, 'image')}" for name, n in images.items()}


def _shares(dataset: Dataset) -> dict[str, float]:
    """Return each class's share of the labelled pixels."""
    pixels = label_maps(dataset).pixels.sum(axis=0)
    return dict(zip(dataset.classes, (pixels / max(pixels.sum(), 1)).tolist(), strict=True))


def _percent(share: float) -> str:
    """Write a share with as many digits as it needs.

    >>> _percent(0.314), _percent(0.0123), _percent(0.00007)
    ('31%', '1.2%', '0.007%')
    """
    return f"{100 * share:.0f}%" if share >= 0.1 else f"{100 * share:.2g}%"


def _colour(dataset: Dataset, index: int) -> Colour | None:
    """Return the colour that a class has on the pictures, if it has one."""
    single = dataset.task == "instance" and len(dataset.classes) == 1
    clear = dataset.task == "semantic" and is_clear(dataset.classes[index])
    return None if dataset.task == "classification" or single or clear else colour_of(index)


def _boxed(dataset: Dataset) -> bool:
    """Say whether a dataset has objects."""
    return dataset.task in ("detection", "instance")


@lru_cache(maxsize=1)
def _environment() -> Environment:
    """Return the templates of this room; everything put into them is escaped."""
    return Environment(loader=PackageLoader("bakeoff.data"), autoescape=True, trim_blocks=True)


def _bars(dataset: Dataset) -> list[dict[str, Any]]:
    """Return name, amount, colour and length of each class's bar."""
    counts: dict[str, float] = {**(_shares(dataset) if dataset.task == "semantic" else dataset.counts())}
    amounts = {name: f"{n:,}" for name, n in counts.items()} if dataset.task == "classification" else _amounts(dataset)
    most = max(counts.values(), default=1) or 1
    return [
        {
            "name": printable(name),
            "amount": amounts[name],
            "percent": 100 * counts[name] / most,
            "colour": _css(_colour(dataset, place)),
        }
        for place, name in enumerate(dataset.classes[:CLASSES])
    ]


def _css(colour: Colour | None) -> str:
    """Write a colour for a style sheet."""
    return "" if colour is None else "#{:02x}{:02x}{:02x}".format(*colour)


def _section(dataset: Dataset, section: Section, most: int, tiles: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return a section as the template takes it; `tiles` keeps pictures that are in several of them."""
    known = [id for id in section.records if id in dataset.index]  # unreadable ones may have been left out
    shown = known[:most]
    for id in shown:
        if id not in tiles:
            tiles[id] = _tile(dataset, dataset.records[dataset.index[id]])
    return {
        "heading": printable(section.heading),
        "text": printable(section.text),
        "severity": section.severity,
        "colour": _css(section.colour),
        "tiles": [tiles[id] for id in shown],
        "hidden": len(known) - len(shown),
    }


def _tile(dataset: Dataset, record: Record) -> dict[str, Any]:
    """Return one picture with its label and name, or the reason why there is none."""
    tile: dict[str, Any] = {"label": "", "name": printable(record.id), "image": ""}
    try:
        image = read_image(dataset, record)
    except UnreadableImage as error:
        label = printable(dataset.classes[record.label]) if isinstance(record.target, Label) else ""
        return {**tile, "label": label, "reason": printable(error.reason)}
    target, tile["label"] = _target(dataset, record)
    picture = _thumbnail(image, THUMBNAIL) if isinstance(target, Label) else _marked(dataset, image, target, DRAWN)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    tile["image"] = base64.b64encode(buffer.getvalue()).decode()
    return {**tile, "tiny": max(picture.size) < TINY}


def _target(dataset: Dataset, record: Record) -> tuple[Target | None, str]:
    """Return a target ready to be drawn, and what it holds in a few words."""
    try:
        target = loaded(dataset, record)
    except DataError:
        return None, "the mask cannot be read"
    if isinstance(target, Label):
        return target, printable(dataset.classes[target.index])
    if isinstance(target, LabelMap):
        pixels = np.bincount(target.pixels.ravel(), minlength=256)[: len(dataset.classes)]
        shares = pixels / max(target.pixels.size, 1)
        amounts = [(share, _percent(share)) for share in shares.tolist()]
    else:
        assert isinstance(target, Boxes), f"{record.id} has a target that is not read"
        counts = np.bincount(target.labels, minlength=len(dataset.classes)).tolist()
        amounts = [(count, f"{count:,}") for count in counts]
    order = sorted(range(len(amounts)), key=lambda place: -amounts[place][0])
    held = [f"{dataset.classes[place]} {amounts[place][1]}" for place in order if amounts[place][0]]
    return target, listed(held) or "nothing"


def _marked(dataset: Dataset, image: Pixels, target: Target | None, side: int) -> Image.Image:
    """Return a picture no larger than `side` with its target drawn on it, tiny ones enlarged in squares."""
    picture = _thumbnail(_enlarged(image, side), side)
    return picture if target is None else Image.fromarray(draw(np.asarray(picture), target, dataset.classes))


def _enlarged(image: Pixels, side: int) -> Pixels:
    """Return an image with every pixel as a square, as large as fits into `side`."""
    factor = max(1, side // max(image.shape[:2]))
    return image.repeat(factor, axis=0).repeat(factor, axis=1) if factor > 1 else image


def _thumbnail(image: Pixels, side: int) -> Image.Image:
    """Return a picture no larger than `side` pixels, in its own aspect ratio."""
    picture = Image.fromarray(image)
    picture.thumbnail((side, side), Image.Resampling.BICUBIC)
    return picture


# --- as one picture ---


def picture_sheet(dataset: Dataset, per_class: int = 8, seed: int = 0) -> Image.Image:
    """Return one picture: a row per class (the first 100) with `per_class` pictures under the class's name.

    Boxes, masks and label maps are drawn on the pictures; the mark before a name is the class's colour.
    """
    rows = _rows(dataset, per_class, seed)
    cell = CELL if dataset.task == "classification" else DRAWN_CELL
    height = cell + CAPTION + 4
    sheet = Image.new("RGB", (per_class * (cell + 4) + 4, len(rows) * height + 4), "white")
    pen, counts, left = ImageDraw.Draw(sheet), dataset.counts(), 6
    for number, row in enumerate(rows):
        amount = f"{counts[row.heading]:,}" if dataset.task == "classification" else row.text
        if row.colour is not None:
            pen.rectangle((6, number * height + 5, 16, number * height + 15), fill=row.colour)
            left = 22
        pen.text((left, number * height + 3), f"{printable(row.heading)}  ({amount})", fill="black", font=font())
        for column, id in enumerate(row.records):
            picture = picture_cell(dataset, dataset.records[dataset.index[id]], cell)
            sheet.paste(picture, (4 + column * (cell + 4), number * height + CAPTION + 4))
    return sheet


def picture_cell(dataset: Dataset, record: Record, side: int) -> Image.Image:
    """Return a square cell with the picture in its middle, tiny ones enlarged in squares; a cross when unreadable."""
    cell = Image.new("RGB", (side, side), (236, 238, 241))
    try:
        image = read_image(dataset, record)
    except UnreadableImage:
        pen = ImageDraw.Draw(cell)
        pen.line((0, 0, side, side), fill=(179, 38, 30), width=2)
        pen.line((0, side, side, 0), fill=(179, 38, 30), width=2)
        return cell
    target = None if isinstance(record.target, Label) else _target(dataset, record)[0]
    picture = _marked(dataset, image, target, side)
    cell.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return cell
