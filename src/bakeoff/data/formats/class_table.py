"""Tables of class names beside label maps: which raw value, or which colour, means which class."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from bakeoff.data.formats.listing import names_in
from bakeoff.data.formats.rows import class_name, examples
from bakeoff.errors import DataError, UsageError, nearest

NAMES = re.compile(
    r"(class(es)?|class_?(dict|names)|categories|labels?|label_?(names|map|colors|colours)|id2label|names)"
    r"\.(txt|csv|json|ya?ml)",
    re.IGNORECASE,
)  # of files that are looked for
GENERAL = re.compile(r"(data|dataset|config)\.ya?ml", re.IGNORECASE)  # and these, when they list classes
MAX_BYTES = 4 << 20
VALUE = ("value", "id", "index", "class_id", "label_id", "pixel", "pixel_value", "code")
NAME = ("name", "class", "class_name", "label", "category")
CHANNELS = (("r", "red"), ("g", "green"), ("b", "blue"))
OF_IMAGES = ("path", "image", "image_path", "image_id", "file", "file_name", "filename")  # of a table of images
COLOUR = ("color", "colour", "rgb", "color_hex_code", "hex")
LISTS = ("names", "classes", "categories", "labels", "id2label")  # keys under which JSON and YAML keep the table
CVAT = re.compile(r"(?P<name>[^:#]+):(?P<colour>\d+,\d+,\d+):.*")  # labelmap.txt
PAINT = re.compile(r"(?P<colour>\d+\s+\d+\s+\d+)\s+(?P<name>.*\S)")  # CamVid's label_colors.txt
NUMBERED = re.compile(r"(?P<value>\d+)\s*[:=,\s]\s*(?P<name>.*\S)")


@dataclass(frozen=True)
class Entry:
    """A class: its name, the raw value of its pixels (the row's place where none is stated) and its 24-bit colour."""

    name: str
    value: int
    colour: int | None = None


@dataclass(frozen=True)
class ClassTable:
    """The rows of a table; `stated`: the values are written in it, not counted off.  Names may repeat."""

    file: Path
    entries: tuple[Entry, ...]
    stated: bool

    @property
    def coloured(self) -> bool:
        """Say whether every class has a colour."""
        return all(entry.colour is not None for entry in self.entries)


def find_table(folders: Iterable[Path], given: str | None) -> ClassTable | None:
    """Return the table that was named, else the one that lies in the first of these folders that has one.

    A name is looked up as it is, then in the folders.  Raises UsageError when it is not there, DataError when it, or
    a found one, is damaged, and when a folder has two.
    """
    folders = list(folders)
    if given is not None:
        for file in (Path(given), *(folder / given for folder in folders)):
            if file.is_file():
                return read_table(file)
        beside = [name for folder in folders for name in names_in(folder)]
        raise UsageError(f"{given}: no such table of classes{nearest(given, beside)}")
    for folder in folders:
        tables = [table for name in names_in(folder) if _fits(name) if (table := _maybe(folder / name))]
        if len({table.entries for table in tables}) > 1:
            names = examples(table.file.name for table in tables)
            raise DataError(
                f"{folder}: {names} are different tables of classes: say which one with --set data.classes=FILE"
            )
        if tables:
            return tables[0]
    return None


def _fits(name: str) -> bool:
    """Say whether a file may be a table of classes by its name."""
    return bool(NAMES.fullmatch(name) or GENERAL.fullmatch(name))


def read_table(file: Path) -> ClassTable:
    """Read a table: text with one name a line, CSV, JSON or YAML.  Raises DataError.

    .txt   `sky` (the line's number is the value), `3: sky`, CVAT's `sky:70,130,180::`, CamVid's `70 130 180 sky`
    .csv   columns value, name; name, r, g, b; with or without a header
    .json .yaml   a list of names, {"0": "sky"}, {"sky": 0}, {"sky": [70, 130, 180]}, a list of {"id", "name",
           "color"}, or one of these under `names`, `classes`, `categories` or `id2label`
    """
    table = _maybe(file)
    if table is None:
        raise DataError(f"{file}: lists no classes; expected one name a line, or columns value and name")
    return table


def _maybe(file: Path) -> ClassTable | None:
    """Read a table, or return None for a file that has something else in it."""
    text = _text(file)
    try:
        if file.suffix.lower() == ".txt":
            rows = list(_from_lines(text))
        elif file.suffix.lower() == ".csv":
            rows = list(_from_cells(list(csv.reader(io.StringIO(text, newline="")))))
        else:
            content = _parsed(file, text)
            rows = list(_from_content(content)) if _lists_classes(file, content) else []
    except (ValueError, TypeError, csv.Error, yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{file}: not a table of classes: {error}") from None
    return _table(file, rows) if rows else None


def _table(file: Path, rows: list[tuple[str, int | None, int | None]]) -> ClassTable:
    """Count off the values that are not stated, and refuse what is double."""
    stated = all(value is not None for _, value, _ in rows)
    entries = tuple(
        Entry(class_name(name), place if value is None or not stated else value, colour)
        for place, (name, value, colour) in enumerate(rows)
    )
    nameless = [str(entry.value) for entry in entries if not entry.name]
    if nameless:
        raise DataError(f"{file}: the classes {examples(nameless)} have no name")
    for what in ("value", "colour"):
        marks = sorted(mark for entry in entries if (mark := getattr(entry, what)) is not None)
        double = {a for a, b in pairwise(marks) if a == b}
        if double:
            shown = [f"#{mark:06x}" if what == "colour" else str(mark) for mark in sorted(double)]
            raise DataError(f"{file}: the {what} {examples(shown)} stands for two classes: remove one")
    return ClassTable(file, entries, stated)


def _text(file: Path) -> str:
    """Return the content of a small text file."""
    try:
        if file.stat().st_size > MAX_BYTES:
            raise DataError(f"{file}: larger than {MAX_BYTES >> 20} MB, which no table of classes is")
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 text: {error.reason} at byte {error.start}") from None
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from None


Row = tuple[str, int | None, int | None]  # name, value, colour


def _from_lines(text: str) -> Iterator[Row]:
    """Read a text file: all its lines are of one kind, and plain names if they are of no other."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    for form in (CVAT, PAINT, NUMBERED):
        matches = [match for line in lines if (match := form.fullmatch(line))]
        if len(matches) == len(lines):
            for match in matches:
                found = match.groupdict()
                value = int(found["value"]) if "value" in found else None
                yield found["name"], value, _colour(found.get("colour"))
            return
    yield from ((line, None, None) for line in lines)


def _from_cells(cells: list[list[str]]) -> Iterator[Row]:
    """Read the rows of a CSV, whose columns a header names or their number tells."""
    rows = [[cell.strip() for cell in row] for row in cells if any(cell.strip() for cell in row)]
    if not rows:
        return
    header = [cell.casefold() for cell in rows[0]]
    if set(header) & set(OF_IMAGES):
        return
    name = next((header.index(key) for key in NAME if key in header), None)
    if name is not None:
        yield from (_row(dict(zip(header, row, strict=False)), row[name]) for row in rows[1:])
    elif len(header) == 2:
        flipped = not all(row[0].isdigit() for row in rows)
        yield from ((row[0], int(row[1]), None) if flipped else (row[1], int(row[0]), None) for row in rows)
    elif len(header) == 4:
        yield from ((row[0], None, _colour(row[1:])) for row in rows)
    else:
        raise ValueError(f"its columns are {', '.join(rows[0])}; expected value, name or name, r, g, b")


def _row(cells: Mapping[str, Any], name: str) -> Row:
    """Read a row whose columns, or keys, have names."""
    value = next((cells[key] for key in VALUE if cells.get(key) not in (None, "")), None)
    channels = [next((cells[key] for key in keys if key in cells), None) for keys in CHANNELS]
    colour = next((cells[key] for key in COLOUR if cells.get(key)), channels if None not in channels else None)
    return name, None if value is None else int(value), _colour(colour)


def _parsed(file: Path, text: str) -> Any:
    """Parse JSON or YAML; in YAML every scalar stays text, so that `no` and `012` remain names."""
    if file.suffix.lower() == ".json":
        return json.loads(text, object_pairs_hook=_unique)
    return yaml.load(text, yaml.BaseLoader)  # builds text, lists and dictionaries only


def _lists_classes(file: Path, content: Any) -> bool:
    """Say whether a file of a general name (data.yaml, config.yaml), which may hold anything, lists classes."""
    if not GENERAL.fullmatch(file.name):
        return True
    return isinstance(content, dict) and any(isinstance(content.get(key), dict | list) for key in LISTS)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse keys that stand twice in one object, which json keeps silent about."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(f"a key appears twice among {examples(key for key, _ in pairs)}")
    return found


def _from_content(content: Any) -> Iterator[Row]:
    """Read a list or dictionary in any of the usual forms."""
    if isinstance(content, dict):
        inner = next((content[key] for key in LISTS if isinstance(content.get(key), dict | list)), None)
        if inner is not None:
            yield from _from_content(inner)
            return
        for key, item in content.items():
            yield from _from_pair(key, item)
    elif isinstance(content, list):
        for item in content:
            if isinstance(item, dict):
                yield _row(item, next(str(item[key]) for key in NAME if key in item))
            else:
                yield str(item), None, None


def _from_pair(key: str, item: Any) -> Iterator[Row]:
    """Read `"0": "sky"`, `"sky": 0` or `"sky": [70, 130, 180]`; anything else is not of a table."""
    if isinstance(item, list) and len(item) == 3:
        yield key, None, _colour(item)
    elif key.isdigit() and isinstance(item, str):
        yield item, int(key), None
    elif str(item).isdigit():
        yield key, int(item), None


def _colour(given: Any) -> int | None:
    """Return a colour as 24 bits from "70,130,180", "#4682b4" or three numbers."""
    if given is None:
        return None
    if isinstance(given, str):
        if re.fullmatch("#?[0-9a-fA-F]{6}", given.strip()) and not given.strip().isdigit():
            return int(given.strip().lstrip("#"), 16)
        given = re.split(r"[\s,]+", given.strip(" ()[]"))
    red, green, blue = (int(channel) for channel in given)
    if not all(0 <= channel <= 255 for channel in (red, green, blue)):
        raise ValueError(f"the colour {red}, {green}, {blue} is not between 0 and 255")
    return red << 16 | green << 8 | blue
