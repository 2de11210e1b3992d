"""Losses of one label per image: cross-entropy and focal, for class indices and for probabilities alike."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from bakeoff.tasks.pixel_loss import GAMMA


def cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None = None, smoothing: float = 0.0) -> Tensor:
    """Return the mean cross-entropy of logits (B, K) and indices (B,) or probabilities (B, K).

    With class weights it is the weighted mean, by the weight of each target: a one-hot target counts like its index.
    (torch's own mean for probabilities would divide by B instead.)
    """
    if weights is None or targets.ndim == 1:
        return F.cross_entropy(logits, targets, weights, label_smoothing=smoothing)
    total = F.cross_entropy(logits, targets, weights, reduction="sum", label_smoothing=smoothing)
    mean: Tensor = total / (targets @ weights).sum()
    return mean


def focal(logits: Tensor, targets: Tensor, weights: Tensor | None = None, smoothing: float = 0.0) -> Tensor:
    """Return the mean of the sum over classes of t (1 - p)^2 * -ln p (Lin et al. 2017), p the softmax probabilities.

    t is the target, one-hot of an index or a probability, with the share `smoothing` spread over all K classes.  Class
    weights multiply each class's term, and the mean is the weighted one: with exponent 0 it is the cross-entropy.
    """
    if targets.ndim == 1:
        targets = F.one_hot(targets, logits.shape[1])
    truth = targets.to(logits)
    surprise = -logits.log_softmax(dim=1)
    weight = logits.new_ones(logits.shape[1]) if weights is None else weights
    smooth = (1 - smoothing) * truth + smoothing / logits.shape[1]
    losses = smooth * weight * (1 - (-surprise).exp()).pow(GAMMA) * surprise
    mean: Tensor = losses.sum() / (truth @ weight).sum()
    return mean
