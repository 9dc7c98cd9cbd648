"""The survey of a network's layers: which can be a target, and which is a good one."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from napari_gradcam.cam.capture import evaluation_mode
from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from collections.abc import Sequence

_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.LocalResponseNorm)
_PASSING = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.Flatten)


@dataclass(frozen=True)
class LayerInfo:
    """One layer of a network, as a forward pass saw it.

    Attributes
    ----------
    name
        Name in ``network.named_modules()``.
    kind
        Class of the module, such as ``Conv3d``.
    channels, grid
        Of its last output ``(batch, channels, *grid)``; 0 and empty where it gave no feature maps.
    calls
        How often it ran in one forward pass.
    problem
        Why it cannot be a target, a whole sentence; None where it can.
    """

    name: str
    kind: str
    channels: int
    grid: tuple[int, ...]
    calls: int
    problem: str | None


def survey(network: nn.Module, input_shape: Sequence[int]) -> tuple[LayerInfo, ...]:
    """List the layers of `network` in the order in which they finish, those that never run last.

    The network runs once on zeros. (The meta device, where tensors have shapes and no values, was measured: it takes
    longer than a forward pass of 64³ voxels.)

    Parameters
    ----------
    network
        Left untouched.
    input_shape
        ``(channel, *spatial)``.

    Raises
    ------
    GradCamError
        If the network does not accept an input of that shape.
    """
    order: list[str] = []
    outputs: dict[str, Any] = {}
    calls: dict[str, int] = {}
    modules = {name: module for name, module in network.named_modules() if name}

    def note(name: str, output: Any) -> None:
        if name in outputs:
            order.remove(name)
        order.append(name)
        outputs[name] = output.shape if isinstance(output, Tensor) else None
        calls[name] = calls.get(name, 0) + 1

    handles = [
        module.register_forward_hook(lambda _module, _inputs, output, name=name: note(name, output))
        for name, module in modules.items()
    ]
    try:
        with torch.inference_mode(), evaluation_mode(network):
            _run_on_zeros(network, (1, *input_shape))
    finally:
        for handle in handles:
            handle.remove()
    ran = [_info(name, modules[name], outputs[name], calls[name], len(input_shape) + 1) for name in order]
    idle = [
        LayerInfo(name, type(module).__name__, 0, (), 0, "It never runs.")
        for name, module in modules.items()
        if name not in outputs
    ]
    return (*ran, *idle)


def default_layer(layers: Sequence[LayerInfo], network: nn.Module) -> str:
    """Name the deepest layer that still has a grid: the last one before the network pools it away.

    Normalisation and layers that hand their input on are passed over, as is a layer that runs more than once: what
    stands before or around them is the better name for the same place.

    Raises
    ------
    GradCamError
        If no layer gives feature maps of more than one cell.
    """
    modules = dict(network.named_modules())
    for layer in reversed(layers):
        module = modules[layer.name]
        if layer.problem is None and layer.calls == 1 and not isinstance(module, (*_NORMS, *_PASSING)):
            return layer.name
    raise GradCamError(
        "The network has no layer with a grid of feature maps, so a class activation map cannot be made."
    )


def _run_on_zeros(network: nn.Module, shape: tuple[int, ...]) -> None:
    first = next(network.parameters(), torch.empty(0))
    try:
        network(torch.zeros(shape, device=first.device, dtype=first.dtype))
    except RuntimeError as error:
        size = " × ".join(map(str, shape[1:]))
        raise GradCamError(f"The network does not accept an input of {size} (channels first): {error}") from error


def _info(name: str, module: nn.Module, shape: torch.Size | None, calls: int, rank: int) -> LayerInfo:
    kind = type(module).__name__
    if shape is None or len(shape) != rank:
        return LayerInfo(name, kind, 0, (), calls, "It gives no feature maps.")
    grid = tuple(shape[2:])
    problem = "Its grid is a single cell, which has no place." if prod(grid) == 1 else None
    return LayerInfo(name, kind, shape[1], grid, calls, problem)
