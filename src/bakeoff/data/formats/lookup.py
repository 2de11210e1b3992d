"""Which image a file name in an annotation means, and which split a name speaks of."""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from bakeoff.data.dataset import SplitName
from bakeoff.data.formats.listing import folders_in, list_images, names_in
from bakeoff.data.formats.rows import examples, split_name
from bakeoff.errors import DataError

WORDS = re.compile(r"[^\W\d_]+")


def split_in(text: str) -> SplitName | None:
    """Return the split that a word of a file or folder name speaks of, None for no or several.

    >>> split_in("instances_train2017.json"), split_in("trainval.json"), split_in("contrast.json")
    ('train', None, None)
    """
    found = {split_name(word) for word in WORDS.findall(text)} - {None}
    return found.pop() if len(found) == 1 else None


def json_files(folder: Path, fits: Callable[[Path], bool]) -> list[str]:
    """Return the .json files that fit in a folder and in those directly below it, as POSIX paths."""
    prefixes = ["", *(f"{name}/" for name in folders_in(folder))]
    names = [f"{prefix}{name}" for prefix in prefixes for name in names_in(folder / prefix)]
    return [name for name in names if name.lower().endswith(".json") and fits(folder / name)]


def splits_of(root: Path, files: Sequence[str]) -> dict[str, SplitName | None]:
    """Return the split of every annotation file: the one its name speaks of, or its folder; of one file alone none.

    Raises DataError when several files are not one for each split.
    """
    if len(files) == 1:
        return {files[0]: None}
    found = {file: split_in(posixpath.basename(file)) or split_in(posixpath.dirname(file)) for file in files}
    if None in found.values() or len(set(found.values())) < len(found):
        names = examples(files)
        raise DataError(f"{root}: {names} are not one file for each of train, val and test: name the one to read")
    return found


class Lookup:
    """The images at any depth below a folder, found by names as annotation files write them."""

    def __init__(self, root: Path) -> None:
        """List the images.  Raises DataError when a folder cannot be read."""
        self.root = root
        self.images = frozenset(list_images(root).images)
        self._by_name: defaultdict[str, list[str]] = defaultdict(list)
        for image in sorted(self.images):
            self._by_name[_nfc(posixpath.basename(image))].append(image)

    def find(self, name: str, near: str = "", split: SplitName | None = None) -> str | None:
        """Return the image that `name` means in an annotation file of the folder `near`, or None.

        A path from `near` or from the root is taken as it is.  Else the image of that file name counts whose folders
        agree best from the right (annotations keep paths of other machines), then one below `near`, then one in a
        folder named for the split.  Raises DataError when several remain.
        """
        name = name.strip().replace("\\", "/")
        for start in (near, ""):
            direct = posixpath.normpath(posixpath.join(start, name))
            if direct in self.images:
                return direct
        found = self._by_name.get(_nfc(posixpath.basename(name)), [])
        best = max((_agreement(name, image) for image in found), default=0)
        found = [image for image in found if _agreement(name, image) == best]
        for part in (
            [image for image in found if not near or image.startswith(f"{near}/")],
            [image for image in found if split is not None and split_in(posixpath.dirname(image)) == split],
        ):
            found = part if len(found) > 1 and part else found
        if len(found) > 1:
            raise DataError(f"{self.root}: {name} may mean {examples(found)}: state the folder in the annotation")
        return found[0] if found else None

    def unnamed(self, named: Iterable[str]) -> list[str]:
        """Return the note that says how many images no annotation names."""
        left = sorted(self.images - set(named))
        return [f"{len(left)} images that no annotation names were left out: {examples(left)}"] if left else []


def _agreement(name: str, image: str) -> int:
    """Return how many parts of two paths agree, counted from the file name."""
    count = 0
    for ours, theirs in zip(reversed(_nfc(name).split("/")), reversed(_nfc(image).split("/")), strict=False):
        if ours != theirs:
            break
        count += 1
    return count


def _nfc(text: str) -> str:
    """Return text in the form in which two spellings of one name are equal."""
    return unicodedata.normalize("NFC", text)
