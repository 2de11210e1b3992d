"""Which mask files belong to which image: by folders side by side, by name, by a pattern or by a YAML file."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import yaml

from bakeoff.data.dataset import SplitName
from bakeoff.data.formats.listing import folders_in, list_images, names_in
from bakeoff.data.formats.rows import examples, split_name
from bakeoff.errors import UsageError, nearest

IMAGES = ("images", "image", "imgs", "img", "jpegimages", "pictures", "photos", "frames", "rgb")
MASKS = (
    *("masks", "mask", "segmentationclass", "segmentationclassraw", "segmentationclasspng", "ground_truth"),
    *("groundtruth", "gt", "segmentations", "segmentation", "seg", "labels", "label", "annotations", "annotation"),
    *("annots", "annot", "mattes"),
)  # the first that has images in it wins
LISTING = "segmentationclass"  # Pascal VOC: only some of its images have a label map
SUFFIX = re.compile(
    r"[ _.-](masks?|gt|labels?|seg|segmentation|groundtruth|annotation|matte)([ _-]?\d+)?", re.IGNORECASE
)
SEPARATORS = re.compile(r"[ _.()-]+")


class Pair(NamedTuple):
    """An image and its masks, (file, class name where each class has a file of its own); POSIX paths."""

    image: str
    masks: tuple[tuple[str, str | None], ...]
    split: SplitName | None


@dataclass
class Found:
    """Pairs below the folder `source`, what is left over, and what is wrong; `partial`: images may lack a mask."""

    source: Path
    pairs: list[Pair] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)  # masks without an image
    bare: list[str] = field(default_factory=list)  # images without a mask
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    partial: bool = False

    def add(self, other: Found) -> None:
        """Take over what was found in one place."""
        self.pairs += other.pairs
        self.lost += other.lost
        self.bare += other.bare
        self.faults += other.faults
        self.notes += other.notes
        self.partial = self.partial or other.partial


@dataclass(frozen=True)
class Place:
    """Image and mask files that belong together, and the folders below which their paths should agree."""

    images: tuple[str, ...]
    masks: tuple[str, ...]
    image_root: str
    mask_root: str
    split: SplitName | None = None

    @property
    def partial(self) -> bool:
        """Say whether images may lack a mask."""
        return self.mask_root.rpartition("/")[2].casefold().startswith(LISTING)


def find(path: Path, masks: str | None = None) -> Found:
    """Return the pairs below a folder, found as `masks` says (a folder or a pattern), else by the usual names.

    Raises UsageError for a pattern without {stem} and for a folder of masks that is not there.
    """
    if masks is not None and ("{" in masks or "*" in masks):
        return by_pattern(path, masks)
    if masks is not None:
        return _by_folder(path, masks)
    found = by_yaml(path)
    if found is not None:
        return found
    found = Found(path)
    for place in _places(path):
        found.add(match(path, place))
    return found


# --- folders ---


def _places(path: Path) -> list[Place]:
    """Find the layout: folders side by side, the same inside split folders, or images and masks in one folder."""
    own = _beside(path, "")
    if own:
        return own
    splits = [name for name in folders_in(path) if split_name(name)]
    inside = [
        replace(place, split=split_name(name)) for name in splits for place in _beside(path, name) or _mixed(path, name)
    ]
    return inside or _mixed(path, "")


def _beside(path: Path, below: str) -> list[Place]:
    """Pair the folders of images and of masks in one folder: by what their names have beside the usual word."""
    images: dict[str, str] = {}
    masks: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for name in folders_in(path / below):
        role = _role(name)
        if role is None:
            if split_name(name):
                images.setdefault(name.casefold(), name)  # CamVid: train beside trainannot
            continue
        kind, key, rank = role
        if kind == "image":
            images[key] = name
        else:
            masks[key].append((rank, name))
    if len(images) == len(masks) == 1:  # Training_Images beside Ground_Truth; a split alone is none
        images, masks = {"": next(iter(images.values()))}, {"": next(iter(masks.values()))}
    places = []
    for key in sorted(images.keys() & masks.keys()):
        for _, name in sorted(masks[key]):
            place = _place(path, _join(below, images[key]), _join(below, name), split_name(key))
            if place is not None:
                places.append(place)
                break
    return places


def _role(name: str) -> tuple[str, str, int] | None:
    """Return what a folder holds (image, mask), what its name has beside the word, and how usual the word is."""
    text = re.sub(r"[\s-]+", "_", name.casefold())
    for kind, words in (("mask", MASKS), ("image", IMAGES)):
        for rank, word in enumerate(words):
            key = text.removesuffix(word)
            if key == text or not (key in ("", "_") or key.endswith("_") or split_name(key)):
                continue
            key = key.strip("_")
            inner = _role(key) if kind == "image" and key else None  # mask_images are masks
            return inner if inner is not None else (kind, key, rank)
    return None


def _place(path: Path, images: str, masks: str, split: SplitName | None) -> Place | None:
    """List two folders, or return None when one of them has no image file."""
    listed = (_below(path, images), _below(path, masks))
    return Place(*listed, images, masks, split) if all(listed) else None


def _below(path: Path, folder: str) -> tuple[str, ...]:
    """Return the image files at any depth of a folder, as paths below `path`."""
    return tuple(_join(folder, name) for name in list_images(path / folder).images)


def _mixed(path: Path, below: str) -> list[Place]:
    """Take images and masks apart that share folders: masks end in _mask, _gt and the like."""
    listed = _below(path, below)
    masks = tuple(name for name in listed if _named_mask(name))
    images = tuple(name for name in listed if not _named_mask(name))
    return [Place(images, masks, below, below)] if images and masks else []


def _named_mask(path: str) -> bool:
    """Say whether a file is a mask by the end of its name."""
    stem = _stem(path)
    match = SUFFIX.search(stem)
    return match is not None and any(found.end() == len(stem) for found in SUFFIX.finditer(stem))


def _by_folder(path: Path, folder: str) -> Found:
    """Pair the masks of a named folder with the other images: below that folder of images where most fit."""
    folder = Path(folder).as_posix().strip("/")
    masks = _below(path, folder) if (path / folder).is_dir() else ()
    if not masks:
        raise UsageError(f"{path / folder}: no folder of masks{nearest(folder, folders_in(path))}")
    others = [name for name in list_images(path).images if not name.startswith(f"{folder}/")]
    roots = {"/".join(name.split("/")[:depth]) for name in others for depth in (0, 1, 2) if name.count("/") >= depth}
    best = Found(path, lost=list(masks))
    for root in sorted(roots, key=lambda name: (name.count("/"), name)):
        images = tuple(name for name in others if name.startswith(f"{root}/" if root else ""))
        tried = match(path, Place(images, masks, root, folder))
        if (len(tried.pairs), -len(tried.bare)) > (len(best.pairs), -len(best.bare)):
            best = tried
    return best


# --- which mask belongs to which image ---


def match(source: Path, place: Place) -> Found:
    """Pair the files of a place: the same folder below its root, and the mask's name begins with the image's."""
    found = Found(source, partial=place.partial)
    owners: dict[tuple[str, str], str] = {}
    for image in place.images:
        key = _key(image, place.image_root)
        if owners.setdefault(key, image) != image:
            found.faults.append(f"{owners[key]} and {image} share their stem: whose is the mask? rename or remove one")
    per_class = _class_folders(place, {folder for folder, _ in owners})
    masks: dict[str, dict[tuple[str | None, str], str]] = defaultdict(dict)  # image -> (class, rest of name) -> mask
    for mask in place.masks:
        folder, stem = _key(mask, place.mask_root)
        name: str | None = None
        if per_class:
            name, _, folder = folder.partition("/")
        owner = _owner(owners, folder, stem)
        if owner is None:
            found.lost.append(mask)
        elif masks[owner[0]].setdefault((name, owner[1]), mask) != mask:
            found.faults.append(f"{masks[owner[0]][name, owner[1]]} and {mask} are both the mask of {owner[0]}")
    named = None if per_class else _names({rest for keys in masks.values() for _, rest in keys}, found)
    for image in place.images:
        if image not in masks:
            found.bare.append(image)
            continue
        layers = [(mask, named[rest] if named else name) for (name, rest), mask in masks[image].items()]
        inner = split_name(_key(image, place.image_root)[0].partition("/")[0])
        found.pairs.append(Pair(image, tuple(sorted(layers)), place.split or inner))
    return found


def _key(path: str, root: str) -> tuple[str, str]:
    """Return a file's folder below the root, and its stem."""
    folder, _, _ = path.rpartition("/")
    return folder[len(root) :].strip("/"), _stem(path)


def _class_folders(place: Place, known: set[str]) -> bool:
    """Say whether masks lie in folders named after classes: several, none of which the images have too."""
    folders = {_key(mask, place.mask_root)[0].partition("/")[0] for mask in place.masks}
    tops = {folder.partition("/")[0] for folder in known} - {""}
    return len(folders) > 1 and "" not in folders and not folders & tops


def _owner(owners: dict[tuple[str, str], str], folder: str, stem: str) -> tuple[str, str] | None:
    """Return the image whose stem a mask's stem begins with, the longest such, and the rest of the mask's stem."""
    cuts = [len(stem), *(found.start() for found in reversed(list(SEPARATORS.finditer(stem))))]
    for cut in cuts:
        image = owners.get((folder, stem[:cut]))
        if image is not None:
            return image, stem[cut:]
    return None


def _names(rests: set[str], found: Found) -> dict[str, str | None]:
    """Say which class each ending of a mask's name means: none, when all endings mean the same."""
    meaning = {rest: _class_of(rest) for rest in rests}
    distinct = set(meaning.values())
    if len(distinct) <= 1:
        return dict.fromkeys(rests)
    if None in distinct:
        shown = examples(sorted(repr(rest) for rest in rests))
        found.faults.append(
            f"names of masks go on after the image's name with {shown}: say which files are masks, as in"
            " --set data.masks='masks/{stem}.png' or 'masks/{stem}_{class}.png'"
        )
    return dict(meaning)


def _class_of(rest: str) -> str | None:
    """Return the class that the ending of a mask's name says: numbers and words for `mask` left out."""
    parts = [part for part in SEPARATORS.split(rest) if part and not part.isdigit()]
    return "_".join(part for part in parts if not SUFFIX.fullmatch(f"_{part}")) or None


# --- patterns ---


def by_pattern(path: Path, pattern: str) -> Found:
    """Pair by a pattern of the masks' paths: {stem} of the image, {folder} of the image, {class}; * is any text.

    Folders of images in which no image has a mask are left out.  Raises UsageError.
    """
    expression = _expression(pattern)
    listed = list_images(path).images
    matches = {name: found for name in listed if (found := expression.fullmatch(name))}
    images = [name for name in listed if name not in matches]
    with_folder = "folder" in expression.groupindex
    owners: dict[tuple[str, str], list[str]] = defaultdict(list)
    for image in images:
        owners[image.rpartition("/")[0] if with_folder else "", _stem(image)].append(image)
    result = Found(path)
    masks: dict[str, list[tuple[str, str | None]]] = defaultdict(list)
    for mask, found in matches.items():
        key = (found["folder"].strip("/") if with_folder else "", found["stem"])
        if len(owners[key]) > 1:
            result.faults.append(f"{mask} fits {examples(owners[key])}: use {{folder}} in the pattern {pattern!r}")
        elif not owners[key]:
            result.lost.append(mask)
        else:
            name = found["class"] if "class" in expression.groupindex else None
            masks[owners[key][0]].append((mask, name))
    used = {image.rpartition("/")[0] for image in masks}
    result.bare = [image for image in images if image not in masks and image.rpartition("/")[0] in used]
    result.pairs = [Pair(image, tuple(layers), _split_of(image)) for image, layers in sorted(masks.items())]
    return result


def _expression(pattern: str) -> re.Pattern[str]:
    """Turn a pattern into a regular expression."""
    parts = {"{stem}": "(?P<stem>[^/]+)", "{folder}": "(?P<folder>.*?)", "{class}": "(?P<class>[^/]+?)", "*": "[^/]*"}
    pieces = re.split(r"(\{[^}]*\}|\*)", Path(pattern).as_posix())
    fields = [piece for piece in pieces if piece.startswith("{")]
    wrong = [piece for piece in fields if piece not in parts]
    if wrong or fields.count("{stem}") != 1 or len(set(fields)) != len(fields):
        raise UsageError(f"data.masks = {pattern!r}: use {{stem}} once, and {{folder}}, {{class}} and * where needed")
    return re.compile("".join(parts.get(piece, re.escape(piece)) for piece in pieces))


def _split_of(image: str) -> SplitName | None:
    """Return the split that the first folder of a path names: train, train_images."""
    top = image.partition("/")[0] if "/" in image else ""
    role = _role(top)
    return split_name(role[1] if role is not None else top)


# --- a YAML file that names the folders ---


def by_yaml(path: Path) -> Found | None:
    """Pair as a YAML file says: `train: {images: ../images/train, masks: masks/train}`, paths from its own folder.

    Images without a mask and folders that are not there are left out, with a note.
    """
    for name in names_in(path):
        entries = list(yaml_entries(path / name))
        if not entries:
            continue
        there = [entry for entry in entries if os.path.isdir(entry[1]) and os.path.isdir(entry[2])]
        source = Path(os.path.commonpath([os.path.abspath(path), *(folder for entry in there for folder in entry[1:])]))
        found = Found(source, partial=True)
        for key, *folders in there:
            images, masks = (Path(folder).relative_to(source).as_posix() for folder in folders)
            place = _place(source, images, masks, split_name(key) if len(there) > 1 else None)
            if place is not None:
                found.add(match(source, place))
        left = [key for key, *_ in entries if key not in {entry[0] for entry in there}]
        found.notes += [f"{name} also names {key}, whose folders are not there" for key in left]
        return found
    return None


def yaml_entries(file: Path) -> Iterator[tuple[str, str, str]]:
    """Yield (key, folder of images, folder of masks) from a YAML file that has such entries; from others nothing."""
    if file.suffix.lower() not in (".yaml", ".yml"):
        return
    try:
        content = yaml.load(file.read_text(encoding="utf-8-sig"), yaml.BaseLoader)  # text, lists, dicts
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return
    for key, entry in content.items() if isinstance(content, dict) else ():
        folders = [entry.get("images"), entry.get("masks")] if isinstance(entry, dict) else []
        if folders and all(isinstance(folder, str) for folder in folders):
            images, masks = (os.path.abspath(file.parent / str(folder)) for folder in folders)
            yield str(key), images, masks


def _join(folder: str, name: str) -> str:
    """Join two parts of a POSIX path, the first of which may be empty."""
    return f"{folder}/{name}".lstrip("/")


def _stem(path: str) -> str:
    """Return a file's name without folders and suffix."""
    return os.path.splitext(path.rpartition("/")[2])[0]


def files_of(pairs: Iterable[Pair]) -> list[str]:
    """Return every mask file of the pairs, each once, in order."""
    return sorted({file for pair in pairs for file, _ in pair.masks})
