"""A contact sheet of an expanded dataset: originals beside what was made of them."""

from __future__ import annotations

from collections import defaultdict
from itertools import zip_longest

from PIL import Image, ImageDraw

from bakeoff.data.dataset import Dataset, Record
from bakeoff.data.draw import font
from bakeoff.data.sheet import picture_cell
from bakeoff.findings import plural, printable
from bakeoff.seeds import generator

SIDE, GAP, CAPTION, HEADING = 112, 4, 18, 26  # pixels
MOST = 24  # examples of a method
ACROSS = 12  # pictures


def expansion_sheet(dataset: Dataset, seed: int = 0) -> Image.Image:
    """Return one picture: for each method some of its images, spread over the classes, each after its originals."""
    blocks = [_block(dataset, method, _examples(dataset, method, seed)) for method in dataset.methods]
    sheet = Image.new("RGB", (max(b.width for b in blocks), sum(b.height for b in blocks)), "white")
    top = 0
    for block in blocks:
        sheet.paste(block, (0, top))
        top += block.height
    return sheet


def _examples(dataset: Dataset, method: str, seed: int) -> list[Record]:
    """Return up to MOST images of a method: one of each class in turn."""
    made = [record for record in dataset.records if record.derived and record.derived.by == method]
    classes: defaultdict[int, list[Record]] = defaultdict(list)
    for place in generator(seed, "sheet", method).permutation(len(made)):
        classes[made[place].label].append(made[place])
    turns = zip_longest(*classes.values())
    return [record for turn in turns for record in turn if record is not None][:MOST]


def _block(dataset: Dataset, method: str, records: list[Record]) -> Image.Image:
    """Return the part of the sheet that shows one method."""
    groups = [(*(record.derived.of if record.derived else ()), record.id) for record in records]
    pictures = max(len(group) for group in groups)
    columns = max(1, ACROSS // pictures)
    wide, high = pictures * (SIDE + GAP) + 3 * GAP, SIDE + CAPTION + GAP
    lines = -(-len(groups) // columns)
    block = Image.new("RGB", (columns * wide + GAP, HEADING + lines * high), "white")
    pen = ImageDraw.Draw(block)
    title = (
        f"{printable(method)}: {plural(dataset.methods[method], 'image')}; originals first, what was made of them last"
    )
    pen.text((GAP, 4), title, fill="black", font=font(14))
    for number, group in enumerate(groups):
        left, top = GAP + number % columns * wide, HEADING + number // columns * high
        name = printable(dataset.classes[records[number].label])
        pen.text((left, top + 2), name[: wide // 8], fill="black", font=font())
        for place, id in enumerate(group):
            picture = picture_cell(dataset, dataset.records[dataset.index[id]], SIDE)
            block.paste(picture, (left + place * (SIDE + GAP), top + CAPTION))
    return block
