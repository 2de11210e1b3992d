"""A CSV or Parquet table with one row for each image: path, label, optional group, optional split.

An image that was made from others (offline expansion) has two more cells: `derived_by` names the method, `derived_from`
the paths of its originals, separated by |.  What was done stands in lineage.json beside such a table.
"""

from __future__ import annotations

import csv
import io
import os
import posixpath
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bakeoff.data.dataset import Dataset, Derived, Record, TaskName
from bakeoff.data.formats.listing import names_in
from bakeoff.data.formats.rows import SPLITS, UNLABELLED, Options, Row, assemble, examples, split_name
from bakeoff.data.formats.target import new_folder, places, put
from bakeoff.errors import DataError, UsageError, nearest
from bakeoff.files import read_json, write_json

NAME = "table"
TASKS: tuple[TaskName, ...] = ("classification",)
EXPECTS = "a .csv, .tsv or .parquet file (or a folder with one such file) with columns path and label"
COLUMNS = {"image": ("path", "image", "file", "filename"), "label": ("label", "class"), "group": ("group",)}
COLUMNS |= {name: (name,) for name in ("split", "derived_by", "derived_from")}
LINEAGE = "lineage.json"
SUFFIXES = (".csv", ".tsv", ".parquet")
UNNAMED = "have no label: fill the label column in, or take labels from file names with --label-from"


@dataclass(frozen=True)
class Table:
    """The cells of a table as text: `rows` hold one mapping of our column names each, empty cells left out."""

    path: Path
    columns: frozenset[str]
    header: tuple[str, ...]
    rows: tuple[Mapping[str, str], ...]

    def where(self, positions: Iterable[int]) -> str:
        """Name rows by position: by their number, counted from 1 below the header, and their image."""
        return examples(f"row {i + 1} ({self.rows[i].get('image', 'no path')})" for i in positions)


def sniff(path: Path) -> str | None:
    """Say why this is a table of images, or None: a folder needs exactly one file with both columns."""
    if path.is_file():
        return f"a {path.suffix} file" if path.suffix.lower() in SUFFIXES else None
    tables = _tables_in(path)
    return f"the only table with columns for path and label is {tables[0]}" if len(tables) == 1 else None


def read(path: Path, options: Options) -> Dataset:
    """Read a table; paths are relative to it, labels are text ("012" stays "012"), splits may use their synonyms.

    Raises DataError for missing columns, rows without path or label, missing images, and an image named twice.
    """
    file = path
    if path.is_dir():
        tables = _tables_in(path)
        if len(tables) != 1:
            found = f"{len(tables)} of them: {examples(tables)}; name the file" if tables else "none"
            raise DataError(f"{path}: expected one table with columns path and label, found {found}")
        file = path / tables[0]
    table = _load(file)
    needed = {"image"} if options.label_from else {"image", "label"}
    for column in sorted(needed - table.columns):
        names = " or ".join(COLUMNS[column])
        raise DataError(f"{file}: no column {names}; found {examples(table.header, 20)}")
    images = _images(table)
    rows = [_row(table, position, image) for position, image in enumerate(images)]
    dataset = assemble(file.parent, rows, NAME, options, [], UNNAMED)
    return _with_lineage(dataset, file) if dataset.methods else dataset


def write(dataset: Dataset, path: Path) -> None:
    """Write a new folder with images/ and dataset.csv; `path` may also name the .csv or .parquet file in it."""
    file = path if path.suffix.lower() in SUFFIXES else path / "dataset.csv"
    if file == path and file.parent.is_dir() and any(file.parent.iterdir()):
        example = file.with_suffix("") / file.name
        raise UsageError(
            f"{path}: a table is written with its images beside it, and the folder {file.parent} is not empty; "
            f"name a new folder, {file.with_suffix('')}, or a file in one, {example}"
        )
    with new_folder(file.parent) as root:
        chosen = places(dataset, lambda _: "images")
        for record in dataset.records:
            put(dataset, record, root / chosen[record.id])
        write_rows(dataset, root / file.name, chosen)


def write_rows(dataset: Dataset, file: Path, chosen: Mapping[str, str]) -> None:
    """Write the table of images that lie beside it, and lineage.json for derived ones; `chosen`: id -> path."""
    optional = [name for name in ("group", "split") if any(getattr(r, name) is not None for r in dataset.records)]
    header = ["path", "label", *optional, *(("derived_by", "derived_from") if dataset.methods else ())]
    rows = []
    for record in dataset.records:
        cells = [chosen[record.id], dataset.classes[record.label], *(getattr(record, name) or "" for name in optional)]
        made = record.derived
        if dataset.methods:
            cells += [made.by, _joined(chosen[id] for id in made.of)] if made else ["", ""]
        rows.append(cells)
    _save(file, header, rows)
    if dataset.methods:
        write_json(file.parent / LINEAGE, {"lineage": list(dataset.lineage)})


def _tables_in(folder: Path) -> list[str]:
    """Return the files of a folder that have columns for path and label."""
    found = []
    for name in names_in(folder):
        if os.path.splitext(name)[1].lower() in SUFFIXES:
            try:
                header = _header(folder / name)
            except (DataError, UsageError):
                continue  # some other file: reading it by name says what is wrong
            if {"image", "label"} <= set(_place(header)):
                found.append(name)
    return found


def _place(header: Sequence[str]) -> dict[str, int]:
    """Find our columns in a header: our name -> position."""
    lowered = [name.strip().lower() for name in header]
    found = {}
    for ours, names in COLUMNS.items():
        known = [name for name in names if name in lowered]
        if known:
            found[ours] = lowered.index(known[0])
    return found


def _header(file: Path) -> list[str]:
    """Return the column names of a table."""
    if file.suffix.lower() == ".parquet":
        return list(_parquet().read_schema(file).names) if _is_parquet(file) else []
    return next(iter(_csv(file, 1)), [])


def _load(file: Path) -> Table:
    """Read a whole table as text."""
    if file.suffix.lower() == ".parquet":
        header, cells = _load_parquet(file)
    else:
        header, *cells = _csv(file) or [[]]
        wrong = [number for number, row in enumerate(cells, 2) if len(row) != len(header)]
        if wrong:
            lines = examples(str(number) for number in wrong)
            raise DataError(f"{file}: {len(wrong)} lines do not have {len(header)} cells as the header has: {lines}")
    place = _place(header)
    repeated = [name for name, count in Counter(h.strip().lower() for h in header).items() if count > 1]
    if set(repeated) & {name for names in COLUMNS.values() for name in names}:
        raise DataError(f"{file}: column {examples(repeated)} appears more than once")
    rows = tuple({ours: row[i].strip() for ours, i in place.items() if row[i].strip()} for row in cells)
    if not rows:
        raise DataError(f"{file}: the table has no rows")
    return Table(file, frozenset(place), tuple(header), rows)


def _csv(file: Path, lines: int | None = None) -> list[list[str]]:
    """Read the rows of a CSV file, or the first few; the delimiter (, ; tab) is the one that finds our columns."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            first = stream.readline()
            stream.seek(0)
            delimiter = max(",;\t", key=lambda mark: len(_place(next(csv.reader([first], delimiter=mark), []))))
            rows = []
            for row in csv.reader(stream, delimiter=delimiter, strict=True):
                rows += [row] if row else []
                if len(rows) == lines:
                    break
            return rows
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except csv.Error as error:
        raise DataError(f"{file}: not a CSV table: {error}") from None
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from None


def _load_parquet(file: Path) -> tuple[list[str], list[list[str]]]:
    """Read a Parquet file as header and rows of text; whole numbers stay whole, missing values become empty."""
    if not _is_parquet(file):
        raise DataError(f"{file}: not a Parquet file (it does not begin with PAR1)")
    parquet = _parquet()
    try:
        header = list(parquet.read_schema(file).names)
        chosen = [header[i] for i in _place(header).values()]
        table = parquet.read_table(file, columns=chosen)
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError) as error:  # bases of pyarrow's errors
        raise DataError(f"{file}: damaged Parquet file: {error}") from None
    columns = {name: [_text(value) for value in table.column(name).to_pylist()] for name in chosen}
    blank = [""] * table.num_rows
    return header, [list(row) for row in zip(*(columns.get(name, blank) for name in header), strict=True)]


def _text(value: object) -> str:
    """Return a Parquet value as text; a whole number that became a float (beside missing values) is whole again."""
    if value is None or value != value:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _is_parquet(file: Path) -> bool:
    """Say whether a file begins as Parquet files do."""
    try:
        with file.open("rb") as stream:
            return stream.read(4) == b"PAR1"
    except OSError:
        return False


def _parquet() -> Any:
    """Import pyarrow.parquet, which is an extra."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise UsageError("Parquet tables need pyarrow: pip install 'bakeoff[parquet]'; or save a CSV") from None
    return pyarrow.parquet


def _images(table: Table) -> list[str]:
    """Return each row's image as a POSIX path relative to the table.  Raises DataError naming rows."""
    empty = [i for i, row in enumerate(table.rows) if "image" not in row]
    if empty:
        raise DataError(f"{table.path}: {len(empty)} rows have no image path: {table.where(empty)}")
    folder = table.path.parent
    images = [_relative(folder, row["image"]) for row in table.rows]
    absent = [i for i, image in enumerate(images) if not os.path.isfile(folder / image)]
    if absent:
        where = f"{len(absent)} of {len(images)} images are not there: {table.where(absent)}"
        raise DataError(f"{table.path}: {where}; paths are relative to {folder}")
    counts = Counter(images)
    twice = [i for i, image in enumerate(images) if counts[image] > 1]
    if twice:
        raise DataError(f"{table.path}: {len(twice)} rows name an image that another row names: {table.where(twice)}")
    return images


def _relative(folder: Path, text: str) -> str:
    """Return a path cell as a POSIX path below the folder; Windows separators and absolute paths are understood."""
    if "\\" in text and "/" not in text:
        text = text.replace("\\", "/")
    return posixpath.normpath(os.path.relpath(text, folder) if os.path.isabs(text) else text)


def _row(table: Table, position: int, image: str) -> Row:
    """Return the record and label of one row."""
    cells = table.rows[position]
    text = cells.get("split")
    split = split_name(text) if text else None
    if text and split is None:
        known = f"expected train, val or test{nearest(text.lower(), SPLITS)}"
        raise DataError(f"{table.path}: {table.where([position])}: unknown split {text!r}; {known}")
    made = _derived(table, position)
    return Record(image, image, UNLABELLED, cells.get("group"), split, derived=made), cells.get("label")


def _derived(table: Table, position: int) -> Derived | None:
    """Return how the image of a row was made; a row needs both cells or none."""
    by, of = (table.rows[position].get(name) for name in ("derived_by", "derived_from"))
    if by and of:
        return Derived(by, tuple(_relative(table.path.parent, path) for path in next(csv.reader([of], delimiter="|"))))
    if by or of:
        lacking = "derived_from" if by else "derived_by"
        raise DataError(f"{table.path}: {table.where([position])}: a derived image needs {lacking} too: fill it in")
    return None


def _joined(paths: Iterable[str]) -> str:
    """Return paths as one cell."""
    cell = io.StringIO()
    csv.writer(cell, delimiter="|", lineterminator="").writerow(paths)
    return cell.getvalue()


def _with_lineage(dataset: Dataset, file: Path) -> Dataset:
    """Add what was done; refuse derived images whose originals are not there, are derived too or of another class."""
    originals = dataset.originals.index
    for record in dataset.records:
        for id in record.derived.of if record.derived else ():
            where = f"{file}: {record.id} is derived from {id}, which"
            if id not in originals:
                known = "is derived itself" if id in dataset.index else f"is not there{nearest(id, originals)}"
                raise DataError(f"{where} {known}; name original images, or remove the row")
            label = dataset.records[dataset.index[id]].label
            if label != record.label:
                names = f"{dataset.classes[label]!r}, not {dataset.classes[record.label]!r}"
                raise DataError(f"{where} is of the class {names}: correct the label")
    stored = file.parent / LINEAGE
    content = read_json(stored) if stored.exists() else {}
    notes = content.get("lineage", ()) if isinstance(content, dict) else ()
    return replace(dataset, lineage=(*(str(note) for note in notes), *dataset.lineage))


def _save(file: Path, header: list[str], rows: list[list[str]]) -> None:
    """Write a CSV, TSV or Parquet file of text columns."""
    try:
        if file.suffix.lower() == ".parquet":
            import pyarrow

            columns = dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))
            _parquet().write_table(pyarrow.table(columns), file)
            return
        with file.open("w", encoding="utf-8", newline="") as stream:
            mark = "\t" if file.suffix.lower() == ".tsv" else ","
            csv.writer(stream, delimiter=mark, lineterminator="\n").writerows([header, *rows])
    except UnicodeEncodeError as error:
        raise DataError(f"{file.name}: {error.object!r} is not Unicode text and cannot be written") from None
