"""Explanations as files: a PNG per image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from bakeoff.errors import Refused
from bakeoff.explain.explaining import Explained, Explaining
from bakeoff.explain.sheet import sheet
from bakeoff.files import replacing
from bakeoff.findings import listed


def plan_pictures(folder: Path, names: Mapping[str, str]) -> dict[Path, Path]:
    """Return the picture to be written for every image; Refused when there are such files already."""
    if there := [name for name in names.values() if (folder / name).exists()]:
        raise Refused(
            f"{folder}: {len(there)} files that would be written are there already ({listed(there)}); "
            "name a new folder with --out, or remove them"
        )
    return {Path(path): folder / name for path, name in names.items()}


def explain_files(explaining: Explaining, files: Mapping[Path, Path], wanted: str | None = None) -> Iterator[Explained]:
    """Explain images one by one and write their pictures by rename; yield the entries with the pictures' names.

    An image that cannot be explained has no picture.  Raises what Explaining.files() does, and ResourceError when the
    disk is full.
    """
    for entry, file in zip(explaining.files(files, wanted), files.values(), strict=True):
        if entry.error is not None:
            yield entry
            continue
        with replacing(file) as temporary:
            sheet(entry).save(temporary, "PNG")
        yield replace(entry, picture=str(file))
