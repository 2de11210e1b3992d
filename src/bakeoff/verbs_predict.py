"""The verb predict: what labels images, and where the answers go.  An exported .onnx file needs no torch here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from bakeoff.data.cache import Counter
from bakeoff.predict import Output, Prediction, Predictor, find_images, illustrated, open_predictor
from bakeoff.predict import predict as predict_images
from bakeoff.predict import write as write_output
from bakeoff.predict.opening import is_onnx


def predict(
    model: str | Path,
    inputs: Iterable[str | Path],
    batch: int | None = None,
    device: str = "auto",
    threshold: float = 0.5,
) -> Iterator[Prediction]:
    """Predict images, folders or globs with a trained model, a run's folder, a study's winner, or an .onnx file.

    Objects with a score below `threshold` are left out.
    """
    return predict_images(find_predictor(Path(model), device), inputs, batch, device, threshold)


def write_predictions(
    model: Path, inputs: Sequence[str], output: Output, how: tuple[int | None, str, float], progress: Counter | None
) -> int:
    """Predict (batch, device, threshold) and write the output; return how many files could not be read.

    With folders for pictures, Refused is raised before anything is predicted when files there would be overwritten.
    """
    found = find_predictor(model, how[1])
    output.chosen(found.task)
    paths = find_images(inputs) if output.folders.kinds else []
    output.folders.check(paths, found.task)
    predictions = predict_images(found, inputs, *how, progress)
    return write_output(illustrated(predictions, paths, output.folders) if paths else predictions, output, found)


def find_predictor(model: Path, device: str = "auto") -> Predictor:
    """Return what labels images: an exported file, or the model that a path means (of a study its winner)."""
    if is_onnx(model):
        return open_predictor(model)
    from bakeoff.winners import find_model  # which reads studies: an exported file should not wait for it

    return open_predictor(find_model(model), device)
