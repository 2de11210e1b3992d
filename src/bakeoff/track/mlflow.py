"""MLflow: one run for each run, below one for the study, in an experiment that has the study folder's name.

They are kept in STUDY/tracking/mlflow/mlflow.db, or where MLFLOW_TRACKING_URI says.  MLflow cannot take a
number back: a log that is begun anew is a new run of MLflow's, and the old one is deleted, which means that MLflow
keeps it out of sight until `mlflow gc`.
"""

from __future__ import annotations

import logging
import os
import re
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import Any, ClassVar, TypeVar

from bakeoff.store import Run, StudyFolder
from bakeoff.track.log import End, Log, Point, parameters

WISHES = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # a server that is gone must not hold a study up
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
os.environ.update({name: value for name, value in WISHES.items() if name not in os.environ})

from mlflow import MlflowClient  # noqa: E402  # it reads the environment
from mlflow.entities import Metric, Param  # noqa: E402
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME, MLFLOW_RUN_NOTE  # noqa: E402
from mlflow.utils.validation import (  # noqa: E402
    MAX_METRICS_PER_BATCH,
    MAX_PARAM_VAL_LENGTH,
    MAX_PARAMS_TAGS_PER_BATCH,
    MAX_TAG_VAL_LENGTH,
)

STATUS = {"done": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
FILES = ("model.json", "README.md")  # of a run's folder
STUDY = "study"  # tag "bakeoff.run" of the study's own run
Item = TypeVar("Item")


class MLflow:
    """Parameters, metrics, tags, and files; see tracker.Tracker."""

    NAME: ClassVar[str] = "mlflow"

    def __init__(self, study: StudyFolder) -> None:
        """Remember the study."""
        self.study, self.folder = study, study.tracking / self.NAME
        self._runs: dict[str, str] = {}  # run id -> MLflow's id of it
        self._marks: dict[str, str] = {}

    def begin(self, run: Run, began: float) -> None:
        """Create a run, with its parameters, in the place of an earlier one."""
        made = self._create(run.id, tags(run), began)
        given = [Param(_name(name), str(value)[:MAX_PARAM_VAL_LENGTH]) for name, value in parameters(run).items()]
        for batch in batches(given, MAX_PARAMS_TAGS_PER_BATCH):
            self.client.log_batch(made, params=batch)

    def write(self, run: str, points: Sequence[Point]) -> None:
        """Log scalars as metrics; marks become the run's description."""
        metrics = [
            Metric(_name(tag), value, int(1000 * point.time), point.step)
            for point in points
            for tag, value in point.scalars.items()
        ]
        for batch in batches(metrics, MAX_METRICS_PER_BATCH):
            self.client.log_batch(self._runs[run], metrics=batch)
        if said := [f"- step {point.step}: {point.mark}\n" for point in points if point.mark]:
            self._marks[run] = self._marks.get(run, "") + "".join(said)
            self._tag(run, MLFLOW_RUN_NOTE, self._marks[run])

    def end(self, run: str, end: End) -> None:
        """Close the run."""
        self._tag(run, "bakeoff.end", end.sentence)
        self.client.set_terminated(self._runs[run], STATUS[end.state], end_time=int(1000 * end.time))

    def complete(self, log: Log) -> None:
        """Log results and files, then the tag that says of what the log was made."""
        self.write(log.run.id, [Point(log.end.step, time.time(), log.results)])
        for name in FILES:
            if (file := self.study.run(log.run.id).path / name).exists():
                self.client.log_artifact(self._runs[log.run.id], str(file))
        self._tag(log.run.id, "bakeoff.digest", log.digest)

    def holds(self, log: Log) -> bool:
        """Compare with the tag."""
        return any(run.data.tags.get("bakeoff.digest") == log.digest for run in self._find(log.run.id))

    def conclude(self, comparison: Mapping[str, Any]) -> None:
        """Give the study's run the verdict as its description, and comparison and report as files."""
        study = self._parent
        self._tag(STUDY, MLFLOW_RUN_NOTE, comparison["verdict"])
        for file in (self.study.comparison, self.study.report):
            self.client.log_artifact(study, str(file))
        self.client.set_terminated(study, STATUS["done"])

    @cached_property
    def client(self) -> MlflowClient:
        """The store: a database file in the study folder unless the environment names another; made when first used."""
        self.folder.mkdir(parents=True, exist_ok=True)
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it has to say is for its developers
            return MlflowClient(self._place or f"sqlite:///{(self.folder / 'mlflow.db').resolve()}")

    @cached_property
    def experiment(self) -> str:
        """MLflow's id of the experiment."""
        name = self.study.path.resolve().name
        if (found := self.client.get_experiment_by_name(name)) is not None:
            return str(found.experiment_id)
        files = None if self._place else (self.folder / "files").resolve().as_uri()
        return str(self.client.create_experiment(name, artifact_location=files))

    @property
    def _place(self) -> str:
        """Where the environment wants the runs; "" when it does not say."""
        return os.environ.get("MLFLOW_TRACKING_URI", "")

    @cached_property
    def _parent(self) -> str:
        """MLflow's id of the study's own run, above all others."""
        found = self._find(STUDY)
        self._runs[STUDY] = found[0].info.run_id if found else self._create(STUDY, {}, time.time())
        return self._runs[STUDY]

    def _create(self, name: str, about: Mapping[str, str], began: float) -> str:
        """Create a run in the place of an earlier one of this name, and return MLflow's id of it."""
        for old in self._find(name):
            self.client.delete_run(old.info.run_id)
        self._marks.pop(name, None)
        above = {} if name == STUDY else {MLFLOW_PARENT_RUN_ID: self._parent}
        labels = {MLFLOW_RUN_NAME: name, "bakeoff.run": name, **above, **about}
        made = self.client.create_run(self.experiment, int(1000 * began), tags=labels, run_name=name)
        self._runs[name] = made.info.run_id
        return self._runs[name]

    def _find(self, name: str) -> list[Any]:
        """Return MLflow's runs of a run."""
        return list(self.client.search_runs([self.experiment], f"tags.`bakeoff.run` = '{name}'"))

    def _tag(self, run: str, name: str, value: str) -> None:
        """Set a tag, cut to what MLflow takes."""
        self.client.set_tag(self._runs[run], name, value[:MAX_TAG_VAL_LENGTH])


def tags(run: Run) -> dict[str, str]:
    """Return what runs are searched by: candidate, seed, repeat, fold, purpose, data and split, and the run's hash."""
    about = {name: str(getattr(run, name)) for name in ("candidate", "seed", "repeat", "fold", "purpose")}
    frozen = {name: run.settings[name] for name in ("data", "split")}
    return {f"bakeoff.{name}": value for name, value in {**about, **frozen, "hash": run.id.rpartition("-")[2]}.items()}


def batches(items: Iterable[Item], most: int) -> Iterable[list[Item]]:
    """Return items in lists of at most so many."""
    rest = iter(items)
    return iter(lambda: list(islice(rest, most)), [])


def _name(tag: str) -> str:
    """Return a name that MLflow takes: letters, digits, underscores, dashes, periods, spaces and slashes."""
    return re.sub(r"[^/\w.\- ]", "_", tag)


TRACKER = MLflow
