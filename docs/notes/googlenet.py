"""How many parameters GoogLeNet has beside AlexNet and VGG16, and what its convolutions of 1 x 1 save."""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import nn
from torchvision.models.googlenet import Inception

from bakeoff.files import replacing
from bakeoff.models import build
from bakeoff.models.layers import LayerTable, describe
from bakeoff.models.spec import ModelSpec

NETWORKS = ("vgg16", "alexnet", "googlenet")


def spec(arch: str) -> ModelSpec:
    """Name a network of torchvision's, or a classic, with random weights."""
    return ModelSpec(arch=arch, weights="none")


def shares(table: LayerTable) -> tuple[float, float]:
    """Return the millions of parameters in front of the linear layers, and in them."""
    linear = sum(row.parameters for row in table.rows if row.type == "Linear") / 1e6
    return table.total_parameters / 1e6 - linear, linear


def saved() -> dict[str, tuple[int, int]]:
    """Return for each inception module the weights of its large filters without and with the 1 x 1 in front."""
    with torch.device("meta"):
        body = build(spec("torchvision:googlenet"), 1000, 224).body
    found = {}
    for name, module in body.named_modules():
        if isinstance(module, Inception):
            pairs = [[part.conv for part in branch] for branch in (module.branch2, module.branch3)]
            alone = sum(small.in_channels * large.out_channels * _area(large) for small, large in pairs)
            found[name.removeprefix("inception")] = (alone, sum(c.weight.numel() for pair in pairs for c in pair))
    return found


def _area(convolution: nn.Conv2d) -> int:
    """Return how many pixels a filter covers."""
    return convolution.kernel_size[0] * convolution.kernel_size[1]


def draw_parameters(axes: plt.Axes, classes: int) -> None:
    """Draw the parameters of the networks, and of GoogLeNet's auxiliary heads."""
    for place, arch in enumerate(NETWORKS):
        table, flops = describe(spec(f"torchvision:{arch}"), classes, 224)
        trunk, linear = shares(table)
        extra = 0.0
        if arch == "googlenet":
            extra = describe(spec("googlenet_aux"), classes, 224)[0].total_parameters / 1e6 - trunk - linear
        for left, width, colour in ((0, trunk, "C0"), (trunk, linear, "C1"), (trunk + linear, extra, "C6")):
            axes.barh(place, width, left=left, color=colour)
        told = f"{trunk + linear:.1f} M" + (f", and {extra:.1f} M in training" if extra else "")
        axes.text(trunk + linear + extra + 2, place, f"{told}\n{flops / 1e9:.1f} GFLOPs", va="center", fontsize=8.5)
        print(
            f"{arch:10} {trunk + linear:6.2f} M parameters, {linear:6.2f} M in linear layers, {extra:.2f} M in training"
        )
    axes.set(title=f"Parameters, {classes:,} classes, 224 px", xlabel="million parameters", xlim=(0, 190))
    axes.set_yticks(range(len(NETWORKS)), NETWORKS)
    axes.invert_yaxis()
    names = {"convolutions": "C0", "linear layers": "C1", "auxiliary heads, in training alone": "C6"}
    axes.legend([plt.Rectangle((0, 0), 1, 1, color=colour) for colour in names.values()], names, loc="lower right")


def draw_saved(axes: plt.Axes) -> None:
    """Draw what the filters of 3 x 3 would weigh without the 1 x 1 in front of them."""
    modules = saved()
    places = torch.arange(len(modules))
    for side, (name, colour) in enumerate((("straight from all channels", "C6"), ("behind a 1 x 1", "C0"))):
        counts = [pair[side] / 1e6 for pair in modules.values()]
        axes.bar(places + (side - 0.5) * 0.4, counts, 0.4, color=colour, label=f"{name}: {sum(counts):.1f} M in all")
        print(f"3 x 3 {name}: {sum(counts):.2f} M weights")
    axes.set_xticks(places, list(modules))
    axes.set(title="The large filters of each inception module", xlabel="module", ylabel="million weights")
    axes.legend(loc="upper left")


def main() -> None:
    """Print the counts and draw them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("docs/notes/pictures/googlenet.png"))
    given = parser.parse_args()
    plt.style.use(Path(__file__).with_name("notes.mplstyle"))
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.4, 3.9), width_ratios=[1.15, 1])
    draw_parameters(left, given.classes)
    draw_saved(right)
    with replacing(given.out) as file:
        figure.savefig(file)


if __name__ == "__main__":
    main()
