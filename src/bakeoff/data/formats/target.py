"""Where a writer puts a dataset: a new folder that appears complete or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from bakeoff.data.dataset import Dataset, Record
from bakeoff.data.decode import read_image
from bakeoff.data.formats.listing import is_clutter, is_image
from bakeoff.errors import DataError, UsageError
from bakeoff.files import disk_error


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`; on success it is renamed to `path`, on failure removed.

    Raises UsageError when `path` exists and is not an empty folder, and ResourceError when it cannot be written.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UsageError(f"{path}: exists and is not an empty folder; name a new one, nothing is ever overwritten")
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.part-", dir=path.parent))
        yield temporary
        temporary.chmod(0o755)
        os.replace(temporary, path)
    except OSError as error:
        raise disk_error(path, error) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def places(dataset: Dataset, folder: Callable[[Record], str], by_stem: bool = False) -> dict[str, str]:
    """Choose where each record's image goes: id -> POSIX path below the target.

    The file keeps its name inside `folder(record)`; a frame of a file of many images becomes a PNG with its number.
    Names that meet (`by_stem`: whose stems meet), in any case, get -2, -3, … in the order of the records.
    """
    taken: set[str] = set()
    chosen: dict[str, str] = {}
    for record in dataset.records:
        name = PurePosixPath(_file_name(record))
        stem, count = name.stem, 1
        while (key := f"{folder(record)}/{stem}{'' if by_stem else name.suffix}".casefold()) in taken:
            count += 1
            stem = f"{name.stem}-{count}"
        taken.add(key)
        chosen[record.id] = str(PurePosixPath(folder(record), stem + name.suffix))
    return chosen


def put(dataset: Dataset, record: Record, path: Path) -> None:
    """Write a record's image: its own bytes where the file is one image, else a PNG of its pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if record.frame is None and is_image(record.image):
        source = dataset.path(record)
        try:
            shutil.copyfile(source, path)
        except OSError as error:
            if error.filename == str(source):
                raise DataError(f"{source}: image of record {record.id}: {error.strerror}") from None
            raise
        return
    pixels = read_image(dataset, record)
    grey = np.ptp(pixels, axis=2).max() == 0
    Image.fromarray(pixels[..., 0] if grey else pixels).save(path, "PNG")


def _file_name(record: Record) -> str:
    """Return the name of a record's image file in the target."""
    name = PurePosixPath(record.image).name
    name = f"_{name}" if is_clutter(name) else name
    if record.frame is not None:
        return f"{name.split('.')[0]}-{record.frame:05d}.png"
    return name if is_image(name) else f"{name}.png"
