"""The verb composite: what its words mean, which files it will write, and doing it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bakeoff.composite.background import WIDTH, open_background
from bakeoff.composite.composing import Composing
from bakeoff.composite.making import SMOOTH, Made, Wish, make
from bakeoff.composite.matte import Matting
from bakeoff.composite.placement import Placement
from bakeoff.composite.subject import open_subject
from bakeoff.data.cache import Counter
from bakeoff.errors import Refused, UsageError, nearest
from bakeoff.findings import listed
from bakeoff.predict.pictures import file_names
from bakeoff.predict.prediction import check
from bakeoff.predict.sources import Source, find_sources
from bakeoff.predict.video import Clip

FORMATS = {"png": (".png",), "jpg": (".jpg", ".jpeg")}
PICTURES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
VIDEO = ".mp4"


@dataclass(frozen=True)
class Options:
    """The rest that one may wish of composites.

    spill      keep the old background's light in the subject's edge
    blur       standard deviation of the background "blur", as share of the longer side
    alpha      write the cut-outs alone, as PNGs with transparency
    smooth     of a video: the share of the matte before that a matte keeps where the picture does not change
    format     png or jpg, of pictures in a folder
    threshold  objects of an instance model with a lower score are left out
    """

    matting: Matting = field(default_factory=Matting)
    placement: Placement = field(default_factory=Placement)
    spill: bool = False
    blur: float = WIDTH
    alpha: bool = False
    smooth: float = SMOOTH
    format: str = "png"
    threshold: float = 0.5
    device: str = "auto"

    def __post_init__(self) -> None:
        """Raise UsageError for a format that is unknown or holds no transparency."""
        if self.format not in FORMATS:
            raise UsageError(
                f"format must be {' or '.join(FORMATS)}, not {self.format!r}{nearest(self.format, FORMATS)}"
            )
        if self.alpha and self.format != "png":
            raise UsageError(f"alpha writes PNGs: {self.format} has no transparency")


PLAIN = Options()


def composite(
    model: str | Path,
    inputs: Iterable[str | Path],
    background: str | Path = "white",
    out: str | Path = "composites",
    wanted: str | None = None,
    options: Options = PLAIN,
) -> Iterator[Made]:
    """Cut the subject out of images and videos and set it before another background; yield what became of each.

    `model` is a trained semantic or instance model (as in predict; `wanted` is its class, None: the one that is no
    background, or has most pixels), "grabcut", or a mask's file.  `background` is a colour, "blur", a picture or a
    video.  `out` is a folder, or for one input a file.  Raises Refused, before anything is made, when files are there.
    """
    return make_composites(model, inputs, out, (str(background), wanted), options)


def make_composites(
    model: str | Path,
    inputs: Iterable[str | Path],
    out: str | Path,
    what: tuple[str, str | None],
    options: Options,
    progress: Counter | None = None,
) -> Iterator[Made]:
    """Do what composite() does with (background, wanted), telling how far it is."""
    check(None, options.threshold)
    sources = find_sources(inputs)
    files = plan_files(Path(out), sources, options)
    behind = open_background(what[0], options.blur)
    composing = Composing(behind, options.matting, options.placement, options.spill)
    options.placement.size((1, 1), behind.size)  # told at once where the background has none
    wish = Wish(composing, options.alpha, options.smooth)
    subject = open_subject(str(model), _winner, what[1], options.threshold, options.device)
    return make(subject, files, wish, progress)


def _winner(path: Path) -> Path:
    """Return the model of a path; what reads studies is imported only here: a mask should not wait for it."""
    from bakeoff.winners import find_model

    return find_model(path)


def plan_files(out: Path, sources: Sequence[Source], options: Options) -> list[tuple[Source, Path]]:
    """Return the file that is made of every image and video.

    `out` is a folder, or with the suffix of a picture or a video the file of the only input.  Raises UsageError for
    what cannot be written so, Refused when files that are there would be overwritten.
    """
    videos = [source for source in sources if isinstance(source, Clip)]
    if options.alpha and videos:
        raise UsageError(
            f"{videos[0]}: videos are written without transparency; take a colour, as in --background #00ff00"
        )
    files = _one(out, sources, options) if _is_file(out) else _many(out, sources, options.format)
    if there := [str(file) for _, file in files if file.exists()]:
        raise Refused(
            f"{out}: {len(there)} files that would be written are there already ({listed(there)}); "
            "name a new folder or file with --out, or remove them"
        )
    return files


def _is_file(out: Path) -> bool:
    """Say whether a file is meant, not a folder."""
    return out.suffix.lower() in (*PICTURES, VIDEO) and not out.is_dir()


def _one(out: Path, sources: Sequence[Source], options: Options) -> list[tuple[Source, Path]]:
    """Return the only input with the file that was named."""
    if len(sources) != 1:
        raise UsageError(f"{out}: one file for {len(sources)} inputs; name a folder")
    fitting = (VIDEO,) if isinstance(sources[0], Clip) else FORMATS["png"] if options.alpha else PICTURES
    if out.suffix.lower() not in fitting:
        raise UsageError(f"{out}: {sources[0]} becomes a {' or '.join(fitting)} file")
    return [(sources[0], out)]


def _many(out: Path, sources: Sequence[Source], format: str) -> list[tuple[Source, Path]]:
    """Return every input with its file below a folder, named after its place below the folder that all share."""
    paths = {source: source.path if isinstance(source, Clip) else source for source in sources}
    pictures = file_names([path for source, path in paths.items() if isinstance(source, Path)], FORMATS[format][0])
    videos = file_names([path for source, path in paths.items() if isinstance(source, Clip)], VIDEO)
    return [
        (source, out / (videos if isinstance(source, Clip) else pictures)[str(path)]) for source, path in paths.items()
    ]
