"""How much memory a run takes, how many samples fit at once, and the sentence where one does not fit."""

from __future__ import annotations

import hashlib
import re

import pytest
import torch
from torch import Tensor, nn

from napari_gradcam.cam import class_activation_map, memory, survey
from napari_gradcam.cam.memory import MOST_AT_ONCE, SHARE, activation_bytes, samples_at_once
from napari_gradcam.errors import GradCamError

CPU = torch.device("cpu")


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    )


def state(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tensor.device} {tensor.dtype}".encode() + tensor.numpy().tobytes())
    for name, module in network.named_modules():
        digest.update(
            f"{name} {module.training} {len(module._forward_hooks)} {len(module._forward_pre_hooks)}".encode()
        )
    for name, parameter in network.named_parameters():
        digest.update(f"{name} {parameter.data_ptr()} {parameter.requires_grad} {parameter.grad is None}".encode())
    digest.update(torch.get_rng_state().numpy().tobytes())
    return digest.hexdigest()


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch):
    """Set how much memory is said to be free."""
    return lambda count: monkeypatch.setattr(memory, "free_bytes", lambda _device: count)


# The estimate


def test_the_estimate_is_the_largest_layers_input_and_output() -> None:
    # Batch norm and ReLU read 4 channels of 8 × 10 and write as many, of 4 bytes; the convolution reads only one.
    assert activation_bytes(network(), (1, 8, 10)) == 2 * 4 * 8 * 10 * 4
    # Without them it is the convolution: 1 + 4 channels.
    assert activation_bytes(nn.Sequential(nn.Conv2d(1, 4, 3, padding=1)), (1, 8, 10)) == (1 + 4) * 8 * 10 * 4
    assert activation_bytes(nn.Sequential(nn.Conv3d(2, 3, 2, stride=2)), (2, 8, 6, 4)) == (2 * 192 + 3 * 24) * 4


@pytest.mark.parametrize(
    ("dtype", "size"), [(torch.float16, 4), (torch.bfloat16, 4), (torch.float32, 4), (torch.float64, 8)]
)
def test_the_estimate_knows_the_precision_that_the_network_runs_in(dtype: torch.dtype, size: int) -> None:
    """Half precision is run in single precision (:class:`napari_gradcam.cam.running.Network`)."""
    assert activation_bytes(network().to(dtype), (1, 8, 10)) == 2 * 4 * 8 * 10 * size


@pytest.mark.parametrize("training", [True, False])
def test_the_estimate_leaves_the_network_untouched(training: bool) -> None:
    one = network().train(training)
    one[1].train()
    before = state(one)
    assert activation_bytes(one, (1, 8, 8)) > 0
    assert activation_bytes(one, (3, 8, 8)) == 0  # three channels, which it does not take
    assert state(one) == before


def test_a_network_that_looks_at_its_values_has_no_estimate() -> None:
    class Looking(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.max() > 0 else -x

    assert activation_bytes(Looking(), (1, 8, 8)) == 0
    assert samples_at_once(Looking(), (1, 8, 8), CPU) == 1


@pytest.mark.parametrize(
    ("fit", "expected"), [(0, 1), (0.5, 1), (1, 1), (3, 3), (3.9, 3), (8, 8), (1000, MOST_AT_ONCE)]
)
def test_samples_at_once_follow_the_free_memory(free, fit: float, expected: int) -> None:
    needed = activation_bytes(network(), (1, 8, 8))
    free(int(fit * needed / SHARE))
    assert samples_at_once(network(), (1, 8, 8), CPU) == expected


def test_the_real_free_memory_is_some() -> None:
    assert memory.free_bytes(CPU) > 1 << 20


# Out of memory


class Failing(nn.Module):
    """Fails where the input has more voxels than fit, as torch does."""

    def __init__(self, error: Exception, most: int = 0) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4, 2)
        self.error, self.most = error, most

    def forward(self, x: Tensor) -> Tensor:
        if x.numel() > self.most and x.device.type != "meta":
            raise self.error
        return self.head(self.conv(x).relu().mean(dim=(2, 3)))


CPU_ERROR = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "1099511627776 bytes. Error code 12 (Cannot allocate memory)"
)
WINDOWS_ERROR = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:121] data. DefaultCPUAllocator: not enough memory: you tried to allocate 4 bytes."
)
OUT_OF_MEMORY = [torch.OutOfMemoryError("CUDA out of memory."), MemoryError(), CPU_ERROR, WINDOWS_ERROR]


def refused(network: nn.Module, inputs: Tensor) -> str:
    with pytest.raises(GradCamError) as caught:
        class_activation_map(network, inputs, "conv", [0])
    return str(caught.value)


def size_named(sentence: str) -> tuple[int, ...]:
    (size,) = re.findall(r"an input of ([\d × ]+) would fit", sentence)
    return tuple(int(side) for side in size.split(" × "))


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["GPU", "Python", "Linux", "Windows"])
def test_out_of_memory_says_how_much_is_needed_and_which_size_would_fit(free, error: Exception) -> None:
    needed = activation_bytes(Failing(error), (1, 64, 96))
    free(needed)  # half of which may be used
    sentence = refused(Failing(error), torch.rand(1, 1, 64, 96))
    assert "not enough memory to run the network on an input of 1 × 64 × 96 (channels first)" in sentence
    assert "crop or resample the scan" in sentence
    size = size_named(sentence)
    assert size[0] == 1
    assert all(0 < new < old for new, old in zip(size[1:], (64, 96), strict=True))
    assert activation_bytes(Failing(error), size) <= SHARE * needed


@pytest.mark.parametrize("share", [1e-4, 0.01, 0.3, 1, 1.9, 5, 1e6])
@pytest.mark.parametrize("shape", [(1, 64, 96), (1, 7, 5), (1, 200, 9)])
def test_the_size_named_is_smaller_and_fits_by_the_estimate(free, share: float, shape: tuple[int, ...]) -> None:
    network = Failing(WINDOWS_ERROR)
    count = int(share * activation_bytes(network, shape))
    free(count)
    size = size_named(refused(network, torch.rand(1, *shape)))
    assert size[0] == shape[0]
    assert all(1 <= new <= old for new, old in zip(size[1:], shape[1:], strict=True))
    assert size != shape
    smallest = activation_bytes(network, (1, 1, 1))
    assert activation_bytes(network, size) <= max(SHARE * count, smallest)


def test_of_a_batch_it_is_said_how_many_would_fit(free) -> None:
    network = Failing(WINDOWS_ERROR, most=4 * 64 * 64)
    needed = activation_bytes(network, (1, 64, 64))
    free(int(3 * needed / SHARE))
    sentence = refused(network, torch.rand(8, 1, 64, 64))
    assert "on 8 inputs of 1 × 64 × 64" in sentence
    assert "; 3 at once would fit." in sentence


def test_of_a_batch_fewer_are_named_than_did_not_fit_though_the_estimate_says_that_more_fit(free) -> None:
    network = Failing(WINDOWS_ERROR)
    free(int(100 * activation_bytes(network, (1, 64, 64)) / SHARE))
    sentence = refused(network, torch.rand(8, 1, 64, 64))
    (count,) = re.findall(r"; (\d+) at once would fit", sentence)
    assert 1 <= int(count) < 8


def test_of_a_batch_of_which_not_one_fits_a_size_is_named(free) -> None:
    network = Failing(WINDOWS_ERROR)
    free(int(0.5 * activation_bytes(network, (1, 64, 64))))
    sentence = refused(network, torch.rand(8, 1, 64, 64))
    assert "on 8 inputs of 1 × 64 × 64" in sentence
    assert activation_bytes(network, size_named(sentence)) < 0.5 * activation_bytes(network, (1, 64, 64))


def test_a_network_without_an_estimate_still_gets_a_sentence() -> None:
    class Looking(Failing):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x if x.max() > 0 else -x)

    assert "on an input of 1 × 8 × 8 (channels first); give a smaller input." in refused(
        Looking(WINDOWS_ERROR), torch.rand(1, 1, 8, 8)
    )


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["GPU", "Python", "Linux", "Windows"])
def test_the_survey_says_it_too(error: Exception) -> None:
    with pytest.raises(GradCamError, match="not enough memory to run the network on an input of 1 × 64 × 64"):
        survey(Failing(error), (1, 64, 64))


def test_the_network_is_untouched_afterwards_and_the_cause_is_kept() -> None:
    network = Failing(WINDOWS_ERROR).train()
    inputs = torch.rand(1, 1, 8, 8)
    before = state(network)
    with pytest.raises(GradCamError) as caught:
        class_activation_map(network, inputs, "conv", [0])
    assert state(network) == before
    assert caught.value.__cause__ is WINDOWS_ERROR


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("no")])
def test_other_errors_pass_through_unchanged(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        class_activation_map(Failing(error), torch.rand(1, 1, 8, 8), "conv", [0])
    assert caught.value is error
