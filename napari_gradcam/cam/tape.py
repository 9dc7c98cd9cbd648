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


class LinearCall(NamedTuple):
    """A linear layer that ran: its bias, or None, and what it gave."""

    bias: Tensor | None
    output: Tensor


class _Ending(NamedTuple):
    kind: str
    before: Tensor
    after: Tensor
    version: int


class Tape(TorchFunctionMode):
    """Notes the last linear layer, and what went through softmax and its like, while it is on."""

    def __init__(self) -> None:
        super().__init__()
        self._linear: LinearCall | None = None
        self._endings: list[_Ending] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a function, and note it if it is one of those that matter."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", "").removeprefix("special_")
        if name in ENDINGS and isinstance(result, Tensor) and result.numel() <= MOST_SCORES:
            before = args[0] if args else kwargs["input"]
            self._endings.append(_Ending(ENDINGS[name], before, result, result._version))
        elif name == "linear":
            self._linear = LinearCall(args[2] if len(args) > 2 else kwargs.get("bias"), result)
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
        if self._linear is None or not _is_linear_head(logits, output):
            return None
        if self._linear.bias is None:
            return logits.detach().new_zeros(len(logits), len(targets))
        bias, output = self._linear.bias.detach(), self._linear.output
        if output.untyped_storage().data_ptr() == logits.untyped_storage().data_ptr() and output.shape == logits.shape:
            return bias[list(targets)].expand(len(logits), -1)
        parts = []
        for target in targets:
            score = logits[:, target].sum()
            (weights,) = torch.autograd.grad(score, output, retain_graph=True)
            parts.append((weights * bias).flatten(1).sum(dim=1))
        return torch.stack(parts, dim=1)


def _name(node: Any) -> str:
    """Give the operation of a node of autograd's graph, ``"Addmm"`` for ``AddmmBackward0``."""
    return re.sub(r"Backward\d*$", "", str(node.name()).rsplit("::", 1)[-1])


def _is_linear_head(logits: Tensor, output: Tensor) -> bool:
    """Tell whether one linear layer, and else pooling, flattening, rectifying alone, lie between a layer and scores."""
    if logits.grad_fn is None:
        return False
    end = output.grad_fn
    open_nodes, seen, linear = [logits.grad_fn], {logits.grad_fn, end}, 0
    while open_nodes:
        node = open_nodes.pop()
        name = _name(node)
        if name not in _HOMOGENEOUS:
            return False
        linear += name in _LINEAR
        for before, _ in node.next_functions:
            if before is not None and before not in seen:
                seen.add(before)
                open_nodes.append(before)
    return linear == 1
