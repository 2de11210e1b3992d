"""Findings: what an audit, a split or a comparison noticed, in one form everywhere."""

from __future__ import annotations

import re
from collections.abc import Sequence
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


def printable(text: str) -> str:
    r"""Return text with control, bidirectional and broken characters written as escapes, harmless in any output.

    >>> printable("cat\u202egnp.exe")
    'cat\\u202egnp.exe'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def lowered(title: str) -> str:
    """Write a title inside a sentence: words in lower case, abbreviations as they are.

    >>> lowered("Mean IoU"), lowered("mAP"), lowered("Balanced accuracy"), lowered("Macro F1")
    ('mean IoU', 'mAP', 'balanced accuracy', 'macro F1')
    """
    return re.sub(r"\b[A-Z][a-z]+\b", lambda word: word[0].lower(), title)


def plural(amount: int, noun: str) -> str:
    """Write an amount with its noun.

    >>> plural(1, "seed"), plural(12000, "image")
    ('1 seed', '12,000 images')
    """
    return f"{amount:,} {noun}{'' if amount == 1 else 's'}"


def listed(names: Sequence[str], limit: int = 3) -> str:
    """Return the first few names, printable, and how many more there are.

    >>> listed(["a", "b", "c", "d"])
    'a, b, c and 1 more'
    """
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(printable(name) for name in names[:limit]) + rest
