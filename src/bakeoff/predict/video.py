"""Video files and cameras: their frames one after the other, and frames written as a new video (OpenCV)."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import cv2
import numpy as np
from numpy.typing import NDArray

from bakeoff.errors import ResourceError, UsageError
from bakeoff.files import replacing

SUFFIXES = frozenset((".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv"))
CAMERA = "camera:"  # before the number of a camera
CODEC = "mp4v"
RATE = 25.0  # frames per second where a video or camera states none
SHORTFALL = 0.02  # share of the stated frames that may be missing: some containers only estimate their number
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Moment:
    """A frame of a video: its number from 0, its time in seconds, and its pixels (H, W, 3) uint8 RGB.

    `rate` is how many of the frames that are looked at make a second.
    """

    video: str
    frame: int
    seconds: float
    rate: float
    image: Pixels = field(compare=False, repr=False)

    @property
    def name(self) -> str:
        """The video with the number of the frame."""
        return f"{self.video}#{self.frame:06d}"


@dataclass(frozen=True)
class Clip:
    """A video file, or with a name like "camera:0" a camera; every `every`-th frame of its first `seconds`."""

    name: str
    every: int = 1
    seconds: float | None = None

    def __post_init__(self) -> None:
        """Raise UsageError for impossible numbers."""
        if self.every < 1:
            raise UsageError(f"every must be at least 1, got {self.every}")
        if self.seconds is not None and not self.seconds > 0:
            raise UsageError(f"seconds must be above 0, got {self.seconds:g}")
        if self.camera is not None and not self.camera.isdecimal():
            raise UsageError(f"{self.name}: a camera has a number, as in {CAMERA}0")

    def __str__(self) -> str:
        """Return the name."""
        return self.name

    @property
    def camera(self) -> str | None:
        """The number of the camera, None for a file."""
        return self.name.removeprefix(CAMERA) if self.name.startswith(CAMERA) else None

    @property
    def path(self) -> Path:
        """What names its pictures: the file, or the camera as one would call a file of it."""
        return Path(self.name if self.camera is None else f"camera-{self.camera}")

    def count(self) -> int | None:
        """Return how many frames will be looked at; None for a camera and where the file does not say."""
        if self.camera is not None:
            return None
        with _opened(self) as capture:
            stated, rate = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), _rate(capture)
        if stated <= 0:
            return None
        wanted = stated if self.seconds is None else min(stated, int(np.ceil(self.seconds * rate)))
        return -(-wanted // self.every)

    def moments(self) -> Iterator[Moment]:
        """Yield the frames, upright, as they come; a camera ends with `seconds` or Ctrl-C.

        Raises BrokenVideo, after the frames that could be read, for a file that is damaged, and ResourceError for a
        camera that is not there.
        """
        with _opened(self) as capture, _interruptible(self.camera is not None) as stopped:
            if not capture.isOpened():
                if self.camera is not None:
                    raise ResourceError(f"camera {self.camera} cannot be opened: is it connected, and free?")
                raise BrokenVideo("damaged from the start, or no video that OpenCV can read")
            rate, frame = _rate(capture), 0
            while not stopped.is_set() and capture.grab():
                seconds = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 if self.camera is None else frame / rate
                if self.seconds is not None and seconds >= self.seconds:
                    return
                if frame % self.every == 0:
                    whole, image = capture.retrieve()
                    if not whole:
                        break
                    pixels = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
                    yield Moment(self.name, frame, round(seconds, 3), rate / self.every, pixels)
                frame += 1
            stated = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if self.camera is None else 0
        if frame == 0 or frame < (1 - SHORTFALL) * stated:
            raise BrokenVideo(f"ends after {frame} of {max(stated, 0)} frames: damaged, or cut short")


class BrokenVideo(Exception):
    """A video file that cannot be read, or not to its end."""


def is_video(name: str) -> bool:
    """Say whether an input is a video file by its suffix, or a camera."""
    return name.startswith(CAMERA) or Path(name).suffix.lower() in SUFFIXES


@contextmanager
def _opened(clip: Clip) -> Iterator[cv2.VideoCapture]:
    """Open a clip without a word on stderr: what is wrong with it is told in our own."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # read when the first video is opened
    before = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        capture = cv2.VideoCapture(clip.name if clip.camera is None else int(clip.camera))
    finally:
        cv2.utils.logging.setLogLevel(before)
    try:
        yield capture
    finally:
        capture.release()


def _rate(capture: cv2.VideoCapture) -> float:
    """Return the frames per second."""
    rate = capture.get(cv2.CAP_PROP_FPS)
    return rate if np.isfinite(rate) and 0 < rate <= 1000 else RATE


@contextmanager
def _interruptible(wanted: bool) -> Iterator[threading.Event]:
    """Let the first Ctrl-C set the event that is given: what was found until then is kept."""
    stopped = threading.Event()
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield stopped
        return

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopped.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)


class Film:
    """Videos written frame by frame, one at a time: each appears under its name when it is whole."""

    def __init__(self) -> None:
        """Write nothing yet."""
        self._open = ExitStack()
        self._file: Path | None = None
        self._size = (0, 0)

    def __enter__(self) -> Film:
        """Begin."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Close the last video; after an error nothing of it is left."""
        self._open.__exit__(kind, error, None)

    def add(self, file: Path, image: Pixels, rate: float) -> None:
        """Add a frame (H, W, 3) RGB to a video file; another file than before ends the one before.

        Frames that differ in size from the first are brought to it.  Raises ResourceError where OpenCV cannot write.
        """
        if file != self._file:
            self.close()
            self._begin(file, (image.shape[1], image.shape[0]), rate)
        if (image.shape[1], image.shape[0]) != self._size:
            image = np.asarray(cv2.resize(image, self._size, interpolation=cv2.INTER_AREA), np.uint8)
        self._writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        """End the video that is open, if there is one."""
        self._open.close()
        self._file = None

    def _begin(self, file: Path, size: tuple[int, int], rate: float) -> None:
        """Open a new video."""
        temporary = self._open.enter_context(replacing(file))
        self._writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*CODEC), rate, size)
        self._open.callback(self._writer.release)
        if not self._writer.isOpened():
            raise ResourceError(f"{file}: OpenCV cannot write a video here ({CODEC}, {size[0]} x {size[1]})")
        self._file, self._size = file, size
