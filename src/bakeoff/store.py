"""The study folder: the only module that knows its file names; everything is written by rename.

STUDY/  study.toml data.json split.json audit.json planner.json execution.json plan.json comparison.json report.html
        cache/pixels-<size>-<resize>.npy
        runs/<run id>/{run.json history.jsonl checkpoints/ model.safetensors model.json outcomes.npz validation.npz}
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bakeoff.errors import DataError
from bakeoff.files import read_json, write_bytes, write_json, write_text
from bakeoff.tasks.task import Outcomes

RunState = Literal["new", "running", "done", "failed"]


@dataclass(frozen=True)
class Run:
    """One candidate trained once: seed `seed`, and under cross-validation repeat `repeat`, fold `fold` (else 0, 0).

    `spec` is the candidate as JSON ({"name", "model": ModelSpec, "recipe": Recipe}); `settings` the conditions that
    must be equal in all runs (data fingerprint, split hash, size, resize, precision, layout, threads, device, versions,
    checkpoint rule, metric code); `facts` what was measured (parameters, flops, latency_ms, seconds, images_per_second,
    weights_hash, licence, pretraining, epochs_done, best_epoch).  `error` says why a failed run failed.
    """

    id: str
    candidate: str
    seed: int
    repeat: int = 0
    fold: int = 0
    state: RunState = "new"
    spec: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    error: str | None = None


class RunFolder:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        """Open (without creating) the folder of a run."""
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.model = path / "model.safetensors"
        self.card = path / "model.json"
        self.history_file = path / "history.jsonl"

    def write(self, run: Run) -> None:
        """Write run.json."""
        write_json(self.path / "run.json", asdict(run))

    def read(self) -> Run | None:
        """Return the run, or None before it was first written."""
        try:
            content = read_json(self.path / "run.json")
        except FileNotFoundError:
            return None
        except json.JSONDecodeError as error:
            raise DataError(
                f"{self.path / 'run.json'}: damaged ({error}); delete the folder to train it again"
            ) from None
        return Run(**{f.name: content[f.name] for f in fields(Run)})

    def write_outcomes(self, outcomes: Outcomes, name: Literal["outcomes", "validation"] = "outcomes") -> None:
        """Write the outcomes of the test split (or of validation) as a compressed npz without pickle."""
        buffer = io.BytesIO()
        ids, classes = np.array(outcomes.ids, dtype=np.str_), np.array(outcomes.classes, dtype=np.str_)
        np.savez_compressed(buffer, ids=ids, classes=classes, **outcomes.columns)  # type: ignore[arg-type]
        write_bytes(self.path / f"{name}.npz", buffer.getvalue())

    def outcomes(self, name: Literal["outcomes", "validation"] = "outcomes") -> Outcomes:
        """Read what write_outcomes wrote."""
        with (self.path / f"{name}.npz").open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            columns = {key: stored[key] for key in stored.files if key not in ("ids", "classes")}
            return Outcomes(tuple(stored["ids"].tolist()), tuple(stored["classes"].tolist()), columns)

    def append(self, fact: dict[str, Any]) -> None:
        """Append one fact to the history and flush it to the disk."""
        self.path.mkdir(parents=True, exist_ok=True)
        with self.history_file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(fact) + "\n")
            stream.flush()

    def history(self) -> list[dict[str, Any]]:
        """Return the facts in order; a torn last line is dropped."""
        return list(self._facts())

    def rewind(self, epoch: int, step: int) -> None:
        """Forget what came after a checkpoint (`epoch` epochs closed, `step` steps made): it will be written again."""
        kept = [
            fact for fact in self._facts() if fact["epoch"] < epoch or (fact["kind"] == "stage" and fact["step"] < step)
        ]
        if self.history_file.exists():
            write_text(self.history_file, "".join(json.dumps(fact) + "\n" for fact in kept))

    def _facts(self) -> Iterator[dict[str, Any]]:
        if not self.history_file.exists():
            return
        for line in self.history_file.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                return


class StudyFolder:
    """The files of a study."""

    def __init__(self, path: Path) -> None:
        """Open (without creating) a study folder."""
        self.path = path
        self.study = path / "study.toml"
        self.data = path / "data.json"
        self.split = path / "split.json"
        self.audit = path / "audit.json"
        self.comparison = path / "comparison.json"
        self.execution = path / "execution.json"
        self.plan = path / "plan.json"
        self.planner = path / "planner.json"
        self.report = path / "report.html"
        self.cache = path / "cache"

    def run(self, id: str) -> RunFolder:
        """Return the folder of one run."""
        return RunFolder(self.path / "runs" / id)

    def runs(self) -> list[Run]:
        """Return every run that was ever started, ordered by id."""
        found = (RunFolder(folder).read() for folder in sorted((self.path / "runs").glob("*")) if folder.is_dir())
        return [run for run in found if run is not None]
