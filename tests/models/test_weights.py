"""Weights from files and suppliers: what fits is loaded, what does not is told, and nothing needs a network."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bakeoff.errors import DataError, ResourceError, UsageError, WeightsMismatch
from bakeoff.models import build, from_timm
from bakeoff.models.spec import Head, ModelSpec, Network
from bakeoff.models.trained import weights_hash
from bakeoff.models.weights import file_hash

State = dict[str, torch.Tensor]
CNN = ModelSpec(arch="small:cnn", options={"width": 4})


def make(spec: ModelSpec, classes: int = 3, size: int = 16, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return build(spec, classes, size)


def with_weights(spec: ModelSpec, path: Path) -> ModelSpec:
    return spec.model_copy(update={"weights": str(path)})


def same_trunk(one: Network, two: Network) -> bool:
    names = {name for group in one.groups[:-1] for name in group}
    return all(torch.equal(one.body.get_parameter(name), two.body.get_parameter(name)) for name in names)


@pytest.mark.parametrize(
    ("wrap", "suffix"),
    [
        (lambda s: s, ".safetensors"),  # plain
        (lambda s: s, ".pth"),  # torch's own format
        (lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}, "epoch": 3}, ".pth"),  # data-parallel
        (lambda s: {"model": {f"model.backbone.{k}": v for k, v in s.items()}}, ".pt"),  # two prefixes
        (lambda s: {f"backbone.{k}": v for k, v in s.items()} | {"fc.bias": torch.ones(2)}, ".safetensors"),  # and more
        (lambda s: {k: v for k, v in s.items() if "num_batches" not in k}, ".pth"),  # an old file
        (lambda s: {k: v.half() if "trunk" in k and v.ndim == 4 else v for k, v in s.items()}, ".safetensors"),  # half
    ],
)
def test_a_file_fits_whatever_its_wrapper(wrap: Callable[[State], Any], suffix: str, tmp_path: Path) -> None:
    source = make(CNN, seed=1)
    for parameter in source.parameters():
        parameter.data = parameter.data.half().float()
    path = tmp_path / f"w{suffix}"
    content = wrap(dict(source.body.state_dict()))
    save_file(content, path) if suffix == ".safetensors" else torch.save(content, path)
    loaded = make(with_weights(CNN, path), seed=2)
    assert same_trunk(source, loaded)
    assert torch.equal(source.body.get_parameter("head.weight"), loaded.body.get_parameter("head.weight"))
    assert loaded.card.pretraining == f"{path.name} (sha256 {file_hash(path)})"
    assert "the head too" in str(loaded.loaded)


def test_a_head_of_other_classes_is_left_out(tmp_path: Path) -> None:
    source = make(CNN, classes=7, seed=1)
    save_file(dict(source.state_dict()), tmp_path / "w.safetensors", metadata={"license": "MIT"})
    loaded = make(with_weights(CNN, tmp_path / "w.safetensors"), classes=3)
    assert same_trunk(source, loaded)
    assert loaded.loaded == f"{len(source.body.state_dict()) - 2} tensors loaded, the head starts at random; " + (
        "2 tensors of the file left out"
    )
    assert loaded.card.licence == "MIT"


def test_another_head_is_put_on_the_loaded_trunk(tmp_path: Path) -> None:
    spec = ModelSpec(arch="timm:test_resnet", weights="none")
    source = make(spec, size=32, seed=1)
    save_file(dict(source.body.state_dict()), tmp_path / "w.safetensors")
    head = Head(pool="max", hidden=(5,))
    loaded = make(with_weights(spec, tmp_path / "w.safetensors").model_copy(update={"head": head}), size=32, seed=2)
    given = load_file(tmp_path / "w.safetensors")
    trunk = loaded.body.get_submodule("trunk").state_dict()
    assert len(trunk) == len(given) - 2
    assert all(torch.equal(value, given[name]) for name, value in trunk.items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {k: v for k, v in s.items() if ".6." not in k}, r"tensors are not in the file \(trunk.6"),  # a part
        (lambda s: {**s, "trunk.9.weight": torch.ones(2)}, r"unknown to the network \(trunk.9.weight"),  # too much
        (lambda s: {**s, "trunk.0.0.weight": torch.ones(4, 3, 1, 1)}, r"another shape \(trunk.0.0.weight"),  # a shape
        (lambda s: {f"layer{i}.w": v for i, v in enumerate(s.values())}, "All shapes agree.*another supplier"),  # names
    ],
)
def test_what_does_not_fit_is_refused(change: Callable[[State], State], message: str, tmp_path: Path) -> None:
    state = change(dict(make(CNN).body.state_dict()))
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(WeightsMismatch, match=message):
        make(with_weights(CNN, tmp_path / "w.safetensors"))


def test_files_that_are_no_weights_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such weights file"):
        make(with_weights(CNN, tmp_path / "absent.pth"))
    torch.save(make(CNN).body, tmp_path / "whole.pth")
    with pytest.raises(DataError, match="never runs pickled code"):
        make(with_weights(CNN, tmp_path / "whole.pth"))
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(DataError, match="no named tensors"):
        make(with_weights(CNN, tmp_path / "list.pth"))
    for name in ("cut.safetensors", "cut.pth"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 not really")
        with pytest.raises(DataError, match="cut"):
            make(with_weights(CNN, tmp_path / name))


@pytest.mark.parametrize(
    "arch", ["timm:test_vit", "torchvision:vit_b_32"]
)  # position embeddings are resized by each supplier's own code
def test_a_transformer_takes_weights_of_another_image_size(arch: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {}
    spec = ModelSpec(arch=arch, weights="none", options=options)
    source = make(spec, size=64, seed=1)
    save_file(dict(source.body.state_dict()), tmp_path / "w.safetensors")
    loaded = make(with_weights(spec, tmp_path / "w.safetensors"), size=96)
    name = next(name for name, _ in source.body.named_parameters() if "pos_embed" in name)
    assert loaded.body.get_parameter(name).shape != source.body.get_parameter(name).shape
    assert "the head too" in str(loaded.loaded)


@pytest.fixture
def no_connection(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Empty caches and no way out."""
    from huggingface_hub import constants

    def refuse(*_: object, **__: object) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.mark.parametrize(
    "arch", ["timm:test_resnet", "timm:resnet18.tv_in1k", "torchvision:shufflenet_v2_x0_5"]
)  # from the hub, with a tag, from a page
def test_without_a_connection_the_way_out_is_told_at_once(arch: str, no_connection: None) -> None:
    start = time.perf_counter()
    with pytest.raises(ResourceError, match=r'cannot be fetched \(Name or service.*weights = "path.*weights = "none"'):
        make(ModelSpec(arch=arch), size=32)
    assert time.perf_counter() - start < 10


def test_the_hub_switched_off_is_told(no_connection: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ResourceError, match="HF_HUB_OFFLINE is set"):
        make(ModelSpec(arch="timm:test_resnet"), size=32)


def test_weights_in_the_hubs_cache_need_no_connection(no_connection: None, tmp_path: Path) -> None:
    source = make(ModelSpec(arch="timm:test_resnet", weights="none"), classes=1000, size=32, seed=1)
    repository = tmp_path / "hub" / "models--timm--test_resnet.r160_in1k"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots" / "abc").mkdir(parents=True)
    save_file(dict(source.body.state_dict()), repository / "snapshots" / "abc" / "model.safetensors")
    loaded = make(ModelSpec(arch="timm:test_resnet"), size=32)
    assert same_trunk(source, loaded)
    assert loaded.card.licence == "apache-2.0"
    assert loaded.card.pretraining == "ImageNet-1k (r160_in1k)"


def test_weights_in_torchs_cache_need_no_connection(no_connection: None, tmp_path: Path) -> None:
    from torchvision.models import ShuffleNet_V2_X0_5_Weights

    arch = "torchvision:shufflenet_v2_x0_5"
    source = make(ModelSpec(arch=arch, weights="none"), classes=1000, size=32, seed=1)
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(source.body.state_dict(), folder / ShuffleNet_V2_X0_5_Weights.DEFAULT.url.rpartition("/")[2])
    loaded = make(ModelSpec(arch=arch), size=32)
    assert same_trunk(source, loaded)
    assert loaded.card.pretraining == "ImageNet-1k (IMAGENET1K_V1)"
    assert loaded.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])


def test_an_architecture_without_published_weights_is_told() -> None:
    arch = next(name for name in from_timm.names() if not from_timm.has_weights(name))
    with pytest.raises(UsageError, match=f"{arch}: timm publishes no weights"):
        make(ModelSpec(arch=f"timm:{arch}"), size=32)


def test_the_example_files(shared: Path) -> None:
    folder = shared / "weights"
    one = build(ModelSpec(arch="mobilenetv2_100", weights=f"{folder}/mobilenetv2_100_tf_ptq.safetensors"), 3, 32)
    assert one.loaded == "312 tensors loaded, the head starts at random; 2 tensors of the file left out"
    two = build(ModelSpec(arch="mobilenetv2_035", weights=f"{folder}/mobilenetv2_035_features.safetensors"), 3, 32)
    assert two.loaded == "312 tensors loaded, the head starts at random"
    assert weights_hash(one) != weights_hash(two)
    with pytest.raises(WeightsMismatch, match=r"5 of the network's tensors are not in the file \(conv5"):
        build(ModelSpec(arch="shufflenet_v2_x0_5", weights=f"{folder}/shufflenet_v2_x0_5_stages.safetensors"), 3, 32)
    with pytest.raises(WeightsMismatch, match="another supplier"):
        build(ModelSpec(arch="mobilenet_v2", weights=f"{folder}/mobilenetv2_100_tf_ptq.safetensors"), 1000, 32)
    with pytest.raises(WeightsMismatch, match="256 have another shape"):
        build(ModelSpec(arch="mobilenetv2_100", weights=f"{folder}/mobilenetv2_035_features.safetensors"), 3, 32)
