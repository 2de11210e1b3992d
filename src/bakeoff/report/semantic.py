"""What the report says about semantic segmentation alone: class by class, and the images worth a look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bakeoff.report import overlays
from bakeoff.report.material import Candidate, Material
from bakeoff.report.sections import Section
from bakeoff.store import Run
from bakeoff.tasks.semantic import METRICS, per_class
from bakeoff.tasks.task import Outcomes

__all__ = ["METRICS", "sections"]

SCORES = (("iou", "IoU"), ("dice", "Dice"), ("recall", "Recall"), ("precision", "Precision"))
CAPTION = (
    "Pooled over all runs of a candidate and all test images, in percent. IoU: the pixels that truth and prediction "
    "share, of those that either has. Dice: twice the shared pixels, of both together. Recall: how much of the class "
    "was found. Precision: how much of what was called so was right."
)
MEASURE = "mean IoU over the classes in the image, in percent"
DRAWN = "Colours are classes; grey is not judged. Predictions are those of each candidate's first run."

Tested = list[tuple[Run, Outcomes]]


def sections(material: Material) -> list[Section]:
    """Return the sections of a study of label maps; none when no run was finished."""
    tested = [(candidate, runs) for candidate in material.candidates if (runs := list(material.tested(candidate)))]
    if not tested:
        return []
    showings = [overlays.gather(candidate, runs, image_scores, {}) for candidate, runs in tested]
    return [
        Section("classes", "Class by class", "per_class.html.j2", classes_content(tested)),
        overlays.images(material, showings, MEASURE, DRAWN),
    ]


def classes_content(tested: Sequence[tuple[Candidate, Tested]]) -> dict[str, Any]:
    """Return the table of classes: test images and share of the pixels, then the scores of every candidate."""
    tables = [per_class(overlays.pooled([outcomes for _, outcomes in runs])) for _, runs in tested]
    truth = per_class(overlays.once([outcomes for _, outcomes in tested[0][1]]))
    total = max(1, sum(row["pixels"] for row in truth))
    rows = [
        {
            "name": row["class"],
            "facts": [row["images"], round(100 * row["pixels"] / total, 2)],
            "scores": [table[place][key] for table in tables for key, _ in SCORES],
        }
        for place, row in enumerate(truth)
    ]
    return {
        "candidates": [candidate for candidate, _ in tested],
        "facts": ["Test images", "Pixels, %"],
        "titles": [title for _, title in SCORES],
        "rows": rows,
        "caption": CAPTION,
    }


def image_scores(outcomes: Outcomes) -> NDArray[np.float64]:
    """Return (n,) the mean IoU of each image."""
    function = METRICS["image_miou"].per_image
    assert function is not None
    return function(outcomes)
