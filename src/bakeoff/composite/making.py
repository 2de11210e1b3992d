"""Images and videos -> files with their subject before another background."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bakeoff.composite.composing import Composing, CutOut
from bakeoff.composite.placement import subject_box
from bakeoff.composite.steadying import Steadying
from bakeoff.composite.subject import Found, Subject, is_seen
from bakeoff.data.cache import Counter
from bakeoff.data.decode import decode
from bakeoff.errors import UnreadableImage, UsageError
from bakeoff.files import replacing
from bakeoff.findings import plural, printable
from bakeoff.predict.sources import Source, total
from bakeoff.predict.video import BrokenVideo, Clip, Film, Moment

SMOOTH = 0.5


@dataclass(frozen=True)
class Made:
    """What became of one input: the file that was written, what was cut out, and its share of the picture's pixels.

    Of a video: its frames, and how many of them were made in a second.  `error` says why there is no file, or why a
    video ends early.
    """

    path: str
    picture: str | None = None
    subject: str | None = None
    share: float | None = None
    frames: int | None = None
    fps: float | None = None
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able dictionary."""
        return asdict(self)

    @property
    def words(self) -> str:
        """A line for people."""
        parts = (
            [] if self.picture is None else [f"{self.picture} ({self.subject}, {self.share or 0:.0%} of the picture)"]
        )
        if self.frames and self.fps:
            parts.append(f"{plural(self.frames, 'frame')} at {self.fps:.1f} a second")
        return printable(f"{self.path}: {'; '.join([*parts, *([self.error] if self.error else [])])}")


@dataclass(frozen=True)
class Wish:
    """How pictures are made; `alpha`: the cut-outs alone; `smooth`: of a video's last matte, this share is kept."""

    composing: Composing
    alpha: bool = False
    smooth: float = SMOOTH

    def __post_init__(self) -> None:
        """Raise UsageError for an impossible share."""
        if not 0 <= self.smooth < 1:
            raise UsageError(f"smooth must lie in 0 to below 1, got {self.smooth:g}")


def make(
    subject: Subject, files: Sequence[tuple[Source, Path]], wish: Wish, progress: Counter | None = None
) -> Iterator[Made]:
    """Make every file of its source, by rename; yield what became of each.

    An image that cannot be read, or in which nothing of the subject is found, is told in `error` and has no file; of a
    video that ends early there is what could be read.  Raises ResourceError when the disk is full.
    """
    count = _Counting(total([source for source, _ in files]), progress)
    for source, file in files:
        if isinstance(source, Clip):
            yield _video(subject, source, file, wish, count)
        else:
            yield _picture(subject, source, file, wish)
            count()


class _Counting:
    """Counts images and frames."""

    def __init__(self, total: int, progress: Counter | None) -> None:
        """Begin at 0."""
        self._done, self._total, self._progress = 0, total, progress

    def __call__(self) -> None:
        """One more is done."""
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, max(self._total, self._done))


def _picture(subject: Subject, path: Path, file: Path, wish: Wish) -> Made:
    """Make one picture."""
    try:
        image = decode(path)
    except UnreadableImage as error:
        return Made(str(path), error=error.reason)
    found = subject(image)
    problem = found.problem or (None if found.anything else f"nothing of the subject ({found.name}) is found in it")
    if problem is not None:
        return Made(str(path), subject=found.name, error=problem)
    cut = wish.composing.cut(image, found.mask)
    pixels = cut.rgba if wish.alpha else wish.composing.compose(cut)
    save(Image.fromarray(np.ascontiguousarray(pixels)), file)
    return Made(str(path), str(file), found.name, round(float(cut.alpha.mean()), 6))


def _video(subject: Subject, clip: Clip, file: Path, wish: Wish, count: _Counting) -> Made:
    """Make one video; a frame without the subject shows the background alone."""
    names: list[str] = []
    shares: list[float] = []
    box, error, began = None, None, perf_counter()
    with Film() as film:
        try:
            for moment, cut, name in _cut_frames(subject, clip, wish):
                if box is None and is_seen(cut.alpha):
                    box = subject_box(cut.alpha)  # kept, or the placement would hold a moving subject in its place
                film.add(file, wish.composing.compose(cut, box, moment.seconds), moment.rate)
                names.append(name)
                shares.append(float(cut.alpha.mean()))
                count()
        except BrokenVideo as problem:
            error = str(problem)
    if not shares:
        return Made(str(clip), error=error)
    rate = len(shares) / (perf_counter() - began)
    return Made(str(clip), str(file), names[-1], round(float(np.mean(shares)), 6), len(shares), round(rate, 2), error)


def _cut_frames(subject: Subject, clip: Clip, wish: Wish) -> Iterator[tuple[Moment, CutOut, str]]:
    """Yield the frames of a video cut out; the next one's mask is looked for meanwhile."""
    steady = Steadying(wish.smooth)

    def find(image: NDArray[np.uint8]) -> Found:
        nonlocal subject  # one call at a time, in order
        found = subject(image)
        subject = subject.settled(found)
        return found

    for moment, found in _ahead(find, clip.moments()):
        if problem := found.problem:
            raise BrokenVideo(f"frame {moment.frame}: {problem}")
        yield moment, wish.composing.cut(moment.image, found.mask, steady), found.name


def _ahead(find: Callable[[NDArray[np.uint8]], Found], moments: Iterable[Moment]) -> Iterator[tuple[Moment, Found]]:
    """Yield every frame with what is found in it, one frame behind the search, which runs in a thread."""
    waiting: tuple[Moment, Future[Found]] | None = None
    broken: BrokenVideo | None = None
    with ThreadPoolExecutor(1) as pool:
        try:
            for moment in moments:
                future = pool.submit(find, moment.image)
                if waiting is not None:
                    yield waiting[0], waiting[1].result()
                waiting = (moment, future)
        except BrokenVideo as error:
            broken = error
        if waiting is not None:
            yield waiting[0], waiting[1].result()
    if broken is not None:
        raise broken


def save(picture: Image.Image, file: Path) -> None:
    """Write a picture by rename, in the format of its suffix."""
    with replacing(file) as temporary:
        if file.suffix.lower() == ".png":
            picture.save(temporary, "PNG")
        else:
            picture.save(temporary, "JPEG", quality=95, subsampling=0)
