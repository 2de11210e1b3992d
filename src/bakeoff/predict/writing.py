"""What a person wants to have of predictions, and writing it: to a file by rename, or to a stream as it comes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TextIO

from bakeoff.errors import UsageError, nearest
from bakeoff.files import replacing
from bakeoff.predict.as_dataset import FORMATS, check_folder, write_folder
from bakeoff.predict.output import LABELLED, write_coco, write_csv, write_jsonl
from bakeoff.predict.pictures import Folders
from bakeoff.predict.prediction import Prediction

SUFFIXES: Mapping[str, str] = {".csv": "csv", ".jsonl": "jsonl", ".json": "coco"}


@dataclass(frozen=True)
class Output:
    """Predictions as `format` in `out`, or on `stream`; pictures in `folders`.

    csv, jsonl and coco are files, whose suffix says the format where `format` is None; yolo and voc are new folders.
    `more` are fields of Prediction that csv and jsonl show too: "frame" and "seconds" of videos, "temperature".
    """

    out: Path | None = None
    format: str | None = None
    folders: Folders = field(default_factory=Folders)
    stream: TextIO = field(default_factory=lambda: sys.stdout)
    more: tuple[str, ...] = ()

    def chosen(self, task: str, videos: int = 0) -> str:
        """Return the format.

        Raises UsageError for one that is unknown, or that cannot hold the task's predictions or those of videos.
        """
        if self.format in FORMATS:
            if self.out is None:
                raise UsageError(f"{self.format} is a folder of files: name a new one with --out")
            check_folder(task, self.format, videos)
            return self.format
        suffix = None if self.out is None else SUFFIXES.get(self.out.suffix.lower())
        if self.out is not None and suffix is None:
            raise UsageError(
                f"{self.out}: predictions are written to a .csv, .jsonl or .json (COCO) file, "
                f"or with --format {' or '.join(FORMATS)} to a new folder"
            )
        format = self.format or suffix or "csv"
        names = (*SUFFIXES.values(), *FORMATS)
        if format not in names:
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
        errors = _write(predictions, output.stream, format, model, output)
        output.stream.flush()  # here, so that a reader who left is noticed
        return errors
    if format in FORMATS:
        return write_folder(predictions, output.out, model.classes, format)
    with replacing(output.out) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        return _write(predictions, stream, format, model, output)


def _write(predictions: Iterable[Prediction], stream: TextIO, format: str, model: Labelled, output: Output) -> int:
    """Write to an open stream."""
    if format == "coco":
        return write_coco(predictions, stream, model.classes)
    if format == "jsonl":
        return write_jsonl(predictions, stream, model.classes, model.task, output.more)
    more = (*output.folders.kinds, *output.more)
    return write_csv(predictions, stream, model.classes, stream.isatty(), model.task, more)
