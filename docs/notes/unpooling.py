"""What max pooling takes away, and what SegNet's unpooling and bilinear upsampling put back."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch.nn import functional as F

import bakeoff
from bakeoff.data.dataset import Dataset
from bakeoff.data.decode import decode
from bakeoff.data.draw import draw, loaded
from bakeoff.data.targets import LabelMap
from bakeoff.files import read_json, replacing
from bakeoff.store import StudyFolder
from bakeoff.winners import shown_runs

Labels = dict[str, LabelMap]
POOL = 4  # pixels of a side that become one


@dataclass(frozen=True)
class Seen:
    """Label maps of some test images by their ids: true ones, and those that each candidate found."""

    dataset: Dataset
    truth: Labels
    found: dict[str, Labels]


def read(folder: StudyFolder, comparison: bakeoff.Comparison) -> Seen:
    """Read the test images whose label maps the study kept."""
    dataset = Dataset.from_json(read_json(folder.data))
    runs = shown_runs(folder, comparison)
    found = {name: folder.run(runs[name].id).predictions() for name in sorted(runs, reverse=True)}
    kept = set.intersection(*map(set, found.values()))
    return Seen(dataset, {id: loaded(dataset, dataset.records[dataset.index[id]]) for id in kept}, found)


def draw_pooling(panels: dict[str, plt.Axes], image: np.ndarray) -> None:
    """Pool the brightness of an image, and bring it back in both ways."""
    grey = torch.tensor(image.mean(2) / 255, dtype=torch.float32)[None, None]
    pooled, places = F.max_pool2d(grey, POOL, return_indices=True)
    shown = {
        "a": ("brightness", grey),
        "b": (f"largest of {POOL} x {POOL}", pooled),
        "c": ("unpooled: placed, gaps", F.max_unpool2d(pooled, places, POOL)),
        "d": ("bilinear: filled, blurred", F.interpolate(pooled, scale_factor=POOL, mode="bilinear")),
    }
    for panel, (title, values) in shown.items():
        panels[panel].imshow(values[0, 0].numpy(), cmap="gray", vmin=0, vmax=1)
        panels[panel].set(title=title, xticks=[], yticks=[])


def draw_labels(panels: dict[str, plt.Axes], seen: Seen) -> None:
    """Draw a test image with its true labels and with those of both networks."""
    id = min(seen.truth)
    record = seen.dataset.records[seen.dataset.index[id]]
    image = decode(seen.dataset.path(record))
    draw_pooling(panels, image)
    targets = {"true labels": seen.truth, **seen.found}
    for panel, (title, found) in zip("efg", targets.items(), strict=True):
        panels[panel].imshow(draw(image, found[id], seen.dataset.classes))
        panels[panel].set(title=title, xticks=[], yticks=[])


def draw_metrics(axes: plt.Axes, comparison: bakeoff.Comparison, names: list[str]) -> None:
    """Draw and print mIoU and boundary IoU with their intervals."""
    rows = {row.candidate: row for row in comparison.rows}
    for place, name in enumerate(names):
        found = [rows[name].metrics[metric] for metric in ("miou", "boundary_iou")]
        at = [side + (place - 0.5) * 0.4 for side in range(2)]
        bars = axes.bar(at, [100 * (one.value or 0) for one in found], 0.38, color=f"C{place}", label=name)
        axes.bar_label(bars, fmt="%.0f", fontsize=8.5, padding=5)
        axes.vlines(
            at, [100 * (one.low or 0) for one in found], [100 * (one.high or 0) for one in found], color="black"
        )
        print(f"{name:10} mIoU {100 * (found[0].value or 0):.1f} %, boundary IoU {100 * (found[1].value or 0):.1f} %")
    axes.set_xticks(range(2), ["mIoU", "boundary IoU"])
    axes.set(ylabel="%", title="all test scenes", ylim=(0, 110))
    axes.legend(loc="upper left", ncols=2, columnspacing=1, handlelength=1)


def main() -> None:
    """Draw what is put back, and what that means for a network that learns to label pixels."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path, help="a finished study of segnet_small and its bilinear twin")
    parser.add_argument("--out", type=Path, default=Path("docs/notes/pictures/unpooling.png"))
    given = parser.parse_args()
    plt.style.use(Path(__file__).with_name("notes.mplstyle"))
    figure, panels = plt.subplot_mosaic("abcd;efgh", figsize=(10.4, 5.2))
    folder = StudyFolder(given.study)
    comparison = bakeoff.Comparison.from_json(read_json(folder.comparison))
    seen = read(folder, comparison)
    draw_labels(panels, seen)
    draw_metrics(panels["h"], comparison, list(seen.found))
    with replacing(given.out) as file:
        figure.savefig(file)


if __name__ == "__main__":
    main()
