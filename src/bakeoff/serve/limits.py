"""What the server takes at most, so that no request makes it grow: bytes, pixels, seconds, places, models."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """`bytes` of a request's body; `pixels` of a picture (a quarter of what `bakeoff predict` decodes).

    `upload` seconds for a body to arrive and `answer` seconds for a network's answer to it; `waiting` requests that
    wait for the networks while one is answered; `models` kept in memory, those used last.
    """

    bytes: int = 20_000_000
    pixels: int = 45_000_000
    upload: float = 60.0
    answer: float = 120.0
    waiting: int = 16
    models: int = 4
