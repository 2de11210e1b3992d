"""The local engine: worker processes on this machine, each with a device or with its share of the cores.

A worker stays warm from job to job, so the imports (torch: seconds) are paid once per process.  Workers live in
process groups of their own: Ctrl-C reaches the parent alone, and what a worker started ends with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator
from queue import SimpleQueue
from types import TracebackType
from typing import Any, ClassVar

from bakeoff.engines.engine import Job, Message
from bakeoff.errors import ResourceError, RunError, UsageError

GRACE = 5.0  # seconds between asking a worker to end and killing it
TAIL = 20  # lines of a worker's stderr that the news of its death may quote

Event = tuple["Worker", dict[str, Any] | None]  # a message of the worker, or None when it has died


def share_cores(runs: int, devices: tuple[str, ...] = ("cpu",), cores: int | None = None) -> tuple[int, int]:
    """Return (workers, threads each) for a study of `runs` runs.

    On the CPU many processes with one thread beat one process with many.  `runs` is the whole study's number, not what
    is left of it: the thread count is one of the conditions that must not change when a study is resumed.

    >>> share_cores(9, cores=4), share_cores(2, cores=8), share_cores(9, ("cuda:0", "cuda:1"), cores=8)
    ((4, 1), (2, 4), (2, 4))
    """
    from joblib import cpu_count  # type: ignore[import-untyped]  # it knows affinity and container quotas

    cores = cores or int(cpu_count())
    places = cores if devices == ("cpu",) else len(devices)
    workers = max(1, min(runs, places))
    return workers, max(1, cores // workers)


class LocalEngine:
    """Runs up to `workers` jobs at once, each in a process with `threads` threads and one of `devices`.

    As a context manager it keeps its workers warm between calls of run(); otherwise they end with each call.  They end
    in any case when the generator is closed, when an exception (Ctrl-C too) passes through it, or when this process
    dies for whatever reason.  Raises UsageError for numbers below 1 or without a device.
    """

    NAME: ClassVar[str] = "local"

    def __init__(self, workers: int, threads: int, devices: tuple[str, ...] = ("cpu",)) -> None:
        """Start nothing yet: a worker starts with its first job."""
        if workers < 1 or threads < 1 or not devices:
            raise UsageError(f"the local engine needs workers, threads and a device: {workers=} {threads=} {devices=}")
        self.workers, self.threads, self.devices = workers, threads, devices
        self._crew: list[Worker] = []
        self._events: SimpleQueue[Event] = SimpleQueue()
        self._held = False

    def __enter__(self) -> LocalEngine:
        """Keep workers warm until the block ends."""
        self._held = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the workers."""
        self._held = False
        self.close()

    def run(self, jobs: Iterable[Job]) -> Generator[Message, None, None]:
        """Run the jobs; see Message.  Raises UsageError when two jobs have one id, ResourceError without processes."""
        listed = list(jobs)
        if twice := [name for name, count in Counter(job.id for job in listed).items() if count > 1]:
            raise UsageError(f"two jobs are called {twice[0]}; the id of a job must be its own")
        waiting = deque(sorted(listed, key=lambda job: -job.priority))
        lost: set[str] = set()
        try:
            while waiting or any(worker.job for worker in self._crew):
                yield from self._start(waiting)
                worker, message = self._events.get()
                if message is not None:
                    yield worker.message(message)
                elif job := self._bury(worker):
                    yield worker.obituary(job, again=job.id not in lost)
                    if job.id not in lost:
                        lost.add(job.id)
                        waiting.appendleft(job)
        except BaseException:
            self.close()
            raise
        if not self._held:
            self.close()

    def close(self) -> None:
        """End the workers: SIGTERM, then SIGKILL for those still there after five seconds."""
        crew, self._crew = self._crew, []
        self._events = SimpleQueue()
        for worker in crew:
            worker.send(signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        for worker in crew:
            worker.end(deadline)

    def _start(self, waiting: deque[Job]) -> Iterator[Message]:
        """Give waiting jobs to idle workers, starting workers where there is room."""
        while waiting and (worker := self._idle()):
            job = waiting.popleft()
            worker.give(job)
            yield Message(job.id, "started", {"pid": worker.pid, "device": worker.device})

    def _idle(self) -> Worker | None:
        """Return a worker without a job, a new one if need be, or None when all are busy."""
        for worker in self._crew:
            if worker.job is None:
                return worker
        taken = {worker.slot for worker in self._crew}
        free = [slot for slot in range(self.workers) if slot not in taken]
        if not free:
            return None
        self._crew.append(Worker(free[0], self.devices[free[0] % len(self.devices)], self.threads, self._events))
        return self._crew[-1]

    def _bury(self, worker: Worker) -> Job | None:
        """Forget a dead worker; return the job that died with it."""
        self._crew.remove(worker)
        worker.end(time.monotonic())
        return worker.job


class Worker:
    """The parent's end of a worker process: three threads listen to it, and tell a queue of events."""

    def __init__(self, slot: int, device: str, threads: int, events: SimpleQueue[Event]) -> None:
        """Start the process; ResourceError when the system refuses."""
        self.slot, self.device = slot, device
        self.job: Job | None = None
        self._events = events
        self._tail: deque[str] = deque(maxlen=TAIL)
        command = [sys.executable, "-P", "-m", "bakeoff.engines.worker"]
        pipe = subprocess.PIPE
        try:
            self._process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment(device, threads), start_new_session=True
            )
        except OSError as error:
            raise ResourceError(f"a worker process cannot be started: {error}; fewer runs at once may fit") from error
        self.pid = self._process.pid
        self._listeners = [threading.Thread(target=target, daemon=True) for target in (self._read, self._relay)]
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        for thread in (*self._listeners, self._watcher):
            thread.start()

    def give(self, job: Job) -> None:
        """Send a job; should the worker be dead already, its event is on the way."""
        self.job = job
        device = "cuda:0" if self.device.startswith("cuda") else self.device  # it sees but one
        line = json.dumps({"entry": job.entry, "payload": {**job.payload, "device": device}}) + "\n"
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line.encode("ascii"))
            self._process.stdin.flush()

    def message(self, content: dict[str, Any]) -> Message:
        """Turn what the worker wrote into a message, and note when its job is over."""
        assert self.job is not None
        message = Message(self.job.id, content["kind"], content["content"])
        if message.kind != "fact":
            self.job = None
        return message

    def obituary(self, job: Job, again: bool) -> Message:
        """Return the message about a job whose worker died."""
        code = self._process.returncode
        cause = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        if code == -signal.SIGKILL:
            cause += " (out of memory? use a smaller batch, smaller images, or fewer runs at once)"
        if code >= 0 and self._tail:
            cause += f" ({self._tail[-1].strip()})"
        if again:
            return Message(job.id, "lost", {"error": f"the worker process {cause}; the job starts once more"})
        content = {"error": f"the worker process {cause}; it was the second loss of this job", "type": "RunError"}
        return Message(job.id, "failed", {**content, "exit_code": RunError.exit_code, "stderr": "".join(self._tail)})

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the worker and all that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def end(self, deadline: float) -> None:
        """Wait for the end until `deadline` (of the monotonic clock), then kill."""
        self._watcher.join(max(0.0, deadline - time.monotonic()))
        if self._watcher.is_alive():
            self.send(signal.SIGKILL)
            self._watcher.join(GRACE)
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def _read(self) -> None:
        """Pass messages on."""
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            for line in stream:
                if line.endswith(b"\n"):  # else torn by a kill
                    self._events.put((self, json.loads(line)))

    def _relay(self) -> None:
        """Pass on what the job's libraries say, through sys.stderr so that a live display can make room for it."""
        assert self._process.stderr is not None
        with self._process.stderr as stream:
            for raw in stream:
                line = raw.decode("utf-8", "replace")
                self._tail.append(line)
                with contextlib.suppress(OSError, ValueError):
                    sys.stderr.write(line)

    def _watch(self) -> None:
        """Wait for the process, then for its last words, then tell of its death."""
        self._process.wait()
        self.send(signal.SIGTERM)  # processes left behind would hold the pipes open
        for thread in self._listeners:
            thread.join(GRACE)
        self._events.put((self, None))


def environment(device: str, threads: int) -> dict[str, str]:
    """Return a worker's environment: its threads, its device, the parent's import path, and how it uses memory."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
    return {
        **os.environ,
        **dict.fromkeys(names, str(threads)),
        # glibc would give a step's memory back and fault it in again at the next: keep it
        "MALLOC_MMAP_THRESHOLD_": str(2**30),
        "MALLOC_TRIM_THRESHOLD_": str(2**32),
        "CUDA_VISIBLE_DEVICES": _visible(device),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "TQDM_DISABLE": "1",  # a worker has no terminal
    }


def _visible(device: str) -> str:
    """Return the value of CUDA_VISIBLE_DEVICES for a device, counted among those the parent itself may see."""
    kind, _, index = device.partition(":")
    if kind != "cuda":
        return ""
    own = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    number = int(index or 0)
    return own[number] if own != [""] and number < len(own) else str(number)
