"""Whether the evidence of a map adds up to the score it explains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_gradcam.cam.capture import Capture

CANCELLED = 1e-2
"""A difference smaller than this share of its numbers has lost two of single precision's seven digits."""


@dataclass(frozen=True, eq=False)
class Completeness:
    """Whether the evidence adds up: Σ HiResCAM = class score − bias, where a linear head alone follows the layer.

    Draelos and Carin 2020. Where it does not hold, the engine, the network's numbers or the head are not what they
    seem.

    Attributes
    ----------
    total
        Sum of gradient times activation over the layer, ``(batch, target)``, float64.
    logit, bias
        The class score and the part of it that comes from the head's bias, ``(batch, target)``, float64.
    magnitude
        Sum of |gradient times activation|, ``(batch, target)``, float64.
    """

    total: Tensor
    logit: Tensor
    bias: Tensor
    magnitude: Tensor

    @property
    def expected(self) -> Tensor:
        """What the sum must be: the class score less the head's bias."""
        return self.logit - self.bias

    @property
    def relative_error(self) -> float:
        """The largest |total − expected| as a share of |expected|.

        Where score and bias, or evidence for and against, cancel to less than :data:`CANCELLED` of the numbers that
        went in, what remains is single precision's rounding: there it is a share of that part of them.
        """
        went_in = torch.stack([self.logit.abs(), self.bias.abs(), self.magnitude]).amax(dim=0)
        scale = torch.maximum(self.expected.abs(), CANCELLED * went_in)
        off = (self.total - self.expected).abs() / scale.clamp(min=torch.finfo(torch.float32).tiny)
        return float(off.max()) if off.numel() else 0.0


class Ledger:
    """Adds up gradient times activation for each layer whose tail is a linear head."""

    def __init__(self, captured: Capture, targets: Sequence[int]) -> None:
        self._captured, self._targets = captured, list(targets)
        biases = {name: captured.head_bias(name, targets) for name in captured.layers} if self._targets else {}
        self._biases = {name: bias for name, bias in biases.items() if bias is not None}
        self._sums: dict[int, dict[str, tuple[Tensor, Tensor]]] = {}

    def enter(self, target: int, gradients: Mapping[str, Tensor]) -> None:
        """Add up the evidence for one class from gradients that are at hand."""
        self._sums[target] = {}
        for name in self._biases:
            # On the CPU, because not every device has double precision.
            products = (gradients[name] * self._captured.layers[name].activations).flatten(1).cpu()
            double = torch.float64
            self._sums[target][name] = products.sum(dim=1, dtype=double), products.abs().sum(dim=1, dtype=double)

    def closed(self) -> dict[str, Completeness]:
        """Give the sums beside the scores that they must come to; classes that were not entered are now."""
        answer = {}
        for target in self._targets if self._biases else ():
            if target not in self._sums:
                self.enter(target, self._captured.gradients(target))
        for name, bias in self._biases.items():
            total, magnitude = (
                torch.stack([self._sums[target][name][which] for target in self._targets], dim=1) for which in (0, 1)
            )
            logit = self._captured.logits.detach()[:, self._targets].cpu().double()
            answer[name] = Completeness(total, logit, bias.cpu().double(), magnitude)
        return answer
