"""What setting a person before another background costs: every stage of a frame at 480p, and frames a second.

The network is a U-Net on MobileNetV2 with random weights, whose answer is timed and then replaced by the mask of a
figure that walks through the frame: the costs of matting depend on the length of the subject's edge, and random answers
have no edge like a person's.  Stages are measured in processor time, so that what else the machine does does not count.
The last column is the whole command by the clock on a video of these frames, where the network looks at the next frame
while this one is matted.

    python benchmarks/composite.py [frames] [network's side]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from bakeoff.composite.background import Picture
from bakeoff.composite.composing import Composing
from bakeoff.composite.foreground import foreground
from bakeoff.composite.making import Wish, make
from bakeoff.composite.matte import Matting
from bakeoff.composite.subject import Found, ModelSubject
from bakeoff.models import build
from bakeoff.models.spec import ModelSpec
from bakeoff.models.trained import Trained
from bakeoff.predict import open_predictor
from bakeoff.predict.sources import find_sources
from bakeoff.predict.video import Film

WIDTH, HEIGHT, RATE = 854, 480, 25.0
CLASSES = ("background", "person")
Pixels = NDArray[np.uint8]


def figure(frame: int) -> Pixels:
    """Return the outline of a standing figure (H, W), 0 or 1, that walks to the right."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    x, swing = 200 + 6 * frame, round(25 * np.sin(frame / 3))
    cv2.circle(mask, (x, 100), 42, 1, -1)
    cv2.ellipse(mask, (x, 250), (70, 120), 0, 0, 360, 1, -1)
    for leg in (-1, 1):
        cv2.line(mask, (x, 340), (x + leg * (30 + swing), 479), 1, 44)
    return mask


def paint(frame: int) -> Pixels:
    """Return a frame: two textures, one for the figure, with a soft edge between them."""
    draws = np.random.default_rng(7)
    layers = [
        cv2.resize(
            draws.integers(low, low + 120, (30, 54, 3), np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC
        )
        for low in (20, 130)
    ]
    veil = cv2.GaussianBlur(figure(frame).astype(np.float32), (0, 0), 2)[..., None]
    return np.asarray(np.rint(layers[0] * (1 - veil) + layers[1] * veil), np.uint8)


@dataclass(frozen=True)
class Walking:
    """Asks the network, and says what the figure is."""

    network: ModelSubject
    frame: int = 0

    def __call__(self, image: Pixels) -> Found:
        """Return the figure as a network of some 128 pixels sees it."""
        self.network(image)
        small = cv2.resize(figure(self.frame).astype(np.float32), (128, 128), interpolation=cv2.INTER_AREA)
        mask = np.clip(cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), 0, 1)
        return Found(np.asarray(mask, np.float32), "person")

    def settled(self, found: Found) -> Walking:  # noqa: ARG002
        """Go on to the next frame."""
        return replace(self, frame=self.frame + 1)


def open_network(side: int) -> ModelSubject:
    """Return the network."""
    torch.manual_seed(0)
    spec = ModelSpec(arch="unet:tu-mobilenetv2_100", weights="none")
    network = build(spec, len(CLASSES), side, "semantic").eval()
    return ModelSubject(open_predictor(Trained(network, spec, "semantic", CLASSES, side, "squash"), "cpu"), 1)


def timed(function: Callable[..., Any], *given: Any) -> tuple[float, Any]:
    """Return the milliseconds that a function took of the processor, and what it gave."""
    began = time.process_time()
    found = function(*given)
    return (time.process_time() - began) * 1000, found


def stages(subject: Walking, composing: Composing, image: Pixels) -> tuple[float, ...]:
    """Return the milliseconds of a frame's stages: predict, matte, colours of the edge, composite."""
    predict, found = timed(subject, image)
    matte, alpha = timed(composing.matting.alpha, image, found.mask)
    colours, _ = timed(foreground, image.astype(np.float32) / 255, alpha)
    cut = composing.cut(image, found.mask)
    compose, _ = timed(composing.compose, cut)
    return predict, matte, colours, compose


def main() -> None:
    """Print a line for each matte."""
    given = [*sys.argv[1:], *("25", "128")[len(sys.argv) - 1 :]]
    count, side = int(given[0]), int(given[1])
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    network, images = open_network(side), [paint(number) for number in range(count)]
    backdrop = Picture(np.random.default_rng(1).integers(0, 256, (720, 1280, 3), np.uint8))
    print(f"{count} frames of {WIDTH} x {HEIGHT}, U-Net on MobileNetV2 at {side} px, one thread each, medians in ms")
    names = ("predict", "matte", "colours", "composite")
    print(f"{'matte':12}" + "".join(f"{name:>11}" for name in names) + f"{'frames/s':>10}{'video':>10}")
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        with Film() as film:
            for image in images:
                film.add(clip, image, RATE)
        for method in ("none", "guided", "closed_form"):
            composing = Composing(backdrop, Matting(method))
            stages(Walking(network), composing, images[0])  # warm
            rows = [stages(Walking(network, number), composing, image) for number, image in enumerate(images)]
            medians = [statistics.median(column) for column in zip(*rows, strict=True)]
            files = [(source, Path(folder) / f"{method}.mp4") for source in find_sources([clip])]
            made = next(make(Walking(network), files, Wish(composing)))
            row = "".join(f"{value:11.1f}" for value in medians)
            print(f"{method:12}{row}{1000 / sum(medians):10.1f}{made.fps or 0:10.1f}", flush=True)


if __name__ == "__main__":
    main()
