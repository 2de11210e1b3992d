"""Checks of single images against the rest of the data: sizes, light, sharpness, colour, file names, outliers.

Every threshold is relative to the data and absolute at once, so that a data set that is dark or soft throughout
(X-rays, white digits on black) is left in peace.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bakeoff.data.columns import MapColumns, ObjectColumns, image_counts, label_maps, objects, presence
from bakeoff.data.dataset import Dataset
from bakeoff.data.duplicates import Duplicates, Signatures
from bakeoff.data.outliers import Embed, outlying
from bakeoff.data.split import Split
from bakeoff.findings import Severity, listed, printable

DARK, BRIGHT = (30.0, 64.0), (225.0, 192.0)  # the mean, and the level nearly all pixels keep below (above)
CONTRAST, BLANK = 8.0, 2.0  # standard deviation of grey levels
BLURRED = 20.0  # times less sharp than the median image
ODD_SIZE, ODD_ASPECT = 4.0, 1.5  # times the median area, times the median aspect ratio
ONE_SIDED = 0.8  # share of one class that is grey while the others are not: colour gives the class away
FEWEST = 20  # images from which on "unlike the rest" means something


@dataclass(frozen=True)
class View:
    """All that a check may look at.

    `dataset` has the original images alone; `derived` counts those made from them by method.  `splits` is empty where
    there is no split; `size` is the input of the network.
    """

    dataset: Dataset
    signatures: Signatures
    duplicates: Duplicates
    splits: tuple[Split, ...] = ()
    size: int | None = None
    embed: Embed | None = None
    derived: Mapping[str, int] = field(default_factory=dict)

    @property
    def objects(self) -> ObjectColumns:
        """All objects of a dataset of boxes or masks."""
        return objects(self.dataset)

    @property
    def maps(self) -> MapColumns:
        """All label maps of a semantic dataset, each decoded once."""
        return label_maps(self.dataset)

    @property
    def presence(self) -> NDArray[np.bool_]:
        """Which class is in which image, (records, classes)."""
        return presence(self.dataset)

    def holding(self, rows: NDArray[np.integer]) -> tuple[str, ...]:
        """Return the ids of the records at these places, in their order, each once."""
        return tuple(self.dataset.records[row].id for row in np.unique(rows))

    def measured(self, rows: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return width and height (n, 2) of the images at these places; 0 for those that cannot be read."""
        sizes = np.zeros((len(self.dataset), 2), np.int64)
        known = [self.dataset.index[id] for id in self.signatures.ids]
        sizes[known] = self.signatures.sizes
        return np.asarray(sizes[rows])

    def ids(self, mask: NDArray[np.bool_]) -> tuple[str, ...]:
        """Return the ids of the readable images chosen by a mask."""
        return tuple(self.signatures.ids[row] for row in np.flatnonzero(mask))

    def some(self, ids: tuple[str, ...]) -> str:
        """Return '3 of 240 images (a, b, c)'."""
        return f"{len(ids):,} of {len(self.dataset):,} images ({listed(ids)})"


@dataclass(frozen=True)
class Observation:
    """What a check saw: a sentence, the ids it is about, and a severity where it is not the check's own."""

    sentence: str
    records: tuple[str, ...] = ()
    severity: Severity | None = None


Look = Callable[[View], Observation | None]


def _beyond(values: NDArray[np.float64], width: float, side: int) -> NDArray[np.bool_]:
    """Return which values lie more than `width` interquartile ranges below (side -1) or above (+1) the quartiles."""
    if len(values) < FEWEST:
        return np.zeros(len(values), np.bool_)
    low, high = np.percentile(values, [25, 75])
    reach = width * (high - low)
    return np.asarray(values < low - reach if side < 0 else values > high + reach)


def _far_below(values: NDArray[np.float64], factor: float = 2) -> NDArray[np.bool_]:
    """Return which values are outliers at the low end, on a logarithmic scale, and a factor below the median."""
    low = values < np.median(values) / factor if len(values) else np.zeros(0, np.bool_)
    return np.asarray(low & _beyond(np.log1p(values), 1.5, -1))


def _seen(view: View, mask: NDArray[np.bool_], what: str, advice: str) -> Observation | None:
    """Return the observation 'what: n of m images (names); advice', or None where the mask is empty."""
    ids = view.ids(mask)
    return Observation(f"{what}: {view.some(ids)}; {advice}", ids) if ids else None


def _level(signatures: Signatures, mask: NDArray[np.bool_], percent: int) -> NDArray[np.float64]:
    """Return a percentile of each chosen thumbnail's grey, NaN (which no comparison holds for) elsewhere."""
    levels = np.full(len(signatures), np.nan)
    rows = np.flatnonzero(mask)
    if len(rows):
        levels[rows] = np.percentile(signatures.grey_thumbnails(rows), percent, axis=(1, 2))
    return levels


def very_dark(view: View) -> Observation | None:
    """Nearly black images in a data set that is not."""
    s = view.signatures
    mask = (s.brightness < DARK[0]) & _far_below(s.brightness)
    mask &= _level(s, mask, 98) < DARK[1]
    return _seen(view, mask, "nearly black", "see whether anything can be recognised, else remove them")


def very_bright(view: View) -> Observation | None:
    """Nearly white images in a data set that is not."""
    s = view.signatures
    mask = (s.brightness > BRIGHT[0]) & _far_below(255 - s.brightness)
    mask &= _level(s, mask, 2) > BRIGHT[1]
    return _seen(view, mask, "nearly white", "see whether anything can be recognised, else remove them")


def low_contrast(view: View) -> Observation | None:
    """Images of one tone, and blank ones."""
    s = view.signatures
    mask = (s.contrast < BLANK) | ((s.contrast < CONTRAST) & _far_below(s.contrast))
    blank = int((s.contrast < BLANK).sum())
    what = f"hardly any contrast ({blank} blank)" if blank else "hardly any contrast"
    seen = _seen(view, mask, what, "see whether anything can be recognised, else remove them")
    return _with(seen, "warning") if blank else seen


def blurred(view: View) -> Observation | None:
    """Images far softer than the others: variance of the Laplacian (Pech-Pacheco et al. 2000), at one scale."""
    s = view.signatures
    mask = _far_below(s.sharpness, BLURRED) & (s.contrast >= BLANK)
    return _seen(view, mask, "far less sharp than the others", "look whether they are out of focus or enlarged")


def odd_size(view: View) -> Observation | None:
    """Images much larger or smaller than the others."""
    area = np.log(view.signatures.sizes.prod(axis=1))
    mask = _unlike(area, ODD_SIZE)
    middle = np.median(view.signatures.sizes, axis=0).astype(int) if len(area) else (0, 0)
    what = f"much larger or smaller than the usual {middle[0]}x{middle[1]} pixels"
    return _seen(view, mask, what, "previews, scans or screenshots among photographs? Look whether they belong here")


def odd_aspect(view: View) -> Observation | None:
    """Images much wider or taller than the others."""
    aspect = np.log(view.signatures.sizes[:, 0] / view.signatures.sizes[:, 1])
    return _seen(
        view,
        _unlike(aspect, ODD_ASPECT),
        "much wider or taller than the others",
        "resizing by 'squash' distorts them and 'crop' cuts them: try 'pad', or crop them by hand",
    )


def _unlike(values: NDArray[np.float64], factor: float) -> NDArray[np.bool_]:
    """Return which logarithms lie far outside the quartiles, and a factor away from the median."""
    if not len(values):
        return np.zeros(0, np.bool_)
    far = _beyond(values, 3, -1) | _beyond(values, 3, +1)
    return np.asarray(far & (np.abs(values - np.median(values)) > np.log(factor)))


def smaller_than_input(view: View) -> Observation | None:
    """Images that the chosen input size enlarges."""
    if view.size is None:
        return None
    shorter = view.signatures.sizes.min(axis=1)
    ids = view.ids(shorter < view.size)
    if not ids:
        return None
    sentence = f"shorter side below the input size of {view.size} pixels: {view.some(ids)}; they are enlarged"
    if 2 * len(ids) <= len(shorter):
        return Observation(sentence, ids)
    advice = f"the median is {int(np.median(shorter))} pixels: a smaller input may do as well, faster"
    return Observation(f"{sentence}; {advice}", (), "warning")  # about the data, not about single images


def wrong_suffix(view: View) -> Observation | None:
    """Files whose content is another format than their name says."""
    named = {**Image.registered_extensions(), ".jfif": "JPEG", ".mpo": "JPEG"}
    odd: dict[str, str] = {}
    for id, stored in zip(view.signatures.ids, view.signatures.stored, strict=True):
        suffix = PurePosixPath(view.dataset.records[view.dataset.index[id]].image).suffix.lower()
        told, held = named.get(suffix), "JPEG" if stored == "MPO" else stored
        if told and held and told != held:
            odd[id] = f"{held} named {printable(suffix)}"
    if not odd:
        return None
    kinds = ", ".join(f"{list(odd.values()).count(kind)} {kind}" for kind in sorted(set(odd.values())))
    sentence = (
        f"the name does not say what the file is: {view.some(tuple(odd))}: {kinds}; they are read by their content"
    )
    return Observation(f"{sentence}, but other programs may trip over them", tuple(odd))


def greyscale_mixed(view: View) -> Observation | None:
    """Grey and colour images side by side, and classes that differ by it."""
    grey = view.signatures.grey
    count = int(grey.sum())
    if count in (0, len(grey)):
        return None
    fewer, what = (grey, "grey among colour images") if 2 * count <= len(grey) else (~grey, "colour among grey images")
    shares = _shares(view)
    apart = [name for name, share in shares.items() if share >= ONE_SIDED]
    if apart and min(shares.values()) <= 1 - ONE_SIDED:
        advice = f"class {listed(apart)} is grey and others are not: colour alone may give the class away"
        return _with(_seen(view, fewer, what, advice), "warning")
    return _seen(view, fewer, what, "harmless unless only some classes have them")


def _shares(view: View) -> Mapping[str, float]:
    """Return the share of grey images in each class; where images hold many classes, in those that FEWEST hold."""
    grey = image_counts(view.dataset, view.ids(view.signatures.grey))
    whole = image_counts(view.dataset, view.signatures.ids)
    least = 1 if view.dataset.task == "classification" else FEWEST
    return {name: grey[name] / count for name, count in whole.items() if count >= least}


def _with(observation: Observation | None, severity: Severity) -> Observation | None:
    """Return an observation under another severity."""
    return observation and Observation(observation.sentence, observation.records, severity)


def outlier(view: View) -> Observation | None:
    """The images least like any other, most unusual first: a list to review, not a verdict."""
    ids = outlying(view.dataset, view.signatures, view.embed)
    if not ids:
        return None
    return Observation(
        f"least like any other image, for review: {view.some(ids)}; wrong label, or not of this kind?", ids
    )
