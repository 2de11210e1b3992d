"""A path on a command line -> the Predictor that it means, without torch where the file needs none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bakeoff.predict.predictor import Predictor

if TYPE_CHECKING:
    from bakeoff.models.trained import Trained

ONNX = ".onnx"


def open_predictor(model: Path | str | Trained | Predictor, device: str = "auto") -> Predictor:
    """Return what labels images: an exported .onnx file, the trained model of a path or in memory, or as it is.

    Raises UsageError or ResourceError for a device that is unknown or not there, DataError when a file is missing or
    damaged.  An .onnx file is run on the CPU by ONNX Runtime, and torch is not imported for it.
    """
    if is_onnx(model):
        from bakeoff.predict.onnx_model import OnnxPredictor

        return OnnxPredictor(Path(str(model)))
    if isinstance(model, Predictor):
        return model
    from bakeoff.models import trained
    from bakeoff.predict.network import NetworkPredictor
    from bakeoff.tasks.inference import Conditions, choose_device

    chosen = choose_device(device)  # before the weights are read: a wrong name is told at once
    found = model if isinstance(model, trained.Trained) else trained.load(Path(model))
    return NetworkPredictor(found, Conditions(chosen))


def is_onnx(model: object) -> bool:
    """Say whether a model is the path of an exported file, which needs no torch."""
    return isinstance(model, Path | str) and Path(model).suffix.lower() == ONNX
