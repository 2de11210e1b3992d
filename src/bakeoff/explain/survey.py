"""What a survey over images found: of channels of a layer the strongest activations, and what they saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bakeoff.explain.deconvnet import Activation
from bakeoff.explain.explaining import SURVEY
from bakeoff.explain.paint import Pixels
from bakeoff.explain.receptive_field import Field
from bakeoff.findings import plural, printable


@dataclass(frozen=True)
class Seen:
    """A channel's strongest activation in one image, and the `patch` of the image inside its receptive `field`.

    `pattern` is the deconvnet's reconstruction inside it, around grey; None where there is no way back.
    """

    path: str
    activation: Activation
    field: Field
    patch: Pixels
    pattern: Pixels | None

    def to_json(self) -> dict[str, Any]:
        """Return all but pixels, JSON-able."""
        row, column = self.activation.place
        place = {"row": row, "column": column, "box": list(self.field)}
        return {"path": self.path, "value": self.activation.value, **place}


@dataclass(frozen=True)
class Survey:
    """What was found: by channel, the strongest first, what it saw.  `note` says why there are no reconstructions.

    `shape` is the layer's map (channels, height, width), `images` how many were looked at, `picture` the file written.
    """

    layer: str
    shape: tuple[int, int, int]
    images: int
    channels: Mapping[int, tuple[Seen, ...]]
    note: str = ""
    picture: str | None = None
    error: str | None = None

    @property
    def words(self) -> str:
        """All that there is to say, in lines."""
        count, height, width = self.shape
        kind = f"{count} channels of {height} x {width}"
        first = f"{SURVEY}: layer {self.layer}, {kind}, strongest in {plural(self.images, 'image')}"
        lines = [f"  channel {channel}: {told(seen)}" for channel, seen in self.channels.items()]
        notes = [f"  no reconstructions: {self.note}"] if self.note else []
        shown = [f"  picture: {printable(self.picture)}"] if self.picture else []
        return "\n".join([first, *lines, *notes, *shown])

    def to_json(self) -> dict[str, Any]:
        """Return all but pixels, JSON-able."""
        found = [
            {"channel": channel, "strongest": [one.to_json() for one in seen]}
            for channel, seen in self.channels.items()
        ]
        content = {"method": SURVEY, "layer": self.layer, "shape": list(self.shape), "images": self.images}
        return {**content, "channels": found, "note": self.note, "picture": self.picture, "error": self.error}


def told(seen: Sequence[Seen]) -> str:
    """Say how strong a channel was, and in which images most and least of those that are shown."""
    if not seen:
        return "active in no image"
    ends = (*seen[:1], *seen[1:][-1:])
    return " to ".join(f"{one.activation.value:.3g} ({printable(Path(one.path).name)})" for one in ends)
