"""Findings: what an audit, a split or a comparison noticed, in one form everywhere."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True)
class Finding:
    """A coded observation: `sentence` for people, `code` and `records` (ids) for programs.

    Severity `error` stops a study unless accepted by its code, `warning` is printed with the verdict,
    `info` is for the record.  `records` may hold groups of ids joined in order, as the sentence says.
    """

    code: str
    severity: Severity
    sentence: str
    records: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able dictionary."""
        return {**asdict(self), "records": list(self.records)}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Finding:
        """Rebuild from to_json()."""
        return cls(content["code"], content["severity"], content["sentence"], tuple(content["records"]))
