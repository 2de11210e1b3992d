"""The verbs of trained models: what is done with the winner, or with any run (predict has a file of its own)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from bakeoff.data.cache import Counter
from bakeoff.data.dataset import Dataset
from bakeoff.errors import UsageError
from bakeoff.evaluate.score import Score, score_with
from bakeoff.evaluate.score import score as score_model
from bakeoff.explain.explainer import Options
from bakeoff.explain.explaining import DEFAULT, SURVEY, Explained, Explaining, find_methods
from bakeoff.explain.survey import Survey
from bakeoff.explain.writing import explain_files, plan_pictures, survey_files
from bakeoff.export import ALLOW, Exported, Wish, export_model
from bakeoff.grading import grade, is_submission
from bakeoff.models import trained
from bakeoff.predict import find_images
from bakeoff.predict.onnx_model import OnnxPredictor
from bakeoff.predict.opening import is_onnx
from bakeoff.predict.pictures import file_names
from bakeoff.runs import part_of
from bakeoff.verbs_data import Settings, data_spec, read
from bakeoff.winners import find_model


def score(
    model: str | Path,
    data: str | Path,
    part: str | None = None,
    settings: Settings | None = None,
    against: str | Path | None = None,
) -> Score:
    """Evaluate a trained model or an exported .onnx file (as in predict) on other labelled images, with intervals.

    `model` may also be a file of predictions, which is graded (docs/grading.md); `against` is a second one.

    `part` (train, val, test) takes only those images of the same data that the model's own run had there.
    """
    if is_submission(Path(model)) or against is not None:
        if part is not None:
            raise UsageError(
                f"{model}: part is for trained models; a file of predictions is graded on all of the truth"
            )
        return grade(
            Path(model), data_spec(Path(data), settings).model_dump(), None if against is None else Path(against)
        )
    if is_onnx(model):
        if part is not None:
            raise UsageError(f"{model}: part is for the runs of a study; an exported file is scored on all of the data")
        file = OnnxPredictor(model)
        return score_with(file, file.interface, read(data, settings))
    found, dataset = find_model(Path(model)), read(data, settings)
    return score_model(found, dataset, None if part is None else part_of(found, dataset, part))


def explain(
    model: str | Path,
    inputs: Iterable[str | Path],
    out: str | Path = "explanations",
    methods: Sequence[str] = DEFAULT,
    wanted: str | None = None,
    options: Options | None = None,
) -> Iterator[Explained | Survey]:
    """Show why a trained model (as in predict) says what it says of images: a picture per image in the folder `out`.

    `methods` are names of bakeoff.explain.EXPLAINERS, or "all"; "activations" looks at all images at once and comes
    last, as one Survey with a picture.  `wanted` is the class to explain (None: what the model is surest of).  Raises
    Refused, before anything is done, when pictures that are there would be overwritten.
    """
    paths, folder, how = find_images(inputs), Path(out), options or Options()
    chosen = find_methods([name for name in methods if name != SURVEY])
    found = trained.load(find_model(Path(model)))
    surveyed = survey_files(found, paths, folder, how) if SURVEY in methods else iter(())
    if SURVEY in methods and not chosen:
        return surveyed
    files = plan_pictures(folder, file_names(paths, ".png"))
    explained = explain_files(Explaining(found, chosen, how), files, wanted)
    return chain(explained, (one for one in surveyed if isinstance(one, Survey)))  # unreadable files are named by then


def export(
    model: str | Path,
    out: str | Path = "exported",
    to: str = "onnx",
    int8: bool = False,
    allow: float = ALLOW,
    images: str | Path | Dataset | None = None,
) -> Exported:
    """Export a trained model (as in predict) into the new folder `out`, with its model card; `to` is onnx, pt2 or hub.

    The file is run on the study's test images, or on labelled `images`, and must agree with the network; the metric of
    one with 8-bit integers (`int8`) may fall by `allow` points.  Raises Refused, and writes nothing, where it does not.
    """
    dataset = read(images) if isinstance(images, str | Path) else images
    return export_files(Path(model), Path(out), Wish(to, int8, allow), dataset)


def export_files(
    model: Path, out: Path, wish: Wish, images: Dataset | None = None, progress: Counter | None = None
) -> Exported:
    """Do what export() does, telling how far it is."""
    return export_model(find_model(model), out, wish, images, progress)
