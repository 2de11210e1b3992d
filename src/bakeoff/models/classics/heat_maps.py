"""Class heat maps of images larger than a classifier's, at several scales, and boxes (Sermanet et al. 2014, section 4).

A classifier that has seen objects alone calls every window one of them: it needs a class of windows that hold none
(`background`) to find things.  Windows are the boxes; the paper's regression of boxes is R-CNN's here (rcnn.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from bakeoff.errors import UsageError
from bakeoff.models.classics.dense import DenseTwin

SCALES = (1.0, 1.25, 1.5, 2.0)
THRESHOLD, OVERLAP = 0.5, 0.3
MOST = 100  # objects, as in spec.Network


@dataclass(frozen=True)
class HeatMap:
    """`scores` (classes, rows, columns), the probabilities of windows; `window` and `step` in pixels of the image."""

    scores: Tensor
    window: float
    step: float

    def boxes(self) -> Tensor:
        """Return the windows (rows x columns, 4) as x1 y1 x2 y2, row by row."""
        rows, columns = (torch.arange(count) * self.step for count in self.scores.shape[1:])
        corners = torch.cartesian_prod(rows, columns).flip(1)
        return torch.cat([corners, corners + self.window], dim=1)


def heat_maps(twin: DenseTwin, image: Tensor, scales: Sequence[float] = SCALES, shifts: int = 1) -> list[HeatMap]:
    """Classify all windows of an image (3, H, W), float in 0..1, enlarged by each of `scales`, smallest windows last.

    With `shifts` above 1 the image is run so many times squared, moved by parts of the stride (the paper's offsets at
    the last pooling): so many times finer maps.  Scales at which the image is smaller than a window are left out;
    raises UsageError when that is all of them, or when the stride cannot be divided.
    """
    if shifts < 1 or twin.stride % shifts:
        raise UsageError(f"a stride of {twin.stride} pixels cannot be divided by {shifts} shifts")
    found = []
    for scale in sorted(scales):
        sides = [round(side * scale) for side in image.shape[1:]]
        if min(sides) >= twin.size:
            enlarged = image[None] if scale == 1 else _resized(image, sides)
            with torch.inference_mode():
                scores = _windows(twin, enlarged, shifts)
            found.append(HeatMap(scores.cpu(), twin.size / scale, twin.stride / shifts / scale))
    if not found:
        told = " x ".join(map(str, image.shape[1:]))
        raise UsageError(f"an image of {told} pixels is smaller than a window of {twin.size} at every scale")
    return found


def _resized(image: Tensor, sides: list[int]) -> Tensor:
    """Return (1, 3, H, W) of other sides."""
    return F.interpolate(image[None], sides, mode="bilinear", antialias=True).clamp(0, 1)


def _windows(twin: DenseTwin, image: Tensor, shifts: int) -> Tensor:
    """Return the probabilities (classes, rows, columns) of windows that lie stride / shifts pixels apart."""
    step = twin.stride // shifts
    rows, columns = ((side - twin.size) // step + 1 for side in image.shape[2:])
    scores = image.new_zeros(0)
    for down in range(min(shifts, rows)):
        for right in range(min(shifts, columns)):
            part = twin(image[..., down * step :, right * step :])[0].float().softmax(dim=0)
            if not len(scores):
                scores = part.new_zeros(len(part), rows, columns)
            place = scores[:, down::shifts, right::shifts]
            place.copy_(part[:, : place.shape[1], : place.shape[2]])
    return scores


def class_map(maps: Sequence[HeatMap], height: int, width: int) -> Tensor:
    """Return (classes, height, width): the probability of the window around each pixel, largest of all scales.

    Between the centres of windows it is bilinear; where no window has its centre, that of the nearest one.
    """
    found = []
    for one in maps:
        sides = zip((height, width), one.scores.shape[1:], strict=True)
        down, right = (_places(length, count, one) for length, count in sides)
        grid = torch.stack([right.expand(height, -1), down[:, None].expand(-1, width)], dim=2)
        found.append(F.grid_sample(one.scores[None], grid[None], padding_mode="border", align_corners=True)[0])
    return torch.stack(found).amax(0)


def _places(length: int, count: int, one: HeatMap) -> Tensor:
    """Return where pixels lie between the centres of `count` windows: -1 at the first, 1 at the last."""
    cells = (torch.arange(length) + 0.5 - one.window / 2) / one.step
    return cells.clamp(0, count - 1) * (2 / max(1, count - 1)) - 1


def find(
    maps: Sequence[HeatMap], threshold: float = THRESHOLD, overlap: float = OVERLAP, background: int | None = None
) -> dict[str, Tensor]:
    """Return boxes (N, 4), labels and scores, best first, of windows whose class has at least `threshold`.

    Of two that overlap by an IoU above `overlap` the weaker goes, whatever the classes (non-maximum suppression).
    Windows whose likeliest class is `background` are no objects.
    """
    from torchvision.ops import nms

    scores, labels = torch.cat([one.scores.flatten(1) for one in maps], dim=1).max(dim=0)
    boxes = torch.cat([one.boxes() for one in maps])
    kept = scores >= threshold
    if background is not None:
        kept &= labels != background
    boxes, labels, scores = boxes[kept], labels[kept], scores[kept]
    best = nms(boxes, scores, overlap)[:MOST]
    return {"boxes": boxes[best], "labels": labels[best], "scores": scores[best]}
