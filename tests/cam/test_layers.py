"""The survey: what is listed, what can be a target, what is taken when nobody asks."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import Classifier, DenseNet121, EfficientNetBN, SEResNet50, resnet18
from torch import nn

from napari_gradcam.cam import recommended, survey
from napari_gradcam.errors import GradCamError

NETWORKS = {
    "class_layers.relu": lambda: DenseNet121(spatial_dims=2, in_channels=1, out_channels=2),
    "layer4": lambda: resnet18(spatial_dims=3, n_input_channels=1, num_classes=2),
    "layer4 ": lambda: SEResNet50(spatial_dims=2, in_channels=1, num_classes=2),
    "_conv_head": lambda: EfficientNetBN(
        "efficientnet-b0", spatial_dims=2, in_channels=1, num_classes=2, pretrained=False
    ),
    "net": lambda: Classifier(in_shape=(1, 128, 128), classes=2, channels=(4, 8), strides=(2, 2)),
}


@pytest.mark.parametrize("layer", NETWORKS)
def test_the_default_is_the_deepest_layer_before_pooling(layer: str) -> None:
    network = NETWORKS[layer]()
    shape = (
        (1, 64, 64, 64)
        if isinstance(next(m for m in network.modules() if hasattr(m, "stride")), nn.Conv3d)
        else (1, 128, 128)
    )
    assert recommended(survey(network, shape)).name == layer.strip()


def test_a_one_by_one_convolution_as_head_is_not_taken() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 2, 1))
    layers = {layer.name: layer for layer in survey(network, (1, 8, 8))}
    assert recommended(tuple(layers.values())).name == "1"
    assert layers["3"].problem == "Its grid is a single cell, which has no place."
    assert layers["0"].grid == (8, 8)
    assert layers["0"].channels == 4


def test_calls_are_counted_and_idle_layers_listed_last() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.idle = nn.Conv2d(4, 4, 1)
            self.conv = nn.Conv2d(1, 1, 3, padding=1)
            self.relu = nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.relu(self.conv(self.relu(self.conv(x)))).mean(dim=(2, 3))

    network = Shared().train()
    layers = survey(network, (1, 8, 8))
    assert [(layer.name, layer.calls) for layer in layers] == [("conv", 2), ("relu", 2), ("idle", 0)]
    assert layers[-1].problem == "It never runs."
    assert network.training
    assert not any(module._forward_hooks for module in network.modules())


def test_a_network_without_feature_maps_has_no_default() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    with pytest.raises(GradCamError, match="no layer with a grid"):
        recommended(survey(network, (1, 8, 8)))


def test_an_input_the_network_does_not_accept_is_refused_with_its_size() -> None:
    with pytest.raises(GradCamError, match="does not accept an input of 3 × 8 × 8"):
        survey(nn.Sequential(nn.Conv2d(1, 2, 3)), (3, 8, 8))
