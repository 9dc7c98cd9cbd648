"""Maps worked out by hand on networks small enough to do so."""

from __future__ import annotations

from math import exp
from re import escape

import pytest
import torch
from torch import nn

from napari_gradcam.cam import METHODS, class_activation_map, output_scores
from napari_gradcam.errors import GradCamError


def pooled_network(dims: int) -> nn.Sequential:
    """Two channels, x and −2x, through ReLU, spatial mean and a linear head with weights (1, 2) and (3, −1)."""
    conv_class = {2: nn.Conv2d, 3: nn.Conv3d}[dims]
    pool_class = {2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}[dims]
    conv = conv_class(1, 2, 1, bias=False)
    head = nn.Linear(2, 2)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([1.0, -2.0]).reshape(conv.weight.shape))
        head.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, -1.0]]))
        head.bias.copy_(torch.tensor([5.0, 7.0]))
    return nn.Sequential(conv, nn.ReLU(inplace=True), pool_class(1), nn.Flatten(), head).eval()


# What each method gives, worked out by hand.
#
# 2D, pooled head. The image is (1, −1; 2, 0); after ReLU A0 = (1, 0; 2, 0) and A1 = (0, 2; 0, 0), which sum to 3 and 2.
# The head's weights are (1, 2) for class 0 and (3, −1) for class 1; of 4 cells each has a gradient G = weight / 4.
IMAGE = torch.tensor([[1.0, -1.0], [2.0, 0.0]])[None, None]
# 3D, pooled head. 4 at P and −4 at Q, else 0; after ReLU A0 = 4 at P and A1 = 8 at Q. Of 8 cells G = weight / 8.
P, Q = (1, 0, 1), (0, 1, 0)
VOLUME = torch.zeros(1, 1, 2, 2, 2)
VOLUME[0, 0][P], VOLUME[0, 0][Q] = 4.0, -4.0


def at_p_and_q(p: float, q: float) -> torch.Tensor:
    expected = torch.zeros(2, 2, 2)
    expected[P], expected[Q] = p, q
    return expected


POOLED_2D = {
    # α = G: class 0 is A0/4 + A1/2, class 1 is 3/4·A0 − A1/4.
    "gradcam": ([[0.25, 1.0], [0.5, 0.0]], [[0.75, -0.5], [1.5, 0.0]]),
    # The gradient is the same in each cell, so its mean is no other than itself.
    "hirescam": ([[0.25, 1.0], [0.5, 0.0]], [[0.75, -0.5], [1.5, 0.0]]),
    # ΣAG / ΣA = G.
    "xgradcam": ([[0.25, 1.0], [0.5, 0.0]], [[0.75, -0.5], [1.5, 0.0]]),
    # Negative gradients do not count.
    "layercam": ([[0.25, 1.0], [0.5, 0.0]], [[0.75, 0.0], [1.5, 0.0]]),
    # w = 4 cells · α·G with α = G² / (2G² + ΣA·G³) = 1 / (2 + ΣA·G).
    # Class 0: w0 = 1 / (2 + 3/4) = 4/11 and w1 = 2 / (2 + 2/2) = 2/3. Class 1: w0 = 3 / (2 + 9/4) = 12/17, w1 = 0.
    "gradcam++": ([[4 / 11, 4 / 3], [8 / 11, 0.0]], [[12 / 17, 0.0], [24 / 17, 0.0]]),
    # AᵀA = diag(1 + 4, 4): the first right singular vector is (1, 0).
    "eigencam": ([[1.0, 0.0], [2.0, 0.0]], [[1.0, 0.0], [2.0, 0.0]]),
    # Masks (1/2, 0; 1, 0) and (0, 1; 0, 0) leave (1/2, 0; 2, 0) and (0, −1; 0, 0) of the image: means after ReLU
    # (5/8, 0) and (0, 1/2), scores of class 0 5/8 + 5 and 1 + 5, of class 1 15/8 + 7 and −1/2 + 7.
    # w0 = 1 / (1 + exp(second − first)), w1 = 1 − w0.
    "scorecam": (
        [[1 / (1 + exp(3 / 8)), 2 / (1 + exp(-3 / 8))], [2 / (1 + exp(3 / 8)), 0.0]],
        [[1 / (1 + exp(-19 / 8)), 2 / (1 + exp(19 / 8))], [2 / (1 + exp(-19 / 8)), 0.0]],
    ),
    # Without A0 the score falls by weight · 3/4, without A1 by weight · 2/4: class 0 (3/4, 1), class 1 (9/4, −1/2).
    "ablationcam": ([[0.75, 2.0], [1.5, 0.0]], [[2.25, -1.0], [4.5, 0.0]]),
    # A box is one voxel, filled with the mean 1/2. Means of (A0, A1) fall by (1/8, 0), (−1/8, 1/2), (3/8, 0),
    # (−1/8, 0), and the class scores by (1, 2) and (3, −1) times that.
    "occlusion": ([[0.125, 0.875], [0.375, -0.125]], [[0.375, -0.875], [1.125, -0.375]]),
}
POOLED_3D = {
    # Class 0: 4·1/8 at P and 8·2/8 at Q; class 1: 4·3/8 and 8·(−1/8).
    "gradcam": (at_p_and_q(0.5, 2.0), at_p_and_q(1.5, -1.0)),
    "hirescam": (at_p_and_q(0.5, 2.0), at_p_and_q(1.5, -1.0)),
    "xgradcam": (at_p_and_q(0.5, 2.0), at_p_and_q(1.5, -1.0)),
    "layercam": (at_p_and_q(0.5, 2.0), at_p_and_q(1.5, 0.0)),
    # Class 0: w0 = 1 / (2 + 4/8) = 2/5, w1 = 2 / (2 + 8·2/8) = 1/2. Class 1: w0 = 3 / (2 + 12/8) = 6/7, w1 = 0.
    "gradcam++": (at_p_and_q(8 / 5, 4.0), at_p_and_q(24 / 7, 0.0)),
    # AᵀA = diag(16, 64): the map is A1.
    "eigencam": (at_p_and_q(0.0, 8.0), at_p_and_q(0.0, 8.0)),
    # Each mask leaves one of the two voxels: means (1/2, 0) and (0, 1), scores 5.5 and 7, 8.5 and 6.
    "scorecam": (
        at_p_and_q(4 / (1 + exp(1.5)), 8 / (1 + exp(-1.5))),
        at_p_and_q(4 / (1 + exp(-2.5)), 8 / (1 + exp(2.5))),
    ),
    # The score falls by weight · 4/8 and weight · 8/8.
    "ablationcam": (at_p_and_q(2.0, 16.0), at_p_and_q(6.0, -8.0)),
    # The mean is 0: filling P takes away A0's mean 1/2, filling Q takes away A1's mean 1.
    "occlusion": (at_p_and_q(0.5, 2.0), at_p_and_q(1.5, -1.0)),
}


def flattened_network() -> nn.Sequential:
    """Two channels, x and −2x, through ReLU; the head has a weight for each cell, (1, 2; −1, 0) and (0, 3; 1, 0)."""
    conv, head = nn.Conv2d(1, 2, 1, bias=False), nn.Linear(8, 1)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([1.0, -2.0]).reshape(conv.weight.shape))
        head.weight.copy_(torch.tensor([[1.0, 2.0, -1.0, 0.0, 0.0, 3.0, 1.0, 0.0]]))
        head.bias.fill_(0.5)
    return nn.Sequential(conv, nn.ReLU(inplace=True), nn.Flatten(), head).eval()


# Gradients are the head's weights: G0 = (1, 2; −1, 0), G1 = (0, 3; 1, 0).
FLATTENED = {
    # Means 1/2 and 1: A0/2 + A1. It sums to 3.5, not to the score.
    "gradcam": [[0.5, 2.0], [1.0, 0.0]],
    # Cell by cell; it sums to 1 + 6 − 2 = 5, the score less its bias.
    "hirescam": [[1.0, 6.0], [-2.0, 0.0]],
    # ΣAG / ΣA = (1 − 2)/3 and 6/2.
    "xgradcam": [[-1 / 3, 6.0], [-2 / 3, 0.0]],
    "layercam": [[1.0, 6.0], [0.0, 0.0]],
    # w = Σ G / (2 + ΣA·G) over cells with G > 0: 1/5 + 2/8 with ΣA = 3, and 3/8 + 1/4 with ΣA = 2.
    "gradcam++": [[0.45, 1.25], [0.9, 0.0]],
    "eigencam": [[1.0, 0.0], [2.0, 0.0]],
    # The masked images give the scores 1/2 − 2 and 3·2.
    "scorecam": [[1 / (1 + exp(7.5)), 2 / (1 + exp(-7.5))], [2 / (1 + exp(7.5)), 0.0]],
    # Without A0 the score falls by 1 − 2, without A1 by 6.
    "ablationcam": [[-1.0, 12.0], [-2.0, 0.0]],
    # Filled with 1/2: 1·(1 − 1/2); 2·(0 − 1/2) + 3·(2 − 0); −1·(2 − 1/2); a cell without weight.
    "occlusion": [[0.5, 5.0], [-1.5, 0.0]],
}
SIGNED = ["gradcam", "hirescam", "xgradcam", "ablationcam", "occlusion"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("inputs", "worked_out"), [(IMAGE, POOLED_2D), (VOLUME, POOLED_3D)], ids=["2D", "3D"])
def test_each_method_gives_the_map_worked_out_by_hand(inputs: torch.Tensor, worked_out: dict, method: str) -> None:
    network = pooled_network(inputs.ndim - 2)
    expected = torch.stack([torch.as_tensor(one) for one in worked_out[method]])
    unsigned = class_activation_map(network, inputs, "1", [0, 1], method)
    torch.testing.assert_close(unsigned.maps[0], expected.clamp(min=0))
    # Means 3/4 and 1/2: logits 3/4 + 1 + 5 and 9/4 − 1/2 + 7. In 3D 1/2 and 1: 1/2 + 2 + 5 and 3/2 − 1 + 7.
    torch.testing.assert_close(unsigned.logits, torch.tensor([[6.75, 8.75] if inputs is IMAGE else [7.5, 7.5]]))
    if method in SIGNED:
        signed = class_activation_map(network, inputs, "1", [0, 1], method, signed=True)
        torch.testing.assert_close(signed.maps[0], expected)


@pytest.mark.parametrize("method", METHODS)
def test_on_a_head_that_weighs_places_each_method_gives_the_map_worked_out_by_hand(method: str) -> None:
    expected = torch.tensor(FLATTENED[method])
    unsigned = class_activation_map(flattened_network(), IMAGE, "1", [0], method)
    torch.testing.assert_close(unsigned.logits, torch.tensor([[5.5]]))
    torch.testing.assert_close(unsigned.maps[0, 0], expected.clamp(min=0))
    if method in SIGNED:
        signed = class_activation_map(flattened_network(), IMAGE, "1", [0], method, signed=True)
        torch.testing.assert_close(signed.maps[0, 0], expected)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_without_a_sign_refuses_a_signed_map(method: str) -> None:
    if method in SIGNED:
        assert class_activation_map(pooled_network(2), IMAGE, "1", [1], method, signed=True).maps.min() < 0
        return
    sentence = rf"“{escape(method)}” has no evidence against a class.*choose one of gradcam, hirescam, xgradcam"
    with pytest.raises(GradCamError, match=sentence):
        class_activation_map(pooled_network(2), IMAGE, "1", [1], method, signed=True)


def test_every_method_is_worked_out_here() -> None:
    assert set(METHODS) == set(POOLED_2D) == set(POOLED_3D) == set(FLATTENED)
    assert [name for name in METHODS if name in SIGNED] == [name for name, method in METHODS.items() if method.signed]


@pytest.mark.parametrize("sign", [1, -1])
def test_eigencam_takes_the_sign_that_makes_the_sum_positive(sign: int) -> None:
    # At the convolution A = (x, −2x): v = (1, −2)/√5 and Av = √5·x, whichever sign v and x have.
    result = class_activation_map(pooled_network(2), sign * IMAGE, "0", [0], "eigencam")
    torch.testing.assert_close(result.maps[0, 0], 5**0.5 * IMAGE[0, 0].clamp(min=0))


def test_eigencam_with_more_channels_than_cells() -> None:
    # Channels (1, 1, −1, 1, 2)·x on 4 cells: v is the weights over their norm √8, and Av = √8·x.
    network = nn.Sequential(nn.Conv2d(1, 5, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 1))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([1.0, 1.0, -1.0, 1.0, 2.0]).reshape(5, 1, 1, 1))
    result = class_activation_map(network, IMAGE, "0", [0], "eigencam")
    torch.testing.assert_close(result.maps[0, 0], 8**0.5 * IMAGE[0, 0].clamp(min=0))


def test_occlusion_fills_boxes_side_by_side_with_the_mean() -> None:
    # A linear score, Σ weight · x, falls by weight · (x − mean), added up over the 2 × 3 voxels of each of 8 × 8 boxes.
    generator = torch.Generator().manual_seed(0)
    weight, image = torch.randn(2, 16, 24, generator=generator).double()
    network = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.Flatten(), nn.Linear(16 * 24, 1)).double()
    with torch.no_grad():
        network[0].weight.fill_(1.0)
        network[2].weight.copy_(weight.reshape(1, -1))
    result = class_activation_map(network, image[None, None], "0", [0], "occlusion", signed=True)
    expected = (weight * (image - image.mean())).reshape(8, 2, 8, 3).sum(dim=(1, 3))
    torch.testing.assert_close(result.maps[0, 0], expected, rtol=1e-5, atol=1e-5)


def test_layers_are_fused_by_evidence_and_each_stays_reachable() -> None:
    # x, then means of 2 × 2; the score is the mean. With 16 in the left half the first layer's map is x/16, that is 1
    # in two columns of four; the second's is mean/4, that is 4 in one column of two. On the finer grid a cell of the
    # second is shared by 4: 1 and 0, and with linear interpolation 1, 3/4, 1/4, 0. The mean of the two is taken.
    network = nn.Sequential(
        nn.Conv2d(1, 1, 1, bias=False), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 1)
    )
    with torch.no_grad():
        network[0].weight.fill_(1.0)
        network[4].weight.fill_(1.0)
    image = torch.tensor([16.0, 16.0, 0.0, 0.0]).expand(1, 1, 4, 4)
    result = class_activation_map(network, image, ["0", "1"], [0])
    torch.testing.assert_close(result.layers["0"].maps[0, 0], torch.tensor([1.0, 1.0, 0.0, 0.0]).expand(4, 4))
    torch.testing.assert_close(result.layers["1"].maps[0, 0], torch.tensor([4.0, 0.0]).expand(2, 2))
    torch.testing.assert_close(result.maps[0, 0], torch.tensor([1.0, 0.875, 0.125, 0.0]).expand(4, 4))


def test_a_smooth_map_is_the_mean_over_noise_that_is_always_the_same() -> None:
    # Noise has a share of the input's range: none where the input is the same everywhere.
    flat = torch.full((1, 1, 2, 2), 3.0)
    plain, smooth = (class_activation_map(pooled_network(2), flat, "1", [0], smooth=n).maps for n in (0, 3))
    torch.testing.assert_close(smooth, plain)
    once, again = (class_activation_map(pooled_network(2), IMAGE, "1", [0, 1], smooth=2) for _ in range(2))
    torch.testing.assert_close(once.maps, again.maps, rtol=0, atol=0)
    # The map is x/4 where x is positive and −x where it is negative, and the noise has a deviation of 0.05 · 3: no cell
    # moves by more than four times that.
    moved = once.maps[0, 0] - torch.tensor([[0.25, 1.0], [0.5, 0.0]])
    assert 0 < moved.abs().max() < 4 * 0.05 * 3
    torch.testing.assert_close(once.logits, torch.tensor([[6.75, 8.75]]))


@pytest.mark.parametrize("scale", [1e-30, 1e-15, 1e15])
def test_gradcam_plus_plus_neither_vanishes_nor_overflows_with_the_gradient(scale: float) -> None:
    network = pooled_network(2)
    with torch.no_grad():
        network[4].weight.mul_(scale)
    # w = Σ G / (2 + ΣA·G) of 4 cells, with G = (1, 2)/4 · scale and ΣA = (3, 2).
    weights = [scale * g / (2 + total * scale * g / 4) for g, total in ((1, 3), (2, 2))]
    expected = torch.tensor([[weights[0], 2 * weights[1]], [2 * weights[0], 0.0]], dtype=torch.float64)
    found = class_activation_map(network, IMAGE, "1", [0], "gradcam++").maps[0, 0].double()
    torch.testing.assert_close(found / expected.max(), expected / expected.max(), rtol=1e-4, atol=1e-6)


def test_before_an_in_place_relu_the_activations_are_those_before_it() -> None:
    image = torch.tensor([[1.0, -1.0], [2.0, 0.0]])[None, None]
    # At the convolution A0 = x and A1 = −2x; the gradient is weight/4 where A > 0, so for class 0
    # α0 = (2 cells of 1/4) / 4 = 1/8 and α1 = (1 cell of 2/4) / 4 = 1/8: ReLU(x/8 − 2x/8) = ReLU(−x/8).
    result = class_activation_map(pooled_network(2), image, layer="0", targets=[0])
    torch.testing.assert_close(result.maps[0, 0], torch.tensor([[0.0, 0.125], [0.0, 0.0]]))


def test_a_class_with_nothing_for_it_gets_a_map_of_zeros_not_of_noise() -> None:
    network = pooled_network(2)
    with torch.no_grad():
        network[4].weight.copy_(torch.tensor([[-1.0, -2.0], [3.0, 1.0]]))
    result = class_activation_map(network, torch.rand(1, 1, 4, 4), layer="1", targets=[0])
    assert result.maps.abs().max() == 0


def test_a_very_large_logit_gives_the_same_map_scaled() -> None:
    network = pooled_network(2)
    image = torch.tensor([[1.0, -1.0], [2.0, 0.0]])[None, None]
    result = class_activation_map(network, image * 1e4, layer="1", targets=[1])
    assert result.logits.max() > 1e4
    torch.testing.assert_close(result.maps[0, 0], torch.tensor([[0.75, 0.0], [1.5, 0.0]]) * 1e4)


def test_targets_keep_their_order_and_may_repeat() -> None:
    inputs = torch.rand(3, 1, 4, 4) - 0.5
    network = pooled_network(2)
    both = class_activation_map(network, inputs, layer="1", targets=[1, 0, 1]).maps
    assert both.shape == (3, 3, 4, 4)
    torch.testing.assert_close(both[:, 0], both[:, 2])
    torch.testing.assert_close(both[:, 1:2], class_activation_map(network, inputs, layer="1", targets=[0]).maps)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (torch.tensor([[1.0, 2.0]]), [[1.0, 2.0]]),
        (torch.tensor([[[[3.0]]]]), [[3.0]]),
        ((torch.tensor([[1.0, 2.0]]), torch.zeros(1, 8)), [[1.0, 2.0]]),
        ([[torch.tensor([[1.0, 2.0]])]], [[1.0, 2.0]]),
        ({"features": torch.zeros(1, 8), "logits": torch.tensor([[4.0, 5.0]])}, [[4.0, 5.0]]),
        ({"out": torch.tensor([[4.0, 5.0]]), "aux": torch.zeros(1, 2)}, [[4.0, 5.0]]),
        ({"pred": torch.tensor([[4.0]])}, [[4.0]]),
    ],
    ids=["plain", "fully convolutional", "tuple", "nested lists", "logits", "out", "first of a mapping"],
)
def test_scores_are_found_in_what_networks_return(output: object, expected: list[list[float]]) -> None:
    torch.testing.assert_close(output_scores(output), torch.tensor(expected))


@pytest.mark.parametrize("output", [torch.zeros(1, 2, 8, 8), torch.zeros(3), "a text", (), {}, None])
def test_what_is_no_list_of_class_scores_is_refused(output: object) -> None:
    with pytest.raises(GradCamError, match="give a classifier"):
        output_scores(output)
