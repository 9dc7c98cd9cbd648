"""Tokens and channels that come last are put back on the grid at the right places, or refused with a sentence."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import pytest
import torch
from monai.networks.nets import SwinUNETR, ViT
from monai.networks.nets.swin_unetr import SwinTransformer
from torch import Tensor, nn

from napari_gradcam.cam import Network, capture, class_activation_map, output_scores, recommended, survey
from napari_gradcam.cam.layout import Layout, find_layout
from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from collections.abc import Sequence


def without_biases(network: nn.Module) -> nn.Module:
    """Take all constants away, so that what is dark at the input stays exactly 0 until tokens are mixed."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
    return network.eval()


def vit(size: Sequence[int], patch: Sequence[int], proj: str = "conv", classes: bool = True) -> ViT:
    """Two blocks, of which the first leaves each token where it is and the second mixes them."""
    torch.manual_seed(0)
    network = ViT(
        in_channels=1,
        img_size=size,
        patch_size=patch,
        hidden_size=12,
        mlp_dim=16,
        num_layers=2,
        num_heads=2,
        proj_type=proj,
        pos_embed_type="none",
        classification=classes,
        num_classes=2,
        post_activation="none",
        spatial_dims=len(size),
    )
    with torch.no_grad():
        network.blocks[0].attn.out_proj.weight.zero_()
    return without_biases(network)


class PooledSwin(nn.Module):
    """MONAI's Swin transformer before a linear head, with windows that do not mix their tokens."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.swin = SwinTransformer(1, 12, (4,) * dims, (2,) * dims, (1,) * 4, (1,) * 4, spatial_dims=dims)
        self.head = nn.Linear(12 * 16, 2)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if "attn.proj" in name:
                    parameter.zero_()
        without_biases(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.swin(x)[-1].flatten(2).mean(dim=2))


class PooledViT(nn.Module):
    """MONAI's ViT without a class token: the mean of all tokens goes to the head."""

    def __init__(self, size: Sequence[int], patch: Sequence[int], proj: str = "conv") -> None:
        super().__init__()
        self.vit = vit(size, patch, proj, classes=False)
        self.head = nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.vit(x)[0].mean(dim=1))


def lit_boxes(size: Sequence[int], cells: Sequence[Sequence[int]], grid: Sequence[int]) -> Tensor:
    """Make one dark input for each cell of a grid, in which the box of that cell alone holds noise."""
    inputs = torch.zeros(len(cells), 1, *size)
    noise = torch.rand(size, generator=torch.Generator().manual_seed(0)) + 0.5
    for number, cell in enumerate(cells):
        box = tuple(
            slice(n * side // count, (n + 1) * side // count) for n, side, count in zip(cell, size, grid, strict=True)
        )
        inputs[(number, 0, *box)] = noise[box]
    return inputs


def assert_each_is_hottest_in_its_cell(
    network: nn.Module, layers: Sequence[str], size: Sequence[int], cell: Any
) -> None:
    grid = tuple(side // step for side, step in zip(size, cell, strict=True))
    every = torch.cartesian_prod(*(torch.arange(n) for n in grid)).tolist()
    cells = every[:: max(1, len(every) // 11)]
    result = class_activation_map(network, lit_boxes(size, cells, grid), layers, [0], signed=True)
    for layer in layers:
        maps = result.layers[layer].maps[:, 0]
        assert maps.shape[1:] == grid, layer
        hottest = torch.stack(torch.unravel_index(maps.abs().flatten(1).argmax(dim=1), grid), dim=1).tolist()
        assert hottest == cells, layer
        # Everything else stayed dark.
        assert (maps.flatten(1) != 0).sum(dim=1).tolist() == [1] * len(cells), layer


@pytest.mark.parametrize(
    ("size", "patch", "proj"),
    [
        ((32, 48, 64), (8, 8, 16), "conv"),
        ((16, 24, 40), (8, 8, 8), "conv"),
        ((16, 24, 40), (8, 8, 8), "perceptron"),
        ((32, 48), (8, 4), "conv"),
        ((32, 48), (8, 8), "conv"),
        ((32, 48), (8, 8), "perceptron"),
    ],
)
def test_a_lit_patch_is_the_hottest_cell_of_a_vit(size: tuple[int, ...], patch: tuple[int, ...], proj: str) -> None:
    layers = ["patch_embedding", "blocks.0", "blocks.0.mlp", "blocks.1.norm1", "blocks.1.attn.qkv"]
    assert_each_is_hottest_in_its_cell(vit(size, patch, proj), layers, size, patch)


SWIN_STAGES = {
    2: ["swin.patch_embed", "swin.layers1.0.blocks.0"],
    4: ["swin.layers1.0", "swin.layers2.0.blocks.0.norm2", "swin.layers2.0.blocks.0.mlp.linear1"],
    8: ["swin.layers2.0.downsample", "swin.layers2.0", "swin.layers3.0.blocks.0"],
    16: ["swin.layers3.0", "swin.layers4.0.blocks.0"],
    32: ["swin.layers4.0"],
}


@pytest.mark.parametrize("cell", SWIN_STAGES)
@pytest.mark.parametrize("size", [(64, 96), (32, 64, 32)], ids=["2D", "3D"])
def test_a_lit_box_is_the_hottest_cell_of_every_stage_of_a_swin_transformer(cell: int, size: tuple[int, ...]) -> None:
    assert_each_is_hottest_in_its_cell(PooledSwin(len(size)), SWIN_STAGES[cell], size, (cell,) * len(size))


@pytest.mark.parametrize(
    ("size", "kernel"), [((32, 64), (8, 4)), ((16, 32, 32), (4, 8, 16))], ids=lambda value: "×".join(map(str, value))
)
def test_anisotropic_patches_are_decided_by_the_convolution_that_cut_them(
    size: tuple[int, ...], kernel: tuple[int, ...]
) -> None:
    # The same number of tokens would lie otherwise in steps as long along every axis.
    grid = tuple(side // step for side, step in zip(size, kernel, strict=True))
    layout = find_layout(
        vit(size, kernel), "blocks.0", nn.Identity(), torch.zeros(1, prod(grid) + 1, 12), torch.zeros(1, 1, *size)
    )
    assert layout == Layout(grid, channel_axis=-1, first=1)


SWIN_UNETR_LAYERS = {
    "swinViT.layers1.0.blocks.0": (-1, 2),
    "swinViT.layers2.0.blocks.0": (-1, 4),
    "swinViT.layers2.0": (1, 8),
    "decoder2": (1, 2),
}
"""Layer: axis of its channels, voxels of a cell."""


@pytest.mark.parametrize("size", [(32, 64), (32, 32, 64)], ids=["2D", "3D"])
def test_stages_of_swin_unetr_are_mapped_from_a_score_that_is_a_mean_over_voxels(size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    dims = len(size)
    network = SwinUNETR(
        1, 2, depths=(1,) * 4, num_heads=(1,) * 4, feature_size=12, window_size=4, spatial_dims=dims
    ).eval()
    inputs = torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(1))
    kept: dict[str, Tensor] = {}
    handles = [
        dict(network.named_modules())[layer].register_forward_hook(
            lambda _m, _i, output, layer=layer: kept.update({layer: output})
        )
        for layer in SWIN_UNETR_LAYERS
    ]
    score = network(inputs).flatten(2).mean(dim=2)[:, 1].sum()
    for handle in handles:
        handle.remove()
    gradients = dict(zip(kept, torch.autograd.grad(score, list(kept.values())), strict=True))
    result = class_activation_map(
        network,
        inputs,
        list(SWIN_UNETR_LAYERS),
        [1],
        signed=True,
        class_scores=lambda output: output.flatten(2).mean(dim=2),
    )
    for layer, (axis, cell) in SWIN_UNETR_LAYERS.items():
        activations, gradient = kept[layer].detach().movedim(axis, 1), gradients[layer].movedim(axis, 1)
        expected = torch.einsum("bk...,bk->b...", activations, gradient.flatten(2).mean(dim=2))
        maps = result.layers[layer].maps[:, 0]
        assert maps.shape[1:] == tuple(side // cell for side in size), layer
        torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


class Permute(nn.Module):
    """Moves the channels from one end to the other."""

    def __init__(self, source: int, target: int) -> None:
        super().__init__()
        self.source, self.target = source, target

    def forward(self, x: Tensor) -> Tensor:
        return x.movedim(self.source, self.target)


class BothWays(nn.Module):
    """The same feature maps with their channels last, and then first."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        conv = (nn.Conv2d, nn.Conv3d)[dims - 2]
        self.patches = conv(1, 5, 4, stride=4)
        self.last = nn.Sequential(Permute(1, -1), nn.LayerNorm(5), nn.Linear(5, 5), nn.GELU())
        self.first = Permute(-1, 1)
        self.mix = conv(5, 5, 3, padding=1)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mix(self.first(self.last(self.patches(x)))).relu().flatten(2).mean(dim=2))


@pytest.mark.parametrize("method", ["gradcam", "hirescam", "eigencam", "scorecam", "ablationcam"])
@pytest.mark.parametrize("size", [(16, 24), (16, 24, 12)], ids=["2D", "3D"])
def test_channels_last_and_their_channels_first_copy_give_the_same_map(size: tuple[int, ...], method: str) -> None:
    network = BothWays(len(size))
    inputs = torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(1))
    captured = capture(Network(network, output_scores), inputs, ["last", "first"])
    torch.testing.assert_close(captured.layers["last"].activations, captured.layers["first"].activations)
    one, other = (class_activation_map(network, inputs, layer, [0, 1], method).maps for layer in ("last", "first"))
    assert one.max() > 0
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("size", [(31, 45), (9, 14, 11)], ids=["2D", "3D"])
def test_convolutional_networks_keep_their_own_grid_whatever_the_sizes(size: tuple[int, ...]) -> None:
    conv, pool = ((nn.Conv2d, nn.MaxPool2d), (nn.Conv3d, nn.MaxPool3d))[len(size) - 2]
    network = nn.Sequential(conv(1, 8, 3, stride=2), nn.Sequential(nn.ReLU(), pool(2, ceil_mode=True)), nn.Identity())
    output = inputs = torch.rand(1, 1, *size)
    for number, module in enumerate(network):
        output = module(output)
        assert find_layout(network, str(number), module, output, inputs) == Layout(tuple(output.shape[2:]))


def test_as_many_channels_as_cells_are_no_riddle_to_a_convolutional_network() -> None:
    network = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.Sequential(nn.ReLU()), nn.AdaptiveAvgPool2d(1))
    layers = survey(network, (1, 8, 8), lambda output: output.flatten(1))
    assert [layer.grid for layer in layers] == [(8, 8), (8, 8), (8, 8), (1, 1)]


# Class token


def test_a_class_token_is_taken_away_and_tokens_without_one_are_all_kept() -> None:
    inputs = torch.rand(2, 1, 32, 48)
    network = vit((32, 48), (8, 8))
    captured = capture(Network(network, output_scores), inputs, ["patch_embedding", "blocks.0"])
    before, after = captured.layers["patch_embedding"], captured.layers["blocks.0"]
    assert (before.output.shape[1], after.output.shape[1]) == (24, 25)
    assert (before.layout.first, after.layout.first) == (0, 1)
    torch.testing.assert_close(after.activations.flatten(2), after.output.detach()[:, 1:].transpose(1, 2))
    pooled = capture(Network(PooledViT((32, 48), (8, 8)), output_scores), inputs, ["vit.blocks.1"])
    assert pooled.layers["vit.blocks.1"].layout == Layout((4, 6), channel_axis=-1)


@pytest.mark.parametrize("method", ["gradcam", "gradcam++", "hirescam", "layercam", "xgradcam", "ablationcam"])
@pytest.mark.parametrize("layer", ["blocks.1", "norm", "blocks.1.mlp"])
def test_where_the_scores_come_from_the_class_token_alone_no_map_is_made(layer: str, method: str) -> None:
    with pytest.raises(GradCamError, match=f"on the class token of the layer “{layer}” alone.*before the last"):
        class_activation_map(vit((32, 48), (8, 8)), torch.rand(1, 1, 32, 48), layer, [0], method)


def test_the_survey_says_which_tokens_do_not_reach_the_scores_and_recommends_those_that_do() -> None:
    network = vit((32, 48), (8, 8))
    layers = {layer.name: layer for layer in survey(network, (1, 32, 48))}
    assert recommended(tuple(layers.values())).name == "blocks.0"
    for name in ("blocks.1", "norm", "blocks.1.mlp", "blocks.1.attn.out_proj"):
        assert layers[name].problem == "The class scores do not depend on its tokens, but on the class token alone."
    for name in ("blocks.1.norm1", "blocks.1.attn.qkv", "blocks.0.attn", "patch_embedding"):
        assert layers[name].problem is None
    pooled = survey(PooledViT((32, 48), (8, 8)), (1, 32, 48))
    assert recommended(pooled).name == "vit.blocks.1"


# What is refused


def assert_refused(network: nn.Module, layer: str, size: Sequence[int], sentence: str) -> None:
    with pytest.raises(GradCamError, match=sentence):
        class_activation_map(network, torch.rand(1, 1, *size), layer, [0])
    (found,) = [info for info in survey(network, (1, *size)) if info.name == layer]
    assert found.grid == ()
    assert found.problem is not None
    assert found.reason is None


def test_attention_weights_are_no_feature_maps() -> None:
    network = vit((32, 48), (8, 8))
    assert_refused(network, "blocks.0.attn.drop_weights", (32, 48), "cannot be told which axes|gives no feature maps")
    assert_refused(vit((16, 24, 40), (8, 8, 8)), "blocks.0.attn.drop_weights", (16, 24, 40), "no feature maps")


@pytest.mark.parametrize(
    ("network", "layer"),
    [
        (lambda: PooledViT((64, 64), (8, 8)), "vit.blocks.0.attn.drop_weights"),
        (lambda: PooledSwin(2), "swin.layers4.0.blocks.0.attn.softmax"),
    ],
    ids=["ViT", "Swin"],
)
def test_attention_weights_as_many_as_the_input_has_cells_are_no_feature_maps_either(network, layer: str) -> None:
    """8 × 8 patches of 64 × 64 pixels have 64 × 64 weights: what they look like is no picture."""
    assert_refused(network(), layer, (64, 64), "It cannot be told which axes|gives no feature maps")


class Cutting(nn.Module):
    """Cuts patches out of an input without telling anybody how large they are."""

    def __init__(self, patch: Sequence[int]) -> None:
        super().__init__()
        self.hidden = [tuple(patch)]

    def forward(self, x: Tensor) -> Tensor:
        patch, dims = self.hidden[0], x.ndim - 2
        for axis, step in enumerate(patch):
            x = x.unfold(2 + axis, step, step)
        return x.flatten(2 + dims).flatten(2, 1 + dims).movedim(1, -1).flatten(2)


@pytest.mark.parametrize(
    ("size", "patch"), [((32, 48, 64), (8, 8, 16)), ((32, 32, 64), (8, 8, 16)), ((30, 44), (6, 11))]
)
@pytest.mark.parametrize("classes", [True, False], ids=["class token", "pooled"])
def test_patches_that_no_convolution_and_no_even_step_explains_are_refused(
    size: tuple[int, ...], patch: tuple[int, ...], classes: bool
) -> None:
    network = vit(size, patch, "perceptron") if classes else PooledViT(size, patch, "perceptron")
    (network if classes else network.vit).patch_embedding.patch_embeddings[0] = Cutting(patch)
    before = "" if classes else "vit."
    for layer in ("patch_embedding", "blocks.0"):
        assert_refused(
            network, before + layer, size, r"cannot be told how the \d+ tokens of the layer .* lie on an input"
        )
    with pytest.raises(GradCamError, match="no layer with a grid"):
        recommended(survey(network, (1, *size)))


@pytest.mark.parametrize(
    ("size", "patch"), [((32, 32, 64), (8, 8, 16)), ((32, 64), (4, 16))], ids=["3 × 3 × 7 + 1", "the other way round"]
)
def test_patches_that_only_look_as_if_a_step_explained_them_are_not_put_in_the_wrong_place(
    size: tuple[int, ...], patch: tuple[int, ...]
) -> None:
    grid = tuple(side // step for side, step in zip(size, patch, strict=True))
    network = PooledViT(size, patch, "perceptron")
    (found,) = [layer for layer in survey(network, (1, *size)) if layer.name == "vit.blocks.0"]
    # The right places are as good as none.
    assert found.grid in ((), grid)
    assert found.grid or "cannot be told how the" in str(found.problem)


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ((1, 8, 8, 8), "cannot be told which axes of the layer “x” are the grid: it gives 8 × 8 × 8"),
        ((1, 7, 9, 5), "cannot be told which axes"),
        ((1, 26, 6), "cannot be told how the 26 tokens of the layer “x” lie on an input of 64 × 64"),
        ((1, 66, 6), "cannot be told how the 66 tokens"),
        ((1, 6), "gives no feature maps"),
        ((3, 64, 6), "gives no feature maps"),
        ((1, 2, 8, 8, 6), "gives no feature maps"),
    ],
)
def test_shapes_that_leave_it_open_are_refused_with_a_sentence(shape: tuple[int, ...], sentence: str) -> None:
    network = vit((64, 64), (8, 8))
    with pytest.raises(GradCamError, match=sentence):
        find_layout(network, "x", nn.Identity(), torch.zeros(shape), torch.zeros(1, 1, 64, 64))


@pytest.mark.parametrize("output", [torch.zeros(1, 4, 8, 8, dtype=torch.int64), (torch.zeros(1, 4, 8, 8),), None])
def test_what_is_no_tensor_of_numbers_is_no_feature_map(output: object) -> None:
    with pytest.raises(GradCamError, match="gives no feature maps"):
        find_layout(nn.Sequential(), "x", nn.Identity(), output, torch.zeros(1, 1, 8, 8))


def test_a_layer_norm_of_channels_first_is_read_as_such() -> None:
    class LayerNorm2d(nn.LayerNorm):  # as torchvision's ConvNeXt has it
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    network = nn.Sequential(nn.Conv2d(1, 6, 2, stride=2), LayerNorm2d(6), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert class_activation_map(network, torch.randn(1, 1, 16, 24), "1", [0]).maps.shape == (1, 1, 8, 12)


def test_channels_before_flattened_cells_are_not_taken_for_tokens() -> None:
    # 64 channels of 27 cells: as tokens the channels would lie on a grid of 4 × 4 × 4.
    body = nn.Sequential(nn.Conv3d(1, 64, 4, stride=4), nn.Flatten(2))
    network = nn.Sequential(body, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(64, 2))
    with pytest.raises(GradCamError, match="gives no feature maps"):
        class_activation_map(network, torch.randn(1, 1, 12, 12, 12), "0.1", [0])
