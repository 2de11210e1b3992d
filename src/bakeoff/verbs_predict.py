"""The verb predict: what labels images, and where the answers go.  An exported .onnx file needs no torch here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bakeoff.data.cache import Counter
from bakeoff.errors import UsageError
from bakeoff.predict import Options, Output, Prediction, Predictor, illustrated, open_predictor
from bakeoff.predict import write as write_output
from bakeoff.predict.calibrated import Calibrated, check_task, temperature
from bakeoff.predict.opening import is_onnx
from bakeoff.predict.options import PLAIN
from bakeoff.predict.prediction import check, counted, label
from bakeoff.predict.several import Ensemble, Flipped
from bakeoff.predict.sources import Source, find_sources, total
from bakeoff.store import RunFolder
from bakeoff.tasks.task import Outcomes


def predict(
    model: str | Path,
    inputs: Iterable[str | Path],
    batch: int | None = None,
    device: str = "auto",
    threshold: float = 0.5,
    options: Options = PLAIN,
) -> Iterator[Prediction]:
    """Predict images, folders, globs or videos with a trained model, a run, a study's winner, or an .onnx file.

    Objects with a score below `threshold` are left out.  `options` are tiles, test-time augmentation, ensembles and
    more (see predict.Options).  A file that cannot be read is told in its prediction's `error`.
    """
    check(batch, threshold)
    sources = find_sources(inputs, options.every, options.seconds)
    return _labelled(find_labeller(Path(model), device, options), sources, batch, threshold, options)


def write_predictions(
    model: Path,
    inputs: Sequence[str],
    output: Output,
    how: tuple[int | None, str, float],
    progress: Counter | None,
    options: Options = PLAIN,
) -> int:
    """Predict (batch, device, threshold) and write the output; return how many files could not be read.

    With folders for pictures, Refused is raised before anything is predicted when files there would be overwritten.
    """
    batch, device, threshold = how
    check(batch, threshold)
    labeller = find_labeller(model, device, options)
    sources = find_sources(inputs, options.every, options.seconds)
    videos = [source for source in sources if not isinstance(source, Path)]
    output.chosen(labeller.predictor.task, len(videos))
    output.folders.check(sources, labeller.predictor.task)
    found = _labelled(labeller, sources, batch, threshold, options)
    found = illustrated(found, sources, output.folders) if output.folders.kinds else found
    found = found if progress is None else counted(found, total(sources), progress)
    more = (*(("frame", "seconds") if videos else ()), *(("temperature",) if options.calibrated else ()))
    return write_output(found, replace(output, more=more), labeller.predictor)


@dataclass(frozen=True)
class Labeller:
    """What labels images, and the temperature that its probabilities are scaled by; None: they are as they come."""

    predictor: Predictor
    temperature: float | None = None


def find_predictor(model: Path, device: str = "auto") -> Predictor:
    """Return what labels images: an exported file, or the model that a path means (of a study its winner)."""
    return find_labeller(model, device).predictor


def find_labeller(model: Path, device: str = "auto", options: Options = PLAIN) -> Labeller:
    """Return what labels images as the options wish: members fused, then calibrated, then shown both mirrorings.

    Raises UsageError, with the reason, for a wish that this model cannot meet.
    """
    members = _members(model, options.ensemble)
    opened = [open_predictor(member, device) for member in members]
    predictor = opened[0] if len(opened) == 1 else Ensemble(opened)
    scaling = None
    if options.calibrated:
        check_task(predictor.task)
        scaling = fitted_temperature(members)
        predictor = Calibrated(predictor, scaling)
    return Labeller(Flipped(predictor) if options.tta else predictor, scaling)


def _members(model: Path, ensemble: bool) -> Sequence[Path]:
    """Return the model that a path means, or all that an ensemble of it has."""
    if is_onnx(model):
        if ensemble:
            raise UsageError(
                f"{model}: ensemble is for a study, whose runs are put together; this is one exported file"
            )
        return [model]
    from bakeoff.winners import ensemble_of, find_model  # which reads studies: an exported file should not wait for it

    return ensemble_of(model) if ensemble else [find_model(model)]


def fitted_temperature(members: Sequence[Path]) -> float:
    """Return the temperature that fits the validation outcomes of a run, or the mean of those of several runs.

    Several are averaged before the fit (Rahaman and Thiery 2021, "Uncertainty quantification and deep ensembles"), so
    they must have the same validation images.  Nothing is written.  Raises UsageError with the reason where it cannot
    be fitted: there is no validation, or the members' validation images differ, as under cross-validation.
    """
    found = [_validation(member) for member in members]
    if any(one.ids != found[0].ids for one in found):
        raise UsageError("calibrated: the runs have different validation images, so their mean cannot be fitted on any")
    scores = np.mean([one.columns["scores"] for one in found], axis=0)
    return temperature(scores, found[0].columns["truth"])


def _validation(member: Path) -> Outcomes:
    """Return the validation outcomes beside a model."""
    folder = member if member.is_dir() else member.parent
    if is_onnx(member) or not (folder / "validation.npz").is_file():
        raise UsageError(
            f"{member}: calibrated needs the validation outcomes of the run, and there is no validation.npz here; "
            "name the study or the run's folder"
        )
    return RunFolder(folder).outcomes("validation")


def _labelled(
    labeller: Labeller, sources: Sequence[Source], batch: int | None, threshold: float, options: Options
) -> Iterator[Prediction]:
    """Label images, each with the temperature that was used."""
    predictor = labeller.predictor
    found = label(predictor, sources, batch, threshold, options.framing(predictor))
    if labeller.temperature is None:
        return found
    return (replace(one, temperature=labeller.temperature) for one in found)
