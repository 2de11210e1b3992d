"""Each method against a computation by hand, against Captum's own, and all of them against the contract."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bakeoff.data.dataset import TaskName
from bakeoff.errors import DataError, UsageError
from bakeoff.explain import (
    EXPLAINERS,
    Explainer,
    Explanation,
    Options,
    at_rest,
    find_subject,
    gradcam,
    guided,
    integrated_gradients,
    layercam,
    occlusion,
    rollout,
)
from bakeoff.explain.explainer import Map
from bakeoff.explain.layers import find_layer
from bakeoff.explain.subject import Subject
from bakeoff.models.groups import from_children
from bakeoff.models.spec import Network
from bakeoff.models.trained import Trained

Make = Callable[..., Trained]
SIZE = 32


def plain(*layers: nn.Module, mean: float = 0.0) -> Network:
    """Wrap layers whose last one is the head; pixels go in as they are."""
    body = nn.Sequential(*layers)
    return Network(body, from_children(body, (str(len(layers) - 1),)), (mean,) * 3, (1.0,) * 3).eval()


def convolved() -> Network:
    """Return convolution, ReLU in place, mean over places, linear."""
    torch.manual_seed(0)
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return plain(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU(inplace=True), pool, nn.Linear(6, 3))


def values(network: Network, image: Tensor) -> tuple[Tensor, Tensor]:
    """Return activations (6, 16, 16) before the ReLU, which a layer's output is, and the head's weights of class 1."""
    first: nn.Module = network.body.get_submodule("0")
    return first(image)[0].detach(), network.body.get_parameter("3.weight")[1].detach()


def seen(found: Explanation) -> Map:
    """Return a map that must be there."""
    assert found.map is not None
    return found.map


def large(grid: Tensor) -> np.ndarray:
    return F.interpolate(grid[None, None], (SIZE, SIZE), mode="bilinear", align_corners=False)[0, 0].numpy()


def test_gradcam_and_layercam_are_what_their_formulas_say(photo: Tensor) -> None:
    network, subject = convolved(), Subject("classification", 1, "dog")
    activation, weights = values(network, photo)
    slopes = weights[:, None, None] * (activation > 0) / activation[0].numel()  # of mean(ReLU) x weight
    cam = (slopes.mean(dim=(1, 2), keepdim=True) * activation).sum(dim=0).relu()
    found = gradcam.explain(network, photo, subject, Options(layer="0"))
    assert found.layer == "0"
    np.testing.assert_allclose(seen(found), large(cam), rtol=1e-4, atol=1e-7)
    places = (slopes.relu() * activation).sum(dim=0).relu()
    found = layercam.explain(network, photo, subject, Options())
    np.testing.assert_allclose(seen(found), large(places), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("arch", ["small:cnn", "small:resnet"])
def test_gradcam_is_captums(make: Make, photo: Tensor, arch: str) -> None:
    from captum.attr import LayerGradCam

    network, subject = make(arch).network, Subject("classification", 2, "owl")
    found = gradcam.explain(network, photo, subject, Options())
    module = network.body.get_submodule(found.layer)
    theirs = LayerGradCam(network, module).attribute(photo, target=2, relu_attributions=True)
    assert theirs.abs().max() > 0
    np.testing.assert_allclose(seen(found), large(theirs[0, 0].detach()), rtol=1e-4, atol=1e-8)


def test_integrated_gradients_sum_to_the_difference_and_are_captums(make: Make, photo: Tensor) -> None:
    from captum.attr import IntegratedGradients

    network, subject = make("small:cnn").network, Subject("classification", 0, "cat")
    with at_rest(network):
        found = integrated_gradients.explain(network, photo, subject, Options(steps=200))
        with torch.no_grad():
            difference = float(network(photo)[0, 0] - network(torch.zeros_like(photo))[0, 0])
    assert found.map is not None
    assert found.map.sum() == pytest.approx(difference, rel=0.02)
    theirs = IntegratedGradients(network).attribute(photo, torch.zeros_like(photo), target=0, n_steps=200)
    np.testing.assert_allclose(seen(found), theirs[0].sum(dim=0).detach().numpy(), rtol=1e-3, atol=1e-6)


def test_integrated_gradients_of_a_linear_network_are_weights_times_pixels(photo: Tensor) -> None:
    network = plain(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 2), mean=0.5)
    found = integrated_gradients.explain(network, photo, Subject("classification", 1, "dog"), Options(steps=3))
    weights = network.body.get_parameter("1.weight")[1].detach().view(3, SIZE, SIZE)
    np.testing.assert_allclose(seen(found), (weights * photo[0]).sum(dim=0).numpy(), rtol=1e-4, atol=1e-6)


def test_occlusion_finds_the_corner_that_is_looked_at(photo: Tensor) -> None:
    network = plain(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 2))
    weights = torch.zeros(2, 3, SIZE, SIZE)
    weights[1, :, 20:28, 4:12] = 0.02
    with torch.no_grad():
        network.body.get_parameter("1.weight").copy_(weights.flatten(1))
    found = occlusion.explain(network, photo, Subject("classification", 1, "dog"), Options(window=0.125)).map
    assert found is not None
    assert found[20:28, 4:12].min() > 0
    far = np.ones_like(found, dtype=bool)
    far[16:32, 0:16] = False
    assert not found[far].any()


def test_guided_backpropagation_is_captums(photo: Tensor) -> None:
    from captum.attr import GuidedBackprop

    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 28 * 28, 3))
    network = plain(*layers)
    found = guided.explain(network, photo, Subject("classification", 1, "dog"), Options())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Captum says that it sets hooks
        theirs = GuidedBackprop(network).attribute(photo.clone().requires_grad_(), target=1)
    np.testing.assert_allclose(seen(found), theirs[0].abs().amax(dim=0).detach().numpy(), rtol=1e-4, atol=1e-8)


def test_guided_backpropagation_sees_functions_bounds_and_work_in_place(photo: Tensor) -> None:
    class Functional(nn.Module):
        def forward(self, values: Tensor) -> Tensor:
            return F.relu(F.relu6(values * 20 - 5), inplace=True)

    network = plain(nn.Conv2d(3, 4, 1), Functional(), nn.ReLU6(inplace=True), nn.Flatten(), nn.Linear(4 * SIZE**2, 2))
    with torch.no_grad(), guided.Guided() as mode:
        inside = network(photo)
    assert mode.met == 3
    assert torch.equal(inside, network(photo))  # forwards nothing changes
    assert guided.applies(plain(nn.Conv2d(3, 4, 1), nn.GELU(), nn.Flatten()), "classification", photo)


def test_rollout_multiplies_the_attention_of_all_blocks(make: Make, photo: Tensor) -> None:
    network = make("small:vit", depth=2).network
    body: Any = network.body.get_submodule("trunk")
    with torch.no_grad():
        tokens = body.patches((photo - network.mean) / network.std).flatten(2).transpose(1, 2) + body.positions
        flow = torch.eye(tokens.shape[1])
        for block in body.blocks:
            normal = block.norm_attention(tokens)
            query, key, _ = block.qkv(normal).view(1, -1, 3, block.heads, 32).permute(2, 0, 3, 1, 4)
            mixed = (query @ key.transpose(-2, -1) / 32**0.5).softmax(-1).mean(dim=1)[0] + torch.eye(len(flow))
            flow, tokens = mixed / 2 @ flow, block(tokens)
    found = rollout.explain(network, photo, Subject("classification", 0, "cat"), Options())
    np.testing.assert_allclose(seen(found), large(flow.mean(dim=0).view(8, 8)), rtol=1e-4)


def test_rollout_reads_attention_of_other_suppliers(make: Make, photo: Tensor) -> None:
    model = make("timm:vit_tiny_patch16_224", img_size=SIZE, patch_size=8, depth=2)
    assert rollout.applies(model.network, "classification", photo) == ""
    assert [tuple(one.shape) for one in rollout.attentions(model.network, photo)] == [(17, 17)] * 2
    assert rollout.applies(make("small:cnn").network, "classification", photo)


@pytest.mark.parametrize(
    ("arch", "layer"),
    [
        ("small:cnn", "trunk"),
        ("small:vit", "trunk"),
        ("timm:vit_tiny_patch16_224", "blocks.1.norm1"),  # behind it only the class token is looked at
    ],
)
def test_the_last_layer_that_matters_is_chosen(make: Make, photo: Tensor, arch: str, layer: str) -> None:
    options = {"img_size": SIZE, "patch_size": 8, "depth": 2} if arch.startswith("timm") else {}
    assert find_layer(make(arch, **options).network, Subject("classification", 0, "cat"), photo).name == layer


def test_a_wrong_layer_is_named_with_the_nearest(make: Make, photo: Tensor) -> None:
    with pytest.raises(UsageError, match="did you mean trunk"):
        gradcam.explain(make("small:cnn").network, photo, Subject("classification", 0, "cat"), Options(layer="trnk"))


@pytest.mark.parametrize("explainer", EXPLAINERS, ids=lambda explainer: explainer.NAME)
@pytest.mark.parametrize(
    ("arch", "task"),
    [
        ("small:cnn", "classification"),
        ("small:vit", "classification"),
        ("small:unet", "semantic"),
        ("small:fcos", "detection"),
        ("small:mask_rcnn", "instance"),
    ],
)
def test_methods_keep_to_their_contract(
    make: Make, photo: Tensor, explainer: Explainer, arch: str, task: TaskName
) -> None:
    model = make(arch, task)
    network = model.network.train()
    before = left(network)
    with at_rest(network):
        subject = find_subject(network, task, model.classes, photo)
        if not explainer.applies(network, task, photo):
            options = Options(steps=4, window=0.25)
            found, again = (explainer.explain(network, photo, subject, options) for _ in range(2))
            assert found.map is not None or found.pictures
            for picture in found.pictures:
                assert picture.pixels.dtype == np.uint8
                assert picture.pixels.shape[2] == 3
            if found.map is not None:
                assert found.map.shape == (SIZE, SIZE)
                assert found.map.dtype == np.float32
                assert np.isfinite(found.map).all()
                assert found.map.any()
                assert found.signed or found.map.min() >= 0
                np.testing.assert_array_equal(found.map, again.map)
    assert left(network) == before
    network.eval()


def left(network: Network) -> tuple[object, ...]:
    """Return all that a method could have left behind: values, modes, gradients, hooks, thresholds."""
    modules = list(network.modules())
    return (
        [(name, tensor.numpy().tobytes()) for name, tensor in network.state_dict().items()],
        [(m.training, len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in modules],
        [(p.requires_grad, p.grad is None) for p in network.parameters()],
        [getattr(m, "score_thresh", None) for m in modules],
    )


def test_subjects_are_what_the_network_says(make: Make, photo: Tensor) -> None:
    model = make("small:unet", "semantic")
    with torch.no_grad():
        labels = model.network(photo).argmax(dim=1)[0]
    subject = find_subject(model.network, "semantic", ("background", *"ab"), photo)
    own = int(torch.bincount(labels.flatten(), minlength=3)[1:].argmax()) + 1
    assert subject.index == own or not (labels > 0).any()
    assert subject.region is not None
    assert torch.equal(subject.region, labels == subject.index)
    boxes = make("small:fcos", "detection").network
    with torch.no_grad():
        best = boxes(photo)[0]
    found = find_subject(boxes, "detection", model.classes, photo)
    assert found.box == tuple(best["boxes"][0].tolist())
    assert float(found.sure(boxes, photo).detach()) == pytest.approx(found.probability)
    with pytest.raises(DataError, match="finds no object"):
        find_subject(make_blind(boxes), "detection", model.classes, photo)


def make_blind(network: Network) -> Network:
    """Let a detector find nothing."""
    for name, parameter in network.named_parameters():
        if name.endswith("cls_logits.bias"):
            nn.init.constant_(parameter, -1e4)
    return network
