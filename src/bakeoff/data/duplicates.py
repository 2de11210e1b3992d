"""The same picture twice: signatures in one pass, exact and near duplicates, clusters of what belongs together.

Exact: equal md5 of the decoded pixels.  Near: 64-bit perceptual hashes (Zauner 2010, "Implementation and benchmarking
of perceptual image hash functions") within Hamming distance 6 over the 8 flips and rotations, confirmed by a
correlation above .95 of the 32x32 grey thumbnails turned the same way (docs/protocol.md, 4).
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dct
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from bakeoff.data.dataset import Dataset, Record
from bakeoff.data.decode import STRICT, read_image
from bakeoff.errors import UnreadableImage

SIDE = 32  # of a thumbnail
DISTANCE, CORRELATION = 6, 0.95
SMALLEST = 32  # pixels of the shorter side below which a hash of 32x32 pixels says nothing
FLAT, DETAIL = 4.0, 0.025  # grey levels; share of a thumbnail's energy that its 8x8 lowest frequencies do not hold
CHAIN, CHAIN_SHARE = 20, 0.01  # a cluster larger than both is a chain of look-alikes, not copies of one picture
CANDIDATES = 1_000_000  # pairs of equal hash; beyond, the images are too alike
CHUNK = 64
ORIENTATIONS = [(turned, up, left) for turned in (False, True) for up in (1, -1) for left in (1, -1)]

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Duplicates:
    """Groups of ids that show the same picture.

    `exact`: equal pixels.  `near`: the same picture resized, recompressed, recoloured, flipped or turned; of exact
    duplicates only the first stands here.  `note` says why near-duplicates were not looked for, in all images or some.
    """

    exact: tuple[tuple[str, ...], ...]
    near: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Signatures:
    """What one pass over the images measured, one row per readable original in the order of the dataset.

    md5 of the decoded pixels; thumbnails (n, 32, 32, 3) uint8; sizes (n, 2) width and height in pixels; brightness and
    contrast (n,), mean and standard deviation of grey in 0..255; sharpness (n,), variance of the Laplacian of grey at
    256 pixels at most; grey (n,), whether all three channels are equal; stored, the file format found in each file
    ("" for idx frames).  `unreadable` maps the ids of the other images to the reason.
    """

    ids: tuple[str, ...]
    md5: tuple[str, ...]
    thumbnails: NDArray[np.uint8]
    sizes: NDArray[np.int64]
    brightness: NDArray[np.float64]
    contrast: NDArray[np.float64]
    sharpness: NDArray[np.float64]
    grey: NDArray[np.bool_]
    stored: tuple[str, ...]
    unreadable: Mapping[str, str]

    def __len__(self) -> int:
        """Return the number of readable images."""
        return len(self.ids)

    @cached_property
    def index(self) -> dict[str, int]:
        """Row of each readable id."""
        return {id: row for row, id in enumerate(self.ids)}

    @cached_property
    def duplicates(self) -> Duplicates:
        """The duplicates among these images, looked for once."""
        return _duplicates(self)

    def grey_thumbnails(self, rows: NDArray[np.intp] | Sequence[int]) -> NDArray[np.float32]:
        """Return thumbnails as grey, (rows, 32, 32) float32 in 0..255 (ITU-R BT.601 weights)."""
        return self.thumbnails[rows].astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)


class _Measured(NamedTuple):
    """One row of Signatures."""

    id: str
    md5: str
    thumbnail: NDArray[np.uint8]
    size: tuple[int, int]
    brightness: float
    contrast: float
    sharpness: float
    grey: bool
    stored: str


def signatures(
    dataset: Dataset,
    unreadable: Literal["skip", "raise"] = "skip",
    progress: Progress | None = None,
    workers: int = 2,
) -> Signatures:
    """Decode every image once and measure it; `progress(done, total)` is called from this thread.

    Derived images are near-copies of others by design: they are only decoded, to see that it can be done.
    Raises UnreadableImage for the first image that cannot be decoded when `unreadable` is "raise".
    """
    found: list[_Measured] = []
    broken: dict[str, str] = {}
    done = 0
    chunks = [dataset.records[i : i + CHUNK] for i in range(0, len(dataset), CHUNK)]
    with ThreadPoolExecutor(workers) as pool:
        for rows in pool.map(lambda chunk: [_measure(dataset, record) for record in chunk], chunks):
            for id, row in rows:
                if isinstance(row, _Measured):
                    found.append(row)
                elif row is not None and unreadable == "raise":
                    pool.shutdown(cancel_futures=True)
                    raise row
                elif row is not None:
                    broken[id] = row.reason
            done += len(rows)
            if progress is not None:
                progress(done, len(dataset))
    return _table(found, broken)


def _table(rows: Sequence[_Measured], unreadable: Mapping[str, str]) -> Signatures:
    """Turn rows into columns."""
    thumbnails = np.array([row.thumbnail for row in rows], np.uint8).reshape(-1, SIDE, SIDE, 3)
    return Signatures(
        tuple(row.id for row in rows),
        tuple(row.md5 for row in rows),
        thumbnails,
        np.array([row.size for row in rows], np.int64).reshape(-1, 2),
        np.array([row.brightness for row in rows], np.float64),
        np.array([row.contrast for row in rows], np.float64),
        np.array([row.sharpness for row in rows], np.float64),
        np.array([row.grey for row in rows], np.bool_),
        tuple(row.stored for row in rows),
        dict(unreadable),
    )


def _measure(dataset: Dataset, record: Record) -> tuple[str, _Measured | UnreadableImage | None]:
    """Decode and measure one image; None for a derived one."""
    try:
        image = read_image(dataset, record)
    except UnreadableImage as error:
        return record.id, error
    if record.derived is not None:
        return record.id, None
    height, width = image.shape[:2]
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    deviation = float(grey.std())
    scale = 256 / max(height, width)
    small = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else grey
    row = _Measured(
        record.id,
        hashlib.md5(repr(image.shape).encode() + image.tobytes(), usedforsecurity=False).hexdigest(),
        np.asarray(cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8),
        (width, height),
        float(grey.mean()),
        deviation,
        float(cv2.Laplacian(small, cv2.CV_32F).var()),
        bool((image[..., 0] == image[..., 1]).all() and (image[..., 1] == image[..., 2]).all()),
        "" if record.frame is not None else _stored_format(dataset, record),
    )
    return record.id, row


def _stored_format(dataset: Dataset, record: Record) -> str:
    """Return Pillow's name of the format a file is in, whatever its suffix says."""
    try:
        with STRICT, Image.open(dataset.path(record)) as image:
            return image.format or ""
    except Exception:  # decoded a moment ago: what Pillow now complains about is not the pixels
        return ""


# --- the same picture twice ---


def duplicates(signatures: Signatures) -> Duplicates:
    """Return the exact and the near duplicates, with a note where near ones mean nothing (see docs/protocol.md, 4)."""
    return signatures.duplicates


def _duplicates(signatures: Signatures) -> Duplicates:
    """Compare the signatures with each other."""
    rows = _grouped(zip(signatures.md5, range(len(signatures)), strict=True))
    exact = tuple(tuple(signatures.ids[i] for i in group) for group in rows if len(group) > 1)
    firsts = np.array([group[0] for group in rows], dtype=np.intp)
    chosen, note = _comparable(signatures, firsts)
    pairs = _near_pairs(signatures, chosen) if len(chosen) > 1 else np.empty((0, 2), np.intp)
    if pairs is None:
        return Duplicates(exact, (), _not_applicable(f"more than {CANDIDATES:,} pairs have the same perceptual hash"))
    near = _linked(len(signatures), pairs)
    limit = max(CHAIN, int(CHAIN_SHARE * len(chosen)))
    longest = max((len(group) for group in near), default=0)
    if longest > limit:
        return Duplicates(exact, (), _not_applicable(f"{longest} images chain into one cluster of look-alikes"))
    return Duplicates(exact, tuple(tuple(signatures.ids[i] for i in group) for group in near), note)


def clusters(dataset: Dataset, duplicates: Duplicates) -> dict[str, str]:
    """Return id -> cluster for every original record: duplicates joined with the user's groups, transitively.

    A cluster is called "group:<its first user group>", else "copies:<its first id>"; a lone image by its id.
    """
    dataset = dataset.originals
    known = dataset.index
    groups = _grouped((r.group, i) for i, r in enumerate(dataset.records) if r.group is not None)
    groups += [[known[id] for id in ids if id in known] for ids in (*duplicates.exact, *duplicates.near)]
    links = np.array([pair for group in groups for pair in pairwise(group)], dtype=np.intp).reshape(-1, 2)
    names = {
        record.id: f"group:{record.group}" if record.group is not None else record.id for record in dataset.records
    }
    for members in _linked(len(dataset), links):
        own = sorted({group for i in members if (group := dataset.records[i].group) is not None})
        name = f"group:{own[0]}" if own else f"copies:{dataset.records[members[0]].id}"
        names.update((dataset.records[i].id, name) for i in members)
    return names


def _not_applicable(reason: str) -> str:
    """Say why near-duplicates were not looked for."""
    return (
        f"near-duplicates: not applicable because {reason}; only images with equal pixels count as duplicates. "
        "If the images are frames, series or copies of few things, say so with groups"
    )


def _comparable(signatures: Signatures, rows: NDArray[np.intp]) -> tuple[NDArray[np.intp], str]:
    """Return the rows whose hash means something, and a note about the others."""
    small = signatures.sizes[rows].min(axis=1) < SMALLEST
    plain = ~small & (_detail(signatures, rows) < DETAIL)
    left = rows[~(small | plain)]
    if len(left) == len(rows):
        return left, ""
    why = f"smaller than {SMALLEST} pixels ({small.sum():,} images), blank or without detail ({plain.sum():,})"
    if 2 * len(left) < len(rows):
        return left[:0], _not_applicable(f"most images are {why}")
    return left, f"near-duplicates were not looked for among images that are {why}"


def _detail(signatures: Signatures, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the share of energy above the 8x8 lowest frequencies; 0 for a flat image.

    Pictures enlarged from 8x8 pixels have .01, photographs and X-rays .05 to .4: below, one hash fits many pictures.
    """
    shares = np.zeros(len(rows))
    for start in range(0, len(rows), 4096):
        grey = signatures.grey_thumbnails(rows[start : start + 4096])
        low = _frequencies(grey)
        total = grey.var(axis=(1, 2)) * SIDE**2
        held = (low**2).sum(axis=(1, 2)) - low[:, 0, 0] ** 2
        lively = total > FLAT**2 * SIDE**2
        shares[start : start + len(grey)] = np.where(lively, 1 - held / np.maximum(total, 1e-9), 0)
    return shares


def _frequencies(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the 8x8 lowest coefficients of the orthonormal cosine transform of (n, 32, 32) images."""
    basis = dct(np.eye(SIDE, dtype=np.float32), norm="ortho", axis=0)[:8]
    return np.asarray(basis @ grey @ basis.T, np.float32)


def _hashes(signatures: Signatures, rows: NDArray[np.intp]) -> NDArray[np.uint64]:
    """Return (8, n) perceptual hashes, one per orientation; a flip only changes signs, a turn transposes."""
    low = np.concatenate(
        [_frequencies(signatures.grey_thumbnails(rows[i : i + 4096])) for i in range(0, len(rows), 4096)]
    )
    signs = np.array([1, -1] * 4, dtype=np.float32)
    hashes = np.empty((len(ORIENTATIONS), len(rows)), np.uint64)
    for k, (turned, up, left) in enumerate(ORIENTATIONS):
        view = (low.transpose(0, 2, 1) if turned else low).copy()
        if up < 0:
            view *= signs[:, None]
        if left < 0:
            view *= signs
        flat = view.reshape(len(rows), 64)
        bits = np.packbits(flat > np.median(flat, axis=1, keepdims=True), axis=1)
        hashes[k] = np.ascontiguousarray(bits).view(np.uint64)[:, 0]
    return hashes


def _near_pairs(signatures: Signatures, rows: NDArray[np.intp]) -> NDArray[np.intp] | None:
    """Return confirmed pairs (m, 2) of rows, or None when too many hashes are alike."""
    hashes = _hashes(signatures, rows)
    found: list[NDArray[np.intp]] = []
    total = 0
    for i in range(len(rows) - 1):
        for k in range(len(ORIENTATIONS)):
            others = np.flatnonzero(np.bitwise_count(hashes[k, i] ^ hashes[0, i + 1 :]) <= DISTANCE)
            if len(others):
                found.append(np.stack([np.full(len(others), i), others + i + 1, np.full(len(others), k)], axis=1))
                total += len(others)
        if total > CANDIDATES:
            return None
    candidates = np.concatenate([np.empty((0, 3), np.intp), *found])
    alike = np.concatenate([np.empty(0, np.bool_), *_confirmed(signatures, rows, candidates)])
    return np.asarray(rows[candidates[alike][:, :2]], np.intp)


def _confirmed(
    signatures: Signatures, rows: NDArray[np.intp], candidates: NDArray[np.intp]
) -> Iterator[NDArray[np.bool_]]:
    """Yield, chunk by chunk, which candidates (first, second, orientation of the first) correlate."""
    for start in range(0, len(candidates), 4096):
        first, second, orientation = candidates[start : start + 4096].T
        a, b = _normal(signatures.grey_thumbnails(rows[first])), _normal(signatures.grey_thumbnails(rows[second]))
        for k, (turned, up, left) in enumerate(ORIENTATIONS):
            chosen = orientation == k
            view = a[chosen].transpose(0, 2, 1) if turned else a[chosen]
            a[chosen] = view[:, ::up, ::left]
        yield np.einsum("nij,nij->n", a, b) > CORRELATION


def _normal(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return images of mean 0 and length 1."""
    centred = images - images.mean(axis=(1, 2), keepdims=True)
    length = np.sqrt((centred**2).sum(axis=(1, 2), keepdims=True))
    return np.asarray(centred / np.maximum(length, 1e-6), np.float32)


def _grouped(pairs: Iterable[tuple[Hashable, int]]) -> list[list[int]]:
    """Return the numbers that share a key, in the order in which keys first appear."""
    groups: defaultdict[Hashable, list[int]] = defaultdict(list)
    for key, number in pairs:
        groups[key].append(number)
    return list(groups.values())


def _linked(size: int, pairs: NDArray[np.intp]) -> list[list[int]]:
    """Return the connected components of two and more among range(size) under these links."""
    graph = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(size, size))
    labels = connected_components(graph, directed=False)[1]
    counts = Counter(labels.tolist())
    return _grouped((label, i) for i, label in enumerate(labels.tolist()) if counts[label] > 1)
