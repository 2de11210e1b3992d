"""The contract of every model family, and the names they answer to."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from bakeoff.errors import DataError, UsageError
from bakeoff.models import FAMILIES, Family, build, find, resolve
from bakeoff.models.head import Pool
from bakeoff.models.spec import Head, ModelSpec, Network

OWN = """
import torch
from torch import nn

def tiny(classes, size, width=4):
    net = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net.append(nn.Linear(width, classes))
    net.mean, net.std = (0.1, 0.2, 0.3), 0.25
    return net

def fails(classes, size):
    raise KeyError("no such thing")

def deep(classes, size):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * size * size, classes + 1))

def number(classes, size):
    return 7

def fixed(classes, size):
    return nn.Sequential(nn.Flatten(), nn.Linear(10, classes))
"""
OWN_HEAD = Head()
EXAMPLES = {
    "small": ("small:cnn", "small:mlp", "small:resnet", "small:vit"),
    "torchvision": ("torchvision:shufflenet_v2_x0_5", "torchvision:mobilenet_v3_small", "torchvision:squeezenet1_1"),
    "timm": ("timm:test_resnet", "timm:test_vit", "timm:mobilenetv3_small_050"),
    "classics": ("classics:zfnet", "classics:plain18"),
    "python": ("own",),
}


def examples_of(family: Family) -> tuple[str, ...]:
    return EXAMPLES[family.NAME] if family.NAME in EXAMPLES or family.names() else ()


ROWS = [(family.NAME, arch) for family in FAMILIES for arch in examples_of(family)]
POOLS = [
    (Head(), "the architecture's own"),
    (Head(hidden=(6,), dropout=0.5), "own pooling, hidden layer"),
    (Head(pool="avg"), "average"),
    (Head(pool="flatten", hidden=(4, 5)), "flattened, two hidden layers"),
]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    file = tmp_path / "my_nets.py"
    file.write_text(OWN)
    return file


def spec_of(arch: str, own: Path, head: Head = OWN_HEAD) -> ModelSpec:
    return ModelSpec(arch=f"{own}:tiny" if arch == "own" else arch, weights="none", head=head)


def make(spec: ModelSpec, classes: int = 3) -> Network:
    torch.manual_seed(1)
    return build(spec, classes, 32)


@pytest.mark.parametrize(("family", "arch"), ROWS)
def test_groups_cover_every_parameter_once_and_end_with_the_head(family: str, arch: str, own: Path) -> None:
    network, wider = make(spec_of(arch, own)), make(spec_of(arch, own), classes=5)
    grouped = [name for group in network.groups for name in group]
    assert sorted(grouped) == sorted(name for name, _ in network.body.named_parameters())
    shapes = {name: parameter.shape for name, parameter in wider.body.named_parameters()}
    changed = {name for name, parameter in network.body.named_parameters() if parameter.shape != shapes[name]}
    assert changed  # what depends on the number of classes is the head
    assert changed <= set(network.groups[-1])
    first = next(name for name, parameter in network.body.named_parameters() if parameter.ndim > 1)
    assert first in {name for group in network.groups[:2] for name in group}


@pytest.mark.parametrize(("head", "case"), POOLS)
@pytest.mark.parametrize(("family", "arch"), ROWS)
def test_logits_and_gradients(family: str, arch: str, head: Head, case: str, own: Path) -> None:
    if family == "python" and head != Head():
        with pytest.raises(UsageError, match="build its head in the function"):
            make(spec_of(arch, own, head))
        return
    if arch == "small:mlp" and head.pool != "default":
        with pytest.raises(UsageError, match="no feature map to pool"):
            make(spec_of(arch, own, head))
        return
    network = make(spec_of(arch, own, head)).train()
    logits = network(torch.rand(4, 3, 32, 32))
    assert logits.shape == (4, 3)
    logits.square().sum().backward()
    without = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert not without
    assert {name for group in network.groups for name in group} == {n for n, _ in network.body.named_parameters()}


@pytest.mark.parametrize(("family", "arch"), ROWS)
def test_the_same_seed_builds_the_same_network(family: str, arch: str, own: Path) -> None:
    one, two = make(spec_of(arch, own)), make(spec_of(arch, own))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert one.training


@pytest.mark.parametrize("source", ["timm", "torchvision"])
def test_resnet50_with_sixteen_hidden_nodes_has_the_parameters_of_the_study(source: str) -> None:
    head = Head(pool="avg", hidden=(16,), dropout=0.5)
    with torch.device("meta"):
        network = build(ModelSpec(arch=f"{source}:resnet50", weights="none", head=head), 2, 64)
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == 23_540_850


@pytest.mark.parametrize(
    ("kind", "shape", "expected"),
    [
        ("avg", (1, 2, 2, 2), [1.5, 5.5]),  # mean over positions
        ("max", (1, 2, 2, 2), [3.0, 7.0]),  # maximum over positions
        ("avgmax", (1, 2, 2, 2), [2.25, 6.25]),  # mean of the two
        ("flatten", (1, 2, 2, 2), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]),  # everything, channel by channel
        ("avg", (1, 4, 2), [3.0, 4.0]),  # tokens
        ("avg", (1, 8), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]),  # features pass
    ],
)
def test_pool(kind: str, shape: tuple[int, ...], expected: list[float]) -> None:
    values = torch.arange(8.0).reshape(shape)
    assert Pool(kind)(values).flatten().tolist() == expected  # type: ignore[arg-type]


def test_pool_leaves_class_tokens_out_and_reads_channels_last() -> None:
    tokens = torch.tensor([[[100.0], [1.0], [3.0]]])
    assert Pool("avg", prefix=1)(tokens).tolist() == [[2.0]]
    images = torch.rand(2, 3, 4, 5)
    assert torch.equal(Pool("max", channels_last=True)(images.permute(0, 2, 3, 1)), Pool("max")(images))


@pytest.mark.parametrize(
    ("arch", "source", "family"),
    [
        ("cnn", None, "small"),  # small networks first
        ("resnet50", None, "torchvision"),  # then torchvision
        ("mobilenetv2_100", None, "timm"),  # then timm
        ("resnet50", "timm", "timm"),  # a named source is not looked past
        ("resnet50.a1_in1k", None, "timm"),  # a timm name with its weight tag
    ],
)
def test_names_are_looked_up_in_order(arch: str, source: str | None, family: str) -> None:
    assert family == find(arch, source).NAME


def test_a_bare_small_name_has_no_pretrained_weights() -> None:
    assert resolve(ModelSpec(arch="cnn")).weights == "none"
    assert resolve(ModelSpec(arch="resnet18")).weights == "pretrained"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (ModelSpec(arch="resnet5O"), r"'resnet5O' for classification \(did you mean resnet50"),  # a letter for a digit
        (ModelSpec(arch="small:resnet50"), "there is torchvision:resnet50, timm:resnet50"),  # another family's
        (ModelSpec(arch="small:cnn", options={"widht": 8}), r"no option 'widht' \(did you mean width"),  # a typo
        (ModelSpec(arch="small:vit", options={"width": 40}), "multiple of 32"),  # heads do not divide it
        (ModelSpec(arch="small:cnn", weights="pretrained"), "no published weights"),  # there are none
        (ModelSpec(arch="timm:test_resnet", weights="none", options={"colour": 1}), "colour"),  # unknown to timm
        (ModelSpec(arch="torchvision:resnet18", weights="none", options={"colour": 1}), "colour"),  # nor torchvision
        (ModelSpec(arch="torchvision:inception_v3", weights="none"), "cannot take images of 16 x 16"),  # too small
        (ModelSpec(arch="torchvision:resnet18", weights="IMAGENET1K_V7"), "has no weights"),  # no such entry
    ],
)
def test_what_cannot_be_built_is_told(spec: ModelSpec, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(spec, 3, 16)


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        ("tinny", UsageError, r"no function 'tinny' \(did you mean tiny\?\)"),  # a typo
        ("fails", UsageError, r"raised KeyError: 'no such thing' \(line 12\)"),  # an error inside, with its line
        ("deep", UsageError, r"shape \(1, 4\) for one image; expected \(1, 3\)"),  # one logit too many
        ("number", UsageError, "returned int; expected a torch.nn.Module"),  # not a network
        ("fixed", UsageError, "cannot take images of 16 x 16"),  # the wrong input size
        ("", UsageError, "has no function"),  # no name
    ],
)
def test_faults_of_an_own_network_are_told(function: str, error: type, message: str, own: Path) -> None:
    with pytest.raises(error, match=message):
        build(ModelSpec(arch=f"{own}:{function}", source="python"), 3, 16)


def test_faults_of_an_own_file_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such Python file"):
        build(ModelSpec(arch=f"{tmp_path}/absent.py:f"), 3, 16)
    broken = tmp_path / "broken.py"
    broken.write_text("x = 1\ny = x +\n")
    with pytest.raises(UsageError, match="cannot be imported: SyntaxError"):
        build(ModelSpec(arch=f"{broken}:f"), 3, 16)
    with pytest.raises(UsageError, match="name the function too"):
        build(ModelSpec(arch=str(broken)), 3, 16)


def test_an_own_network_brings_its_normalisation_and_options(own: Path) -> None:
    network = build(ModelSpec(arch=f"{own}:tiny", options={"width": 6}), 3, 16)
    assert network.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert network.std.flatten().tolist() == [0.25] * 3
    assert network.groups[-1] == ("5.weight", "5.bias")
    assert network.get_parameter("body.5.weight").shape == (3, 6)


@pytest.mark.parametrize("size", [16, 28, 53, 96, 224])
def test_small_networks_take_any_size(size: int) -> None:
    for arch in ("cnn", "resnet", "vit"):
        with torch.device("meta"):
            network = build(ModelSpec(arch=arch), 2, size)
        assert 100_000 < sum(p.numel() for p in network.parameters()) < 700_000


def test_a_small_mlp_is_one_hidden_layer_on_pixels() -> None:
    network = build(ModelSpec(arch="mlp", options={"hidden": 20}), 10, 28)
    kinds = [type(module) for module in network.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    assert kinds == [nn.Linear, nn.Linear]
    assert sum(p.numel() for p in network.parameters()) == 3 * 28 * 28 * 20 + 20 + 20 * 10 + 10


def test_googlenet_gives_logits_alone_in_training_too() -> None:
    network = build(ModelSpec(arch="googlenet", weights="none"), 3, 64).train()
    assert network(torch.rand(2, 3, 64, 64)).shape == (2, 3)
    assert network.std.flatten().tolist() == [0.5] * 3
