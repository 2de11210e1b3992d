"""What predicting files costs above the network: `bakeoff.predict` against a bare loop over the same files.

The bare loop is what one would write by hand: Pillow reads and resizes in a pool of as many threads, batches as large,
the same network in the same thread pool, softmax.  Both run in turn in one process on the same JPEG files; medians and
the median ratio of images per second, by the clock and by the processors' time.  Their probabilities are compared.

    python benchmarks/predict.py [rounds] [images] [side] [device]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from bakeoff.models import build
from bakeoff.models.spec import ModelSpec, Network
from bakeoff.models.trained import Trained
from bakeoff.predict import open_predictor, predict
from bakeoff.predict.prediction import decoders

CLASSES = tuple(f"class {number}" for number in range(10))
WIDTH, HEIGHT, BATCH = 640, 480, 64
Scores = NDArray[np.float32]


def paint(folder: Path, count: int) -> list[Path]:
    """Write smooth noise as JPEG files of about 50 KB, as a camera's small pictures are."""
    files = [folder / f"{number:05}.jpg" for number in range(count)]
    for number, file in enumerate(files):
        noise = np.random.default_rng(number).integers(0, 256, (30, 40, 3), np.uint8)
        Image.fromarray(noise).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(file, quality=90)
    return files


def bare(network: Network, files: Sequence[Path], side: int, device: str) -> Scores:
    """Return the probabilities (n, classes) of files, by hand."""

    def read(file: Path) -> NDArray[np.uint8]:
        with Image.open(file) as image:
            return np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC))

    found: list[Scores] = []
    with ThreadPoolExecutor(decoders()) as pool, torch.inference_mode():
        images = pool.map(read, files)
        for start in range(0, len(files), BATCH):
            chunk = np.stack([next(images) for _ in files[start : start + BATCH]])
            batch = torch.from_numpy(chunk).to(device).permute(0, 3, 1, 2).contiguous().float().div(255)
            found.append(network(batch).softmax(dim=1).cpu().numpy())
    return np.concatenate(found)


def ours(model: Trained, files: Sequence[Path], device: str) -> Scores:
    """Return the same by bakeoff."""
    found = predict(open_predictor(model, device), files, BATCH)
    return np.array([list(one.scores.values()) for one in found], np.float32)


def timed(function: Callable[..., Scores], *given: Any) -> tuple[float, float, Scores]:
    """Return the seconds that a function took by the clock and of the processors, and what it gave."""
    began, worked = time.perf_counter(), time.process_time()
    scores = function(*given)
    return time.perf_counter() - began, time.process_time() - worked, scores


def main() -> None:
    """Print a line for each network."""
    given = [*sys.argv[1:], *("3", "1000", "128", "cpu")[len(sys.argv) - 1 :]]
    rounds, count, side, device = int(given[0]), int(given[1]), int(given[2]), given[3]
    torch.set_num_threads(1)
    print(f"{count} JPEG files of {WIDTH} x {HEIGHT}, {side} px, batch {BATCH}, {device}, median of {rounds}")
    print(f"{'network':24} {'bare images/s':>14} {'bakeoff':>9} {'ratio':>6} {'of CPU':>7} {'scores apart':>13}")
    with tempfile.TemporaryDirectory() as folder:
        files = paint(Path(folder), count)
        for arch in ("timm:mobilenetv2_100", "small:cnn"):
            torch.manual_seed(0)
            spec = ModelSpec(arch=arch, weights="none")
            network = build(spec, len(CLASSES), side).to(device).eval()
            model = Trained(network, spec, "classification", CLASSES, side, "squash")
            bare(network, files[:BATCH], side, device), ours(model, files[:BATCH], device)  # warm
            pairs = [
                (timed(bare, network, files, side, device), timed(ours, model, files, device)) for _ in range(rounds)
            ]
            speeds = [statistics.median(count / pair[which][0] for pair in pairs) for which in (0, 1)]
            clock = statistics.median(one[0] / other[0] for one, other in pairs)
            work = statistics.median(one[1] / other[1] for one, other in pairs)
            gap = max(float(np.abs(one[2] - other[2]).max()) for one, other in pairs)
            row = f"{arch:24} {speeds[0]:14.0f} {speeds[1]:9.0f} {clock:6.2f} {work:7.2f} {gap:13.1e}"
            print(row, flush=True)


if __name__ == "__main__":
    main()
