"""What is labelled: image files and the frames of videos, in the order in which they were named."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from bakeoff.errors import UsageError
from bakeoff.predict.inputs import find_images
from bakeoff.predict.video import CAMERA, BrokenVideo, Clip, Moment, is_video

LISTED = "-"  # the paths are on standard input, one a line
Source = Path | Clip


@dataclass(frozen=True)
class Item:
    """An image to label: a file, or a moment of a video; or a video that cannot be read (to its end), and why."""

    path: str
    moment: Moment | None = None
    error: str | None = None


def find_sources(
    inputs: Iterable[Path | str], every: int = 1, seconds: float | None = None, listing: TextIO | None = None
) -> list[Source]:
    """Return the files that inputs mean: images as in find_images, videos by their suffix, "camera:0", "-".

    "-" stands for the paths that standard input (or `listing`) lists, one a line: those that are not there are told
    when it is their turn, as damaged files are.  In folders videos are passed over: name them, or a pattern of them.
    Of videos every `every`-th frame of the first `seconds` is taken.  Raises UsageError and DataError as find_images.
    """
    found: dict[str, Source] = {}
    for given in map(str, inputs):
        if given == LISTED:
            files: Iterable[Path] = map(Path, _lines(listing or sys.stdin))
        elif given.startswith(CAMERA):
            files = [Path(given)]
        else:
            files = find_images([given])
        for file in files:
            found.setdefault(os.path.abspath(file), Clip(str(file), every, seconds) if is_video(str(file)) else file)
    if not found:
        raise UsageError("no image was named; give image files, folders, patterns, videos, or - for a list")
    return list(found.values())


def _lines(listing: TextIO) -> Iterator[str]:
    """Yield the lines of a list, empty ones left out."""
    return (line.rstrip("\r\n") for line in listing if line.strip())


def items(sources: Sequence[Source]) -> Iterator[Item]:
    """Yield every image file and every frame, one after the other."""
    for source in sources:
        if isinstance(source, Path):
            yield Item(str(source))
            continue
        try:
            for moment in source.moments():
                yield Item(moment.name, moment)
        except BrokenVideo as error:
            yield Item(source.name, error=str(error))


def is_live(sources: Sequence[Source]) -> bool:
    """Say whether a camera is among the sources: its frames should not wait for others."""
    return any(isinstance(source, Clip) and source.camera is not None for source in sources)


def total(sources: Sequence[Source]) -> int:
    """Return how many images there are; 0 where that is not known before the end."""
    counts = [1 if isinstance(source, Path) else source.count() for source in sources]
    return sum(count for count in counts if count is not None) if None not in counts else 0
