"""The network is handed back as it came, whatever happens, and whatever mode the caller is in."""

from __future__ import annotations

import hashlib

import pytest
import torch
from torch import Tensor, nn

from napari_gradcam.cam import Network, capture, class_activation_map, maps_of, output_scores
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


def state(network: nn.Module) -> str:
    """Digest of everything a caller could notice: weights, buffers, flags, gradients, hooks, random numbers."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode() + tensor.numpy().tobytes())
    for name, parameter in network.named_parameters():
        digest.update(f"{name} {parameter.requires_grad} {parameter.grad is None}".encode())
    for name, module in network.named_modules():
        hooks = [len(module._forward_hooks), len(module._forward_pre_hooks), len(module._backward_hooks)]
        digest.update(f"{name} {module.training} {getattr(module, 'inplace', None)} {hooks}".encode())
    digest.update(torch.get_rng_state().numpy().tobytes())
    digest.update(f"{torch.is_grad_enabled()} {torch.is_inference_mode_enabled()}".encode())
    return digest.hexdigest()


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_untouched_after_success(network: Small, training: bool) -> None:
    network.train(training)
    network.mix.eval()
    before = state(network)
    class_activation_map(network, INPUTS, layer="mix", targets=[0, 1])
    assert state(network) == before


@pytest.mark.parametrize("layer", ["unused", "aside", "head", "nowhere"])
def test_the_network_is_untouched_after_an_error(network: Small, layer: str) -> None:
    before = state(network.train())
    with pytest.raises(GradCamError, match=layer):
        class_activation_map(network, INPUTS, layer=layer, targets=[0])
    assert state(network) == before


def test_the_network_is_untouched_after_an_interrupt(network: Small) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    handle = network.head.register_forward_pre_hook(interrupt)
    before = state(network.train())
    with pytest.raises(KeyboardInterrupt):
        class_activation_map(network, INPUTS, layer="mix", targets=[0])
    assert state(network) == before
    handle.remove()


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


def test_a_batch_equals_one_by_one(network: Small) -> None:
    together = class_activation_map(network, INPUTS, layer="mix", targets=[0, 1, 2])
    for n in range(len(INPUTS)):
        alone = class_activation_map(network, INPUTS[n : n + 1], layer="mix", targets=[0, 1, 2])
        torch.testing.assert_close(together.maps[n], alone.maps[0], rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(together.logits[n], alone.logits[0], rtol=1e-5, atol=1e-6)


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
