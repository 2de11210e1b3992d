"""The weights gate: what licences allow, what is refused, and what is offered instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from bakeoff import verbs
from bakeoff.cli import app
from bakeoff.errors import Refused, UsageError
from bakeoff.models import build, find
from bakeoff.models.catalogue import catalogue
from bakeoff.models.gate import check_licences, permissive
from bakeoff.models.licences import KINDS, PERMISSIVE, RESTRICTED, identifier, kind, worded
from bakeoff.models.spec import ModelSpec
from bakeoff.study import make_study, read_study, to_toml


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("apache-2.0", "permissive"),
        ("Apache License 2.0", "permissive"),  # as metadata have it
        ("MIT", "permissive"),  # capitals
        ("cc-by-4.0", "permissive"),  # asks for a name alone
        ("cc-by-nc-4.0", "restricted"),  # non-commercial
        ("apple-amlr", "restricted"),  # research only
        ("AGPL-3.0", "restricted"),  # what is built with it must be open too
        ("dinov3-license", "restricted"),  # terms of its own
        ("my-licence", "unknown"),  # never heard of
        ("other", "unknown"),  # the hub's word for it
        (None, "unknown"),  # not stated
    ],
)
def test_kinds(licence: str | None, expected: str) -> None:
    assert kind(licence) == expected
    assert expected in KINDS
    assert worded(licence)


def test_every_licence_that_is_stated_is_in_the_table() -> None:
    entries = [entry for entry in catalogue() if entry.has_weights]
    strange = {entry.licence for entry in entries if kind(entry.licence) == "unknown" and identifier(entry.licence)}
    assert not strange, "look these up and put them into models/licences.py"
    assert not set(PERMISSIVE) & set(RESTRICTED)
    kinds = {one: {entry.licence for entry in catalogue(licence=one)} for one in KINDS}
    assert "apache-2.0" in kinds["permissive"]
    assert "cc-by-nc-4.0" in kinds["restricted"]
    assert kinds["unknown"] == {None, "other"}
    assert sum(len(catalogue(licence=one)) for one in KINDS) == len(entries)


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"arch": "convnextv2_base"}, "cc-by-nc-4.0 (non-commercial)", "timm"),
    ({"arch": "torchvision:resnet50"}, "no stated licence", "timm:resnet50"),
    ({"arch": "torchvision:vit_b_16@IMAGENET1K_SWAG_E2E_V1"}, "cc-by-nc-4.0 (non-commercial)", "timm"),
    ({"arch": "mobileone_s0"}, "mobileone-license (terms of its own)", "timm"),
    ({"arch": "unet:resnet50"}, "no stated licence", "smp:unet:tu-resnet50"),
    ({"arch": "unet:resnet50@swsl"}, "cc-by-nc-4.0 (non-commercial)", "smp:unet:tu-resnet50"),
    ({"arch": "deeplabv3_resnet50"}, "no stated licence", "smp:unet:tu-resnet50"),
    ({"arch": "fasterrcnn_resnet50_fpn"}, "no stated licence", "detectors:faster_rcnn:resnet50"),
    ({"arch": "mask2former_swin_tiny"}, "no stated licence", "detectors:mask_rcnn"),
]


@pytest.mark.parametrize(("fields", "licence", "instead"), REFUSED)
def test_weights_that_not_everybody_may_use_are_refused(fields: dict[str, Any], licence: str, instead: str) -> None:
    spec = ModelSpec(**fields)
    with pytest.raises(Refused) as caught:
        check_licences({"mine": spec, "small": ModelSpec(arch="small:cnn")})
    message = str(caught.value)
    assert "leaves out 1 of 2 candidates:\n  mine: " in message
    assert licence in message
    assert f"take {instead}" in message
    assert 'weights = "none"' in message
    offered = permissive(spec)
    assert offered is not None
    source, _, arch = offered.partition(":")
    assert kind(find(arch, source).card(arch).licence) == "permissive"


def weights_file(path: Path, licence: str | None) -> ModelSpec:
    state = build(ModelSpec(arch="timm:test_resnet@none"), 3, 32).body.state_dict()
    save_file(state, path, metadata={"format": "pt"} | ({"license": licence} if licence else {}))
    return ModelSpec(arch="timm:test_resnet", weights=str(path))


def test_a_file_passes_by_what_it_states_or_by_what_is_declared(tmp_path: Path) -> None:
    silent = weights_file(tmp_path / "silent.safetensors", None)
    declared = silent.model_copy(update={"licence": "MIT"})
    check_licences({"stated": weights_file(tmp_path / "stated.safetensors", "Apache-2.0"), "declared": declared})
    with pytest.raises(Refused, match="no stated licence; declare it in the candidate's model"):
        check_licences({"silent": silent})
    stated = weights_file(tmp_path / "restricted.safetensors", "cc-by-nc-4.0").model_copy(update={"licence": "MIT"})
    with pytest.raises(Refused, match="non-commercial"):  # what a file states, nobody can declare away
        check_licences({"restricted": stated})
    torch.save(torch.nn.Linear(1, 1).state_dict(), tmp_path / "x.pth")
    with pytest.raises(Refused, match="no stated licence"):
        check_licences({"pth": ModelSpec(arch="timm:test_resnet", weights=str(tmp_path / "x.pth"))})
    assert build(declared, 3, 32).card.licence == "MIT (declared)"
    assert build(silent, 3, 32).card.licence is None


def test_random_weights_always_pass() -> None:
    check_licences({arch: ModelSpec(arch=arch) for arch in ("small:cnn", "convnextv2_base@none", "nets.py:build")})


def test_a_study_is_refused_before_its_images_are_read(tmp_path: Path) -> None:
    (tmp_path / "photos" / "a").mkdir(parents=True)
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "photos" / "a" / "x.png")
    command = ["run", str(tmp_path / "photos"), "--out", str(tmp_path / "study")]
    command += ["--models", "small:cnn,convnextv2_base"]
    failed = CliRunner().invoke(app, [*command, "--licence", "permissive"])
    assert isinstance(failed.exception, Refused)
    assert failed.exception.exit_code == 6
    assert not (tmp_path / "study").exists()
    with pytest.raises(UsageError, match="licence"):
        verbs.find_study(tmp_path / "photos", None, ["small:cnn"], {"licence": "free"})


def test_the_field_survives_its_file() -> None:
    model = {"arch": "small:cnn", "licence": "mit"}
    content = {"data": {"path": "x"}, "licence": "permissive", "candidates": [{"model": model}]}
    text = to_toml(make_study(content))
    assert 'licence = "permissive"' in text
    assert 'licence = "mit"' in text


def test_names_of_published_weights_are_no_paths(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(
        '[data]\npath = "x"\n[[candidates]]\nmodel = "vgg11@IMAGENET1K_V1"\n[[candidates]]\nmodel = "vgg11@w/x.pth"\n'
    )
    first, second = read_study(tmp_path / "study.toml").candidates
    assert first.model.weights == "IMAGENET1K_V1"
    assert second.model.weights == str(tmp_path / "w" / "x.pth")
