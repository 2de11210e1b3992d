"""What the values in mask files mean: found out from a sample of the files and a table of classes, if there is one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import numpy as np

from bakeoff.data.decode import opened
from bakeoff.data.formats.class_table import ClassTable
from bakeoff.data.formats.rows import examples
from bakeoff.data.masks import read_values
from bakeoff.data.targets import CLEAR, IGNORE, MOST_CLASSES, Coding
from bakeoff.errors import DataError, UnreadableImage, UsageError, nearest

SAMPLE = 200  # mask files that are looked at
COLOURS = 64  # of a colour-coded mask without a table; more are photographs, or borders blurred by JPEG
MOST_VALUES = 1 << 16
HALF = 128
DARK, BRIGHT = 16, 239  # a smoothed binary mask has nearly all of its pixels beyond these
SMOOTHED = 0.9  # share of such pixels
BACKGROUND, FOREGROUND = "background", "foreground"
REST = "*"
GREY = ("1", "L", "LA", "I", "F")  # Pillow's modes, beside I;16

Kind = Literal["value", "colour"]
T = TypeVar("T")


class _Head(NamedTuple):
    path: Path
    mode: str
    lossy: bool


class _Counts(NamedTuple):
    path: Path
    pixels: dict[int, int]


@dataclass
class Sample:
    """What was seen: raw values with their number of pixels, each with a file that has it."""

    kind: Kind
    palette: bool  # all files have a palette
    lossy: bool
    pixels: dict[int, int] = field(default_factory=dict)
    where: dict[int, Path] = field(default_factory=dict)

    def add(self, counts: _Counts) -> None:
        """Take in what one file holds."""
        for value, count in counts.pixels.items():
            self.pixels[value] = self.pixels.get(value, 0) + count
            self.where.setdefault(value, counts.path)
        if len(self.pixels) > MOST_VALUES:
            raise DataError(f"{counts.path}: more than {MOST_VALUES} colours: a photograph, or a mask spoilt by JPEG")

    def shown(self, value: int) -> str:
        """Write a raw value as a person would."""
        return f"#{value:06x}" if self.kind == "colour" else str(value)


@dataclass(frozen=True)
class Codes:
    """Classes in canonical order, the coding of a mask file by its class name (None: of one with all classes)."""

    classes: tuple[str, ...]
    codings: Mapping[str | None, Coding]
    ground: int = IGNORE
    notes: tuple[str, ...] = ()


def look(files: Sequence[Path], table: ClassTable | None) -> Sample:
    """Look at up to SAMPLE files, evenly spread.  Raises UnreadableImage when none can be read."""
    places = sorted({round(place) for place in np.linspace(0, len(files) - 1, min(SAMPLE, len(files)))})
    with ThreadPoolExecutor(4) as pool:
        heads = _readable(pool.map(_head, (files[place] for place in places)))
        modes = {head.mode for head in heads}
        palette = modes <= {"P", "PA"}
        by_colour = table is not None and table.coloured and not (palette and table.stated)
        grey = palette or all(mode in GREY or mode.startswith("I;16") for mode in modes)
        kind: Kind = "value" if grey and not (palette and by_colour) else "colour"
        sample = Sample(kind, palette, any(head.lossy for head in heads))
        for counts in _readable(pool.map(lambda head: _counts(head, kind), heads)):
            sample.add(counts)
    if kind == "colour" and not by_colour and all(_is_grey(value) for value in sample.pixels):
        return _as_grey(sample)
    return sample


def codes_of(sample: Sample, table: ClassTable | None, ignore: Sequence[str], several: bool) -> Codes:
    """Say what the values of masks with all classes in one file mean; `several`: an image may have more files of them.

    Binary masks (0 and 255, smoothed or not; 0 and 1) are background and foreground, several files of one image are
    laid over each other.  Else the table decides, else each value is a class of its own, and 255 beside others is
    ignored as is the custom.  Raises DataError for a value without a class, UsageError for a wrong `ignore`.
    """
    names = [entry.name for entry in sorted(table.entries, key=lambda entry: entry.value)] if table else []
    named = table is not None
    if not ignore and _is_binary(sample) and (not named or (len(names) == 2 and _are_dark_and_bright(sample, table))):
        dark, bright = names or (BACKGROUND, FOREGROUND)
        return _binary(sample, dark, bright, several)
    if several:
        raise DataError(f"{_first(sample)}: images have several masks with more than two values: name their classes")
    if sample.lossy:
        raise DataError(f"{_first(sample)}: JPEG changes the values of a mask; only masks of two values survive it")
    meaning, notes = _meaning(sample, table)
    return _codes(sample, meaning, ignore, notes)


def layer_codes(sample: Sample, names: Iterable[str], ignore: Sequence[str]) -> Codes:
    """Say what masks with one class in each file mean: bright or not zero is the class, elsewhere others may show."""
    if sample.kind == "colour" or not (_is_binary(sample) or len(sample.pixels) <= 2):
        values = examples(sample.shown(value) for value in sorted(sample.pixels))
        raise DataError(f"{_first(sample)}: a mask of one class should have two values, these have {values}")
    level = max(sample.pixels) if len(sample.pixels) <= 2 and max(sample.pixels) < HALF else HALF
    level = max(level, 1)
    every = sorted({*names, BACKGROUND})
    wrong = [name for name in ignore if name not in every]
    if wrong:
        raise UsageError(f"nothing to ignore is called {wrong[0]!r}{nearest(wrong[0], every)}; classes: {every}")
    classes = tuple(name for name in every if name not in ignore)
    place = {name: index for index, name in enumerate(classes)}
    codings: dict[str | None, Coding] = {
        name: Coding("threshold", ((level, place.get(name, IGNORE)),), CLEAR) for name in every
    }
    note = f"one mask file for each class: {level} and brighter is the class, pixels of none are {BACKGROUND!r}"
    return Codes(_checked(sample, classes), codings, place.get(BACKGROUND, IGNORE), (note,))


# --- looking ---


def _head(path: Path) -> _Head | UnreadableImage:
    """Return a file's mode, and whether its values may have been changed by compression."""
    try:
        with opened(path, None) as image:
            return _Head(path, image.mode, image.format in ("JPEG", "MPO"))
    except UnreadableImage as error:
        return error


def _counts(head: _Head, kind: Kind) -> _Counts | UnreadableImage:
    """Count the pixels of each raw value."""
    try:
        values, counts = np.unique(read_values(head.path, kind), return_counts=True)
    except UnreadableImage as error:
        return error
    return _Counts(head.path, dict(zip(values.tolist(), counts.tolist(), strict=True)))


def _readable(found: Iterable[T | UnreadableImage]) -> list[T]:
    """Leave out files that cannot be read, which the audit names.  Raises UnreadableImage when none can."""
    found = list(found)
    kept = [one for one in found if not isinstance(one, UnreadableImage)]
    if kept:
        return kept
    raise next(one for one in found if isinstance(one, UnreadableImage))


def _is_grey(colour: int) -> bool:
    """Say whether the three channels of a colour are equal."""
    return colour >> 16 == colour >> 8 & 255 == colour & 255


def _as_grey(sample: Sample) -> Sample:
    """Return the sample of grey masks that were saved with three channels."""
    pixels = {value & 255: count for value, count in sample.pixels.items()}
    where = {value & 255: file for value, file in sample.where.items()}
    return Sample("value", False, sample.lossy, pixels, where)


def _first(sample: Sample) -> Path:
    """Return the file that has the highest value, which an error points at."""
    return sample.where[max(sample.where)]


# --- two values ---


def _is_binary(sample: Sample) -> bool:
    """Say whether grey masks have two values, 0 and 1 or 0 and 255, or were smoothed from such."""
    values = set(sample.pixels)
    if sample.kind == "colour" or not values or max(values) > 255:
        return False
    if values in ({0, 1}, {0, 255}):
        return True
    if 0 not in values or 255 not in values or len(values) < 4 or not any(HALF // 2 <= v < 255 for v in values):
        return sample.lossy and _extremes(sample) >= SMOOTHED
    return not sample.palette and _extremes(sample) >= SMOOTHED


def _extremes(sample: Sample) -> float:
    """Return the share of pixels that are nearly black or nearly white."""
    far = sum(count for value, count in sample.pixels.items() if value <= DARK or value >= BRIGHT)
    return far / sum(sample.pixels.values())


def _are_dark_and_bright(sample: Sample, table: ClassTable | None) -> bool:
    """Say whether a table's two names are those of dark and bright: in a palette 255 is no stated 1, but ignored."""
    if table is None or {entry.value for entry in table.entries} != {0, 1}:
        return False
    return not (sample.palette and table.stated and IGNORE in sample.pixels)


def _binary(sample: Sample, dark: str, bright: str, several: bool) -> Codes:
    """Return the coding of masks of two values."""
    classes = _checked(sample, tuple(sorted({dark, bright})))
    low, high = classes.index(dark), classes.index(bright)
    level = 1 if max(sample.pixels) == 1 else HALF
    if level == 1 and not several:
        coding = Coding("value", ((0, low), (1, high)))
    else:
        coding = Coding("threshold", ((level, high),), CLEAR if several else low)
    note = f"masks of two values: {level} and brighter is {bright!r}, the rest {dark!r}"
    return Codes(classes, {None: coding}, low if several else IGNORE, (note,))


# --- many values ---


def _meaning(sample: Sample, table: ClassTable | None) -> tuple[dict[int, str | None], list[str]]:
    """Return what each raw value means (None: ignored), and notes on that."""
    if table is not None:
        return _from_table(sample, table)
    if sample.kind == "colour":
        if len(sample.pixels) > COLOURS:
            what = f"the masks have {len(sample.pixels)} colours: name a table of classes (name, r, g, b)"
            raise DataError(f"{_first(sample)}: {what} with --set data.classes=FILE")
        return {value: sample.shown(value) for value in sample.pixels}, ["each colour of the masks is a class"]
    values = sorted(sample.pixels)
    others = [value for value in values if value != IGNORE]
    if values[-1] == IGNORE and len(others) > 1 and max(others) <= 4 * len(others):
        return {**{value: str(value) for value in others}, IGNORE: None}, ["255 in the masks is ignored, by custom"]
    return {value: str(value) for value in values}, []


def _from_table(sample: Sample, table: ClassTable) -> tuple[dict[int, str | None], list[str]]:
    """Return what the table says; 255 in masks of values is ignored unless the table names it."""
    notes = [f"classes from {table.file.name}"]
    if sample.kind == "colour":
        if not table.coloured:
            what = "the masks are coded by colour, but some classes have no colour; expected columns name, r, g, b"
            raise DataError(f"{table.file}: {what}")
        return {entry.colour: entry.name for entry in table.entries if entry.colour is not None}, notes
    meaning: dict[int, str | None] = {entry.value: entry.name for entry in table.entries}
    if IGNORE not in meaning:
        if sample.pixels.keys() == {0, IGNORE} and not sample.palette:
            what = f"the masks have the two values 0 and 255, but the table names {len(meaning)} classes"
            raise DataError(f"{table.file}: {what}: name the table of these masks with --set data.classes=FILE")
        meaning[IGNORE] = None
        notes += ["255 in the masks is ignored, by custom"] if IGNORE in sample.pixels else []
    return meaning, notes


def _codes(sample: Sample, meaning: dict[int, str | None], ignore: Sequence[str], notes: list[str]) -> Codes:
    """Leave out what is to be ignored, number the classes and check that every value seen means something."""
    for text in ignore:
        if text != REST:
            meaning = {**meaning, **dict.fromkeys(_values(text, meaning, sample), None)}
    rest = IGNORE if REST in ignore else None
    strange = sorted(value for value in sample.pixels if value not in meaning)
    if strange and rest is None:
        shown = examples(sample.shown(value) for value in strange)
        what = f"the values {shown} in the masks have no class: list them in the table of classes, or ignore them"
        raise DataError(f"{sample.where[strange[0]]}: {what} with --set data.ignore=VALUE ('{REST}': all such)")
    classes = _checked(sample, tuple(sorted({name for name in meaning.values() if name is not None})))
    place: dict[str | None, int] = {None: IGNORE, **{name: index for index, name in enumerate(classes)}}
    coding = Coding(sample.kind, tuple((value, place[name]) for value, name in sorted(meaning.items())), rest)
    ignored = [f"ignored in the masks: {', '.join(ignore)}"] if ignore else []
    return Codes(classes, {None: coding}, notes=(*notes, *ignored))


def _values(text: str, meaning: Mapping[int, str | None], sample: Sample) -> list[int]:
    """Return the raw values that a class name, a number or a colour stands for.  Raises UsageError."""
    named = [value for value, name in meaning.items() if name == text]
    if named:
        return named
    try:
        return [int(text.removeprefix("#"), 16) if text.startswith("#") else int(text)]
    except ValueError:
        known = sorted({name for name in meaning.values() if name is not None})
        what = f"nothing to ignore is called {text!r}{nearest(text, known)}"
        raise UsageError(f"{what}; give a class ({examples(known)}) or a value as in {_example(sample)}") from None


def _example(sample: Sample) -> str:
    """Return a raw value that occurs."""
    return sample.shown(max(sample.pixels))


def _checked(sample: Sample, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Return the classes.  Raises DataError when there are too many or fewer than two."""
    if len(classes) > MOST_CLASSES:
        raise DataError(f"{_first(sample)}: {len(classes)} classes in the masks; a label map holds {MOST_CLASSES}")
    if len(classes) < 2:
        only = f"only {classes[0]!r}" if classes else "nothing"
        raise DataError(f"{_first(sample)}: the masks hold {only}; a comparison needs at least two classes")
    return classes
