"""The run itself: device, precision and the order of the feature maps in memory are of the run alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from napari_gradcam.cam import Network, capture, class_activation_map, output_scores, survey
from napari_gradcam.cam.running import device_called
from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from collections.abc import Callable


class Small(nn.Module):
    """Two convolutions and a linear head; `look` sees the feature maps between them."""

    def __init__(self, dims: int = 2, look: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        conv, norm = ((nn.Conv2d, nn.BatchNorm2d), (nn.Conv3d, nn.BatchNorm3d))[dims - 2]
        self.stem, self.norm, self.mix = conv(1, 4, 3, padding=1), norm(4), conv(4, 4, 3, padding=1)
        self.head, self.look = nn.Linear(4, 2), look
        with torch.no_grad():
            self.head.weight[1] = -self.head.weight[0]

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu()
        if self.look is not None:
            x = self.look(x)
        return self.head(self.mix(x).relu().flatten(2).mean(dim=2))


def inputs(dims: int = 2, count: int = 2) -> Tensor:
    return torch.randn(count, 1, *(8, 6, 10)[:dims], generator=torch.Generator().manual_seed(1))


def whereabouts(network: nn.Module) -> dict[str, tuple]:
    """Note of each tensor what moving or converting it would change."""
    tensors = [*network.named_parameters(), *network.named_buffers()]
    return {name: (t.data_ptr(), t.device, t.dtype, t.stride(), t.requires_grad, id(t)) for name, t in tensors}


# Device


@pytest.mark.parametrize("name", ["cpu", torch.device("cpu"), "cpu:0", None])
def test_a_device_is_found_by_its_name_and_the_network_is_not_moved(name: str | torch.device | None) -> None:
    network = Small()
    before, values = whereabouts(network), {name: t.clone() for name, t in network.state_dict().items()}
    result = class_activation_map(network, inputs(), "mix", [0, 1], device=name)
    assert whereabouts(network) == before
    torch.testing.assert_close(network.state_dict(), values, rtol=0, atol=0)
    expected = class_activation_map(network, inputs(), "mix", [0, 1])
    torch.testing.assert_close(result.maps, expected.maps)
    assert expected.maps.max() > 0


@pytest.mark.parametrize("name", ["nowhere", "cuda:99", "", "cpu:-1", "meta", "privateuseone", "xpu", 1.5])
def test_an_unknown_device_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(GradCamError, match=rf"There is no device “{name}” here; choose cpu"):
        class_activation_map(Small(), inputs(), "mix", [0], device=name)


def test_every_gpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(GradCamError, match="choose cpu, cuda:0, cuda:1"):
        device_called("nowhere")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("method", ["gradcam", "eigencam", "scorecam", "ablationcam", "occlusion"])
def test_on_a_gpu_the_maps_are_the_same_and_the_network_stays_on_the_cpu(method: str) -> None:
    network = Small(3)
    before = whereabouts(network)
    result = class_activation_map(network, inputs(3), "mix", [0, 1], method, device="cuda:0")
    assert whereabouts(network) == before
    assert result.maps.device.type == "cuda"
    expected = class_activation_map(network, inputs(3), "mix", [0, 1], method)
    torch.testing.assert_close(result.maps.cpu(), expected.maps, rtol=1e-3, atol=1e-4)


# Precision


@pytest.mark.parametrize("method", ["gradcam", "scorecam", "ablationcam", "occlusion"])
@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("dims", [2, 3])
def test_half_precision_runs_in_single_precision_on_copies(half: torch.dtype, dims: int, method: str) -> None:
    network = Small(dims).to(half)
    before, values = whereabouts(network), {name: t.clone() for name, t in network.state_dict().items()}
    result = class_activation_map(network, inputs(dims).to(half), "mix", [0, 1], method)
    assert whereabouts(network) == before
    torch.testing.assert_close(network.state_dict(), values, rtol=0, atol=0)
    assert (result.maps.dtype, result.logits.dtype) == (torch.float32, torch.float32)
    # What the same weights give in single precision.
    same = Small(dims)
    same.load_state_dict({name: t.float() if t.is_floating_point() else t for name, t in values.items()})
    expected = class_activation_map(same, inputs(dims).to(half).float(), "mix", [0, 1], method)
    assert expected.maps.max() > 0
    torch.testing.assert_close(result.maps, expected.maps, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(result.logits, expected.logits, rtol=1e-5, atol=1e-6)


def test_a_half_precision_network_takes_a_single_precision_input() -> None:
    result = class_activation_map(Small().half(), inputs(), "mix", [0])
    assert result.maps.dtype is torch.float32


def test_gradients_too_small_for_half_precision_do_not_vanish() -> None:
    network = Small()
    with torch.no_grad():
        network.head.weight.mul_(1e-3)
    maps = class_activation_map(network.half(), inputs(), "mix", [0, 1]).maps
    # Each gradient is a weight of a thousandth over 48 cells, and 60 times smaller in the products of the head.
    assert maps.max() > 0
    assert len(maps[maps > 0].unique()) > 20


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_a_half_precision_network_is_surveyed(half: torch.dtype) -> None:
    layers = {layer.name: layer for layer in survey(Small(3).to(half), (1, 8, 6, 10))}
    assert layers["mix"].grid == (8, 6, 10)


@pytest.mark.parametrize("method", ["gradcam", "eigencam", "scorecam", "ablationcam", "occlusion"])
def test_double_precision_stays_double(method: str) -> None:
    network = Small().double()
    before = whereabouts(network)
    result = class_activation_map(network, inputs().double(), "mix", [0, 1], method)
    assert whereabouts(network) == before
    assert (result.maps.dtype, result.logits.dtype) == (torch.float64, torch.float64)
    torch.testing.assert_close(result.logits, network.eval()(inputs().double()).detach())
    torch.testing.assert_close(
        result.maps.float(), class_activation_map(Small(), inputs(), "mix", [0, 1], method).maps, rtol=1e-3, atol=1e-5
    )


# The order of feature maps in memory


@pytest.mark.parametrize("dims", [2, 3])
def test_feature_maps_lie_channels_last_while_it_runs_and_the_hooks_are_gone_afterwards(dims: int) -> None:
    seen = []

    def look(x: Tensor) -> Tensor:
        seen.append(x.is_contiguous(memory_format=(torch.channels_last, torch.channels_last_3d)[dims - 2]))
        return x

    network = Small(dims, look)
    before = whereabouts(network)
    result = class_activation_map(network, inputs(dims), "mix", [0, 1])
    assert seen == [True]
    assert whereabouts(network) == before
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    expected = network.eval()(inputs(dims)).detach()
    assert seen == [True, False]
    torch.testing.assert_close(result.logits, expected)


@pytest.mark.parametrize("method", ["gradcam", "scorecam", "ablationcam"])
@pytest.mark.parametrize("layer", ["stem", "norm", "mix"])
@pytest.mark.parametrize("dims", [2, 3])
def test_a_network_that_views_its_feature_maps_works_and_its_calls_are_counted_once(
    dims: int, layer: str, method: str
) -> None:
    network = Small(dims, lambda x: x.view(len(x), -1).view(x.shape))
    before = whereabouts(network)
    result = class_activation_map(network, inputs(dims), layer, [0, 1], method)
    assert result.layers[layer].calls == 1
    assert whereabouts(network) == before
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    expected = class_activation_map(Small(dims), inputs(dims), layer, [0, 1], method)
    assert expected.maps.max() > 0
    torch.testing.assert_close(result.maps, expected.maps, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(result.logits, expected.logits)


def test_a_view_that_never_fits_is_the_networks_own_error() -> None:
    network = Small(2, lambda x: x.transpose(2, 3).view(len(x), -1))
    with pytest.raises(RuntimeError, match="view size is not compatible"):
        class_activation_map(network, inputs(), "stem", [0])
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_a_run_that_fails_leaves_no_hooks_and_no_flags() -> None:
    def fail(_x: Tensor) -> Tensor:
        raise KeyboardInterrupt

    network = Small(2, fail).train()
    network.norm.eval()
    with pytest.raises(KeyboardInterrupt):
        capture(Network(network, output_scores), inputs(), ["stem"])
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    assert [module.training for module in network.modules()] == [True, True, False, True, True]


def test_the_scores_alone_need_no_layer() -> None:
    network = Small()
    torch.testing.assert_close(Network(network, output_scores).scores(inputs()), network.eval()(inputs()).detach())


def test_a_network_without_parameters_runs_where_the_cpu_is() -> None:
    assert Network(nn.Sequential(nn.ReLU()), output_scores).place == torch.device("cpu")


class SliceBySlice(nn.Module):
    """A 2D network that reads a volume slice by slice, as multiple-instance classifiers do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 3, 3, padding=1), nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, _, depth, height, width = x.shape
        slices = self.conv(x.transpose(1, 2).reshape(batch * depth, 1, height, width)).relu()
        return self.head(slices.reshape(batch, depth, 3, height, width).mean(dim=(1, 3, 4)))


def test_a_2d_convolution_in_a_3d_network_is_laid_out_by_its_own_rank() -> None:
    network, inputs = SliceBySlice().eval(), torch.randn(2, 1, 4, 6, 6)
    torch.testing.assert_close(Network(network, output_scores).scores(inputs), network(inputs).detach())


def test_inputs_take_the_precision_of_the_weights() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert class_activation_map(network, torch.randn(1, 1, 4, 4).double(), "0", [0]).maps.dtype is torch.float32


class Checkpointed(nn.Module):
    """Its tail runs again for the gradients; dropout and batch norm would tell in which mode."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.tail = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.ReLU())
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = checkpoint(self.tail, self.conv(x), use_reentrant=False)
        return self.head(x.mean(dim=(2, 3)))


def test_a_checkpointed_tail_runs_again_in_evaluation_mode() -> None:
    torch.manual_seed(0)
    network, inputs = Checkpointed().train(), torch.randn(2, 1, 9, 9)
    statistics = network.tail[1].running_mean.clone()
    maps = class_activation_map(network, inputs, "conv", [0, 1], signed=True).maps
    torch.testing.assert_close(network.tail[1].running_mean, statistics, rtol=0, atol=0)
    assert network.tail[2].training
    network.eval()
    torch.testing.assert_close(class_activation_map(network, inputs, "conv", [0, 1], signed=True).maps, maps)
