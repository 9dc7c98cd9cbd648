"""Running a network without leaving a trace on it: modes, layout in memory, precision and device for one run alone."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from napari_gradcam.cam.memory import refuse_what_does_not_fit
from napari_gradcam.cam.tape import Tape
from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HALF = (torch.float16, torch.bfloat16)

AUTO = "auto"
"""What stands for the best device there is: CUDA's first, then MPS, then the CPU."""


@dataclass(frozen=True, eq=False)
class Network:
    """A network, and how it is run.

    Attributes
    ----------
    module
        Left as it is: training flags, weights, gradients, hooks.
    class_scores
        Turns what it returns into ``(batch, class)`` scores before softmax or sigmoid.
    device
        Where it runs; None is where its weights are. On another device copies of its weights are used. What has no
        double precision (MPS) runs in single precision.
    """

    module: nn.Module
    class_scores: Callable[[Any], Tensor]
    device: torch.device | None = None
    _as_they_are: list[bool] = field(default_factory=list, repr=False)
    _copies: dict[str, tuple[Tensor, int, Tensor]] = field(default_factory=dict, init=False, repr=False)

    @contextmanager
    def ready(self) -> Iterator[Callable[[Tensor], Any]]:
        """Give a function that runs the network once, outside of inference mode, in evaluation mode, without autograd.

        A network in half precision is run in single precision, in which small gradients do not vanish.
        """
        state = self._own_state()

        asked: list[Tensor] = []

        def run(inputs: Tensor) -> Any:
            asked[:] = [inputs]
            # On copies, because a network may write into what it reads.
            if not self._as_they_are:
                try:
                    with torch.no_grad(), _channels_last(self.module, inputs):
                        return self._forward(state, inputs.clone())
                except RuntimeError as error:
                    if "view size is not compatible" not in str(error):
                        raise
                self._as_they_are.append(True)  # a network that calls view() wants its feature maps as they are
            with torch.no_grad():
                return self._forward(state, inputs.clone())

        # Inference mode of the caller would forbid the graph of what lies after the target layer.
        # A failed allocation is explained when all hooks are gone, since that takes another run without values.
        fits = refuse_what_does_not_fit(self.module, asked)
        with torch.inference_mode(False), fits, torch.no_grad(), evaluation_mode(self.module):
            yield run

    def own(self, inputs: Tensor) -> Tensor:
        """Give inputs where the network runs, in the precision of its weights, out of inference mode."""
        weights = next((one for one in self.module.parameters() if one.is_floating_point()), inputs)
        dtype = _precision(weights.dtype, self.place)
        with torch.inference_mode(False), torch.no_grad():
            inputs = inputs.clone() if inputs.is_inference() else inputs
            return inputs.as_subclass(Tensor).to(self.place, dtype)  # MONAI's MetaTensor is a slow one

    @property
    def place(self) -> torch.device:
        """The device that the network runs on."""
        first = next(self.module.parameters(), None)
        return self.device or (first.device if first is not None else torch.device("cpu"))

    def scores(self, inputs: Tensor) -> Tensor:
        """Run the network and nothing else, ``(batch, class)`` scores before softmax or sigmoid."""
        with self.ready() as run, Tape() as tape:
            before, _ = tape.before_ending(run(inputs))
            return self.class_scores(before)

    def _forward(self, state: dict[str, Tensor] | None, inputs: Tensor) -> Any:
        return self.module(inputs) if state is None else functional_call(self.module, state, (inputs,))

    def _own_state(self) -> dict[str, Tensor] | None:
        """Give weights and buffers as the run needs them, or None where the network's own will do."""
        weights, buffers = dict(self.module.named_parameters()), dict(self.module.named_buffers())
        with torch.inference_mode(False), torch.no_grad():
            own = {name: self._own_weight(name, weight) for name, weight in weights.items()}
            # A network may write into its buffers: each pass begins with those it has.
            own |= {name: _own(buffer, self.device) for name, buffer in buffers.items()}
        return None if all(own[name] is tensor for name, tensor in (weights | buffers).items()) else own

    def _own_weight(self, name: str, weight: Tensor) -> Tensor:
        """Give a weight as the run needs it; a copy is made once, and again where the weight was changed since."""
        if weight.is_inference():
            return _own(weight, self.device)  # PyTorch does not count its changes
        of, version, copy = self._copies.get(name, (None, 0, weight))
        if of is weight and version == weight._version:
            return copy
        own = _own(weight, self.device)
        if own is not weight:
            self._copies[name] = weight, weight._version, own
        return own


def _own(tensor: Tensor, device: torch.device | None) -> Tensor:
    """Give a weight as a run needs it: itself, or a copy elsewhere, in single precision, or out of inference mode."""
    device = device or tensor.device
    dtype = _precision(tensor.dtype, device)
    if (dtype, device) == (tensor.dtype, tensor.device) and not tensor.is_inference():
        return tensor
    return tensor.detach().to(device=device, dtype=dtype, copy=True)


def _precision(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """Give the precision that weights are run in."""
    single = dtype in HALF or (dtype is torch.float64 and device.type == "mps")
    return torch.float32 if single else dtype


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Run `network` in evaluation mode, then give each module its own training flag back."""
    flags = [(module, module.training) for module in network.modules()]
    if not any(training for _, training in flags):
        yield  # as it nearly always is, and setting the flags of a deep network takes milliseconds
        return
    network.eval()
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training


@contextmanager
def _channels_last(network: nn.Module, inputs: Tensor) -> Iterator[None]:
    """Let feature maps lie with their channels together, which oneDNN's convolutions read faster.

    Measured on two cores with MONAI's networks: faster in each of them, maps at the last layer equal to 1e-4
    (``docs/performance.md``). The layout is passed on from layer to layer, so it is enough to give it to what the first
    convolution returns; the network's weights are not touched.
    """

    def lay_out(_module: nn.Module, _arguments: Any, output: Tensor) -> Tensor:
        layout = {4: torch.channels_last, 5: torch.channels_last_3d}.get(output.ndim)
        return output if layout is None else output.contiguous(memory_format=layout)

    stems = [
        module
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.Conv3d) and module.in_channels == inputs.shape[1]
    ]
    handles = [module.register_forward_hook(lay_out) for module in stems if inputs.device.type == "cpu"]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def device_called(name: str | torch.device | None) -> torch.device | None:
    """Find a device by its name, such as ``"cpu"`` or ``"cuda:1"``; ``"auto"`` is the best there is.

    Raises
    ------
    GradCamError
        If there is none, naming those there are.
    """
    if name is None:
        return None
    if name == AUTO:
        best_first = sorted(devices(), key=lambda one: ("cuda", "mps", "cpu").index(one.partition(":")[0]))
        return next(found for found in map(_working, best_first) if found is not None)
    device = _working(name)
    if device is None:
        raise GradCamError(f"There is no device “{name}” here; choose {', '.join((*devices(), AUTO))}.")
    return device


def _working(name: str | torch.device) -> torch.device | None:
    """Try a device with a small sum: one that is there may be too old, or broken."""
    try:
        tried = torch.ones(1, device=torch.device(name)) + 1
        tried.item()
    except (RuntimeError, AssertionError, TypeError, NotImplementedError, ImportError):
        return None
    return tried.device  # "cuda" is "cuda:0" from here on


def devices() -> list[str]:
    """Name the devices there are, the CPU first."""
    found = [f"cuda:{n}" for n in range(torch.cuda.device_count())]
    return ["cpu", *found, *(["mps"] if torch.backends.mps.is_available() else [])]
