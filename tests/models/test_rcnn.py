"""R-CNN: selective search finds where objects may be, and the classifier of crops learns which they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from torchvision.ops import box_iou

from bakeoff.data.load import Batch
from bakeoff.data.scenes import write_scenes
from bakeoff.data.targets import Boxes
from bakeoff.errors import UsageError
from bakeoff.evaluate.outcomes import stack
from bakeoff.models import build, catalogue
from bakeoff.models.classics import crop_detector
from bakeoff.models.classics.crop_detector import CropDetector
from bakeoff.models.classics.graph_segments import segments
from bakeoff.models.classics.selective_search import propose
from bakeoff.models.layers import describe, flops
from bakeoff.models.spec import Head, ModelSpec, Network
from bakeoff.tasks.detection import Detection

SCENES, CLASSES = 12, 10


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Batch:
    """Return digit scenes of 64 pixels with their boxes."""
    folder = write_scenes(tmp_path_factory.mktemp("scenes") / "data", "detection", SCENES)
    content = json.loads((folder / "annotations" / "instances.json").read_text())
    pixels = [np.asarray(Image.open(folder / image["file_name"])) for image in content["images"]]
    targets = []
    for image in content["images"]:
        mine = [entry for entry in content["annotations"] if entry["image_id"] == image["id"]]
        boxes = torch.tensor([entry["bbox"] for entry in mine], dtype=torch.float32)
        boxes[:, 2:] += boxes[:, :2]
        targets.append({"boxes": boxes, "labels": torch.tensor([entry["category_id"] - 1 for entry in mine])})
    return Batch(torch.tensor(np.stack(pixels)).permute(0, 3, 1, 2) / 255, targets)


def make(arch: str = "rcnn_small", size: int = 64, **options: Any) -> Network:
    torch.manual_seed(0)
    return build(ModelSpec(arch=arch, weights="none", options=options), CLASSES, size, "detection")


def body(network: Network) -> CropDetector:
    assert isinstance(network.body, CropDetector)
    return network.body


def flat() -> NDArray[np.uint8]:
    """Return a picture of two rectangles on a plain ground."""
    picture = np.full((40, 60, 3), 30, np.uint8)
    picture[5:20, 8:25], picture[22:36, 30:55] = (200, 40, 40), (40, 60, 210)
    return picture


def test_regions_of_even_colour_are_found() -> None:
    found = segments(flat(), 30)
    cores = [found[0, 0], found[12, 16], found[29, 42]]
    assert len(set(cores)) == 3
    assert (found[8:17, 11:22] == cores[1]).all()
    assert (found[25:33, 33:52] == cores[2]).all()
    sizes = np.bincount(found.ravel())
    assert sizes.min() >= 4
    assert not segments(np.full((8, 9, 3), 7, np.uint8), 5).any()  # one region


def test_boxes_of_plain_rectangles_are_proposed() -> None:
    found = torch.from_numpy(propose(flat(), 100))
    wanted = torch.tensor([[8.0, 5, 25, 20], [30, 22, 55, 36], [0, 0, 60, 40]])
    assert (box_iou(wanted, found).amax(1) > 0.85).all()
    assert len(found) == len(set(map(tuple, found.tolist())))
    assert propose(np.full((40, 60, 3), 90, np.uint8), 100).tolist() == [[0, 0, 60, 40]]


def test_digits_are_among_the_proposals(scenes: Batch) -> None:
    hits = []
    for image, target in zip(scenes.images, scenes.targets, strict=True):
        pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
        found = torch.from_numpy(propose(pixels, 300))
        assert len(found) <= 300
        assert np.array_equal(found, propose(pixels.copy(), 300))  # nothing is drawn anew
        hits += (box_iou(target["boxes"], found).amax(1) >= 0.7).tolist()
    assert np.mean(hits) >= 0.95


def test_proposals_are_searched_once_for_each_content(scenes: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    network, searched = make().eval(), []

    def counted(pixels: NDArray[np.uint8], most: int) -> NDArray[np.float32]:
        searched.append(most)
        return propose(pixels, most)

    monkeypatch.setattr(crop_detector, "propose", counted)
    with torch.inference_mode():
        first = network(scenes.images[:2])
        again = network(scenes.images[:2].clone())
        network(scenes.images[:2].flip(3))
    assert searched == [500] * 4
    assert all(torch.equal(one["boxes"], two["boxes"]) for one, two in zip(first, again, strict=True))
    monkeypatch.setattr(crop_detector, "REMEMBERED", 1)
    body(network).proposals(scenes.images[2])
    assert len(body(network).remembered) == 1


def test_crops_show_the_box_and_some_context() -> None:
    mean = torch.tensor([0.2, 0.4, 0.6]).view(1, 3, 1, 1)
    crops = crop_detector.Crops(227, mean)
    image = torch.zeros(1, 3, 100, 100)
    image[..., 40:60, 40:60] = 1.0
    cut = crops(image, [torch.tensor([[40.0, 40, 60, 60], [-30, -30, -5, -5]])], None)
    assert cut.shape == (2, 3, 227, 227)
    assert cut[0, 0, 113].gt(0.5).nonzero()[[0, -1], 0].tolist() == [16, 210]  # the paper's 16 pixels on either side
    assert torch.equal(cut[1], mean[0].expand(3, 227, 227))  # nothing there but the mean colour


def test_scenes_are_learned(scenes: Batch) -> None:
    network, task = make(rois=24).train(), Detection(tuple("0123456789"))
    batch = Batch(scenes.images[:6], scenes.targets[:6])
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3)
    for step in range(60):
        torch.manual_seed(step)
        optimiser.zero_grad()
        task.loss(network, batch).backward()
        optimiser.step()
    with torch.inference_mode():
        predictions = task.predict(network.eval(), batch.images)
    truths = [Boxes((64, 64), one["boxes"].double().numpy(), one["labels"].numpy()) for one in batch.targets]
    rows = [task.outcome(found, truth) for found, truth in zip(predictions, truths, strict=True)]
    assert task.metrics(stack(rows, tuple("012345"), task.classes))["map50"] > 0.8


def test_every_crop_costs_a_whole_network() -> None:
    few, many = (flops(make(proposals=count), 64) for count in (10, 100))
    assert many == 10 * few
    table, counted = describe(ModelSpec(arch="rcnn", weights="none", options={"proposals": 7}), 3, 224, "detection")
    assert counted % 7 == 0
    assert table.rows[-1].shape == (20,)  # a logit and four corrections for three classes and the background


def test_a_backbone_takes_a_classifier_s_file_and_the_network_its_own(tmp_path: Path) -> None:
    torch.manual_seed(4)
    source = build(ModelSpec(arch="timm:test_resnet", weights="none"), 7, 64)
    save_file(source.body.state_dict(), tmp_path / "classifier.safetensors")
    options = {"backbone": "timm:test_resnet", "crop": 32}
    spec = ModelSpec(arch="rcnn", weights=str(tmp_path / "classifier.safetensors"), options=options)
    network = build(spec, CLASSES, 64, "detection")
    stem = body(network).backbone.get_parameter("body.trunk.conv1.0.weight")
    assert torch.equal(stem, source.body.get_parameter("conv1.0.weight"))
    save_file(network.body.state_dict(), tmp_path / "whole.safetensors")
    whole = spec.model_copy(update={"weights": str(tmp_path / "whole.safetensors")})
    same, other = build(whole, CLASSES, 64, "detection"), build(whole, 3, 64, "detection")
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), same.parameters(), strict=True))
    assert "the head starts at random" in str(other.loaded)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            ModelSpec(arch="rcnn@none", options={"backbone": "resnet5O"}),
            r"no backbone 'resnet5O' \(did you mean resnet50",
        ),
        (ModelSpec(arch="rcnn@none", options={"backbone": "smp:unet"}), "no backbone 'smp:unet'"),  # not a classifier
        (ModelSpec(arch="rcnn_small@none", options={"rois": 1}), "option rois = 1: .* greater than or equal to 4"),
        (ModelSpec(arch="rcnn_small@none", options={"widht": 8}), r"no option 'widht' \(did you mean width"),  # a typo
        (ModelSpec(arch="rcnn_small"), "no published weights"),  # nobody has any
        (ModelSpec(arch="rcnn_small@none", head=Head(pool="avg")), "head options are for classification"),
    ],
)
def test_what_cannot_be_built_is_told(spec: ModelSpec, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(spec, 2, 64, "detection")


def test_rcnn_is_listed_with_the_weights_of_its_backbone() -> None:
    entry = catalogue.entry("rcnn")
    assert entry.tasks == ("detection",)
    assert entry.pretraining == "ImageNet-1k (IMAGENET1K_V1)"
    assert not catalogue.entry("rcnn_small").has_weights
