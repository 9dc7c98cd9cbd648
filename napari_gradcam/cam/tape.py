"""What happens after the target layer, as far as a map must know: softmax or the like at the end, and a linear head.

Two questions are answered from the operations that really ran, whatever modules or functions they were written with:
does the network end in softmax or sigmoid, so that the score before it must be taken (Selvaraju et al. 2017
differentiate the score before softmax, because a certain softmax has no gradient); and is everything from the layer to
the score linear, so that the map must add up to the score?
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ENDINGS = {"softmax": "softmax", "log_softmax": "softmax", "sigmoid": "sigmoid", "expit": "sigmoid", "tanh": "tanh"}
"""Functions at the end of a network that flatten its scores, and what they are called to a person.

Softmax and sigmoid make probabilities of them. MONAI's ViT ends in tanh, whose gradient vanishes likewise.
"""

MOST_SCORES = 1 << 16
"""Larger results of softmax or sigmoid are attention, not probabilities of classes; keeping them would cost memory."""

# Nodes of autograd's graph that only move values about.
_VIEWS = {
    "Alias", "AsStrided", "Clone", "Expand", "Permute", "ReshapeAlias", "Reshape", "Select", "Slice", "Squeeze",
    "Transpose", "T", "Unsqueeze", "UnsafeView", "View", "ToCopy",
}  # fmt: skip
_LINEAR = {"Addmm", "Mm", "Linear"}
# Nodes that are linear, or that scale with what they read (f(ax) = a f(x) for a > 0): with one linear layer's bias as
# the only constant after the target, a score is that bias plus the sum of gradient times activation.
_HOMOGENEOUS = {
    *_VIEWS, "Mean", "Sum", "AdaptiveAvgPool2D", "AdaptiveAvgPool3D", "MkldnnAdaptiveAvgPool2D", "AvgPool2D",
    "AvgPool3D", "AdaptiveMaxPool2D", "AdaptiveMaxPool3D", "MaxPool2DWithIndices", "MaxPool3DWithIndices", "Max",
    "Amax", "Relu", "LeakyRelu", "Cat", "Neg", "AccumulateGrad", *_LINEAR,
}  # fmt: skip


class _LinearCall(NamedTuple):
    weight: Tensor
    bias: Tensor | None
    edge: GradientEdge
    """Where its result entered autograd's graph: a later in-place operation moves the tensor on, but not this."""


class _Ending(NamedTuple):
    kind: str
    before: Tensor
    after: Tensor
    version: int


class Tape(TorchFunctionMode):
    """Notes linear layers, and what went through softmax and its like, while it is on."""

    def __init__(self) -> None:
        super().__init__()
        self._linear: list[_LinearCall] = []
        self._endings: list[_Ending] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a function, and note it if it is one of those that matter."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "").removeprefix("special_")
        ending = ENDINGS.get(name.removesuffix("_"))
        before = args[0] if args else kwargs.get("input")
        if ending and name.endswith("_") and isinstance(before, Tensor) and before.numel() <= MOST_SCORES:
            before = before.clone()  # what is done in place leaves nothing of what was there before
        result = func(*args, **kwargs)
        if isinstance(result, Tensor) and result.numel() <= MOST_SCORES:
            if ending and isinstance(before, Tensor):
                self._endings.append(_Ending(ending, before, result, result._version))
            elif name == "linear" and result.requires_grad:
                weight, bias = [*args[1:], *(kwargs[key] for key in ("weight", "bias") if key in kwargs), None][:2]
                self._linear.append(_LinearCall(weight, bias, get_gradient_edge(result)))
        return result

    def before_ending(self, output: Any) -> tuple[Any, str | None]:
        """Undo a softmax, sigmoid or tanh at the very end of a network.

        Parameters
        ----------
        output
            What the network returned; the first tensor of a tuple, list or mapping of scores is looked at.

        Returns
        -------
        tuple
            The same with the scores before it in their place, and which of the three it was; the output as it is and
            None where the network ends in none of them.
        """
        if isinstance(output, dict) and output:
            key = next((key for key in ("logits", "out") if key in output), next(iter(output)))
            before, ending = self.before_ending(output[key])
            return ({**output, key: before}, ending) if ending else (output, None)
        if isinstance(output, tuple | list) and output:
            before, ending = self.before_ending(output[0])
            return ([before, *output[1:]], ending) if ending else (output, None)
        if isinstance(output, Tensor):
            for kind, before, after, version in reversed(self._endings):
                # What only reshapes hands the same memory on.
                same = after.untyped_storage().data_ptr() == output.untyped_storage().data_ptr()
                if same and after.numel() == output.numel() and after._version == version:
                    return before.reshape(output.shape), kind
        return output, None

    def head_bias(self, logits: Tensor, targets: Sequence[int], output: Tensor) -> Tensor | None:
        """Give the part of each score that comes from the bias of a linear head alone.

        Parameters
        ----------
        logits
            ``(batch, class)``, with their graph back to the target layer.
        targets
            Classes.
        output
            What the target layer gave.

        Returns
        -------
        Tensor or None
            ``(batch, target)``; None where more than pooling, flattening and one linear layer lies after the target
            layer, so that gradient times activation need not add up to the score.
        """
        visited = _nodes_between(logits, output)
        calls = [call for call in self._linear if call.edge.node in visited]
        if len(calls) != 1 or not _is_linear_head(visited, calls[0], output):
            return None
        ((_, bias, edge),) = calls
        if bias is None:
            return logits.detach().new_zeros(len(logits), len(targets))
        if edge.node is logits.grad_fn:
            return bias.detach()[list(targets)].expand(len(logits), -1)
        parts = []
        for target in targets:
            (weights,) = torch.autograd.grad(logits[:, target].sum(), [edge], retain_graph=True)
            parts.append((weights * bias.detach()).flatten(1).sum(dim=1))
        return torch.stack(parts, dim=1)


def _name(node: Any) -> str:
    """Give the operation of a node of autograd's graph, ``"Addmm"`` for ``AddmmBackward0``."""
    return re.sub(r"Backward\d*$", "", str(node.name()).rsplit("::", 1)[-1])


def _nodes_between(logits: Tensor, output: Tensor) -> set[Any]:
    """Give the nodes of autograd's graph that the scores come from, back to a layer's output."""
    if logits.grad_fn is None:
        return set()
    open_nodes, seen = [logits.grad_fn], {logits.grad_fn}
    while open_nodes:
        for before, _ in open_nodes.pop().next_functions:
            if before is not None and before not in seen and before is not output.grad_fn:
                seen.add(before)
                open_nodes.append(before)
    return seen


def _is_linear_head(nodes: set[Any], call: _LinearCall, output: Tensor) -> bool:
    """Tell whether between a layer and the scores is one linear layer, and else pooling, flattening, rectifying alone.

    Nothing may come from beside the layer: another branch, or a number of the network's own.
    """
    own = (output, call.weight, call.bias)
    linear = 0
    for node in nodes:
        name = _name(node)
        if name not in _HOMOGENEOUS:
            return False
        if name == "AccumulateGrad" and not any(node.variable is tensor for tensor in own):
            return False
        if name == "Cat" and any(before is None for before, _ in node.next_functions):
            return False
        linear += name in _LINEAR
    return linear == 1
