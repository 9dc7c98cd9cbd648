"""How much memory a run takes, how many samples fit at once, and what to say where one does not fit."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psutil
import torch
from torch import Tensor, nn
from torch.func import functional_call

from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SHARE = 0.5
"""The share of the free memory that a batch may take; the rest is for what the estimate does not see."""

MOST_AT_ONCE = 8
"""Samples in one batch at most.

A slice of 224² through a DenseNet121 took .81, .67, .67 and .89 times the floor in batches of 2, 4, 8 and 16.
"""

_SAID = ("out of memory", "not enough memory", "can't allocate memory", "_STATUS_ALLOC_FAILED")
"""How PyTorch says that memory is short: on CUDA and MPS; on a CPU under Windows and macOS; under Linux; in a library
of CUDA's."""


class ShortOfMemoryError(GradCamError):
    """A run did not fit into memory. Fewer samples at once may fit, or another device."""


class Portions:
    """Runs a function on a batch, in as few portions as fit into memory.

    Parameters
    ----------
    run
        ``(n, ...)`` to ``(n, ...)``, each sample on its own; raises :class:`ShortOfMemoryError` where n are too many.
    """

    def __init__(self, run: Callable[[Tensor], Tensor]) -> None:
        self._run = run
        self._most: int | None = None

    def __call__(self, batch: Tensor) -> Tensor:
        """Run a batch whole, or in halves down to single samples; what did not fit once is not tried again."""
        found: list[Tensor] = []
        done = 0
        while done < len(batch):
            portion = batch[done : done + (self._most or len(batch))]
            try:
                found.append(self._run(portion))
            except ShortOfMemoryError:
                if len(portion) == 1:
                    raise
                self._most = len(portion) // 2
                continue  # out of the handler, since what went wrong holds on to memory
            done += len(portion)
        return torch.cat(found) if len(found) > 1 else found[0]


def activation_bytes(network: nn.Module, sample_shape: Sequence[int]) -> int:
    """Estimate the peak memory of the feature maps while one sample runs through a network.

    A layer needs what it reads and what it writes at the same time; the largest such sum over all layers measured
    within 10 % of the true peak of a DenseNet121 and a ResNet18 in 3D. The network runs on PyTorch's meta device, where
    tensors have shapes and no values, so that the estimate itself takes no memory.

    Parameters
    ----------
    network
        Left untouched.
    sample_shape
        ``(channel, *spatial)``.

    Returns
    -------
    int
        Bytes; 0 where the network cannot run without values.
    """
    largest = 0

    def note(_module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        nonlocal largest
        tensors = [tensor for tensor in (*arguments, output) if isinstance(tensor, Tensor)]
        largest = max(largest, sum(tensor.numel() * tensor.element_size() for tensor in tensors))

    state = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    shadows = {name: _shadow(tensor) for name, tensor in state.items()}
    dtype = next((one.dtype for one in shadows.values() if one.is_floating_point()), torch.float32)
    handles = [module.register_forward_hook(note) for module in network.modules() if not any(module.children())]
    flags = [(module, module.training) for module in network.modules()]
    try:
        network.eval()
        with torch.inference_mode(False), torch.no_grad():
            functional_call(network, shadows, (torch.empty((1, *sample_shape), device="meta", dtype=dtype),))
    except (RuntimeError, NotImplementedError, ValueError, TypeError):
        return 0
    finally:
        for handle in handles:
            handle.remove()
        for module, training in flags:
            module.training = training
    return largest


def _shadow(tensor: Tensor) -> Tensor:
    """Give a tensor's shape without its values; half precision is run in single precision."""
    half = tensor.dtype in (torch.float16, torch.bfloat16)
    return torch.empty_like(tensor, device="meta", dtype=torch.float32 if half else tensor.dtype)


def free_bytes(device: torch.device) -> int:
    """Tell how much memory is free where a network runs."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def samples_at_once(network: nn.Module, sample_shape: Sequence[int], device: torch.device) -> int:
    """Choose how many samples to run in one batch: as many as fit into :data:`SHARE` of the free memory, at most 8."""
    needed = activation_bytes(network, sample_shape)
    if needed == 0:
        return 1
    return max(1, min(MOST_AT_ONCE, int(SHARE * free_bytes(device)) // needed))


@contextmanager
def refuse_what_does_not_fit(
    network: nn.Module, asked: Sequence[Tensor], device: torch.device | None = None
) -> Iterator[None]:
    """Turn a failed allocation into a sentence that says which size would fit.

    Parameters
    ----------
    network
        The network.
    asked
        Holds what the network was last run on; it may be filled in the body.
    device
        Where it runs; None is where its inputs are.

    Raises
    ------
    ShortOfMemoryError
        If the body runs out of memory.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not asked or not is_out_of_memory(error):
            raise
        raise ShortOfMemoryError(_too_large(network, asked[-1], device or asked[-1].device)) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Tell a failed allocation from other errors."""
    told = str(error)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(said in told for said in _SAID)


def _too_large(network: nn.Module, inputs: Tensor, device: torch.device) -> str:
    """Say how much is needed and how much is free, and which input would fit."""
    shape = tuple(inputs.shape[1:])
    size = " × ".join(map(str, shape))
    batch = f"{len(inputs)} inputs of {size}" if len(inputs) > 1 else f"an input of {size}"
    needed, free = activation_bytes(network, shape), free_bytes(device)
    if needed == 0:
        return f"There is not enough memory to run the network on {batch} (channels first); give a smaller input."
    told = (
        f"There is not enough memory to run the network on {batch} (channels first): about "
        f"{len(inputs) * needed / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free"
    )
    if len(inputs) > 1 and needed < SHARE * free:
        return f"{told}; {max(1, min(len(inputs) // 2, int(SHARE * free) // needed))} at once would fit."
    # Where the estimate says that it fits and it did not, something else takes memory: half of it is a fair try.
    scale = min(SHARE * free / needed, 0.5) ** (1 / (len(shape) - 1))
    smaller = [max(1, math.floor(n * scale / 8) * 8 or math.floor(n * scale)) for n in shape[1:]]
    return f"{told}; an input of {' × '.join(map(str, (shape[0], *smaller)))} would fit: crop or resample the scan."
