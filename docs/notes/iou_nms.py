"""IoU, how well two boxes agree, and non-maximum suppression, which keeps one box for each object."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.ops import box_iou, nms

from bakeoff.data.scenes import write_scenes
from bakeoff.files import replacing

PAIR = torch.tensor([[1.0, 1.0, 7.0, 6.0]])  # a box, and how far a second one of the same size is moved
SCENE = 9  # two of its digits touch
NAME = {"color": "white", "fontsize": 7.5, "bbox": {"facecolor": "black", "alpha": 0.6, "pad": 0.5, "linewidth": 0}}
LIMITS = (0.7, 0.3, 0.05)  # too high, good, too low
MOVES = ((0.4, 0.3), (1.2, 0.8), (2.0, 1.6), (4.5, 3.0))


def scene(folder: Path, number: int) -> tuple[np.ndarray, Tensor]:
    """Return one of the built-in scenes of digits and its true boxes (N, 4)."""
    content = json.loads((folder / "annotations" / "instances.json").read_text(encoding="utf-8"))
    image = content["images"][number]
    boxes = torch.tensor([entry["bbox"] for entry in content["annotations"] if entry["image_id"] == image["id"]])
    return np.asarray(Image.open(folder / image["file_name"])), torch.cat(
        [boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1
    )


def guesses(boxes: Tensor, each: int) -> tuple[Tensor, Tensor]:
    """Return what a detector might say before NMS: boxes (N, 4) around each object, and scores near their IoU."""
    draws = torch.Generator().manual_seed(0)
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2).repeat_interleave(each, 0)
    moved = boxes.repeat_interleave(each, 0) + 0.11 * sides * torch.randn(len(sides), 4, generator=draws)
    scores = box_iou(moved, boxes).amax(1) + 0.05 * torch.randn(len(moved), generator=draws)
    return moved, scores.clamp(0.05, 0.99)


def draw_box(axes: plt.Axes, box: Tensor, colour: str, fill: bool = False) -> None:
    """Draw one box."""
    left, top, right, bottom = box.tolist()
    look = {"facecolor": colour, "alpha": 0.3} if fill else {"fill": False, "linewidth": 1.6}
    axes.add_patch(plt.Rectangle((left, top), right - left, bottom - top, edgecolor=colour, **look))


def draw_pair(axes: plt.Axes, move: tuple[float, float]) -> None:
    """Draw two boxes with what they share, and their IoU."""
    other = PAIR + torch.tensor([*move, *move])
    shared = torch.cat([torch.maximum(PAIR, other)[0, :2], torch.minimum(PAIR, other)[0, 2:]])
    draw_box(axes, shared, "C2", fill=True)
    draw_box(axes, PAIR[0], "C0")
    draw_box(axes, other[0], "C4")
    axes.set(xlim=(0.7, 12.3), ylim=(9.3, 0.7), aspect="equal", title=f"IoU {float(box_iou(PAIR, other)):.2f}")
    axes.axis("off")


def draw_scene(axes: plt.Axes, image: np.ndarray, boxes: Tensor, scores: Tensor, title: str) -> None:
    """Draw boxes on the scene, stronger ones over weaker ones, with their scores where there is room."""
    axes.imshow(image)
    for place in scores.argsort().tolist():
        draw_box(axes, boxes[place], "#56B4E9")
        if len(boxes) < 6:
            left, top = boxes[place, :2].clamp(min=5).tolist()
            axes.text(left, top - 0.8, f"{scores[place]:.2f}", **NAME)
    axes.set(title=title, xticks=[], yticks=[], xlim=(-0.5, image.shape[1] - 0.5), ylim=(image.shape[0] - 0.5, -0.5))


def main() -> None:
    """Draw pairs of boxes, then one scene before NMS and after it at several limits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, default=8, help="boxes around each object")
    parser.add_argument("--data", type=Path, default=Path("build/notes/iou_nms/scenes"))
    parser.add_argument("--out", type=Path, default=Path("docs/notes/pictures/iou_nms.png"))
    given = parser.parse_args()
    plt.style.use(Path(__file__).with_name("notes.mplstyle"))
    image, truth = scene(write_scenes(given.data, "detection", 40), SCENE)
    boxes, scores = guesses(truth, given.each)
    figure, panels = plt.subplot_mosaic("abcd;wxyz", figsize=(9.6, 4.7), height_ratios=[0.8, 1])
    for panel, move in zip("abcd", MOVES, strict=True):
        draw_pair(panels[panel], move)
    draw_scene(panels["w"], image, boxes, scores, f"{len(boxes)} boxes, {len(truth)} objects")
    for panel, limit in zip("xyz", LIMITS, strict=True):
        kept = nms(boxes, scores, limit)
        draw_scene(panels[panel], image, boxes[kept], scores[kept], f"NMS at IoU {limit}: {len(kept)} boxes")
        print(f"NMS at IoU {limit}: {len(kept)} of {len(boxes)} boxes are left for {len(truth)} objects")
    with replacing(given.out) as file:
        figure.savefig(file)


if __name__ == "__main__":
    main()
