"""A scan on the grid of another one, through patient space: several scans as channels of one input."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from nibabel.affines import apply_affine

from napari_gradcam.errors import GradCamError
from napari_gradcam.volumes.placement import place_on_grid
from napari_gradcam.volumes.wording import percent

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_gradcam.volumes.volume import Volume

SAME_GRID_MM = 1e-3
"""Grids whose corners lie this near to one another are one grid."""

MOST_LABELS = 64
"""Whole numbers of no more different values than these are labels, between which nothing may be interpolated."""

WHOLE = 0.98
"""From this share of a grid on that another scan covers, the rest is its border and not worth a word."""


def same_grid(one: Volume, other: Volume) -> bool:
    """Whether two scans have the same voxels at the same places."""
    if one.shape != other.shape:
        return False
    corners = np.array(list(product(*((0, n - 1) for n in one.shape))))
    apart = apply_affine(one.affine, corners) - apply_affine(other.affine, corners)
    return bool(np.abs(apart).max() <= SAME_GRID_MM)


def on_grid_of(volume: Volume, grid: Volume) -> tuple[Volume, tuple[str, ...]]:
    """Put a scan on the grid of another one.

    Values are interpolated linearly, labels (whole numbers of few different values) are those of the nearest voxel.
    Where the scan does not reach, its lowest value stands, which is the background of nearly every scan.

    Parameters
    ----------
    volume
        The scan.
    grid
        The other one, which stays as it is.

    Returns
    -------
    Volume
        `volume` itself where it lies on that grid already.
    tuple of str
        What was done to it, in whole sentences.

    Raises
    ------
    GradCamError
        If the grids differ, and either does not say where in the patient it lies, or nothing of them overlaps.
    """
    if same_grid(volume, grid):
        return volume, ()
    unplaced = next((one for one in (volume, grid) if not one.in_patient_space), None)
    if unplaced is not None:
        sizes = " and ".join(" × ".join(map(str, one.shape)) for one in (volume, grid))
        raise GradCamError(
            f"“{volume.name}” and “{grid.name}” do not lie on one grid ({sizes} voxels), and “{unplaced.name}” does "
            "not say where in the patient it lies, so they cannot be laid over one another: give scans on one grid."
        )
    covered = place_on_grid(np.ones(volume.shape, np.float32), volume.affine, grid.shape, grid.affine) > 0
    share = int(covered.sum()), covered.size
    if not share[0]:
        raise GradCamError(
            f"“{volume.name}” and “{grid.name}” have no place in the patient in common, so they cannot be channels of "
            "one input: give scans of one region and one patient position."
        )
    labels = _are_labels(volume.array)
    array = _laid(volume.array, volume, grid, covered, labels)
    color = None
    if volume.color is not None:
        laid = [_laid(volume.color[..., n], volume, grid, covered, labels=False) for n in range(3)]
        color = np.stack(laid, axis=-1).round().astype(np.uint8)
    how = "from the nearest voxels" if labels else "by linear interpolation"
    told = [f"“{volume.name}” was resampled onto the grid of “{grid.name}” {how}."]
    if share[0] < WHOLE * share[1]:
        told.append(
            f"“{volume.name}” covers {percent(*share)} % of that grid; the rest was filled with its lowest value."
        )
    return replace(volume, array=array, affine=grid.affine, color=color), tuple(told)


def _are_labels(array: NDArray[Any]) -> bool:
    """Whether values are whole numbers of few kinds; looks at every value, but only until there are too many kinds."""
    if array.dtype.kind == "b":
        return True
    if array.dtype.kind not in "iu":
        return False
    kinds: set[int] = set()
    for k in range(array.shape[2]):
        kinds.update(np.unique(array[:, :, k]).tolist())
        if len(kinds) > MOST_LABELS:
            return False
    return True


def _laid(values: NDArray[Any], volume: Volume, grid: Volume, covered: NDArray[np.bool_], labels: bool) -> NDArray[Any]:
    """Sample the values of `volume` at the voxels of `grid`; the lowest value where nothing covers them."""
    lowest = values.min()
    if not labels:
        laid: NDArray[Any] = place_on_grid(
            np.asarray(values, dtype=np.float32) - np.float32(lowest), volume.affine, grid.shape, grid.affine
        )
        laid += np.float32(lowest)
        return laid
    from scipy.ndimage import affine_transform  # 0.4 s, and only labels need it

    step = np.linalg.solve(volume.affine, grid.affine)
    laid = np.empty(grid.shape, dtype=values.dtype, order="F")
    affine_transform(values, step[:3, :3], offset=step[:3, 3], output=laid, order=0, mode="nearest", prefilter=False)
    laid[~covered] = lowest
    return laid
