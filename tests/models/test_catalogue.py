"""The list of candidates: quick, filtered, and true to what is built."""

from __future__ import annotations

import time

import pytest
import torch

from bakeoff.errors import UsageError
from bakeoff.models import FAMILIES, TASK_NAMES, build
from bakeoff.models.catalogue import Entry, catalogue, entry
from bakeoff.models.layers import parameters
from bakeoff.models.spec import ModelSpec


def test_the_whole_list_is_quick_and_has_every_name() -> None:
    catalogue("resnet18")  # imports the suppliers
    start = time.perf_counter()
    entries = catalogue()
    assert time.perf_counter() - start < 5
    expected = [(family.NAME, name) for family in FAMILIES for task in TASK_NAMES for name in family.names(task)]
    assert [(e.family, e.name) for e in entries] == list(dict.fromkeys(expected))
    assert len(entries) > 1000


@pytest.mark.parametrize(
    ("filters", "check"),
    [
        ({"pattern": "mobilenetv2_*"}, lambda e: e.name.startswith("mobilenetv2_")),  # a shell pattern
        ({"pattern": "MOBILENET"}, lambda e: "mobilenet" in e.name),  # a part, whatever its case
        ({"family": "torchvision"}, lambda e: e.family == "torchvision" and e.has_weights),  # a family
        ({"licence": "apache"}, lambda e: "apache" in str(e.licence)),  # a licence
        ({"licence": "none"}, lambda e: e.licence is None),  # a licence nobody states
        ({"max_parameters": 1_000_000}, lambda e: e.parameters <= 1_000_000),  # small enough
    ],
)
def test_filters(filters: dict[str, str], check: object) -> None:
    entries = catalogue(**filters)  # type: ignore[arg-type]
    assert 2 < len(entries) < 3000
    assert all(check(e) for e in entries)  # type: ignore[operator]


@pytest.mark.parametrize("arch", ["timm:mobilenetv2_100", "timm:test_vit", "torchvision:resnet18"])
def test_listed_parameters_are_those_of_the_network(arch: str) -> None:
    source, _, name = arch.partition(":")
    with torch.device("meta"):
        network = build(ModelSpec(arch=arch, weights="none"), 1000, 160)
    assert entry(name, source).parameters == parameters(network)


def test_what_is_stated_about_weights() -> None:
    assert entry("resnet50.a1_in1k") == Entry(
        "resnet50.a1_in1k", "timm", 25_557_032, "apache-2.0", "ImageNet-1k (a1_in1k)", True
    )
    assert entry("convnext_tiny.fb_in22k_ft_in1k").pretraining == "ImageNet-22k, then ImageNet-1k (fb_in22k_ft_in1k)"
    assert entry("resnet50", "torchvision").licence is None  # torchvision states none
    assert entry("cnn") == Entry("cnn", "small", None, None, None, False)


def test_unknown_names_are_told() -> None:
    with pytest.raises(UsageError, match=r"family 'tim' \(did you mean timm\?\)"):
        catalogue(family="tim")
    with pytest.raises(UsageError, match="did you mean"):
        entry("mobilenetv2_1000")
