"""The survey: the strongest activations of channels over many images, their patches and their picture."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bakeoff import cli
from bakeoff.data.dataset import TaskName
from bakeoff.data.decode import decode_resized
from bakeoff.data.load import to_float
from bakeoff.explain.activations import BEST, Ranking, Surveying
from bakeoff.explain.explainer import Options
from bakeoff.explain.layers import output_of
from bakeoff.models.trained import Trained, save

Make = Callable[..., Trained]
IMAGES = 14


def call(*arguments: object) -> int:
    """Run the command line in this process and return its exit code."""
    try:
        cli.main([str(argument) for argument in arguments])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Return images of blobs, one of them twice, and a file that is none."""
    draws = np.random.default_rng(0)
    paths = []
    for number in range(IMAGES):
        coarse = Image.fromarray(draws.integers(0, 256, (5, 5, 3), np.uint8))
        paths.append(tmp_path / "photos" / f"{number:02}.png")
        paths[-1].parent.mkdir(exist_ok=True)
        coarse.resize((32, 32), Image.Resampling.BILINEAR).save(paths[-1])
    return paths


def test_it_finds_the_strongest_of_all_images(make: Make, photos: list[Path]) -> None:
    model = make("small:cnn")
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    found, unread = Surveying(model, Options(layer="trunk.0", channel=5, batch=4)).over(photos)
    assert found is not None
    assert not unread
    assert (found.layer, found.images, list(found.channels)) == ("trunk.0", IMAGES, [5])
    images = to_float(np.stack([decode_resized(path, 32)[0] for path in photos]))
    with torch.no_grad():
        grids = output_of(model.network, "trunk.0", images)[:, 5]
    best = grids.flatten(1).max(dim=1).values.argsort(descending=True)[:BEST].tolist()
    seen = found.channels[5]
    assert [one.path for one in seen] == [str(photos[place]) for place in best]
    for one, place in zip(seen, best, strict=True):
        row, column = one.activation.place
        assert one.activation.value == pytest.approx(float(grids[place].max()), rel=1e-5)
        assert float(grids[place, row, column]) == pytest.approx(one.activation.value, rel=1e-5)
        left, top, right, bottom = one.field
        assert (left, top) == (max(0, 2 * column - 1), max(0, 2 * row - 1))  # 3 x 3, 2 apart, 1 of padding
        pixels = (255 * images[place]).round().byte().permute(1, 2, 0).numpy()
        assert (one.patch == pixels[top:bottom, left:right]).all()
        assert one.pattern is not None
        assert one.pattern.shape == one.patch.shape
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.network.state_dict().items())
    assert not any(module._forward_hooks for module in model.network.modules())


def test_batches_do_not_change_the_ranking() -> None:
    torch.manual_seed(0)
    grids = torch.rand(30, 4, 3, 3).mul(8).round()  # with many equals
    nothing = torch.zeros(0, 4)
    start = Ranking(nothing, nothing.long(), nothing.long())
    whole, parts = start.add(grids, 0), start
    for first in range(0, 30, 7):
        parts = parts.add(grids[first : first + 7], first)
    assert whole.values.shape == (BEST, 4)
    for name in ("values", "images", "places"):
        assert torch.equal(getattr(whole, name), getattr(parts, name))
    assert torch.equal(whole.values, grids.flatten(2).amax(dim=2).sort(dim=0, descending=True).values[:BEST])


def test_the_command_writes_one_sheet_and_names_what_it_cannot_read(
    make: Make, photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "model", make("small:cnn"))
    broken, out = photos[0].parent / "zz.png", tmp_path / "out"
    broken.write_bytes(b"no image")
    order = ("explain", tmp_path / "model", photos[0].parent, "--out", out, "--method")
    assert call(*order, "activations", "--json") == 3
    unread, found = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert unread["error"].startswith("damaged")
    assert (found["layer"], found["images"], found["note"]) == ("trunk", IMAGES, "")
    assert found["picture"] == str(out / "activations-trunk.png")
    tops = [entry["strongest"][0]["value"] for entry in found["channels"]]
    assert len(tops) == 6
    assert tops == sorted(tops, reverse=True)
    with Image.open(out / "activations-trunk.png") as page:
        assert page.width == 4 * 332 + 12
    assert call(*order, "activations") == 6
    assert "activations-trunk.png" in capsys.readouterr().err
    broken.unlink()
    assert call(*order, "activations,filters", "--layer", "trunk.0", "--channel", "2") == 0
    told = capsys.readouterr().out
    assert "  channel 2: " in told
    assert len(list(out.glob("*.png"))) == 2 + IMAGES


@pytest.mark.parametrize(
    ("arch", "task"),
    [
        ("small:resnet", "classification"),  # sums
        ("small:vit", "classification"),  # tokens
        ("small:fcos", "detection"),
    ],
)
def test_without_a_way_back_there_are_patches_alone(make: Make, photos: list[Path], arch: str, task: TaskName) -> None:
    found, _ = Surveying(make(arch, task), Options()).over(photos[:3])
    assert found is not None
    assert "no reconstructions: " in found.words
    seen = [one for channel in found.channels.values() for one in channel]
    assert seen
    assert all(one.pattern is None and one.patch.size for one in seen)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--layer", "trnk"], "did you mean trunk?"),
        (["--channel", "500"], "layer trunk has 128 channels, 0 to 127, and no channel 500"),
        (["--method", "activation"], "did you mean activations?"),
    ],
)
def test_mistakes_are_named(
    make: Make,
    photos: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    save(tmp_path / "model", make("small:cnn"))
    order = ("explain", tmp_path / "model", photos[0], "--method", "activations", "--out", tmp_path / "out")
    assert call(*order, *arguments) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
