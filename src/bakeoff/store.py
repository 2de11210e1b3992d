"""The study folder: the only module that knows its file names; everything is written by rename.

STUDY/  study.toml data.json split.json audit.json planner.json execution.json tuning.json race.json plan.json
        latency.json comparison.json curve.json explanations.json explanations.npz report.html
        cache/pixels-<size>-<resize>.npy
        tracking/{tensorboard,mlflow}/
        runs/<run id>/{run.json history.jsonl checkpoints/ model.safetensors model.json outcomes.npz validation.npz
                       predictions.json.gz}
"""

from __future__ import annotations

import copy
import fcntl
import gzip
import hashlib
import io
import json
import math
import zlib
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np

from bakeoff.data.predictions import prediction_from_json, prediction_json
from bakeoff.data.targets import Target
from bakeoff.errors import DataError, Refused
from bakeoff.files import disk_error, read_json, sweep, write_bytes, write_json, write_text
from bakeoff.settings import set_value
from bakeoff.tasks.task import Outcomes

Purpose = Literal["contest", "trial", "rung", "curve"]
RunState = Literal["new", "running", "done", "failed"]
PICTURED = 400  # test images of which a run keeps the prediction


def pictured(ids: Iterable[str]) -> set[str]:
    """Return the test images of which predictions are kept: the PICTURED lowest by the hash of their ids.

    So they are a fair sample, and the same ones in all runs that have the same test images.
    """

    def rank(id: str) -> tuple[bytes, str]:
        return hashlib.blake2b(id.encode("utf-8", "surrogateescape"), digest_size=8).digest(), id

    return set(sorted(ids, key=rank)[:PICTURED])


@dataclass(frozen=True)
class Run:
    """One candidate trained once: seed `seed`, and under cross-validation repeat `repeat`, fold `fold` (else 0, 0).

    `spec` is the candidate as JSON ({"name", "model": ModelSpec, "recipe": Recipe}); `settings` the conditions that
    must be equal in all runs (data fingerprint, split hash, size, resize, precision, layout, threads, loaders, device,
    versions); `facts` what was measured (parameters, flops, latency_ms, seconds, images_per_second,
    weights_hash, licence, pretraining, epochs_done, best_epoch).  `error` says why a failed run failed.

    `purpose` "contest" is a run whose test outcomes decide the study, "curve" one on a `share` of the training images
    for the data-size curve.  A "trial" of tuning and a "rung" of the race are judged on validation alone: they never
    see the test split and leave no model.  `chosen` are settings of the candidate by dotted path
    ({"recipe.weight_decay": 0.05}) that are laid over `spec`: what tuning, or a rung's shorter schedule, made of it.
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
    purpose: Purpose = "contest"
    chosen: dict[str, Any] = field(default_factory=dict)
    share: float = 1.0

    @property
    def candidate_spec(self) -> dict[str, Any]:
        """The candidate as this run trains it: `spec` with `chosen` laid over it."""
        spec = copy.deepcopy(self.spec)
        for path, value in self.chosen.items():
            set_value(spec, path, value)
        return spec


class RunFolder:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        """Open (without creating) the folder of a run."""
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.model = path / "model.safetensors"
        self.card = path / "model.json"
        self.history_file = path / "history.jsonl"
        self.predictions_file = path / "predictions.json.gz"

    def write(self, run: Run) -> None:
        """Write run.json."""
        write_json(self.path / "run.json", asdict(run))

    def read(self) -> Run | None:
        """Return the run, or None before it was first written."""
        try:
            content = read_json(self.path / "run.json")
        except FileNotFoundError:
            return None
        return Run(**{f.name: content[f.name] for f in fields(Run) if f.name in content})

    def write_outcomes(self, outcomes: Outcomes, name: Literal["outcomes", "validation"] = "outcomes") -> None:
        """Write the outcomes of the test split (or of validation) as a compressed npz without pickle."""
        buffer = io.BytesIO()
        ids, classes = np.array(outcomes.ids, dtype=np.str_), np.array(outcomes.classes, dtype=np.str_)
        np.savez_compressed(buffer, ids=ids, classes=classes, **outcomes.columns)  # type: ignore[arg-type]
        write_bytes(self.path / f"{name}.npz", buffer.getvalue())

    def outcomes(self, name: Literal["outcomes", "validation"] = "outcomes") -> Outcomes:
        """Read what write_outcomes wrote.  Raises DataError when the file is missing or damaged."""
        file = self.path / f"{name}.npz"
        try:
            with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
                columns = {key: stored[key] for key in stored.files if key not in ("ids", "classes")}
                return Outcomes(tuple(stored["ids"].tolist()), tuple(stored["classes"].tolist()), columns)
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise DataError(f"{file}: cannot be read ({error}); delete its folder and run again") from None

    def write_predictions(self, predictions: Mapping[str, Target]) -> None:
        """Write predictions in the frame by record id; the same ones give the same bytes."""
        content = {id: prediction_json(predictions[id]) for id in sorted(predictions)}
        text = json.dumps({"schema_version": 1, "predictions": content}, allow_nan=False)
        write_bytes(self.predictions_file, gzip.compress(text.encode("utf-8"), 6, mtime=0))

    def predictions(self, only: Container[str] | None = None) -> dict[str, Target]:
        """Read what write_predictions wrote, of `only` these ids; none where a run kept none.

        Raises DataError when the file is damaged.
        """
        try:
            packed = self.predictions_file.read_bytes()
        except FileNotFoundError:
            return {}
        try:
            content = json.loads(gzip.decompress(packed))["predictions"]
            chosen = {id: entry for id, entry in content.items() if only is None or id in only}
            return {id: prediction_from_json(entry) for id, entry in chosen.items()}
        except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = f"cannot be read ({error}); delete its folder and run again"
            raise DataError(f"{self.predictions_file}: {reason}") from None

    def append(self, fact: dict[str, Any]) -> None:
        """Append one fact to the history at once.  Raises ResourceError when the disk is full."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with self.history_file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(fact) + "\n")
        except OSError as error:
            raise disk_error(self.history_file, error) from error

    def history(self) -> list[dict[str, Any]]:
        """Return the facts in order; a torn last line is dropped."""
        return list(self._facts())

    def rewind(self, epoch: int, step: int) -> None:
        """Forget what came after a checkpoint (`epoch` epochs closed, `step` steps made): it will be written again."""
        first = {"stage": step, "diagnosis": step + 1}  # of a stage the steps before it count, of a diagnosis its own
        kept = [fact for fact in self._facts() if fact["epoch"] < epoch or fact["step"] < first.get(fact["kind"], 0)]
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
        self.curve = path / "curve.json"
        self.execution = path / "execution.json"
        self.latency = path / "latency.json"
        self.guards = path / "guards.json"
        self.plan = path / "plan.json"
        self.planner = path / "planner.json"
        self.tuning = path / "tuning.json"
        self.race = path / "race.json"
        self.report = path / "report.html"
        self.explanations = path / "explanations.json"
        self.explained = path / "explanations.npz"
        self.cache = path / "cache"
        self.tracking = path / "tracking"

    def run(self, id: str) -> RunFolder:
        """Return the folder of one run."""
        return RunFolder(self.path / "runs" / id)

    def runs(self) -> list[Run]:
        """Return every run that was ever started, ordered by id."""
        found = (RunFolder(folder).read() for folder in sorted((self.path / "runs").glob("*")) if folder.is_dir())
        return [run for run in found if run is not None]

    def planned(self) -> list[Run]:
        """Return the runs that the study now asks for, ordered by id: those of earlier recipes may stand beside them.

        Before there was a plan these are all runs.
        """
        if not self.plan.exists():
            return self.runs()
        found = (self.run(id).read() for id in sorted(read_json(self.plan)["runs"]))
        return [run for run in found if run is not None]

    def best_run(self, candidate: str, metric: str, higher_is_better: bool) -> Run | None:
        """Return a candidate's finished run with the best validation metric of the weights it handed over.

        Without validation it is the first one; a run made twice counts once.
        """
        found: list[tuple[float, str, Run]] = []
        for run in self.planned():
            if run.candidate != candidate or run.state != "done" or run.id.endswith("-again"):
                continue
            facts = [fact for fact in self.run(run.id).history() if fact["kind"] == "epoch"]
            values = [value for fact in facts if (value := fact["val"].get(metric)) is not None]
            costs = [-value if higher_is_better else value for value in values] or [math.inf]
            kept = min(costs) if run.spec.get("recipe", {}).get("checkpoint") == "best" else costs[-1]
            found.append((kept, run.id, run))
        return min(found)[2] if found else None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder, so that no second process writes to it, and remove what a killed one left half written.

        Any end of this process lets go of it.  Raises Refused when another process holds it.
        """
        file = self.path / ".lock"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            stream = file.open("w", encoding="ascii")
        except OSError as error:
            raise disk_error(file, error) from error
        with stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:  # any other reason: a file system without locks
                if isinstance(error, BlockingIOError):
                    why = "another bakeoff is running this study; wait for its end, or stop it"
                    raise Refused(f"{self.path}: {why}") from None
            sweep(self.path)
            sweep(self.cache)
            yield
