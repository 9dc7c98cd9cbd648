"""Where the cells of a map lie in the patient, and the map on the scan's own grid: one volume, or slice by slice."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from nibabel.affines import from_matvec

from napari_gradcam.volumes.placement import place_on_grid, place_slice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_gradcam.classifiers.preprocessing import Slices
    from napari_gradcam.volumes import Volume

SAME_GRID_MM = 1e-3
"""Slices whose grids lie closer than this to one another's share one grid."""


class Placed(NamedTuple):
    """A map on the network's grid and on the scan's.

    Attributes
    ----------
    coarse
        ``(a, b, c)``, float32.
    coarse_affine
        Index of a cell to RAS+ mm, ``(4, 4)``, or one for each slice, ``(slices, 4, 4)``.
    heatmap
        float32 on the scan's native grid.
    """

    coarse: NDArray[np.float32]
    coarse_affine: NDArray[np.float64]
    heatmap: NDArray[np.float32]


def place_volume(
    coarse: NDArray[np.float32], input_affine: NDArray[np.float64], input_shape: Sequence[int], volume: Volume
) -> Placed:
    """Put the map of a whole volume on the scan's grid."""
    affine = cell_affine(input_affine, input_shape, coarse.shape)
    return Placed(coarse, affine, place_on_grid(coarse, affine, volume.shape, volume.affine))


def place_slices(
    coarse: NDArray[np.float32],
    input_affines: Sequence[NDArray[np.float64]],
    input_shape: Sequence[int],
    slices: Slices,
    volume: Volume,
) -> Placed:
    """Put the maps of all slices, ``(a, b, slice)``, on the scan's grid.

    `input_affines` hold each slice's own ``(u, v, slice number)`` to RAS+ mm. Where they are all one, so is the
    answer's.
    """
    cells = (*coarse.shape[:2], 1)
    affines = np.stack([cell_affine(affine, (*input_shape, 1), cells) for affine in input_affines])
    if np.abs(affines - affines[0]).max() <= SAME_GRID_MM:
        return Placed(coarse, affines[0], place_on_grid(coarse, affines[0], volume.shape, volume.affine))
    heatmap = np.zeros(volume.shape, dtype=np.float32)
    along = np.moveaxis(heatmap, slices.native_axis, 0)
    for number, (native, (_, affine)) in enumerate(
        zip(slices.native_indices, fields_of(coarse.shape, affines), strict=True)
    ):
        one = coarse[:, :, number : number + 1]
        along[native] = place_slice(one, affine, volume.shape, volume.affine, slices.native_axis, native)
    return Placed(coarse, affines, heatmap)


def cell_affine(
    input_affine: NDArray[np.float64], input_shape: Sequence[int], cells: Sequence[int]
) -> NDArray[np.float64]:
    """Affine of the map's own grid: each cell is a box of r input voxels, its centre (r − 1) / 2 after the first."""
    ratio = np.asarray(input_shape, dtype=np.float64) / np.asarray(cells, dtype=np.float64)
    to_input = np.diag([*ratio, 1.0])
    to_input[:3, 3] = (ratio - 1) / 2
    placed: NDArray[np.float64] = input_affine @ to_input
    return placed


def fields_of(
    cells: tuple[int, ...], affines: NDArray[np.float64]
) -> list[tuple[tuple[int, ...], NDArray[np.float64]]]:
    """Give the cells that the network's inputs were mapped to, and where they lie: all at once, or slice by slice."""
    if affines.ndim == 2:
        return [(cells, affines)]
    return [((*cells[:2], 1), affine @ from_matvec(np.eye(3), [0, 0, number])) for number, affine in enumerate(affines)]
