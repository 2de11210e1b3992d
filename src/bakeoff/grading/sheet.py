"""A CSV table or JSON lines as rows that know where they stand, whatever program wrote them."""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from bakeoff.data.formats.rows import examples
from bakeoff.errors import DataError, nearest
from bakeoff.predict.output import CORNERS, FORMULA

SUFFIXES = (".csv", ".tsv", ".jsonl")
COLUMNS: Mapping[str, tuple[str, ...]] = {  # our name -> what a header may call it, in any case
    "id": ("id", "path", "image", "image_id", "imageid", "img", "file", "filename", "file_name"),
    "label": ("label", "class", "category", "class_id", "classid", "class_name"),
    "score": ("score", "confidence"),
    "rle": ("rle", "encodedpixels", "rle_mask", "mask_rle"),
    "x1": ("x1", "xmin"),
    "y1": ("y1", "ymin"),
    "x2": ("x2", "xmax"),
    "y2": ("y2", "ymax"),
    "width": ("width",),
    "height": ("height",),
    "group": ("group",),
    "error": ("error",),
    "pixels": ("pixels",),
}
BESIDE = ("probability", "split", "usage", "share", "mask", "overlay")  # columns that are read by nobody here
SCORE = "score:"  # before the name of a class: the column of its probability


@dataclass(frozen=True)
class Row:
    """One line: `where` names file and line for messages, `cells` are its filled cells by our names of columns."""

    where: str
    cells: Mapping[str, Any]

    def text(self, column: str) -> str:
        """Return a cell as text, "" where there is none."""
        return str(self.cells.get(column, ""))


@dataclass(frozen=True)
class Sheet:
    """A table: `columns` by our names, `others` the header's own names of all other columns."""

    path: Path
    columns: frozenset[str]
    others: tuple[str, ...]
    rows: tuple[Row, ...]

    def need(self, column: str) -> None:
        """Raise DataError when a column is not there."""
        if column not in self.columns:
            found = [*sorted(self.columns), *self.others]
            known = COLUMNS[column]
            hint = next((text for name in known if (text := nearest(name, self.others))), "")
            raise DataError(
                f"{self.path}: the header lacks a column {' or '.join(known[:3])}{hint}; it has {examples(found, 10)}"
            )


def read_sheet(path: Path) -> Sheet:
    """Read a .csv, .tsv (comma, semicolon or tab, with or without BOM, any line ends) or .jsonl file.

    Raises DataError naming the line for damage, a column twice, and a row of another length than the header.
    """
    lines = list(_json_lines(path) if path.suffix.lower() == ".jsonl" else _csv_lines(path))
    if not lines:
        raise DataError(f"{path}: has no rows")
    header = list(dict.fromkeys(name for _, cells in lines for name in cells))
    place = {name: ours for name in header if (ours := _ours(name)) is not None}
    twice = [ours for ours, count in Counter(place.values()).items() if count > 1]
    if twice:
        names = examples(name for name, ours in place.items() if ours == twice[0])
        raise DataError(f"{path}: the columns {names} mean the same: leave one")
    rows = tuple(
        Row(f"{path}, line {number}", {place.get(name, name): cell for name, cell in cells.items() if cell != ""})
        for number, cells in lines
    )
    others = tuple(name for name in header if name not in place and name.casefold() not in BESIDE)
    return Sheet(path, frozenset(place.values()), others, rows)


def columns_of(path: Path) -> frozenset[str]:
    """Return which of our columns a table of any sort has, read from its first row; none when it cannot be read."""
    try:
        first = next(iter(_json_lines(path) if path.suffix.lower() == ".jsonl" else _csv_lines(path)), None)
    except DataError:
        return frozenset()
    return frozenset() if first is None else frozenset(ours for name in first[1] if (ours := _ours(name)))


def _ours(name: str) -> str | None:
    """Return our name of a column, None for one that we have no name for."""
    lowered = name.strip().casefold()
    return next((ours for ours, names in COLUMNS.items() if lowered in names), None)


def _csv_lines(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the line number and the cells of every row by the header's names."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream, _long_cells():
            first = stream.readline()
            stream.seek(0)
            mark = max(",;\t", key=lambda mark: len(next(csv.reader([first], delimiter=mark), [])))
            reader = csv.reader(stream, delimiter=mark, strict=True)
            header = [_plain(cell) for cell in next(reader, [])]
            _refuse_twice(path, header)
            for row in reader:
                if len(row) != len(header) and row:
                    lengths = f"{len(row)} cells, the header has {len(header)}"
                    raise DataError(f"{path}, line {reader.line_num}: {lengths}")
                if row:
                    yield reader.line_num, dict(zip(header, map(_plain, row), strict=True))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except csv.Error as error:
        raise DataError(f"{path}: not a CSV table: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


@contextmanager
def _long_cells() -> Iterator[None]:
    """Let a cell be as long as it likes: the run lengths of a large mask pass the library's limit."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _refuse_twice(path: Path, header: Iterable[str]) -> None:
    """Raise DataError for a column that the header names twice."""
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise DataError(f"{path}: the header has the column {twice[0]!r} more than once")


def _plain(cell: str) -> str:
    """Return a cell without space around it, and without the apostrophe that keeps spreadsheets from running it."""
    cell = cell.strip()
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(FORMULA) else cell


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield line number and cells for every object in a file of JSON lines; scores and objects are spread out."""
    try:
        with path.open(encoding="utf-8-sig") as stream:
            for number, line in enumerate(stream, 1):
                if not line.strip():
                    continue
                content = json.loads(line, parse_constant=_refuse)
                if not isinstance(content, dict):
                    raise DataError(f"{path}, line {number}: expected an object, found {type(content).__name__}")
                yield from ((number, cells) for cells in _spread(content, f"{path}, line {number}"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: damaged JSON lines: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def _refuse(text: str) -> NoReturn:
    """Refuse NaN and the infinities, which are not JSON."""
    raise ValueError(f"{text} is not a JSON number; correct it")


def _spread(content: dict[str, Any], where: str) -> Iterator[dict[str, Any]]:
    """Yield one object of a file of JSON lines as the rows that the same predictions have as CSV."""
    lists = [content[key] for key in ("objects", "classes") if key in content]
    flat = {key: value for key, value in content.items() if isinstance(value, str | int | float)}
    scores = content.get("scores") or {}
    if not isinstance(scores, dict) or not all(isinstance(one, list) for one in lists):
        raise DataError(f"{where}: scores must be an object, and objects a list")
    if not lists:
        yield flat | {SCORE + name: value for name, value in scores.items()}
        return
    for one in lists[0]:
        if not isinstance(one, dict):
            raise DataError(f"{where}: objects must be a list of objects")
        box = dict(zip(CORNERS, one.get("box") or (), strict=False))
        mask = {"rle": one["mask"]} if one.get("mask") else {}
        yield flat | {key: value for key, value in one.items() if isinstance(value, str | int | float)} | box | mask
    if not lists[0]:
        yield flat | {"label": ""}
