"""Exact state out, exact state in: a checkpoint is network, optimiser, step and the best so far; nothing random."""

from __future__ import annotations

import hashlib
import logging
import pickle
from pathlib import Path
from typing import Any

import torch

from bakeoff.errors import DataError
from bakeoff.files import replacing, sweep, write_text

KEPT = 2  # the newest may be half written by a full disk or damaged later; the one before still resumes
log = logging.getLogger(__name__)


def save(folder: Path, step: int, state: dict[str, Any]) -> None:
    """Write the state at a step (tensors, str, numbers, dicts and lists only) and drop all but the last two."""
    path = folder / f"step-{step:09d}.pt"
    with replacing(path) as temporary:
        with temporary.open("wb") as stream:  # given a path, torch does not always notice that a write failed
            try:
                torch.save(state, stream)
            except RuntimeError as error:
                raise error.__context__ if isinstance(error.__context__, OSError) else error from None
        digest = _sha256(temporary)
    write_text(path.with_suffix(".sha256"), digest)
    for old in sorted(folder.glob("step-*.pt"))[:-KEPT]:
        old.unlink()
        old.with_suffix(".sha256").unlink(missing_ok=True)


def load(folder: Path) -> dict[str, Any] | None:
    """Return the newest state that is whole, or None when there is none yet; a damaged one is named and passed over."""
    if not folder.exists():
        return None
    sweep(folder)
    for path in sorted(folder.glob("step-*.pt"), reverse=True):
        try:
            if path.with_suffix(".sha256").read_text() != _sha256(path):
                raise DataError("its checksum differs")
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            return state
        except (OSError, DataError, RuntimeError, pickle.UnpicklingError) as error:
            log.warning("%s is damaged (%s); going back to the checkpoint before it", path, error)
    return None


def clear(folder: Path) -> None:
    """Remove the checkpoints of a finished run, and the features that it kept beside them."""
    for path in [*folder.glob("step-*"), *folder.glob("features-*"), *folder.glob(".tmp-*")]:
        path.unlink()
    if folder.exists():
        folder.rmdir()


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
