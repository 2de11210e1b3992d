"""Predictions as pictures: masks as palette PNGs, and the images with what was found drawn on them."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

import numpy as np
from PIL import Image

from bakeoff.data.decode import decode
from bakeoff.data.draw import draw
from bakeoff.data.masks import palette
from bakeoff.data.targets import Label, LabelMap, Target
from bakeoff.errors import Refused, UnreadableImage, UsageError
from bakeoff.files import replacing
from bakeoff.findings import listed
from bakeoff.predict.prediction import Prediction
from bakeoff.predict.sources import Source
from bakeoff.predict.video import Clip, Film


@dataclass(frozen=True)
class Folders:
    """Where pictures go: `masks` of label maps, `overlays` of anything; None: they are not made.

    Of a video the overlays are a video, and the masks a folder with a PNG for each frame.
    """

    masks: Path | None = None
    overlays: Path | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """The fields of Prediction that will be filled in."""
        return tuple(name for name, folder in (("mask", self.masks), ("overlay", self.overlays)) if folder is not None)

    def check(self, sources: Sequence[Source], task: str) -> None:
        """Raise UsageError for a wish that cannot be met, Refused when files that are there would be overwritten."""
        if self.masks is not None and task != "semantic":
            raise UsageError(f"masks are pictures of label maps; this model's task is {task}: use overlays, or coco")
        if self.masks is not None and self.overlays is not None and self.masks.resolve() == self.overlays.resolve():
            raise UsageError(f"{self.masks}: masks and overlays need a folder each")
        for folder, names in ((self.masks, mask_names(sources)), (self.overlays, overlay_names(sources))):
            if folder is None:
                continue
            there = [name for name in names.values() if (folder / name).exists()]
            if there:
                raise Refused(
                    f"{folder}: {len(there)} files that would be written are there already ({listed(there)}); "
                    "name a new folder, or remove them"
                )


def illustrated(predictions: Iterable[Prediction], sources: Sequence[Source], folders: Folders) -> Iterator[Prediction]:
    """Write the pictures of predictions as they pass, and yield them with the names of what was written.

    `sources` are all files and videos that will pass: their names below the folder that they share are those of the
    pictures.  Raises ResourceError when the disk is full.
    """
    masks, overlays = mask_names(sources), overlay_names(sources)
    with Film() as film:
        for found in predictions:
            if found.error is None and folders.masks is not None and isinstance(found.target, LabelMap):
                file = folders.masks / masks[_source(found)]
                file = file if found.moment is None else file / f"{found.moment.frame:06d}.png"
                found = replace(found, mask=_write(palette(found.target.pixels), file))
            if found.error is None and folders.overlays is not None:
                found = _drawn(found, folders.overlays / overlays[_source(found)], film)
            yield found


def mask_names(sources: Sequence[Source]) -> Mapping[str, str]:
    """Return the file of each image's mask, and the folder of each video's."""
    return {**_names(sources, Path, ".png"), **_names(sources, Clip, "")}


def overlay_names(sources: Sequence[Source]) -> Mapping[str, str]:
    """Return the file of each image's and each video's overlay."""
    return {**_names(sources, Path, ".jpg"), **_names(sources, Clip, ".mp4")}


def _names(sources: Sequence[Source], kind: type[Path] | type[Clip], suffix: str) -> dict[str, str]:
    """Return the names of what is made of the images, or of the videos."""
    own = [source for source in sources if isinstance(source, kind)]
    paths = [source.path if isinstance(source, Clip) else source for source in own]
    names = file_names(paths, suffix).values()
    return {str(source): name for source, name in zip(own, names, strict=True)}


def _source(found: Prediction) -> str:
    """Return the file that a prediction belongs to."""
    return found.path if found.moment is None else found.moment.video


def _drawn(found: Prediction, file: Path, film: Film) -> Prediction:
    """Draw a prediction on its image, which is decoded once more: large ones are not kept meanwhile."""
    target, classes = _drawable(found)
    if found.moment is not None:
        film.add(file, draw(found.moment.image, target, classes), found.moment.rate)
        return replace(found, overlay=str(file))
    try:
        image = decode(Path(found.path))
    except UnreadableImage as error:  # it was readable a moment ago
        return replace(found, error=error.reason)
    return replace(found, overlay=_write(Image.fromarray(np.ascontiguousarray(draw(image, target, classes))), file))


def _drawable(found: Prediction) -> tuple[Target, tuple[str, ...]]:
    """Return what there is to draw, and the names of its classes."""
    if found.target is not None:
        return found.target, found.classes
    names = tuple(found.scores)
    return Label(names.index(found.label or ""), tuple(found.scores.values())), names


def _write(picture: Image.Image, file: Path) -> str:
    """Write a picture by rename; its folders are made."""
    with replacing(file) as temporary:
        if file.suffix == ".png":
            picture.save(temporary, "PNG")
        else:
            picture.save(temporary, "JPEG", quality=90)
    return str(file)


def file_names(paths: Sequence[Path], suffix: str) -> Mapping[str, str]:
    """Return a file name of its own for every path: the path below the folder that all share, with another suffix.

    Where two images differ in their suffix alone both keep it (a.jpg.png, a.png.png), and what would still be one file
    where capital letters or accents are not told apart is numbered.

    >>> dict(file_names([Path("x/a.jpg"), Path("x/a.gif"), Path("x/y/b.jpg")], ".png"))
    {'x/a.jpg': 'a.jpg.png', 'x/a.gif': 'a.gif.png', 'x/y/b.jpg': 'y/b.png'}
    """
    whole = [Path(os.path.abspath(path)) for path in paths]
    shared = os.path.commonpath([path.parent for path in whole]) if whole else ""
    inner = [path.relative_to(shared) for path in whole]
    stems = Counter(_folded(path.with_suffix("")) for path in inner)
    taken: set[str] = set()
    names = {}
    for path, place in zip(paths, inner, strict=True):
        stem = place if stems[_folded(place.with_suffix(""))] > 1 else place.with_suffix("")
        tries = (stem.with_name(f"{stem.name}{'' if n == 1 else f'-{n}'}{suffix}") for n in range(1, len(paths) + 2))
        name = next(name for name in tries if _folded(name) not in taken)
        taken.add(_folded(name))
        names[str(path)] = name.as_posix()
    return names


def _folded(path: PurePath) -> str:
    """Return a path as file systems see it that tell neither capitals nor forms of accents apart."""
    return unicodedata.normalize("NFC", path.as_posix()).casefold()
