"""Explanations as files: a PNG per image, and one per survey of many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bakeoff.errors import Refused
from bakeoff.explain.activations import Surveying
from bakeoff.explain.explainer import Options
from bakeoff.explain.explaining import SURVEY, Explained, Explaining
from bakeoff.explain.sheet import sheet, survey_sheet
from bakeoff.explain.survey import Survey
from bakeoff.files import replacing
from bakeoff.findings import listed
from bakeoff.models.trained import Trained


def plan_pictures(folder: Path, names: Mapping[str, str]) -> dict[Path, Path]:
    """Return the picture to be written for every image; Refused when there are such files already."""
    refuse_existing(folder, names.values())
    return {Path(path): folder / name for path, name in names.items()}


def refuse_existing(folder: Path, names: Iterable[str]) -> None:
    """Raise Refused when files of these names are in a folder already."""
    if there := [name for name in names if (folder / name).exists()]:
        raise Refused(
            f"{folder}: {len(there)} files that would be written are there already ({listed(there)}); "
            "name a new folder with --out, or remove them"
        )


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


def survey_files(model: Trained, paths: Sequence[Path], folder: Path, options: Options) -> Iterator[Explained | Survey]:
    """Look at all images at once; yield an entry for each that cannot be read, then the survey, its picture written.

    Raises Refused, at once, when there is such a picture, and what Surveying and files.replacing do.
    """
    surveying = Surveying(model, options)
    name = f"{SURVEY}-{surveying.layer.replace('/', '-')}.png"
    refuse_existing(folder, [name])
    return _surveyed(surveying, paths, folder / name)


def _surveyed(surveying: Surveying, paths: Sequence[Path], file: Path) -> Iterator[Explained | Survey]:
    """Look, then write."""
    found, unread = surveying.over(paths)
    yield from unread
    if found is not None:
        with replacing(file) as temporary:
            survey_sheet(found).save(temporary, "PNG")
        yield replace(found, picture=str(file))
