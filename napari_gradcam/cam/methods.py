"""Each method a small function of activations and gradients: raw maps on the layer's own grid.

Shapes throughout: activations A and gradients G = ∂y/∂A are ``(batch, channel, *grid)`` with one, two or three grid
axes, a map is ``(batch, *grid)``. y is the class score before softmax or sigmoid. Nothing is normalised here.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor


def gradcam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Grad-CAM: ReLU(Σ_k α_k A^k), α_k the spatial mean of ∂y/∂A^k.

    Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017,
    equations 1 and 2. As in the paper.
    """
    weights = gradients.flatten(2).mean(dim=2)
    return torch.einsum("bk...,bk->b...", activations, weights).relu()


METHODS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = MappingProxyType({"gradcam": gradcam})
