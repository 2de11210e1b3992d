"""Guards: planted faults are named with their reason, and sound networks of every supplier raise no alarm."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bakeoff.errors import UsageError
from bakeoff.guards import check, findings, probes
from bakeoff.guards.subject import Subject
from bakeoff.models import FAMILIES, TASK_NAMES
from bakeoff.models.small_dense import Decoder

OWN = """
import torch
from torch import nn
from torch.nn import functional as F


def conv(channels, width):
    return nn.Sequential(nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())


class UNet(nn.Module):
    head_name = "head"

    def __init__(self, classes, fault, added):
        super().__init__()
        self.fault, self.added = fault, added
        self.fine, self.coarse, self.deep = conv(3, 8), conv(8, 8), conv(8, 8)
        self.up, self.last = conv(8 if added else 16, 8), conv(8 if added else 16, 8)
        self.head = nn.Conv2d(8, classes, 1)
        self.scale = nn.Parameter(torch.zeros(1))

    def join(self, deep, skip):
        if self.fault == "times 0":
            skip = skip * 0
        if self.fault == "zeros":
            skip = torch.zeros_like(skip)
        if self.fault == "gate":  # starts shut, and is learned
            skip = skip * self.scale
        deep = F.interpolate(deep, scale_factor=2.0)
        return deep + skip if self.added else torch.cat([deep, skip], dim=1)

    def forward(self, images):
        fine = self.fine(images)
        coarse = self.coarse(F.max_pool2d(fine, 2))
        deep = self.deep(F.max_pool2d(coarse, 2))
        if self.fault == "detach":
            deep = deep.detach()
        if self.fault == "blind":
            fine, coarse, deep = fine * 0, coarse * 0, deep * 0
        if self.fault == "nan":
            deep = deep / (deep - deep)
        up = self.up(self.join(deep, coarse))
        if self.fault != "gate":
            up = up + self.scale.expand_as(up[:1])
        return self.head(self.last(self.join(up, fine)))


def unet(classes, size, fault="", added=False):
    return UNet(classes, fault, added)


class Label(nn.Module):
    head_name = "head"

    def __init__(self, classes, fault):
        super().__init__()
        self.fault, self.trunk, self.head = fault, conv(3, 16), nn.Linear(16, classes)

    def forward(self, images):
        features = self.trunk(images).mean((2, 3))
        return self.head(features.detach() if self.fault == "detach" else features * (self.fault != "blind"))


def label(classes, size, fault=""):
    return Label(classes, fault)
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return path


def payload(arch: str, task: str, size: int = 16, recipe: Any = None, **options: Any) -> dict[str, Any]:
    """Return what the engine hands to a guard."""
    return {
        "candidate": "mine",
        "model": {"arch": arch, "weights": "none", "options": options},
        "recipe": recipe or {},
        "classes": 4,
        "size": size,
        "task": task,
        "device": "cpu",
    }


def checked(given: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the results by code."""
    (fact,) = check(given)
    assert (fact["kind"], fact["candidate"]) == ("guards", "mine")
    return {result["code"]: result for result in fact["results"]}


@pytest.mark.parametrize(
    ("function", "options", "failing", "words"),
    [
        ("unet", {"fault": "times 0"}, "skip", r"part 2 \(8 channels\) of the concatenation of maps of 8 x 8"),
        ("unet", {"fault": "zeros"}, "skip", r"concatenation of maps of 16 x 16, the \d\. join; the decoder does not"),
        ("unet", {"fault": "times 0", "added": True}, "skip", r"part 2 \(8 channels\) of the sum of maps"),
        ("unet", {"fault": "detach"}, "gradient", r"3 of 18 parameters \([\d.]+% of .*: deep\.0\.weight is not used"),
        ("unet", {"fault": "blind"}, "overfit", r"cannot be told apart after 60 steps: .* is (inf|1\.0\d) of the loss"),
        ("unet", {"fault": "nan"}, "gradient", r"18 of 18 parameters .*fine\.0\.weight is not finite"),
        ("label", {"fault": "detach"}, "gradient", r"trunk\.0\.weight is not used"),
        ("label", {"fault": "blind"}, "overfit", r"look whether the output depends on the image"),
    ],
    ids=["times-0", "zeros", "added-times-0", "detached", "blind", "nan", "label-detached", "label-blind"],
)
def test_a_planted_fault_is_named(
    own: Path, monkeypatch: pytest.MonkeyPatch, function: str, options: dict[str, Any], failing: str, words: str
) -> None:
    monkeypatch.setattr(probes, "OVERFIT_STEPS", 30)
    found = checked(payload(f"{own}:{function}", "semantic" if function == "unet" else "classification", **options))
    assert not found[failing]["ok"]
    assert re.search(words, found[failing]["sentence"]), found[failing]["sentence"]


@pytest.mark.parametrize("options", [{}, {"added": True}, {"fault": "gate"}], ids=["whole", "added", "gate"])
def test_a_sound_network_of_the_users_own_passes(own: Path, options: dict[str, Any]) -> None:
    found = checked(payload(f"{own}:unet", "semantic", **options))
    assert [result["ok"] for result in found.values()] == [True] * 3
    assert found["skip"]["sentence"] == "cutting any one of 4 connections changes the output"
    assert found["gradient"]["sentence"].startswith("all of 18 parameters")
    assert "images are told apart after" in found["overfit"]["sentence"]


def test_a_skip_connection_that_a_known_network_does_not_use_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Decoder.forward

    def without_the_finest(self: Decoder, maps: list[Tensor]) -> Tensor:
        return whole(self, [0 * maps[0], *maps[1:]])

    assert checked(payload("small:unet", "semantic"))["skip"]["ok"]
    monkeypatch.setattr(Decoder, "forward", without_the_finest)
    found = checked(payload("small:unet", "semantic"))["skip"]
    assert not found["ok"]
    assert "encoder map 0 (" in found["sentence"]
    assert "encoder map 1" not in found["sentence"]


SMALL = [(family.NAME, task, arch) for family in FAMILIES[:1] for task in TASK_NAMES for arch in family.names(task)]


@pytest.mark.parametrize(("family", "task", "arch"), SMALL, ids=[f"{task}-{arch}" for _, task, arch in SMALL])
def test_small_networks_pass_every_guard(family: str, task: str, arch: str) -> None:
    found = checked(payload(f"{family}:{arch}", task, size=64))
    assert [result["ok"] for result in found.values()] == [True] * 3, found
    assert "told apart" in found["overfit"]["sentence"]


@pytest.mark.parametrize(
    ("arch", "task", "options"),
    [
        ("timm:mobilenetv3_small_050", "classification", {}),  # squeeze and excitation
        ("timm:levit_128s", "classification", {}),  # attention over one place at 64 pixels, over four at 128
        ("torchvision:squeezenet1_1", "classification", {}),  # no batch norm
        ("torchvision:mnasnet0_5", "classification", {}),  # refuses weights without their version
        ("smp:unet:mobilenet_v2", "semantic", {}),
        ("smp:segformer:mit_b0", "semantic", {}),  # a transformer
        ("classics:segnet_small", "semantic", {}),  # indices of poolings
        ("detectors:ssdlite:mobilenetv3_small_050", "detection", {}),  # a head for every size of objects
        ("detectors:faster_rcnn:mobilenetv3_small_050", "detection", {"channels": 32}),  # sampled boxes
        ("detectors:mask_rcnn:mobilenetv3_small_050", "instance", {"channels": 32}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_networks_of_every_supplier_raise_no_alarm(arch: str, task: str, options: dict[str, Any]) -> None:
    subject = Subject.of(payload(arch, task, size=128, **options))
    assert subject.size == 64
    for guard in (probes.skip, probes.gradient):
        assert (found := guard(subject))["ok"], found["sentence"]


def test_layers_that_the_recipe_freezes_need_no_gradient(own: Path) -> None:
    frozen = {"frozen": "backbone", "stages": [{"layers": "head"}]}
    detached = payload(f"{own}:label", "classification", recipe=frozen, fault="detach")
    found = probes.gradient(Subject.of(detached))
    assert found["ok"]
    assert found["sentence"] == "all of 2 parameters get a gradient"


def test_what_takes_too_long_is_not_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "OVERFIT_SECONDS", 0.0)
    found = checked(payload("small:mlp", "classification"))["overfit"]
    assert found["ok"]
    assert found["sentence"].startswith("not decided")


def test_a_network_that_fits_no_size_is_an_error(own: Path) -> None:
    own.write_text(
        OWN.replace("return self.head(features", "assert len(images) == 1\n        return self.head(features")
    )
    with pytest.raises(UsageError, match="a training step fails at 16 pixels"):
        checked(payload(f"{own}:label", "classification"))


def test_results_do_not_depend_on_the_state_of_the_random_generator() -> None:
    first = checked(payload("small:resnet", "classification"))
    torch.manual_seed(99)
    assert checked(payload("small:resnet", "classification")) == first


def test_findings_name_who_failed_and_why() -> None:
    passed = {"code": "skip", "ok": True, "sentence": "cutting any one of 4 connections changes the output"}
    failed = {"code": "gradient", "ok": False, "sentence": "1 of 2 parameters get no sound gradient: a is not used"}
    stored = {"a": {"results": [passed, {**failed, "ok": True}]}, "b\u202e": {"results": [passed, failed]}}
    skip, gradient = findings(stored)
    assert (skip.code, skip.severity) == ("guard-skip", "info")
    assert (gradient.code, gradient.severity) == ("guard-gradient", "error")
    assert gradient.sentence == f"Guard gradients failed: b\\u202e: {failed['sentence']}."
    assert skip.sentence.startswith("Guard skip connections passed: a: cutting any one of 4")
    assert findings({}) == ()
