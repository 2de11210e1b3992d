"""What every test relies on: one thread, no network, and where the example data are."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Container, Iterable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from bakeoff.engines.engine import Job, Message
from bakeoff.errors import BakeoffError

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")  # before torch and numpy
os.environ.update(HF_HUB_OFFLINE="1", MPLBACKEND="agg")
for colour in ("NO_COLOR", "FORCE_COLOR"):
    os.environ.pop(colour, None)

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of example data sets beside the repository, or skip the test."""
    if not SHARED.is_dir():
        pytest.skip(f"the example data sets are not here: {SHARED}")
    return SHARED


SomeDigits = Callable[..., Path]


@pytest.fixture(scope="session")
def some_digits(tmp_path_factory: pytest.TempPathFactory) -> SomeDigits:
    """Return a function that gives digits of 16 pixels in class folders: of every `every`, those at these places."""
    from bakeoff.data import formats  # not before the threads are set
    from bakeoff.data.digits import write_digits

    @cache
    def write(every: int, places: Container[int] = (0,)) -> Path:
        whole = formats.read(write_digits(tmp_path_factory.mktemp("all") / "digits", 16))
        left_out = [record.id for place, record in enumerate(whole.records) if place % every not in places]
        target = tmp_path_factory.mktemp("some") / "digits"
        formats.write(whole.without(left_out), target, "folder")
        return target

    return write


class InlineEngine:
    """Runs jobs one after the other in this process: the same messages as the local engine, without its start-up."""

    NAME = "inline"

    def close(self) -> None:
        """Nothing outlives a call."""

    def run(self, jobs: Iterable[Job]) -> Iterator[Message]:
        """Run every job; a failed one does not stop the others."""
        for job in jobs:
            module, _, function = job.entry.partition(":")
            yield Message(job.id, "started", {"pid": os.getpid(), "device": "cpu"})
            try:
                for fact in getattr(import_module(module), function)({**job.payload, "device": "cpu"}):
                    yield Message(job.id, "fact", json.loads(json.dumps(fact, allow_nan=False)))
            except BakeoffError as error:
                content = {"error": str(error), "type": type(error).__name__, "exit_code": error.exit_code}
                yield Message(job.id, "failed", content)
            else:
                yield Message(job.id, "finished")


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let studies run in this process, with a precision that does not depend on how busy the machine is."""
    for module in ("contest", "execution", "runs"):
        monkeypatch.setattr(f"bakeoff.{module}.open_engine", lambda _decided: InlineEngine())
    monkeypatch.setattr("bakeoff.runs.guard", lambda *_: None)  # tests/test_guards.py has them
    monkeypatch.setattr("bakeoff.timing.BUDGET", 0.0)
    monkeypatch.setattr("bakeoff.timing.STEPS", 1)
    monkeypatch.setattr("bakeoff.execution.choose", lambda *_: ("fp32", "contiguous"))
