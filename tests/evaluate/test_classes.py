"""Scoring label maps, boxes and instances: classes matched by name, targets in the model's frame, tables."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from bakeoff import tables
from bakeoff.data.dataset import Dataset, Record, TaskName
from bakeoff.data.masks import to_runs
from bakeoff.data.targets import IGNORE, Boxes, Coding, Instances, MaskFiles, Target
from bakeoff.errors import DataError
from bakeoff.evaluate.classes import per_class, pixel_counts, with_classes
from bakeoff.evaluate.score import Score, score
from bakeoff.models.spec import ModelSpec, Network
from bakeoff.models.trained import Trained

MODEL = ("dark", "light", "sky")  # what the model knows; the data have dark and light alone
TASKS: list[TaskName] = ["semantic", "detection", "instance"]
KINDS = {"semantic": MaskFiles, "detection": Boxes, "instance": Instances}


class Bright(nn.Module):
    """Finds the light part of an image; of label maps it takes the leftmost column for sky."""

    def __init__(self, task: TaskName) -> None:
        super().__init__()
        self.task = task

    def forward(self, images: Tensor) -> Any:
        light = (images.mean(dim=1) > 0).float()
        if self.task == "semantic":
            sky = torch.zeros_like(light)
            sky[:, :, 0] = 2
            return torch.stack([1 - light, light, sky], dim=1)
        found = []
        for mask in light:
            rows, columns = torch.nonzero(mask, as_tuple=True)
            box = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()
            found.append(
                {"boxes": box[None], "labels": torch.tensor([1]), "scores": torch.tensor([0.8]), "masks": mask[None]}
            )
        return found


def make_model(task: TaskName) -> Trained:
    return Trained(Network(Bright(task), ((),)), ModelSpec(arch="small:cnn"), task, MODEL, 24, "squash")


def make_data(folder: Path, task: TaskName, classes: tuple[str, ...] = ("dark", "light"), count: int = 4) -> Dataset:
    """Write images of 48 x 24 pixels with a light rectangle, and their labels."""
    records = []
    for i in range(count):
        pixels = np.zeros((24, 48), np.uint8)
        pixels[4:12, 8 + 4 * i : 24 + 4 * i] = 255
        Image.fromarray(pixels).convert("RGB").save(folder / f"{i}.png")
        Image.fromarray(pixels).save(folder / f"{i}-mask.png")
        records.append(Record(f"{i}.png", f"{i}.png", _target(task, pixels, i, classes.index("light"))))
    return Dataset(task, classes, tuple(records), folder)


def _target(task: TaskName, pixels: np.ndarray[Any, Any], place: int, light: int) -> Target:
    """Return the label of one image."""
    box, labels = np.array([[8.0 + 4 * place, 4, 24 + 4 * place, 12]]), np.array([light])
    if task == "semantic":
        coding = Coding("threshold", ((128, light),), rest=0)
        return MaskFiles(((f"{place}-mask.png", coding),))
    if task == "detection":
        return Boxes((48, 24), box, labels)
    return Instances((48, 24), box, labels, masks=(to_runs(pixels > 0, (48, 24)),))


@pytest.fixture(params=TASKS)
def scored(request: pytest.FixtureRequest, tmp_path: Path) -> Score:
    """Return the score of a model on data that have one class less."""
    return score(make_model(request.param), make_data(tmp_path, request.param), device="cpu")


def test_a_model_that_finds_everything_is_told_so(scored: Score) -> None:
    rows = {row["class"]: row for row in per_class(scored.task, scored.outcomes)}
    assert list(rows) == list(MODEL)
    assert rows["light"]["images"] == 4
    if scored.task == "semantic":
        assert rows["light"]["iou"] == 1
        assert rows["sky"]["iou"] == 0
        assert rows["dark"]["recall"] == pytest.approx(1 - 24 / (24 * 24 - 8 * 8))  # all but a column
    else:
        assert scored.metrics["map"].value == 1
        assert (rows["light"]["ap"], rows["dark"]["ap"]) == (1, None)


def test_the_answer_is_json_and_text(scored: Score) -> None:
    content = json.loads(json.dumps(scored.to_json(), allow_nan=False))
    assert [row["class"] for row in content["classes"]] == list(MODEL)
    assert "confusion" not in content
    assert [finding["code"] for finding in content["findings"]] == ["few-images", "class-absent"]
    assert "sky" in content["findings"][1]["sentence"]
    text = tables.score_text(scored)
    heading = next(line for line in text.splitlines() if line.startswith("class"))
    assert ("IoU" in heading) == (scored.task == "semantic")
    assert any(line.split()[:1] == ["light"] and "100.00 %" in line for line in text.splitlines())


@pytest.mark.parametrize("task", TASKS)
def test_labels_are_matched_by_name(tmp_path: Path, task: TaskName) -> None:
    data = make_data(tmp_path, task, classes=("cloud", "dark", "light"))  # nothing is a cloud
    if task == "semantic":
        light = replace(data.records[0].target.layers[0][1], rest=1)  # type: ignore[union-attr]
        records = tuple(
            replace(r, target=MaskFiles(((f"{i}-mask.png", light),), ground=1)) for i, r in enumerate(data.records)
        )
        data = replace(data, records=records)
    matched = with_classes(data, MODEL)
    assert matched.classes == MODEL
    for record in matched.records:
        assert isinstance(record.target, KINDS[task])
        if isinstance(record.target, MaskFiles):
            coding = record.target.layers[0][1]
            assert (coding.classes, coding.rest, record.target.ground) == (((128, 1),), 0, 0)
        elif isinstance(record.target, Boxes):
            assert record.target.labels.tolist() == [1]


def test_a_class_in_the_table_of_colours_alone_is_no_obstacle(tmp_path: Path) -> None:
    data = make_data(tmp_path, "semantic", classes=("cloud", "dark", "light"))
    coding = Coding("value", ((0, 1), (255, 2), (7, 0)))
    target = MaskFiles((("0-mask.png", coding),))
    data = replace(data, records=(replace(data.records[0], target=target),))
    assert pixel_counts(data) == {"cloud": 0, "dark": 1152 - 128, "light": 128}
    found = with_classes(data, MODEL).records[0].target
    assert isinstance(found, MaskFiles)
    assert found.layers[0][1].classes == ((0, 0), (255, 1), (7, IGNORE))


@pytest.mark.parametrize("task", TASKS)
def test_a_class_that_the_model_does_not_know_is_named(tmp_path: Path, task: TaskName) -> None:
    data = make_data(tmp_path, task)
    with pytest.raises(DataError, match=r"does not know 1 of the classes: 'light' \(did you mean night\?\)"):
        score(replace(make_model(task), classes=("dark", "night")), data, device="cpu")


def test_another_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="its task is detection, that of the model semantic"):
        score(make_model("semantic"), make_data(tmp_path, "detection"), device="cpu")
