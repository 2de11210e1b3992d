"""Grading boxes and masks: pycocotools as the oracle, run lengths counted by hand, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "tasks"))

from simulated_scenes import Scene, box_scene, entries, judge, with_masks

from bakeoff import verbs_data
from bakeoff.data.masks import to_pixels
from bakeoff.data.targets import Instances
from bakeoff.errors import DataError, UsageError
from bakeoff.evaluate.score import Score, score
from bakeoff.grading import grade
from bakeoff.grading.runs import read_runs
from bakeoff.models.spec import ModelSpec, Network
from bakeoff.models.trained import Trained
from bakeoff.predict import Output, predict, write

PRECISIONS = ("map", "map50", "map75", "map_small", "map_medium", "map_large")
TWELVE = (*PRECISIONS, "ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large")
NAMES = ("ant", "bee", "fly")


def graded(submission: Path, truth: Path, **more: Any) -> Score:
    return grade(submission, {"path": str(truth), **more})


def scenes(kind: str, count: int = 14) -> list[Scene]:
    draws = np.random.default_rng(5)
    found = [box_scene(draws, 3) for _ in range(count)]
    inside = [(a, b.take((b.xyxy[:, 2:] <= b.size[0]).all(axis=1))) for a, b in found]  # no object leaves its image
    return inside if kind == "bbox" else [(with_masks(a), with_masks(b)) for a, b in inside]


def coco_files(folder: Path, made: list[Scene], kind: str) -> tuple[Path, Path]:
    """Write truth and results with numbers of images and categories that have gaps."""
    truths: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for place, (found, truth) in enumerate(made):
        for rows, boxes in ((results, found), (truths, truth)):
            for row in entries(boxes, 10 * place + 3, kind):
                rows.append({**row, "category_id": 7 * row["category_id"] + 2})
    content = {
        "images": [
            {"id": 10 * i + 3, "file_name": f"p/{i:02}.jpg", "width": t.size[0], "height": t.size[1]}
            for i, (_, t) in enumerate(made)
        ],
        "annotations": [{**row, "id": number} for number, row in enumerate(truths, 1)],
        "categories": [{"id": 7 * i + 2, "name": name} for i, name in enumerate(NAMES)],
    }
    (folder / "truth.json").write_text(json.dumps(content))
    (folder / "results.json").write_text(json.dumps(results))
    return folder / "results.json", folder / "truth.json"


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_coco_results_are_graded_as_by_pycocotools(kind: str, tmp_path: Path) -> None:
    made = scenes(kind)
    found = graded(*coco_files(tmp_path, made, kind))
    assert found.task == ("detection" if kind == "bbox" else "instance")
    values = [found.metrics[name].value for name in TWELVE]
    expected = judge(made, 3, kind)
    np.testing.assert_allclose(np.array(values, np.float64), expected, atol=1e-9)
    assert 0.1 < expected[0] < 0.9
    assert found.images == len(made)
    low, high = found.metrics["map"].low, found.metrics["map"].high
    assert low is not None
    assert high is not None
    assert low < expected[0] < high


def test_boxes_of_a_truth_with_masks_are_graded(tmp_path: Path) -> None:
    made = scenes("segm")
    coco_files(tmp_path, made, "segm")
    boxes, _ = coco_files(tmp_path, made, "bbox")  # the truth has both now, the results boxes alone
    truth = json.loads((tmp_path / "truth.json").read_text())
    masks = [mask for _, one in made if isinstance(one, Instances) for mask in one.masks]
    for row, mask in zip(truth["annotations"], masks, strict=True):
        row["segmentation"] = {"size": [320, 320], "counts": bytes(mask).decode()}  # type: ignore[arg-type]
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    found = graded(boxes, tmp_path / "truth.json")
    assert found.task == "detection"
    assert found.metrics["map"].value == pytest.approx(judge(made, 3, "bbox")[0], abs=1e-9)


RESULT: dict[str, Any] = {"image_id": 3, "category_id": 2, "bbox": [1, 1, 5, 5], "score": 0.5}
WRONG: list[tuple[Any, str]] = [
    ({"image_id": 4}, r"1 id that .* does not have: 4"),  # an image that there is not
    ({"category_id": 3}, r"result 1 of image 3: category_id 3 is no category .* 2 ant, 9 bee, 16 fly"),  # no category
    ({"category_id": "aunt"}, r"unknown class 'aunt' \(did you mean ant\?\)"),  # a name that there is not
    ({"bbox": [1, 1, -5, 5]}, r"result 1 of image 3: bbox must be \[x, y, width, height\]"),  # corners, perhaps
    ({"bbox": None}, r"result 1 of image 3: has neither bbox nor segmentation"),  # nothing to judge
    ({"score": None}, r"result 1 of image 3: score must be a number, not None"),  # no score
    ({"score": "high"}, r"score must be a number, not 'high'"),  # text
    ({"image_id": None}, r"result 1: image_id must be a number or text, not None"),  # no image
    (
        {"segmentation": {"size": [9, 9], "counts": "0"}},
        r"result 1: run lengths for \[height, width\] \[9, 9\]",
    ),  # size
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_wrong_results_are_named(change: Any, message: str, tmp_path: Path) -> None:
    results, truth = coco_files(tmp_path, scenes("segm", 3), "segm")
    results.write_text(json.dumps([{**RESULT, **change}]))
    with pytest.raises(DataError, match=message):
        graded(results, truth)


def test_files_in_the_working_folder_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    coco_files(tmp_path, scenes("bbox", 3), "bbox")
    monkeypatch.chdir(tmp_path)
    assert graded(Path("results.json"), Path("truth.json")).images == 3
    (tmp_path / "results.json").write_text(json.dumps([{**RESULT, "image_id": "00", "category_id": "ant"}]))  # by name
    assert graded(Path("results.json"), Path("truth.json")).findings[0].code == "ids-by-name"
    (tmp_path / "results.json").write_text("[]")  # nothing found in any image
    assert graded(Path("results.json"), Path("truth.json")).metrics["map"].value == 0


def test_not_a_number_is_refused(tmp_path: Path) -> None:
    results, truth = coco_files(tmp_path, scenes("bbox", 3), "bbox")
    results.write_text(json.dumps([{**RESULT, "score": float("nan")}]))
    with pytest.raises(DataError, match="NaN is not a JSON number"):
        graded(results, truth)


# --- run lengths ---


def test_run_lengths_count_down_the_columns_from_one() -> None:
    mask = to_pixels(read_runs("2 3 11 1", (4, 3), "x"), (4, 3))  # 4 wide, 3 high
    expected = np.zeros((3, 4), bool)
    expected[[1, 2, 0], [0, 0, 1]] = True  # pixels 2, 3 and 4
    expected[1, 3] = True  # pixel 11
    np.testing.assert_array_equal(mask, expected)
    assert not to_pixels(read_runs("", (4, 3), "x"), (4, 3)).any()
    assert to_pixels(read_runs("1 12", (4, 3), "x"), (4, 3)).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 3", "x: 3 numbers are no pairs"),  # half a pair
        ("0 2", "x: starts count from 1"),  # counted from 0
        ("3 2 1 1", "the run at 1 begins before the one at 3 ends"),  # not sorted
        ("1 3 2 2", "the run at 2 begins before the one at 1 ends"),  # overlap
        ("11 3", r"a run ends at pixel 13, but the image has 12 \(4 x 3\)"),  # beyond the image
        ("1 a", "run lengths are whole numbers"),  # text
    ],
)
def test_wrong_run_lengths_are_named(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_runs(text, (4, 3), "x")


def runs(mask: NDArray[np.bool_]) -> str:
    """Write a mask as the usual snippet of competitions does."""
    pixels = np.concatenate([[0], mask.T.flatten(), [0]])
    ends = np.where(pixels[1:] != pixels[:-1])[0] + 1
    ends[1::2] -= ends[::2]
    return " ".join(str(value) for value in ends)


def painted(folder: Path, count: int = 4) -> list[NDArray[np.uint8]]:
    """Write images and masks of two classes and a background, and return what is painted on them."""
    draws = np.random.default_rng(0)
    maps = []
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for i in range(count):
        labels = np.kron(draws.integers(0, 3, (3, 4)), np.ones((6, 5))).astype(np.uint8)  # 20 wide, 18 high
        Image.fromarray(labels).save(folder / "masks" / f"{i}.png")
        Image.new("RGB", (20, 18)).save(folder / "images" / f"{i}.jpg")
        maps.append(labels)
    (folder / "classes.txt").write_text("background\nroad\nsky\n")
    return maps


def region_rows(maps: list[NDArray[np.uint8]]) -> list[str]:
    return [f"{i},{name},{runs(m == c)}" for i, m in enumerate(maps) for c, name in ((1, "road"), (2, "sky"))]


def test_a_table_of_run_lengths_is_graded_as_label_maps(tmp_path: Path) -> None:
    maps = painted(tmp_path / "data")
    guess = [np.roll(m, 3, axis=1) for m in maps]
    submission = tmp_path / "a.csv"
    submission.write_text("\n".join(["ImageId,ClassId,EncodedPixels", *region_rows(guess)]))
    found = graded(submission, tmp_path / "data")
    assert (found.task, found.outcomes.classes) == ("semantic", ("background", "road", "sky"))
    truth, drawn = np.stack(maps), np.stack(guess)
    ious = [((truth == c) & (drawn == c)).sum() / ((truth == c) | (drawn == c)).sum() for c in range(3)]
    assert found.metrics["miou"].value == pytest.approx(np.mean(ious))
    assert found.metrics["pixel_accuracy"].value == pytest.approx((truth == drawn).mean())
    assert found.metrics["log_loss"].value is None
    rows = [f"{row},20,18" for row in region_rows(maps)]
    table = tmp_path / "truth.csv"
    table.write_text("\n".join(["id,class,rle,width,height", *rows]))  # the same truth, without images
    again = graded(submission, table)
    assert again.metrics == found.metrics


MAPS: list[tuple[Any, str]] = [
    (lambda rows: rows[2:], "no prediction for 1 of the 4 images .*: images/0.jpg"),  # an image left out
    (lambda rows: [*rows, rows[0]], r"0 has the class road already \(.*line 2\)"),  # a class twice
    (lambda rows: [*rows, "7,road,1 2"], "1 id that .* does not have: 7"),  # an image too many
    (
        lambda rows: ["0,raod,1 2", *rows[1:]],
        r"line 2 of image 0: unknown class 'raod' \(did you mean road\?\)",
    ),  # name
    (lambda rows: ["0,road,1 360", *rows[1:]], "pixels of 0 are of sky and of road"),  # a pixel of two classes
    (lambda rows: ["0,road,1 361", *rows[1:]], "line 2: a run ends at pixel 361, but the image has 360"),  # too long
]


@pytest.mark.parametrize(("change", "message"), MAPS)
def test_wrong_label_maps_are_named(change: Any, message: str, tmp_path: Path) -> None:
    rows = region_rows(painted(tmp_path / "data"))
    submission = tmp_path / "a.csv"
    submission.write_text("\n".join(["id,class,rle", *change(rows)]))
    with pytest.raises(DataError, match=message):
        graded(submission, tmp_path / "data")


def test_several_masks_of_an_image_are_objects(tmp_path: Path) -> None:
    """As in the Data Science Bowl of 2018: no class, no score, the size in the solution."""
    masks = np.zeros((3, 18, 20), bool)
    masks[0, 2:8, 2:8] = masks[1, 10:16, 3:9] = masks[2, 4:12, 12:18] = True
    rows = [f"a,{runs(mask)}" for mask in masks]
    solution, submission = tmp_path / "solution.csv", tmp_path / "a.csv"
    solution.write_text("\n".join(["ImageId,EncodedPixels,Height,Width", *(f"{r},18,20" for r in rows), "b,,18,20"]))
    submission.write_text("\n".join(["ImageId,EncodedPixels", *rows[:2], "b,"]))
    found = graded(submission, solution)
    assert (found.task, found.outcomes.classes) == ("instance", ("object",))
    assert found.metrics["ar100"].value == pytest.approx(2 / 3)
    assert found.metrics["map50"].value == pytest.approx(67 / 101)  # precision 1 at the recalls 0 .. .66 of 101
    assert [finding.code for finding in found.findings][:2] == ["nothing-found", "no-scores"]


# --- what predict writes ---


class Bright(nn.Module):
    """Finds the light part of an image as an object, or as a class."""

    def __init__(self, task: str) -> None:
        super().__init__()
        self.task = task

    def forward(self, images: Tensor) -> Any:
        light = images.mean(dim=1) > 0
        if self.task == "semantic":
            return torch.stack([~light, light], dim=1) * 9.0
        found = []
        for mask in light:
            rows, columns = torch.nonzero(mask, as_tuple=True)
            box = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()
            half = torch.cat([box[:3], (box[1:2] + box[3:]) / 2])
            one = {
                "boxes": torch.stack([box, half]),
                "labels": torch.tensor([1, 1]),
                "scores": torch.tensor([0.9, 0.3]),
            }
            found.append({**one, "masks": torch.stack([mask, mask]).float()})
        return found


def light_truth(folder: Path, task: str) -> Path:
    """Write eight images with a light rectangle of 24 x 20 pixels, and say where it is (a little wrongly for some)."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for i in range(8):
        pixels = np.zeros((64, 64), np.uint8)
        pixels[10 + i : 30 + i, 8 : 32 + i] = 1
        Image.fromarray(255 * pixels).convert("RGB").save(folder / "images" / f"{i}.png")
        shifted = np.roll(pixels, i // 2, axis=1)
        Image.fromarray(shifted).save(folder / "masks" / f"{i}.png")
        images.append({"id": i, "file_name": f"images/{i}.png", "width": 64, "height": 64})
        left, top, right, bottom = 8 + i // 2, 10 + i, 32 + i + i // 2, 30 + i
        outline = [left, top, right, top, right, bottom, left, bottom]
        one = {"bbox": [left, top, right - left, bottom - top], "area": (right - left) * 20, "segmentation": [outline]}
        annotations.append({"id": i + 1, "image_id": i, "category_id": 1, "iscrowd": 0, **one})
    if task == "semantic":
        (folder / "classes.txt").write_text("dark\nlight\n")
        return folder
    categories = [{"id": 0, "name": "dark"}, {"id": 1, "name": "light"}]
    (folder / "truth.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    return folder / "truth.json"


@pytest.mark.parametrize("task", ["semantic", "detection", "instance"])
def test_predictions_of_a_model_have_the_score_of_the_model(task: Any, tmp_path: Path) -> None:
    truth = light_truth(tmp_path / "data", task)
    model = Trained(Network(Bright(task), ((),)), ModelSpec(arch="small:cnn"), task, ("dark", "light"), 64, "squash")
    expected = score(model, verbs_data.read(truth, {"data.task": task}), device="cpu").metrics
    out = tmp_path / "found.json"
    write(predict(model, [tmp_path / "data" / "images"], device="cpu", threshold=0), Output(out), model)
    found = graded(out, truth)
    assert found.task == task
    values = {name: one.value for name, one in found.metrics.items() if name != "log_loss" or task != "semantic"}
    assert values == pytest.approx({name: expected[name].value for name in values}, abs=1e-9)
    assert len({value for value in values.values() if value is not None}) > 2
    if task != "semantic":
        lines = tmp_path / "found.jsonl"
        write(predict(model, [tmp_path / "data" / "images"], device="cpu", threshold=0), Output(lines), model)
        assert graded(lines, truth).metrics == found.metrics


def test_areas_are_no_regions(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("path,label,pixels,share,error\nx.png,sky,12,0.5,\n")
    with pytest.raises(UsageError, match="predict with --format coco"):
        graded(tmp_path / "a.csv", tmp_path)
