"""Images decoded and resized once per study: a uint8 memory map shared by every run and worker."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bakeoff.data.dataset import Dataset
from bakeoff.data.decode import Resize, read_image, resize
from bakeoff.files import read_json, replacing, write_json

Counter = Callable[[int, int], None]  # told how many of how many images are done


def pixels_path(folder: Path, size: int, policy: Resize) -> Path:
    """Return the cache file for an input side and a resize policy."""
    return folder / f"pixels-{size}-{policy}.npy"


def open_pixels(path: Path) -> NDArray[np.uint8]:
    """Map a cache file: (n, S, S, 3) uint8, row i is record i of the dataset."""
    pixels: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    return pixels


def build_pixels(
    dataset: Dataset,
    folder: Path,
    size: int,
    policy: Resize = "squash",
    progress: Counter | None = None,
) -> Path:
    """Decode and resize every image into the cache, unless it is there for this data; return its path.

    Raises UnreadableImage for the first image that cannot be decoded and ResourceError when the disk is full.
    """
    path = pixels_path(folder, size, policy)
    stamp = path.with_suffix(".json")
    if path.exists() and stamp.exists() and read_json(stamp)["fingerprint"] == dataset.fingerprint:
        return path
    stamp.unlink(missing_ok=True)  # a kill between the two files must not leave new pixels under the old stamp
    with replacing(path) as temporary, ThreadPoolExecutor(4) as pool:
        shape = (len(dataset), size, size, 3)
        pixels = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        reserve(temporary)
        images = pool.map(lambda record: resize(read_image(dataset, record), size, policy), dataset.records)
        for row, image in enumerate(images):
            pixels[row] = image
            if progress is not None:
                progress(row + 1, len(dataset))
        pixels.flush()
    write_json(stamp, {"fingerprint": dataset.fingerprint, "size": size, "resize": policy})
    return path


def reserve(path: Path) -> None:
    """Take the disk space of a mapped file at once: a full disk is then an error, not a bus error later."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
