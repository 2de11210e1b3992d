"""The first draft of a study for data that nobody has looked at yet: candidates, input side, and what was seen."""

from __future__ import annotations

import itertools

from bakeoff.data.columns import image_counts
from bakeoff.data.dataset import Dataset, TaskName
from bakeoff.data.decode import measure

DEFAULT_MODELS: dict[TaskName, tuple[str, ...]] = {
    "classification": ("small:cnn", "small:resnet", "mobilenetv2_100@pretrained"),
    "semantic": ("small:unet", "unet:tu-mobilenetv2_100@pretrained", "deeplabv3plus:tu-mobilenetv2_100@pretrained"),
    "detection": ("ssdlite:mobilenetv2_100@pretrained", "faster_rcnn:mobilenetv2_100@pretrained"),
    "instance": ("mask_rcnn:mobilenetv2_100@pretrained", "mask_rcnn:resnet18@pretrained"),
}


def suggest_size(dataset: Dataset) -> int:
    """Suggest an input side: the median shorter side of up to 50 images, a multiple of 32 between 32 and 224."""
    records = dataset.records[:: max(1, len(dataset) // 50)]
    sides = sorted(min(measure(dataset.path(record))) for record in records)
    return max(32, min(224, 32 * round(sides[len(sides) // 2] / 32)))


def commented(dataset: Dataset, toml: str) -> str:
    """Put what was seen, and what may be changed, above a study's fields."""
    images = image_counts(dataset)
    counts = ", ".join(f"{name} {count}" for name, count in itertools.islice(images.items(), 12))
    more = ", …" if len(dataset.classes) > 12 else ""
    lines = [
        f"A bake-off for {dataset.task} on {len(dataset)} images of {len(dataset.classes)} classes ({dataset.format});",
        f"images with each class: {counts}{more}",
        "Run it with `bakeoff run` and this folder; run again to go on where it stopped.",
        "size: input side in pixels.  split.folds = 5, repeats = 3: cross-validation, best below 1,000 images.",
        "seeds: runs of each candidate in a hold-out study (3 at least).  eps: the smallest gap that matters (points).",
        "tune.trials = 8: each candidate first tries 8 settings on validation images; one with tune = false does not.",
        'candidates: model = "source:arch@weights", see `bakeoff models --task' + f" {dataset.task}`;",
        "  weights none, pretrained or a file.  A candidate may have its own recipe = { ... }.",
        "Every field: `bakeoff run --help` and the documentation.",
    ]
    return "".join(f"# {' '.join(line.split())}\n" for line in lines) + "\n" + toml
