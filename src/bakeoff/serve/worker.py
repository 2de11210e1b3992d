"""One thread for the networks, and a bounded number of requests that wait for it."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Answer = TypeVar("Answer")
LONGEST_WAIT = 60  # seconds that a client is asked to wait at most
MEMORY = 0.8  # how much of the usual time of a job is what it was before the last one


class Busy(Exception):
    """Every place is taken; `retry` is after how many seconds it may be worth asking again."""

    def __init__(self, retry: int) -> None:
        """Remember the seconds."""
        self.retry = retry
        super().__init__(f"too many requests are waiting; ask again in {retry} s")


class Worker:
    """Runs jobs one after the other; at most `waiting` wait while one runs."""

    def __init__(self, waiting: int) -> None:
        """Start without a thread: it comes with the first job."""
        self.capacity, self.taken = waiting + 1, 0
        self._lock, self._pool = threading.Lock(), ThreadPoolExecutor(1, "networks")
        self._usual = 0.5  # seconds of a job

    @contextmanager
    def place(self) -> Iterator[Place]:
        """Yield a place in the line, taken before a request's body is read.  Raises Busy when there is none."""
        with self._lock:
            if self.taken >= self.capacity:
                raise Busy(min(LONGEST_WAIT, max(1, math.ceil(self._usual * self.capacity / 2))))
            self.taken += 1
        place = Place(self)
        try:
            yield place
        finally:
            if not place.used:
                self._leave()

    def submit(self, job: Callable[[], Answer]) -> asyncio.Future[Answer]:
        """Run a job for someone who has a place, which is free again when the job has ended, or is given up unbegun."""

        def timed() -> Answer:
            start = time.perf_counter()
            try:
                return job()
            finally:
                self._usual = MEMORY * self._usual + (1 - MEMORY) * (time.perf_counter() - start)

        future = self._pool.submit(timed)
        future.add_done_callback(lambda _: self._leave())
        return asyncio.wrap_future(future)

    def close(self) -> None:
        """Give up the jobs that wait; the one that runs is waited for."""
        self._pool.shutdown(cancel_futures=True)

    def _leave(self) -> None:
        """Free a place."""
        with self._lock:
            self.taken -= 1


class Place:
    """A place in the line, good for one job."""

    def __init__(self, worker: Worker) -> None:
        """Remember the worker."""
        self._worker, self.used = worker, False

    async def run(self, job: Callable[[], Answer], seconds: float) -> Answer:
        """Return what a job returns.  Raises TimeoutError when that takes longer: a job not yet begun is given up."""
        self.used = True
        async with asyncio.timeout(seconds):
            return await self._worker.submit(job)
