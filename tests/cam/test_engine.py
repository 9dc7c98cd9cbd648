"""One pass for several layers and classes, one scale for all of them, and no more runs than it takes."""

from __future__ import annotations

import hashlib
import time
from itertools import permutations
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

from napari_gradcam.cam import (
    METHODS,
    Network,
    capture,
    class_activation_map,
    class_activation_steps,
    maps_of,
    output_scores,
)
from napari_gradcam.cam.engine import noisy_copies
from napari_gradcam.cam.results import INPUT, fused
from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from collections.abc import Callable

SIGNED = [name for name, method in METHODS.items() if method.signed]
OF_LAYER = [name for name, method in METHODS.items() if method.of_layer]


class Counted(nn.Conv2d):
    """A convolution that counts how often it really computes."""

    ran = 0

    def forward(self, x: Tensor) -> Tensor:
        self.ran += 1
        return super().forward(x)


class Small(nn.Module):
    """Three convolutions of falling grid, 8, 4 and 2 cells a side; `join` puts the first two together."""

    def __init__(self, join: Callable[[Tensor, Tensor], Tensor] | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two = Counted(1, 4, 3, padding=1), Counted(4, 4, 2, stride=2)
        self.three, self.head = Counted(4 if join is None else 8, 6, 2, stride=2), nn.Linear(6, 3)
        self.pool, self.join = nn.AvgPool2d(2), join
        with torch.no_grad():
            self.head.weight[1] = -self.head.weight[0]

    def forward(self, x: Tensor) -> Tensor:
        first = self.one(x).tanh()
        second = self.two(first).tanh()
        if self.join is not None:
            second = self.join(second, self.pool(first))
        return self.head(self.three(second).tanh().mean(dim=(2, 3)))

    def counts(self) -> tuple[int, int, int]:
        return self.one.ran, self.two.ran, self.three.ran


def inputs(count: int = 2) -> Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def state(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode() + tensor.numpy().tobytes())
    for name, module in network.named_modules():
        hooks = [len(module._forward_hooks), len(module._forward_pre_hooks), "forward" in module.__dict__]
        digest.update(f"{name} {module.training} {hooks}".encode())
    digest.update(torch.get_rng_state().numpy().tobytes())
    return digest.hexdigest()


# Several layers


@pytest.mark.parametrize("method", OF_LAYER)
def test_each_of_several_layers_gets_the_maps_it_gets_alone(method: str) -> None:
    network = Small().eval()
    together = class_activation_map(network, inputs(), ["two", "three", "one"], [0, 2], method)
    assert list(together.layers) == ["two", "three", "one"]
    assert max(float(layer.maps.max()) for layer in together.layers.values()) > 0
    for name, layer in together.layers.items():
        alone = class_activation_map(network, inputs(), name, [0, 2], method)
        torch.testing.assert_close(layer.maps, alone.maps, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(together.logits, alone.logits)
        assert layer.calls == 1


@pytest.mark.parametrize("names", list(permutations(["one", "two", "three"])))
def test_layers_may_come_in_any_order_and_repeat(names: tuple[str, ...]) -> None:
    expected = class_activation_map(Small(), inputs(), ["one", "two", "three"], [0], signed=True)
    network = Small()
    result = class_activation_map(network, inputs(), [*names, names[0]], [0], signed=True)
    assert list(result.layers) == list(names)
    assert network.counts() == (1, 1, 1)
    torch.testing.assert_close(result.maps, expected.maps)


def test_layers_within_one_another_and_side_by_side_are_captured_in_one_pass() -> None:
    network = nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True)), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    result = class_activation_map(network, inputs(), ["0", "0.1", "0.0"], [0], signed=True)
    torch.testing.assert_close(result.layers["0"].maps, result.layers["0.1"].maps)
    for name in result.layers:
        alone = class_activation_map(network, inputs(), name, [0], signed=True)
        torch.testing.assert_close(result.layers[name].maps, alone.maps)
    forked = Small(lambda second, first: torch.cat([second, first], dim=1))
    result = class_activation_map(forked, inputs(), ["pool", "two"], [0], signed=True)
    for name in ("pool", "two"):
        alone = class_activation_map(forked, inputs(), name, [0], signed=True)
        torch.testing.assert_close(result.layers[name].maps, alone.maps)


def test_a_frozen_network_gives_the_same_maps_of_several_layers() -> None:
    expected = class_activation_map(Small(), inputs(), ["one", "three"], [0], signed=True).maps
    network = Small().requires_grad_(False)
    with torch.inference_mode():
        frozen = class_activation_map(network, inputs(), ["one", "three"], [0], signed=True).maps
    torch.testing.assert_close(frozen, expected, rtol=0, atol=0)


def test_the_fused_map_is_the_mean_on_the_finest_grid() -> None:
    result = class_activation_map(Small(), inputs(), ["three", "one", "two"], [0, 1], signed=True)
    assert result.maps.shape == (2, 2, 8, 8)
    sums = torch.stack([layer.maps.flatten(2).sum(dim=2) for layer in result.layers.values()])
    torch.testing.assert_close(result.maps.flatten(2).sum(dim=2), sums.mean(dim=0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("grids", [((4,), (7,)), ((2, 3), (5, 4)), ((3, 3, 3), (6, 6, 6), (2, 4, 5))])
def test_fusing_constant_maps_keeps_the_mean_of_their_sums(grids: tuple[tuple[int, ...], ...]) -> None:
    parts = [torch.full((1, 1, *grid), 0.5 + n) for n, grid in enumerate(grids)]
    together = fused(parts)
    finest = tuple(max(sides) for sides in zip(*grids, strict=True))
    assert together.shape[2:] == finest
    expected = sum(float(part.sum()) for part in parts) / len(parts)
    assert float(together.sum()) == pytest.approx(expected, rel=1e-5)
    assert float(together.max() - together.min()) < 1e-6


def test_a_faint_layer_stays_faint_when_fused() -> None:
    strong, faint = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    strong[0, 0, 0, 0], faint[0, 0, 3, 3] = 1.0, 0.001
    together = fused([strong, faint])[0, 0]
    assert float(together[3, 3] / together[0, 0]) == pytest.approx(0.001)
    assert fused([strong]) is strong


# Evidence against


@pytest.mark.parametrize("method", SIGNED)
def test_a_signed_map_is_its_positive_part_less_its_negative_part(method: str) -> None:
    layers = ["two", "three"] if METHODS[method].of_layer else "two"
    plain = class_activation_map(Small(), inputs(), layers, [0, 1, 2], method)
    signed = class_activation_map(Small(), inputs(), layers, [0, 1, 2], method, signed=True)
    for name, layer in signed.layers.items():
        assert layer.maps.min() < 0 < layer.maps.max()
        torch.testing.assert_close(plain.layers[name].maps, layer.maps.relu(), rtol=0, atol=0)
    # Class 1's head is the opposite of class 0's: what speaks against the one speaks for the other.
    name = next(iter(signed.layers))
    torch.testing.assert_close(signed.layers[name].maps[:, 0], -signed.layers[name].maps[:, 1], rtol=1e-4, atol=1e-6)
    negative = signed.layers[name].maps[:, 0] - plain.layers[name].maps[:, 0]
    torch.testing.assert_close(negative, -plain.layers[name].maps[:, 1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", [name for name in METHODS if name not in SIGNED])
def test_a_method_without_a_sign_refuses_to_be_signed(method: str) -> None:
    with pytest.raises(GradCamError, match=r"cannot be signed; choose one of gradcam, hirescam, xgradcam, ablationcam"):
        class_activation_map(Small(), inputs(), "two", [0], method, signed=True)


# Smooth


@pytest.mark.parametrize("method", METHODS)
def test_a_smooth_map_is_the_same_twice_and_near_the_plain_one(method: str) -> None:
    network = Small()
    before = state(network)
    plain = class_activation_map(network, inputs(), "two", [0, 1], method)
    one, other = (class_activation_map(network, inputs(), "two", [0, 1], method, smooth=4) for _ in range(2))
    assert state(network) == before
    torch.testing.assert_close(one.maps, other.maps, rtol=0, atol=0)
    torch.testing.assert_close(one.logits, plain.logits, rtol=0, atol=0)
    off = float((one.maps - plain.maps).norm() / plain.maps.norm())
    assert 1e-4 < off < 0.75


def test_a_smooth_map_is_the_mean_over_the_noisy_inputs() -> None:
    parts = [
        class_activation_map(Small(), noisy, ["one", "two"], [0], signed=True).maps
        for noisy in noisy_copies(inputs(), 3)
    ]
    result = class_activation_map(Small(), inputs(), ["one", "two"], [0], signed=True, smooth=3)
    torch.testing.assert_close(result.maps, torch.stack(parts).mean(dim=0))


def test_a_smooth_map_does_not_depend_on_the_batch_it_is_in() -> None:
    batch = inputs(3) * torch.tensor([1.0, 5.0, 0.2])[:, None, None, None]
    together = class_activation_map(Small(), batch, "two", [0, 1], smooth=3).maps
    for row in range(3):
        alone = class_activation_map(Small(), batch[row : row + 1], "two", [0, 1], smooth=3).maps
        torch.testing.assert_close(together[row], alone[0], rtol=1e-4, atol=1e-6)


def test_noise_is_a_twentieth_of_each_samples_own_range_and_none_where_there_is_no_range() -> None:
    batch = torch.stack([torch.zeros(1, 64, 64), torch.linspace(0, 1, 4096).view(1, 64, 64) * 10])
    (one,) = noisy_copies(batch, 1)
    assert float((one - batch)[0].abs().max()) == 0
    assert float((one - batch)[1].std()) == pytest.approx(0.05 * 10, rel=0.05)
    assert not torch.equal(*noisy_copies(batch, 2))


# Further classes of what has run


@pytest.mark.parametrize("method", ["gradcam", "gradcam++", "hirescam", "layercam", "xgradcam", "eigencam"])
def test_another_class_of_a_kept_capture_equals_a_fresh_run_and_runs_nothing_again(method: str) -> None:
    network = Small()
    captured = capture(Network(network, output_scores), inputs(), ["two", "one"])
    assert network.counts() == (1, 1, 1)
    for target in (2, 0, 1, 0):
        result = maps_of(captured, [target], method)
        fresh = class_activation_map(Small(), inputs(), ["two", "one"], [target], method)
        torch.testing.assert_close(result.maps, fresh.maps)
        torch.testing.assert_close(result.logits, fresh.logits)
    assert network.counts() == (1, 1, 1)


def test_all_classes_at_once_run_the_network_once() -> None:
    network = Small()
    every = class_activation_map(network, inputs(), "three", range(3)).maps
    assert network.counts() == (1, 1, 1)
    for target in range(3):
        alone = class_activation_map(network, inputs(), "three", [target]).maps
        torch.testing.assert_close(every[:, target : target + 1], alone)


# What lies after the layer


def ablated_by_hand(network: nn.Module, layer: str, inputs: Tensor, target: int) -> Tensor:
    """Run the whole network once for each channel, with that channel set to 0."""
    module, kept = network.get_submodule(layer), []
    handle = module.register_forward_hook(lambda _m, _i, output: kept.append(output.detach().clone()))
    score = network(inputs).detach()[:, target]
    handle.remove()
    maps = torch.zeros_like(kept[0][:, 0])
    for channel in range(kept[0].shape[1]):

        def ablate(_module: Any, _inputs: Any, output: Tensor, channel: int = channel) -> Tensor:
            output = output.clone()
            output[:, channel] = 0
            return output

        handle = module.register_forward_hook(ablate)
        fall = score - network(inputs).detach()[:, target]
        handle.remove()
        maps += fall[:, None, None] * kept[0][:, channel]
    return maps


def concatenated(second: Tensor, first: Tensor) -> Tensor:
    return torch.cat([second, first], dim=1)


@pytest.mark.parametrize(("join", "layer"), [(None, "two"), (None, "three"), (concatenated, "two")])
def test_ablation_runs_only_what_lies_after_the_layer(join: Callable[..., Tensor] | None, layer: str) -> None:
    network = Small(join).eval()
    expected = ablated_by_hand(network, layer, inputs(1), 0)
    several = Small(join).eval()
    few = class_activation_map(several, inputs(1), layer, [0], "ablationcam", signed=True).maps[:, 0]
    torch.testing.assert_close(few, expected, rtol=1e-4, atol=1e-6)
    # Once for the maps, and to see in which order the modules run; never again for a channel.
    seen = several.counts()[0]
    assert seen <= 3
    replay = class_activation_steps(several, inputs(1), layer, [0], "ablationcam", signed=True)
    next(replay)
    before = several.counts()
    for _ in replay:
        pass
    place = ["one", "two", "three"].index(layer)
    assert several.counts()[: place + 1] == before[: place + 1]  # nor the layer itself, whose output is given
    assert all(now > then for now, then in zip(several.counts()[place + 1 :], before[place + 1 :], strict=True))


class Writing(nn.Module):
    """Writes into what an earlier module gave."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two, self.head = Counted(1, 4, 3, padding=1), Counted(4, 4, 3, padding=1), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        first = self.one(x)
        second = self.two(first)
        first += second
        return self.head(first.tanh().mean(dim=(2, 3)))


class Keeping(Counted):
    """Keeps what it computes for whoever asks later."""

    def forward(self, x: Tensor) -> Tensor:
        self.shelf.append(super().forward(x))
        return self.shelf[-1].tanh()


class Remembering(nn.Module):
    """Hands feature maps on behind the modules' backs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two = Keeping(1, 4, 3, padding=1), Counted(4, 4, 3, padding=1)
        self.head, self.one.shelf = nn.Linear(4, 2), []

    def forward(self, x: Tensor) -> Tensor:
        second = self.two(self.one(x))
        return self.head((second + self.one.shelf.pop()).tanh().mean(dim=(2, 3)))


@pytest.mark.parametrize("build", [Writing, Remembering])
def test_a_network_that_cannot_be_run_in_parts_is_run_whole_with_the_same_weights(build: type[nn.Module]) -> None:
    network = build().eval()
    expected = torch.cat([ablated_by_hand(network, "two", inputs()[row : row + 1], 0) for row in range(2)])
    assert expected.abs().max() > 0
    network.one.ran, before = 0, state(network)
    maps = class_activation_map(network, inputs(), "two", [0], "ablationcam", signed=True).maps[:, 0]
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-6)
    assert state(network) == before
    assert network.one.ran > 4, "it can be run in parts, so this proves nothing"


def test_ablation_of_a_layer_that_runs_twice_replaces_its_last_run() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.stem, self.mix, self.head = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.mix(self.mix(self.stem(x)).tanh()).tanh().mean(dim=(2, 3)))

    network = Twice().eval()
    result = class_activation_map(network, inputs(1), "mix", [0], "ablationcam", signed=True)
    assert result.layers["mix"].calls == 2
    kept: list[Tensor] = []
    network.mix.register_forward_hook(lambda _m, _i, output: kept.append(output.detach()))
    score = network(inputs(1)).detach()[0, 0]
    last = kept[-1]
    expected = torch.zeros(6, 6)
    for channel in range(4):
        ablated = last.clone()
        ablated[:, channel] = 0
        fall = score - network.head(ablated.tanh().mean(dim=(2, 3))).detach()[0, 0]
        expected += fall * last[0, channel]
    torch.testing.assert_close(result.maps[0, 0], expected, rtol=1e-4, atol=1e-6)


# Progress


@pytest.mark.parametrize("smooth", [0, 2])
@pytest.mark.parametrize("layers", ["two", ["three", "two"]], ids=["one layer", "two layers"])
@pytest.mark.parametrize("method", ["scorecam", "ablationcam", "occlusion"])
def test_progress_only_goes_forward_and_ends_at_or_below_the_total(
    method: str, layers: str | list[str], smooth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_gradcam.cam.asking.samples_at_once", lambda *_: 2)
    monkeypatch.setattr("napari_gradcam.cam.asking.MOST_ABLATED", 2)
    steps = list(class_activation_steps(Small(), inputs(), layers, [0, 1], method, smooth=smooth))
    shares = [done / total for done, total in steps]
    assert len(steps) >= 4
    assert all(0 <= share <= 1 for share in shares)
    assert shares == sorted(shares)
    assert len(set(shares)) >= 4


@pytest.mark.parametrize("after", [1, 3])
@pytest.mark.parametrize("method", ["scorecam", "ablationcam", "occlusion"])
def test_closing_the_steps_leaves_the_network_untouched(
    method: str, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_gradcam.cam.asking.samples_at_once", lambda *_: 1)
    monkeypatch.setattr("napari_gradcam.cam.asking.MOST_ABLATED", 1)
    network, batch = Small().train(), inputs()
    before = state(network)
    steps = class_activation_steps(network, batch, "two", [0], method)
    for _ in range(after):
        next(steps)
    ran = network.counts()
    steps.close()
    assert state(network) == before
    assert [b - a for a, b in zip(ran, network.counts(), strict=True)] <= [1, 1, 1]


# What is refused


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"method": "gradcan"}, "There is no method “gradcan”; choose one of gradcam, gradcam"),
        ({"layer": "twoo"}, "The network has no layer “twoo”; near it are two"),
        ({"layer": ["two", "nowhere"]}, "The network has no layer “nowhere”"),
        ({"layer": []}, "No layer is given"),
        ({"layer": ()}, "No layer is given"),
        ({"layer": ["two", 3]}, "The layer is given as a int; give its name"),
        ({"targets": [0, 3]}, "There is no class 3: the network has 3, numbered from 0 to 2"),
        ({"targets": [-1]}, "There is no class -1"),
        ({"targets": []}, r"The targets are \[\]; give a list of class indices"),
        ({"targets": 1}, "The targets are 1; give a list of class indices"),
        ({"device": "nowhere"}, "There is no device “nowhere” here; choose cpu"),
    ],
)
def test_what_does_not_exist_is_refused_with_a_sentence(given: dict[str, Any], sentence: str) -> None:
    arguments = {"layer": "two", "targets": [0], "method": "gradcam"} | given
    network = Small()
    before = state(network)
    with pytest.raises(GradCamError, match=sentence):
        class_activation_map(network, torch.ones(1, 1, 8, 8), **arguments)
    assert state(network) == before


def test_the_map_of_a_method_without_a_layer_is_called_that_of_the_input() -> None:
    result = class_activation_map(Small(), inputs(), "of no meaning", [0], "occlusion")
    assert list(result.layers) == [INPUT]
    assert result.maps.shape == (2, 1, 8, 8)


def test_occlusion_stands_still_while_it_pauses() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).train()
    runs = []
    handle = network[0].register_forward_hook(lambda *_: runs.append(1))
    steps = class_activation_steps(network, torch.randn(1, 1, 64, 64), "1", [0], "occlusion")
    next(steps)
    before = len(runs)
    time.sleep(0.2)
    assert len(runs) == before
    assert network.training
    assert not network[0]._forward_pre_hooks
    steps.close()
    handle.remove()


def test_xgradcam_gives_a_normalised_channel_no_weight() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.InstanceNorm2d(3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)
    )
    result = class_activation_map(network, torch.randn(1, 1, 12, 12), "1", [0], "xgradcam", signed=True)
    assert result.maps.abs().max() == 0


@pytest.mark.parametrize("targets", [[1.0], ["lesion"], [None]])
def test_targets_that_are_no_indices_are_refused(targets: list[Any]) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(GradCamError, match="give a list of class indices"):
        class_activation_map(network, torch.randn(1, 1, 4, 4), "0", targets)
    with pytest.raises(GradCamError, match="cannot be smoothed over -3 copies"):
        class_activation_map(network, torch.randn(1, 1, 4, 4), "0", [0], smooth=-3)


def test_a_buffer_that_is_no_number_is_named() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network[1].running_var.fill_(float("nan"))
    with pytest.raises(GradCamError, match=r"first in “1\.running_var”"):
        class_activation_map(network, torch.randn(1, 1, 4, 4), "0", [0])
