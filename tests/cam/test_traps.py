"""The traps that caught others (notes on class activation maps), each with the test that catches it here."""

from __future__ import annotations

import ast
import inspect
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.networks.nets import Classifier, DenseNet, EfficientNetBN, ResNet, ViT
from nibabel.affines import apply_affine, from_matvec
from torch import Tensor, nn

from napari_gradcam import explain, load_classifier, read_volume
from napari_gradcam.cam import METHODS, class_activation_map, class_activation_steps, maps_of, on_scan, survey
from napari_gradcam.classifiers.scores import Head
from napari_gradcam.errors import GradCamError
from napari_gradcam.samples import DEMO_CLASSIFIER, DEMO_SCAN
from napari_gradcam.volumes.placement import place_on_grid

if TYPE_CHECKING:
    from collections.abc import Callable

TRAPS = {
    "1 inverted colours": ["test_traps.py::test_a_known_blob_is_the_maximum"],
    "2 classes mixed across a batch": [
        "test_traps.py::test_each_sample_of_a_batch_gets_the_class_asked_for",
        "test_capture.py::test_a_batch_equals_one_by_one",
    ],
    "3 exp(score) in Grad-CAM++": ["test_traps.py::test_a_large_logit_does_not_change_the_map"],
    "4 traces left on the network": [
        "test_capture.py::test_the_digest_sees_each_kind_of_trace",
        "test_capture.py::test_the_network_is_untouched_after_success",
        "test_capture.py::test_the_network_is_untouched_after_an_error",
        "test_capture.py::test_the_network_is_untouched_after_cancelling",
        "test_capture.py::test_the_network_is_untouched_after_breaking_in_any_pass",
    ],
    "5 frozen, no_grad, inference_mode": [
        "test_traps.py::test_frozen_weights_in_inference_mode_give_the_same_map",
        "test_capture.py::test_maps_are_the_same_frozen_and_in_every_mode_of_the_caller",
    ],
    "6 in-place ReLU after the target": [
        "test_traps.py::test_an_in_place_relu_does_not_overwrite_what_was_captured",
        "test_peers.py::test_gradcam_equals_captum_at_an_inner_layer",
    ],
    "7 target called twice": [
        "test_traps.py::test_a_shared_module_tells_how_often_it_ran",
        "test_capture.py::test_a_layer_that_runs_twice_is_cut_at_its_last_run_and_counted",
    ],
    "8 upsampling that moves the map": ["test_traps.py::test_a_hot_cell_keeps_its_centre_in_the_world"],
    "9 map left on the network's grid": [
        "../test_explainer.py::test_the_peak_is_in_the_cell_of_the_finding_for_every_orientation",
        "../test_explainer.py::test_inverting_the_transforms_is_a_second_way_to_the_same_place",
    ],
    "10 channel axis after wrapping": [
        "../test_explainer.py::test_the_peak_is_in_the_cell_of_the_finding_for_every_orientation",
    ],
    "11 normalised twice or per slice": [
        "../test_explainer.py::test_raw_values_are_kept_so_that_a_weaker_finding_has_a_weaker_map",
    ],
    "12 saturated softmax": [
        "test_traps.py::test_a_network_that_ends_in_probabilities_gives_the_map_of_its_scores",
        "../test_explainer.py::test_a_network_that_ends_in_softmax_is_recognised",
    ],
    "13 heads": [
        "test_traps.py::test_each_head_gives_the_map_of_its_own_score",
        "test_by_hand.py::test_scores_are_found_in_what_networks_return",
    ],
    "14 empty map shown as noise": [
        "test_traps.py::test_a_class_with_nothing_for_it_is_empty_by_every_method_with_a_class",
        "../test_explainer.py::test_a_class_with_no_evidence_has_an_empty_map",
        "../viewer/test_overlay.py::test_a_map_without_heat_makes_no_layer_and_empties_the_one_there_is",
        "../export/test_picture.py::test_an_empty_map_paints_nothing_and_says_so",
    ],
    "15 head or coarse grid as default": [
        "test_traps.py::test_the_survey_warns_of_a_coarse_grid_and_never_takes_the_head",
        "test_layers.py::test_a_one_by_one_convolution_as_head_is_not_taken",
    ],
    "16 Score- and Ablation-CAM in 3D": [
        "test_traps.py::test_scorecam_and_ablationcam_run_in_3d_and_leave_no_trace",
    ],
    "17 gradients underflow in half precision": [
        "test_traps.py::test_half_precision_gives_the_map_of_single_precision",
    ],
    "18 wrappers and TorchScript": [
        "test_traps.py::test_a_wrapped_network_is_explained_under_its_prefix",
        "test_capture.py::test_torchscript_is_refused_with_what_to_use_instead",
        "../classifiers/test_bundle.py::test_wrapped_state_dicts_are_unwrapped",
    ],
    "19 guided backpropagation": ["test_traps.py::test_nothing_is_offered_that_fails_sanity_checks"],
    "20 flip augmentation": ["test_traps.py::test_nothing_is_offered_that_fails_sanity_checks"],
    "21 a good classifier with a wrong map": [
        "test_traps.py::test_the_demo_model_puts_its_hottest_voxel_in_the_lesion",
        "../test_sample_data.py::test_the_mask_lies_on_the_bright_lesion_in_the_right_hemisphere",
    ],
}
"""Each trap, and the tests that catch it, from this folder."""

BY_GRADIENT = [name for name, method in METHODS.items() if method.needs == "gradients"]
WITH_CLASS = [name for name, method in METHODS.items() if method.needs != "activations"]


@pytest.mark.parametrize("trap", TRAPS)
def test_each_trap_is_caught_by_tests_that_there_are(trap: str) -> None:
    assert TRAPS[trap]
    for place in TRAPS[trap]:
        file, name = place.split("::")
        tree = ast.parse((Path(__file__).parent / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, place


def test_all_twenty_one_traps_are_in_the_table() -> None:
    assert [int(trap.split()[0]) for trap in TRAPS] == list(range(1, 22))


class Spots(nn.Module):
    """Finds what is brighter than 1/2 and what is darker than −1/2, in cells of 4; classes: dark, bright, neither."""

    weights = torch.tensor([[-1.0, 2.0], [2.0, -1.0], [-1.0, -1.0]])

    def __init__(self, dims: int = 2) -> None:
        super().__init__()
        self.mean = (nn.Conv2d, nn.Conv3d)[dims - 2](1, 2, 4, stride=4)
        self.relu = nn.ReLU(inplace=True)
        self.pool = (nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)[dims - 2](1)
        self.head = nn.Linear(2, len(self.weights))
        with torch.no_grad():
            self.mean.weight[0], self.mean.weight[1] = 4.0**-dims, -(4.0**-dims)
            self.mean.bias.fill_(-0.5)
            self.head.weight.copy_(self.weights)
            self.head.bias.copy_(torch.tensor([0.1, -0.2, 0.3]))

    def forward(self, x: Tensor) -> Any:
        return self.head(self.pool(self.relu(self.mean(x))).flatten(1))


def spots(bright: tuple[int, ...] | None, dark: tuple[int, ...] | None, height: float = 3.0) -> Tensor:
    """Make an input of 32 voxels a side with a bright and a dark cell of 4, and the rest a little of each."""
    dims = len(bright or dark or ())
    values = 0.1 * torch.randn((32,) * dims, generator=torch.Generator().manual_seed(0))
    for cell, value in ((bright, height), (dark, -height)):
        if cell is not None:
            values[tuple(slice(4 * n, 4 * n + 4) for n in cell)] += value
    return values[None, None]


# Trap 1


@pytest.mark.parametrize("method", WITH_CLASS)
@pytest.mark.parametrize(("bright", "dark"), [((5, 2), (1, 6)), ((5, 2, 3), (1, 6, 4))], ids=["2D", "3D"])
def test_a_known_blob_is_the_maximum(bright: tuple[int, ...], dark: tuple[int, ...], method: str) -> None:
    result = class_activation_map(Spots(len(bright)), spots(bright, dark), "relu", [1, 0], method)
    for found, cell in zip(result.maps[0], (bright, dark), strict=True):
        assert found.shape == (8,) * len(bright)
        assert np.unravel_index(int(found.argmax()), found.shape) == cell
        assert found.min() >= 0


# Trap 2


@pytest.mark.parametrize("method", WITH_CLASS)
def test_each_sample_of_a_batch_gets_the_class_asked_for(method: str) -> None:
    # The first sample is bright, the second dark: their best classes differ.
    batch = torch.cat([spots((5, 2), None, 300), spots(None, (1, 6), 300)])
    result = class_activation_map(Spots(), batch, "relu", [0, 1], method)
    assert result.logits.argmax(dim=1).tolist() == [1, 0]
    for row, target in ((0, 1), (1, 0)):
        alone = class_activation_map(Spots(), batch[row : row + 1], "relu", [target], method)
        assert alone.maps.max() > 0
        torch.testing.assert_close(result.maps[row, target], alone.maps[0, 0])


# Trap 3


@pytest.mark.parametrize("logit", [120.0, 1e4])
@pytest.mark.parametrize("method", BY_GRADIENT)
def test_a_large_logit_does_not_change_the_map(method: str, logit: float) -> None:
    batch = torch.cat([spots((5, 2), (1, 6)), spots((3, 3), (4, 4)), spots((0, 7), (7, 0))])
    network, large = Spots(), Spots()
    with torch.no_grad():
        large.head.bias += logit
    expected = class_activation_map(network, batch, "relu", [0, 1], method)
    found = class_activation_map(large, batch, "relu", [0, 1], method)
    assert found.logits.min() > logit - 1
    assert (expected.maps.flatten(2).amax(dim=2) > 0).all()
    torch.testing.assert_close(found.maps, expected.maps)


# Trap 5


@pytest.mark.parametrize("method", BY_GRADIENT)
def test_frozen_weights_in_inference_mode_give_the_same_map(method: str) -> None:
    expected = class_activation_map(Spots(), spots((5, 2), (1, 6)), "relu", [0, 1], method).maps
    network = Spots().requires_grad_(False)
    with torch.inference_mode():
        found = class_activation_map(network, spots((5, 2), (1, 6)), "relu", [0, 1], method).maps
    assert expected.max() > 0
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("method", METHODS)
def test_weights_that_were_loaded_in_inference_mode_give_the_same_map_outside_of_it(method: str) -> None:
    expected = class_activation_map(Spots(), spots((5, 2), (1, 6)), "relu", [0, 1], method).maps
    with torch.inference_mode():
        network = Spots()
    found = class_activation_map(network, spots((5, 2), (1, 6)), "relu", [0, 1], method).maps
    torch.testing.assert_close(found, expected)


# Trap 6


@pytest.mark.parametrize("method", BY_GRADIENT)
def test_an_in_place_relu_does_not_overwrite_what_was_captured(method: str) -> None:
    in_place, apart = Spots(), Spots()
    apart.relu = nn.ReLU(inplace=False)
    inputs = spots((5, 2), (1, 6))
    found, expected = (class_activation_map(one, inputs, "mean", [0, 1], method).maps for one in (in_place, apart))
    torch.testing.assert_close(found, expected)
    assert found.max() > 0


# Trap 7


def test_a_shared_module_tells_how_often_it_ran() -> None:
    network = EfficientNetBN("efficientnet-b0", spatial_dims=2, in_channels=1, num_classes=2, pretrained=False)
    result = class_activation_map(network, torch.rand(1, 1, 64, 64), ["_swish", "_conv_head"], [0])
    assert {name: layer.calls for name, layer in result.layers.items()} == {"_swish": 2, "_conv_head": 1}
    assert {layer.name: layer.calls for layer in survey(network, (1, 64, 64))}["_swish"] == 2


# Trap 8


@pytest.mark.parametrize("shift", [(0.0, 0.0, 0.0), (0.37, -0.21, 0.44)])
@pytest.mark.parametrize("cell", [(3, 4, 2), (1, 6, 5)])
def test_a_hot_cell_keeps_its_centre_in_the_world(cell: tuple[int, ...], shift: tuple[float, ...]) -> None:
    maps = class_activation_map(Spots(3), spots(cell, (7, 0, 7)), "relu", [1]).maps
    hot = maps[0, 0].numpy()
    assert np.argwhere(hot).tolist() == [list(cell)]
    input_affine = from_matvec(np.diag([1.5, 2.0, 2.5]), [-20.0, 11.0, 5.0])
    ratio = 32 / 8
    map_affine = input_affine @ from_matvec(np.diag([ratio] * 3), [(ratio - 1) / 2] * 3)
    # A native grid that runs along y backwards, x and z, around the same middle but for a part of a voxel. Its voxels
    # divide a cell of 6 × 8 × 10 mm evenly, so that linear interpolation keeps the centre of mass exactly.
    shape = (70, 50, 40)
    axes = np.array([[0.0, 1.2, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 2.5]])
    middle = apply_affine(input_affine, [15.5] * 3)
    affine = from_matvec(axes, middle - axes @ ((np.array(shape) - 1) / 2 + shift))
    native = place_on_grid(hot, map_affine, shape, affine).astype(float)
    places = np.argwhere(native > 0)
    centre = np.average(apply_affine(affine, places), axis=0, weights=native[tuple(places.T)])
    # The 4 × 4 × 4 voxels that the cell saw have their centre in their middle.
    np.testing.assert_allclose(centre, apply_affine(input_affine, 4 * np.array(cell) + 1.5), atol=0.01)


# Trap 12


class Ended(Spots):
    """The same network with something after its scores."""

    def __init__(self, end: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.end = end

    def forward(self, x: Tensor) -> Any:
        return self.end(super().forward(x))


ENDINGS: dict[str, tuple[str, Callable[[Tensor], Any]]] = {
    "nn.Softmax": ("softmax", nn.Softmax(dim=1)),
    "nn.LogSoftmax": ("softmax", nn.LogSoftmax(dim=1)),
    "nn.Sigmoid": ("sigmoid", nn.Sigmoid()),
    "F.softmax": ("softmax", partial(nn.functional.softmax, dim=1)),
    "torch.softmax": ("softmax", partial(torch.softmax, dim=1)),
    "x.softmax": ("softmax", lambda x: x.softmax(dim=-1)),
    "F.sigmoid": ("sigmoid", nn.functional.sigmoid),
    "torch.sigmoid": ("sigmoid", torch.sigmoid),
    "x.sigmoid": ("sigmoid", lambda x: x.sigmoid()),
    "torch.special.expit": ("sigmoid", torch.special.expit),
    "x.sigmoid_": ("sigmoid", lambda x: x.sigmoid_()),
    "in a tuple": ("softmax", lambda x: (x.softmax(dim=1), x.new_zeros(len(x), 7))),
    "in a list": ("sigmoid", lambda x: [x.sigmoid()]),
    "in a dict": ("softmax", lambda x: {"features": x.new_zeros(len(x), 7), "logits": x.softmax(dim=1)}),
    "(B, C, 1, 1)": ("softmax", lambda x: x.softmax(dim=1)[:, :, None, None]),
}


@pytest.mark.parametrize("method", ["gradcam", "gradcam++", "scorecam", "ablationcam", "occlusion"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_network_that_ends_in_probabilities_gives_the_map_of_its_scores(ending: str, method: str) -> None:
    kind, end = ENDINGS[ending]
    # Scores of some 600 and −300: softmax and sigmoid are exactly 1 and 0, and their gradient is 0.
    inputs = spots((5, 2), (1, 6), height=2e4)
    expected = class_activation_map(Spots(), inputs, "relu", [0, 1], method)
    network = Ended(end)
    found = class_activation_map(network, inputs, "relu", [0, 1], method)
    assert found.ending == kind
    assert expected.maps.amax(dim=(0, 2, 3)).min() > 0
    torch.testing.assert_close(found.maps, expected.maps)
    torch.testing.assert_close(found.logits, expected.logits)


@pytest.mark.parametrize("end", [lambda x: x, lambda x: x + x.softmax(dim=1), lambda x: (x, x.softmax(dim=1))])
def test_probabilities_that_are_not_the_end_are_left_alone(end: Callable[[Tensor], Any]) -> None:
    result = class_activation_map(Ended(end), spots((5, 2), (1, 6)), "relu", [1])
    assert result.ending is None
    output = Ended(end).eval()(spots((5, 2), (1, 6)))
    torch.testing.assert_close(result.logits, (output[0] if isinstance(output, tuple) else output).detach())


# Trap 13


class OneLogit(Spots):
    """Bright or dark: one score."""

    weights = torch.tensor([[2.0, -1.0]])

    def __init__(self, end: Callable[[Tensor], Any]) -> None:
        nn.Module.__init__(self)
        whole = Spots()
        self.mean, self.relu, self.pool, self.head, self.end = whole.mean, whole.relu, whole.pool, nn.Linear(2, 1), end
        with torch.no_grad():
            self.head.weight.copy_(self.weights)
            self.head.bias.fill_(-0.2)

    def forward(self, x: Tensor) -> Any:
        return self.end(super().forward(x))


# Network, how it is read, and the weights of each class for the means of what is bright and dark.
THREE = Spots.weights.tolist()
HEADS: dict[str, tuple[nn.Module, Head, list[list[float]]]] = {
    "softmax": (Spots(), Head(3, "softmax"), THREE),
    "multi-label": (Spots(), Head(3, "sigmoid"), THREE),
    "multi-label, ended": (Ended(torch.sigmoid), Head(3, "sigmoid"), THREE),
    "one logit": (OneLogit(lambda x: x), Head(2, "sigmoid"), [[-2.0, 1.0], [2.0, -1.0]]),
    "one logit, ended": (OneLogit(torch.sigmoid), Head(2, "sigmoid"), [[-2.0, 1.0], [2.0, -1.0]]),
    "one logit of one label": (OneLogit(lambda x: x), Head(1, "sigmoid"), [[2.0, -1.0]]),
    "(B, 1, 1, 1)": (OneLogit(lambda x: x[:, :, None, None]), Head(2, "sigmoid"), [[-2.0, 1.0], [2.0, -1.0]]),
    "tuple": (Ended(lambda x: (x, x[:, :1])), Head(3, "softmax"), THREE),
    "list": (Ended(lambda x: [x]), Head(3, "softmax"), THREE),
    "dict": (Ended(lambda x: {"aux": x[:, :1], "logits": x}), Head(3, "softmax"), THREE),
}


@pytest.mark.parametrize("method", ["gradcam", "hirescam", "xgradcam", "ablationcam", "occlusion"])
@pytest.mark.parametrize("head", HEADS)
def test_each_head_gives_the_map_of_its_own_score(head: str, method: str) -> None:
    network, reading, weights = HEADS[head]
    inputs = torch.cat([spots((5, 2), (1, 6)), spots((3, 3), (4, 4))])
    classes = range(reading.classes)
    result = class_activation_map(
        network, inputs, "relu", classes, method, signed=True, class_scores=reading.class_scores
    )
    assert result.logits.shape == (2, reading.classes)
    cells = torch.nn.functional.avg_pool2d(inputs, 4)[:, 0]
    bright, dark = (cells - 0.5).relu(), (-cells - 0.5).relu()
    for target, (first, second) in enumerate(weights):
        evidence = first * bright / 64 + second * dark / 64
        # Ablation-CAM weighs a channel by its mean times its weight instead of by its weight over the number of cells.
        if method == "ablationcam":
            evidence = first * bright.mean((1, 2), True) * bright + second * dark.mean((1, 2), True) * dark
        if method == "occlusion":  # where a cell holds a spot; its mean is all but 0 and finds nothing
            torch.testing.assert_close(result.maps[:, target], evidence, rtol=0.01, atol=1e-3)
        else:
            torch.testing.assert_close(result.maps[:, target], evidence, rtol=1e-4, atol=1e-6)


def test_one_logit_speaks_for_one_class_and_against_the_other() -> None:
    result = class_activation_map(
        OneLogit(lambda x: x), spots((5, 2), (1, 6)), "relu", [0, 1], class_scores=Head(2, "sigmoid").class_scores
    )
    torch.testing.assert_close(result.logits[:, 0], -result.logits[:, 1])
    peaks = [np.unravel_index(int(one.argmax()), one.shape) for one in result.maps[0]]
    assert peaks == [(1, 6), (5, 2)]


# Trap 14


@pytest.mark.parametrize("method", WITH_CLASS)
def test_a_class_with_nothing_for_it_is_empty_by_every_method_with_a_class(method: str) -> None:
    # Class 2 has weights below 0 alone. Score-CAM's weights are a softmax, which are never negative: it tells what was
    # looked at, even where that speaks against the class.
    result = class_activation_map(Spots(), spots((5, 2), (1, 6)), "relu", [2], method)
    assert (result.maps.max() == 0) == (method != "scorecam")


# Trap 15


def test_the_survey_warns_of_a_coarse_grid_and_never_takes_the_head() -> None:
    # As DenseNet121 with 64³ voxels: after four pools 2 × 2 × 2 cells of 32 voxels are left.
    network = DenseNet(3, 1, 2, init_features=4, growth_rate=2, block_config=(1, 1, 1, 1), bn_size=1)
    layers = {layer.name: layer for layer in on_scan(survey(network, (1, 64, 64, 64)), (1.0, 1.0, 2.5))}
    last = layers["class_layers.relu"]
    assert (last.grid, last.cell, last.calls) == ((2, 2, 2), (32.0, 32.0, 32.0), 1)
    assert last.cell_mm == (32.0, 32.0, 80.0)
    assert last.warning == "Its cells are 32.0 × 32.0 × 80.0 mm: too coarse to place a finding."
    (taken,) = [layer for layer in layers.values() if layer.reason]
    assert taken.grid == (4, 4, 4)
    assert taken.warning is None
    assert taken.reason == "The deepest layer with 4 cells a side or more; deeper ones cannot place a finding."
    assert layers["class_layers.pool"].problem == "Its grid is a single cell, which has no place."
    assert layers["class_layers.out"].problem == "It gives no feature maps."


# Trap 16


def small_densenet(dims: int) -> DenseNet:
    torch.manual_seed(0)
    network = DenseNet(dims, 1, 2, init_features=4, growth_rate=2, block_config=(2, 2), bn_size=1)
    with torch.no_grad():
        network.class_layers.out.bias.copy_(torch.tensor([0.7, -0.4]))
    return network


@pytest.mark.parametrize("layer", ["class_layers.relu", "features.denseblock1"])
@pytest.mark.parametrize("method", ["scorecam", "ablationcam"])
def test_scorecam_and_ablationcam_run_in_3d_and_leave_no_trace(method: str, layer: str) -> None:
    network = small_densenet(3).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    inputs = torch.randn(2, 1, 24, 24, 24, generator=torch.Generator().manual_seed(0))
    output = small_densenet(3).eval()(inputs)
    result = class_activation_map(network, inputs, layer, [0, 1], method)
    assert result.maps.shape[2:] == {"class_layers.relu": (3, 3, 3), "features.denseblock1": (6, 6, 6)}[layer]
    assert result.maps.max() > 0
    torch.testing.assert_close(result.logits, output.detach())
    steps = class_activation_steps(network, inputs, layer, [0, 1], method)
    next(steps)
    steps.close()
    assert all(module.training for module in network.modules())
    assert not any("forward" in vars(module) or module._forward_hooks for module in network.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    torch.testing.assert_close(network.eval()(inputs), output)


def test_ablation_of_a_3d_network_is_what_taking_each_channel_away_by_hand_gives() -> None:
    network = small_densenet(3).eval().requires_grad_(False)
    inputs = torch.randn(1, 1, 24, 24, 24, generator=torch.Generator().manual_seed(0))
    layer = network.features.denseblock1
    kept: list[Tensor] = []
    with layer.register_forward_hook(lambda _module, _inputs, output: kept.append(output.clone())):
        score = network(inputs)[0, 0]
    expected = torch.zeros(kept[0].shape[2:])
    for channel in range(kept[0].shape[1]):
        without = kept[0].clone()
        without[:, channel] = 0
        with layer.register_forward_hook(lambda *_, without=without: without):
            expected += (score - network(inputs)[0, 0]) * kept[0][0, channel]
    result = class_activation_map(network, inputs, "features.denseblock1", [0], "ablationcam", signed=True)
    scale = float(expected.abs().max())
    torch.testing.assert_close(result.maps[0, 0], expected, rtol=1e-3, atol=1e-4 * scale)


# Trap 17


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gives_the_map_of_single_precision(dtype: torch.dtype, method: str) -> None:
    network = Spots()
    with torch.no_grad():
        network.head.weight.mul_(2**-20)
        network.head.bias.zero_()
    network = network.to(dtype)
    if dtype is torch.float16:
        # The premise: of 64 cells each has a gradient of 2⁻²⁵ at most; the smallest number in half precision is 2⁻²⁴.
        assert network.head.weight.all()
        assert not (network.head.weight / 64).any()
    inputs = spots((5, 2), (1, 6)).to(dtype)
    single = Spots()
    single.load_state_dict({name: tensor.float() for name, tensor in network.state_dict().items()})
    found = class_activation_map(network, inputs, "relu", [0, 1], method)
    expected = class_activation_map(single, inputs.float(), "relu", [0, 1], method)
    assert expected.maps.amax(dim=(0, 2, 3)).min() > 0
    assert found.maps.dtype is torch.float32
    torch.testing.assert_close(found.maps, expected.maps)
    assert {tensor.dtype for tensor in network.state_dict().values()} == {dtype}


# Trap 18


def test_a_wrapped_network_is_explained_under_its_prefix() -> None:
    inputs = spots((5, 2), (1, 6))
    expected = class_activation_map(Spots(), inputs, "relu", [0, 1]).maps
    for prefix, wrapped in (("module", nn.DataParallel(Spots())), ("model", Holding(Spots()))):
        found = class_activation_map(wrapped, inputs, f"{prefix}.relu", [0, 1]).maps
        torch.testing.assert_close(found, expected)
        with pytest.raises(GradCamError, match=rf"no layer “relu”; near it are {prefix}\.relu"):
            class_activation_map(wrapped, inputs, "relu", [0, 1])


class Holding(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Any:
        return self.model(x)


# Traps 19 and 20


def test_nothing_is_offered_that_fails_sanity_checks() -> None:
    known = "gradcam gradcam++ hirescam layercam xgradcam eigencam scorecam ablationcam occlusion"
    assert list(METHODS) == known.split()
    options = {"network", "inputs", "layer", "targets", "method", "signed", "smooth", "class_scores", "device"}
    assert set(inspect.signature(class_activation_map).parameters) == options
    assert set(inspect.signature(class_activation_steps).parameters) == options
    assert set(inspect.signature(maps_of).parameters) == {"captured", "targets", "method", "signed", "smooth"}
    for method in ("guided", "guidedbackprop", "guided-gradcam"):
        with pytest.raises(GradCamError, match="no method"):
            class_activation_map(Spots(), spots((5, 2), (1, 6)), "relu", [0], method)


@pytest.mark.parametrize("method", BY_GRADIENT)
def test_other_weights_of_the_head_give_another_map(method: str) -> None:
    # The randomisation check (Adebayo 2018) that guided backpropagation fails: a map must hang on the weights.
    inputs = spots((5, 2), (1, 6))
    network, other = Spots(), Spots()
    with torch.no_grad():
        other.head.weight.copy_(other.head.weight[[1, 0, 2]])
    one, two = (class_activation_map(each, inputs, "relu", [0, 1], method).maps[0] for each in (network, other))
    assert [np.unravel_index(int(found.argmax()), found.shape) for found in one] == [(1, 6), (5, 2)]
    torch.testing.assert_close(one, two.flip(0))


# Trap 21


def test_the_demo_model_puts_its_hottest_voxel_in_the_lesion() -> None:
    classifier = load_classifier(DEMO_CLASSIFIER)
    explanation = explain(read_volume(DEMO_SCAN), classifier, "lesion")
    mask = np.asanyarray(nib.load(DEMO_SCAN.with_name("lesion_mask.nii.gz")).dataobj) > 0
    assert explanation.scores["lesion"] > 0.9
    place = apply_affine(np.linalg.inv(nib.load(DEMO_SCAN).affine), explanation.peak.position).round().astype(int)
    assert mask[tuple(place)]


# Completeness: Σ signed HiResCAM = score − bias, where the head is pooling or flattening and one linear layer.


COMPLETE: dict[str, tuple[Callable[[], nn.Module], str, tuple[int, ...]]] = {
    "DenseNet 2D": (lambda: small_densenet(2), "class_layers.relu", (1, 32, 24)),
    "DenseNet 2D, before its ReLU": (lambda: small_densenet(2), "features.norm5", (1, 32, 24)),
    "DenseNet 3D": (lambda: small_densenet(3), "class_layers.relu", (1, 24, 16, 16)),
    "ResNet 3D": (
        lambda: ResNet("basic", [1, 1, 1, 1], [4, 4, 8, 8], spatial_dims=3, n_input_channels=1, num_classes=2),
        "layer4",
        (1, 32, 32, 32),
    ),
    "Classifier 2D": (
        lambda: Classifier(in_shape=(1, 32, 24), classes=2, channels=(3, 4), strides=(2, 2)),
        "net",
        (1, 32, 24),
    ),
    "Classifier 3D": (
        lambda: Classifier(in_shape=(1, 16, 16, 8), classes=2, channels=(3, 4), strides=(2, 2)),
        "net",
        (1, 16, 16, 8),
    ),
    "max pool": (
        lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(12, 2)),
        "1",
        (1, 9, 9),
    ),
    "no bias": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2, bias=False)
        ),
        "1",
        (1, 9, 9),
    ),
}


def head_of(network: nn.Module) -> nn.Linear:
    return [module for module in network.modules() if isinstance(module, nn.Linear)][-1]


@pytest.mark.parametrize("frozen", [False, True], ids=["trainable", "frozen"])
@pytest.mark.parametrize("name", COMPLETE)
def test_the_evidence_adds_up_to_the_score_less_the_bias(name: str, frozen: bool) -> None:
    build, layer, shape = COMPLETE[name]
    torch.manual_seed(0)
    network = build().eval().requires_grad_(not frozen)
    inputs = torch.randn(2, *shape)
    result = class_activation_map(network, inputs, layer, [1, 0], "hirescam", signed=True)
    bias = head_of(network).bias
    expected = (network(inputs).detach() - (0 if bias is None else bias.detach())).flip(1)
    total = result.maps.flatten(2).sum(dim=2)
    torch.testing.assert_close(total, expected, rtol=1e-4, atol=1e-5)
    assert result.completeness is not None
    assert result.completeness.relative_error < 1e-4
    torch.testing.assert_close(result.completeness.total.float(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(result.completeness.expected.float(), expected, rtol=1e-4, atol=1e-5)
    # It does not hang on the method.
    again = class_activation_map(network, inputs, layer, [1, 0], "gradcam").completeness
    assert again is not None
    torch.testing.assert_close(again.total, result.completeness.total)


def test_a_wrong_sum_is_told() -> None:
    class Shifted(Spots):
        def forward(self, x: Tensor) -> Tensor:
            scores = super().forward(x)
            scores.data += 5  # behind autograd's back
            return scores

    complete = class_activation_map(Shifted(), spots((5, 2), (1, 6)), "relu", [0, 1]).completeness
    assert complete is not None
    assert complete.relative_error > 0.5


class TwoLinear(Spots):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) @ torch.eye(3) + self.head.bias


NOT_COMPLETE: dict[str, tuple[Callable[[], nn.Module], str, tuple[int, ...]]] = {
    "batch norm and swish": (
        lambda: EfficientNetBN("efficientnet-b0", spatial_dims=2, in_channels=1, num_classes=2, pretrained=False),
        "_conv_head",
        (1, 64, 64),
    ),
    "attention": (
        lambda: ViT(1, (16, 16), (8, 8), 16, 32, 2, 2, classification=True, num_classes=2, spatial_dims=2),
        "blocks.0",
        (1, 16, 16),
    ),
    "two linear layers": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)
        ),
        "0",
        (1, 9, 9),
    ),
    "a bias beside the linear layer": (TwoLinear, "relu", (1, 32, 32)),
    "convolutions behind the layer": (lambda: small_densenet(2), "features.denseblock1", (1, 32, 24)),
}


@pytest.mark.parametrize("frozen", [False, True], ids=["trainable", "frozen"])
@pytest.mark.parametrize("name", NOT_COMPLETE)
def test_where_the_evidence_need_not_add_up_nothing_is_said(name: str, frozen: bool) -> None:
    build, layer, shape = NOT_COMPLETE[name]
    torch.manual_seed(0)
    network = build().eval().requires_grad_(not frozen)
    assert class_activation_map(network, torch.randn(2, *shape), layer, [0, 1]).completeness is None


@pytest.mark.parametrize("target", [0, 1])
def test_one_logit_is_complete_for_both_of_its_classes(target: int) -> None:
    network = OneLogit(lambda x: x)
    result = class_activation_map(
        network,
        spots((5, 2), (1, 6)),
        "relu",
        [target],
        "hirescam",
        signed=True,
        class_scores=Head(2, "sigmoid").class_scores,
    )
    assert result.completeness is not None
    assert result.completeness.relative_error < 1e-4
    # The bias is −0.2 for class 1 and 0.2 for class 0.
    assert result.completeness.bias.item() == pytest.approx((0.2, -0.2)[target])
    assert result.maps.sum().item() == pytest.approx(result.logits[0, target].item() - (0.2, -0.2)[target], rel=1e-4)


def test_of_several_layers_each_is_complete_where_its_own_tail_allows_it() -> None:
    network = small_densenet(2).eval()
    names = ["features.denseblock1", "features.norm5", "class_layers.relu"]
    inputs = torch.randn(2, 1, 32, 24)
    result = class_activation_map(network, inputs, names, [0, 1], "hirescam", signed=True)
    assert result.layers[names[0]].completeness is None
    for name in names[1:]:
        complete, maps = result.layers[name].completeness, result.layers[name].maps
        assert complete is not None
        assert complete.relative_error < 1e-4
        torch.testing.assert_close(maps.flatten(2).sum(dim=2).double(), complete.total, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(
            maps.flatten(2).sum(dim=2), network(inputs).detach() - network.class_layers.out.bias.detach()
        )
    assert result.completeness is result.layers[names[-1]].completeness


class Branches(nn.Module):
    """Two convolutions side by side, and a number of its own, joined before one linear layer."""

    def __init__(self, second: bool, own: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(1, 3, 3)
        self.second = nn.Conv2d(1, 3, 3) if second else None
        self.own = nn.Parameter(torch.ones(1, 2)) if own else None
        self.head = nn.Linear(3 + 3 * second + 2 * own, 2)

    def forward(self, x: Tensor) -> Tensor:
        features = [self.first(x).relu().mean(dim=(2, 3))]
        if self.second is not None:
            features.append(self.second(x).relu().mean(dim=(2, 3)))
        if self.own is not None:
            features.append(self.own.expand(len(x), 2))
        return self.head(torch.cat(features, dim=1))


@pytest.mark.parametrize("frozen", [False, True], ids=["trainable", "frozen"])
@pytest.mark.parametrize("layers", [["first"], ["second"], ["first", "second"]], ids=" and ".join)
def test_what_comes_to_the_score_beside_the_layer_is_not_held_against_it(layers: list[str], frozen: bool) -> None:
    # The other branch speaks for the score as well: the layer's own evidence is a part of it.
    network = Branches(second=True, own=False).requires_grad_(not frozen)
    result = class_activation_map(network, torch.randn(2, 1, 9, 9), layers, [0, 1])
    assert [one.completeness for one in result.layers.values()] == [None] * len(layers)


@pytest.mark.parametrize("frozen", [False, True], ids=["trainable", "frozen"])
def test_a_number_of_the_network_s_own_is_not_held_against_the_layer(frozen: bool) -> None:
    network = Branches(second=False, own=True).requires_grad_(not frozen)
    assert class_activation_map(network, torch.randn(2, 1, 9, 9), "first", [0, 1]).completeness is None


def test_two_pools_of_one_layer_joined_are_complete() -> None:
    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 3, 3), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x).relu()
            return self.head(torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1))

    complete = class_activation_map(Joined(), torch.randn(2, 1, 9, 9), "conv", [0, 1]).completeness
    assert complete is not None
    assert complete.relative_error < 1e-4


@pytest.mark.parametrize("aside", [1, 5])
def test_a_second_head_that_is_not_asked_does_not_matter(aside: int) -> None:
    class TwoHeads(Spots):
        def __init__(self) -> None:
            super().__init__()
            self.other = nn.Linear(2, aside)

        def forward(self, x: Tensor) -> Any:
            features = self.pool(self.relu(self.mean(x))).flatten(1)
            return self.head(features), self.other(features)

    inputs = spots((5, 2), (1, 6))
    found = class_activation_map(TwoHeads(), inputs, "relu", [0, 1])
    expected = class_activation_map(Spots(), inputs, "relu", [0, 1])
    torch.testing.assert_close(found.maps, expected.maps)
    assert found.completeness is not None
    assert expected.completeness is not None
    torch.testing.assert_close(found.completeness.bias, expected.completeness.bias)


@pytest.mark.parametrize("in_place", [False, True])
def test_a_rectified_score_is_complete(in_place: bool) -> None:
    # Of the scores one is below 0, so that it and its bias are cut off.
    network = Ended(nn.ReLU(inplace=in_place))
    result = class_activation_map(network, spots((5, 2), (1, 6)), "relu", [0, 1, 2], "hirescam", signed=True)
    assert result.completeness is not None
    assert result.completeness.relative_error < 1e-4
