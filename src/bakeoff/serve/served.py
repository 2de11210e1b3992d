"""Everything that the server has of a study: what it shows, the networks it asks, and who waits for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bakeoff.data.dataset import Dataset
from bakeoff.errors import DataError, UsageError
from bakeoff.report.material import Material, read_comparison, read_material
from bakeoff.report.report import TASK_PARTS, TaskPart
from bakeoff.report.wording import scaled, visible
from bakeoff.serve.choosing import SHOWS, choose, words
from bakeoff.serve.limits import Limits
from bakeoff.serve.meters import Labels, Meters
from bakeoff.serve.models import Models
from bakeoff.serve.pictures import Pictures
from bakeoff.serve.tested import Tested, read_tested
from bakeoff.serve.worker import Worker
from bakeoff.store import StudyFolder
from bakeoff.winners import is_study

PAGE = 24  # images


@dataclass(frozen=True)
class Served:
    """A finished study as it was when the server began, with its limits."""

    material: Material
    tested: Tested
    pictures: Pictures
    models: Models
    worker: Worker
    limits: Limits = field(default_factory=Limits)
    meters: Meters = field(default_factory=Meters)

    @property
    def study(self) -> dict[str, Any]:
        """What the page has to know: task, verdict, classes, candidates, filters, limits."""
        comparison, metric = self.material.comparison, self.material.metric
        candidates = [
            {
                "name": one.name,
                "letter": one.letter,
                "colour": one.colour,
                "runs": one.row.runs,
                "value": scaled(one.row.metrics[comparison.metric].value, metric) if one.row.runs else None,
                "trained": one.name in self.models.best,
            }
            for one in self.material.candidates
        ]
        shows = [{"name": name, "title": show.title, "words": words(self.tested, name)} for name, show in SHOWS.items()]
        return {
            "name": visible(self.material.folder.path.resolve().name),
            "task": comparison.task,
            "dense": self.tested.dense,
            "verdict": visible(comparison.verdict),
            "metric": metric.title,
            "measure": self.tested.measure,
            "classes": [visible(name) for name in self.tested.classes],
            "candidates": candidates,
            "shows": shows,
            "images": len(self.tested),
            "report": self.material.folder.report.is_file(),
            "limits": {"bytes": self.limits.bytes, "pixels": self.limits.pixels},
        }

    def images(self, show: str, candidate: str | None, truth: int | None, page: int) -> dict[str, Any]:
        """Return one page of the images that a filter chooses; a page beyond the last one is empty."""
        rows = choose(self.tested, show, candidate, truth)
        pages = max(1, -(-len(rows) // PAGE))
        shown = rows[PAGE * (page - 1) : PAGE * page]
        return {"found": len(rows), "page": page, "pages": pages, "images": [self.image(row) for row in shown]}

    def image(self, row: int) -> dict[str, Any]:
        """Return what there is to say of one test image; its number is its row."""
        tested = self.tested
        said = []
        for place, one in enumerate(tested.judged):
            label = None if one.said is None else visible(tested.classes[one.said[row]])
            said.append(
                {
                    "candidate": one.candidate.name,
                    "letter": one.candidate.letter,
                    "colour": one.candidate.colour,
                    "label": label,
                    "score": float(one.score[row]),
                    "confidence": None if one.confidence[row] != one.confidence[row] else float(one.confidence[row]),
                    "wrong": bool(one.wrong[row]),
                    "spread": float(one.spread[row]),
                    "picture": self.pictures.has_prediction(row, place),
                }
            )
        return {
            "image": row,
            "name": visible(tested.ids[row]),
            "truth": [visible(name) for name, there in zip(tested.classes, tested.truth[row], strict=True) if there],
            "flags": self.material.flags.get(tested.ids[row], []),
            "candidates": said,
        }

    def judge(self, candidate: str, row: int) -> str:
        """Return the run of a candidate that is asked about a test image: one that was not trained on it.

        The best one where that is so; under cross-validation another one where it is not.
        """
        best, id = self.models.best[candidate], self.tested.ids[row]
        runs = next(one.runs for one in self.tested.judged if one.candidate.name == candidate)
        return best if id in runs.get(best, ()) else next(run for run in sorted(runs) if id in runs[run])

    def metrics(self) -> str:
        """Return what is measured, as Prometheus text."""
        runs: list[tuple[Labels, float]] = [
            ((("candidate", candidate), ("run", run)), 1.0) for run, candidate in self.models.loaded.items()
        ]
        waiting = max(0, self.worker.taken - 1)
        return self.meters.text(
            {
                "bakeoff_queue_length": ("Requests that wait for the networks.", [((), float(waiting))]),
                "bakeoff_queue_capacity": ("Requests that may wait.", [((), float(self.worker.capacity - 1))]),
                "bakeoff_model_loaded": ("Trained models in memory.", runs),
            }
        )


def open_study(path: Path, limits: Limits | None = None) -> Served:
    """Read a finished study.  Raises UsageError for what is none, DataError where its files are missing or damaged."""
    folder = StudyFolder(path.parent if path.name == "study.toml" else path)
    if not folder.comparison.is_file():
        if is_study(path):
            raise UsageError(f"{path}: this study is not finished; run `bakeoff run {path}` first")
        raise UsageError(f"{path}: no study is there; name the folder that `bakeoff run` wrote")
    comparison = read_comparison(folder)
    material = read_material(folder, comparison, TASK_PARTS.get(comparison.task, TaskPart()).metrics)
    tested, chosen = read_tested(material), limits or Limits()
    models = Models(folder, comparison, chosen.models)
    return Served(
        material, tested, Pictures(material, tested, _dataset(material)), models, Worker(chosen.waiting), chosen
    )


def _dataset(material: Material) -> Dataset | None:
    """Return where the images are; None where the study no longer says so."""
    try:
        return Dataset.from_json(dict(material.data))
    except (KeyError, TypeError, DataError):
        return None
