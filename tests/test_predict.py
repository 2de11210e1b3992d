"""Predicting files: the same pixels as in training, bad files told and passed over, harmless output."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from bakeoff.data.cache import build_pixels, open_pixels
from bakeoff.data.dataset import Record, labelled
from bakeoff.data.decode import Resize
from bakeoff.data.targets import Label
from bakeoff.errors import DataError, UsageError
from bakeoff.evaluate.outcomes import Images, evaluate
from bakeoff.models import build, trained
from bakeoff.models.spec import ModelSpec, Network
from bakeoff.models.trained import Trained
from bakeoff.predict import Prediction, find_images, predict, write_csv, write_jsonl
from bakeoff.tasks.classification import Classification

CLASSES = ("=1+1", "cat", "dog")


def make_model(resize: Resize = "crop") -> Trained:
    torch.manual_seed(0)
    spec = ModelSpec(arch="small:cnn")
    return Trained(build(spec, len(CLASSES), 16), spec, "classification", CLASSES, 16, resize)


def paint(path: Path, seed: int, size: tuple[int, int] = (30, 20)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


@pytest.mark.parametrize("resize", get_args(Resize))
def test_same_pixels_give_the_scores_of_evaluation(tmp_path: Path, resize: Resize) -> None:
    model, folder = make_model(resize), tmp_path / "data"
    files = [paint(folder / f"{i}.png", i, (20 + i, 30)) for i in range(7)]
    turned = Image.Exif()
    turned[0x0112] = 6  # orientation: a quarter turn
    Image.open(files[3]).save(folder / "3.png", exif=turned)
    rows = [(Record(file.name, file.name, Label(0)), CLASSES[i % 3]) for i, file in enumerate(files)]
    dataset = labelled(folder, rows, "table")
    pixels = open_pixels(build_pixels(dataset, tmp_path, 16, resize))
    ids = [record.id for record in dataset.records]
    expected = evaluate(Classification(CLASSES), model.network, Images(dataset, pixels), ids).columns["scores"]
    found = list(predict(model, [folder], device="cpu"))
    np.testing.assert_array_equal([list(one.scores.values()) for one in found], expected)
    assert [one.label for one in found] == [CLASSES[i] for i in expected.argmax(axis=1)]
    assert [one.probability for one in found] == expected.max(axis=1).tolist()


def test_bad_files_are_told_and_the_others_go_on(tmp_path: Path) -> None:
    paint(tmp_path / "a.png", 0)
    (tmp_path / "b.png").write_bytes(b"not an image")
    whole = paint(tmp_path / "c.jpg", 1, (300, 200)).read_bytes()
    (tmp_path / "c.jpg").write_bytes(whole[: len(whole) // 2])
    paint(tmp_path / "d.png", 2)
    found = list(predict(make_model(), [tmp_path], batch=1, device="cpu"))
    assert [Path(one.path).name for one in found] == ["a.png", "b.png", "c.jpg", "d.png"]
    assert [one.error is None for one in found] == [True, False, False, True]
    assert found[1].label is None
    assert found[1].scores == {}


def test_batch_size_does_not_matter(tmp_path: Path) -> None:
    for i in range(9):
        paint(tmp_path / f"{i}.png", i)
    whole, pieces = (list(predict(make_model(), [tmp_path], batch, "cpu")) for batch in (64, 4))
    assert [one.path for one in whole] == [one.path for one in pieces]
    for one, other in zip(whole, pieces, strict=True):
        np.testing.assert_allclose(list(one.scores.values()), list(other.scores.values()), atol=1e-6)


def test_files_are_read_as_they_are_needed(tmp_path: Path) -> None:
    for i in range(40):
        paint(tmp_path / f"{i:02}.png", i)
    stream = predict(make_model(), [tmp_path], batch=2, device="cpu")
    assert next(stream).error is None
    (tmp_path / "39.png").unlink()  # far ahead: not read yet
    *_, last = stream
    assert last.error is not None


def test_saved_model_predicts_the_same(tmp_path: Path) -> None:
    image, model = paint(tmp_path / "a.png", 0), make_model()
    trained.save(tmp_path / "model", model)
    direct, loaded = (list(predict(source, [image], device="cpu")) for source in (model, tmp_path / "model"))
    assert direct == loaded


def test_search_leaves_out_hidden_and_other_files(tmp_path: Path) -> None:
    kept = [paint(tmp_path / name, 0) for name in ("b.png", "deep/er/a.JPG", "deep/x.png")]
    for name in (".hidden.png", ".ipynb_checkpoints/b.png", "deep/.git/c.png"):
        paint(tmp_path / name, 0)
    (tmp_path / "notes.txt").write_text("no image")
    assert find_images([tmp_path]) == [kept[0], kept[2], kept[1]]


def test_inputs_are_taken_once_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, odd = (paint(tmp_path / name, 0) for name in ("a.png", "b.png", "odd[1].png"))
    monkeypatch.chdir(tmp_path)
    assert find_images([b, tmp_path]) == [b, a, odd]
    assert find_images(["a.png", str(a), "./a.png"]) == [Path("a.png")]
    assert find_images([str(tmp_path / "*.png")]) == [a, b, odd]
    assert find_images([str(tmp_path / "**" / "b.*")]) == [b]
    assert find_images(["odd[1].png"]) == [Path("odd[1].png")]  # a file before a pattern


WRONG = [
    (["b.pgn"], UsageError, r"no such file or folder \(did you mean b.png\?\)"),  # a typo
    (["*.gif"], UsageError, "no file matches"),  # a pattern without a match
    (["empty"], DataError, r"no image in this folder \(1 other files\)"),  # a folder without images
    ([], UsageError, "no image was named"),  # nothing at all
]


@pytest.mark.parametrize(("inputs", "error", "message"), WRONG)
def test_wrong_input_is_refused_at_once(
    inputs: list[str], error: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paint(tmp_path / "b.png", 0)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        predict(make_model(), inputs, device="cpu")


def test_batch_must_hold_an_image(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="batch must be at least 1"):
        predict(make_model(), [paint(tmp_path / "a.png", 0)], batch=0)


class Broken(nn.Module):
    """Gives NaN for every image."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)[:, :3] * torch.nan


def test_probabilities_that_are_not_finite_are_an_error_of_the_file(tmp_path: Path) -> None:
    model = Trained(Network(Broken(), ((),)), ModelSpec(arch="small:cnn"), "classification", CLASSES, 16, "crop")
    (found,) = predict(model, [paint(tmp_path / "a.png", 0)], device="cpu")
    assert found.label is None
    assert "not finite" in str(found.error)
    assert write_jsonl([found], io.StringIO()) == 1


SCORES = {"=1+1": 0.7, "cat": 0.2, "dog": 0.1}
FOUND = [
    Prediction("=cmd|'/c calc'!A1.png", "=1+1", 0.7, SCORES),  # a formula as path and as label
    Prediction("-2+3.png", error="@damaged"),  # a formula as an error
    Prediction('a, "b"\nc.png', "cat", 0.7, SCORES),  # what CSV must quote
    Prediction(os.fsdecode(b"\xff.png"), "dog", 0.7, SCORES),  # a name that is not UTF-8
]


def test_csv_runs_no_formula_and_reads_back() -> None:
    stream = io.StringIO()
    assert write_csv(FOUND, stream, CLASSES) == 1
    stream.getvalue().encode()
    header, *rows = csv.reader(io.StringIO(stream.getvalue()))
    assert header == ["path", "label", "probability", "error", "score:=1+1", "score:cat", "score:dog"]
    assert rows[0] == ["'=cmd|'/c calc'!A1.png", "'=1+1", "0.7", "", "0.7", "0.2", "0.1"]
    assert rows[1] == ["'-2+3.png", "", "", "'@damaged", "", "", ""]
    assert rows[2][0] == 'a, "b"\nc.png'
    assert rows[3][0] == r"\udcff.png"


def test_a_terminal_gets_no_character_that_steers_it() -> None:
    hostile = Prediction("\x1b[2Jcat\u202egnp.png", "cat", 0.7, SCORES)
    exact, shown = io.StringIO(), io.StringIO()
    write_csv([hostile], exact, CLASSES)
    assert list(csv.reader(io.StringIO(exact.getvalue())))[1][0] == hostile.path  # programs open files by it
    write_csv([hostile], shown, ("=1+1", "cat", "dog"), escaped=True)
    assert shown.getvalue().splitlines()[1].startswith(r"\x1b[2Jcat\u202egnp.png,cat,")
    assert all(line.isprintable() for line in shown.getvalue().splitlines())


def test_json_lines_read_back_exactly() -> None:
    stream = io.StringIO()
    assert write_jsonl(FOUND, stream) == 1
    stream.getvalue().encode()
    assert [Prediction(**json.loads(line)) for line in stream.getvalue().splitlines()] == FOUND


WITHOUT_TORCH = """
import sys
for name in ("torch", "torchvision", "timm", "sklearn"):
    sys.modules[name] = None  # importing one is an ImportError
from bakeoff.data.targets import Label
from bakeoff.predict import onnx_model, predictor
from bakeoff.cli import main

class Fixed:
    task, classes, size, resize, batch = "classification", ("dark", "light"), 8, "squash", 4
    def __init__(self, path):
        self.path = path
    def __call__(self, pixels):
        light = pixels.mean(axis=(1, 2, 3)) / 255
        return [Label(int(share > 0.5), (1 - share, share)) for share in light]

assert isinstance(Fixed("x"), predictor.Predictor)
onnx_model.OnnxPredictor = Fixed
main(["predict", "model.onnx", sys.argv[1], "--json"])
"""


def test_an_exported_file_predicts_without_torch(tmp_path: Path) -> None:
    Image.new("RGB", (20, 10), (255, 255, 255)).save(tmp_path / "white.png")
    code = [sys.executable, "-c", WITHOUT_TORCH, str(tmp_path)]
    done = subprocess.run(code, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["label"] == "light"
