"""The progress display: plain lines, bars, silence; hostile names; time left."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from typing import Any

import pytest
from rich.console import Console

from bakeoff import progress
from bakeoff.progress import Headline, Mode, Progress, duration, printable, run_name

STUDY: list[tuple[str, dict[str, Any]]] = [
    ("", {"kind": "phase", "name": "audit"}),
    ("", {"kind": "count", "done": 30, "total": 1797}),
    ("", {"kind": "planner", "sentence": "this study can find gaps of 3.1 points"}),
    ("", {"kind": "decided", "workers": 2}),
    ("", {"kind": "plan", "runs": 4, "done": 1}),
    ("a", {"kind": "started", "pid": 1, "device": "cpu"}),
    ("b", {"kind": "started", "pid": 2, "device": "cpu"}),
    (
        "a",
        {
            "kind": "run",
            "candidate": "[red]cnn[/]",
            "seed": 1,
            "repeat": 0,
            "fold": 0,
            "epochs": 2,
            "steps": 10,
            "step": 0,
        },
    ),
    ("b", {"kind": "run", "candidate": "mlp", "seed": 1, "repeat": 0, "fold": 0, "epochs": 2, "steps": 10, "step": 6}),
    ("a", {"kind": "stage", "epoch": 0, "step": 0, "stage": 0, "layers": "all", "rate": 0.1}),
    ("a", {"kind": "step", "step": 4, "steps": 10, "epoch": 0, "loss": 1.0, "rate": 0.1}),
    ("a", {"kind": "gap", "epoch": 2, "step": 15, "stage": 0, "gap": 0.3, "taken": 0, "epochs": 2, "steps": 10}),
    ("a", {"kind": "epoch", "epoch": 0, "epochs": 2, "step": 5, "val": {"accuracy": 0.9}, "images_per_second": 1234.5}),
    ("b", {"kind": "epoch", "epoch": 1, "epochs": 2, "step": 10, "val": {"accuracy": 0.8}, "images_per_second": 99.0}),
    ("b", {"kind": "lost", "error": "the worker process was killed by SIGKILL"}),
    ("a", {"kind": "done", "metrics": {"accuracy": 0.123}, "seconds": 3.0}),
    ("a", {"kind": "finished"}),
    ("b", {"kind": "started", "pid": 3, "device": "cpu"}),
    ("b", {"kind": "failed", "error": "the loss became nan\nat step 7", "type": "Diverged", "exit_code": 4}),
]


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "monotonic", clock)
    return clock


def told(mode: Mode, facts: list[tuple[str, dict[str, Any]]] = STUDY) -> tuple[Progress, str]:
    """Tell all facts and return the display and what it wrote."""
    stream = io.StringIO()
    shown = Progress(mode=mode, console=Console(file=stream, width=100, force_terminal=mode == "bars"))
    with shown:
        for run, fact in facts:
            shown.tell(run, fact)
    return shown, stream.getvalue()


def test_plain_lines_tell_starts_and_ends(clock: Clock) -> None:
    _, written = told("auto")  # a stream in memory is no terminal
    assert written.splitlines() == [
        "audit",
        "this study can find gaps of 3.1 points",
        "1 of 4 runs are done already",
        "[red]cnn[/] seed 1: started",
        "mlp seed 1: started, going on from step 6",
        "[red]cnn[/] seed 1: the gap opened after epoch 1; goes on from there, to epoch 2",
        "mlp seed 1: the worker process was killed by SIGKILL",
        "[red]cnn[/] seed 1: done in 0 s, validation accuracy 90.00 % "
        "[2/4 runs done, best so far 90.00 % ([red]cnn[/] seed 1, validation), about 0 s left]",
        "b: the loss became nan at step 7",
    ]


def test_plain_lines_in_between_keep_their_distance(clock: Clock) -> None:
    stream = io.StringIO()
    with Progress(console=Console(file=stream)) as shown:
        for run, fact in STUDY[:8]:
            shown.tell(run, fact)
        start = len(stream.getvalue().splitlines())
        for second in range(1, 101):
            clock.now = float(second)
            shown.tell("a", {"kind": "step", "step": second // 20, "steps": 10})
    lines = stream.getvalue().splitlines()[start:]
    assert len(lines) == 3
    assert lines[0] == "1/4 runs done, about 14 min 30 s left; [red]cnn[/] seed 1: epoch 1/2; b: preparing"


def test_time_left_counts_only_what_this_call_did(clock: Clock) -> None:
    shown = Progress(mode="quiet")
    shown.tell("", {"kind": "plan", "runs": 4, "done": 1})
    assert shown.seconds_left() is None
    run = {"kind": "run", "candidate": "a", "seed": 1, "epochs": 1, "steps": 10, "step": 6}
    shown.tell("a", run)
    clock.now = 20.0
    shown.tell("a", {"kind": "step", "step": 8, "steps": 10})  # a fifth of a run in 20 s, 2.2 runs to go
    assert shown.seconds_left() == pytest.approx(220)
    shown.tell("a", {"kind": "finished"})  # two fifths, 2 runs to go
    assert shown.seconds_left() == pytest.approx(100)


def test_bars_show_runs_and_study() -> None:
    shown, written = told("bars", STUDY[:13])
    for part in (
        "[red]cnn[/] seed 1",
        "mlp seed 1",
        "epoch 2/2, 1,234 images/s, accuracy 90.00 %",
        "1/4 runs done",
        "study",
    ):
        assert part in written
    assert shown.summary().startswith("1/4 runs done, best so far 90.00 % ([red]cnn[/] seed 1, validation)")
    assert "started" not in written  # the bars say it


def test_quiet_is_silent_and_test_results_are_never_shown() -> None:
    shown, written = told("quiet")
    assert written == ""
    assert (shown.finished, shown.failed, shown.total) == (2, 1, 4)
    assert not any("12.3" in told(mode)[1] for mode in ("bars", "lines"))


def test_counts_of_images(clock: Clock) -> None:
    stream = io.StringIO()
    with Progress(console=Console(file=stream)) as shown:
        shown.count(1, 70_000)
        clock.now = 31.0
        shown.count(12_000, 70_000)
    assert stream.getvalue() == "images 12,000/70,000, about 2 min 30 s left\n"


def test_counts_of_frames_whose_end_nobody_knows(clock: Clock) -> None:
    stream = io.StringIO()
    with Progress(console=Console(file=stream)) as shown:
        shown.count(1, 0)
        clock.now = 40.0
        shown.count(1_200, 0)
    assert stream.getvalue() == "images 1,200, 30.0 a second\n"


def test_lower_can_be_better() -> None:
    shown = Progress(Headline("log_loss", percent=False, higher_is_better=False), "quiet")
    for epoch, value in enumerate((0.5, 0.25, 0.75, None)):
        shown.tell("a", {"kind": "epoch", "epoch": epoch, "val": {"log_loss": value}})
    assert shown.best == (0.25, "a")
    assert shown.headline.show(0.25) == "0.25"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, True),  # a terminal
        ({"TERM": "dumb"}, False),  # one that cannot move its cursor
        ({"NO_COLOR": "1"}, True),  # bars without colour
    ],
)
def test_bars_need_a_terminal(variables: dict[str, str], expected: bool) -> None:
    code = "from bakeoff.progress import Progress; print(Progress()._mode)"
    environ = {**os.environ, "TERM": "xterm", **variables}
    master, slave = pty.openpty()
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=slave, env=environ, check=True)
    os.close(slave)
    os.close(master)
    assert done.stdout == (b"bars\n" if expected else b"lines\n")


def test_forced_colour_does_not_make_a_file_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert Progress(console=Console(file=io.StringIO()))._mode == "lines"


def test_words() -> None:
    assert run_name({"candidate": "cnn", "seed": 0, "repeat": 1, "fold": 0}) == "cnn seed 0 repeat 1 fold 0"
    assert run_name({"candidate": "cnn", "seed": 3, "repeat": 0, "fold": 0}) == "cnn seed 3"
    assert [duration(seconds) for seconds in (59.4, 59.6, 7500)] == ["59 s", "1 min 00 s", "2 h 05 min"]
    assert printable("a\x1b[31m\u202eb\udcffß") == "a\ufffd[31m\ufffdb\ufffdß"
