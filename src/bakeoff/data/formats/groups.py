"""groups.csv: the groups of images, for formats whose folders have no place for them."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path

from bakeoff.data.formats.rows import examples
from bakeoff.errors import DataError

GROUPS = "groups.csv"  # columns path, group


def read_groups(path: Path) -> dict[str, str]:
    """Read groups.csv if there is one: POSIX path of an image below `path` -> its group.  Raises DataError."""
    try:
        with (path / GROUPS).open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
            rows = list(csv.reader(stream))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, csv.Error) as error:
        raise DataError(f"{path / GROUPS}: cannot be read: {error}") from None
    if not rows or rows[0] != ["path", "group"]:
        return {}
    groups = dict(row for row in rows[1:] if len(row) == 2)
    missing = [image for image in groups if not os.path.exists(path / image)]
    if missing or len(groups) != len(rows) - 1:
        wrong = f"names files that are not there: {examples(missing)}" if missing else "has broken or repeated rows"
        raise DataError(f"{path / GROUPS}: {wrong}; correct or remove it")
    return groups


def write_groups(root: Path, groups: Mapping[str, str | None]) -> None:
    """Write groups.csv into a folder; images without a group are left out, and so is a file without a row."""
    rows = [(image, group) for image, group in groups.items() if group is not None]
    if rows:
        with (root / GROUPS).open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows([("path", "group"), *rows])
