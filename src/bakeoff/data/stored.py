"""Targets brought to the network's frame once per study: what loaders and evaluation read, by the place of a record."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from bakeoff.data.cache import Counter, open_pixels
from bakeoff.data.dataset import Dataset
from bakeoff.data.decode import Resize
from bakeoff.data.frame import framed
from bakeoff.data.targets import Boxes, Instances, LabelMap, Target
from bakeoff.files import read_json, replacing, write_json


def targets_path(folder: Path, task: str, size: int, policy: Resize) -> Path:
    """Return the file of the targets for an input side and a resize policy."""
    kind = "labels" if task == "semantic" else "objects"
    return folder / f"{kind}-{size}-{policy}.{'npy' if kind == 'labels' else 'npz'}"


def build_targets(
    dataset: Dataset, folder: Path, size: int, policy: Resize = "squash", progress: Counter | None = None
) -> None:
    """Bring every target to the frame, unless that was done for this data; labels of classification need nothing.

    Raises UnreadableImage and DataError for mask files, ResourceError when the disk is full.
    """
    if dataset.task == "classification":
        return
    path = targets_path(folder, dataset.task, size, policy)
    stamp = path.with_suffix(".json")
    if path.exists() and stamp.exists() and read_json(stamp)["fingerprint"] == dataset.fingerprint:
        return
    stamp.unlink(missing_ok=True)  # a kill between the two files must not leave new targets under the old stamp
    found: list[Target] = []
    with ThreadPoolExecutor(4) as pool:
        for target in pool.map(lambda record: framed(dataset, record, size, policy), dataset.records):
            found.append(target)
            if progress is not None:
                progress(len(found), len(dataset))
    with replacing(path) as temporary:
        if dataset.task == "semantic":
            np.save(temporary, np.stack([target.pixels for target in found if isinstance(target, LabelMap)]))
        else:
            np.savez(temporary, allow_pickle=False, **_columns([t for t in found if isinstance(t, Boxes)]))
    write_json(stamp, {"fingerprint": dataset.fingerprint, "size": size, "resize": policy})


def open_targets(dataset: Dataset, folder: Path, size: int, policy: Resize) -> Sequence[Target]:
    """Return the targets in the frame: item i is that of `dataset.records[i]`."""
    if dataset.task == "classification":
        return [record.target for record in dataset.records]
    path = targets_path(folder, dataset.task, size, policy)
    return LabelMaps(path) if dataset.task == "semantic" else Objects(path)


class _Stored(Sequence[Target]):
    """Targets in one file, which is opened where they are used."""

    def __init__(self, path: Path) -> None:
        """Remember where they are."""
        self.path = path

    def __getstate__(self) -> dict[str, Any]:
        """Send the path, not the content, to other processes."""
        return {"path": self.path}

    @overload
    def __getitem__(self, place: int) -> Target: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Target]: ...
    def __getitem__(self, place: int | slice) -> Target | Sequence[Target]:
        """Return one target, or those of a slice."""
        every = range(len(self))
        found = every[place]  # counts from the end too, and ends where there is none
        return self._target(found) if isinstance(found, int) else [self._target(index) for index in found]

    @abstractmethod
    def _target(self, place: int) -> Target:
        """Return the target at a place."""


class LabelMaps(_Stored):
    """Label maps (n, S, S) in a memory-mapped file."""

    @cached_property
    def pixels(self) -> NDArray[np.uint8]:
        """The memory map."""
        return open_pixels(self.path)

    def __len__(self) -> int:
        """Return the number of label maps."""
        return len(self.pixels)

    def _target(self, place: int) -> LabelMap:
        """Return one label map."""
        return LabelMap(np.array(self.pixels[place]))


class Objects(_Stored):
    """Boxes, with or without masks, as columns over all objects in one file."""

    @cached_property
    def columns(self) -> dict[str, NDArray[Any]]:
        """Every column in memory."""
        with np.load(self.path, allow_pickle=False) as stored:
            return dict(stored)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.columns["first"]) - 1

    def _target(self, place: int) -> Boxes:
        """Return the objects of one image."""
        columns = self.columns
        part = slice(*columns["first"][place : place + 2])
        side = int(columns["size"][0])
        fields: dict[str, Any] = {name: columns[name][part] for name in ("xyxy", "labels", "crowd", "areas")}
        fields["scale"] = float(columns["scale"][place])
        if "runs" not in columns:
            return Boxes((side, side), **fields)
        ends = columns["ends"][part.start : part.stop + 1]
        masks = tuple(columns["runs"][a:b].tobytes() for a, b in pairwise(ends))
        return Instances((side, side), **fields, masks=masks)


def _columns(targets: Sequence[Boxes]) -> dict[str, NDArray[Any]]:
    """Join the objects of all images; image i has the objects first[i] to first[i + 1]."""
    columns: dict[str, NDArray[Any]] = {
        "size": np.array(targets[0].size),
        "scale": np.array([target.scale for target in targets]),
        "first": np.cumsum([0, *(len(target) for target in targets)]),
        "xyxy": np.concatenate([target.xyxy for target in targets]),
        "labels": np.concatenate([target.labels for target in targets]),
        "crowd": np.concatenate([target.crowd for target in targets]),
        "areas": np.concatenate([target.areas for target in targets]),
    }
    if isinstance(targets[0], Instances):
        masks = [mask for target in targets if isinstance(target, Instances) for mask in target.masks]
        runs = [mask for mask in masks if isinstance(mask, bytes)]
        columns["ends"] = np.cumsum([0, *(len(mask) for mask in runs)])
        columns["runs"] = np.frombuffer(b"".join(runs), np.uint8)
    return columns
