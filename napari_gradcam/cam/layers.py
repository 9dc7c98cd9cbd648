"""The survey of a network's layers: which can be a target, and which is a good one."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any
from weakref import ref

import torch
from torch import Tensor, nn

from napari_gradcam.cam.capture import find_layer
from napari_gradcam.cam.engine import output_scores
from napari_gradcam.cam.layout import CONVOLUTIONS, Layout, adds_border, find_layout
from napari_gradcam.cam.memory import is_out_of_memory, refuse_what_does_not_fit
from napari_gradcam.cam.running import evaluation_mode
from napari_gradcam.cam.tape import Tape
from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

FEWEST_CELLS = 4
"""Cells along each axis that a grid must have to place a finding: with fewer, one cell is a third of the picture or
more."""

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
        Of its last output, put back on the input's grid; 0 and empty where it gave no feature maps.
    calls
        How often it ran in one forward pass.
    problem
        Why it cannot be a target, a whole sentence; None where it can.
    warning
        What to keep in mind where it is one, a whole sentence; None where there is nothing.
    reason
        Why it is the one recommended, a whole sentence; None for all others.
    cell
        Size of one cell of its grid in voxels of the input; empty where it has none.
    cell_mm
        The same in mm on one scan; None where no scan was given.
    """

    name: str
    kind: str
    channels: int
    grid: tuple[int, ...]
    calls: int
    problem: str | None
    warning: str | None = None
    reason: str | None = None
    cell: tuple[float, ...] = ()
    cell_mm: tuple[float, ...] | None = None


def survey(
    network: nn.Module, input_shape: Sequence[int], class_scores: Callable[[Any], Tensor] | None = None
) -> tuple[LayerInfo, ...]:
    """List the layers of `network` in the order in which they finish, those that never run last, one recommended.

    The network runs once on zeros. (The meta device, where tensors have shapes and no values, was measured: it takes
    longer than a forward pass of 64³ voxels.) A transformer with a class token runs a second time, on noise, to see
    which of its layers' tokens reach the class scores.

    Parameters
    ----------
    network
        Left untouched.
    input_shape
        ``(channel, *spatial)``.
    class_scores
        Turns the network's output into ``(batch, class)`` scores; by default
        :func:`napari_gradcam.cam.engine.output_scores`.

    Raises
    ------
    GradCamError
        If the network does not accept an input of that shape.
    """
    if isinstance(network, torch.jit.ScriptModule):
        find_layer(network, "")  # refuses it
    seen = _Seen(network, input_shape)
    fits = refuse_what_does_not_fit(network, seen.asked)
    with torch.inference_mode(), fits, seen.watching(), evaluation_mode(network):
        classes = _count_scores(seen.run(torch.zeros))
    layers = [seen.info(name) for name in seen.order]
    if any(isinstance(layout, Layout) and layout.first for layout in seen.layouts.values()):
        lost = _without_way_to_scores(network, seen, class_scores or output_scores)
        layers = [
            replace(layer, problem="The class scores do not depend on its tokens, but on the class token alone.")
            if layer.name in lost and layer.problem is None
            else layer
            for layer in layers
        ]
    layers += [
        LayerInfo(name, type(module).__name__, 0, (), 0, "It never runs.")
        for name, module in seen.modules.items()
        if name not in seen.calls
    ]
    return _with_recommendation(layers, seen.modules, tuple(input_shape[1:]), classes)


def recommended(layers: Sequence[LayerInfo]) -> LayerInfo:
    """Give the layer of a survey that is taken when none is asked for.

    Raises
    ------
    GradCamError
        If no layer gives feature maps of more than one cell.
    """
    for layer in layers:
        if layer.reason is not None:
            return layer
    raise GradCamError(
        "The network has no layer with a grid of feature maps, so a class activation map cannot be made."
    )


class _Seen:
    """What a forward pass showed of each layer."""

    def __init__(self, network: nn.Module, input_shape: Sequence[int]) -> None:
        self.network, self.shape = network, (1, *input_shape)
        self.modules = {name: module for name, module in network.named_modules() if name}
        self.order: list[str] = []
        self.calls: dict[str, int] = {}
        self.layouts: dict[str, Layout | str] = {}
        self.channels: dict[str, int] = {}
        self.bordered: set[str] = set()
        self.asked: list[Tensor] = []
        self._borders: list[ref[Tensor]] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Note what every layer gives."""
        handles = [module.register_forward_hook(partial(self._note, name)) for name, module in self.modules.items()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def run(self, make: Callable[..., Tensor]) -> Any:
        """Run the network on an input of the given shape."""
        first = next(self.network.parameters(), torch.empty(0))
        self.asked[:] = [make(self.shape, device=first.device, dtype=first.dtype)]
        try:
            return self.network(self.asked[0])
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            size = " × ".join(map(str, self.shape[1:]))
            raise GradCamError(f"The network does not accept an input of {size} (channels first): {error}") from error

    def info(self, name: str) -> LayerInfo:
        """Sum up one layer that ran."""
        kind, calls, layout = type(self.modules[name]).__name__, self.calls[name], self.layouts[name]
        if isinstance(layout, str):
            return LayerInfo(name, kind, 0, (), calls, layout)
        cell = tuple(side / cells for side, cells in zip(self.shape[2:], layout.grid, strict=True))
        problem = "Its grid is a single cell, which has no place." if prod(layout.grid) == 1 else None
        if name in self.bordered:
            problem = "Its grid has a border around that of the input, so its cells cannot be placed."
        warning = None if problem or is_fine(layout.grid, self.shape[2:]) else _coarse(cell, "input voxels")
        return LayerInfo(name, kind, self.channels[name], layout.grid, calls, problem, warning, cell=cell)

    def _note(self, name: str, module: nn.Module, arguments: Any, output: Any) -> None:
        if name in self.calls:
            self.order.remove(name)
        self.order.append(name)
        self.calls[name] = self.calls.get(name, 0) + 1
        try:
            layout = self.layouts[name] = find_layout(self.network, name, module, output, self.asked[0])
            self.channels[name] = output.shape[layout.channel_axis]
        except GradCamError as error:
            told = str(error)
            self.layouts[name] = told if told.startswith("It cannot") else "It gives no feature maps."
        if isinstance(output, Tensor) and (
            adds_border(module, arguments, output) or self._has_border(output) or self._keeps_border(arguments, output)
        ):
            self.bordered.add(name)
            self._borders.append(ref(output))

    def _has_border(self, tensor: Any) -> bool:
        # Not kept alive for that: one feature map may be a large share of the memory.
        return any(border() is tensor for border in self._borders)

    def _keeps_border(self, arguments: Any, output: Tensor) -> bool:
        """Tell whether a layer read a grid with a border and gave one of the same size, as an activation does."""
        read = arguments[0] if arguments else None
        return isinstance(read, Tensor) and read.shape[2:] == output.shape[2:] and self._has_border(read)


def on_scan(layers: Sequence[LayerInfo], voxel_mm: Sequence[float]) -> tuple[LayerInfo, ...]:
    """Tell the size of each layer's cells in mm.

    Parameters
    ----------
    layers
        A survey with an input of the scan's own shape after preprocessing.
    voxel_mm
        Size of a voxel of the network's input along each of its axes, mm.
    """
    return tuple(
        replace(layer, cell_mm=mm, warning=_coarse(mm, "mm") if layer.warning else None)
        if layer.cell and (mm := tuple(n * size for n, size in zip(layer.cell, voxel_mm, strict=True)))
        else layer
        for layer in layers
    )


def _without_way_to_scores(network: nn.Module, seen: _Seen, class_scores: Callable[[Any], Tensor]) -> set[str]:
    """Name the layers with a class token whose other tokens do not reach the class scores."""
    outputs: dict[str, Tensor] = {}
    names = [name for name, layout in seen.layouts.items() if isinstance(layout, Layout) and layout.first]

    def keep(name: str, _module: nn.Module, _arguments: Any, output: Tensor) -> None:
        outputs[name] = output if output.requires_grad else output.requires_grad_()

    handles = [seen.modules[name].register_forward_hook(partial(keep, name)) for name in names]
    generator = torch.Generator().manual_seed(0)
    try:
        fits = refuse_what_does_not_fit(network, seen.asked)
        with torch.inference_mode(False), fits, torch.enable_grad(), evaluation_mode(network), Tape() as tape:
            output = seen.run(lambda shape, **kind: torch.randn(shape, generator=generator).to(**kind))
            scores = class_scores(tape.before_ending(output)[0])
            # Weighed at random, because the two scores that one logit gives always have the same sum.
            weighed = scores * torch.randn(scores.shape, generator=generator).to(scores)
            found = torch.autograd.grad(weighed.sum(), list(outputs.values()), allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    lost = set()
    for name, gradient in zip(outputs, found, strict=True):
        layout = seen.layouts[name]
        assert isinstance(layout, Layout)
        if gradient is None or not layout.on_grid(gradient).any():
            lost.add(name)
    return lost


def _with_recommendation(
    layers: Sequence[LayerInfo], modules: dict[str, nn.Module], spatial: tuple[int, ...], classes: int
) -> tuple[LayerInfo, ...]:
    """Mark the deepest layer whose grid is fine enough to place a finding, or the deepest that has a grid at all.

    Normalisation, layers that hand their input on, and the linear layers within a transformer's block are passed over,
    as is a layer that runs more than once: what stands before or around them is the better name for the same place.
    From a 1 × 1 convolution to the class scores on, a layer holds scores rather than features.
    """
    able = [
        layer
        for layer in layers[: _head(layers, modules, classes)]
        if layer.problem is None
        and layer.calls == 1
        and not isinstance(modules[layer.name], (*_NORMS, *_PASSING, nn.Linear))
    ]
    fine = [layer for layer in able if is_fine(layer.grid, spatial)]
    if not able:
        return tuple(layers)
    best = (fine or able)[-1]
    if best is able[-1]:
        reason = "The deepest layer that still has a grid, before the network pools it away."
        if not fine:
            reason = "The deepest layer that still has a grid; no layer has one fine enough to place a finding."
    else:
        reason = f"The deepest layer with {FEWEST_CELLS} cells a side or more; deeper ones cannot place a finding."
    return tuple(replace(layer, reason=reason) if layer is best else layer for layer in layers)


def _count_scores(output: Any) -> int:
    """Count the scores that a network returns; 0 where that is no list of scores."""
    try:
        return output_scores(output).shape[1]
    except GradCamError:
        return 0


def _head(layers: Sequence[LayerInfo], modules: dict[str, nn.Module], classes: int) -> int:
    """Find the 1 × 1 convolution to the class scores that some networks end in before they pool."""
    last = [
        number for number, layer in enumerate(layers) if isinstance(modules[layer.name], CONVOLUTIONS) and layer.calls
    ]
    if last and layers[last[-1]].channels == classes and prod(modules[layers[last[-1]].name].kernel_size) == 1:  # type: ignore[arg-type]
        return last[-1]
    return len(layers)


def is_fine(grid: Sequence[int], spatial: Sequence[int]) -> bool:
    """Tell whether a grid can place a finding; along an axis of few voxels no grid can have more cells than that."""
    return all(cells >= min(FEWEST_CELLS, side) for cells, side in zip(grid, spatial, strict=True))


def _coarse(cell: Sequence[float], unit: str) -> str:
    sizes = " × ".join(f"{size:.3g}" if unit != "mm" else f"{size:.1f}" for size in cell)
    return f"Its cells are {sizes} {unit}: too coarse to place a finding."
