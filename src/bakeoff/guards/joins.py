"""Joins: where a network that nothing is known about brings two feature maps together, and a way to cut one out.

A user's own encoder-decoder names no skip connections.  But they end where two maps are concatenated or added, which a
torch function mode sees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

CONCATENATE = frozenset({torch.cat, torch.concat, torch.concatenate})
ADD = frozenset({torch.add, torch.Tensor.add, torch.Tensor.__add__, torch.Tensor.__radd__})
ADD_INTO = frozenset({torch.Tensor.add_, torch.Tensor.__iadd__})  # their first operand is also the result
MOST_PARTS = 6  # of one join: a dense block's many parts are its own affair, not skip connections


@dataclass(frozen=True)
class Join:
    """Part `part` of the join `place`, counted in the order of a forward pass."""

    place: int
    part: int
    words: str


class Joins(TorchFunctionMode):
    """Notes the joins of feature maps in a forward pass, and zeros one part of one of them."""

    def __init__(self, cut: Join | None = None) -> None:
        """Cut nothing, or one part of a join that was noted before."""
        super().__init__()
        self.cut = cut
        self.found: list[Join] = []
        self.count = 0

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run any torch function; joins are noted, and may be cut."""
        options = dict(kwargs or {})
        if func in CONCATENATE:
            parts = args[0] if args else options.pop("tensors")
            dim = args[1] if len(args) > 1 else options.pop("dim", 0)
            return func(self._seen("the concatenation", parts, dim in (1, -3)), dim, **options)
        if func in ADD or func in ADD_INTO:
            pair = self._seen("the sum", args[:2], len(args) > 1, kept=func in ADD_INTO)
            return func(*pair, *args[2:], **options)
        return func(*args, **options)

    def _seen(self, kind: str, parts: Any, joins: bool, kept: bool = False) -> Any:
        """Note a join of maps (B, C, H, W), and put zeros for the part to be cut; `kept`: not for the first."""
        if not joins or not _maps(parts) or not 1 < len(parts) <= MOST_PARTS:
            return parts
        place, self.count = self.count, self.count + 1
        channels, height, width = parts[0].shape[1:]
        for part in range(int(kept), len(parts)):
            channels = parts[part].shape[1]
            where = f"part {part + 1} ({channels} channels) of {kind} of maps of {height} x {width}"
            self.found.append(Join(place, part, f"{where}, the {place + 1}. join"))
        if self.cut is None or self.cut.place != place:
            return parts
        return [torch.zeros_like(one) if part == self.cut.part else one for part, one in enumerate(parts)]


def _maps(parts: Any) -> bool:
    """Say whether all parts are feature maps of one size, and more than one pixel."""
    if not all(isinstance(part, Tensor) and part.ndim == 4 for part in parts):
        return False
    shapes = {(part.shape[0], *part.shape[2:]) for part in parts}
    return len(shapes) == 1 and parts[0].shape[2] * parts[0].shape[3] > 1
