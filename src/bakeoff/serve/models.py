"""The trained models of a study: loaded when first asked, the last few kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from bakeoff.compare import Comparison
from bakeoff.data.dataset import TaskName
from bakeoff.errors import UsageError, nearest
from bakeoff.explain.explaining import Explaining, find_methods
from bakeoff.models import trained
from bakeoff.models.trained import Trained
from bakeoff.store import StudyFolder
from bakeoff.winners import best_model

METHODS: Mapping[TaskName, str] = {  # objects are explained place by place: see docs/explain.md
    **dict.fromkeys(("classification", "semantic"), "gradcam"),
    **dict.fromkeys(("detection", "instance"), "layercam"),
}


@dataclass(frozen=True)
class Loaded:
    """A run of a candidate in memory, ready to predict and to explain itself."""

    candidate: str
    run: str
    model: Trained
    explaining: Explaining


class Models:
    """The trained models of a study's runs.  Used by one thread alone, but for the names."""

    def __init__(self, folder: StudyFolder, comparison: Comparison, most: int) -> None:
        """Find the best run of every candidate that has one, as `bakeoff predict` takes it, without loading it."""
        self._folder, self._most, self._loaded = folder, most, OrderedDict[str, Loaded]()
        self.best: Mapping[str, str] = {
            row.candidate: best_model(folder, comparison, row.candidate).name for row in comparison.rows if row.runs
        }

    @property
    def loaded(self) -> dict[str, str]:
        """The runs whose models are in memory, and their candidates."""
        return {run: found.candidate for run, found in self._loaded.copy().items()}

    def known(self, candidate: str | None) -> str:
        """Return a candidate's name as it is, or that of the best one for None.

        Raises UsageError, naming the nearest, for a candidate that there is not.
        """
        if candidate is None:
            return next(iter(self.best))
        if candidate not in self.best:
            there = ", ".join(self.best)
            raise UsageError(f"there is no trained candidate {candidate!r}{nearest(candidate, self.best)}: {there}")
        return candidate

    def load(self, candidate: str, run: str) -> Loaded:
        """Return the model of a candidate's run, loading it when it is not in memory; the one unused longest goes.

        Raises DataError when its files are damaged.
        """
        found = self._loaded.pop(run, None)
        if found is None:
            while len(self._loaded) >= self._most:
                self._loaded.popitem(last=False)
            model = trained.load(self._folder.run(run).path)
            found = Loaded(candidate, run, model, Explaining(model, find_methods((METHODS[model.task],))))
        self._loaded[run] = found
        return found
