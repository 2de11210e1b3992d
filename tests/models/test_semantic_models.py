"""Networks for label maps: logits, gradients, layer groups, skip connections, weights, and that they learn."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from bakeoff.data.examples import example
from bakeoff.errors import ResourceError, UsageError, WeightsMismatch
from bakeoff.evaluate.outcomes import stack
from bakeoff.models import FAMILIES, build, classics, find, from_smp, from_timm, trained, weights
from bakeoff.models.encoder_decoder import EncoderDecoder, drop_unused
from bakeoff.models.layers import describe
from bakeoff.models.skips import cut, skips
from bakeoff.models.spec import Head, ModelSpec, Network
from bakeoff.tasks.semantic import Semantic

# architecture, side, number of skip connections
NETWORKS = [
    ("small:unet", 50, 3),  # a side that is no multiple of eight
    ("small:unet", 96, 3),  # a stride of two first
    ("small:fcn", 32, 0),
    ("classics:segnet_small", 36, 3),
    ("torchvision:lraspp_mobilenet_v3_large", 45, 1),
    ("torchvision:deeplabv3_mobilenet_v3_large", 32, 0),
    ("smp:unet:tu-test_resnet", 45, 4),
    ("smp:unet:tu-convnext_atto", 32, 3),  # no map at half the side
    ("smp:unet:efficientnet-b0", 32, 4),  # an encoder with a layer behind its last map
    ("smp:unetplusplus:mobilenet_v2", 32, 4),
    ("smp:manet:tu-test_resnet", 32, 4),
    ("smp:linknet:tu-test_resnet", 32, 4),
    ("smp:fpn:tu-test_resnet", 32, 3),
    ("smp:pan:tu-test_resnet", 128, 3),
    ("smp:upernet:tu-test_resnet", 64, 3),
    ("smp:segformer:mit_b0", 50, 3),  # a mix transformer
    ("smp:deeplabv3plus:tu-test_resnet", 32, 1),
    ("smp:deeplabv3:tu-test_resnet", 32, 0),
    ("smp:pspnet:mobilenet_v2", 40, 0),  # most of the encoder lies behind the map that is used
    ("smp:dpt:tu-test_vit", 40, 3),  # an odd number of patches
]
COUNT = 3


def make(arch: str, size: int = 32, classes: int = COUNT, given: str = "none") -> Network:
    torch.manual_seed(1)
    return build(ModelSpec(arch=arch, weights=given), classes, size, "semantic")


def effects(network: Network, images: Tensor) -> dict[str, float]:
    """Return by how much cutting each skip connection changes the logits (B, K, H, W) for images (B, 3, H, W).

    It is the largest change as a share of the logits' standard deviation: 0 for a connection that carries nothing.
    Batch norms take the statistics of these images, so that a network that has not been trained has values of the
    order of one in all of its maps; nothing else is random, and the network itself is left as it is.
    """
    twin = copy.deepcopy(network).eval()
    for module in twin.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()
    found = {}
    with torch.no_grad():
        whole = twin(images)
        for skip in skips(twin):
            with cut(twin, skip):
                found[skip.name] = float((twin(images) - whole).abs().max() / whole.std().clamp(min=1e-12))
    return found


@pytest.mark.parametrize(("arch", "size", "_skips"), NETWORKS)
def test_logits_gradients_and_groups(arch: str, size: int, _skips: int) -> None:
    network = make(arch, size).train()
    logits = network(torch.rand(2, 3, size, size))
    assert logits.shape == (2, COUNT, size, size)
    logits.square().sum().backward()
    assert not [name for name, parameter in network.named_parameters() if parameter.grad is None]
    grouped = [name for group in network.groups for name in group]
    assert sorted(grouped) == sorted(name for name, _ in network.body.named_parameters())
    assert len(network.groups) > 3
    shapes = {name: parameter.shape for name, parameter in make(arch, size, COUNT + 2).body.named_parameters()}
    changed = {name for name, parameter in network.body.named_parameters() if parameter.shape != shapes[name]}
    assert changed
    assert changed <= set(network.groups[-1])  # what depends on the number of classes is the head
    first = next(name for name, parameter in network.body.named_parameters() if parameter.ndim > 1)
    assert first in {name for group in network.groups[:2] for name in group}


@pytest.mark.parametrize(("arch", "size", "count"), NETWORKS)
def test_every_skip_connection_matters(arch: str, size: int, count: int) -> None:
    network, images = make(arch, size), torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = effects(network, images)
    assert len(found) == len(skips(network)) == count
    assert all(change > 1e-3 for change in found.values()), found
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_broken_skip_shows() -> None:
    network, images = make("small:unet", 32), torch.rand(2, 3, 32, 32)
    last = network.body.get_submodule("decoder.stages.2.0")
    assert isinstance(last, nn.Conv2d)
    with torch.no_grad():
        last.weight[:, -last.out_channels :] = 0  # what the finest map is multiplied by
    broken, *others = effects(network, images).values()
    assert broken == 0
    assert min(others) > 0.1


def test_a_cut_ends_with_its_block() -> None:
    network, images = make("small:unet", 32).eval(), torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        whole = network(images)
        with cut(network, skips(network)[0]):
            assert not torch.equal(network(images), whole)
        assert torch.equal(network(images), whole)


def test_users_networks_name_no_skips(tmp_path: Path) -> None:
    file = tmp_path / "nets.py"
    file.write_text("from torch import nn\ndef build(classes, size):\n    return nn.Conv2d(3, classes, 1)\n")
    network = build(ModelSpec(arch=f"{file}:build"), 2, 16, "semantic")
    assert skips(network) == ()


@pytest.mark.parametrize(
    ("arch", "size"),
    [
        ("small:unet", 50),  # own decoder
        ("classics:segnet_small", 32),  # indices between layers
        ("torchvision:lraspp_mobilenet_v3_large", 32),  # a dictionary between layers
        ("smp:fpn:tu-test_resnet", 32),  # timm's encoder
        ("smp:segformer:mit_b0", 32),  # a network that cannot be built without numbers
    ],
)
def test_layer_tables(arch: str, size: int) -> None:
    table, operations = describe(ModelSpec(arch=arch), COUNT, size)
    assert operations > 0
    assert sum(row.parameters for row in table.rows) + table.other_parameters == table.total_parameters
    assert table.total_parameters == sum(p.numel() for p in make(arch, size).parameters())


def test_segnet_is_that_of_the_paper() -> None:
    table, _ = describe(ModelSpec(arch="classics:segnet"), 12, 352)
    assert table.total_parameters == pytest.approx(29.46e6, rel=2e-3)  # its authors' table: 29.46 million
    with torch.device("meta"):
        body = build(ModelSpec(arch="classics:segnet", weights="none"), 12, 64, "semantic").body
    pools = [module for module in body.modules() if isinstance(module, nn.MaxPool2d)]
    assert len(pools) == len(body.skips) == 5  # type: ignore[arg-type]


def test_max_unpooling_puts_values_back_where_they_were() -> None:
    network = make("classics:segnet_small").eval()
    seen: list[torch.Tensor] = []
    network.body.get_submodule("decoder.stages.2").register_forward_pre_hook(lambda _m, given: seen.append(given[0]))
    with torch.no_grad():
        network(torch.rand(1, 3, 32, 32))
    blocks = (seen[0] != 0).unfold(2, 2, 2).unfold(3, 2, 2).flatten(4).sum(-1)
    assert blocks.max() == 1  # one value in each 2 x 2 block
    assert (blocks == 1).float().mean() > 0.3


def test_padding_adds_nothing_where_the_side_fits() -> None:
    network = make("smp:unet:tu-test_resnet", 64).eval()
    images = torch.rand(1, 3, 64, 64)
    body = network.body
    assert isinstance(body, EncoderDecoder)
    with torch.no_grad():
        plain = body.segmentation_head(body.decoder(body.encoder((images - network.mean) / network.std)))
        assert torch.equal(network(images), plain)


class Wasteful(nn.Module):
    """A network of which a layer, and a parameter beside used ones, reach no output."""

    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Conv2d(3, 2, 1)
        self.behind = nn.Sequential(nn.Conv2d(2, 4, 1), nn.BatchNorm2d(4))
        self.extra = nn.Parameter(torch.ones(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = self.used(images)
        self.behind(found)
        out: torch.Tensor = found
        return out


def test_what_no_logit_depends_on_is_dropped() -> None:
    network = Wasteful()
    images = torch.rand(1, 3, 8, 8)
    before = network(images)
    drop_unused(network, 8)
    assert {name for name, _ in network.named_parameters()} == {"used.weight", "used.bias"}
    assert not list(network.buffers())
    assert torch.equal(network(images), before)


PAIRS = [*from_smp.names("semantic")]


@pytest.mark.parametrize(
    ("arch", "parameters"),
    [
        ("unet:vgg19", 29_063_000),
        ("unet:resnet50", 32_521_000),
        ("unet:mobilenet_v2", 6_629_000),
        ("fpn:densenet121", 9_299_000),
    ],
)
def test_listed_pairs_can_be_built(arch: str, parameters: int) -> None:
    with torch.device("meta"):
        network = build(ModelSpec(arch=arch, weights="none"), 2, 64, "semantic")
    assert arch in PAIRS
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(parameters, rel=1e-3)


def test_names() -> None:
    assert {"unet:vgg19", "unet:resnet50", "unet:mobilenet_v2", "deeplabv3plus:resnet50"} <= set(PAIRS)
    assert not [name for name in PAIRS if not from_smp.has(name, "semantic")]
    assert not set(PAIRS) & {"unet:timm-resnest14d", "deeplabv3:vgg16", "linknet:mit_b0", "dpt:resnet50"}
    assert from_smp.has("unet:tu-mobilenetv2_100", "semantic")
    assert not from_smp.has("unet:tu-mobilenetv2_100", "classification")
    assert find("unet:resnet18").NAME == "smp"
    assert find("unet").NAME == "small"
    assert find("deeplabv3_resnet50").NAME == "torchvision"
    assert find("segnet").NAME == "classics"
    assert {"segnet", "segnet_small"} <= set(classics.names("semantic"))
    for family in FAMILIES:
        assert not [name for name in family.names("semantic") if not family.has(name, "semantic")]


WRONG = [
    (ModelSpec(arch="unet:resnet81"), r"no model .* for semantic \(did you mean unet:resnet18"),  # a typo
    (ModelSpec(arch="resnet18"), "it is for classification"),  # a classifier
    (ModelSpec(arch="unet:resnet18", weights="none", options={"colour": 1}), "no option 'colour'"),  # smp swallows it
    (ModelSpec(arch="unet:tu-test_resnet", weights="none", options={"colour": 1}), "colour"),  # timm does not
    (ModelSpec(arch="unet:resnet18", weights="none", options={"classes": 1}), "no option 'classes'"),  # ours to give
    (ModelSpec(arch="unet:resnet18", weights="none", options={"encoder_depth": 9}), "cannot be built"),  # too deep
    (ModelSpec(arch="pan:resnet18", weights="none"), "cannot take images of 32 x 32 pixels"),  # too small
    (ModelSpec(arch="small:unet", head=Head(pool="avg")), "head options are for classification"),  # no such head
    (ModelSpec(arch="small:unet", weights="pretrained"), "no published weights"),  # there are none
    (ModelSpec(arch="segnet_small", weights="pretrained"), "no published weights"),  # nor of this one
    (ModelSpec(arch="segnet_small", weights="none", options={"width": 0}), "no positive whole number"),  # too narrow
    (ModelSpec(arch="segnet", weights="none", options={"width": 8}), "no option 'width'"),  # it is VGG's
    (ModelSpec(arch="lraspp_mobilenet_v3_large", weights="IMAGENET1K_V7"), "it has none, pretrained, COCO"),  # no entry
    (
        ModelSpec(arch="lraspp_mobilenet_v3_large", weights="none", options={"aux_loss": True}),
        "has no options",
    ),  # ours to give
]


@pytest.mark.parametrize(("spec", "message"), WRONG)
def test_what_cannot_be_built_is_told(spec: ModelSpec, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(spec, 2, 32, "semantic")


@pytest.mark.parametrize(
    ("arch", "page"),
    [
        ("unet:resnet18", "https://huggingface.co/smp-hub/resnet18.imagenet"),
        ("unet:resnet18@ssl", "https://huggingface.co/smp-hub/resnet18.ssl"),
        ("unet:tu-resnet18.a1_in1k", "https://huggingface.co/timm/resnet18.a1_in1k"),
    ],
)
def test_weights_that_cannot_be_had_are_told(arch: str, page: str) -> None:
    with pytest.raises(ResourceError, match=f"cannot be fetched.*{page}"):
        build(ModelSpec(arch=arch), 2, 32, "semantic")


def test_torchvision_s_pages_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(url: str, model: str, page: str) -> None:
        raise weights.unavailable(model, page, "no connection here")

    monkeypatch.setattr(weights, "reach", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for arch, page in (("segnet", "vgg16_bn"), ("lraspp_mobilenet_v3_large", "lraspp_mobilenet_v3_large")):
        with pytest.raises(ResourceError, match=f"https://download.pytorch.org/models/{page}"):
            build(ModelSpec(arch=arch), 2, 32, "semantic")


def test_cards() -> None:
    known = from_smp.card("unet:resnet18")
    assert known.pretraining == "ImageNet-1k (imagenet)"
    assert known.licence is None  # smp states none
    assert from_smp.card("unet:tu-resnet18.a1_in1k") == from_timm.card("resnet18.a1_in1k")
    assert classics.card("segnet").pretraining == "ImageNet-1k (IMAGENET1K_V1)"
    assert classics.card("segnet_small").pretraining is None
    assert "COCO" in str(find("lraspp_mobilenet_v3_large").card("lraspp_mobilenet_v3_large").pretraining)


def file_of(network: nn.Module, path: Path) -> str:
    save_file({name: value.clone() for name, value in network.state_dict().items()}, path)
    return str(path)


def vgg16_bn() -> nn.Module:
    from torchvision.models.vgg import cfgs, make_layers

    return nn.ModuleDict({"features": make_layers(cfgs["D"], batch_norm=True), "classifier": nn.Linear(2, 2)})


def classifier(supplier: str, name: str) -> nn.Module:
    spec = ModelSpec(arch=f"{supplier}:{name}", weights="none")
    return build(spec, 10, 64).body


ENCODERS: list[tuple[str, Callable[[], nn.Module], str, str]] = [
    # the network, whose file it takes, a tensor of it, the same in the file
    ("smp:unet:resnet18", partial(classifier, "torchvision", "resnet18"), "encoder.conv1.weight", "conv1.weight"),
    ("smp:fpn:mobilenet_v2", partial(classifier, "torchvision", "mobilenet_v2"), "encoder.features.0.0.weight",
     "features.0.0.weight"),
    ("smp:fpn:mobilenet_v2", partial(classifier, "timm", "mobilenetv2_100"), "encoder.features.17.conv.2.weight",
     "blocks.6.0.conv_pwl.weight"),  # another supplier's names
    ("smp:unet:tu-test_resnet", partial(classifier, "timm", "test_resnet"), "encoder.model.conv1.0.weight",
     "conv1.0.weight"),
    ("smp:dpt:tu-test_vit", partial(classifier, "timm", "test_vit"), "encoder.model.blocks.1.mlp.fc1.weight",
     "blocks.1.mlp.fc1.weight"),
    ("torchvision:lraspp_mobilenet_v3_large", partial(classifier, "torchvision", "mobilenet_v3_large"),
     "backbone.0.0.weight", "features.0.0.weight"),
    ("classics:segnet", vgg16_bn, "encoder.features.0.weight", "features.0.weight"),
]  # fmt: skip


@pytest.mark.parametrize(("arch", "source", "ours", "theirs"), ENCODERS)
def test_an_encoder_takes_a_classifier_s_file(
    arch: str, source: Callable[[], nn.Module], ours: str, theirs: str, tmp_path: Path
) -> None:
    torch.manual_seed(3)
    network = source()
    loaded = make(arch, 64, given=file_of(network, tmp_path / "w.safetensors"))
    assert torch.equal(loaded.body.get_parameter(ours), network.get_parameter(theirs))
    told = str(loaded.card.loaded)
    assert "starts at random" in told
    assert int(told.split()[0]) <= len(network.state_dict())
    assert "w.safetensors (sha256 " in str(loaded.card.pretraining)


@pytest.mark.parametrize("arch", ["smp:pspnet:mobilenet_v2", "small:unet", "classics:segnet_small",
                                  "torchvision:lraspp_mobilenet_v3_large", "smp:unet:tu-test_resnet"])  # fmt: skip
def test_a_whole_network_takes_its_own_file(arch: str, tmp_path: Path) -> None:
    network = make(arch)
    path = file_of(network, tmp_path / "w.safetensors")
    torch.manual_seed(9)
    same = build(ModelSpec(arch=arch, weights=path), COUNT, 32, "semantic")
    other = build(ModelSpec(arch=arch, weights=path), COUNT + 1, 32, "semantic")
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), same.parameters(), strict=True))
    assert "the head too" in str(same.card.loaded)
    assert "the head starts at random" in str(other.card.loaded)


def test_a_file_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = file_of(classifier("torchvision", "resnet18"), tmp_path / "w.safetensors")
    with pytest.raises(WeightsMismatch, match="of the network's tensors are not in the file"):
        make("smp:unet:resnet34", given=path)


def test_a_trained_network_comes_back(tmp_path: Path) -> None:
    network = make("smp:pspnet:mobilenet_v2").eval()
    spec = ModelSpec(arch="smp:pspnet:mobilenet_v2", weights="none")
    trained.save(tmp_path, trained.Trained(network, spec, "semantic", ("a", "b", "c"), 32, "squash"))
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(trained.load(tmp_path).network(images), network(images))


@pytest.mark.parametrize("arch", ["small:unet", "small:fcn", "classics:segnet_small"])
def test_a_batch_can_be_learned_by_heart(arch: str) -> None:
    task = Semantic(("a", "b", "c"))
    network, batch = make(arch).train(), example("semantic", COUNT, 4, 32)
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(40):
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            task.loss(network, batch).backward()
        optimiser.step()
    with torch.inference_mode():
        predictions = task.predict(network, batch.images)
    truths = [type(predictions[0])(target.byte().numpy()) for target in batch.targets]
    rows = [task.outcome(found, truth) for found, truth in zip(predictions, truths, strict=True)]
    found = task.metrics(stack(rows, tuple("0123"), task.classes))
    assert found["miou"] > 0.9
    assert np.isfinite(found["log_loss"])


def test_small_networks_are_small() -> None:
    for size in (32, 64, 128, 256, 512):
        for arch in ("small:unet", "small:fcn"):
            with torch.device("meta"):
                network = build(ModelSpec(arch=arch), 11, size, "semantic")
            assert 80_000 < sum(p.numel() for p in network.parameters()) < 500_000
