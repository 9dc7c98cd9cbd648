"""The engine against captum on MONAI's networks, in 2D and 3D."""

from __future__ import annotations

import pytest
import torch
from captum.attr import LayerGradCam
from monai.networks.nets import DenseNet121, EfficientNetBN, SEResNet50, resnet18
from torch import nn

from napari_gradcam.cam import class_activation_map

NETWORKS = {
    "DenseNet121": (
        lambda dims: DenseNet121(spatial_dims=dims, in_channels=1, out_channels=2),
        "class_layers.relu",
    ),
    "ResNet18": (lambda dims: resnet18(spatial_dims=dims, n_input_channels=1, num_classes=2), "layer4"),
    "SEResNet50": (lambda dims: SEResNet50(spatial_dims=dims, in_channels=1, num_classes=2), "layer4"),
    "EfficientNet-b0": (
        lambda dims: EfficientNetBN(
            "efficientnet-b0", spatial_dims=dims, in_channels=1, num_classes=2, pretrained=False
        ),
        "_conv_head",
    ),
}
# An inner layer whose output goes into an in-place ReLU, where a network has one.
BEFORE_AN_INPLACE_RELU = {
    "DenseNet121": "features.norm5",
    "ResNet18": "layer3.1.bn1",
    "SEResNet50": "layer3.0.conv1.conv",
}


def build(name: str, dims: int) -> nn.Module:
    torch.manual_seed(0)
    network = NETWORKS[name][0](dims).eval().requires_grad_(False)
    # Fresh batch norms have nothing to normalise with: small statistics of their own make the maps less degenerate.
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    # Class 1 is the opposite of class 0, so that where one has nothing for it the other has.
    head = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        head.weight[1] = -head.weight[0]
    return network


def assert_equals_captum(network: nn.Module, layer: str, dims: int) -> None:
    torch.manual_seed(1)
    inputs = torch.randn(2, 1, 64, 64) if dims == 2 else torch.randn(1, 1, 48, 48, 48)
    ours = class_activation_map(network, inputs, layer=layer, targets=[0, 1]).maps
    # captum needs a graph from the input on, and takes no ReLU unless asked.
    captum = LayerGradCam(network, dict(network.named_modules())[layer])
    for target in (0, 1):
        theirs = captum.attribute(inputs.clone().requires_grad_(), target=target, relu_attributions=True)[:, 0].detach()
        scale = float(theirs.abs().max())
        torch.testing.assert_close(ours[:, target], theirs, rtol=1e-5, atol=1e-5 * scale)
    assert ours.max() > 0, "a comparison of empty maps proves nothing"


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_gradcam_equals_captum_at_the_default_layer(name: str, dims: int) -> None:
    assert_equals_captum(build(name, dims), NETWORKS[name][1], dims)


@pytest.mark.parametrize(("name", "dims"), [("DenseNet121", 2), ("ResNet18", 2), ("ResNet18", 3), ("SEResNet50", 2)])
def test_gradcam_equals_captum_before_an_in_place_relu(name: str, dims: int) -> None:
    assert_equals_captum(build(name, dims), BEFORE_AN_INPLACE_RELU[name], dims)
