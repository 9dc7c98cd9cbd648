"""Maps worked out by hand on networks small enough to do so."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from napari_gradcam.cam import class_activation_map, output_scores
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


def test_gradcam_2d_is_the_map_worked_out_by_hand() -> None:
    image = torch.tensor([[1.0, -1.0], [2.0, 0.0]])[None, None]
    # After ReLU: channel 0 is (1, 0, 2, 0), channel 1 is (0, 2, 0, 0). Four cells, so α = weight / 4.
    # Class 0: (1·A0 + 2·A1) / 4; class 1: (3·A0 − 1·A1) / 4, cut at zero.
    result = class_activation_map(pooled_network(2), image, layer="1", targets=[0, 1])
    torch.testing.assert_close(result.maps[0, 0], torch.tensor([[0.25, 1.0], [0.5, 0.0]]))
    torch.testing.assert_close(result.maps[0, 1], torch.tensor([[0.75, 0.0], [1.5, 0.0]]))
    # Means 3/4 and 1/2: logits 3/4 + 1 + 5 and 9/4 − 1/2 + 7.
    torch.testing.assert_close(result.logits, torch.tensor([[6.75, 8.75]]))


def test_gradcam_3d_is_the_map_worked_out_by_hand() -> None:
    volume = torch.zeros(1, 1, 2, 2, 2)
    volume[0, 0, 1, 0, 1], volume[0, 0, 0, 1, 0] = 4.0, -4.0
    # After ReLU: A0 is 4 at (1, 0, 1), A1 is 8 at (0, 1, 0). Eight cells, so α = weight / 8.
    result = class_activation_map(pooled_network(3), volume, layer="1", targets=[1, 0])
    expected = torch.zeros(2, 2, 2, 2)
    expected[0, 1, 0, 1] = 3 * 4 / 8
    expected[1, 1, 0, 1], expected[1, 0, 1, 0] = 4 / 8, 2 * 8 / 8
    torch.testing.assert_close(result.maps[0], expected)


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
