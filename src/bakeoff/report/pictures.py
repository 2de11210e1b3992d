"""The images worth a look: where candidates disagree, and where all of them are surely wrong; with thumbnails."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bakeoff.report.material import THUMBNAIL, Candidate, Material
from bakeoff.tasks.task import Outcomes

DISAGREEMENTS, MISTAKES = 60, 36  # pictures shown at most: about half a megabyte of thumbnails
SHARP = 64  # pixels: images up to this side are kept as they are (PNG) instead of being compressed (JPEG)


@dataclass(frozen=True)
class Majority:
    """What a candidate's runs say together about each of its test images.

    `label` (n,) is the class with most votes, of equals the more probable one; `probability` (n,) its mean probability
    and `own` (n,) that of the truth.
    """

    place: dict[str, int]
    truth: NDArray[np.int64]
    label: NDArray[np.int64]
    probability: NDArray[np.float64]
    own: NDArray[np.float64]

    def take(self, ids: Sequence[str]) -> Majority:
        """Return the same for some images, in the order given."""
        at = np.array([self.place[i] for i in ids], np.intp)
        place = {record: row for row, record in enumerate(ids)}
        return Majority(place, self.truth[at], self.label[at], self.probability[at], self.own[at])


def majority(runs: Sequence[Outcomes]) -> Majority:
    """Gather the outcomes of one candidate's runs; an image may be in all of them or (cross-validation) in some."""
    place = {record: row for row, record in enumerate(dict.fromkeys(i for run in runs for i in run.ids))}
    shape = (len(place), len(runs[0].classes))
    total, votes = np.zeros(shape), np.zeros(shape, np.int32)
    times, truth = np.zeros(len(place)), np.zeros(len(place), np.int64)
    for run in runs:
        at = np.array([place[i] for i in run.ids], np.intp)
        total[at] += run.columns["scores"]
        votes[at, run.columns["scores"].argmax(axis=1)] += 1
        times[at] += 1
        truth[at] = run.columns["truth"]
    total /= times[:, None]
    label = (votes + total).argmax(axis=1)
    every = np.arange(len(place))
    return Majority(place, truth, label, total[every, label], total[every, truth])


@dataclass(frozen=True)
class Guess:
    """What a candidate says about one image."""

    candidate: Candidate
    label: str
    probability: float
    right: bool


@dataclass(frozen=True)
class Picture:
    """One image of the browser: `source` is a data URI or empty, `flags` the audit's codes for it."""

    id: str
    truth: str
    guesses: tuple[Guess, ...]
    source: str
    sharp: bool
    flags: tuple[str, ...]


@dataclass(frozen=True)
class Gallery:
    """Pictures of one kind, how many images there are of it, and of how many."""

    kind: str
    pictures: tuple[Picture, ...]
    found: int
    images: int


def galleries(material: Material, votes: Sequence[tuple[Candidate, Majority]], classes: Sequence[str]) -> list[Gallery]:
    """Choose the images where majorities disagree (widest gap first), and those all get wrong alike (surest first).

    Only images that every candidate was tested on are considered.
    """
    ids = [record for record in votes[0][1].place if all(record in majority.place for _, majority in votes)]
    said = [(candidate, majority.take(ids)) for candidate, majority in votes]
    labels, own = np.stack([m.label for _, m in said]), np.stack([m.own for _, m in said])
    split = (labels != labels[0]).any(axis=0)
    alike = ~split & (labels[0] != said[0][1].truth)
    sure = np.stack([m.probability for _, m in said]).mean(axis=0)
    chosen = (
        ("disagree", split, own.max(axis=0) - own.min(axis=0), DISAGREEMENTS),
        ("mistake", alike, sure, MISTAKES),
    )
    thumbnails = Thumbnails(material)
    found = []
    for kind, mask, strength, most in chosen:
        order = sorted(np.flatnonzero(mask).tolist(), key=lambda row: (-strength[row], ids[row]))[:most]
        pictures = tuple(_picture(thumbnails, said, classes, ids[row], row) for row in order)
        found.append(Gallery(kind, pictures, int(mask.sum()), len(ids)))
    return found


def _picture(
    thumbnails: Thumbnails, said: Sequence[tuple[Candidate, Majority]], classes: Sequence[str], record: str, row: int
) -> Picture:
    """Put one image together with what everyone says about it."""
    truth = int(said[0][1].truth[row])
    guesses = tuple(
        Guess(candidate, classes[m.label[row]], float(m.probability[row]), bool(m.label[row] == truth))
        for candidate, m in said
    )
    flags = tuple(thumbnails.material.flags.get(record, ()))
    return Picture(record, classes[truth], guesses, thumbnails.uri(record), thumbnails.sharp, flags)


class Thumbnails:
    """Small pictures from the study's pixel cache."""

    def __init__(self, material: Material) -> None:
        """Find the cache and the row of every record in it."""
        self.material, self.pixels = material, material.pixels
        self.row = {record["id"]: row for row, record in enumerate(material.data.get("records", ()))}

    @property
    def sharp(self) -> bool:
        """Whether the pictures are so small that their pixels are shown as they are."""
        return self.pixels is not None and self.pixels.shape[1] <= SHARP

    def uri(self, record: str) -> str:
        """Return a data URI, or an empty string where there is no picture."""
        if self.pixels is None or record not in self.row:
            return ""
        image, buffer = Image.fromarray(np.asarray(self.pixels[self.row[record]])), io.BytesIO()
        if self.sharp:
            image.save(buffer, "PNG", optimize=True)
        else:
            image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
            image.save(buffer, "JPEG", quality=80, optimize=True)
        kind = "png" if self.sharp else "jpeg"
        return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
