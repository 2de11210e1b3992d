"""What a person wants to have of predictions, and writing it: to a file by rename, or to a stream as it comes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TextIO

from bakeoff.errors import UsageError, nearest
from bakeoff.files import replacing
from bakeoff.predict.output import LABELLED, write_coco, write_csv, write_jsonl
from bakeoff.predict.pictures import Folders
from bakeoff.predict.prediction import Prediction

SUFFIXES: Mapping[str, str] = {".csv": "csv", ".jsonl": "jsonl", ".json": "coco"}


@dataclass(frozen=True)
class Output:
    """Predictions as `format` (csv, jsonl, coco) in the file `out`, or on `stream`; pictures in `folders`.

    `format` None is the one of the file's suffix, or CSV.
    """

    out: Path | None = None
    format: str | None = None
    folders: Folders = field(default_factory=Folders)
    stream: TextIO = field(default_factory=lambda: sys.stdout)

    def chosen(self, task: str) -> str:
        """Return the format.  Raises UsageError for one that is unknown, or that cannot hold the task's predictions."""
        suffix = None if self.out is None else SUFFIXES.get(self.out.suffix.lower())
        if self.out is not None and suffix is None:
            raise UsageError(f"{self.out}: predictions are written to a .csv, .jsonl or .json (COCO) file")
        format = self.format or suffix or "csv"
        if format not in SUFFIXES.values():
            names = tuple(SUFFIXES.values())
            raise UsageError(f"format must be {', '.join(names)}, not {format!r}{nearest(format, names)}")
        if suffix is not None and suffix != format:
            raise UsageError(f"{self.out}: its suffix says {suffix}, but the format is {format}; leave one out")
        if format == "coco" and task == LABELLED:
            raise UsageError("COCO's form is for objects and regions; this model's task is classification: use csv")
        return format


class Labelled(Protocol):
    """What writing must know of a model: a Trained one, or any Predictor."""

    @property
    def task(self) -> str:
        """What kind of prediction it makes."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """The canonical label map."""
        ...


def write(predictions: Iterable[Prediction], output: Output, model: Labelled) -> int:
    """Write predictions; return how many files could not be used.

    Programs that read a file or a pipe get names as they are; on a terminal control characters are escaped.  Raises
    ResourceError when the disk is full.
    """
    format = output.chosen(model.task)
    if output.out is None:
        errors = _write(predictions, output.stream, format, model, output.folders.kinds)
        output.stream.flush()  # here, so that a reader who left is noticed
        return errors
    with replacing(output.out) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        return _write(predictions, stream, format, model, output.folders.kinds)


def _write(
    predictions: Iterable[Prediction], stream: TextIO, format: str, model: Labelled, pictures: Sequence[str]
) -> int:
    """Write to an open stream."""
    if format == "coco":
        return write_coco(predictions, stream, model.classes)
    if format == "jsonl":
        return write_jsonl(predictions, stream, model.classes, model.task)
    return write_csv(predictions, stream, model.classes, stream.isatty(), model.task, pictures)
