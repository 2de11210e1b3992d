"""The built-in data: scikit-learn's real handwritten digits as class folders of PNG files, without a download."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from bakeoff.data.decode import measure
from bakeoff.data.formats.target import new_folder
from bakeoff.errors import UnreadableImage, UsageError

COUNT = 1797


def write_digits(folder: Path, size: int = 32) -> Path:
    """Write 1,797 digits as `0`..`9`/digit-NNNN.png, size x size grey pixels, white on black; return the folder.

    Source: UCI Optical Recognition of Handwritten Digits (Alpaydin & Kaynak 1998), 8x8 pixels, scaled up bicubic; NNNN
    is the position in sklearn.datasets.load_digits.  Nothing is done when the folder is already complete.  Raises
    UsageError when it holds something else, ResourceError when it cannot be written.
    """
    if _complete(folder, size):
        return folder
    if folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"{folder}: holds something else than the {COUNT} digits of {size} px; name another folder")
    from sklearn.datasets import load_digits  # takes more than a second

    images, labels = load_digits(return_X_y=True)
    with new_folder(folder) as root:
        for label in range(10):
            (root / str(label)).mkdir()
        for position, (pixels, label) in enumerate(zip(images, labels, strict=True)):
            grey = np.rint(pixels.reshape(8, 8) * (255 / 16)).astype(np.uint8)  # 16 is full ink
            image = Image.fromarray(grey).resize((size, size), Image.Resampling.BICUBIC)
            image.save(root / str(label) / f"digit-{position:04d}.png")
    return folder


def _complete(folder: Path, size: int) -> bool:
    """Say whether the folder holds every digit, in this size, and nothing more."""
    found = sorted(folder.glob("*/*"), key=lambda path: path.name)
    if [path.name for path in found] != [f"digit-{position:04d}.png" for position in range(COUNT)]:
        return False
    try:
        return measure(found[0]) == (size, size)
    except UnreadableImage:
        return False
