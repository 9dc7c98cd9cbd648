"""What the engine answers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from napari_gradcam.cam.methods import linear_mode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_gradcam.cam.completeness import Completeness

INPUT = "input"
"""What stands for the target layer where a method's map is of the input itself."""


@dataclass(frozen=True, eq=False)
class LayerMaps:
    """The maps of one target layer.

    Attributes
    ----------
    maps
        ``(batch, target, *grid)``.
    calls
        How often the layer ran in the forward pass; the maps are of its last run.
    completeness
        None where more than pooling and one linear layer lies after the layer.
    """

    maps: Tensor
    calls: int = 1
    completeness: Completeness | None = None


@dataclass(frozen=True, eq=False)
class ClassActivationMaps:
    """Raw maps of a batch.

    Attributes
    ----------
    layers
        The maps of each target layer by its name, in the order asked for; of :data:`INPUT` for a method that needs
        none.
    logits
        ``(batch, class)``, the scores before softmax or sigmoid.
    ending
        ``"softmax"``, ``"sigmoid"`` or ``"tanh"`` where the network itself ends in one; the scores before it were
        taken. Else None.
    """

    layers: Mapping[str, LayerMaps]
    logits: Tensor
    ending: str | None = None

    @cached_property
    def maps(self) -> Tensor:
        """The maps, ``(batch, target, *grid)``, in the order of the targets asked for, never normalised.

        Of one layer they lie on its own grid, in the method's own unit. Of several they are fused on the finest
        grid: see :func:`fused`.
        """
        return fused([layer.maps for layer in self.layers.values()])

    @property
    def completeness(self) -> Completeness | None:
        """That of the last of the layers that has one."""
        found = [layer.completeness for layer in self.layers.values() if layer.completeness is not None]
        return found[-1] if found else None


def fused(maps: Sequence[Tensor]) -> Tensor:
    """Fuse the maps of several layers on one scale, on the finest of their grids.

    A cell of a coarse grid stands for many of a fine one, and the evidence of a map is its sum over the cells. So each
    map is brought to the finest grid in the measure of the cells' sizes, which keeps its sum but for the borders, and
    the mean is taken. No map is scaled by its own maximum: a layer with little evidence stays faint.

    Parameters
    ----------
    maps
        Each ``(batch, target, *grid)``.

    Returns
    -------
    Tensor
        ``(batch, target, *finest grid)``.
    """
    if len(maps) == 1:
        return maps[0]
    grid = tuple(max(sides) for sides in zip(*(one.shape[2:] for one in maps), strict=True))
    mode = linear_mode(len(grid))
    brought = [
        nn.functional.interpolate(one, grid, mode=mode) * (prod(one.shape[2:]) / prod(grid))
        if one.shape[2:] != grid
        else one
        for one in maps
    ]
    return torch.stack(brought).mean(dim=0)
