"""Which files the images, folders and patterns on a command line mean."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from bakeoff.data.decode import SUFFIXES
from bakeoff.errors import DataError, UsageError, nearest


def find_images(inputs: Iterable[Path | str]) -> list[Path]:
    """Return the files that inputs mean, each once, in the order of the inputs and by name within a folder.

    A file named by itself is taken whatever its suffix; in folders only image suffixes count.
    """
    found: dict[str, Path] = {}
    for given in inputs:
        for path in _expand(str(given)):
            found.setdefault(os.path.abspath(path), path)
    if not found:
        raise UsageError("no image was named; give image files, folders or patterns")
    return list(found.values())


def _expand(given: str) -> list[Path]:
    """Return the files of one input."""
    path = Path(given)
    if path.is_dir():
        inside = [Path(folder, name) for folder, names in _walk(path) for name in names]
        images = [file for file in inside if file.suffix.lower() in SUFFIXES]
        if not images:
            raise DataError(f"{path}: there is no image in this folder ({len(inside)} other files)")
        return images
    if path.exists():
        return [path]
    matches = [file for name in sorted(glob.glob(given, recursive=True)) if (file := Path(name)).is_file()]
    if not matches and glob.has_magic(given):
        raise UsageError(f"{given}: no file matches this pattern")
    if not matches:
        beside = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UsageError(f"{given}: no such file or folder{nearest(path.name, beside)}")
    return matches


def _walk(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield (folder, file names) from top to bottom in name order, without hidden ones."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield place, sorted(name for name in names if not name.startswith("."))
