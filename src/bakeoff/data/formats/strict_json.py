"""JSON as the standard has it: names once in an object, numbers finite; and a look at a file without parsing it."""

from __future__ import annotations

import json
import mmap
from pathlib import Path
from typing import Any, NoReturn

from bakeoff.errors import DataError


def read_strict(path: Path) -> Any:
    """Read a JSON file.  Raises DataError for damage, NaN, Infinity, a key twice in an object, or deep nesting."""
    try:
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: damaged JSON: {error}") from None
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
    except RecursionError:
        raise DataError(f"{path}: nested too deeply for an annotation file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def mentions(path: Path, *keys: str) -> set[str]:
    """Return which of these object keys appear in a JSON file, however large; none when it cannot be read."""
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return {key for key in keys if content.find(f'"{key}"'.encode()) >= 0}
    except (OSError, ValueError):  # ValueError: empty
        return set()


def first_mark(path: Path) -> str:
    """Return the first character of a file that is not white space, or nothing."""
    try:
        with path.open("rb") as stream:
            return stream.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()[:1].decode("ascii", "replace")
    except OSError:
        return ""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object, refusing repeated keys."""
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"an object has the key {twice!r} twice; correct it")
    return found


def _refuse(text: str) -> NoReturn:
    """Refuse NaN and the infinities, which are not JSON."""
    raise ValueError(f"{text} is not a JSON number; correct it")
