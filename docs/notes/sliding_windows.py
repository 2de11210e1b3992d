"""A classifier of small windows, run over a larger image as one convolution: heat maps, and boxes from them."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional as F

from bakeoff.files import replacing
from bakeoff.models import build
from bakeoff.models.classics.dense import DenseTwin, dense_twin
from bakeoff.models.classics.heat_maps import class_map, find, heat_maps
from bakeoff.models.spec import Head, ModelSpec, Network

SIDE, NOTHING, LEARNED = 32, 10, 1500  # pixels of a window; the class of windows without a digit; digits to learn from
NAME = {"color": "C1", "fontsize": 7.5, "bbox": {"facecolor": "black", "alpha": 0.6, "pad": 0.5, "linewidth": 0}}
PLACES = ((1600, 12, 14), (1700, 8, 74), (1777, 56, 44), (1510, 58, 98), (1520, 24, 140))  # digit, top, left


def digits() -> tuple[Tensor, Tensor]:
    """Return the built-in digits (N, 3, 32, 32), white on black, and their classes."""
    pixels, labels = load_digits(return_X_y=True)
    small = torch.tensor(pixels / 16, dtype=torch.float32).view(-1, 1, 8, 8)
    large = F.interpolate(small, size=(SIDE, SIDE), mode="bicubic").clamp(0, 1)
    return large.expand(-1, 3, -1, -1), torch.tensor(labels)


def windows(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Move a third of the images by 4 pixels at most, and the others so far that no whole digit is in the window."""
    moved, found = torch.zeros_like(images), labels.clone()
    for place, image in enumerate(images):
        reach, least = (4, 0) if place % 3 == 0 else (SIDE, 9)
        shift = torch.randint(-reach, reach + 1, (2,))
        while shift.abs().max() < least:
            shift = torch.randint(-reach, reach + 1, (2,))
        down, right = shift.tolist()
        canvas = F.pad(image, (SIDE,) * 4)
        moved[place] = canvas[:, SIDE - down : 2 * SIDE - down, SIDE - right : 2 * SIDE - right]
        found[place] = NOTHING if least else labels[place]
    return moved, found


def classifier(images: Tensor, labels: Tensor, steps: int) -> Network:
    """Train a small classifier of windows: ten digits and nothing."""
    torch.manual_seed(0)
    spec = ModelSpec(arch="small:cnn", weights="none", head=Head(pool="flatten"), options={"width": 16})
    network = build(spec, NOTHING + 1, SIDE).train()
    optimiser = torch.optim.AdamW(network.parameters(), 3e-3)
    for _ in range(steps):
        chosen = torch.randint(0, LEARNED, (96,))
        inputs, targets = windows(images[chosen], labels[chosen])
        optimiser.zero_grad()
        F.cross_entropy(network(inputs), targets).backward()
        optimiser.step()
    return network.eval()


def scene(images: Tensor) -> Tensor:
    """Return an image (3, 104, 196) of digits that were not learned from; the last of them is a quarter larger."""
    canvas = torch.zeros(3, 104, 196)
    for number, top, left in PLACES:
        side = SIDE if number != PLACES[-1][0] else SIDE + 8
        canvas[:, top : top + side, left : left + side] = F.interpolate(
            images[number][None], (side, side), mode="bilinear"
        )[0]
    return canvas


def seconds(network: Network, twin: DenseTwin, image: Tensor) -> tuple[int, list[float]]:
    """Return how many windows there are at the twin's stride; seconds one by one, as a batch, as one convolution."""
    cut = (
        image.unfold(1, SIDE, twin.stride)
        .unfold(2, SIDE, twin.stride)
        .permute(1, 2, 0, 3, 4)
        .reshape(-1, 3, SIDE, SIDE)
    )
    ways = (lambda: [network(window[None]) for window in cut], lambda: network(cut), lambda: twin(image[None]))
    found = []
    with torch.inference_mode():
        for way in ways:
            way()  # what is slow the first time
            began = time.process_time()
            way()
            found.append(time.process_time() - began)
    return len(cut), found


def draw(image: Tensor, heat: Tensor, found: dict[str, Tensor]) -> plt.Figure:
    """Draw boxes and their classes on the scene, where there is a digit, and which one."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11.5, 2.3))
    left.imshow(image.permute(1, 2, 0).numpy())
    for box, label, score in zip(found["boxes"].tolist(), found["labels"], found["scores"], strict=True):
        sides = (box[2] - box[0], box[3] - box[1])
        left.add_patch(plt.Rectangle(box[:2], *sides, fill=False, edgecolor="C1", linewidth=1.6))
        left.text(box[0] + 1, box[1] + 6, f"{int(label)}: {score:.2f}", **NAME)
    left.set_title(f"windows after NMS: {len(found['boxes'])} found")
    shown = middle.imshow((1 - heat[NOTHING]).numpy(), cmap="magma", vmin=0, vmax=1)
    middle.set_title("probability of a digit")
    figure.colorbar(shown, ax=middle, shrink=0.8)
    classes = heat.argmax(0).float().masked_fill(heat.argmax(0) == NOTHING, float("nan"))
    shown = right.imshow(classes.numpy(), cmap="tab10", vmin=-0.5, vmax=9.5)
    right.set_title("which digit")
    figure.colorbar(shown, ax=right, ticks=range(10), shrink=0.8)
    for axes in (left, middle, right):
        axes.set(xticks=[], yticks=[])
    return figure


def main() -> None:
    """Train on windows, look at a scene, and tell what the shared work saves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=250, help="of the classifier's training")
    parser.add_argument("--threshold", type=float, default=0.95, help="probability from which on a window is kept")
    parser.add_argument("--out", type=Path, default=Path("docs/notes/pictures/sliding_windows.png"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    plt.style.use(Path(__file__).with_name("notes.mplstyle"))
    images, labels = digits()
    network = classifier(images, labels, given.steps)
    twin, image = dense_twin(network, SIDE), scene(images)
    count, taken = seconds(network, twin, image)
    ways = zip(("one by one", "as a batch", "as one convolution"), taken, strict=True)
    print(f"{count} windows", ", ".join(f"{way} {1000 * one:.1f} ms" for way, one in ways))
    maps = heat_maps(twin, image, (0.8, 1.0, 1.25), shifts=4)
    found = find(maps, given.threshold, background=NOTHING)
    there = sorted(int(labels[number]) for number, *_ in PLACES)
    print("digits there", there, "found", sorted(found["labels"].tolist()))
    with replacing(given.out) as file:
        draw(image, class_map(maps, *image.shape[1:]), found).savefig(file)


if __name__ == "__main__":
    main()
