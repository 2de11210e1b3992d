"""An entry as one picture: the image, what each method makes of it, the checks in words below; and a survey as one."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from bakeoff.data.draw import draw, font
from bakeoff.data.targets import Boxes, LabelMap
from bakeoff.explain.explainer import Explanation
from bakeoff.explain.explaining import Answer, Explained
from bakeoff.explain.paint import Pixels, overlaid
from bakeoff.explain.subject import Subject
from bakeoff.explain.survey import Survey, told
from bakeoff.findings import printable

TILE, GAP, SEAM = 320, 12, 4  # pixels
TITLE, TEXT = 15, 12  # sizes of letters
COLUMNS = 46  # letters of a line below a tile
LINE = 17  # pixels from line to line
INK, PALE, WARNING = (20, 20, 20), (90, 90, 90), (190, 20, 20)
Tile = tuple[str, Pixels, str, bool]  # title, picture, words, whether they are a warning


def sheet(entry: Explained) -> Image.Image:
    """Return the picture of an entry without an error."""
    return page_of(tiles_of(entry))


def survey_sheet(survey: Survey) -> Image.Image:
    """Return the picture of a survey: of every channel its reconstructions, where there are any, and its patches."""
    tiles: list[Tile] = []
    for channel, seen in survey.channels.items():
        title, patterns = f"Channel {channel}", [one.pattern for one in seen if one.pattern is not None]
        if patterns:
            tiles.append((title, mosaic(patterns), "what made it strong: the deconvnet, around grey", False))
        tiles.append((title, mosaic([one.patch for one in seen]), f"what it saw: {told(seen)}", False))
    return page_of(tiles)


def mosaic(pictures: Sequence[Pixels]) -> Pixels:
    """Lay up to nine pictures in three rows, all on one scale, each in the middle of its cell."""
    page = Image.new("RGB", (TILE, TILE), "white")
    cell = (TILE - 2 * SEAM) // 3
    scale = cell / max((max(picture.shape[:2]) for picture in pictures), default=1)
    for place, pixels in enumerate(pictures):
        picture = _scaled(pixels, scale)
        left, top = ((place % 3) * (cell + SEAM), (place // 3) * (cell + SEAM))
        page.paste(picture, (left + (cell - picture.width) // 2, top + (cell - picture.height) // 2))
    return np.asarray(page)


def page_of(tiles: Sequence[Tile]) -> Image.Image:
    """Return a page of tiles side by side in rows of four."""
    across = min(4, len(tiles))
    rows = [tiles[start : start + across] for start in range(0, len(tiles), across)]
    heights = [2 * GAP + LINE + TILE + LINE * max(len(_lines(words)) for _, _, words, _ in row) for row in rows]
    page = Image.new("RGB", (across * (TILE + GAP) + GAP, sum(heights) + GAP), "white")
    top = GAP
    for row, height in zip(rows, heights, strict=True):
        for column, tile in enumerate(row):
            _place(page, tile, (GAP + column * (TILE + GAP), top))
        top += height
    return page


def tiles_of(entry: Explained) -> list[Tile]:
    """Return the tiles of an entry: the image with the subject, maps over it, and pictures.

    A method that does not apply has none.
    """
    assert entry.pixels is not None
    assert entry.subject is not None
    found = entry.subject
    kind = {"classification": "", "semantic": "its pixels: "}.get(found.task, "object: ")
    name = textwrap.shorten(printable(found.label), 32, placeholder="…")
    tiles: list[Tile] = [(f"{kind}{name}", drawn(entry.pixels, found), f"probability {found.probability:.2f}", False)]
    for one in entry.methods:
        tiles += _method_tiles(entry.pixels, one.found, one) if one.found is not None else []
    return tiles


def _method_tiles(pixels: Pixels, found: Explanation, one: Answer) -> list[Tile]:
    """Return the tiles of one method: its map, then its pictures."""
    tiles: list[Tile] = []
    if found.map is not None:
        doubtful = one.check is None or not one.check.depends
        tiles.append((one.title, overlaid(pixels, found), one.words, doubtful))
    for picture in found.pictures:
        words = picture.caption if tiles else f"{picture.caption}; {one.words}".rstrip("; ")
        tiles.append((one.title, picture.pixels, words, False))
    return tiles


def drawn(pixels: Pixels, found: Subject) -> Pixels:
    """Draw the subject on the image: an object's box, or a veil over the pixels of the class."""
    side = pixels.shape[0]
    if found.box is not None:
        return draw(pixels, Boxes((side, side), np.array([found.box]), np.zeros(1, np.int64)), (found.label,))
    if found.region is not None:
        region = found.region.cpu().numpy().astype(np.uint8)
        return draw(pixels, LabelMap(region), ("background", found.label))
    return pixels


def _place(page: Image.Image, tile: Tile, corner: tuple[int, int]) -> None:
    """Put a tile onto the page."""
    title, pixels, words, warns = tile
    (left, top), pen = corner, ImageDraw.Draw(page)
    pen.text((left, top), title, fill=INK, font=font(TITLE))
    page.paste(_scaled(pixels, TILE / max(pixels.shape[:2])), (left, top + LINE + GAP // 2))
    for row, line in enumerate(_lines(words)):
        pen.text((left, top + LINE + TILE + GAP + row * LINE), line, fill=WARNING if warns else PALE, font=font(TEXT))


def _scaled(pixels: Pixels, scale: float) -> Image.Image:
    """Return a picture in another size; the pixels of small ones stay squares."""
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS)


def _lines(words: str) -> list[str]:
    """Break words into lines."""
    return textwrap.wrap(printable(words), COLUMNS) or [""]
