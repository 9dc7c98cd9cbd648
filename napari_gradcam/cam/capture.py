"""The cut at the target layer: one forward pass, with autograd only for what lies after the layer.

A forward hook on the target layer replaces the layer's output by a new leaf of the graph. What lies before runs without
autograd and frees its activations at once; what lies after is recorded, so that gradients of any class score at the
layer cost only the tail of the network. Time and peak memory stay near those of a plain forward pass. Of several target
layers the first that runs is cut, and the others are kept on the way.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from napari_gradcam.cam.layout import Layout, adds_border, find_layout
from napari_gradcam.cam.memory import refuse_what_does_not_fit
from napari_gradcam.cam.tape import Tape
from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from napari_gradcam.cam.running import Network


@dataclass(frozen=True, eq=False)
class Captured:
    """What one target layer gave.

    Attributes
    ----------
    output
        As the layer gave it; gradients are taken here.
    layout
        Where the grid is in it.
    calls
        How often the layer ran in the forward pass; `output` is of its last run.
    """

    output: Tensor
    layout: Layout
    calls: int

    @property
    def activations(self) -> Tensor:
        """The activations, ``(batch, channel, *grid)``, detached."""
        return self.layout.on_grid(self.output.detach())


@dataclass(frozen=True, eq=False)
class Capture:
    """The activations of the target layers and the class scores that follow from them.

    Attributes
    ----------
    layers
        By name, in the order in which they were asked for.
    logits
        Class scores before softmax or sigmoid, ``(batch, class)``, with their graph back to the layers.
    ending
        ``"softmax"``, ``"sigmoid"`` or ``"tanh"`` where the network itself ends in one, which was taken off; else None.
    network, inputs
        What ran on what.
    tape
        What ran after the first target layer.
    """

    layers: Mapping[str, Captured]
    logits: Tensor
    ending: str | None
    network: Network
    inputs: Tensor
    tape: Tape = field(repr=False)

    def gradients(self, target: int) -> dict[str, Tensor]:
        """Gradient of each sample's own score of class `target` at each layer, ``{name: (batch, channel, *grid)}``.

        The scores are summed over the batch before the gradient is taken: in evaluation mode one sample's score does
        not depend on another's activations, so each sample gets its own gradient.

        Raises
        ------
        GradCamError
            If the score does not depend on the activations of a layer, or on those of its class token alone.
        """
        outputs = [captured.output for captured in self.layers.values()]
        fits = refuse_what_does_not_fit(self.network.module, [self.inputs])
        with fits, torch.inference_mode(False), torch.enable_grad():
            score = self.logits[:, target].sum()
            found: Sequence[Tensor | None] = [None] * len(outputs)
            if score.requires_grad:
                found = torch.autograd.grad(score, outputs, retain_graph=True, allow_unused=True)
        return {
            name: _on_grid(name, captured.layout, gradient)
            for (name, captured), gradient in zip(self.layers.items(), found, strict=True)
        }

    def head_bias(self, layer: str, targets: Sequence[int]) -> Tensor | None:
        """Bias of each score, ``(batch, target)``, where a linear head alone lies after a layer; else None."""
        with torch.inference_mode(False), torch.enable_grad():
            return self.tape.head_bias(self.logits, targets, self.layers[layer].output)


def _on_grid(name: str, layout: Layout, gradient: Tensor | None) -> Tensor:
    if gradient is None:
        raise GradCamError(
            f"The class scores do not depend on the layer “{name}”; choose a layer on the way to the output."
        )
    on_grid = layout.on_grid(gradient)
    if layout.first and gradient.any() and not on_grid.any():
        raise GradCamError(
            f"The class scores depend on the class token of the layer “{name}” alone, which has no place; choose a "
            "layer before the last attention."
        )
    return on_grid


def find_layer(network: nn.Module, layer: str) -> nn.Module:
    """Return the module called `layer` in `network.named_modules()`.

    Raises
    ------
    GradCamError
        If there is none, naming those that are closest, or if the network is TorchScript, which takes no hooks.
    """
    if isinstance(network, torch.jit.ScriptModule):
        raise GradCamError(
            "The network is TorchScript, whose layers cannot be looked into; give the network itself with its weights "
            "(in a MONAI bundle: network_def and model.pt instead of model.ts)."
        )
    if not isinstance(layer, str):
        raise GradCamError(f"The layer is given as a {type(layer).__name__}; give its name in network.named_modules().")
    modules: dict[str, nn.Module] = dict(network.named_modules())
    if layer and layer in modules:
        return modules[layer]
    known = [name for name in modules if name]
    close = get_close_matches(layer, known, n=3) or known[-3:]
    raise GradCamError(
        f"The network has no layer “{layer}”; near it are {', '.join(close)} (napari-gradcam layers lists all)."
    )


def capture(network: Network, inputs: Tensor, layers: Sequence[str]) -> Capture:
    """Run `network` on `inputs` once, cut at the first of `layers`.

    Parameters
    ----------
    network
        Its weights may be frozen. It is handed back as it came: training flags, hooks, gradients.
    inputs
        ``(batch, channel, *spatial)``.
    layers
        Names of the target layers in ``network.module.named_modules()``; without any, the scores alone are taken.

    Raises
    ------
    GradCamError
        If a layer does not exist, is never reached or has no spatial grid, or if the input holds NaN.
    """
    inputs = network.own(inputs)
    if not torch.isfinite(inputs).all():
        raise GradCamError(
            "The network's input holds NaN or infinite values, so no score and no map can be trusted; look for them in "
            "the scan or its preprocessing."
        )
    cuts = _Cuts(inputs, {name: find_layer(network.module, name) for name in layers}, network.module)
    with network.ready() as run:
        output = cuts.run(run)
        with torch.enable_grad():
            before, ending = cuts.tape.before_ending(output)
            logits = network.class_scores(before)
        if cuts.overwritten():
            _check_same(network.class_scores(output), network.class_scores(run(inputs)), layers)
    return Capture(cuts.captured(), logits, ending, network, inputs, cuts.tape)


class _Cuts:
    """The hooks of one forward pass, and what they found."""

    def __init__(self, inputs: Tensor, modules: Mapping[str, nn.Module], root: nn.Module) -> None:
        self._inputs, self._modules, self._root = inputs, modules, root
        self._taping = ExitStack()
        self.tape = Tape()
        self._found: dict[str, Captured] = {}
        self._watched: dict[str, list[tuple[Tensor, int]]] = {}

    def run(self, run: Callable[[Tensor], Any]) -> Any:
        """Run the network with the hooks in place."""
        # Where the network has to run a second time, the hooks begin anew.
        handles = [self._root.register_forward_pre_hook(lambda *_: self._begin())]
        for name, module in self._modules.items():
            handles.append(module.register_forward_hook(partial(self._cut, name)))
        try:
            return run(self._inputs)
        finally:
            self._taping.close()
            for handle in handles:
                handle.remove()

    def captured(self) -> dict[str, Captured]:
        """Give what each layer gave, refusing one that never ran."""
        for name in self._modules:
            if name not in self._found:
                raise GradCamError(f"The layer “{name}” is never reached when the network runs; choose another layer.")
        return {name: self._found[name] for name in self._modules}

    def overwritten(self) -> bool:
        """Tell whether memory that a layer had handed on was written to later."""
        return any(tensor._version != version for watched in self._watched.values() for tensor, version in watched)

    def _begin(self) -> None:
        self._taping.close()
        self.tape = Tape()
        self._found.clear()
        self._watched.clear()
        if not self._modules:
            self._taping.enter_context(self.tape)

    def _cut(self, name: str, module: nn.Module, arguments: tuple[Any, ...], output: Any) -> Tensor:
        layout = find_layout(self._root, name, module, output, self._inputs)
        if adds_border(module, arguments, output):
            raise GradCamError(
                f"The layer “{name}” puts a border around what it reads, so that its cells do not lie where those of "
                "the input do; choose the layer before or after it."
            )
        # Only of several layers does a later one hang on an earlier one; alone, the last run of a layer is a new leaf.
        kept: Tensor = output if output.requires_grad and len(self._modules) > 1 else output.detach()
        aliases = [argument for argument in arguments if _same_memory(output, argument)]
        if aliases:
            # The layer handed its input on (identity, dropout, in-place ReLU): others may still hold and overwrite it.
            kept = kept.clone()
        torch.set_grad_enabled(True)
        if not kept.requires_grad:
            kept.requires_grad_()
        if not self._found:
            self._taping.enter_context(self.tape)
        # A clone goes on: an in-place ReLU after the layer would otherwise overwrite what was captured.
        onward = kept.clone()
        self._watched[name] = [(tensor, tensor._version) for tensor in (*aliases, onward)] if aliases else []
        calls = self._found[name].calls if name in self._found else 0
        self._found[name] = Captured(kept, layout, calls + 1)
        return onward


def _same_memory(output: Tensor, argument: object) -> bool:
    return isinstance(argument, Tensor) and (
        argument.untyped_storage().data_ptr() == output.untyped_storage().data_ptr()
    )


def _check_same(cut: Tensor, plain: Tensor, layers: Sequence[str]) -> None:
    """Refuse a cut that changed what the network computes.

    A layer that hands its input on shares its memory with whoever holds the input. Where the network overwrites the one
    and reads the other, a cut between them gives other scores.
    """
    if not torch.allclose(cut.detach(), plain, rtol=1e-4, atol=1e-5, equal_nan=True):
        names = ", ".join(f"“{name}”" for name in layers)
        raise GradCamError(
            f"The layer {names} hands its input on, and the network overwrites that memory later, so the layer cannot "
            "be captured truly; choose the layer before it."
        )
