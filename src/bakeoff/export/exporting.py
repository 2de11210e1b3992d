"""A trained model -> a folder with the wanted file and its model card, if the file passes the gate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bakeoff.data.cache import Counter
from bakeoff.data.dataset import Dataset
from bakeoff.data.formats.target import new_folder
from bakeoff.errors import Refused, UsageError, nearest
from bakeoff.export.card import Contents, model_card
from bakeoff.export.graph import graph_of
from bakeoff.export.hub import HubRunner, timm_body, write_hub
from bakeoff.export.int8 import CALIBRATION, quantise
from bakeoff.export.material import Origin, description, exam_of, origin, training_images
from bakeoff.export.onnx_file import require, write_onnx
from bakeoff.export.parity import Exam, Parity, Runner, check, check_small, measure
from bakeoff.export.pt2_file import Pt2Runner, write_pt2
from bakeoff.export.words import answer
from bakeoff.files import write_text
from bakeoff.models import trained
from bakeoff.models.trained import Trained
from bakeoff.predict.onnx_model import OnnxPredictor

CARD = "README.md"
ALLOW = 1.0  # points that the metric of an 8-bit file may fall by


@dataclass(frozen=True)
class Wish:
    """What is wanted: the form `to` (onnx, pt2, hub), as 8-bit integers (`int8`, ONNX alone) or in full precision.

    `allow` is by how many points the headline metric of an 8-bit file may fall on the test images.
    """

    to: str = "onnx"
    int8: bool = False
    allow: float = ALLOW

    def __post_init__(self) -> None:
        """Raise UsageError for a form that there is not, or that has no 8-bit variant."""
        if self.to not in FORMS:
            raise UsageError(f"there is no form {self.to!r}{nearest(self.to, FORMS)}; there are {', '.join(FORMS)}")
        if self.int8 and self.to != "onnx":
            raise UsageError(
                f"8-bit integers are for ONNX files; leave int8 out, or say --to onnx instead of {self.to}"
            )
        if not 0 <= self.allow <= 100:
            raise UsageError(f"allow must lie in 0 to 100 points, got {self.allow:g}")


@dataclass(frozen=True)
class Exported:
    """What was written: the folder, its files, and what the gate measured, by file.

    Beside an 8-bit file stands the file in full precision that it was made from; that one is not kept.
    """

    folder: Path
    files: tuple[str, ...]
    parity: Mapping[str, Parity] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """What a person is told: how each file compares, and where it is."""
        return "\n\n".join([*(answer(name, one) for name, one in self.parity.items()), str(self.folder)])

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able dictionary."""
        parity = {name: one.to_json() for name, one in self.parity.items()}
        return {"folder": str(self.folder), "files": list(self.files), "parity": parity}


@dataclass(frozen=True)
class Work:
    """A model, where it comes from, what its files are tested on, and whom to tell how far the tests are."""

    model: Trained
    content: dict[str, Any]
    origin: Origin | None
    exam: Exam
    wish: Wish
    progress: Counter | None


def export_model(
    path: Path, out: Path, wish: Wish, images: Dataset | None = None, progress: Counter | None = None
) -> Exported:
    """Export the trained model of a path into the new folder `out`.

    The file is run on the test images of the model's study, or on labelled `images`, and must agree with the network;
    nothing is written otherwise.  Raises Refused when it does not agree, when the network cannot have the form, or when
    `out` holds something; UsageError for wishes that cannot be met.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise Refused(f"{out}: exists and is not an empty folder; name a new one, nothing is ever overwritten")
    model = trained.load(path)
    found = origin(path)
    exam = exam_of(model, found, images)
    work = Work(model, description(path), found, exam, wish, progress)
    _foresee(work)
    with new_folder(out) as folder:
        parity = FORMS[wish.to](work, folder)
        names = sorted(file.name for file in folder.iterdir())
        text = model_card(Contents(model, found, names, parity, wish.to))
        write_text(folder / CARD, text)
    return Exported(out, (*names, CARD), parity)


def _foresee(work: Work) -> None:
    """Raise what can be said before anything is made."""
    if work.wish.to == "hub":
        timm_body(work.model)
        return
    if work.wish.to == "onnx":
        require()
    graph_of(work.model)


def _onnx(work: Work, folder: Path) -> dict[str, Parity]:
    """Make model.onnx, and of it model.int8.onnx where that is asked for."""
    whole = folder / "model.onnx"
    interface = write_onnx(work.model, work.content, _sample(work), whole)
    threads = torch.get_num_threads()
    found = {whole.name: _judged(work, whole.name, OnnxPredictor(whole, threads))}
    if work.wish.int8:
        small = folder / "model.int8.onnx"
        quantise(whole, small, interface, training_images(work.model, work.origin, CALIBRATION))
        found[small.name] = _judged(work, small.name, OnnxPredictor(small, threads), exact=False)
        whole.unlink()
    return found


def _pt2(work: Work, folder: Path) -> dict[str, Parity]:
    """Make model.pt2."""
    file = folder / "model.pt2"
    write_pt2(work.model, work.content, _sample(work), file)
    return {file.name: _judged(work, file.name, Pt2Runner(file))}


def _hub(work: Work, folder: Path) -> dict[str, Parity]:
    """Make model.safetensors and config.json."""
    write_hub(work.model, folder)
    return {"model.safetensors": _judged(work, "model.safetensors", HubRunner(folder))}


FORMS: Mapping[str, Callable[[Work, Path], dict[str, Parity]]] = {"onnx": _onnx, "pt2": _pt2, "hub": _hub}


def _judged(work: Work, name: str, runner: Runner, exact: bool = True) -> Parity:
    """Let a file through the gate."""
    found = measure(work.model, runner, work.exam, exact, work.progress)
    if exact:
        check(found, name)
    else:
        check_small(found, name, work.wish.allow)
    return found


def _sample(work: Work) -> Any:
    """Return the first image of the exam, (1, S, S, 3): exporters follow the network on it."""
    exam = work.exam
    return exam.images.pixels[np.array([exam.images.dataset.index[exam.ids[0]]], np.intp)]
