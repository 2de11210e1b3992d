"""Ids of a submission matched to the images of the truth: exactly, or by a file name that is unique."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

from bakeoff.data.formats.listing import is_image
from bakeoff.data.formats.rows import examples
from bakeoff.errors import DataError, nearest
from bakeoff.findings import Finding, plural


class Names:
    """The ids of the truth, found by what a submission calls them."""

    def __init__(self, ids: Iterable[str], source: str) -> None:
        """Index the ids; `source` names the truth in messages."""
        self.ids, self.source = tuple(ids), source
        self.loose: dict[str, str] = {}  # what was found by its file name alone
        self._exact = {_normal(id): id for id in self.ids}
        self._by_stem: defaultdict[str, list[str]] = defaultdict(list)
        self._by_number: defaultdict[int, list[str]] = defaultdict(list)
        for id in self.ids:
            stem = _stem(id)
            self._by_stem[stem].append(id)
            if stem.isascii() and stem.isdigit():
                self._by_number[int(stem)].append(id)

    def find(self, name: str | int, where: str) -> str | None:
        """Return the id that a name means, None when it means none; `where` it stands begins the error.

        The id itself; else the image of that file name, with or without its suffix, whose folders agree best from the
        right (predictions keep the path that was typed); a number also means a file name of digits, 9 is
        000000000009.jpg.  Raises DataError when several remain.
        """
        if isinstance(name, int):
            found = self._by_stem.get(str(name)) or self._by_number.get(name, [])
        elif _normal(name) in self._exact:
            return self._exact[_normal(name)]
        else:
            found = self._by_stem.get(_stem(name), [])
        most = max((_agreement(str(name), id) for id in found), default=(0, False))
        found = [id for id in found if _agreement(str(name), id) == most]
        if len(found) > 1:
            raise DataError(
                f"{where}: {name!r} may mean {examples(found)} of {self.source}: write ids as they stand there, "
                "folders included"
            )
        if found:
            self.loose[str(name)] = found[0]
        return found[0] if found else None

    def unknown(self, file: str, names: Iterable[str]) -> DataError:
        """Return the error for ids that the truth does not have."""
        listed = list(dict.fromkeys(names))
        hint = nearest(listed[0], self.ids) or f"; its ids are such as {examples(self.ids, 2)}"
        count = f"{plural(len(listed), 'id')} that {self.source} does not have"
        return DataError(f"{file}: {count}: {examples(listed)}{hint}; remove these rows, or name the right truth")

    def missing(self, file: str, there: Iterable[str], reasons: Iterable[str] = ()) -> DataError | None:
        """Return the error for images of the truth without a prediction; None when all are there."""
        known = set(there)
        absent = [id for id in self.ids if id not in known]
        if not absent:
            return None
        count = f"no prediction for {len(absent)} of the {plural(len(self.ids), 'image')} of {self.source}"
        why = "".join(f"; the file says: {reason}" for reason in list(reasons)[:1])
        return DataError(
            f"{file}: {count}: {examples(absent)}{why}; predict every image, or leave them out of the truth"
        )

    def findings(self) -> list[Finding]:
        """Say how many ids were matched by file name."""
        if not self.loose:
            return []
        name, id = next(iter(self.loose.items()))
        count = f"{plural(len(self.loose), 'id')} of the submission"
        sentence = f"{count} were matched to images by their file name ({name} is {id})."
        return [Finding("ids-by-name", "info", sentence)]


def _normal(name: str) -> str:
    """Return a path with one kind of separator and of accents, without ./ in front."""
    text = unicodedata.normalize("NFC", name.strip()).replace("\\", "/")
    return text.removeprefix("./")


def _stem(name: str) -> str:
    """Return the file name of a path, without the suffix of an image."""
    last = _normal(name).rpartition("/")[2]
    return os.path.splitext(last)[0] if is_image(last) else last


def _agreement(name: str, id: str) -> tuple[int, bool]:
    """Return how many folders of two paths agree from the right, and whether the file names are equal to the suffix."""
    ours, theirs = _normal(name).split("/"), _normal(id).split("/")
    count = 0
    for a, b in zip(ours[-2::-1], theirs[-2::-1], strict=False):
        if a != b:
            break
        count += 1
    return count, ours[-1] == theirs[-1]
