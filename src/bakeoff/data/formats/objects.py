"""One folder for each image with one mask file for each object, as in the Data Science Bowl 2018."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from bakeoff.data.dataset import Dataset, SplitName, TaskName
from bakeoff.data.decode import opened
from bakeoff.data.formats.annotations import (
    THREADS,
    Annotations,
    Item,
    Picture,
    Size,
    boxes,
    check_crowd,
    check_splits,
    measured,
)
from bakeoff.data.formats.groups import read_groups, write_groups
from bakeoff.data.formats.listing import folders_in, is_clutter, is_image, names_in
from bakeoff.data.formats.lookup import split_in
from bakeoff.data.formats.rows import Options, class_name, examples
from bakeoff.data.formats.target import new_folder, places, put
from bakeoff.data.masks import bounds, to_pixels, to_runs
from bakeoff.data.targets import Instances
from bakeoff.errors import DataError

NAME = "objects"
EXPECTS = "a folder for each image, with the image in images/ and one mask file for each object in masks/"
TASKS: tuple[TaskName, ...] = ("instance",)
ONE_CLASS = "object"  # of masks that lie in no folder of a class
DEPTH = 3  # folders around those of the images: a part, a split


@dataclass(frozen=True)
class _Place:
    """The image of one folder and its mask files with their classes, as POSIX paths below the data's folder."""

    image: str
    masks: tuple[tuple[str, str], ...]
    split: SplitName | None


def sniff(path: Path) -> str | None:
    """Say why the folder holds images with a mask file for each object, or None."""
    folders = list(_folders(path, ""))
    if not folders or any(_image(path, folder) is None for folder in folders):
        return None
    return f"{len(folders)} folders with one image and a folder masks, the first is {folders[0]}"


def read(path: Path, options: Options) -> Dataset:
    """Read `…/<name>/images/<image>` with `…/<name>/masks/*` as instance segmentation; masks become run lengths.

    A pixel belongs to the object where the mask is brighter than half of its brightest.  The class is the folder below
    masks/ that a mask lies in, else "object".  Splits are those that the folders around speak of, when there are
    several; groups are in groups.csv.  Raises DataError for a folder with several images, a mask of another size than
    its image, and damaged masks.
    """
    folders = list(_folders(path, ""))
    if not folders:
        raise DataError(f"{path}: no folder with images/ and masks/ was found; expected {EXPECTS}")
    several = [folder for folder in folders if _image(path, folder) is None]
    if several:
        raise DataError(f"{path}: {len(several)} folders do not have one image in images/: {examples(several)}")
    found = [_place(path, folder) for folder in folders]
    sizes = measured(path, [place.image for place in found])
    groups = read_groups(path)
    splits = {place.split for place in found}
    if None in splits and len(splits) > 1:
        bare = [place.image for place in found if place.split is None]
        raise DataError(f"{path}: folders beside those of train, val and test: {examples(bare)}: move them away")
    jobs = [(path, place, mask, name, sizes[place.image]) for place in found for mask, name in place.masks]
    with ThreadPoolExecutor(THREADS) as pool:
        items = iter(pool.map(lambda job: _item(*job), jobs))
        pictures = [
            Picture(
                place.image,
                tuple(next(items) for _ in place.masks),
                sizes[place.image],
                None,
                str(path / place.image),
                groups.get(place.image),
                place.split if len(splits) > 1 else None,
            )
            for place in found
        ]
    return Annotations(path, NAME, pictures).dataset(options)


def write(dataset: Dataset, path: Path) -> None:
    """Write `[split/]<stem>/images/<image>`, `[split/]<stem>/masks/[class/]00000.png` and groups.csv into a new folder.

    Polygons become pixels.  Raises DataError for crowd objects, for classes that cannot be folder names, and for splits
    that only some records have.
    """
    check_splits(dataset)
    check_crowd(dataset, NAME)
    plain = dataset.classes == (ONE_CLASS,)
    for name in () if plain else dataset.classes:
        if is_clutter(name) or set("/\\\0") & set(name) or len(name) > 200:
            raise DataError(f"class {name!r} cannot be the name of a folder; write coco instead")
    with new_folder(path) as root:
        chosen = places(dataset, lambda record: record.split or "", by_stem=True)
        images = {}
        for record in dataset.records:
            image = Path(chosen[record.id])
            folder = image.with_suffix("")
            images[record.id] = (folder / "images" / image.name).as_posix()
            put(dataset, record, root / images[record.id])
            target = boxes(record)
            (root / folder / "masks").mkdir()
            for number, mask in enumerate(target.masks if isinstance(target, Instances) else ()):
                inner = "" if plain else dataset.classes[int(target.labels[number])]
                file = root / folder / "masks" / inner / f"{number:05d}.png"
                file.parent.mkdir(exist_ok=True)
                Image.fromarray(to_pixels(mask, target.size).astype(np.uint8) * 255).save(file)
        write_groups(root, {images[record.id]: record.group for record in dataset.records})


def _folders(path: Path, inside: str, depth: int = DEPTH) -> Iterator[str]:
    """Find the folders that have images/ and masks/ of their own."""
    inner = set(folders_in(path / inside))
    if inside and {"images", "masks"} <= inner:
        yield inside
    elif depth:
        for name in sorted(inner):
            yield from _folders(path, f"{inside}/{name}".lstrip("/"), depth - 1)


def _image(path: Path, folder: str) -> str | None:
    """Return the one image of a folder, None when there is none or several."""
    names = [name for name in names_in(path / folder / "images") if is_image(name)]
    return f"{folder}/images/{names[0]}".lstrip("/") if len(names) == 1 else None


def _place(path: Path, folder: str) -> _Place:
    """Return one image with its masks."""
    image = _image(path, folder) or ""
    classes = ["", *folders_in(path / folder / "masks")]
    masks = [
        (f"{folder}/masks/{inner}/{name}".replace("//", "/").lstrip("/"), class_name(inner) or ONE_CLASS)
        for inner in classes
        for name in names_in(path / folder / "masks" / inner)
        if is_image(name)
    ]
    around = folder.rpartition("/")[0]
    return _Place(image, tuple(sorted(masks)), split_in(around) if around else None)


def _item(path: Path, place: _Place, file: str, name: str, size: Size | None) -> Item:
    """Return the object of one mask file."""
    with opened(path / file, None) as opening:
        opening.load()
        values = np.asarray(opening.convert("L") if opening.mode not in ("L", "1", "I;16", "I") else opening)
    found = (values.shape[1], values.shape[0])
    if size is not None and found != size:
        raise DataError(f"{path / file}: its size is {found}, that of {place.image} {size}")
    runs = to_runs(values > int(values.max()) // 2, found)
    return Item(name, bounds(runs, found), runs)
