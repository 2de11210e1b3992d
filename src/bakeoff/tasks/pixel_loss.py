"""Losses of label maps: cross-entropy, Dice and focal, each over the pixels that are not ignored.

Pixel losses are added up from unreduced ones: torch's own reduction over label maps is not deterministic on a GPU, and
gives NaN for a batch in which every pixel is ignored, where these give 0.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bakeoff.data.targets import IGNORE

GAMMA = 2.0  # of the focal loss: its authors' choice
TINY = 1e-7


def cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None = None, smoothing: float = 0.0) -> Tensor:
    """Return the mean cross-entropy of logits (B, K, H, W) and indices (B, H, W), weighted by the target's class."""
    losses = F.cross_entropy(logits, targets, weights, ignore_index=IGNORE, reduction="none", label_smoothing=smoothing)
    return _mean(losses, targets, weights)


def focal(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean of (1 - p)^2 * -ln p, p the softmax probability of the true class (Lin et al. 2017)."""
    surprise = F.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="none")
    losses = (1 - (-surprise).exp()).pow(GAMMA) * surprise
    if weights is not None:
        losses = losses * weights[targets.clamp(max=len(weights) - 1)]
    return _mean(losses, targets, weights)


def dice(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean over classes of 1 - 2 |P and T| / (|P| + |T|), P the probabilities, T the truth, of the batch.

    Classes without a true pixel in the batch add nothing, as in segmentation_models_pytorch (Milletari et al. 2016).
    """
    judged = (targets != IGNORE).unsqueeze(1)
    truth = (targets.unsqueeze(1) == torch.arange(logits.shape[1], device=logits.device).view(1, -1, 1, 1)).to(logits)
    found = logits.softmax(dim=1) * judged
    sums = [values.sum(dim=(0, 2, 3)) for values in (found * truth, found, truth)]
    overlap, drawn, real = sums
    losses = 1 - 2 * overlap / (drawn + real).clamp(min=TINY)
    return (losses * (real > 0)).mean()


def _mean(losses: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """Divide the sum of pixel losses by the sum of the pixels' weights; ignored pixels weigh nothing."""
    judged = targets != IGNORE
    if weights is None:
        return (losses * judged).sum() / judged.sum().clamp(min=1)
    weight = (weights[targets.clamp(max=len(weights) - 1)] * judged).sum()
    return (losses * judged).sum() / weight.clamp(min=TINY)
