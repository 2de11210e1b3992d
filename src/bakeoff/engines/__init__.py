"""Where runs execute: an engine takes jobs and yields messages; it knows nothing of studies or networks."""

from __future__ import annotations

from bakeoff.engines.engine import Engine, Job, Message, MessageKind
from bakeoff.engines.local import LocalEngine

ENGINES = (LocalEngine,)

__all__ = ["ENGINES", "Engine", "Job", "LocalEngine", "Message", "MessageKind"]
