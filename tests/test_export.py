"""Exporting: every task through the front door, files that say what the network says, and those that do not."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import warnings
from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import timm
import torch
import yaml
from PIL import Image
from typer.testing import CliRunner

import bakeoff
from bakeoff.cli import app
from bakeoff.data import split
from bakeoff.data.dataset import Dataset, TaskName
from bakeoff.data.formats import read
from bakeoff.data.scenes import write_scenes
from bakeoff.data.targets import Boxes, Label, LabelMap, Target
from bakeoff.errors import DataError, Refused, UsageError
from bakeoff.evaluate.pairs import Estimate
from bakeoff.export import pt2_file
from bakeoff.export.card import harmless
from bakeoff.export.difference import gap
from bakeoff.export.graph import Graph, graph_of, quiet
from bakeoff.export.onnx_file import write_onnx
from bakeoff.export.parity import Parity, check, check_metric, check_small
from bakeoff.files import write_json
from bakeoff.models import build, trained
from bakeoff.models.spec import ModelSpec
from bakeoff.models.trained import Trained
from bakeoff.predict.onnx_model import OnnxPredictor
from bakeoff.store import Run, StudyFolder

SIZE = 32
SPECS: dict[TaskName, str] = {
    "classification": "small:cnn",
    "semantic": "small:fcn",
    "detection": "small:fcos",
    "instance": "small:mask_rcnn",
}


def write_photos(folder: Path) -> Path:
    """Write 24 noisy pictures in two class folders, one of a name that Markdown would take for a link."""
    draws = np.random.default_rng(0)
    for number in range(24):
        file = folder / ("dark", "[light](x)")[number % 2] / f"{number:02d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = draws.normal(90 + 60 * (number % 2), 30, (40, 36, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(file)
    return folder


def make_study(folder: Path, task: TaskName, arch: str = "") -> Path:
    """Write a study whose one run holds an untrained network with loud outputs; return the run's folder."""
    place = folder / "data"
    data = read(write_photos(place) if task == "classification" else write_scenes(place, task, 20, SIZE), task=task)
    splits = split.holdout(data, {}, 0.1, 0.5)
    settings = {"data": data.fingerprint, "split": splits.hash}
    run = Run("one-s1-00000000", "one", 1, state="done", settings=settings)
    study, spec = StudyFolder(folder), ModelSpec(arch=arch or SPECS[task])
    write_json(study.data, data.to_json())
    write_json(study.split, splits.to_json())
    study.run(run.id).write(run)
    torch.manual_seed(0)
    network = build(spec, len(data.classes), SIZE, task)
    with torch.no_grad():  # so that scores are not all alike, and some objects are sure
        for name, parameter in network.named_parameters():
            if name.endswith(("cls_logits.weight", "cls_score.weight", "classifier.weight", "fc.weight")):
                parameter.mul_(40)
    info = {"data": data.fingerprint, "facts": {"parameters": 1234}}
    trained.save(study.run(run.id).path, Trained(network, spec, task, data.classes, SIZE, "squash", info))
    return study.run(run.id).path


def call(*arguments: object, code: int = 0) -> str:
    """Run the command line; return stdout and what went wrong."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code or (code and isinstance(result.exception, Exception)), result.output
    if code and result.exception is not None and not isinstance(result.exception, SystemExit):
        assert getattr(result.exception, "exit_code", 1) == code, result.exception
        return str(result.exception)
    return result.stdout


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run of a study of labels."""
    return make_study(tmp_path_factory.mktemp("labels"), "classification")


@pytest.fixture(scope="module")
def exported(labels: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Return the folder of an exported 8-bit file, and the answer."""
    out = tmp_path_factory.mktemp("exported") / "out"
    return out, json.loads(call("export", labels, "--out", out, "--int8", "--allow", 20, "--json", "--quiet"))


@pytest.mark.parametrize("task", ["semantic", "detection", "instance"])
def test_every_task_says_the_same_as_a_file(task: TaskName, tmp_path: Path) -> None:
    run, out = make_study(tmp_path, task), tmp_path / "out"
    found = json.loads(call("export", run, "--out", out, "--json", "--quiet"))["parity"]["model.onnx"]
    assert found["share"] == 1
    assert found["decisions"] >= (10 * SIZE * SIZE if task == "semantic" else 1)
    assert [one["output"] for one in found["differences"]] == [
        *(("probabilities",) if task == "semantic" else ("boxes", "scores")),
        *(("masks",) if task == "instance" else ()),
    ]
    for name, value in found["before"].items():
        assert found["after"][name] == pytest.approx(value, abs=1e-5), name
    assert found["images"] == 10
    assert all(value > 0 for value in found["latency"])
    images = sorted((tmp_path / "data" / "images").glob("*.png"))[:3]
    torches, files = (list(bakeoff.predict(model, images, threshold=0.3)) for model in (run, out / "model.onnx"))
    for one, other in zip(torches, files, strict=True):
        assert type(one.target) is type(other.target)
        if isinstance(one.target, Boxes) and isinstance(other.target, Boxes):
            assert one.target.labels.tolist() == other.target.labels.tolist()
            np.testing.assert_allclose(one.target.xyxy, other.target.xyxy, atol=1e-2)
        else:
            assert one.target == other.target


def test_labels_and_their_eight_bits(exported: tuple[Path, dict[str, Any]], labels: Path) -> None:
    out, answer = exported
    assert answer["files"] == ["model.int8.onnx", "README.md"]
    assert sorted(file.name for file in out.iterdir()) == ["README.md", "model.int8.onnx"]
    whole, small = answer["parity"]["model.onnx"], answer["parity"]["model.int8.onnx"]
    assert whole["differences"][0]["largest"] < 1e-4
    assert small["differences"][0]["largest"] > whole["differences"][0]["largest"]
    assert small["differences"][0]["tolerance"] is None
    assert small["change"]["low"] <= small["change"]["value"] <= small["change"]["high"]
    kinds = [node.op_type for node in onnx.load(out / "model.int8.onnx").graph.node]
    assert "QuantizeLinear" in kinds
    metadata = OnnxPredictor(out / "model.int8.onnx").interface
    assert (metadata.classes, metadata.size, metadata.batch) == (("[light](x)", "dark"), SIZE, None)
    assert metadata.model["weights_sha256"] == json.loads((labels / "model.json").read_text())["weights_sha256"]
    assert str(labels.parent).encode() not in (out / "model.int8.onnx").read_bytes()  # nothing of this machine


def test_the_model_card_reads_as_what_it_is(exported: tuple[Path, dict[str, Any]], labels: Path) -> None:
    text = (exported[0] / "README.md").read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    assert yaml.safe_load(front) == {
        "license": "unknown",
        "library_name": "onnx",
        "pipeline_tag": "image-classification",
        "tags": ["bakeoff", "classification", "onnx"],
    }
    assert "[light](" not in body  # no link
    assert json.loads((labels / "model.json").read_text())["info"]["data"] in body
    assert "random weights" in body
    assert "| Accuracy |" in body
    assert "12 images" in body
    assert "not part of a finished comparison" in body


def test_the_card_s_program_labels_a_photo(
    exported: tuple[Path, dict[str, Any]], labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", (exported[0] / "README.md").read_text(encoding="utf-8"), re.S)
    source = sorted((labels.parents[1] / "data").rglob("*.png"))[0]
    (tmp_path / "photo.jpg").write_bytes(source.read_bytes())
    (tmp_path / "model.int8.onnx").write_bytes((exported[0] / "model.int8.onnx").read_bytes())
    with chdir(tmp_path):
        exec(program, {})
    (found,) = bakeoff.predict(exported[0] / "model.int8.onnx", [source])
    assert capsys.readouterr().out.strip() == found.label


def test_predict_labels_without_torch(exported: tuple[Path, dict[str, Any]], labels: Path) -> None:
    file, images = exported[0] / "model.int8.onnx", labels.parents[1] / "data"
    expected = list(bakeoff.predict(file, [images]))
    code = (
        "import sys; sys.modules['torch'] = sys.modules['torchvision'] = None\n"
        "from bakeoff.cli import main; main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, "predict", str(file), str(images), "--json", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["path"], row["label"]) for row in rows] == [(one.path, one.label) for one in expected]
    assert len(rows) == 24


def test_a_file_is_scored_as_its_network_is(exported: tuple[Path, dict[str, Any]], labels: Path) -> None:
    file, data = exported[0] / "model.int8.onnx", labels.parents[1] / "data"
    own, other = (json.loads(call("score", model, data, "--json")) for model in (labels, file))
    assert (own["images"], own["data"], own["findings"]) == (other["images"], other["data"], other["findings"])
    assert set(own["metrics"]) == set(other["metrics"])
    assert own["metrics"]["log_loss"]["value"] == pytest.approx(other["metrics"]["log_loss"]["value"], rel=0.1)
    assert "is scored on all of the data" in call("score", file, data, "--part", "test", code=2)
    assert "is an exported file" in call("explain", file, data, code=2)


def test_files_of_others_are_named(tmp_path: Path) -> None:
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    output = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([node], "g", [value], [output])
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, ir_version=8, opset_imports=opset), tmp_path / "other.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(DataError, match=r"other\.onnx: was not made by `bakeoff export`"):
        OnnxPredictor(tmp_path / "other.onnx")
    with pytest.raises(DataError, match=r"text\.onnx: cannot be opened as an ONNX file"):
        OnnxPredictor(tmp_path / "text.onnx")
    with pytest.raises(UsageError, match="no such file"):
        OnnxPredictor(tmp_path / "none.onnx")


def test_a_wrong_mean_is_refused_and_nothing_is_written(
    labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(model: Trained) -> Graph:
        graph = graph_of(trained.load(labels))
        graph.network.mean += 0.2
        return graph

    monkeypatch.setattr(pt2_file, "graph_of", wrong)
    told = call("export", labels, "--to", "pt2", "--out", tmp_path / "out", code=6)
    assert re.search(
        r"probabilities differ by 0\.\d+ in \S+\.png \(network 0\.\d+, file 0\.\d+; allowed 0\.001\)", told
    )
    assert "Nothing was written" in told
    assert list(tmp_path.iterdir()) == []


def test_pt2_runs_any_number_of_images(labels: Path, tmp_path: Path) -> None:
    call("export", labels, "--to", "pt2", "--out", tmp_path / "out", "--quiet")
    network = torch.export.load(tmp_path / "out" / "model.pt2").module()
    images = torch.randint(0, 256, (5, SIZE, SIZE, 3), dtype=torch.uint8)
    expected = trained.load(labels).network(images.permute(0, 3, 1, 2).float() / 255).softmax(dim=1)
    torch.testing.assert_close(network(images), expected)


def test_timm_loads_the_hub_s_form_with_equal_logits(tmp_path: Path) -> None:
    run, out = make_study(tmp_path, "classification", "timm:test_resnet@none"), tmp_path / "out"
    call("export", run, "--to", "hub", "--out", out, "--quiet")
    config = json.loads((out / "config.json").read_text())
    assert (config["architecture"], config["num_classes"]) == ("test_resnet", 2)
    assert config["label_names"] == ["[light](x)", "dark"]
    assert config["pretrained_cfg"]["input_size"] == [3, SIZE, SIZE]
    assert (config["pretrained_cfg"]["license"], config["pretrained_cfg"]["tag"]) == ("unknown", "bakeoff")
    model, own = timm.create_model(f"local-dir:{out}", pretrained=True).eval(), trained.load(run).network
    images = torch.rand(3, 3, SIZE, SIZE)
    mean, std = (torch.tensor(config["pretrained_cfg"][name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    assert torch.equal(model((images - mean) / std), own(images))


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run of a study of boxes."""
    return make_study(tmp_path_factory.mktemp("objects"), "detection")


REFUSED = [
    ("labels", ["--to", "tflite"], 2, "there is no form 'tflite'"),  # unknown
    ("labels", ["--to", "onxn"], 2, r"did you mean onnx\?"),  # a typo
    ("labels", ["--to", "pt2", "--int8"], 2, "8-bit integers are for ONNX files"),  # no such variant
    ("labels", ["--allow", "-1"], 2, "allow must lie in 0 to 100"),  # a bound that makes no sense
    ("labels", ["--to", "hub"], 6, "--to hub is for classifiers from timm"),  # not timm's
    ("objects", ["--to", "hub"], 6, "--to hub is for classifiers from timm"),  # another task
    ("objects", ["--to", "pt2"], 6, "how many objects .* depends on the image"),  # torch.export cannot
]


@pytest.mark.parametrize(("name", "arguments", "code", "message"), REFUSED)
def test_what_cannot_be_is_refused(
    name: str, arguments: list[str], code: int, message: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    told = call("export", request.getfixturevalue(name), *arguments, "--out", tmp_path / "out", code=code)
    assert re.search(message, told), told
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(labels: Path, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    assert "not an empty folder" in call("export", labels, "--out", tmp_path, code=6)
    assert [file.name for file in tmp_path.iterdir()] == ["note.txt"]


def test_a_model_without_its_study_needs_images(labels: Path, tmp_path: Path) -> None:
    for name in ("model.safetensors", "model.json"):
        (tmp_path / name).write_bytes((labels / name).read_bytes())
    out = tmp_path / "out"
    assert "--images" in call("export", tmp_path / "model.json", "--out", out, code=2)
    data = labels.parents[1] / "data"
    assert "inside its study" in call("export", tmp_path, "--int8", "--images", data, "--out", out, code=2)
    found = bakeoff.export(tmp_path, out, to="pt2", images=data)
    assert (found.parity["model.pt2"].images, found.files) == (24, ("model.pt2", "README.md"))


def test_r_cnn_has_no_file(tmp_path: Path) -> None:
    spec = ModelSpec(arch="classics:rcnn_small", weights="none")
    model = Trained(build(spec, 2, 64, "detection"), spec, "detection", ("a", "b"), 64, "squash")
    with pytest.raises(Refused, match="selective search"):
        write_onnx(model, {"spec": {}}, np.zeros((1, 64, 64, 3), np.uint8), tmp_path / "a.onnx")


CLASSES = ("a", "b")
MAP = np.array([[[0.9, 0.4]], [[0.1, 0.6]]], np.float32)


def boxes(*rows: tuple[float, float, int]) -> Boxes:
    """Return boxes of 10 pixels from (left edge, score, label)."""
    xyxy = np.array([(left, 0, left + 10, 10) for left, _, _ in rows]).reshape(-1, 4)
    return Boxes((64, 64), xyxy, np.array([row[2] for row in rows]), np.array([row[1] for row in rows]))


GAPS: list[tuple[Target, Target, tuple[int, int, float]]] = [
    (Label(0, (0.75, 0.25)), Label(0, (0.5, 0.5)), (1, 1, 0.25)),  # the same label
    (Label(0, (0.75, 0.25)), Label(1, (0.25, 0.75)), (0, 1, 0.5)),  # another one
    (Label(0, (0.75, 0.25)), Label(0, (float("nan"), 0.25)), (1, 1, float("inf"))),  # no number
    (LabelMap(MAP.argmax(0).astype(np.uint8), MAP), LabelMap(np.zeros((1, 2), np.uint8), MAP), (1, 2, 0.0)),  # a pixel
    (boxes((0, 0.9, 0), (30, 0.2, 1)), boxes((0, 0.9, 0)), (1, 1, 0.0)),  # nobody is shown what is missing
    (boxes((0, 0.9, 0)), boxes((0, 0.9, 1)), (0, 2, 0.0)),  # another class: one is missing, one is new
    (boxes((0, 0.9, 0)), boxes((20, 0.9, 0)), (0, 2, 0.0)),  # another place
    (boxes((0, 0.5004, 0)), boxes(), (0, 0, 0.0)),  # at the border of what is shown
    (boxes((0, 0.9, 0)), boxes((0.25, 0.8, 0)), (1, 1, 0.25)),  # moved
]


@pytest.mark.parametrize(("network", "file", "expected"), GAPS)
def test_gaps(network: Target, file: Target, expected: tuple[int, int, float]) -> None:
    found = gap(network, file, CLASSES)
    name = "boxes" if isinstance(network, Boxes) else "probabilities"
    assert (found.same, found.total, round(found.far[name].size, 6)) == expected
    assert bool(found.other) == (found.same < found.total)


@pytest.fixture
def parity(labels: Path, tmp_path: Path) -> Parity:
    """Return what the gate measured on a right file."""
    return bakeoff.export(labels, tmp_path / "right", to="pt2").parity["model.pt2"]


def test_the_gates(parity: Parity) -> None:
    check(parity, "f")
    fell = replace(parity, change=Estimate(-0.02, -0.05, 0.01))
    check_metric(fell, "f", 3.0)
    with pytest.raises(Refused, match=r"-2\.00 points \[-5\.00, 1\.00\], allowed 1"):
        check_metric(fell, "f", 1.0)
    check_metric(replace(parity, change=Estimate(0.02)), "f", 1.0)  # better is no harm to 8 bits
    with pytest.raises(Refused, match="another model"):
        check_small(replace(parity, same=parity.decisions * 4 // 5), "f", 1.0)  # as good by luck
    with pytest.raises(Refused, match=r"\+2\.00 points"):
        check(replace(parity, change=Estimate(0.02)), "f")  # but no export
    with pytest.raises(Refused, match="does not decide"):
        check(replace(parity, same=parity.decisions - 1), "f")


def test_exporters_are_not_heard(capfd: pytest.CaptureFixture[str]) -> None:
    print("before")
    with quiet():
        print("chatter")
        os.write(1, b"past Python")
        os.write(2, b"past Python")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        logging.getLogger("torch").error("a graph of a thousand lines")
    print("after")
    told = capfd.readouterr()
    assert (told.out.split(), told.err) == (["before", "after"], "")


HOSTILE = [
    ("<script>", "&lt;script&gt;"),  # HTML
    ("a|b", "a&#124;b"),  # another cell
    ("[x](javascript:1)", "[x]&#40;javascript:1)"),  # a link
    ("a\n# b", "a\\n# b".replace("\\", "&#92;")),  # a heading
]


@pytest.mark.parametrize(("name", "expected"), HOSTILE)
def test_names_in_a_card_are_harmless(name: str, expected: str) -> None:
    assert harmless(name) == expected


def test_images_of_another_task_are_named(labels: Path, tmp_path: Path) -> None:
    data: Dataset = read(write_scenes(tmp_path / "scenes", "detection", 4, SIZE), task="detection")
    with pytest.raises(DataError, match="its task is detection, that of the model classification"):
        bakeoff.export(labels, tmp_path / "out", images=data)
