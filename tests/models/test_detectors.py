"""Detectors and instance segmenters keep one contract, whoever's heads they have, and learn where the objects are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torchvision.ops import box_iou

from bakeoff.data.dataset import TaskName
from bakeoff.data.examples import example
from bakeoff.data.load import Batch
from bakeoff.errors import ResourceError, UsageError, WeightsMismatch
from bakeoff.models import FAMILIES, build, from_detectors, small, weights
from bakeoff.models.detectors.anchors import GridAnchors
from bakeoff.models.detectors.heads import strides
from bakeoff.models.layers import flops
from bakeoff.models.spec import ModelSpec, Network
from bakeoff.models.trained import Trained, load, save, weights_hash
from bakeoff.train.recipe import Recipe, Stage
from bakeoff.train.stages import apply_stage

CLASSES, SIZE = 3, 64
THIN: dict[str, Any] = {"channels": 32}
ROWS: list[tuple[TaskName, str, dict[str, Any]]] = [
    ("detection", "faster_rcnn:test_efficientnet", {**THIN, "hidden": 64, "norm": "batch"}),
    ("detection", "retinanet:test_efficientnet", THIN),
    ("detection", "fcos:test_efficientnet", THIN),
    ("detection", "ssdlite:test_efficientnet", {}),
    ("instance", "mask_rcnn:test_efficientnet", {**THIN, "hidden": 64, "rois": 32, "proposals": 60, "mask_layers": 1}),
    ("detection", "fcos:test_vit", THIN),
    ("detection", "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn", {"box_score_thresh": 0.0}),
    ("detection", "torchvision:ssdlite320_mobilenet_v3_large", {"score_thresh": 0.0}),
    ("detection", "small:fcos", {}),
    ("detection", "small:faster_rcnn", {"width": 16}),
    ("instance", "small:mask_rcnn", {}),
    ("detection", "classics:rcnn_small", {}),
]
IDS = [arch for _, arch, _ in ROWS]


def make(task: TaskName, arch: str, options: dict[str, Any], size: int = SIZE, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return build(ModelSpec(arch=arch, weights="none", options=options), CLASSES, size, task)


def anything(arch: str) -> dict[str, Any]:
    """Return the options with which whatever is found is kept, so that there is something to look at."""
    return {} if arch.startswith(("small:", "torchvision:")) else {"threshold": 0.0}


def losses(network: Network, batch: Batch, seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    found: dict[str, torch.Tensor] = network(batch.images, batch.targets)
    return found


def total(found: dict[str, torch.Tensor]) -> float:
    return float(sum(value.detach() for value in found.values()))


def check_found(found: list[dict[str, torch.Tensor]], task: TaskName, batch: Batch) -> None:
    """Every promise of spec.Network about what is found."""
    assert len(found) == len(batch.images)
    for one in found:
        count = len(one["boxes"])
        assert one["boxes"].shape == (count, 4)
        assert one["labels"].shape == one["scores"].shape == (count,)
        assert count <= 100
        assert one["boxes"].dtype == one["scores"].dtype == torch.float32
        assert one["labels"].dtype == torch.int64
        assert ((one["labels"] >= 0) & (one["labels"] < CLASSES)).all()
        assert (one["scores"].diff() <= 0).all()
        assert (one["boxes"][:, 2:] > one["boxes"][:, :2]).all()
        assert ((one["boxes"] >= 0) & (one["boxes"] <= batch.images.shape[-1])).all()
        assert ("masks" in one) == (task == "instance")
        if task == "instance":
            assert one["masks"].shape == (count, *batch.images.shape[-2:])
            assert one["masks"].dtype == torch.float32
            assert ((one["masks"] >= 0) & (one["masks"] <= 1)).all()


@pytest.mark.parametrize("size", [64, 72])  # a multiple of 32, and one that is padded inside
@pytest.mark.parametrize(("task", "arch", "options"), ROWS, ids=IDS)
def test_the_contract(task: TaskName, arch: str, options: dict[str, Any], size: int) -> None:
    network = make(task, arch, {**options, **anything(arch)}, size).train()
    batch = example(task, CLASSES, 2, size)
    batch.targets[1] = {name: value[:0] for name, value in batch.targets[1].items()}  # an image without objects
    found = losses(network, batch)
    assert all(value.shape == () and value.dtype == torch.float32 and value.isfinite() for value in found.values())
    sum(found.values(), torch.zeros(())).backward()
    assert not [name for name, parameter in network.named_parameters() if parameter.grad is None]
    grouped = [name for group in network.groups for name in group]
    assert sorted(grouped) == sorted(name for name, _ in network.body.named_parameters())
    with torch.inference_mode():
        check_found(network.eval()(batch.images), task, batch)


@pytest.mark.parametrize(("task", "arch", "options"), ROWS, ids=IDS)
def test_only_the_last_group_depends_on_the_classes(task: TaskName, arch: str, options: dict[str, Any]) -> None:
    with torch.device("meta"):
        network, wider = (
            build(ModelSpec(arch=arch, weights="none", options=options), classes, SIZE, task) for classes in (3, 5)
        )
    shapes = {name: parameter.shape for name, parameter in wider.body.named_parameters()}
    differ = {name for name, parameter in network.body.named_parameters() if parameter.shape != shapes[name]}
    assert differ
    assert differ <= set(network.groups[-1])
    assert len(network.groups) > 3


@pytest.mark.parametrize(("task", "arch", "options"), ROWS, ids=IDS)
def test_bf16_and_channels_last_round_the_losses(task: TaskName, arch: str, options: dict[str, Any]) -> None:
    network = make(task, arch, options).train()
    batch = example(task, CLASSES, 2, SIZE)
    plain = total(losses(network, batch))
    assert plain == total(losses(network, batch))  # the draws are those of the step's seed
    moved = batch.to("cpu", channels_last=True)
    network = network.to(memory_format=torch.channels_last)
    assert total(losses(network, moved)) == pytest.approx(plain, rel=1e-3)
    with torch.autocast("cpu", torch.bfloat16):
        found = losses(network, moved)
        assert {value.dtype for value in found.values()} == {torch.float32}
        assert total(found) == pytest.approx(plain, rel=0.1)
        with torch.inference_mode():
            check_found(network.eval()(moved.images), task, moved)


@pytest.mark.parametrize(("task", "arch", "options"), ROWS[:5], ids=IDS[:5])
def test_a_batch_is_learned(task: TaskName, arch: str, options: dict[str, Any]) -> None:
    network = make(task, arch, options).train()
    batch = example(task, CLASSES, 4, SIZE)
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3)
    first = total(losses(network, batch))
    for step in range(80):
        loss = sum(losses(network, batch, step).values(), torch.zeros(()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.5 * first
    for module in network.modules():  # few steps: the running statistics lag behind
        if isinstance(module, torch.nn.BatchNorm2d):
            module.track_running_stats, module.running_mean, module.running_var = False, None, None
    with torch.inference_mode():
        found = network.eval()(batch.images)
    hits = [hit for one, target in zip(found, batch.targets, strict=True) for hit in matches(one, target)]
    assert sum(hits) >= 0.75 * len(hits)


def matches(found: dict[str, torch.Tensor], target: dict[str, torch.Tensor]) -> Iterator[bool]:
    """Say of every true object whether one of its class lies on it, and its mask too."""
    overlap = box_iou(target["boxes"], found["boxes"]) * (target["labels"][:, None] == found["labels"])
    for place, row in enumerate(overlap):
        best = int(row.argmax()) if len(row) else 0
        hit = bool(len(row)) and float(row[best]) > 0.5
        if hit and "masks" in target:
            one, two = found["masks"][best] >= 0.5, target["masks"][place] > 0
            hit = float((one & two).sum() / (one | two).sum()) > 0.5
        yield hit


def test_frozen_heads_still_give_losses_and_training_networks_predictions() -> None:
    network = make(*ROWS[0])
    batch = example("detection", CLASSES, 2, SIZE)
    apply_stage(network, Stage(layers="backbone"))
    found = losses(network, batch)
    sum(found.values(), torch.zeros(())).backward()
    assert {name for name, p in network.body.named_parameters() if p.grad is not None} == {
        name for group in network.groups[:-1] for name in group
    }
    modes = [module.training for module in network.modules()]
    check_found(network.train()(batch.images), "detection", batch)
    apply_stage(network, Recipe().stages[0])
    assert sum(module.training for module in network.modules()) > sum(modes)


@pytest.mark.parametrize(("task", "arch", "options"), [ROWS[0], ROWS[4]], ids=[IDS[0], IDS[4]])
def test_a_trained_detector_is_read_back(task: TaskName, arch: str, options: dict[str, Any], tmp_path: Path) -> None:
    network = make(task, arch, {**options, "threshold": 0.0}).eval()
    spec = ModelSpec(arch=arch, weights="none", options={**options, "threshold": 0.0})
    save(tmp_path, Trained(network, spec, task, ("a", "b", "c"), SIZE, "squash"))
    images = example(task, CLASSES, 1, SIZE).images
    with torch.inference_mode():
        one, two = network(images)[0], load(tmp_path).network(images)[0]
    assert len(one["boxes"])
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_convnext"])  # timm's own names, and renamed parts
def test_a_file_fills_the_backbone(backbone: str, tmp_path: Path) -> None:
    torch.manual_seed(5)
    source = timm.create_model(backbone, num_classes=7).state_dict()
    save_file(source, tmp_path / "w.safetensors", metadata={"license": "MIT"})
    spec = ModelSpec(arch=f"fcos:{backbone}", weights=str(tmp_path / "w.safetensors"), options=THIN)
    network = build(spec, CLASSES, SIZE, "detection")
    trunk = network.body.get_submodule("model.backbone.trunk").state_dict()
    given = {content(value) for value in source.values()}
    assert trunk
    assert {content(value) for value in trunk.values()} <= given
    assert network.card.licence == "MIT"
    assert network.loaded == f"{len(trunk)} tensors of the backbone loaded; neck and heads start at random"
    other = spec.model_copy(update={"arch": "fcos:test_resnet"})
    with pytest.raises(WeightsMismatch, match="does not fit the network"):
        build(other, CLASSES, SIZE, "detection")


def content(tensor: torch.Tensor) -> bytes:
    """Return what tells a tensor from all others."""
    return str(tuple(tensor.shape)).encode() + tensor.numpy().tobytes()


def test_options_reach_the_backbone(shared: Path) -> None:
    file = shared / "weights" / "mobilenetv2_100_tf_ptq.safetensors"
    spec = ModelSpec(arch="retinanet:mobilenetv2_100", weights=str(file), options={**THIN, "pad_type": "same"})
    network = build(spec, CLASSES, SIZE, "detection")
    stem = network.body.get_submodule("model.backbone.trunk.conv_stem")
    assert type(stem).__name__ == "Conv2dSame"
    assert "306 tensors" in str(network.loaded)


@pytest.mark.parametrize(
    ("arch", "options", "message"),
    [
        ("fcos:resnet5O", {}, r"no backbone 'resnet5O' \(did you mean resnet50\?\)"),  # a letter for a digit
        ("fcos:test_efficientnet", {"hidden": 8}, "fcos has no option 'hidden'"),  # another kind's
        ("fcos:test_efficientnet", {"chanels": 8}, "chanels"),  # unknown to us and to timm
        ("fcos:test_efficientnet", {"channels": "many"}, "option channels = 'many'"),  # no number
        ("retinanet:test_efficientnet", {"channels": 40}, "no multiple of 32"),  # groups do not divide it
        ("fcos:vit_tiny_patch16_224", {"patch_size": 14}, "of stride 14"),  # no power of two
        ("torchvision:fcos_resnet50_fpn", {"score_tresh": 0.1}, r"no option 'score_tresh' \(did you mean score_thresh"),
        ("torchvision:ssd300_vgg16", {}, "cannot take images of 64 x 64"),  # too small for its last layers
        ("small:fcos", {"widht": 8}, r"no option 'widht' \(did you mean width"),  # a typo
        ("yolo:test_efficientnet", {}, "no model 'yolo:test_efficientnet' for detection"),  # no such kind
        ("mask_rcnn:test_efficientnet", {}, "it is for instance"),  # another task's
    ],
)
def test_what_cannot_be_built_is_told(arch: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(ModelSpec(arch=arch, weights="none", options=options), CLASSES, SIZE, "detection")


def test_weights_that_cannot_be_had_are_told() -> None:
    with pytest.raises(ResourceError, match="HF_HUB_OFFLINE"):
        build(ModelSpec(arch="fcos:resnet18.a1_in1k"), CLASSES, SIZE, "detection")
    with pytest.raises(UsageError, match='has no weights "COCO_V2"; it has none, pretrained, COCO_V1, or give a file'):
        build(ModelSpec(arch="torchvision:fcos_resnet50_fpn", weights="COCO_V2"), CLASSES, SIZE, "detection")
    with pytest.raises(UsageError, match="publishes no weights"):
        build(ModelSpec(arch="fcos:seresnet18"), CLASSES, SIZE, "detection")


def test_a_file_of_a_small_detector_leaves_other_classes_out(tmp_path: Path) -> None:
    source = make("instance", "small:mask_rcnn", {})
    save_file(source.body.state_dict(), tmp_path / "w.safetensors")
    spec = ModelSpec(arch="small:mask_rcnn", weights=str(tmp_path / "w.safetensors"))
    same, other = build(spec, CLASSES, SIZE, "instance"), build(spec, CLASSES + 2, SIZE, "instance")
    assert weights_hash(same) == weights_hash(source)
    trunk = "model.backbone.trunk.stem.0.weight"
    assert torch.equal(other.body.get_parameter(trunk), source.body.get_parameter(trunk))
    assert "the head starts at random" in str(other.loaded)


def older(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Name tensors as torchvision's first Mask R-CNN file does, whose frozen norms count no batches."""
    swaps = {"rpn.head.conv.0.0.": "rpn.head.conv.", "mask_head.0.0.": "mask_head.mask_fcn1."}
    swaps |= {f"{block}_blocks.{i}.0.": f"{block}_blocks.{i}." for block in ("inner", "layer") for i in range(4)}
    swaps |= {f"mask_head.{i}.0.": f"mask_head.mask_fcn{i + 1}." for i in range(4)}
    found = {}
    for name, value in state.items():
        for new, old in swaps.items():
            name = name.replace(new, old)
        found[name] = value
    return {name: value for name, value in found.items() if "num_batches" not in name}


def test_published_weights_of_a_whole_detector_lose_their_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    source = torchvision.models.get_model("maskrcnn_resnet50_fpn", weights=None, weights_backbone=None).state_dict()
    monkeypatch.setattr(weights, "published_state", lambda *_: older(source))
    network = build(ModelSpec(arch="torchvision:maskrcnn_resnet50_fpn"), CLASSES, SIZE, "instance")
    own = network.body.get_submodule("model").state_dict()
    differ = {name for name, value in own.items() if not torch.equal(value, source[name])}
    assert differ == {
        f"roi_heads.{layer}.{kind}"
        for layer in ("box_predictor.cls_score", "box_predictor.bbox_pred", "mask_predictor.mask_fcn_logits")
        for kind in ("weight", "bias")
    }
    assert network.card.pretraining == "COCO (COCO_V1)"
    assert network.groups[-1][0] == "model.backbone.fpn.inner_blocks.0.0.weight"


@pytest.mark.parametrize(
    ("kind", "size", "expected"),
    [
        ("faster_rcnn", 800, [4, 8, 16, 32, 64]),  # the paper
        ("retinanet", 800, [8, 16, 32, 64, 128]),  # the paper
        ("fcos", 800, [8, 16, 32, 64, 128]),  # the paper
        ("ssdlite", 320, [16, 32]),  # the paper, less the extra blocks
        ("retinanet", 160, [8, 16, 32, 64]),  # anchors of 16, 32, 64, 128 pixels
        ("fcos", 64, [4, 8, 16, 32]),  # a finer map for a small image
        ("ssdlite", 64, [4, 8, 16, 32]),  # as many cells along the side
    ],
)
def test_maps_suit_the_image_size(kind: str, size: int, expected: list[int]) -> None:
    assert strides(kind, size) == expected


def test_anchors_lie_evenly_over_the_image_whatever_the_precision() -> None:
    anchors = GridAnchors([[16.0], [64.0]], (0.5, 1.0, 2.0), [32, 64])
    maps = [torch.zeros(1, 1, 5, 5, dtype=torch.bfloat16), torch.zeros(1, 1, 3, 3, dtype=torch.bfloat16)]
    (found,) = anchors(type("Images", (), {"image_sizes": [(160, 160)]}), maps)
    assert found.dtype == torch.float32
    centres = (found[:, :2] + found[:, 2:]) / 2
    assert sorted(set(centres[:75, 0].tolist())) == [16.0, 48.0, 80.0, 112.0, 144.0]
    assert sorted(set(centres[75:, 1].tolist())) == [32.0, 96.0, 160.0]


def test_operations_are_counted_on_fixed_numbers_of_objects() -> None:
    spec = ModelSpec(arch="mask_rcnn:test_efficientnet", weights="none", options={**THIN, "hidden": 64})
    network = build(spec, CLASSES, SIZE, "instance")
    with torch.device("meta"):
        bare = build(spec, CLASSES, SIZE, "instance")
        expected = flops(bare, SIZE)
    assert flops(network, SIZE) == expected
    fewer = spec.model_copy(update={"options": {**spec.options, "proposals": 100}})
    first = 2 * (32 * 49 * 64 + 64 * 64 + 64 * (CLASSES + 1) * 5)  # of the box head for one proposal
    assert expected - flops(build(fewer, CLASSES, SIZE, "instance"), SIZE) == 200 * first


def test_names_are_found_by_task() -> None:
    assert {*small.names("detection")} == {"fcos", "faster_rcnn"}
    assert small.names("instance") == ("mask_rcnn",)
    assert all(from_detectors.has(name, "detection") for name in from_detectors.names("detection"))
    assert all(from_detectors.has(name, "instance") for name in from_detectors.names("instance"))
    assert not from_detectors.names("classification")
    assert not from_detectors.has("mask_rcnn:resnet50", "detection")
    assert {family.NAME for family in FAMILIES} >= {from_detectors.NAME}
    assert all(timm.is_model(name.partition(":")[2]) for name in from_detectors.names("detection"))
