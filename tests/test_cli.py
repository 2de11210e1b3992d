"""The command line: answers on stdout, talk on stderr, one clear message and the right exit code for bad input."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from bakeoff.cli import main

Call = Callable[..., tuple[int, str, str]]
QUICK = ["--seeds", "1", "--epochs", "1", "--size", "16", "--set", "recipe.augment=none", "--set", "repeat_one=false"]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], inline: None) -> Call:
    """Return a function that runs a command line and returns exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return 60 noisy pictures, dark cats and bright dogs, in class folders."""
    draws = np.random.default_rng(0)
    for name, level in (("cat", 60), ("dog", 160)):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for number in range(30):
            pixels = np.clip(draws.normal(level, 40, (40, 48, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{name}_{number:02}.png")
    return tmp_path / "photos"


def test_a_study_from_images_to_predictions(call: Call, photos: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    code, out, _ = call("run", photos, "--out", study, "--models", "small:mlp,small:cnn", *QUICK, "--quiet", "--json")
    answer = json.loads(out)
    assert code == 0
    assert answer["level"] == "L0"
    assert Path(answer["report"]).exists()
    code, out, _ = call("score", study, photos, "--json")
    assert code == 0
    assert json.loads(out)["images"] == 60
    (photos / "cat" / "broken.png").write_bytes(b"\x89PNG no")
    code, out, err = call("predict", study, photos / "cat", "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 3
    assert len(lines) == 31
    assert "1 file could not be read" in err
    code, out, _ = call("report", study)
    assert (code, out.strip()) == (0, str(study / "report.html"))


def test_init_says_what_it_sees_and_its_study_runs(call: Call, photos: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    code, out, _ = call("init", photos, "--out", study, "--models", "small:mlp,small:cnn")
    assert (code, out.strip()) == (0, str(study / "study.toml"))
    assert "60 images of 2 classes" in (study / "study.toml").read_text()
    code, out, _ = call("run", study, "--dry-run", "--quiet", "--json")
    plan = json.loads(out)
    assert code == 0
    assert (plan["images"], plan["runs"]) == (60, 31)
    assert plan["train"] + plan["val"] + plan["test"] == 60
    code, _, err = call("init", photos, "--out", study)
    assert code == 2
    assert "is there already" in err


def test_data_commands(call: Call, photos: Path, tmp_path: Path) -> None:
    code, out, _ = call("data", "audit", photos, "--out", tmp_path / "audit.html", "--quiet")
    assert code == 0
    assert (tmp_path / "audit.html").stat().st_size > 1000
    code, out, _ = call("data", "split", photos, "--out", tmp_path / "split.json", "--folds", 3, "--quiet")
    assert code == 0
    assert len(json.loads((tmp_path / "split.json").read_text())["parts"]) == 3
    code, out, _ = call("data", "show", photos, "--out", tmp_path / "sheet.png", "--per-class", 2)
    assert code == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 100
    code, out, _ = call("data", "convert", photos, tmp_path / "table", "--to", "table")
    assert code == 0
    assert "60 images of 2 classes" in out


def test_an_audit_tells_its_findings_even_where_the_sheet_cannot_be_written(call: Call, photos: Path) -> None:
    (photos / "dog" / "copy.png").write_bytes((photos / "dog" / "dog_00.png").read_bytes())
    nowhere = photos / "cat" / "cat_00.png" / "audit.html"
    code, out, err = call("data", "audit", photos, "--out", nowhere, "--quiet")
    assert code == 5
    assert "2 images show 1 picture (" in out
    assert "audit.html: cannot be written" in err
    code, out, _ = call("data", "audit", photos, "--out", nowhere, "--quiet", "--json")
    assert code == 5
    assert "duplicate" in [finding["code"] for finding in json.loads(out)["findings"]]


def test_models_lists_and_shows(call: Call) -> None:
    code, out, _ = call("models", "small:cnn", "--classes", 3, "--size", 32)
    assert code == 0
    assert "forward/backward pass" in out
    code, out, _ = call("models", "--family", "small", "--json")
    assert code == 0
    assert {"mlp", "cnn", "resnet", "vit"} <= {entry["name"] for entry in json.loads(out)["items"]}


def bad_weights(folder: Path) -> Path:
    """Write a weights file of another network."""
    save_file({"stem.weight": np.zeros((3, 3), np.float32)}, folder / "w.safetensors")
    return folder / "w.safetensors"


def empty(photos: Path) -> Path:
    """Return a folder without images."""
    (photos.parent / "empty").mkdir()
    return photos.parent / "empty"


def one_class(photos: Path) -> Path:
    """Leave the cats only."""
    (photos / "dog").rename(photos.parent / "dogs")
    return photos


def label_without_image(photos: Path) -> Path:
    """Write a table that names an image that is not there."""
    (photos / "labels.csv").write_text("path,label\ncat/cat_00.png,cat\ndog/dog_00.png,dog\ndog/gone.png,dog\n")
    return photos / "labels.csv"


def unreadable(photos: Path) -> Path:
    """Cut an image in half."""
    file = photos / "dog" / "dog_07.png"
    file.write_bytes(file.read_bytes()[:500])
    return photos


def leaking(photos: Path) -> Path:
    """Put one image into train and test."""
    target = photos.parent / "parts"
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            (target / part / name).mkdir(parents=True)
    for place, file in enumerate(sorted(photos.rglob("*.png"))):
        part = "test" if place % 5 == 0 else "train"
        (target / part / file.parent.name / file.name).write_bytes(file.read_bytes())
    (target / "train" / "cat" / "copy.png").write_bytes((target / "test" / "cat" / "cat_00.png").read_bytes())
    return target


BAD: list[tuple[str, Callable[[Path], Path], list[str], int, list[str]]] = [
    ("empty folder", empty, [], 3, ["empty"]),
    ("one class", one_class, [], 3, ["cat", "two"]),
    ("label without image", label_without_image, [], 3, ["gone.png"]),
    ("unreadable image", unreadable, [], 3, ["dog_07.png", "--skip-unreadable"]),
    ("leak between splits", leaking, [], 3, ["copy.png", "cat_00.png"]),
    ("unknown model", lambda photos: photos, ["--models", "small:cnnn,small:mlp"], 2, ["cnnn", "cnn"]),
    ("unknown key", lambda photos: photos, ["--set", "recipe.epoch=3"], 2, ["recipe.epoch", "did you mean epochs"]),
    ("wrong value", lambda photos: photos, ["--set", "recipe.epochs=-3"], 2, ["recipe.epochs", "-3"]),
    ("no such data", lambda photos: photos / "none", [], 2, ["none"]),
    ("bad pattern", lambda photos: photos, ["--label-from", "(?P<label"], 2, ["(?P<label"]),
    ("unknown device", lambda photos: photos, ["--set", "execution.device=cuda:9"], 5, ["cuda:9"]),
]


@pytest.mark.parametrize(("prepare", "options", "code", "words"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_input_is_named(
    call: Call,
    photos: Path,
    tmp_path: Path,
    prepare: Callable[[Path], Path],
    options: list[str],
    code: int,
    words: list[str],
) -> None:
    models = [] if "--models" in options else ["--models", "small:mlp,small:cnn"]
    out = photos.parent / "study"
    found, _, err = call("run", prepare(photos), "--out", out, "--quiet", *models, *QUICK, *options)
    assert found == code, err
    assert all(word in err for word in words), err
    assert "Traceback" not in err


def test_weights_that_do_not_fit_stop_before_training(call: Call, photos: Path, tmp_path: Path) -> None:
    models = f"small:mlp,timm:mobilenetv2_035@{bad_weights(tmp_path)}"
    code, _, err = call("run", photos, "--out", tmp_path / "study", "--quiet", "--models", models, *QUICK)
    assert code == 3
    assert "w.safetensors" in err
    assert not (tmp_path / "study" / "runs").exists()


def test_weights_that_cannot_be_had_say_what_to_do(call: Call, photos: Path, tmp_path: Path) -> None:
    models = "small:mlp,timm:mobilenetv2_100@pretrained"
    code, _, err = call("run", photos, "--out", tmp_path / "study", "--quiet", "--models", models, *QUICK)
    assert code == 5
    assert 'weights = "none"' in err


def test_unreadable_images_can_be_left_out(call: Call, photos: Path, tmp_path: Path) -> None:
    options = ["--models", "small:mlp,small:cnn", *QUICK, "--quiet", "--skip-unreadable", "--json"]
    code, _, _ = call("run", unreadable(photos), "--out", tmp_path / "study", *options)
    assert code == 0
    audit = json.loads((tmp_path / "study" / "audit.json").read_text())
    assert any("dog_07.png" in json.dumps(finding) for finding in audit["findings"])


def test_leaks_can_be_accepted_by_name(call: Call, photos: Path, tmp_path: Path) -> None:
    options = ["--models", "small:mlp,small:cnn", *QUICK, "--quiet", "--accept-leaks", "--json"]
    code, out, _ = call("run", leaking(photos), "--out", tmp_path / "study", *options)
    assert code == 0
    assert "leak" in out


def test_a_full_disk_is_said_and_nothing_is_lost(
    call: Call, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["run", photos, "--out", tmp_path / "study", "--models", "small:mlp,small:cnn", *QUICK, "--quiet"]

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("os.posix_fallocate", full)
        code, _, err = call(*command)
    assert code == 5
    assert "no space left" in err
    assert call(*command)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["data", "split", "--val", "5"], "split: val"),  # out of range
        (["init", "--set", "data.formt=idx"], "unknown key formt"),  # unknown
    ],
)
def test_wrong_values_of_other_commands_are_named(
    call: Call, photos: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    code, _, err = call(*arguments, photos, "--out", tmp_path / "out")
    assert code == 2
    assert words in err


def test_errors_are_json_too(call: Call, tmp_path: Path) -> None:
    code, out, err = call("run", tmp_path / "none", "--json")
    answer = json.loads(out)
    assert (code, answer["exit_code"], answer["type"]) == (2, 2, "UsageError")
    assert answer["error"] in err


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"], ["rum"]])
def test_help_and_usage_errors_import_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom bakeoff.cli import main\ntry:\n    main(sys.argv[1:])\nexcept SystemExit as end:\n"
        "    print('code', end.code)\nprint('heavy', {'torch', 'torchvision', 'timm', 'numpy'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)
    assert "heavy set()" in found.stdout
    assert f"code {2 if arguments == ['rum'] else 0}" in found.stdout


PREDICTING = (
    "from bakeoff import verbs_predict as verbs\nfrom bakeoff.cli import main\n"
    "class Found: classes, task = (), 'classification'\n"
    "verbs.find_labeller = lambda *_: verbs.Labeller(Found)\nverbs.find_sources = verbs._labelled = lambda *_: []\n"
    "main(['predict', 'model', 'images'])"
)


@pytest.mark.parametrize(
    "code",
    [
        "from bakeoff.cli import main\nmain(['models'])",  # written at once
        PREDICTING,  # a header alone stays in the buffer until the end
        "from bakeoff.cli import main\nmain(['run', 'gone', '--json'])",  # an error
    ],
)
def test_a_reader_that_has_enough_ends_the_command_quietly(code: str) -> None:
    read, write = os.pipe()
    os.close(read)
    found = subprocess.run([sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(write)
    assert (found.returncode, found.stderr) == (141, "")


def test_sigterm_says_how_to_go_on() -> None:
    stopping = (
        "import os, signal\nfrom bakeoff import verbs\nfrom bakeoff.cli import main\n"
        "verbs.demo = lambda *_: os.kill(os.getpid(), signal.SIGTERM)\nmain(['demo', '--quiet'])"
    )
    found = subprocess.run([sys.executable, "-c", stopping], capture_output=True, text=True, timeout=60)
    assert (found.returncode, found.stdout) == (143, "")
    assert found.stderr == "stopped; run the same command again to go on\n"


def test_python_m_bakeoff_works() -> None:
    found = subprocess.run([sys.executable, "-m", "bakeoff", "--version"], capture_output=True, text=True, timeout=60)
    assert found.stdout.startswith("bakeoff 0.")
