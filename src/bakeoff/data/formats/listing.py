"""Which image files lie below a folder, and what else does."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bakeoff.data.decode import SUFFIXES
from bakeoff.errors import DataError

CLUTTER = frozenset({"__macosx", "thumbs.db", "desktop.ini"})  # beside everything whose name begins with a dot


@dataclass
class Listing:
    """POSIX paths of the images below a folder, and how many other files of which suffix were passed over."""

    images: list[str] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)

    def note(self) -> list[str]:
        """Return the sentence for a dataset's lineage, or nothing when every file was an image."""
        if not self.ignored:
            return []
        kinds = [f"{count} {suffix or 'without suffix'}" for suffix, count in self.ignored.most_common(8)]
        rest = "" if len(self.ignored) <= 8 else " and others"
        return [f"passed over, not images: {', '.join(kinds)}{rest}"]


def is_clutter(name: str) -> bool:
    """Say whether a file or folder is hidden, or a leftover of an operating system or notebook."""
    return name.startswith(".") or name.casefold() in CLUTTER


def is_image(name: str) -> bool:
    """Say whether a file's suffix is that of an image."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


def list_images(folder: Path) -> Listing:
    """List the images at any depth below a folder.  Raises DataError when a folder cannot be read."""
    listing = Listing()
    _walk(folder, "", (), listing)
    listing.images.sort()
    return listing


def names_in(folder: Path) -> list[str]:
    """Return the sorted names of the plain files in one folder, clutter left out; none when it is no folder."""
    return _names(folder, lambda entry: entry.is_file())


def folders_in(folder: Path) -> list[str]:
    """Return the sorted names of the folders in one folder, clutter left out; none when it is no folder."""
    return _names(folder, lambda entry: entry.is_dir())


def _names(folder: Path, wanted: Callable[[os.DirEntry[str]], bool]) -> list[str]:
    """Return the sorted names of some entries of a folder, clutter left out; none when it is no folder."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if wanted(entry) and not is_clutter(entry.name))
    except OSError:
        return []


def _walk(folder: Path, prefix: str, above: tuple[tuple[int, int], ...], listing: Listing) -> None:
    """List one folder and those below; a link back to a folder `above` is not followed."""
    try:
        stat = os.stat(folder)
        here = (stat.st_dev, stat.st_ino)
        if here in above:
            return
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_clutter(entry.name):
                    continue
                if _is_folder(entry):
                    _walk(Path(entry.path), f"{prefix}{entry.name}/", (*above, here), listing)
                elif is_image(entry.name):
                    listing.images.append(prefix + entry.name)
                else:
                    listing.ignored[os.path.splitext(entry.name)[1].lower()] += 1
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed: {error.strerror}; make it readable, or move it away") from None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Say whether an entry leads to a folder; a link that leads to itself does not, and is named when it is read."""
    try:
        return entry.is_dir()
    except OSError:
        return False
