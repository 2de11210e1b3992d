"""Deletion and insertion (Petsiuk et al. 2018, RISE): what happens to the probability without what a map marks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from bakeoff.explain.explainer import Map
from bakeoff.explain.subject import Subject
from bakeoff.models.spec import Network
from bakeoff.seeds import generator

CELLS = 16  # per side: all methods, coarse ones and noisy ones, are judged on the same squares
STEPS = 16  # points of a curve behind its first
ORDERS = 3  # random ones
TINY = 1e-12  # a probability of 0 is no divisor
BLUR = 0.05  # the standard deviation of the blur, as a share of the side


@dataclass(frozen=True)
class Removal:
    """The image, and what stands where it was taken away: the mean colour (deletion), its own blur (insertion)."""

    network: Network
    subject: Subject
    image: Tensor
    batch: int

    def areas(self, found: Map) -> tuple[float, float]:
        """Return the areas under the curves of deletion and insertion in the order of a map, largest values first."""
        return self._areas(_order(found, self._side()))

    def random(self, seed: int) -> tuple[float, float]:
        """Return the same for random orders, on average."""
        count = self._side() ** 2
        areas = [self._areas(generator(seed, "order", k).permutation(count)) for k in range(ORDERS)]
        deletion, insertion = np.mean(areas, axis=0).tolist()
        return deletion, insertion

    def _side(self) -> int:
        """Return the number of squares along a side."""
        return min(CELLS, self.image.shape[-1])

    def _areas(self, order: NDArray[np.intp]) -> tuple[float, float]:
        """Walk along both curves."""
        image, side = self.image, self._side()
        ranks = np.empty(len(order), np.int64)
        ranks[order] = np.arange(len(order))
        rank = torch.from_numpy(ranks.reshape(1, 1, side, side)).float().to(image.device)
        spread = F.interpolate(rank, image.shape[-2:], mode="nearest")
        counts = torch.linspace(0, len(order), STEPS + 1, device=image.device).round().view(-1, 1, 1, 1)
        gone = spread < counts
        deleted = torch.where(gone, self.network.mean.expand_as(image), image)
        inserted = torch.where(gone, image, blurred(image))
        return self._area(deleted), self._area(inserted)

    def _area(self, images: Tensor) -> float:
        """Return the area under the probabilities of images (STEPS + 1, 3, S, S), by trapezoids over 0..1.

        They are shares of the subject's own, so that images of which the network is not sure can be compared, too.
        """
        with torch.no_grad():
            parts = [self.subject.sure(self.network, part) for part in images.split(self.batch)]
        return float(torch.trapezoid(torch.cat(parts).double(), dx=1 / STEPS)) / max(self.subject.probability, TINY)


def _order(found: Map, side: int) -> NDArray[np.intp]:
    """Return the squares of a grid in the order of a map's mean values, the largest first."""
    means = F.adaptive_avg_pool2d(torch.from_numpy(found)[None, None], side).flatten().numpy()
    return np.argsort(-means, kind="stable")


def blurred(image: Tensor) -> Tensor:
    """Return an image without its details: a Gaussian blur of BLUR of its side."""
    from torchvision.transforms.v2.functional import gaussian_blur

    sigma = BLUR * image.shape[-1]
    radius = min(max(1, round(3 * sigma)), image.shape[-1] - 1)
    found: Tensor = gaussian_blur(image, [2 * radius + 1] * 2, [sigma] * 2)
    return found
