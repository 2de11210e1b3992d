"""Jobs in plain Python for the tests of the engines."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bakeoff.errors import DataError

Facts = Iterator[dict[str, Any]]


def echo(payload: dict[str, Any]) -> Facts:
    """Yield the payload and the environment that matters, one fact each."""
    yield {"payload": payload, "pid": os.getpid()}
    yield {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "MALLOC_TRIM_THRESHOLD_")}


def noisy(payload: dict[str, Any]) -> Facts:
    """Write to stdout in every way there is, and read stdin."""
    print("print")
    os.write(1, b'{"kind": "fact", "content": {"from": "descriptor 1"}}\n')
    subprocess.run([sys.executable, "-c", "print('from a child')"], check=True)
    yield {"stdin": sys.stdin.read()}


def big(payload: dict[str, Any]) -> Facts:
    """Yield one fact of as many characters as asked, and then what came in."""
    yield {"text": "x" * payload["characters"]}
    yield {"received": len(payload["text"])}


def crash(payload: dict[str, Any]) -> Facts:
    """Kill the process by a signal until a file counts `times` attempts."""
    attempts = Path(payload["file"])
    attempts.write_text(attempts.read_text() + "x" if attempts.exists() else "x")
    yield {"attempt": len(attempts.read_text())}
    if len(attempts.read_text()) <= payload["times"]:
        os.kill(os.getpid(), getattr(signal, payload["signal"]))
    yield {"survived": True}


def leave(payload: dict[str, Any]) -> Facts:
    """End the process without a word."""
    print("no licence for the flux capacitor", file=sys.stderr, flush=True)
    yield {}
    os._exit(7)


def wrong(payload: dict[str, Any]) -> Facts:
    """Raise."""
    yield {"so": "far"}
    raise {
        "data": DataError("a.png: bad"),
        "bug": ZeroDivisionError("oops"),
        "memory": MemoryError(),
        "exit": SystemExit(3),
    }[payload["kind"]]


def unspeakable(payload: dict[str, Any]) -> Facts:
    """Yield what is not JSON."""
    yield {"object": object()}


def hold(payload: dict[str, Any]) -> Facts:
    """Hold a lock for a minute, and let a child process hold a second one."""
    locks = [os.open(f"{payload['lock']}{number}", os.O_CREAT | os.O_RDWR) for number in (0, 1)]
    for lock in locks:
        fcntl.flock(lock, fcntl.LOCK_EX)
    subprocess.Popen(["sleep", "60"], pass_fds=[locks[1]])
    os.close(locks[1])
    yield {"held": True}
    time.sleep(60)
