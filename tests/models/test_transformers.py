"""Networks of the transformers library keep the contract of all detectors, in small."""

from __future__ import annotations

import importlib.util
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.ops import box_iou

from bakeoff.data.dataset import TaskName
from bakeoff.data.examples import example
from bakeoff.data.load import Batch
from bakeoff.errors import ResourceError, UsageError, WeightsMismatch
from bakeoff.models import build, find, from_transformers, weights
from bakeoff.models.detectors.published import KINDS, PUBLISHED
from bakeoff.models.layers import describe, flops
from bakeoff.models.spec import ModelSpec, Network
from bakeoff.models.trained import Trained, load, save, weights_hash
from bakeoff.train.recipe import Stage
from bakeoff.train.stages import apply_stage

pytest.importorskip("transformers")
CLASSES, SIZE = 3, 64
ENCODER: dict[str, Any] = {
    "encoder_hidden_dim": 32,
    "encoder_ffn_dim": 32,
    "encoder_attention_heads": 2,
    "d_model": 32,
    "decoder_in_channels": [32, 32, 32],
    "decoder_ffn_dim": 32,
    "decoder_layers": 2,
    "decoder_attention_heads": 2,
    "num_denoising": 10,
}
RESNET: dict[str, Any] = {
    "embedding_size": 8,
    "hidden_sizes": [8, 16, 24, 32],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
}
HGNET: dict[str, Any] = {
    "stem_channels": [3, 8, 8],
    "stage_in_channels": [8, 16, 24, 32],
    "stage_mid_channels": [8] * 4,
}
HGNET |= {"stage_out_channels": [16, 24, 32, 48], "stage_num_blocks": [1] * 4, "stage_numb_of_layers": [2] * 4}
HGNET |= {"hidden_sizes": [16, 24, 32, 48], "depths": [1] * 4, "embedding_size": 8}
DINO: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "image_size": 64,
    "out_indices": [2, 4],
}
SWIN: dict[str, Any] = {
    "embed_dim": 16,
    "depths": [1] * 4,
    "num_heads": [2] * 4,
    "window_size": 4,
    "drop_path_rate": 0.0,
}
MASKS = {"num_attention_heads": 2, "num_queries": 12, "train_num_points": 256}
ROWS: dict[str, tuple[TaskName, dict[str, Any]]] = {
    "rtdetr_v2_r18vd": (
        "detection",
        {**ENCODER, "encoder_in_channels": [16, 24, 32], "backbone_config": RESNET},
    ),
    "dfine_small": (
        "detection",
        {**ENCODER, "encoder_in_channels": [24, 32, 48], "decoder_n_points": [2, 2, 2], "backbone_config": HGNET},
    ),
    "rf_detr_nano": (
        "detection",
        {
            "d_model": 32,
            "decoder_ffn_dim": 32,
            "decoder_self_attention_heads": 2,
            "decoder_cross_attention_heads": 2,
            "group_detr": 2,
            "dropout": 0.0,
            "backbone_config": DINO,
        },
    ),
    "rtdetr_v2:test_efficientnet": ("detection", ENCODER),
    "dfine:test_vit": ("detection", {**ENCODER, "decoder_n_points": [2, 2, 2]}),
    "mask2former_swin_tiny": (
        "instance",
        {
            **MASKS,
            "feature_size": 32,
            "mask_feature_size": 32,
            "hidden_dim": 32,
            "encoder_feedforward_dim": 32,
            "encoder_layers": 1,
            "decoder_layers": 2,
            "dim_feedforward": 32,
            "backbone_config": SWIN,
        },
    ),
    "eomt_large": ("instance", {**MASKS, "hidden_size": 32, "num_hidden_layers": 4, "num_blocks": 2}),
}


def spec_of(arch: str, weights: str = "none") -> ModelSpec:
    return ModelSpec(arch=arch, weights=weights, options=ROWS[arch][1])


def make(arch: str, size: int = SIZE, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return build(spec_of(arch), CLASSES, size, ROWS[arch][0])


def loss_of(network: Network, batch: Batch, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    found: dict[str, torch.Tensor] = network(batch.images, batch.targets)
    return sum(found.values(), torch.zeros(()))


@pytest.mark.parametrize("arch", ROWS)
def test_the_contract(arch: str) -> None:
    task, size = ROWS[arch][0], 72  # padded inside
    network = make(arch, size).train()
    batch = example(task, CLASSES, 2, size)
    batch.targets[1] = {name: value[:0] for name, value in batch.targets[1].items()}  # an image without objects
    loss = loss_of(network, batch)
    assert loss.shape == ()
    assert loss.isfinite()
    assert float(loss.detach()) == float(loss_of(network, batch).detach())  # the draws are those of the step's seed
    loss.backward()
    assert not [name for name, parameter in network.named_parameters() if parameter.grad is None]
    grouped = [name for group in network.groups for name in group]
    assert sorted(grouped) == sorted(name for name, _ in network.body.named_parameters())
    assert len(network.groups) > 1
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        found = network.eval()(batch.images)
    assert len(found) == 2
    for one in found:
        assert 0 < len(one["boxes"]) == len(one["labels"]) == len(one["scores"]) <= 100
        assert one["boxes"].dtype == one["scores"].dtype == torch.float32
        assert ((one["labels"] >= 0) & (one["labels"] < CLASSES)).all()
        assert (one["scores"].diff() <= 0).all()
        assert (one["boxes"][:, 2:] > one["boxes"][:, :2]).all()
        assert ((one["boxes"] >= 0) & (one["boxes"] <= size)).all()
        if task == "instance":
            assert one["masks"].shape == (len(one["boxes"]), size, size)
            assert ((one["masks"] >= 0) & (one["masks"] <= 1)).all()


@pytest.mark.parametrize(("arch", "steps"), [("rtdetr_v2:test_efficientnet", 120), ("eomt_large", 150)])
def test_a_batch_is_learned(arch: str, steps: int) -> None:
    task = ROWS[arch][0]
    network = make(arch).train()
    batch = example(task, CLASSES, 3, SIZE)
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3)
    for step in range(steps):
        optimiser.zero_grad()
        loss_of(network, batch, step).backward()
        optimiser.step()
    for module in network.modules():  # few steps: the running statistics lag behind
        if isinstance(module, torch.nn.BatchNorm2d):
            module.track_running_stats, module.running_mean, module.running_var = False, None, None
    with torch.inference_mode():
        found = network.eval()(batch.images)
    hits = []
    for one, target in zip(found, batch.targets, strict=True):
        same = target["labels"][:, None] == one["labels"][:10]
        hits += ((box_iou(target["boxes"], one["boxes"][:10]) * same).amax(1) > 0.5).tolist()
    assert sum(hits) >= 0.7 * len(hits)


@pytest.mark.parametrize("arch", ["dfine_small", "mask2former_swin_tiny", "eomt_large", "rf_detr_nano"])
def test_operations_and_layers_are_counted_without_values(arch: str) -> None:
    table, operations = describe(spec_of(arch), CLASSES, SIZE, ROWS[arch][0])
    network = make(arch)
    assert table.total_parameters == sum(parameter.numel() for parameter in network.parameters())
    assert operations == flops(network, SIZE) > 0


def test_a_frozen_head_still_gives_a_loss() -> None:
    network = make("dfine_small")
    apply_stage(network, Stage(layers="backbone"))
    modes = [module.training for module in network.modules()]
    loss_of(network, example("detection", CLASSES, 2, SIZE)).backward()
    assert {name for name, p in network.body.named_parameters() if p.grad is not None} == {
        name for group in network.groups[:-1] for name in group
    }
    assert modes == [module.training for module in network.modules()]


@pytest.mark.parametrize("arch", ["dfine_small", "mask2former_swin_tiny"])
def test_a_trained_network_is_read_back_and_its_file_fills_another(arch: str, tmp_path: Path) -> None:
    task = ROWS[arch][0]
    network = make(arch).eval()
    save(tmp_path, Trained(network, spec_of(arch, "pretrained"), task, ("a", "b", "c"), SIZE, "squash"))
    assert weights_hash(load(tmp_path).network) == weights_hash(network)
    other = build(spec_of(arch, str(tmp_path / "model.safetensors")), CLASSES + 1, SIZE, task)
    same = {name for name, value in other.body.state_dict().items() if equal(value, network.body.state_dict()[name])}
    assert "the head starts at random" in str(other.loaded)
    assert {name for group in other.groups[:-1] for name in group} <= same


def equal(one: torch.Tensor, two: torch.Tensor) -> bool:
    return one.shape == two.shape and torch.equal(one, two)


def test_published_weights_are_taken_less_the_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arch = "rtdetr_v2_r18vd"
    source: Any = build(spec_of(arch), CLASSES + 5, SIZE, "detection").body.get_submodule("model")
    source.save_pretrained(tmp_path)
    monkeypatch.setitem(PUBLISHED, arch, replace(PUBLISHED[arch], hub=str(tmp_path)))
    monkeypatch.setattr(weights, "fetching", lambda *_: nullcontext())
    network = build(spec_of(arch, "pretrained"), CLASSES, SIZE, "detection")
    state = source.state_dict()
    differ = {name for name, v in network.body.get_submodule("model").state_dict().items() if not equal(v, state[name])}
    assert differ
    assert all("class" in name or "score" in name for name in differ)
    assert network.card.licence == "apache-2.0"
    wider = spec_of(arch, "pretrained").model_copy(update={"options": {**ROWS[arch][1], "decoder_ffn_dim": 48}})
    with pytest.raises(WeightsMismatch, match="not in the published weights in this shape"):
        build(wider, CLASSES, SIZE, "detection")


@pytest.mark.parametrize(
    ("arch", "options", "message"),
    [
        ("rtdetr_v2_r18vd", {"num_querys": 3}, r"no option 'num_querys' \(did you mean num_queries"),  # a typo
        ("rtdetr_v2_r18vd", {"num_queries": "many"}, "cannot be configured"),  # no number
        ("dfine_smal", {}, r"did you mean dfine_small"),  # a letter lost
        ("dfine:test_efficientnet", {"colour": 1}, "colour"),  # unknown to timm
        ("eomt_large", {"num_attention_heads": 5}, "cannot be built"),  # does not divide the width
    ],
)
def test_what_cannot_be_built_is_told(arch: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message), torch.device("meta"):
        build(
            ModelSpec(arch=arch, source="transformers", weights="none", options=options),
            CLASSES,
            SIZE,
            "detection" if "eomt" not in arch else "instance",
        )


def test_without_the_library_or_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ResourceError, match="HF_HUB_OFFLINE"):
        build(ModelSpec(arch="rf_detr_nano"), CLASSES, 384, "detection")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(UsageError, match=r"pip install 'bakeoff\[detect\]'"):
        build(ModelSpec(arch="rf_detr_nano"), CLASSES, 384, "detection")


def test_every_published_network_has_parameters_as_published() -> None:
    millions = {"rtdetr_v2_r18vd": 20, "rtdetr_v2_r50vd": 42, "dfine_nano": 4, "dfine_small": 10, "dfine_medium": 19}
    millions |= {"dfine_large": 31, "rtdetr_v2_r101vd": 76, "mask2former_swin_tiny": 47}  # their papers' tables
    for arch, one in PUBLISHED.items():
        task = KINDS[one.kind].task
        assert find(arch, task=task).NAME == from_transformers.NAME
        if arch in millions:
            with torch.device("meta"):
                network = build(ModelSpec(arch=arch, weights="none"), 80, 320, task)
            found = sum(parameter.numel() for parameter in network.parameters()) / 1e6
            assert found == pytest.approx(millions[arch], rel=0.06)
