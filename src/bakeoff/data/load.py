"""Tickets -> decode -> augment -> collate."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """images (B, 3, H, W) float32 in 0..1; targets (B,) int64 class indices, or (B, classes) float32 when mixed."""

    images: Tensor
    targets: Tensor
