"""The contract of an engine: jobs in, messages out."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

MessageKind = Literal["started", "fact", "finished", "failed", "lost"]


@dataclass(frozen=True)
class Job:
    """A piece of work that can be begun again after a kill: an entry function and what it is given.

    `entry` is "package.module:function"; the function takes the payload (JSON values) and yields facts (JSON
    dictionaries).  The engine adds payload["device"].  Jobs of higher `priority` start first, equal ones in order.
    """

    id: str
    entry: str
    payload: dict[str, Any] = field(default_factory=dict)
    priority: int = 0


@dataclass(frozen=True)
class Message:
    """What happened to a job.

    started: content has the worker's "pid" and "device".  fact: content is the fact.  finished: content is empty.
    failed: content has "error" (a sentence), "type" (the exception's name), "exit_code", and for an exception that
    bakeoff does not raise on purpose "traceback".  lost: the worker process died, content has "error"; the job starts
    once more, and a second loss is a failure.
    """

    job_id: str
    kind: MessageKind
    content: dict[str, Any] = field(default_factory=dict)


class Engine(Protocol):
    """Runs jobs somewhere."""

    NAME: ClassVar[str]

    def run(self, jobs: Iterable[Job]) -> Generator[Message, None, None]:
        """Run every job, yielding messages as they come; a failed job does not stop the others."""
        ...

    def close(self) -> None:
        """End whatever still runs."""
        ...
