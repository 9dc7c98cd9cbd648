"""The cut at the target layer: one forward pass, with autograd only for what lies after the layer.

A forward hook on the target layer replaces the layer's output by a new leaf of the graph. What lies before runs without
autograd and frees its activations at once; what lies after is recorded, so that gradients of any class score at the
layer cost only the tail of the network. Time and peak memory stay near those of a plain forward pass.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True, eq=False)
class Capture:
    """The activations of one layer and the class scores that follow from them.

    Attributes
    ----------
    activations
        Output of the layer, ``(batch, channel, *grid)``; the leaf that gradients are taken at.
    logits
        Class scores before softmax or sigmoid, ``(batch, class)``, with their graph back to `activations`.
    layer
        Name of the layer.
    calls
        How often it ran in the forward pass; the cut is at the last.
    """

    activations: Tensor
    logits: Tensor
    layer: str
    calls: int

    def gradients(self, target: int) -> Tensor:
        """Gradient of each sample's own score of class `target` at the activations, ``(batch, channel, *grid)``.

        The scores are summed over the batch before the gradient is taken: in evaluation mode one sample's score does
        not depend on another's activations, so each sample gets its own gradient.

        Raises
        ------
        GradCamError
            If the score does not depend on the activations.
        """
        with torch.inference_mode(False), torch.enable_grad():
            score = self.logits[:, target].sum()
            gradients = None
            if score.requires_grad:
                (gradients,) = torch.autograd.grad(score, self.activations, retain_graph=True, allow_unused=True)
        if gradients is None:
            raise GradCamError(
                f"The class scores do not depend on the layer “{self.layer}”; choose a layer on the way to the output."
            )
        return gradients


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Run `network` in evaluation mode, then give each module its own training flag back."""
    flags = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training


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


def capture(network: nn.Module, inputs: Tensor, layer: str, class_scores: Callable[[Any], Tensor]) -> Capture:
    """Run `network` on `inputs` once, cut at `layer`.

    Parameters
    ----------
    network
        Any module; its weights may be frozen. It is handed back as it came: training flags, hooks, gradients.
    inputs
        ``(batch, channel, *spatial)``.
    layer
        Name of the target layer in ``network.named_modules()``.
    class_scores
        Turns what the network returns into ``(batch, class)`` scores before softmax or sigmoid.

    Raises
    ------
    GradCamError
        If the layer does not exist, is never reached, or has no spatial grid.
    """
    module = find_layer(network, layer)
    cuts: list[Tensor] = []
    watched: list[tuple[Tensor, int]] = []
    calls = 0

    def cut(_module: nn.Module, arguments: tuple[Any, ...], output: Any) -> Tensor:
        nonlocal calls
        calls += 1
        if not isinstance(output, Tensor) or output.ndim != inputs.ndim or not output.is_floating_point():
            raise GradCamError(
                f"The layer “{layer}” gives no feature maps ({_describe(output)}); choose a convolutional layer."
            )
        leaf = output.detach()
        aliases = [argument for argument in arguments if _same_memory(output, argument)]
        if aliases:
            # The layer handed its input on (identity, dropout, in-place ReLU): others may still hold and overwrite it.
            leaf = leaf.clone()
        torch.set_grad_enabled(True)
        # A clone goes on: an in-place ReLU after the layer would otherwise overwrite what was captured.
        cuts[:] = [leaf.requires_grad_()]
        onward = leaf.clone()
        watched[:] = [(tensor, tensor._version) for tensor in (*aliases, onward)] if aliases else []
        return onward

    # Inference mode of the caller would forbid the graph of the tail; inputs made in it are copied for the same reason.
    with torch.inference_mode(False), torch.no_grad(), evaluation_mode(network):
        if inputs.is_inference():
            inputs = inputs.clone()
        handle = module.register_forward_hook(cut)
        try:
            output = network(inputs)
        finally:
            handle.remove()
        if not cuts:
            raise GradCamError(f"The layer “{layer}” is never reached when the network runs; choose another layer.")
        logits = class_scores(output)
        # Half precision would lose small gradients: the score is taken in single precision at least.
        logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
        if any(tensor._version != version for tensor, version in watched):
            with torch.no_grad():
                _check_same(logits, class_scores(network(inputs)), layer)
    (activations,) = cuts
    return Capture(activations, logits, layer, calls)


def _same_memory(output: Tensor, argument: object) -> bool:
    return isinstance(argument, Tensor) and (
        argument.untyped_storage().data_ptr() == output.untyped_storage().data_ptr()
    )


def _check_same(cut: Tensor, plain: Tensor, layer: str) -> None:
    """Refuse a cut that changed what the network computes.

    A layer that hands its input on shares its memory with whoever holds the input. Where the network overwrites the one
    and reads the other, a cut between them gives other scores.
    """
    if not torch.allclose(cut.detach().to(plain.dtype), plain, rtol=1e-4, atol=1e-5, equal_nan=True):
        raise GradCamError(
            f"The layer “{layer}” hands its input on, and the network overwrites that memory later, so the layer "
            "cannot be captured truly; choose the layer before it."
        )


def _describe(output: Any) -> str:
    if isinstance(output, Tensor):
        return f"its output has shape {tuple(output.shape)}"
    return f"its output is a {type(output).__name__}"
