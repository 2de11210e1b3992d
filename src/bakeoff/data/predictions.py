"""Predictions as JSON: what a run keeps of its test images, so that a report can draw them without a network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from bakeoff.data.masks import to_pixels, to_runs
from bakeoff.data.targets import IGNORE, Boxes, Label, LabelMap, Target, target_from_json, target_json

LEAST_SCORE = 0.05  # objects below it are not kept: nobody would be shown them
DIGITS = 5  # of scores: who compares one with a threshold rounds that too


def prediction_json(target: Target) -> Any:
    """Return a prediction in the frame as JSON: a label with its scores, a label map as run lengths, objects.

    A label map loses its scores and keeps the classes; of objects those with a score of at least LEAST_SCORE are kept,
    coordinates to a hundredth of a pixel.  Raises TypeError for what is no prediction (a label map on disk).
    """
    if isinstance(target, Label):
        return {"label": target.index, "scores": None if target.scores is None else list(target.scores)}
    if isinstance(target, LabelMap):
        height, width = target.pixels.shape
        present = [int(value) for value in np.unique(target.pixels) if value != IGNORE]
        runs = {str(index): to_runs(target.pixels == index, (width, height)).decode("ascii") for index in present}
        return {"size": [width, height], "classes": runs}
    if not isinstance(target, Boxes):
        raise TypeError(f"{type(target).__name__} is not a prediction")
    scores = target.scores
    kept = target if scores is None else replace(target, scores=scores.round(DIGITS)).take(scores >= LEAST_SCORE)
    return target_json(replace(kept, xyxy=kept.xyxy.round(2), areas=kept.areas.round(2)))


def prediction_from_json(content: Any) -> Target:
    """Rebuild a prediction from prediction_json(); the pixels of a label map that have no class are IGNORE."""
    if "label" in content:
        scores = content["scores"]
        return Label(content["label"], None if scores is None else tuple(scores))
    if "classes" in content:
        width, height = content["size"]
        pixels = np.full((height, width), IGNORE, np.uint8)
        for index, runs in content["classes"].items():
            pixels[to_pixels(runs.encode("ascii"), (width, height))] = int(index)
        return LabelMap(pixels)
    return target_from_json(content)
