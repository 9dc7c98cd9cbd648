"""The engine against captum on MONAI's networks, in 2D and 3D, and against itself without its layout in memory."""

from __future__ import annotations

from contextlib import nullcontext
from copy import deepcopy
from typing import TYPE_CHECKING, NamedTuple

import pytest
import torch
from captum.attr import LayerGradCam
from monai.networks.nets import (
    Classifier,
    DenseNet121,
    EfficientNetBN,
    SEResNet50,
    SEResNext50,
    resnet10,
    resnet18,
    resnet50,
)
from torch import Tensor, nn

from napari_gradcam.cam import class_activation_map, running

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = {2: (64, 48), 3: (64, 32, 32)}


class Plan(NamedTuple):
    """How a network is built, its last layer with a grid, and one before an in-place ReLU, where it has any."""

    build: Callable[[int], nn.Module]
    layer: str
    inner: str


NETWORKS = {
    "DenseNet121": Plan(
        lambda dims: DenseNet121(spatial_dims=dims, in_channels=1, out_channels=2),
        "class_layers.relu",
        "features.norm5",
    ),
    "ResNet10": Plan(
        lambda dims: resnet10(spatial_dims=dims, n_input_channels=1, num_classes=2), "layer4", "layer3.0.bn1"
    ),
    "ResNet18": Plan(
        lambda dims: resnet18(spatial_dims=dims, n_input_channels=1, num_classes=2), "layer4", "layer3.1.bn1"
    ),
    "ResNet50": Plan(
        lambda dims: resnet50(spatial_dims=dims, n_input_channels=1, num_classes=2), "layer4", "layer3.1.bn2"
    ),
    "SEResNet50": Plan(
        lambda dims: SEResNet50(spatial_dims=dims, in_channels=1, num_classes=2), "layer4", "layer3.0.conv1.conv"
    ),
    "SEResNext50": Plan(
        lambda dims: SEResNext50(spatial_dims=dims, in_channels=1, num_classes=2), "layer4", "layer3.0.conv1.conv"
    ),
    "EfficientNet-b0": Plan(
        lambda dims: EfficientNetBN(
            "efficientnet-b0", spatial_dims=dims, in_channels=1, num_classes=2, pretrained=False
        ),
        "_conv_head",
        "_blocks.4.10._bn0",
    ),
    "Classifier": Plan(
        lambda dims: Classifier(in_shape=(1, *SIZES[dims]), classes=2, channels=(4, 8), strides=(2, 2)),
        "net",
        "net.layer_0.conv.unit0.conv",
    ),
}


class Case(NamedTuple):
    """A network, its layers and an input."""

    network: nn.Module
    layer: str
    inner: str
    inputs: Tensor


@pytest.fixture(
    scope="module", params=[(name, dims) for name in NETWORKS for dims in (2, 3)], ids="{0[0]}-{0[1]}D".format
)
def case(request: pytest.FixtureRequest) -> Case:
    name, dims = request.param
    torch.manual_seed(0)
    plan = NETWORKS[name]
    network = plan.build(dims).eval().requires_grad_(False)
    # Fresh batch norms have nothing to normalise with: small statistics of their own make the maps less degenerate.
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    # Class 1 is the opposite of class 0, so that where one has nothing for it the other has.
    head = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        head.weight[1] = -head.weight[0]
    return Case(network, plan.layer, plan.inner, torch.randn(2 if dims == 2 else 1, 1, *SIZES[dims]))


def assert_equals_captum(case: Case, layer: str) -> None:
    """Compare the map of whichever class has more evidence, because a comparison of empty maps proves nothing."""
    network, inputs = case.network, case.inputs
    ours = class_activation_map(network, inputs, layer=layer, targets=[0, 1]).maps
    target = int(ours.amax(dim=(0, *range(2, ours.ndim))).argmax())
    assert ours.shape[2:].numel() > 1
    assert ours[:, target].max() > 0
    # captum needs a graph from the input on, and takes no ReLU unless asked.
    captum = LayerGradCam(network, network.get_submodule(layer))
    theirs = captum.attribute(
        inputs.clone().requires_grad_(), target=target, attribute_to_layer_input=False, relu_attributions=True
    )[:, 0].detach()
    scale = float(theirs.abs().max())
    torch.testing.assert_close(ours[:, target], theirs, rtol=1e-5, atol=1e-5 * scale)


def test_gradcam_equals_captum_at_the_default_layer(case: Case) -> None:
    assert_equals_captum(case, case.layer)


def test_gradcam_equals_captum_at_an_inner_layer(case: Case) -> None:
    # In double precision: in single precision rounding that another layout in memory changes may carry an activation
    # across the kink of one of the many ReLUs behind the layer, and its gradient with it.
    double = case._replace(network=deepcopy(case.network).double(), inputs=case.inputs.double())
    assert_equals_captum(double, case.inner)


def test_channels_side_by_side_in_memory_do_not_change_the_map(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    with_layout = class_activation_map(case.network, case.inputs, case.layer, [0, 1], "hirescam", signed=True)
    monkeypatch.setattr(running, "_channels_last", lambda *_: nullcontext())
    without = class_activation_map(case.network, case.inputs, case.layer, [0, 1], "hirescam", signed=True)
    scale = float(without.maps.abs().max())
    assert scale > 0
    torch.testing.assert_close(with_layout.maps, without.maps, rtol=1e-4, atol=1e-4 * scale)
    torch.testing.assert_close(with_layout.logits, without.logits, rtol=1e-4, atol=1e-4)
