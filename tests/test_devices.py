"""Where the network runs, and what happens where memory runs short: smaller batches, then the CPU, and it is said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from monai.networks.nets import DenseNet
from monai.transforms import ResizeWithPadOrCrop
from torch import Tensor, nn

from napari_gradcam import Classifier, GradCamError, Volume, explain, explainer, passes, warm
from napari_gradcam.cam import Network, memory, output_scores, running
from napari_gradcam.cam.memory import Portions, ShortOfMemoryError
from napari_gradcam.cam.running import device_called
from napari_gradcam.classifiers.classifier import Windows
from napari_gradcam.classifiers.scores import Head
from napari_gradcam.told import shortage_told, unable_told

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_gradcam.explanation import Explanation

GPU = torch.device("cuda:0")


@pytest.fixture(autouse=True)
def _cold() -> None:
    warm.let_go()


class Device:
    """A pretend GPU: what runs there runs on copies of the weights that this device made, here on the CPU."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.copies: set[int] = set()
        self._alive: list[Tensor] = []
        own, free = running._own, memory.free_bytes
        monkeypatch.setattr(
            running, "_own", lambda tensor, device: self._copy(tensor) if device == GPU else own(tensor, device)
        )
        monkeypatch.setattr(running.Network, "own", lambda _self, inputs: inputs.clone())
        for module in (memory, passes):
            monkeypatch.setattr(module, "free_bytes", lambda device: 1 << 34 if device == GPU else free(device))
        called = explainer.device_called
        monkeypatch.setattr(explainer, "device_called", lambda name: GPU if name == "cuda:0" else called(name))

    def _copy(self, tensor: Tensor) -> Tensor:
        copy = tensor.detach().clone()
        self._alive.append(copy)  # so that no address is given out twice
        self.copies.add(copy.data_ptr())
        return copy

    def holds(self, tensor: Tensor) -> bool:
        return tensor.data_ptr() in self.copies


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Device:
    return Device(monkeypatch)


class Hungry(nn.Module):
    """Has room for so many samples on each device, in the pass or in the gradients."""

    def __init__(self, dims: int, here: int = 1 << 30, there: int = 1 << 30, gpu: Device | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cells, self.head = (nn.Conv2d, nn.Conv3d)[dims - 2](1, 3, 2, stride=2), nn.Linear(3, 2)
        self.here, self.there, self.gpu = here, there, gpu
        self.ran: list[tuple[str, int]] = []
        self.error: Callable[[], Exception] = lambda: torch.OutOfMemoryError("CUDA out of memory.")

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "meta":
            on_gpu = self.gpu is not None and self.gpu.holds(self.head.weight)
            if len(x) > (self.there if on_gpu else self.here):
                raise self.error()
            self.ran.append(("gpu" if on_gpu else "cpu", len(x)))
        return self.head(self.cells(x).relu().flatten(2).mean(dim=2))


def scan(slices: int = 10) -> Volume:
    values = np.random.default_rng(5).normal(size=(12, 10, slices)).astype(np.float32)
    return Volume(values, np.diag([2.0, 2.0, 3.0, 1.0]), name="noise")


def classifier(network: nn.Module, dims: int = 2, windows: Windows | None = None) -> Classifier:
    preprocess = ResizeWithPadOrCrop((12, 12, 10)[:dims])
    return Classifier(network, preprocess, ("a", "b"), Head(2, "softmax"), dims, (1, *(12,) * dims), windows=windows)


def told(result: Explanation) -> list[str]:
    return [notice for notice in result.notices if "Memory ran short" in notice or "cannot do all" in notice]


def assert_same(one: Explanation, other: Explanation) -> None:
    np.testing.assert_allclose(one.heatmap, other.heatmap, rtol=1e-5, atol=1e-5)
    assert one.scores == pytest.approx(other.scores, abs=1e-5)
    assert one.target == other.target
    assert other.heatmap.max() > 1e-4


# By name


def test_auto_is_the_best_device_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device_called("auto") == torch.device(f"cuda:{0}" if torch.cuda.is_available() else "cpu")
    there = {"cpu", "mps", "cuda:0", "cuda:1"}
    monkeypatch.setattr(running, "devices", lambda: ["cpu", "cuda:0", "cuda:1", "mps"])
    monkeypatch.setattr(running, "_working", lambda name: torch.device(name) if name in there else None)
    for best in ("cuda:0", "cuda:1", "mps", "cpu"):
        assert device_called("auto") == torch.device(best)
        there.remove(best)  # as one that is there but too old for this PyTorch


def test_auto_gives_what_the_cpu_gives() -> None:
    network = Hungry(2)
    assert_same(explain(scan(), classifier(network), device="auto"), explain(scan(), classifier(network)))


# Batches


@pytest.mark.parametrize(
    "windows", [None, Windows((32, 32), (0.5, 0.5), "gaussian", at_once=8)], ids=["slices", "windows"]
)
def test_a_real_network_gives_the_same_in_batches_of_any_size(
    monkeypatch: pytest.MonkeyPatch, windows: Windows | None
) -> None:
    torch.manual_seed(0)
    network = DenseNet(
        spatial_dims=2, in_channels=1, out_channels=2, init_features=8, growth_rate=4, block_config=(2, 2)
    )
    results = []
    for size in (1, 3, 8):
        monkeypatch.setattr(passes, "samples_at_once", lambda *_, size=size: size)
        preprocess = ResizeWithPadOrCrop((64, 64))
        one = Classifier(network, preprocess, ("a", "b"), Head(2, "softmax"), 2, (1, 64, 64), windows=windows)
        volume = Volume(np.random.default_rng(0).normal(size=(60, 50, 7)).astype(np.float32), np.eye(4))
        results.append(explain(volume, one, "b", layer="features.denseblock2"))
    for other in results[1:]:
        assert_same(other, results[0])
        np.testing.assert_allclose(other.slice_scores, results[0].slice_scores, atol=1e-5)


# Short of memory


OUT_OF_MEMORY = {
    "CUDA": lambda: torch.OutOfMemoryError("CUDA out of memory."),
    "MPS": lambda: RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)."),
    "cuBLAS": lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "cuDNN": lambda: RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    "Linux": lambda: RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    "Python": MemoryError,
}


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_batches_are_halved_and_nothing_that_was_done_is_done_again(
    monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    network = Hungry(2, here=3)
    network.error = OUT_OF_MEMORY[error]
    monkeypatch.setattr(passes, "samples_at_once", lambda *_: 8)
    result = explain(scan(), classifier(network), "b", layer="cells")
    assert [count for _, count in network.ran] == [2] * 5
    assert told(result) == ["Memory ran short: the slices were read 2 at a time."]
    assert_same(result, explain(scan(), classifier(Hungry(2)), "b", layer="cells"))


def test_what_was_read_before_memory_ran_short_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    class Tiring(Hungry):
        def forward(self, x: Tensor) -> Tensor:
            if sum(count for _, count in self.ran) >= 8:
                self.here = 1
            return super().forward(x)

    network = Tiring(2)
    monkeypatch.setattr(passes, "samples_at_once", lambda *_: 4)
    result = explain(scan(), classifier(network), "b", layer="cells")
    assert [count for _, count in network.ran] == [4, 4, 1, 1]
    assert told(result) == ["Memory ran short: the slices were read one at a time."]
    assert_same(result, explain(scan(), classifier(Hungry(2)), "b", layer="cells"))


def test_a_scan_too_large_to_be_looked_at_is_refused_by_its_own_size() -> None:
    """Not by the size that the model declares, which would need more still."""

    class Large(Hungry):
        def forward(self, x: Tensor) -> Tensor:
            if x.device.type != "meta" and x.shape[-1] >= 32:
                raise self.error()
            return super().forward(x)

    model = Classifier(Large(3), ResizeWithPadOrCrop((40, 36, 32)), ("a", "b"), "softmax", 3, (1, 64, 64, 64))
    with pytest.raises(ShortOfMemoryError, match=r"an input of 1 × 40 × 36 × 32 \(channels first\)"):
        explain(scan(), model)


@pytest.mark.parametrize("target", [None, "b"])
def test_from_a_gpu_without_room_the_rest_goes_to_the_cpu(
    gpu: Device, monkeypatch: pytest.MonkeyPatch, target: str | None
) -> None:
    class Filling(Hungry):
        def forward(self, x: Tensor) -> Tensor:
            if sum(count for _, count in self.ran) >= 4:
                self.there = 0
            return super().forward(x)

    network = Filling(2, there=2, gpu=gpu)
    monkeypatch.setattr(passes, "samples_at_once", lambda _network, _shape, device: 4 if device == GPU else 3)
    result = explain(scan(), classifier(network), target, layer="cells", device="cuda:0")
    assert network.ran[:4] == [("gpu", 2), ("gpu", 2), ("cpu", 3), ("cpu", 3)]
    assert told(result) == ["Memory ran short on cuda:0: the slices were read one at a time, then on the CPU."]
    assert_same(result, explain(scan(), classifier(Hungry(2)), target, layer="cells"))


def test_a_volume_goes_to_the_cpu_at_once(gpu: Device) -> None:
    network = Hungry(3, there=0, gpu=gpu)
    result = explain(scan(), classifier(network, 3), layer="cells", device="cuda:0")
    assert network.ran == [("cpu", 1)]
    assert told(result) == ["Memory ran short on cuda:0: the scan was read on the CPU."]
    assert_same(result, explain(scan(), classifier(Hungry(3), 3), layer="cells"))


@pytest.mark.parametrize("method", ["gradcam", "scorecam", "ablationcam"])
def test_windows_fall_back_too(gpu: Device, method: str) -> None:
    windows = Windows((8, 8, 10), (0.5,) * 3, "gaussian", at_once=4)
    network = Hungry(3, here=1, there=0, gpu=gpu)
    result = explain(scan(), classifier(network, 3, windows), "b", method, layer="cells", device="cuda:0")
    assert set(network.ran) == {("cpu", 1)}
    assert told(result) == [
        "Memory ran short on cuda:0: the windows were read one at a time, then on the CPU, one at a time."
    ]
    assert_same(result, explain(scan(), classifier(Hungry(3), 3, windows), "b", method, layer="cells"))


@pytest.mark.parametrize("target", [None, "b"])
def test_gradients_that_do_not_fit_are_taken_in_smaller_batches(
    monkeypatch: pytest.MonkeyPatch, target: str | None
) -> None:
    class Backward(torch.autograd.Function):
        @staticmethod
        def forward(_context: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(_context: Any, gradient: Tensor) -> Tensor:
            if len(gradient) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return gradient

    class Steep(Hungry):
        def forward(self, x: Tensor) -> Tensor:
            self.ran.append(("cpu", len(x)))
            return self.head(Backward.apply(self.cells(x).relu()).flatten(2).mean(dim=2))

    monkeypatch.setattr(passes, "samples_at_once", lambda *_: 8)
    result = explain(scan(), classifier(Steep(2)), target, layer="cells")
    assert told(result) == ["Memory ran short: the slices were read 2 at a time."]
    assert_same(result, explain(scan(), classifier(Hungry(2)), target, layer="cells"))


@pytest.mark.parametrize("method", ["scorecam", "ablationcam", "occlusion"])
def test_methods_that_ask_again_ask_for_fewer_at_once(method: str) -> None:
    network = Hungry(3, here=1)
    result = explain(scan(), classifier(network, 3), "b", method, layer="cells")
    assert {count for _, count in network.ran} == {1}
    assert_same(result, explain(scan(), classifier(Hungry(3), 3), "b", method, layer="cells"))


def test_what_is_warm_is_let_go_before_anything_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class Crowded(Hungry):
        def forward(self, x: Tensor) -> Tensor:
            if len(warm._kept) > 0:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return super().forward(x)

    volume, other = scan(), classifier(Hungry(2))
    explain(volume, other, "b", layer="cells")
    assert len(warm._kept) == 1
    result = explain(volume, classifier(Crowded(2)), "b", layer="cells")
    assert told(result) == []


def test_where_not_one_sample_fits_on_the_cpu_the_sentence_says_what_would() -> None:
    for dims in (2, 3):
        with pytest.raises(
            GradCamError, match=r"not enough memory to run the network on an input of .* crop or resample"
        ):
            explain(scan(), classifier(Hungry(dims, here=0), dims), "b", layer="cells")


def test_the_network_stays_untouched_when_it_falls_back(gpu: Device) -> None:
    network = Hungry(2, there=0, gpu=gpu)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    pointers = [parameter.data_ptr() for parameter in network.parameters()]
    explain(scan(), classifier(network), "b", layer="cells", device="cuda:0")
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)
    assert [parameter.data_ptr() for parameter in network.parameters()] == pointers


def test_what_a_device_cannot_do_the_cpu_does(gpu: Device) -> None:
    network = Hungry(2, there=0, gpu=gpu)
    network.error = lambda: NotImplementedError(
        "The operator 'aten::x' is not currently implemented for the MPS device."
    )
    result = explain(scan(), classifier(network), "b", layer="cells", device="cuda:0")
    assert told(result) == [
        "The device cuda:0 cannot do all that the network asks for: the slices were read on the CPU."
    ]
    assert_same(result, explain(scan(), classifier(Hungry(2)), "b", layer="cells"))
    nowhere = Hungry(2, here=0)
    nowhere.error = lambda: NotImplementedError("no such thing")
    with pytest.raises(GradCamError, match=r"cannot read its own preprocessed input .* no such thing"):
        explain(scan(), classifier(nowhere), "b", layer="cells")


def test_weights_are_brought_to_a_device_once_and_not_for_each_batch(
    gpu: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Hungry(2, gpu=gpu)
    monkeypatch.setattr(passes, "samples_at_once", lambda *_: 2)
    explain(scan(), classifier(network), "b", layer="cells", device="cuda:0")
    assert network.ran == [("gpu", 2)] * 5
    assert len(gpu.copies) == 4  # weight and bias of two layers


def test_weights_that_were_changed_since_are_brought_anew() -> None:
    network = Hungry(2).half()
    running_it = Network(network, output_scores)
    inputs = torch.rand(1, 1, 12, 12)
    before = running_it.scores(inputs)
    torch.testing.assert_close(running_it.scores(inputs), before)
    with torch.no_grad():
        network.head.bias += 1
    torch.testing.assert_close(running_it.scores(inputs), before + 1, rtol=1e-3, atol=1e-3)
    network.head.bias = nn.Parameter(network.head.bias.detach() + 1)
    torch.testing.assert_close(running_it.scores(inputs), before + 2, rtol=1e-3, atol=1e-3)


def test_a_kept_pass_that_a_device_cannot_take_gradients_of_is_made_again_on_the_cpu(gpu: Device) -> None:
    class OneWay(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, x: Tensor, able: bool) -> Tensor:
            context.able = able
            return x.clone()

        @staticmethod
        def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
            if not context.able:
                raise NotImplementedError("no gradients here")
            return gradient, None

    class Steep(Hungry):
        def forward(self, x: Tensor) -> Tensor:
            able = self.gpu is None or not self.gpu.holds(self.head.weight)
            return self.head(OneWay.apply(self.cells(x).relu(), able).flatten(2).mean(dim=2))

    result = explain(scan(), classifier(Steep(2, gpu=gpu)), None, layer="cells", device="cuda:0")
    assert told(result) == [
        "The device cuda:0 cannot do all that the network asks for: the slices were read on the CPU."
    ]
    assert_same(result, explain(scan(), classifier(Hungry(2)), None, layer="cells"))


# What is said


@pytest.mark.parametrize(
    ("shortages", "parts", "sentence"),
    [
        ([], "slices", ""),
        ([("cuda:0", 4), ("cuda:0", 2)], "slices", "Memory ran short on cuda:0: the slices were read 2 at a time."),
        ([("cpu", 1)], "windows", "Memory ran short: the windows were read one at a time."),
        ([("mps:0", 0)], "scan", "Memory ran short on mps:0: the scan was read on the CPU."),
        (
            [("cuda:1", 2), ("cuda:1", 1), ("cuda:1", 0), ("cpu", 2)],
            "slices",
            "Memory ran short on cuda:1: the slices were read one at a time, then on the CPU, 2 at a time.",
        ),
    ],
)
def test_it_is_said_in_one_sentence(shortages: list[tuple[str, int]], parts: str, sentence: str) -> None:
    assert shortage_told(shortages, parts) == sentence


def test_an_able_device_says_nothing() -> None:
    assert unable_told("", "scan") == ""
    assert unable_told("mps:0", "picture") == (
        "The device mps:0 cannot do all that the network asks for: the picture was read on the CPU."
    )


def test_portions_are_as_large_as_fit_and_keep_their_order() -> None:
    sizes = []

    def run(batch: Tensor) -> Tensor:
        if len(batch) > 3:
            raise ShortOfMemoryError("too many")
        sizes.append(len(batch))
        return batch * 2

    portions = Portions(run)
    torch.testing.assert_close(portions(torch.arange(13)), 2 * torch.arange(13))
    assert sizes == [3, 3, 3, 3, 1]
    portions(torch.arange(4))
    assert sizes[5:] == [3, 1]
    with pytest.raises(ShortOfMemoryError):
        Portions(lambda batch: run(torch.arange(9)))(torch.arange(2))
