"""The foreground of a picture by a network that the user brings as an ONNX file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bakeoff.errors import DataError, UsageError, nearest


@dataclass(frozen=True)
class Family:
    """How a published network is fed and read: colours less `mean` over `std`, its `side`, and what its output is.

    `scale`: pixels are divided by the "brightest" one or by "255".  `output` "stretched": a map to be stretched to
    0..1; "logits": a sigmoid makes it one.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    side: int
    scale: Literal["brightest", "255"]
    output: Literal["stretched", "logits"]


IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FAMILIES = {
    "u2net": Family(*IMAGENET, 320, "brightest", "stretched"),  # Qin et al. 2020, github.com/xuebinqin/U-2-Net
    "isnet": Family((0.5, 0.5, 0.5), (1.0, 1.0, 1.0), 1024, "255", "stretched"),  # Qin et al. 2022, xuebinqin/DIS
    "birefnet": Family(*IMAGENET, 1024, "255", "logits"),  # Zheng et al. 2024, github.com/ZhengPeng7/BiRefNet
}


class OnnxMatting:
    """A matting network: (image, seed) -> how much of each pixel is foreground."""

    def __init__(self, file: Path, family: str | None = None) -> None:
        """Load the file on the CPU; `family` None is told by the file's name.

        Raises UsageError when ONNX Runtime or the file is missing, or the family is unknown; DataError for a file that
        is no such network.
        """
        if not file.is_file():
            raise UsageError(f"{file}: no such file; name the ONNX file of a matting network with --model")
        self.file, self.family = file, _family(file, family)
        runtime = _runtime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 4
        try:
            self._session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own classes, which have no public root
            raise DataError(f"{file}: cannot be loaded as an ONNX network: {error}") from None
        given = self._session.get_inputs()
        shape = list(given[0].shape) if given else []
        if len(given) != 1 or len(shape) != 4 or (shape[1] not in (3, "3") and isinstance(shape[1], int)):
            found = "; ".join(f"{one.name} {one.shape}" for one in given) or "nothing"
            raise DataError(f"{file}: expected one input (1, 3, height, width), it takes {found}")
        self._name = given[0].name
        height, width = (side if isinstance(side, int) and side > 0 else self.family.side for side in shape[2:])
        self._size = (width, height)

    def __call__(self, image: NDArray[np.uint8], seed: int) -> NDArray[np.float32]:
        """Return the matte (H, W) of an image (H, W, 3) uint8 RGB, 0 to 1; nothing is drawn, so `seed` is not used."""
        del seed
        try:
            outputs = self._session.run(None, {self._name: self._fed(image)})
        except Exception as error:
            raise DataError(f"{self.file}: the network failed on an image: {error}") from None
        found = np.asarray(outputs[0], np.float32).squeeze()
        if found.ndim != 2 or not np.isfinite(found).all():
            raise DataError(f"{self.file}: its first output has the shape {np.shape(outputs[0])} and should be one map")
        height, width = image.shape[:2]
        full = cv2.resize(self._matte(found), (width, height), interpolation=cv2.INTER_LINEAR)
        return np.clip(full, 0, 1).astype(np.float32)

    def _fed(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return an image as the network takes it, (1, 3, height, width) float32."""
        small = Image.fromarray(image).resize(self._size, Image.Resampling.BILINEAR)
        pixels = np.asarray(small, np.float32)
        pixels /= max(float(pixels.max()), 1.0) if self.family.scale == "brightest" else 255.0
        normal = (pixels - np.array(self.family.mean, np.float32)) / np.array(self.family.std, np.float32)
        return np.ascontiguousarray(normal.transpose(2, 0, 1)[None], np.float32)

    def _matte(self, found: NDArray[np.float32]) -> NDArray[np.float32]:
        """Bring what the network gives to 0..1."""
        low, high = float(found.min()), float(found.max())
        if self.family.output == "stretched":
            return np.asarray((found - low) / max(high - low, 1e-6), np.float32)
        if low >= 0 and high <= 1:  # some exports hold the sigmoid already
            return found
        return np.asarray(1 / (1 + np.exp(-np.clip(found, -60, 60))), np.float32)


def _family(file: Path, name: str | None) -> Family:
    """Return the family of that name, or the one that the file's name speaks of."""
    if name is None:
        plain = "".join(c for c in file.stem.casefold() if c.isalnum())
        name = next((known for known in FAMILIES if known in plain), None)
        if name is None:
            raise UsageError(f"{file}: its name does not tell the network; say --family {', '.join(FAMILIES)}")
    if name not in FAMILIES:
        raise UsageError(f"--family {name}{nearest(name, FAMILIES)}: known are {', '.join(FAMILIES)}")
    return FAMILIES[name]


def _runtime() -> Any:
    """Import ONNX Runtime, which is an extra."""
    try:
        import onnxruntime
    except ImportError:
        raise UsageError(
            "--model needs ONNX Runtime: pip install 'bakeoff[onnx]'; or leave it out for GrabCut"
        ) from None
    return onnxruntime
