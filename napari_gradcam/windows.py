"""A network that reads one window at a time over a larger input: where the windows lie, and how they are put together.

As MONAI's ``sliding_window_inference`` does it: the windows stand where MONAI puts them, an input smaller than a window
is filled up by half on each side, and where windows overlap each counts by its importance there,
W_w(x) = g_w(x) / Σ_v g_v(x). The score of a class is so a field over the input, Σ_w W_w(x) s_w. What a scan as a whole
gets is the mean of that field, in which a window counts with its share a_w = mean_x W_w(x). Raw maps are summed with
the same weights, M(x) = Σ_w W_w(x) M_w(x), so that a map explains the score that it stands beside.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, prod
from typing import TYPE_CHECKING

import numpy as np
import torch
from monai.data.utils import compute_importance_map, dense_patch_slices, get_valid_patch_size
from torch import Tensor, nn

from napari_gradcam.cam.methods import linear_mode
from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_gradcam.classifiers.classifier import Windows

MOST_WINDOWS = 100_000
"""Windows over one input at most: more is a slip in the model's inferer, and would take days."""


@dataclass(frozen=True, eq=False)
class Tiling:
    """How an input is read: whole, or window by window.

    Attributes
    ----------
    shape
        The input's own size, ``(*spatial)`` voxels.
    padded
        Its size when it is filled up to a window.
    before
        How many voxels are filled in before its first one, along each axis.
    places
        Where each window lies in the filled input.
    shares
        What each window's score counts in the input's, ``(windows,)``; they sum to 1.
    importance, total
        g over a window, and Σ_v g_v over the filled input; None where there is one window.
    padding, fill
        How it is filled up: a mode of ``torch.nn.functional.pad``, and its value.
    """

    shape: tuple[int, ...]
    padded: tuple[int, ...]
    before: tuple[int, ...]
    places: Sequence[tuple[slice, ...]]
    shares: NDArray[np.float64]
    importance: Tensor | None = None
    total: Tensor | None = None
    padding: str = "constant"
    fill: float = 0.0

    @property
    def count(self) -> int:
        """How many windows an input has; one alone is the input itself."""
        return len(self.places)

    @property
    def weighted(self) -> bool:
        """Whether the middle of a window counts more than its border."""
        return self.importance is not None and bool(self.importance.min() < self.importance.max())

    @property
    def window(self) -> tuple[int, ...]:
        """Size of what the network reads at once, voxels."""
        return tuple(along.stop - along.start for along in self.places[0])

    def filled(self, tensor: Tensor) -> Tensor:
        """Fill an input ``(channel, *spatial)`` up to a window, half of what is missing on each side."""
        if self.padded == self.shape:
            return tensor
        sides = zip(self.shape, self.padded, self.before, strict=True)
        pad = [n for own, full, before in reversed(list(sides)) for n in (before, full - own - before)]
        value = {"value": self.fill} if self.padding == "constant" else {}
        try:
            return nn.functional.pad(tensor[None], pad, self.padding, **value)[0]
        except (RuntimeError, NotImplementedError) as error:
            raise GradCamError(
                f"An input of {_sides(self.shape)} cannot be filled up to the model's window of {_sides(self.window)} "
                f"by the padding “{self.padding}” that its inferer names; resize the scan in the preprocessing, or "
                "choose another padding."
            ) from error

    def window_of(self, filled: Tensor, number: int) -> Tensor:
        """Cut one window out of a filled input, ``(channel, *window)``: a view."""
        return filled[(slice(None), *self.places[number])]

    def blended(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Blend what the windows of several inputs say, ``(input × window, class)`` to ``(input, class)``."""
        by_input = values.reshape(-1, self.count, values.shape[1])
        blended: NDArray[np.float64] = np.einsum("w,iwc->ic", self.shares, by_input)
        return blended

    @property
    def covered(self) -> tuple[int, ...]:
        """Size of what the finished map of an input lies over, voxels: where it is one window, with its filling."""
        return self.shape if self.count > 1 else self.padded

    def covering(self, affine: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give the affine of what is covered, from that of the input; axes after the spatial ones stay."""
        shift = np.eye(4)
        if self.count == 1:
            shift[: len(self.before), 3] = [-n for n in self.before]
        return affine @ shift


def tiling_of(shape: Sequence[int], windows: Windows | None) -> Tiling:
    """Find out where the windows lie over an input.

    Parameters
    ----------
    shape
        ``(*spatial)``, voxels.
    windows
        How the classifier slides over its input; None is the whole of it at once.

    Raises
    ------
    GradCamError
        If windows and input have not the same number of axes, or there would be too many windows.
    """
    own = tuple(int(n) for n in shape)
    if windows is None:
        return Tiling(own, own, (0,) * len(own), [tuple(slice(0, n) for n in own)], np.ones(1))
    roi = windows.over(own)
    padded = tuple(max(n, size) for n, size in zip(own, roi, strict=True))
    before = tuple((full - n) // 2 for full, n in zip(padded, own, strict=True))
    steps = tuple(
        n if size == n else max(1, int(size * (1 - overlap)))
        for n, size, overlap in zip(padded, roi, windows.overlap, strict=True)
    )
    count = prod(ceil((n - size) / step) + 1 for n, size, step in zip(padded, roi, steps, strict=True))
    if count > MOST_WINDOWS:
        raise GradCamError(
            f"The model's inferer reads an input of {_sides(own)} in {count} windows of {_sides(roi)}, which would not "
            "come to an end; give it a larger window, less overlap or a smaller scan."
        )
    places = dense_patch_slices(padded, roi, steps)
    tiling = Tiling(own, padded, before, places, np.ones(1), padding=windows.padding, fill=windows.fill)
    if tiling.count == 1:
        return tiling
    patch = get_valid_patch_size(padded, roi)
    importance = compute_importance_map(patch, mode=windows.mode, sigma_scale=windows.sigma)
    total = torch.zeros(padded)
    for place in places:
        total[place] += importance
    inside = [slice(first, first + n) for first, n in zip(before, own, strict=True)]
    shares = np.array([_share(place, inside, importance, total) for place in places])
    return replace(tiling, shares=shares, importance=importance, total=total)


class Canvas:
    """Maps of what the network read, one after the other, put together to one map of each input.

    A whole input's map stays on the network's own grid. Maps of windows are brought to the input's own resolution by
    linear interpolation of their cells, as :mod:`napari_gradcam.volumes.placement` does, and summed there.

    Parameters
    ----------
    tiling
        How the inputs were read.
    inputs
        How many there are.
    """

    def __init__(self, tiling: Tiling, inputs: int) -> None:
        self._tiling, self._inputs = tiling, inputs
        self._maps = torch.empty(0)
        self.grid: tuple[int, ...] = ()
        """The network's own grid: cells over an input, or over a window."""

    def add(self, first: int, maps: Tensor) -> None:
        """Take in the maps of some samples, ``(n, *grid)``; `first` counts the windows of all inputs."""
        tiling = self._tiling
        maps = maps.float().cpu()
        if not self.grid:
            self.grid = tuple(maps.shape[1:])
            self._maps = torch.zeros(self._inputs, *(tiling.padded if tiling.count > 1 else self.grid))
        if tiling.importance is None:
            self._maps[first : first + len(maps)] = maps
            return
        for number, cells in enumerate(maps, first):
            whole, window = divmod(number, tiling.count)
            laid = nn.functional.interpolate(cells[None, None], tiling.window, mode=linear_mode(cells.ndim))[0, 0]
            self._maps[whole][tiling.places[window]] += laid * tiling.importance

    def finished(self) -> NDArray[np.float32]:
        """Give the maps, ``(input, *cells)``, when all are taken in: once, since the sums are weighed in place."""
        if self._tiling.total is not None:
            self._maps /= self._tiling.total
            sides = zip(self._tiling.before, self._tiling.shape, strict=True)
            self._maps = self._maps[(slice(None), *(slice(first, first + n) for first, n in sides))]
        maps: NDArray[np.float32] = self._maps.numpy()
        return maps

    @property
    def span(self) -> tuple[float, ...]:
        """How many cells of the finished maps one cell of the network's own grid covers, along each axis."""
        if self._tiling.count == 1:
            return (1.0,) * len(self.grid)
        return tuple(size / cells for size, cells in zip(self._tiling.window, self.grid, strict=True))


def _share(place: tuple[slice, ...], inside: Sequence[slice], importance: Tensor, total: Tensor) -> float:
    """Give what one window counts: the mean of its weight over the input, without what was filled in."""
    common = tuple(
        slice(max(along.start, own.start), min(along.stop, own.stop)) for along, own in zip(place, inside, strict=True)
    )
    own = tuple(slice(c.start - p.start, c.stop - p.start) for c, p in zip(common, place, strict=True))
    weights = importance[own] / total[common]
    counts: int = prod(along.stop - along.start for along in inside)
    return float(weights.sum(dtype=torch.float64)) / counts


def _sides(sides: Sequence[float]) -> str:
    return " × ".join(f"{side:g}" for side in sides)
