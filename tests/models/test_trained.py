"""A trained model comes back as it was saved, or says why not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bakeoff.errors import DataError
from bakeoff.models import build, weights
from bakeoff.models.spec import Card, Head, ModelSpec
from bakeoff.models.trained import Trained, load, save, weights_hash

OWN = "from torch import nn\ndef net(classes, size):\n    return nn.Sequential(nn.Flatten(), nn.Linear(768, classes))\n"
OWN_HEAD = Head()
INFO = {"study": "s", "fingerprint": "f", "seed": 3, "metrics": {"accuracy": 0.9}}


def trained(arch: str, head: Head = OWN_HEAD, size: int = 32) -> Trained:
    torch.manual_seed(3)
    spec = ModelSpec(arch=arch, weights="none", head=head)
    network = build(spec, 3, size)
    network.train()
    network(torch.rand(8, 3, size, size))  # moves the batch-norm statistics
    return Trained(network, spec, "classification", ("a", "b", "ü"), size, "pad", INFO)


@pytest.mark.parametrize(
    ("arch", "head"),
    [
        ("small:cnn", Head()),  # ours
        ("timm:test_vit", Head()),  # an image size of its own
        ("timm:test_resnet", Head(hidden=(4,), dropout=0.5)),  # another head
        ("torchvision:shufflenet_v2_x0_5", Head(pool="max")),  # another pooling
    ],
)
@pytest.mark.parametrize("end", ["", "model.safetensors", "model.json"])
def test_load_gives_back_what_was_saved(arch: str, head: Head, end: str, tmp_path: Path) -> None:
    model = trained(arch, head)
    model.network.to(memory_format=torch.channels_last)
    save(tmp_path / "m", model)
    torch.manual_seed(5)
    expected_draw = torch.rand(1)
    torch.manual_seed(5)
    back = load(tmp_path / "m" / end)
    assert torch.equal(torch.rand(1), expected_draw)  # loading draws nothing from the global generator
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(back.network(images), model.network.eval().to(memory_format=torch.contiguous_format)(images))
    assert weights_hash(back.network) == weights_hash(model.network)
    assert (back.classes, back.task, back.size, back.resize) == (("a", "b", "ü"), "classification", 32, "pad")
    assert back.info == INFO
    assert not back.network.training
    assert back.network.groups == model.network.groups


def test_normalisation_and_card_are_kept(tmp_path: Path) -> None:
    model = trained("small:mlp", size=16)
    model.network.mean.fill_(0.3)
    model.network.card = Card("MIT", "my pictures", None, "all")
    save(tmp_path, model)
    back = load(tmp_path).network
    assert torch.equal(back.mean, model.network.mean)
    assert back.card == model.network.card


def test_pretrained_weights_are_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = trained("timm:test_resnet")
    pretrained = ModelSpec(arch="timm:test_resnet", weights="pretrained")
    save(tmp_path, Trained(model.network, pretrained, model.task, model.classes, model.size, model.resize, INFO))
    monkeypatch.setattr(weights, "reach", lambda *_: pytest.fail("asked the network"))
    assert weights_hash(load(tmp_path).network) == weights_hash(model.network)
    assert load(tmp_path).spec.weights == "pretrained"


def flip(folder: Path) -> None:
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def edit(folder: Path, **changes: object) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flip, "damaged or changed"),  # one bit
        (lambda f: (f / "model.safetensors").write_bytes(b""), "damaged or changed"),  # emptied
        (lambda f: (f / "model.safetensors").unlink(), "model.safetensors: is missing"),  # half of it is gone
        (lambda f: (f / "model.json").unlink(), "model.json: is missing"),  # the other half
        (lambda f: (f / "model.json").write_text('{"a": 1}'), "not the description of a bakeoff model"),  # another's
        (lambda f: (f / "model.json").write_text('{"a": '), "damaged"),  # torn
        (lambda f: edit(f, schema_version=99), "schema version 99"),  # from the future
        (lambda f: edit(f, classes=["a", "b"]), "does not fit the network of its description"),  # a class lost
        (lambda f: edit(f, spec={"arch": "small:cnn", "colour": 1}), "not a complete description"),  # an unknown key
        (lambda f: edit(f, mean=None), "not a complete description"),  # a value lost
    ],
)
def test_a_damaged_model_is_refused(damage: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    save(tmp_path, trained("small:cnn", size=16))
    damage(tmp_path)
    with pytest.raises(DataError, match=message):
        load(tmp_path)


def test_an_own_network_is_loaded_only_from_the_same_source(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(OWN)
    model = trained(f"{file}:net", size=16)
    save(tmp_path / "m", model)
    assert weights_hash(load(tmp_path / "m").network) == weights_hash(model.network)
    file.write_text(OWN + "# changed\n")
    with pytest.raises(DataError, match="has changed since"):
        load(tmp_path / "m")


def test_the_hash_sees_every_bit_and_no_layout() -> None:
    network = trained("small:cnn", size=16).network
    before = weights_hash(network)
    network.to(memory_format=torch.channels_last)
    assert weights_hash(network) == before
    with torch.no_grad():
        network.get_parameter("body.head.bias")[0] += 1e-6
    assert weights_hash(network) != before
