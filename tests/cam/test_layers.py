"""The survey: what is listed, what can be a target, what is taken when nobody asks."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import Classifier, DenseNet, DenseNet121, EfficientNetBN, SEResNet50, resnet18
from torch import nn

from napari_gradcam.cam import class_activation_map, on_scan, recommended, survey
from napari_gradcam.classifiers.scores import Head
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


def small_densenet(dims: int) -> DenseNet:
    return DenseNet(dims, 1, 2, init_features=4, growth_rate=4, block_config=(1, 1, 1, 1), bn_size=1)


def test_each_layer_tells_its_kind_channels_grid_cell_and_calls() -> None:
    network = nn.Sequential(
        nn.Conv3d(2, 5, 3, stride=2, padding=1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(5, 3)
    )
    conv, relu, pool, flat, head = survey(network, (2, 16, 12, 9))
    assert (conv.name, conv.kind, conv.channels, conv.grid, conv.calls) == ("0", "Conv3d", 5, (8, 6, 5), 1)
    assert conv.cell == (2.0, 2.0, 1.8)
    assert conv.cell_mm is None
    assert (conv.problem, conv.warning) == (None, None)
    assert (relu.kind, relu.grid) == ("ReLU", (8, 6, 5))
    assert (pool.grid, pool.cell) == ((1, 1, 1), (16.0, 12.0, 9.0))
    assert pool.problem == "Its grid is a single cell, which has no place."
    assert (flat.kind, flat.channels, flat.grid, flat.cell, flat.problem) == (
        "Flatten",
        0,
        (),
        (),
        "It gives no feature maps.",
    )
    assert head.problem == "It gives no feature maps."
    assert [layer.reason for layer in (conv, pool, flat, head)] == [None] * 4
    assert relu.reason == "The deepest layer that still has a grid, before the network pools it away."


def test_cells_are_told_in_mm_on_a_scan_and_the_warning_with_them() -> None:
    network = nn.Sequential(nn.Conv3d(1, 2, 1), nn.MaxPool3d(8), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(2, 2))
    plain = survey(network, (1, 32, 24, 64))
    fine, coarse, pool, flat, _ = on_scan(plain, (0.5, 1.0, 2.5))
    assert plain[1].warning == "Its cells are 8 × 8 × 8 input voxels: too coarse to place a finding."
    assert (fine.cell_mm, fine.warning) == ((0.5, 1.0, 2.5), None)
    assert coarse.grid == (4, 3, 8)
    assert coarse.cell_mm == (4.0, 8.0, 20.0)
    assert coarse.warning == "Its cells are 4.0 × 8.0 × 20.0 mm: too coarse to place a finding."
    assert pool.cell_mm == (16.0, 24.0, 160.0)
    assert pool.warning is None  # its problem says more
    assert flat.cell_mm is None
    assert [layer.reason for layer in (fine, coarse, pool)] == [layer.reason for layer in plain[:3]]


@pytest.mark.parametrize(("side", "warned"), [(1, True), (2, True), (3, True), (4, False), (5, False)])
def test_grids_of_three_cells_a_side_and_less_carry_a_warning(side: int, warned: bool) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 8, stride=8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    layer = survey(network, (1, 8 * side, 64))[0]
    assert layer.grid == (side, 8)
    assert (layer.warning is not None) is warned


@pytest.mark.parametrize(("dims", "side"), [(2, 96), (3, 96)])
def test_the_recommended_layer_is_the_deepest_that_can_place_a_finding(dims: int, side: int) -> None:
    """A DenseNet at 96 a side ends on 3 cells a side: 32 voxels each."""
    layers = {layer.name: layer for layer in survey(small_densenet(dims), (1, *(side,) * dims))}
    last = layers["class_layers.relu"]
    assert last.grid == (3,) * dims
    assert last.warning is not None
    best = recommended(tuple(layers.values()))
    assert best.name == "features.transition3.conv"
    assert best.grid == (6,) * dims
    assert best.reason == "The deepest layer with 4 cells a side or more; deeper ones cannot place a finding."
    assert best.warning is None


def test_where_no_layer_is_fine_enough_the_deepest_is_taken_and_it_says_so() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 8, stride=8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    best = recommended(survey(network, (1, 24, 24)))
    assert best.name == "1"
    assert best.reason == "The deepest layer that still has a grid; no layer has one fine enough to place a finding."
    assert best.warning is not None


@pytest.mark.parametrize("slices", [1, 2, 3])
def test_an_axis_of_few_voxels_does_not_rule_a_layer_out(slices: int) -> None:
    network = nn.Sequential(
        nn.Conv3d(1, 4, 3, stride=(4, 4, 1), padding=1),
        nn.ReLU(),
        nn.MaxPool3d((4, 4, 1)),
        nn.Conv3d(4, 4, 1),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    )
    layers = survey(network, (1, 32, 32, slices))
    assert layers[1].grid == (8, 8, slices)
    assert layers[1].warning is None
    assert layers[3].warning is not None
    assert recommended(layers).name == "1"


def test_a_layer_that_runs_twice_or_only_hands_on_is_not_recommended() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 1)
            self.relu, self.norm, self.drop = nn.ReLU(), nn.BatchNorm2d(4), nn.Dropout(0.5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.drop(self.norm(self.relu(self.two(self.relu(self.one(x)))))).mean(dim=(2, 3))[:, :3]

    layers = survey(Shared(), (1, 8, 8))
    assert recommended(layers).name == "two"
    assert {layer.name: layer.calls for layer in layers}["relu"] == 2


@pytest.mark.parametrize("build", [lambda: small_densenet(2), lambda: resnet18(spatial_dims=2, n_input_channels=1)])
def test_a_survey_leaves_the_network_untouched(build) -> None:
    network = build().train()
    next(network.modules()).eval()
    flags = [module.training for module in network.modules()]
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    numbers = torch.get_rng_state()
    survey(network, (1, 64, 64))
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), numbers)
    assert [module.training for module in network.modules()] == flags
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    # After an input it does not take, too.
    with pytest.raises(GradCamError, match="does not accept an input of 5 × 64 × 64"):
        survey(network, (5, 64, 64))
    assert [module.training for module in network.modules()] == flags
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_torchscript_network_is_refused_with_what_to_use_instead() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU())
    scripted = torch.jit.trace(network.eval(), torch.zeros(1, 1, 8, 8))
    with pytest.raises(GradCamError, match=r"TorchScript, whose layers cannot.*network_def and model\.pt"):
        survey(scripted, (1, 8, 8))


@pytest.mark.parametrize("network", [nn.Sequential(), nn.ReLU()], ids=["empty", "one module"])
def test_a_network_without_layers_of_its_own_is_said_to_have_none(network: nn.Module) -> None:
    with pytest.raises(GradCamError, match="has no layer with a grid"):
        recommended(survey(network, (1, 8, 8)))


def test_a_one_by_one_head_before_the_pool_is_not_recommended() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.AdaptiveAvgPool2d(1))
    assert recommended(survey(network, (1, 8, 8))).name == "1"
    # A 1 × 1 convolution to as many features as it likes is none.
    features = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 8, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert recommended(survey(nn.Sequential(features, nn.Linear(8, 2)), (1, 8, 8))).name == "0.1"


class PooledTokens(nn.Module):
    """Patches of 4 with a class token, all of them averaged for the scores."""

    def __init__(self, scores: int, ends_in_softmax: bool) -> None:
        super().__init__()
        self.patches, self.norm = nn.Conv2d(1, 6, 4, stride=4), nn.LayerNorm(6)
        self.block, self.head, self.ends_in_softmax = (
            nn.Sequential(nn.Linear(6, 6)),
            nn.Linear(6, scores),
            ends_in_softmax,
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([torch.zeros_like(tokens[:, :1]), tokens], dim=1)
        scores = self.head(self.norm(self.block(tokens)).mean(dim=1))
        return scores.softmax(dim=1) if self.ends_in_softmax else scores


@pytest.mark.parametrize(("scores", "ends_in_softmax"), [(1, False), (2, False), (3, True)])
def test_tokens_reach_the_scores_of_any_head(scores: int, ends_in_softmax: bool) -> None:
    # The two scores of one logit, and the probabilities of a softmax, have a sum that no token moves.
    head = Head(max(scores, 2), "softmax" if scores > 1 else "sigmoid")
    layers = survey(PooledTokens(scores, ends_in_softmax), (1, 16, 16), head.class_scores)
    assert recommended(layers).name == "block"
    assert next(layer for layer in layers if layer.name == "block").problem is None


# Layers whose cells are not even shares of the input


@pytest.mark.parametrize(("dims", "side"), [(2, 64), (2, 96), (2, 112), (3, 96)])
def test_the_recommended_layer_of_an_efficientnet_never_has_a_border(dims: int, side: int) -> None:
    """Its convolutions are padded by layers of their own, of which the last makes 4 cells a side of 2 or 3."""
    network = EfficientNetBN("efficientnet-b0", spatial_dims=dims, in_channels=1, num_classes=2, pretrained=False)
    layers = survey(network, (1, *(side,) * dims))
    best = recommended(layers)
    assert all(size == side / cells for size, cells in zip(best.cell, best.grid, strict=True))
    assert not best.kind.endswith("Pad2d")
    assert (side // best.grid[0]) in (8, 16, 32)  # the strides of its stages
    padded = [layer for layer in layers if layer.name.endswith("_padding") and layer.kind.startswith("ConstantPad")]
    assert padded
    assert all(layer.problem and "border" in layer.problem for layer in padded)


class Bordered(nn.Module):
    """Four quarters of the input, a border around them, and a convolution that takes it off again."""

    def __init__(self, pad: nn.Module) -> None:
        super().__init__()
        self.pool, self.pad, self.relu = nn.AvgPool2d(16), pad, nn.ReLU()
        self.whole = nn.Sequential(self.pad)
        self.conv, self.head = nn.Conv2d(1, 1, 3, bias=False), nn.Linear(1, 2)
        nn.init.ones_(self.conv.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.conv(self.relu(self.whole(self.pool(x)))).mean(dim=(2, 3)))


class OwnPad(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.pad(x, (0, 1, 1, 1))


PADS = [
    nn.ConstantPad2d(1, 0.0), nn.ZeroPad2d((1, 0, 1, 1)), nn.ReflectionPad2d(1), nn.ReplicationPad2d(1),
    nn.CircularPad2d(1), nn.ZeroPad2d((1, -1, 0, 2)), OwnPad(),
]  # fmt: skip


@pytest.mark.parametrize("pad", PADS, ids=lambda pad: type(pad).__name__)
def test_layers_with_a_border_are_no_targets_until_it_is_taken_off(pad: nn.Module) -> None:
    network = Bordered(pad)
    layers = {layer.name: layer for layer in survey(network, (1, 64, 64))}
    refused = {name for name, layer in layers.items() if layer.problem and "border" in layer.problem}
    assert refused == {"pad", "whole", "relu"}
    assert recommended(tuple(layers.values())).name in ("pool", "conv")
    with pytest.raises(GradCamError, match="“pad” puts a border around what it reads"):
        class_activation_map(network, torch.rand(1, 1, 64, 64), "pad", [0])


@pytest.mark.parametrize("enlarge", [nn.Upsample(scale_factor=1.5), nn.PixelShuffle(2), nn.ZeroPad2d(0)])
def test_layers_that_enlarge_evenly_or_add_nothing_stay_targets(enlarge: nn.Module) -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 4, stride=4), enlarge, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    layers = survey(network, (1, 32, 32))
    assert layers[1].problem is None
