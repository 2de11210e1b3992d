"""`bakeoff explain`: all four tasks through the front door, and what it says when something is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from bakeoff import cli
from bakeoff.data.dataset import TaskName
from bakeoff.explain import captum_extra

Save = Callable[[TaskName], Path]


def call(*arguments: object) -> int:
    """Run the command line in this process and return its exit code."""
    try:
        cli.main([str(argument) for argument in arguments])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.mark.parametrize("task", ["classification", "semantic", "detection", "instance"])
def test_every_task_is_explained(
    saved: Save,
    photo_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    task: TaskName,
) -> None:
    out = tmp_path / "out"
    assert call("explain", saved(task), photo_file, "--method", "gradcam,layercam", "--out", out, "--json") == 0
    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert (found["task"], found["error"], found["picture"]) == (task, None, str(out / "photo.png"))
    assert (found["box"] is None) == (task in ("classification", "semantic"))
    for one in found["methods"]:
        assert one["applies"]
        assert one["layer"]
        assert -1 <= one["correlation"] <= 1
        assert all(one[name] >= 0 for name in ("deletion", "deletion_random", "insertion", "insertion_random"))
    picture = Image.open(out / "photo.png")
    assert picture.width == 3 * 332 + 12  # the image and two maps
    assert len(picture.getcolors(1 << 20) or ()) > 100


def test_words_and_unreadable_files(
    saved: Save, photo_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    model, out = saved("classification"), tmp_path / "out"
    assert call("explain", model, broken, photo_file, "--class", "owl", "--out", out) == 3
    told = capsys.readouterr()
    assert "broken.png: damaged" in told.out
    assert "photo.png: owl, probability 0." in told.out
    assert "Grad-CAM: layer trunk, 4 x 4; correlation with random weights" in told.out
    assert "1 image could not be explained" in told.err
    assert sorted(file.name for file in out.iterdir()) == ["photo.png"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--method", "gradcma"], 2, "did you mean gradcam?"),
        (["--class", "owll"], 2, "did you mean owl?"),
        (["--layer", "trunk.9"], 2, "has no layer 'trunk.9'"),
        (["--method", "rollout"], 2, "no method that was named can explain this model: rollout: it has no attention"),
        (["--device", "gpu"], 2, "device 'gpu' is not known"),
    ],
)
def test_mistakes_are_named(
    saved: Save,
    photo_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    words: str,
) -> None:
    assert call("explain", saved("classification"), photo_file, "--out", tmp_path / "out", *arguments) == code
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_pictures_are_not_overwritten(
    saved: Save, photo_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("explain", saved("classification"), photo_file, "--out", tmp_path) == 6
    assert "photo.png" in capsys.readouterr().err


def test_without_captum_the_extra_is_named(
    saved: Save,
    photo_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(captum_extra, "find_spec", lambda _: None)
    arguments = ("explain", saved("classification"), photo_file, "--out", tmp_path / "out")
    assert call(*arguments, "--method", "occlusion") == 2
    assert "pip install 'bakeoff[explain]'" in capsys.readouterr().err
    assert call(*arguments) == 0
