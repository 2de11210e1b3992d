"""TensorBoard: one event file for each run, in STUDY/tracking/tensorboard/<run id>/.

An event file is a sequence of records and is appended to.  A log that is begun anew is a new file, whose first events
tell a TensorBoard that is looking to forget what it has seen of the run.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.plugins.text.metadata import create_summary_metadata
from tensorboard.summary.writer.record_writer import RecordWriter

from bakeoff.files import disk_error, write_bytes, write_text
from bakeoff.store import Run, StudyFolder
from bakeoff.track.log import End, Log, Point, parameters

VERSION = "brain.Event:2"  # of the file format


class TensorBoard:
    """Scalars, marks as text, and hyperparameters; see tracker.Tracker."""

    NAME: ClassVar[str] = "tensorboard"

    def __init__(self, study: StudyFolder) -> None:
        """Remember the folder."""
        self.folder = study.tracking / self.NAME

    def begin(self, run: Run, began: float) -> None:
        """Write a new event file with the run's parameters, and remove older ones."""
        self._renew(run.id, began, hparams_pb(parameters(run), trial_id=run.id, start_time_secs=began))

    def write(self, run: str, points: Sequence[Point]) -> None:
        """Append scalars (which TensorBoard keeps in single precision) and marks."""
        self._append(run, [_event(p.time, summary, p.step) for p in points for summary in _summaries(p)])

    def end(self, run: str, end: End) -> None:
        """Append the end, in words and for the table of hyperparameters."""
        self._append(run, [_event(end.time, text("end", end.sentence), end.step), _event(end.time, _session_end(end))])

    def complete(self, log: Log) -> None:
        """Append the results, and note of what."""
        self.write(log.run.id, [Point(log.end.step, time.time(), log.results)])
        write_text(self._whole(log), log.digest)

    def holds(self, log: Log) -> bool:
        """Compare with what complete() noted."""
        return self._whole(log).exists() and self._whole(log).read_text(encoding="utf-8") == log.digest

    def conclude(self, comparison: Mapping[str, Any]) -> None:
        """Write the verdict as text."""
        self._renew("study", time.time(), text("verdict", comparison["verdict"]))

    def _whole(self, log: Log) -> Path:
        """Return the file that says of what a log was made, once it is whole."""
        return self.folder / log.run.id / "digest"

    def _renew(self, run: str, began: float, first: Summary) -> None:
        """Replace the event files of a run by one that begins with a summary."""
        folder, now = self.folder / run, time.time()
        older = [*folder.glob("*tfevents*"), folder / "digest"]
        restart = Event(wall_time=now, session_log=SessionLog(status=SessionLog.START))
        head = [Event(wall_time=now, file_version=VERSION), restart, _event(began, first)]
        write_bytes(folder / f"events.out.tfevents.{now:017.6f}.{run}", _records(head))
        for file in older:
            file.unlink(missing_ok=True)

    def _append(self, run: str, events: Iterable[Event]) -> None:
        """Append events to the file of a run.  Raises ResourceError when the disk is full."""
        file = max((self.folder / run).glob("*tfevents*"))
        try:
            with file.open("ab") as stream:
                stream.write(_records(events))
        except OSError as error:
            raise disk_error(file, error) from error


def _records(events: Iterable[Event]) -> bytes:
    """Return events as records of an event file."""
    buffer = io.BytesIO()
    for event in events:
        RecordWriter(buffer).write(event.SerializeToString())
    return buffer.getvalue()


def _event(when: float, summary: Summary, step: int = 0) -> Event:
    """Return an event that holds a summary."""
    return Event(wall_time=when, step=step, summary=summary)


def _summaries(point: Point) -> list[Summary]:
    """Return what a point says."""
    numbers = [Summary.Value(tag=tag, simple_value=value) for tag, value in point.scalars.items()]
    said = [Summary(value=numbers)] if numbers else []
    return [*said, text("marks", point.mark)] if point.mark else said


def text(tag: str, content: str) -> Summary:
    """Return a text for the text plugin."""
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
    tensor = TensorProto(dtype="DT_STRING", string_val=[content.encode("utf-8", "replace")], tensor_shape=shape)
    about = create_summary_metadata(display_name=tag, description="")
    return Summary(value=[Summary.Value(tag=f"{tag}/text_summary", metadata=about, tensor=tensor)])


def _session_end(end: End) -> Summary:
    """Return the end of a run as the table of hyperparameters shows it."""
    status = api_pb2.STATUS_SUCCESS if end.state == "done" else api_pb2.STATUS_FAILURE
    ended = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=end.time)
    about = metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(session_end_info=ended))
    value = Summary.Value(tag=metadata.SESSION_END_INFO_TAG, metadata=about, tensor=metadata.NULL_TENSOR)
    return Summary(value=[value])


TRACKER = TensorBoard
