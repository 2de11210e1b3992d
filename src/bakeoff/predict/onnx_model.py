"""An exported ONNX file as a Predictor: ONNX Runtime and numpy, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bakeoff.data.dataset import TaskName
from bakeoff.data.decode import Resize
from bakeoff.data.targets import Target
from bakeoff.errors import DataError, UsageError
from bakeoff.predict.interface import INPUT, Interface, label_images
from bakeoff.tasks import TASKS


class OnnxPredictor:
    """Labels images with a file that `bakeoff export` wrote, on the CPU."""

    def __init__(self, path: Path | str, threads: int = 0) -> None:
        """Open a file; `threads` 0 is as many as there are cores.

        Raises UsageError when ONNX Runtime or the file is missing, DataError when it is no ONNX file or none of ours.
        """
        self.path = Path(path)
        if not self.path.is_file():
            raise UsageError(f"{self.path}: no such file; `bakeoff export` writes one")
        runtime = _runtime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 4
        try:
            self._session = runtime.InferenceSession(str(self.path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own classes, which have no public root
            raise DataError(f"{self.path}: cannot be opened as an ONNX file: {error}") from None
        self.interface = Interface.from_metadata(self._session.get_modelmeta().custom_metadata_map, self.path)
        names = tuple(one.name for one in self._session.get_outputs())
        if names != self.interface.outputs:
            raise DataError(
                f"{self.path}: gives {', '.join(names)} and should give {', '.join(self.interface.outputs)}"
            )

    @property
    def task(self) -> TaskName:
        """What kind of prediction it makes."""
        return self.interface.task

    @property
    def classes(self) -> tuple[str, ...]:
        """The canonical label map."""
        return self.interface.classes

    @property
    def size(self) -> int:
        """The input side in pixels."""
        return self.interface.size

    @property
    def resize(self) -> Resize:
        """How an image is brought to the input side."""
        return self.interface.resize

    @property
    def batch(self) -> int:
        """How many images are labelled at once: as many as in evaluations of the task, or all that the file takes."""
        return self.interface.batch or TASKS[self.task](self.classes).batch

    def __call__(self, pixels: NDArray[np.uint8]) -> Sequence[Target]:
        """Return a prediction per image of `pixels` (B, S, S, 3) uint8 RGB, in the frame of these images."""
        return label_images(self.interface, self._run, pixels)

    def _run(self, pixels: NDArray[np.uint8]) -> list[NDArray[Any]]:
        """Return the outputs for images that the file takes at once."""
        try:
            found: list[NDArray[Any]] = self._session.run(None, {INPUT: pixels})
        except Exception as error:
            raise DataError(f"{self.path}: the network failed on images of shape {pixels.shape}: {error}") from None
        return found


def _runtime() -> Any:
    """Import ONNX Runtime, which is an extra."""
    try:
        import onnxruntime
    except ImportError:
        raise UsageError("an .onnx file needs ONNX Runtime: pip install 'bakeoff[onnx]'") from None
    return onnxruntime
