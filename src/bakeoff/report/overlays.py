"""Images worth a look in segmentation and detection: image, truth and every candidate's prediction side by side."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bakeoff.data.dataset import Dataset
from bakeoff.data.draw import colour_of, draw, is_clear
from bakeoff.data.predictions import DIGITS
from bakeoff.data.stored import open_targets, targets_path
from bakeoff.data.targets import Boxes, Target
from bakeoff.report.material import Candidate, Material, read_part
from bakeoff.report.sections import Section
from bakeoff.store import Run, pictured
from bakeoff.tasks.task import Outcomes

TILE = 240  # pixels: the side of a picture
TILES = 240  # on a page: about two megabytes
FEWEST, MOST = 6, 40  # images on a page
LEGEND = 40  # classes whose colours are listed


@dataclass(frozen=True)
class Showing:
    """What there is to show of a candidate.

    `scores` is how well it does on each image (0..1), the mean over its runs; `runs` the run whose prediction is drawn,
    by image, and `own` how well that one does; `least` the score that an object must have to be drawn, by run (none for
    label maps).
    """

    candidate: Candidate
    scores: Mapping[str, float]
    runs: Mapping[str, str]
    own: Mapping[str, float]
    least: Mapping[str, float]


@dataclass(frozen=True)
class Tile:
    """A picture: `source` is a data URI, empty where there is none.

    Of a candidate's prediction: how well it is, and how well the predictions of all its runs are on average.
    """

    title: str
    source: str
    candidate: Candidate | None = None
    score: float = 0.0
    mean: float = 0.0


@dataclass(frozen=True)
class Plate:
    """One image with all its tiles; `gap` is the widest difference of scores, `mean` their mean."""

    id: str
    tiles: tuple[Tile, ...]
    gap: float
    mean: float
    flags: tuple[str, ...]


def gather(
    candidate: Candidate,
    tested: Sequence[tuple[Run, Outcomes]],
    score: Callable[[Outcomes], NDArray[np.float64]],
    least: Mapping[str, float],
) -> Showing:
    """Average a candidate's scores per image over its runs, and choose the first run that kept each image."""
    found: dict[str, list[float]] = {}
    runs: dict[str, str] = {}
    own: dict[str, float] = {}
    for run, outcomes in tested:
        values = dict(zip(outcomes.ids, score(outcomes).tolist(), strict=True))
        for id, value in values.items():
            found.setdefault(id, []).append(value)
        for id in sorted(pictured(outcomes.ids) - set(runs)):
            runs[id], own[id] = run.id, values[id]
    return Showing(candidate, {id: float(np.mean(values)) for id, values in found.items()}, runs, own, least)


def images(material: Material, showings: Sequence[Showing], measure: str, drawn: str) -> Section:
    """Return the section of pictures; `measure` says what the score of an image is, `drawn` what is drawn."""
    ids = [id for id in showings[0].runs if all(id in showing.runs for showing in showings)]
    chosen = choose(ids, showings)
    atlas = Atlas(material, showings, set(chosen))
    classes = tuple(material.data.get("classes", ()))
    legend = [
        (name, "#{:02x}{:02x}{:02x}".format(*colour_of(place)))
        for place, name in enumerate(classes[:LEGEND])
        if not is_clear(name)
    ]
    content: dict[str, Any] = {
        "several": any(showing.own[id] != showing.scores[id] for showing in showings for id in chosen),
        "plates": [_plate(atlas, showings, id) for id in chosen],
        "tested": len({id for showing in showings for id in showing.scores}),
        "kept": len(ids),
        "showings": showings,
        "thumbnails": atlas.pixels is not None,
        "legend": legend,
        "more": max(0, len(classes) - LEGEND),
        "measure": measure,
        "drawn": drawn,
    }
    return Section("images", "Images worth a look", "plates.html.j2", content)


def choose(ids: Sequence[str], showings: Sequence[Showing]) -> list[str]:
    """Choose images: half of them where scores differ most, a quarter the worst on average, the rest each one's worst.

    In this order; equally good ones by their ids.  With one candidate all of them are its worst.
    """
    scores = np.array([[showing.scores[id] for id in ids] for showing in showings]).reshape(len(showings), len(ids))
    number = min(len(ids), int(np.clip(TILES // (2 + len(showings)), FEWEST, MOST)))

    def order(strength: NDArray[np.float64]) -> list[str]:
        return [ids[row] for row in sorted(range(len(ids)), key=lambda row: (-strength[row], ids[row]))]

    if not ids:
        return []
    rivals = len(showings) > 1
    widest, worst = order(np.ptp(scores, axis=0)), order(-scores.mean(axis=0))
    chosen = dict.fromkeys(widest[: number // 2] if rivals else [])
    _fill(chosen, worst, number - number // 4 if rivals else number)
    turns = [order(-row) for row in scores]
    _fill(chosen, (id for turn in zip(*turns, strict=True) for id in turn), number)
    return list(chosen)


def _fill(chosen: dict[str, None], ids: Iterable[str], number: int) -> None:
    """Add ids until there are so many."""
    for id in ids:
        if len(chosen) >= number:
            return
        chosen.setdefault(id)


def _plate(atlas: Atlas, showings: Sequence[Showing], id: str) -> Plate:
    """Put the tiles of one image together."""
    image, truth = atlas.image(id), atlas.truth(id)
    tiles = [Tile("image", _uri(image)), Tile("truth", atlas.drawn(image, truth))]
    for showing in showings:
        prediction = atlas.prediction(showing, id)
        source = atlas.drawn(image, prediction)
        tiles.append(Tile(showing.candidate.name, source, showing.candidate, showing.own[id], showing.scores[id]))
    scores = [showing.scores[id] for showing in showings]
    flags = tuple(atlas.material.flags.get(id, ()))
    return Plate(id, tuple(tiles), max(scores) - min(scores), float(np.mean(scores)), flags)


class Atlas:
    """The study's pictures, targets and kept predictions, of the images that are shown."""

    def __init__(self, material: Material, showings: Sequence[Showing], chosen: set[str]) -> None:
        """Open the caches of the frame in which the runs were judged, and read the predictions of the chosen images."""
        self.material, self.classes = material, tuple(material.data.get("classes", ()))
        self.row = {record["id"]: row for row, record in enumerate(material.data.get("records", ()))}
        run = next((run for run in material.runs if run.state == "done"), None)
        settings = run.settings if run is not None else {}
        self.pixels = self._pixels(settings)
        self.targets = self._targets(settings)
        wanted = {run for showing in showings for id, run in showing.runs.items() if id in chosen}
        self.kept = {run: material.folder.run(run).predictions(chosen) for run in sorted(wanted)}

    def _pixels(self, settings: Mapping[str, Any]) -> NDArray[np.uint8] | None:
        """Return the cache in which images look as the networks saw them, in the size nearest to a tile's."""
        policy = settings.get("resize", "squash")
        maps = map(self.material.mapped, sorted(self.material.folder.cache.glob(f"pixels-*-{policy}.npy")))
        fitting = [pixels for pixels in maps if pixels is not None]
        return min(fitting, key=lambda pixels: (pixels.shape[1] < TILE, abs(pixels.shape[1] - TILE)), default=None)

    def _targets(self, settings: Mapping[str, Any]) -> Sequence[Target] | None:
        """Return the truth in the frame in which runs were judged; None where it is not in the folder."""
        size = settings.get("judged", settings.get("size"))
        data, cache = self.material.data, self.material.folder.cache
        if size is None or not data.get("records"):
            return None
        dataset = Dataset.from_json(dict(data))
        path = targets_path(cache, dataset.task, size, settings.get("resize", "squash"))
        made = read_part(path.with_suffix(".json")).get("fingerprint")
        if not path.exists() or made != dataset.fingerprint:
            return None
        return open_targets(dataset, cache, size, settings.get("resize", "squash"))

    def image(self, id: str) -> NDArray[np.uint8] | None:
        """Return an image in the size of a tile; small ones are enlarged pixel by pixel."""
        if self.pixels is None or id not in self.row:
            return None
        found = Image.fromarray(np.asarray(self.pixels[self.row[id]]))
        if found.width > TILE:
            found = found.resize((TILE, TILE), Image.Resampling.LANCZOS)
        elif found.width <= TILE // 2:
            side = found.width * (TILE // found.width)
            found = found.resize((side, side), Image.Resampling.NEAREST)
        return np.asarray(found)

    def truth(self, id: str) -> Target | None:
        """Return the truth of an image."""
        return None if self.targets is None or id not in self.row else self.targets[self.row[id]]

    def prediction(self, showing: Showing, id: str) -> Target | None:
        """Return what the chosen run of a candidate predicts, objects with too low a score left out."""
        run = showing.runs[id]
        found = self.kept[run].get(id)
        if isinstance(found, Boxes) and found.scores is not None:
            return found.take(found.scores >= round(showing.least.get(run, 0.0), DIGITS))
        return found

    def drawn(self, image: NDArray[np.uint8] | None, target: Target | None) -> str:
        """Return the picture of a target on its image, or an empty string where one of them is missing."""
        return "" if image is None or target is None else _uri(draw(image, target, self.classes))


def _uri(pixels: NDArray[np.uint8] | None) -> str:
    """Return a picture as a data URI."""
    if pixels is None:
        return ""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=80, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def pooled(runs: Sequence[Outcomes]) -> Outcomes:
    """Put the outcomes of several runs one behind the other."""
    columns = {name: np.concatenate([run.columns[name] for run in runs]) for name in runs[0].columns}
    return replace(runs[0], ids=tuple(id for run in runs for id in run.ids), columns=columns)


def once(runs: Sequence[Outcomes]) -> Outcomes:
    """Return the outcomes of every test image once, from the first run that has it: the truth is the same in all."""
    whole = pooled(runs)
    place = {id: row for row, id in reversed(list(enumerate(whole.ids)))}
    return whole.take(sorted(place.values()))
