"""The local engine: order, warmth, crashes, noise, and that nothing outlives its parent."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bakeoff.engines import Job, LocalEngine, Message
from bakeoff.engines.local import environment, share_cores
from bakeoff.errors import UsageError

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def entries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers import this folder's entries."""
    monkeypatch.syspath_prepend(str(HERE))


def job(name: str, entry: str, priority: int = 0, **payload: Any) -> Job:
    return Job(name, f"entries:{entry}", payload, priority)


def free(lock: Path) -> bool:
    """Wait up to ten seconds until nobody holds a lock."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with lock.open("w") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                time.sleep(0.05)
    return False


def kinds(messages: list[Message], name: str) -> list[str]:
    return [message.kind for message in messages if message.job_id == name]


def test_jobs_start_by_priority_in_one_warm_worker() -> None:
    jobs = [job("a", "echo", text="\udcff$[b]"), job("b", "echo", priority=1), job("c", "echo")]
    with LocalEngine(1, 3) as engine:
        first = list(engine.run(jobs))
        second = list(engine.run([job("d", "echo")]))
    messages = first + second
    assert [message.job_id for message in messages if message.kind == "started"] == ["b", "a", "c", "d"]
    assert kinds(messages, "a") == ["started", "fact", "fact", "finished"]
    facts = [message.content for message in messages if message.kind == "fact"]
    assert len({fact["pid"] for fact in facts if "pid" in fact}) == 1
    assert facts[2]["payload"] == {"text": "\udcff$[b]", "device": "cpu"}
    assert facts[1] == {"OMP_NUM_THREADS": "3", "CUDA_VISIBLE_DEVICES": "", "MALLOC_TRIM_THRESHOLD_": str(2**32)}


def test_workers_run_side_by_side(tmp_path: Path) -> None:
    held = [job(name, "hold", lock=str(tmp_path / name)) for name in "ab"]
    with closing(LocalEngine(2, 1).run(held)) as messages:
        seen: set[str] = set()
        while seen != {"a", "b"}:
            message = next(messages)
            seen |= {message.job_id} if message.kind == "fact" else set()
    assert all(free(tmp_path / f"{name}{number}") for name in "ab" for number in (0, 1))  # closing ended them all


def test_prints_do_not_reach_the_messages(capfd: pytest.CaptureFixture[str]) -> None:
    messages = list(LocalEngine(1, 1).run([job("a", "noisy")]))
    assert [message.content for message in messages[1:]] == [{"stdin": ""}, {}]
    captured = capfd.readouterr()
    assert captured.out == ""
    for line in ("print", "descriptor 1", "from a child"):
        assert line in captured.err


def test_big_messages_pass_both_ways() -> None:
    messages = list(LocalEngine(1, 1).run([job("a", "big", characters=5_000_000, text="y" * 3_000_000)]))
    assert len(messages[1].content["text"]) == 5_000_000
    assert messages[2].content == {"received": 3_000_000}


def test_a_lost_job_starts_once_more(tmp_path: Path) -> None:
    jobs = [job("a", "crash", file=str(tmp_path / "n"), times=1, signal="SIGKILL"), job("b", "echo")]
    messages = list(LocalEngine(1, 1).run(jobs))
    assert kinds(messages, "a") == ["started", "fact", "lost", "started", "fact", "fact", "finished"]
    assert "SIGKILL (out of memory?" in messages[2].content["error"]
    assert messages[0].content["pid"] != messages[3].content["pid"]
    assert kinds(messages, "b")[-1] == "finished"


@pytest.mark.parametrize(
    ("entry", "payload", "expected"),
    [
        ("crash", {"times": 9, "signal": "SIGSEGV"}, "killed by SIGSEGV"),  # a crash in native code
        ("leave", {}, "exit code 7 (no licence for the flux capacitor)"),  # a library that ends the process
    ],
)
def test_the_second_loss_is_a_failure(tmp_path: Path, entry: str, payload: dict[str, Any], expected: str) -> None:
    messages = list(LocalEngine(1, 1).run([job("a", entry, file=str(tmp_path / "n"), **payload), job("b", "echo")]))
    assert [kind for kind in kinds(messages, "a") if kind != "fact"] == ["started", "lost", "started", "failed"]
    failed = next(message.content for message in messages if message.kind == "failed")
    assert expected in failed["error"]
    assert (failed["type"], failed["exit_code"]) == ("RunError", 4)
    assert kinds(messages, "b")[-1] == "finished"


@pytest.mark.parametrize(
    ("entry", "kind", "expected"),
    [
        ("wrong", "data", {"error": "a.png: bad", "type": "DataError", "exit_code": 3}),  # raised on purpose
        ("wrong", "bug", {"error": "ZeroDivisionError: oops", "type": "ZeroDivisionError", "exit_code": 1}),  # a bug
        ("wrong", "memory", {"type": "ResourceError", "exit_code": 5}),  # out of memory
        ("wrong", "exit", {"error": "SystemExit: 3", "exit_code": 1}),  # a library that calls sys.exit
        ("unspeakable", "", {"type": "TypeError", "exit_code": 1}),  # a fact that is not JSON
        ("wrnog", "", {"error": "entries has no function 'wrnog' (did you mean wrong?)", "exit_code": 2}),  # a typo
    ],
)
def test_exceptions_fail_their_job_alone(entry: str, kind: str, expected: dict[str, Any]) -> None:
    messages = list(LocalEngine(1, 1).run([job("a", entry, kind=kind), job("b", "echo")]))
    failed = next(message.content for message in messages if message.kind == "failed")
    assert failed | expected == failed
    assert ("traceback" in failed) == (failed["exit_code"] == 1)
    assert kinds(messages, "b") == ["started", "fact", "fact", "finished"]


PARENT = """
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by what a shell starts in the background
from bakeoff.engines import Job, LocalEngine
for message in LocalEngine(1, 1).run([Job("a", "entries:hold", {"lock": sys.argv[1]})]):
    print(message.kind, flush=True)
"""


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process whose worker, and the worker's child, hold the locks tmp_path/l0 and tmp_path/l1."""
    environ = {**os.environ, "PYTHONPATH": str(HERE)}
    command = [sys.executable, "-c", PARENT, str(tmp_path / "l")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ, text=True) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["started\n", "fact\n"]
        yield process
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_their_parent(tmp_path: Path, parent: subprocess.Popen[str], number: signal.Signals) -> None:
    parent.send_signal(number)
    assert parent.wait(10) == -number
    assert free(tmp_path / "l0")  # the worker's
    assert free(tmp_path / "l1")  # its child's


def test_each_gpu_worker_sees_one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert environment("cuda:1", 4)["CUDA_VISIBLE_DEVICES"] == "1"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert environment("cuda:1", 4)["CUDA_VISIBLE_DEVICES"] == "7"
    messages = list(LocalEngine(2, 1, ("cuda:0", "cuda:1")).run([job("a", "echo")]))
    assert messages[0].content["device"] == "cuda:0"
    assert messages[1].content["payload"] == {"device": "cuda:0"}
    assert messages[2].content["CUDA_VISIBLE_DEVICES"] == "5"


def test_shares_of_the_cores() -> None:
    assert share_cores(9, cores=4) == (4, 1)
    assert share_cores(2, cores=8) == (2, 4)
    assert share_cores(1, ("cuda:0", "cuda:1"), cores=8) == (1, 8)
    assert min(share_cores(100)) >= 1


def test_impossible_engines_are_refused() -> None:
    with pytest.raises(UsageError, match="workers=0"):
        LocalEngine(0, 1)
    with pytest.raises(UsageError, match="two jobs are called a"):
        next(iter(LocalEngine(1, 1).run([job("a", "echo"), job("a", "echo")])))
