"""Two convolutions of 3 x 3 see what one of 5 x 5 sees, three what one of 7 x 7 sees, with fewer weights."""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from bakeoff.files import replacing
from bakeoff.models.layers import parameters

STACKS = {"one 5 x 5": [5], "two 3 x 3": [3, 3], "one 7 x 7": [7], "three 3 x 3": [3, 3, 3]}
PIXELS = 9  # side of the image that is looked at, wide enough for all of them


def stack(kernels: list[int], channels: int) -> nn.Sequential:
    """Return convolutions without bias, one after the other, that keep the number of channels and the size."""
    return nn.Sequential(*(nn.Conv2d(channels, channels, side, padding=side // 2, bias=False) for side in kernels))


def view(kernels: list[int]) -> Tensor:
    """Return in how many ways each pixel of the input (PIXELS, PIXELS) reaches the output in the middle."""
    layers, image = stack(kernels, 1), torch.zeros(1, 1, PIXELS, PIXELS, requires_grad=True)
    for layer in layers:
        nn.init.ones_(layer.weight)
    layers(image)[0, 0, PIXELS // 2, PIXELS // 2].backward()
    assert image.grad is not None
    return image.grad[0, 0]


def draw_view(axes: plt.Axes, name: str, ways: Tensor) -> None:
    """Show what the middle of the output sees, with the number of ways in each pixel."""
    axes.imshow(ways.sqrt().numpy(), cmap="Blues", vmax=1.6 * float(ways.max()) ** 0.5)
    for row, column in ways.nonzero().tolist():
        axes.text(column, row, f"{ways[row, column]:.0f}", ha="center", va="center", fontsize=7)
    side = int((ways > 0).any(0).sum())
    axes.set(title=name, xticks=[], yticks=[], xlabel=f"sees {side} x {side} pixels")


def main() -> None:
    """Print the weights of each stack and draw what they see."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--channels", type=int, default=256)
    parser.add_argument("--out", type=Path, default=Path("docs/notes/pictures/stacked_filters.png"))
    given = parser.parse_args()
    plt.style.use(Path(__file__).with_name("notes.mplstyle"))
    figure, panels = plt.subplot_mosaic("abww;cdww", figsize=(9.2, 4.6), width_ratios=[1, 1, 0.85, 0.85])
    weights = {name: parameters(stack(kernels, given.channels)) for name, kernels in STACKS.items()}
    for (name, kernels), panel in zip(STACKS.items(), "abcd", strict=True):
        draw_view(panels[panel], name, view(kernels))
        print(f"{name:12} {weights[name]:>10,} weights, {weights[name] / given.channels**2:.0f} per pair of channels")
    bars = panels["w"].barh(list(weights), [count / 1e6 for count in weights.values()], color=["C6", "C0"] * 2)
    panels["w"].bar_label(bars, [f"{count / 1e6:.2f} M" for count in weights.values()], padding=3)
    panels["w"].set(title=f"Weights, {given.channels} channels in and out", xlabel="million weights", xmargin=0.15)
    panels["w"].invert_yaxis()
    with replacing(given.out) as file:
        figure.savefig(file)


if __name__ == "__main__":
    main()
