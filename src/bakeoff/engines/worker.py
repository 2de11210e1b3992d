"""The worker process: `python -m bakeoff.engines.worker` reads jobs from stdin and writes messages to stdout.

One JSON object a line.  In: {"entry", "payload"}.  Out: {"kind": "fact" | "finished" | "failed", "content"}.  When
stdin ends, the parent has gone: the worker and all that it started end at once.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import json
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any, BinaryIO

from bakeoff.errors import BakeoffError, ResourceError, UsageError, nearest

Entry = Callable[[dict[str, Any]], Iterator[dict[str, Any]]]


def perform(entry: str, payload: dict[str, Any]) -> Iterator[str]:
    """Run one job and yield its messages as lines; the last one is "finished" or "failed"."""
    try:
        for fact in resolve(entry)(payload):
            yield _line("fact", fact)
    except (Exception, SystemExit) as error:
        yield _line("failed", describe(error))
    else:
        yield _line("finished", {})


def resolve(entry: str) -> Entry:
    """Return the function that "package.module:function" names, or raise UsageError."""
    module_name, _, name = entry.partition(":")
    module = importlib.import_module(module_name)
    function: Entry | None = getattr(module, name, None)
    if function is None:
        raise UsageError(f"{module_name} has no function {name!r}{nearest(name, dir(module))}")
    return function


def describe(error: BaseException) -> dict[str, Any]:
    """Return what a "failed" message says of an exception: error, type, exit_code, and traceback for a bug."""
    name = type(error).__name__
    if isinstance(error, BakeoffError):
        return {"error": str(error), "type": name, "exit_code": error.exit_code}
    text = f"{name}: {error}"
    if name in ("MemoryError", "OutOfMemoryError"):  # the second is torch's, which is not imported here
        advice = f"out of memory: use a smaller batch, smaller images, or fewer runs at once ({text})"
        return {"error": advice, "type": "ResourceError", "exit_code": ResourceError.exit_code}
    return {"error": text, "type": name, "exit_code": 1, "traceback": traceback.format_exc()}


def main() -> None:
    """Work until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    faulthandler.enable()
    jobs: SimpleQueue[dict[str, Any]] = SimpleQueue()
    stdin, stdout = _claim_streams()
    threading.Thread(target=_read, args=(stdin, jobs), daemon=True).start()
    while True:
        job = jobs.get()
        for line in perform(job["entry"], job["payload"]):
            stdout.write(line.encode("ascii"))
            stdout.flush()
        del job
        gc.collect()  # a warm worker keeps nothing of the last job


def _claim_streams() -> tuple[BinaryIO, BinaryIO]:
    """Move the two pipes out of the way of libraries: fd 0 becomes empty, fd 1 becomes a second stderr."""
    stdin, stdout = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    os.dup2(2, 1)
    return stdin, stdout


def _read(stdin: BinaryIO, jobs: SimpleQueue[dict[str, Any]]) -> None:
    """Queue the jobs; at the end of stdin leave, whatever the main thread is doing."""
    for line in stdin:
        jobs.put(json.loads(line))
    if os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGTERM)  # and with us the processes that a job started
    os._exit(0)


def _line(kind: str, content: dict[str, Any]) -> str:
    """Return a message as one line of ASCII JSON."""
    return json.dumps({"kind": kind, "content": content}) + "\n"


if __name__ == "__main__":
    main()
