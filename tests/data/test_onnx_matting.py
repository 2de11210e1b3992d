"""Matting by an ONNX file: how a network is fed and read, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from photos import photos, thing

from bakeoff.data import formats
from bakeoff.data.expand import Expansion, expand
from bakeoff.data.expand.onnx_matting import FAMILIES, OnnxMatting
from bakeoff.errors import DataError, UsageError

onnx: Any = pytest.importorskip("onnx", reason="onnx is not installed: it writes the networks of these tests")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'bakeoff[onnx]'")

PURPLE = (1.0, -2.0, 1.0)  # high on the plum, low elsewhere


def network(file: Path, sides: tuple[int | str, int | str], outputs: int = 1, channels: int = 3) -> Path:
    """Write a network of one 1x1 convolution: `outputs` maps that are high where a pixel is purple."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    weights = np.tile(np.resize(np.array(PURPLE, np.float32), channels).reshape(1, channels, 1, 1), (outputs, 1, 1, 1))
    kernel = helper.make_tensor("kernel", kind, weights.shape, weights.ravel())
    graph = helper.make_graph(
        [helper.make_node("Conv", ["input.1", "kernel"], ["d0"])],
        "matting",
        [helper.make_tensor_value_info("input.1", kind, [1, channels, *sides])],
        [helper.make_tensor_value_info("d0", kind, [1, outputs, *sides])],
        [kernel],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, file)
    return file


@pytest.mark.parametrize(
    ("name", "sides", "size"),
    [
        ("u2netp.onnx", (64, 48), (48, 64)),  # the size that the file states
        ("isnet-general.onnx", ("h", "w"), (1024, 1024)),  # of any size: its family's
        ("BiRefNet_lite.onnx", (40, 40), (40, 40)),  # a name in another case
    ],
)
def test_a_network_is_fed_as_its_family_was_trained(
    tmp_path: Path, name: str, sides: tuple[int | str, int | str], size: tuple[int, int]
) -> None:
    matting = OnnxMatting(network(tmp_path / name, sides))
    image, inside = thing(3, "plum")
    family = matting.family
    fed = matting._fed(image)
    assert fed.shape == (1, 3, size[1], size[0])
    assert fed.dtype == np.float32
    top = image.max() if family.scale == "brightest" else 255
    level = fed.mean(axis=(0, 2, 3)) * np.array(family.std) + np.array(family.mean)
    assert level == pytest.approx(image.mean(axis=(0, 1)) / top, abs=0.02)
    found = matting(image, 0)
    assert found.shape == inside.shape
    assert 0 <= found.min() < 0.3 < 0.7 < found.max() <= 1
    cut = found > (0.5 if family.output == "stretched" else 0.85)  # logits of the ground are near 0
    assert (cut & inside).sum() / (cut | inside).sum() > 0.8


def test_logits_get_a_sigmoid_and_shares_are_left(tmp_path: Path) -> None:
    matting = OnnxMatting(network(tmp_path / "birefnet.onnx", (8, 8)))
    assert matting._matte(np.array([[-3.0, 0.0, 90.0]], np.float32)) == pytest.approx(
        np.array([[0.0474, 0.5, 1.0]]), abs=1e-4
    )
    assert matting._matte(np.array([[0.2, 0.9]], np.float32)) == pytest.approx(np.array([[0.2, 0.9]]))
    flat = OnnxMatting(network(tmp_path / "u2net.onnx", (8, 8)))._matte(np.zeros((4, 4), np.float32))
    assert flat.max() == 0  # nothing to stretch


def test_an_expansion_by_a_network(tmp_path: Path) -> None:
    photos(tmp_path / "data", 4)
    file = network(tmp_path / "model.onnx", (32, 32))
    plan = Expansion(background=5, model=file, family="u2net", fill="#ff00ff")
    new = expand(formats.read(tmp_path / "data"), tmp_path / "out", plan)
    assert new.dataset.methods == {"background": 5}
    assert "cut out by model.onnx, set before #ff00ff" in new.dataset.lineage[-1]


def test_files_that_are_no_matting_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("u2net.onnx", "net.onnx"):
        (tmp_path / name).write_bytes(b"not a network")
    refused: list[tuple[Path, str | None, type[Exception], str]] = [
        (tmp_path / "u2net.onnx", None, DataError, "cannot be loaded as an ONNX network"),
        (tmp_path / "isnet.onnx", None, UsageError, "no such file"),
        (tmp_path / "net.onnx", None, UsageError, f"does not tell the network; say --family {', '.join(FAMILIES)}"),
        (tmp_path / "net.onnx", "u2nett", UsageError, r"--family u2nett \(did you mean u2net\?\)"),
        (network(tmp_path / "grey.onnx", (8, 8), channels=1), "u2net", DataError, r"expected one input \(1, 3, height"),
    ]
    for file, family, error, message in refused:
        with pytest.raises(error, match=message):
            OnnxMatting(file, family)
    several = OnnxMatting(network(tmp_path / "many.onnx", (8, 8), outputs=2), "u2net")
    with pytest.raises(DataError, match="should be one map"):
        several(thing(0, "plum")[0], 0)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UsageError, match=r"pip install 'bakeoff\[onnx\]'; or leave it out for GrabCut"):
        OnnxMatting(tmp_path / "u2net.onnx")
