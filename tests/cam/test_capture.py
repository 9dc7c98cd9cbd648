"""The network is handed back as it came, whatever happens, and whatever mode the caller is in."""

from __future__ import annotations

import hashlib
import pickle
import random
import threading
from typing import Any

import monai.visualize  # noqa: F401  its first import draws from Python's random numbers
import numpy as np
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
from napari_gradcam.errors import GradCamError


class Small(nn.Module):
    """An in-place ReLU that runs twice, a skip connection, a branch aside and a layer that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.mix = nn.Conv2d(4, 4, 3, padding=1)
        self.unused = nn.Conv2d(4, 4, 1)
        self.aside = nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.conv(x)))
        kept = self.drop(x)
        self.aside(x)
        x = self.relu(self.mix(kept) + x)
        return self.head(x.mean(dim=(2, 3)))


@pytest.fixture
def network() -> Small:
    torch.manual_seed(0)
    return Small()


INPUTS = torch.randn(3, 1, 6, 6, generator=torch.Generator().manual_seed(1))


HOOKS = [name for name in vars(nn.Module()) if "hooks" in name]


def state(network: nn.Module) -> str:
    """Digest of everything a caller could notice.

    Weights, buffers, gradients, flags, hooks, patched methods; random numbers, modes and threads around them.
    """
    digest = hashlib.sha256()

    def note(*values: object) -> None:
        digest.update(repr(values).encode())

    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        note(name, tensor.dtype, tensor.stride(), tensor.data_ptr(), tensor._version, tensor.requires_grad)
        note(None if tensor.grad is None else tensor.grad.tolist())
        digest.update(tensor.detach().numpy().tobytes())
    for name, module in network.named_modules():
        note(name, sorted(vars(module)), "forward" in vars(module), module.training, getattr(module, "inplace", None))
        note([len(getattr(module, hooks)) for hooks in HOOKS if getattr(module, hooks) is not None])
    digest.update(torch.get_rng_state().numpy().tobytes())
    digest.update(pickle.dumps((np.random.get_state(), random.getstate())))
    note(torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype())
    note(sorted(thread.name for thread in threading.enumerate()))
    return digest.hexdigest()


def change_weight(network: Small) -> None:
    with torch.no_grad():
        network.unused.weight[0, 0, 0, 0] += 1


@pytest.mark.parametrize(
    "change",
    [
        change_weight,
        lambda network: setattr(network.relu, "inplace", False),
        lambda network: setattr(network.drop, "training", False),
        lambda network: network.head.bias.requires_grad_(False),
        lambda network: setattr(network.head.bias, "grad", torch.zeros(3)),
        lambda network: setattr(network.mix, "forward", network.mix.forward),
        lambda network: network.mix.register_forward_hook(print),
        lambda network: network.mix.register_full_backward_hook(print),
        lambda network: network.norm.num_batches_tracked.add_(1),
        lambda network: torch.rand(1),
        lambda network: np.random.rand(),
        lambda network: random.random(),
    ],
    ids=[
        *("weight", "in place", "mode", "requires_grad", "grad", "forward", "hook", "backward hook", "buffer"),
        *("torch's random numbers", "numpy's", "Python's"),
    ],
)
def test_the_digest_sees_each_kind_of_trace(network: Small, change: Any) -> None:
    before = state(network.train())
    change(network)
    assert state(network) != before


@pytest.mark.parametrize("smooth", [0, 2])
@pytest.mark.parametrize("method", METHODS)
def test_the_network_is_untouched_after_success(network: Small, method: str, smooth: int) -> None:
    network.train()
    network.mix.eval()
    network.head.weight.grad = torch.ones_like(network.head.weight)
    network.norm.requires_grad_(False)
    before = state(network)
    result = class_activation_map(network, INPUTS, "mix", [0, 1], method, smooth=smooth)
    assert result.maps.any()
    assert state(network) == before


# A method by gradients runs the network once and has no pause, unless the map is smooth.
@pytest.mark.parametrize("pauses", [1, 2, 3])
@pytest.mark.parametrize("method", METHODS)
def test_the_network_is_untouched_after_cancelling(network: Small, method: str, pauses: int) -> None:
    before = state(network.train())
    steps = class_activation_steps(network, INPUTS, "mix", [0, 1], method, smooth=3)
    for _ in range(pauses):
        next(steps)
    steps.close()
    assert state(network) == before


@pytest.mark.parametrize("method", ["scorecam", "ablationcam", "occlusion"])
def test_cancelling_within_one_map_leaves_no_trace(network: Small, method: str) -> None:
    before = state(network.train())
    steps = class_activation_steps(network, INPUTS, "mix", [0, 1], method)
    (done, total), (later, same) = next(steps), next(steps)
    assert 0 == done < later < total == same
    steps.close()
    assert state(network) == before


class Broken(Exception):
    """What no engine expects."""


class Failing(Small):
    """Breaks in its n-th forward pass, behind the target layer."""

    def __init__(self, last: int, error: type[BaseException]) -> None:
        super().__init__()
        self.passes, self.last, self.error = 0, last, error
        self.head.register_forward_pre_hook(self.count)

    def count(self, *_: object) -> None:
        self.passes += 1
        if self.passes == self.last:
            raise self.error


@pytest.mark.parametrize("error", [Broken, KeyboardInterrupt])
@pytest.mark.parametrize("last", [1, 2, 3, 5])
@pytest.mark.parametrize("method", METHODS)
def test_the_network_is_untouched_after_breaking_in_any_pass(method: str, last: int, error: type) -> None:
    network = Failing(last, error).train()
    before = state(network)
    with pytest.raises(error):
        class_activation_map(network, INPUTS, "mix", [0, 1], method, smooth=5)
    assert network.passes == last
    assert state(network) == before


@pytest.mark.parametrize("method", ["scorecam", "ablationcam", "occlusion"])
def test_the_network_is_untouched_after_an_exception_at_a_pause(network: Small, method: str) -> None:
    before = state(network.train())
    steps = class_activation_steps(network, INPUTS, "mix", [0], method)
    next(steps)
    # While the exception is held, so is the frame it went through.
    with pytest.raises(Broken) as held:
        steps.throw(Broken)
    assert state(network) == before
    assert held.value is not None


@pytest.mark.parametrize("layer", ["unused", "aside", "head", "nowhere"])
def test_the_network_is_untouched_after_an_error(network: Small, layer: str) -> None:
    before = state(network.train())
    with pytest.raises(GradCamError, match=layer):
        class_activation_map(network, INPUTS, layer=layer, targets=[0])
    assert state(network) == before


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_maps_are_the_same_frozen_and_in_every_mode_of_the_caller(network: Small, mode: type) -> None:
    expected = class_activation_map(network, INPUTS, layer="mix", targets=[0, 2]).maps
    network.requires_grad_(False)
    with mode():
        inputs = INPUTS.clone()  # in inference mode a tensor that autograd refuses
        result = class_activation_map(network, inputs, layer="mix", targets=[0, 2])
        captured = capture(Network(network, output_scores), inputs, ["mix"])
        again = maps_of(captured, [0, 2]).maps
    torch.testing.assert_close(result.maps, expected, rtol=0, atol=0)
    torch.testing.assert_close(again, expected, rtol=0, atol=0)
    assert not result.maps.requires_grad
    assert expected.max() > 0


def test_dropout_and_batch_norm_run_in_evaluation_mode(network: Small) -> None:
    calm = class_activation_map(network.eval(), INPUTS, layer="mix", targets=[0])
    wild = class_activation_map(network.train(), INPUTS, layer="mix", targets=[0])
    torch.testing.assert_close(calm.maps, wild.maps, rtol=0, atol=0)
    torch.testing.assert_close(calm.logits, network.eval()(INPUTS).detach())


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_equals_one_by_one(network: Small, method: str) -> None:
    together = class_activation_map(network, INPUTS, "mix", [0, 1, 2], method)
    assert together.maps.flatten(2).any(dim=2).any(dim=1).all(), "a comparison of empty maps proves nothing"
    for n in range(len(INPUTS)):
        alone = class_activation_map(network, INPUTS[n : n + 1], "mix", [0, 1, 2], method)
        torch.testing.assert_close(together.maps[n], alone.maps[0], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(together.logits[n], alone.logits[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_a_smooth_batch_equals_one_by_one(network: Small, method: str) -> None:
    together = class_activation_map(network, INPUTS, "mix", [1], method, smooth=2).maps
    alone = [class_activation_map(network, one[None], "mix", [1], method, smooth=2).maps[0] for one in INPUTS]
    torch.testing.assert_close(together, torch.stack(alone), rtol=1e-4, atol=1e-6)


class Normalising(Small):
    """Brings its input to another range first, in place or not."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.in_place = in_place

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.sub_(1).mul_(2) if self.in_place else (x - 1) * 2)


@pytest.mark.parametrize("method", METHODS)
def test_a_network_that_writes_into_its_input_leaves_the_caller_s_alone(network: Small, method: str) -> None:
    writing, plain = Normalising(in_place=True), Normalising(in_place=False)
    for one in (writing, plain):
        one.load_state_dict(network.state_dict())
    inputs = INPUTS.clone()
    found = class_activation_map(writing, inputs, "mix", [0, 1], method).maps
    expected = class_activation_map(plain, INPUTS, "mix", [0, 1], method).maps
    torch.testing.assert_close(inputs, INPUTS, rtol=0, atol=0)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


class Overwriting(Small):
    """Overwrites what dropout, in evaluation mode, handed on; whether the network reads that memory again is told."""

    def __init__(self, reads_again: bool) -> None:
        super().__init__()
        self.reads_again = reads_again

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        kept = self.drop(x)
        mixed = self.mix(kept)
        x += 1
        return self.head((mixed + kept if self.reads_again else mixed).mean(dim=(2, 3)))


def test_a_layer_that_hands_its_input_on_is_captured_before_others_overwrite_it() -> None:
    network = Overwriting(reads_again=False).eval()
    captured = capture(Network(network, output_scores), INPUTS, ["drop"])
    torch.testing.assert_close(captured.layers["drop"].activations, network.conv(INPUTS).detach())
    torch.testing.assert_close(captured.logits.detach(), network(INPUTS).detach())


def test_a_cut_that_would_change_the_scores_is_refused() -> None:
    network = Overwriting(reads_again=True)
    with pytest.raises(GradCamError, match="hands its input on"):
        capture(Network(network, output_scores), INPUTS, ["drop"])
    captured = capture(Network(network, output_scores), INPUTS, ["mix"])
    torch.testing.assert_close(captured.logits.detach(), network.eval()(INPUTS).detach())


def test_a_layer_that_runs_twice_is_cut_at_its_last_run_and_counted(network: Small) -> None:
    result = class_activation_map(network, INPUTS, layer="relu", targets=[1])
    assert result.layers["relu"].calls == 2
    activations = {}
    network.relu.register_forward_hook(lambda _module, _inputs, output: activations.update(last=output.detach()))
    network.eval()(INPUTS)
    weights = network.head.weight[1].detach() / 36
    torch.testing.assert_close(result.maps[:, 0], torch.einsum("bkhw,k->bhw", activations["last"], weights).relu())


def test_half_precision_takes_the_score_in_single_precision() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    result = class_activation_map(network.bfloat16(), INPUTS.bfloat16(), layer="1", targets=[0])
    assert result.logits.dtype is torch.float32


@pytest.mark.parametrize(
    ("layer", "sentence"),
    [
        ("unused", "never reached"),
        ("aside", "do not depend on"),
        ("head", "gives no feature maps"),
        ("mixx", "near it are mix"),
        ("", "has no layer"),
    ],
)
def test_a_layer_that_cannot_be_a_target_is_refused_with_a_sentence(network: Small, layer: str, sentence: str) -> None:
    with pytest.raises(GradCamError, match=sentence):
        class_activation_map(network, INPUTS, layer=layer, targets=[0])


def test_an_unknown_class_or_method_is_refused_with_those_there_are(network: Small) -> None:
    with pytest.raises(GradCamError, match="no class 3: the network has 3, numbered from 0 to 2"):
        class_activation_map(network, INPUTS, layer="mix", targets=[0, 3])
    with pytest.raises(GradCamError, match="no class -1"):
        class_activation_map(network, INPUTS, layer="mix", targets=[-1])
    with pytest.raises(GradCamError, match="no method “gradcan”; choose one of gradcam"):
        class_activation_map(network, INPUTS, layer="mix", targets=[0], method="gradcan")


def test_scores_that_are_no_numbers_are_refused(network: Small) -> None:
    with pytest.raises(GradCamError, match="input holds NaN"):
        class_activation_map(network, INPUTS * float("nan"), layer="mix", targets=[0])
    with pytest.raises(GradCamError, match="scores are not finite numbers although its input and weights are"):
        class_activation_map(network, INPUTS * 1e38, layer="mix", targets=[0])
    with torch.no_grad():
        network.mix.weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(GradCamError, match=r"weights hold NaN or infinite values, first in “mix\.weight”"):
        class_activation_map(network, INPUTS, layer="mix", targets=[0])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_is_refused_with_what_to_use_instead(network: Small) -> None:
    scripted = torch.jit.trace(network.eval(), INPUTS)
    with pytest.raises(GradCamError, match=r"TorchScript.*model\.pt"):
        class_activation_map(scripted, INPUTS, layer="mix", targets=[0])


def test_targets_and_layers_of_the_wrong_kind_are_refused_before_the_network_runs(network: Small) -> None:
    for targets in (0, []):
        with pytest.raises(GradCamError, match="give a list of class indices"):
            class_activation_map(network, INPUTS, layer="mix", targets=targets)
    with pytest.raises(GradCamError, match="given as a Conv2d; give its name"):
        class_activation_map(network, INPUTS, layer=network.mix, targets=[0])
