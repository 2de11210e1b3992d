"""The yaml file of a YOLO dataset: class names, and where the images of each split and their label files are."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bakeoff.data.dataset import SplitName
from bakeoff.data.formats.listing import list_images, names_in
from bakeoff.data.formats.rows import class_name, examples
from bakeoff.errors import DataError

MAX_BYTES = 4 << 20
SPLIT_KEYS: dict[str, SplitName] = {"train": "train", "val": "val", "valid": "val", "test": "test"}
SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class Config:
    """What the file says: id -> class name, the key `path`, and the entries of every split that it names."""

    file: Path
    names: dict[int, str]
    base: str
    entries: dict[SplitName, tuple[str, ...]]
    skips_unlabelled: bool

    def images(self) -> tuple[dict[SplitName, list[Path]], list[str]]:
        """Return the images of every split that is there, and a sentence for each entry that is not."""
        found: dict[SplitName, list[Path]] = {}
        missing = []
        for split, entries in self.entries.items():
            for entry in entries:
                place = self._place(entry)
                if place is None:
                    missing.append(f"{split}: {entry} is not there")
                else:
                    found.setdefault(split, []).extend(_listed(place))
        return {split: sorted(set(images)) for split, images in found.items()}, missing

    def label(self, image: Path) -> Path:
        """Return where the label file of an image is, or should be.

        Where the last folder `images` of its path becomes `labels`, else the same below the yaml's folder, else beside.
        """
        before, mark, rest = image.as_posix().rpartition("/images/")
        places = [Path(f"{before}/labels/{rest}"), self.file.parent / "labels" / rest] if mark else []
        texts = [place.with_suffix(".txt") for place in (*places, image)]
        return next((text for text in texts if text.is_file()), texts[0])

    def _place(self, entry: str) -> Path | None:
        """Return the file or folder of an entry: from `path`, from the yaml's folder, or from the one above it.

        `path` is often that of another machine, and `../train/images` one step too high (as some exports write it).
        """
        here = self.file.parent
        bases = [here / self.base, here, here.parent / self.base, here.parent]
        below = entry
        while below.startswith("../"):
            below = below.removeprefix("../")
        found = (base / name for name in dict.fromkeys((entry, below)) for base in bases)
        return next((Path(os.path.normpath(place)) for place in found if place.exists()), None)


def find_config(path: Path) -> Path | None:
    """Return the yaml file at a path or the one in a folder that has class names, None for none or several."""
    path = Path(os.path.abspath(path))  # the key `path` may be absolute, and one source is above both
    if path.is_file():
        return path if path.suffix.lower() in SUFFIXES else None
    files = [path / name for name in names_in(path) if name.lower().endswith(SUFFIXES)]
    fitting = [file for file in files if _has_names(file)]
    return fitting[0] if len(fitting) == 1 else None


def read_config(file: Path) -> Config:
    """Read the file; every value is text, so that the class names no, on and 012 stay what they are.

    Raises DataError for damage, and for names that are missing, empty, repeated, or fewer than `nc` says.
    """
    content = _load(file)
    if not isinstance(content, dict) or not content.get("names"):
        raise DataError(f"{file}: no class names: expected the key `names`, a list or id: name")
    if "kpt_shape" in content:
        raise DataError(f"{file}: key points (kpt_shape) are not a task here; remove them from the label files")
    names = _names(content["names"], file)
    stated = content.get("nc")
    if isinstance(stated, str) and stated.isdecimal() and int(stated) != len(names):
        raise DataError(f"{file}: nc says {stated} classes, names has {len(names)}")
    entries: dict[SplitName, tuple[str, ...]] = {}
    for key, split in SPLIT_KEYS.items():
        value = content.get(key)
        texts = [value] if isinstance(value, str) else value if isinstance(value, list) else []
        kept = tuple(text.replace("\\", "/") for text in texts if isinstance(text, str) and text.strip())
        if kept:
            entries[split] = (*entries.get(split, ()), *kept)
    base = content.get("path")
    skips = str(content.get("skip_if_label_file_missing", "")).lower() in ("true", "yes", "on")
    return Config(file, names, base if isinstance(base, str) else ".", entries, skips)


def _names(content: Any, file: Path) -> dict[int, str]:
    """Return id -> class name from a list or a mapping."""
    pairs = enumerate(content) if isinstance(content, list) else content.items() if isinstance(content, dict) else ()
    found: dict[int, str] = {}
    for id, name in pairs:
        if not str(id).isdecimal() or not isinstance(name, str):
            raise DataError(f"{file}: names must be a list, or whole numbers and names; found {id}: {name}")
        found[int(id)] = class_name(name)
    twice = [repr(name) for name, count in Counter(found.values()).items() if count > 1 or not name]
    if twice or not found:
        raise DataError(f"{file}: names must be there and unique: {examples(twice) or 'there is none'}")
    return found


def _listed(place: Path) -> list[Path]:
    """Return the images below a folder, in a .txt list (from its folder or the root of the data), or one image."""
    if place.is_dir():
        return [place / image for image in list_images(place).images]
    if place.suffix.lower() != ".txt":
        return [place]
    try:
        lines = place.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError as error:
        raise DataError(f"{place}: cannot be read: {error.strerror}") from None
    images = [Path(os.path.normpath(place.parent / line.strip())) for line in lines if line.strip()]
    absent = [str(image) for image in images if not image.is_file()]
    if absent:
        raise DataError(f"{place}: {len(absent)} of {len(images)} images are not there: {examples(absent)}")
    return images


class _Texts(yaml.BaseLoader):  # type: ignore[misc,unused-ignore]  # without type stubs
    """Reads every value as text and refuses a key that a mapping has twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Make a mapping."""
        found: dict[Hashable, Any] = super().construct_mapping(node, deep)
        if len(found) != len(node.value):
            raise yaml.constructor.ConstructorError(None, None, "a key appears twice", node.start_mark)
        return found


def _load(file: Path) -> Any:
    """Read a yaml file as lists, mappings and text."""
    try:
        if file.stat().st_size > MAX_BYTES:
            raise DataError(f"{file}: larger than {MAX_BYTES >> 20} MB, which no list of classes is")
        return yaml.load(file.read_bytes(), Loader=_Texts)  # BaseLoader makes nothing but text
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"{file}: damaged yaml: {' '.join(str(error).split())}") from None
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from None


def _has_names(file: Path) -> bool:
    """Say whether a yaml file has class names and a split."""
    try:
        content = _load(file)
    except DataError:
        return False
    return isinstance(content, dict) and bool(content.get("names")) and any(key in content for key in SPLIT_KEYS)
