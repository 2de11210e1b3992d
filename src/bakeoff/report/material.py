"""Material: everything that a report is made of, read from the study folder and from nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bakeoff.compare import Comparison, Row
from bakeoff.errors import DataError
from bakeoff.files import read_json
from bakeoff.findings import Finding
from bakeoff.report.wording import letter
from bakeoff.store import Run, StudyFolder
from bakeoff.tasks.task import Metric, Outcomes

THUMBNAIL = 112  # pixels: the smallest cache of at least this side is what pictures are taken from


@dataclass(frozen=True, eq=False)
class Candidate:
    """A candidate as the report shows it: its row, its runs, and the letter and colour it has in every figure.

    Compared by identity, so that it can be a key: its row holds dictionaries.
    """

    place: int
    row: Row
    runs: tuple[Run, ...]

    @property
    def name(self) -> str:
        """The candidate's name, as the user gave it."""
        return self.row.candidate

    @property
    def counted(self) -> tuple[Run, ...]:
        """The runs behind the numbers: one per seed, repeat and fold; a run repeated as a self-check counts once."""
        order = sorted(self.runs, key=lambda run: (run.state != "done", run.id), reverse=True)
        return tuple(sorted({(run.seed, run.repeat, run.fold): run for run in order}.values(), key=lambda run: run.id))

    @property
    def letter(self) -> str:
        """The sign that stands for the candidate in figures."""
        return letter(self.place)

    @property
    def colour(self) -> str:
        """The class of its colour in the style sheet."""
        return f"k{self.place % 10}"


@dataclass(frozen=True)
class Material:
    """What the study folder holds.  Parts that are absent are empty; only the comparison is indispensable."""

    folder: StudyFolder
    comparison: Comparison
    metrics: Mapping[str, Metric]
    runs: tuple[Run, ...]
    data: Mapping[str, Any]
    split: Mapping[str, Any]
    audit: tuple[Finding, ...]
    study: str
    execution: Mapping[str, Any]
    planner: Mapping[str, Any]

    @property
    def metric(self) -> Metric:
        """The headline metric."""
        return self.metrics[self.comparison.metric]

    @cached_property
    def candidates(self) -> tuple[Candidate, ...]:
        """Every candidate in the order of the comparison: best-looking first."""
        rows = enumerate(self.comparison.rows)
        return tuple(Candidate(i, row, tuple(r for r in self.runs if r.candidate == row.candidate)) for i, row in rows)

    @cached_property
    def by_name(self) -> dict[str, Candidate]:
        """Candidates by their names."""
        return {candidate.name: candidate for candidate in self.candidates}

    def outcomes(self, candidate: Candidate) -> Iterator[Outcomes]:
        """Yield the test outcomes of the candidate's finished runs, one run at a time.

        Raises DataError when the outcomes of a finished run are missing or damaged.
        """
        for _, outcomes in self.tested(candidate):
            yield outcomes

    def tested(self, candidate: Candidate) -> Iterator[tuple[Run, Outcomes]]:
        """Yield the candidate's finished runs with their test outcomes.  Raises DataError as outcomes() does."""
        for run in candidate.counted:
            if run.state == "done":
                yield run, self.folder.run(run.id).outcomes()

    @cached_property
    def flags(self) -> dict[str, list[str]]:
        """Codes of the audit findings that name a record, by record id."""
        found: dict[str, list[str]] = {}
        for finding in self.audit:
            for record in dict.fromkeys(finding.records):
                found.setdefault(record, []).append(finding.code)
        return found

    @cached_property
    def pixels(self) -> NDArray[np.uint8] | None:
        """The pixel cache (n, S, S, 3), row i is record i; None where there is none that fits the data."""
        maps = map(self.mapped, sorted(self.folder.cache.glob("pixels-*.npy")))
        fitting = [pixels for pixels in maps if pixels is not None]
        large = [pixels for pixels in fitting if pixels.shape[1] >= THUMBNAIL]
        return min(large, key=_side) if large else max(fitting, key=_side, default=None)

    def mapped(self, file: Path) -> NDArray[np.uint8] | None:
        """Map one cache file, unless it is absent, damaged or was made from other data."""
        stamp = read_part(file.with_suffix(".json"))
        if stamp and stamp.get("fingerprint") != self.data.get("fingerprint"):
            return None
        try:
            pixels: NDArray[np.uint8] = np.load(file, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return pixels if pixels.shape[:1] == (len(self.data.get("records", ())),) and pixels.ndim == 4 else None


def _side(pixels: NDArray[np.uint8]) -> int:
    return int(pixels.shape[1])


def read_part(path: Path) -> dict[str, Any]:
    """Read a JSON object of the study; an absent file reads as an empty one.

    Raises DataError naming the file when it is damaged.
    """
    try:
        content = read_json(path)
    except FileNotFoundError:
        return {}
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds {type(content).__name__}, expected an object; run the study again")
    return content


def read_comparison(folder: StudyFolder) -> Comparison:
    """Read comparison.json; raises DataError where the study has none, or one of another version."""
    content = read_part(folder.comparison)
    if not content:
        raise DataError(f"{folder.comparison}: not found; finish the study first: bakeoff run {folder.path}")
    try:
        return Comparison.from_json(content)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{folder.comparison}: not a comparison of this version ({error!r}); run the study again"
        ) from None


def read_material(folder: StudyFolder, comparison: Comparison, metrics: Mapping[str, Metric]) -> Material:
    """Read the rest of the study folder; metrics that the task does not know are shown under their own names."""
    present = {comparison.metric} | {name for row in comparison.rows for name in row.metrics}
    names = [name for name in metrics if name in present] + sorted(present - set(metrics))  # JSON keeps no order
    study = folder.study.read_text("utf-8", "surrogateescape") if folder.study.exists() else ""
    return Material(
        folder=folder,
        comparison=comparison,
        metrics={name: metrics.get(name) or Metric(name, lambda _: float("nan")) for name in names},
        runs=tuple(folder.planned()),
        data=read_part(folder.data),
        split=read_part(folder.split),
        audit=tuple(Finding.from_json(entry) for entry in read_part(folder.audit).get("findings", [])),
        study=study,
        execution=read_part(folder.execution),
        planner=read_part(folder.planner),
    )
