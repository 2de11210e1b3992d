"""R-CNN beside Faster R-CNN: seconds per image for proposals and for the rest, and mAP."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

import bakeoff
from bakeoff.compare import Row
from bakeoff.data.dataset import Dataset
from bakeoff.data.decode import decode
from bakeoff.data.split import Splits
from bakeoff.data.targets import Boxes
from bakeoff.files import read_json, replacing
from bakeoff.models import trained
from bakeoff.models.classics.crop_detector import CropDetector
from bakeoff.models.spec import Network
from bakeoff.store import StudyFolder
from bakeoff.tasks import TASKS
from bakeoff.winners import shown_runs

NAME = {"color": "white", "fontsize": 7.5, "bbox": {"facecolor": "black", "alpha": 0.6, "pad": 0.5, "linewidth": 0}}
SURE = 0.6  # score of the boxes that are drawn


class Stopwatch:
    """The seconds that a module takes, by two hooks around it."""

    def __init__(self, module: torch.nn.Module) -> None:
        """Watch every call of the module."""
        self.seconds = self.began = 0.0
        module.register_forward_pre_hook(self.start)
        module.register_forward_hook(self.stop)

    def start(self, *_: object) -> None:
        """Note when the module is called."""
        self.began = time.process_time()

    def stop(self, *_: object) -> None:
        """Note how long it took."""
        self.seconds = time.process_time() - self.began


def seconds(network: Network, images: list[Tensor]) -> tuple[float, float]:
    """Return the median seconds per image (3, H, W): for the proposals, and for all the rest."""
    body, found = network.body, []
    watch = None if isinstance(body, CropDetector) else Stopwatch(body.get_submodule("model.rpn"))
    for image in images:
        began = time.process_time()
        if isinstance(body, CropDetector):
            body.remembered.clear()
            body.proposals(image)  # selective search; the network remembers what it gave
        proposed = time.process_time()
        with torch.inference_mode():
            network(image[None])
        whole = time.process_time() - began
        share = proposed - began if watch is None else watch.seconds
        found.append((share, whole - share))
    return median(share for share, _ in found), median(rest for _, rest in found)


def test_images(folder: StudyFolder, count: int) -> list[np.ndarray]:
    """Return images of the test part, the one with most objects first."""
    dataset = Dataset.from_json(read_json(folder.data))
    ids = Splits.from_json(read_json(folder.split)).parts[0].test[:count]
    records = sorted((dataset.records[dataset.index[id]] for id in ids), key=lambda one: -len(one.target.labels))
    return [decode(dataset.path(record)) for record in records]


def draw_found(axes: plt.Axes, image: np.ndarray, found: Boxes, classes: tuple[str, ...]) -> None:
    """Draw the boxes that a detector is sure of."""
    axes.imshow(image)
    axes.set(xticks=[], yticks=[])
    for (left, top, right, bottom), label, score in zip(found.xyxy, found.labels, found.scores, strict=True):
        if score >= SURE:
            axes.add_patch(plt.Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor="C5"))
            axes.text(left, max(3, top - 1), f"{classes[label]}: {score:.2f}", **NAME)


def told(row: Row) -> str:
    """Write a candidate's mAP with its interval."""
    found = row.metrics["map"]
    interval = "" if found.low is None or found.high is None else f" [{100 * found.low:.0f}, {100 * found.high:.0f}]"
    return f"mAP {100 * (found.value or 0):.0f} %{interval}"


def draw_time(axes: plt.Axes, rows: dict[str, tuple[float, float]]) -> None:
    """Draw the milliseconds per image, proposals and the rest."""
    for place, (share, rest) in enumerate(rows.values()):
        axes.barh(place, 1000 * share, color="C1", label=None if place else "proposals")
        axes.barh(place, 1000 * rest, left=1000 * share, color="C0", label=None if place else "network")
        axes.text(
            1000 * (share + rest), place, f" {1000 * share:.0f} + {1000 * rest:.0f} ms", va="center", fontsize=8.5
        )
    axes.set_yticks(range(len(rows)), list(rows), rotation=90, va="center")
    axes.set(title="one image, one processor core", xlabel="milliseconds", xmargin=0.35)
    axes.invert_yaxis()
    axes.legend(loc="lower right")


def main() -> None:
    """Time both detectors on test scenes, and draw what they find in the first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path, help="a finished study of rcnn_small and small:faster_rcnn")
    parser.add_argument("--images", type=int, default=20, help="test images that are timed")
    parser.add_argument("--out", type=Path, default=Path("docs/notes/pictures/rcnn.png"))
    given = parser.parse_args()
    plt.style.use(Path(__file__).with_name("notes.mplstyle"))
    torch.set_num_threads(1)
    folder = StudyFolder(given.study)
    comparison = bakeoff.Comparison.from_json(read_json(folder.comparison))
    images = test_images(folder, given.images)
    tensors = [torch.tensor(image).permute(2, 0, 1) / 255 for image in images]
    figure, (left, *panels) = plt.subplots(1, 3, figsize=(10.4, 3.4), width_ratios=[1.3, 1, 1])
    times, rows = {}, {row.candidate: row for row in comparison.rows}
    for (name, run), axes in zip(shown_runs(folder, comparison).items(), panels, strict=True):
        model = trained.load(folder.run(run.id).path)
        times[name] = seconds(model.network, tensors)
        with torch.inference_mode():
            (found,) = TASKS[model.task](model.classes).predict(model.network, tensors[0][None])
        draw_found(axes, images[0], found, model.classes)
        axes.set_title(f"{name}\n{told(rows[name])}")
        print(
            f"{name:18} {times[name][0]:.4f} s for proposals, {times[name][1]:.4f} s for the rest, {told(rows[name])}"
        )
    draw_time(left, times)
    with replacing(given.out) as file:
        figure.savefig(file)


if __name__ == "__main__":
    main()
