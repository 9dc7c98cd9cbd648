"""A map on the network's grid, put on the scan's native grid through patient space.

A cell of the map stands for the box around its centre, so the map covers ``[-0.5, n - 0.5]`` of its own index along
each axis: its *field of view*. Between cell centres the map is interpolated linearly, from the outermost centres to the
border it keeps the outermost value, and outside of its field of view it is exactly zero, because the network did not
look there.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

SEPARABLE_CELLS = 1e-4
"""How far, in cells, a voxel may lie from where a scaled axis permutation puts it for the separable way to be taken."""

BORDER_CELLS = 1e-6
"""A voxel this little outside of the field of view, in cells, still counts as inside: it is rounding, not place."""

_SLAB_VOXELS = 1 << 21

_ONE_THREAD_PRODUCT = 1 << 18
"""Largest rows × columns × depth of a matrix product that OpenBLAS computes in the calling thread.

The products here wait for memory, not for arithmetic. Handed to several threads on a machine that has other work, each
of many short products waits for its slowest thread: 10 to 40 times slower was measured.
"""


def place_on_grid(
    coarse: NDArray[np.float32],
    coarse_affine: ArrayLike,
    shape: tuple[int, int, int],
    affine: ArrayLike,
) -> NDArray[np.float32]:
    """Sample a map on the network's grid at the centre of every voxel of the native grid.

    Parameters
    ----------
    coarse
        The map, ``(a, b, c)``. For the slices of a 2D classifier one axis counts the slices; a grid with one cell
        per slice at the slices' own positions is not blurred along that axis.
    coarse_affine
        Index of a cell's centre to RAS+ mm, invertible 4 × 4.
    shape
        Voxels of the native grid, ``(i, j, k)``.
    affine
        Index of a voxel's centre to RAS+ mm, invertible 4 × 4.

    Returns
    -------
    ndarray
        float32, ``(i, j, k)``, in Fortran order like the arrays that the readers give, so that slices ``[:, :, k]`` are
        contiguous. Zero outside of the map's field of view.

    Raises
    ------
    GradCamError
        If the map holds NaN or infinite values, which no picture can show truly.
    """
    coarse = np.asarray(coarse, dtype=np.float32)
    if coarse.ndim != 3 or coarse.size == 0:
        raise ValueError(f"a map has three axes and at least one cell, not the shape {coarse.shape}")
    if not np.isfinite(coarse).all():
        raise GradCamError(
            "The heat map holds NaN or infinite values: check the model's weights and the scan's values."
        )
    to_cell = np.linalg.solve(np.asarray(coarse_affine, dtype=np.float64), np.asarray(affine, dtype=np.float64))
    permutation = _axis_permutation(to_cell, shape)
    if permutation is None:
        return _place_general(coarse, to_cell, shape)
    return _place_separable(coarse, to_cell, shape, permutation)


def place_slice(
    coarse: NDArray[np.float32],
    coarse_affine: ArrayLike,
    shape: tuple[int, int, int],
    affine: ArrayLike,
    axis: int,
    index: int,
) -> NDArray[np.float32]:
    """Sample a map at one slice of the native grid, without the rest of the volume.

    Parameters
    ----------
    coarse, coarse_affine, shape, affine
        As for :func:`place_on_grid`.
    axis, index
        Which axis of the native grid is cut, and where.

    Returns
    -------
    ndarray
        float32, the two other axes of the native grid in their order.

    Raises
    ------
    GradCamError
        As :func:`place_on_grid`.
    """
    first = np.eye(4)
    first[axis, 3] = index
    i, j, k = (1 if one == axis else n for one, n in enumerate(shape))
    placed = place_on_grid(coarse, coarse_affine, (i, j, k), np.asarray(affine, dtype=np.float64) @ first)
    section: NDArray[np.float32] = np.moveaxis(placed, axis, 0)[0]
    return section


def _axis_permutation(to_cell: NDArray[np.float64], shape: tuple[int, int, int]) -> tuple[int, int, int] | None:
    """Give the map's axis that each native axis runs along, or None where the two grids are turned or sheared."""
    # Over half of the volume, because the separable way is exact in its middle.
    reach = np.abs(to_cell[:3, :3]) * (np.array(shape) - 1) / 2
    # An axis with one voxel reaches nowhere: its direction is told by what one voxel's step would be.
    a, b, c = np.argmax(np.abs(to_cell[:3, :3]) / np.linalg.norm(to_cell[:3, :3], axis=1, keepdims=True), axis=0)
    if {a, b, c} != {0, 1, 2}:
        return None
    reach[[a, b, c], [0, 1, 2]] = 0
    return (int(a), int(b), int(c)) if reach.sum(axis=1).max() <= SEPARABLE_CELLS else None


def _place_separable(
    coarse: NDArray[np.float32],
    to_cell: NDArray[np.float64],
    shape: tuple[int, int, int],
    permutation: tuple[int, int, int],
) -> NDArray[np.float32]:
    """Interpolate one axis after the other, the slices' axis last, straight into the result."""
    middle = (np.array(shape) - 1) / 2
    weights = []
    for native, cell in enumerate(permutation):
        step = to_cell[cell, native]
        start = to_cell[cell, 3] + to_cell[cell, :3] @ middle - step * middle[native]
        weights.append(_linear_weights(start + step * np.arange(shape[native]), coarse.shape[cell]))
    across, down, along = weights
    # Memory order (k, j, i): in-plane pictures are contiguous, and matrix products write them where they stay.
    cells = np.ascontiguousarray(coarse.transpose(permutation).T)
    result = np.empty(shape[::-1], dtype=np.float32)
    right = np.ascontiguousarray(across.T)
    pair = np.empty((2, shape[1], shape[0]), dtype=np.float32)
    held: dict[int, int] = {}

    def picture(cell: int, out: NDArray[np.float32]) -> None:
        rows = np.empty((len(down), cells.shape[2]), dtype=np.float32)
        _multiply(down, cells[cell], rows)
        _multiply(rows, right, out)

    for first, last, lower, upper in _runs(along):
        if upper < 0:
            result[first:last] = 0
        elif last - first == 1 and lower == upper and along[first, lower] == 1:
            picture(lower, result[first])
        else:
            wanted = (lower, upper) if lower != upper else (lower,)
            free = [place for place in (0, 1) if place not in {held.get(cell) for cell in wanted}]
            held = {cell: held.get(cell, -1) for cell in wanted}
            for cell in wanted:
                if held[cell] < 0:
                    held[cell] = free.pop()
                    picture(cell, pair[held[cell]])
            mix = np.zeros((last - first, 2), dtype=np.float32)
            for cell in wanted:
                mix[:, held[cell]] = along[first:last, cell]
            if len(wanted) == 1:
                pair[1 - held[lower]] = 0
            # Transposed, so that `_multiply` cuts the long axis, the pixels.
            _multiply(pair.reshape(2, -1).T, mix.T, result[first:last].reshape(last - first, -1).T)
    return result.T


def _multiply(left: NDArray[np.float32], right: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Write the matrix product, some rows at a time."""
    step = max(1, _ONE_THREAD_PRODUCT // right.size)
    for top in range(0, len(left), step):
        np.matmul(left[top : top + step], right, out=out[top : top + step])


def _linear_weights(position: NDArray[np.float64], cells: int) -> NDArray[np.float32]:
    """Weigh cells for each position along one axis, ``(positions, cells)``; a row of zeros is outside of the view."""
    weights = np.zeros((len(position), cells), dtype=np.float32)
    inside = (position >= -0.5 - BORDER_CELLS) & (position <= cells - 0.5 + BORDER_CELLS)
    clamped = position.clip(0, cells - 1)
    # A whole index but for rounding is that cell alone, so that the slices of a 2D classifier are not mixed.
    whole = np.round(clamped)
    clamped = np.where(np.abs(clamped - whole) < BORDER_CELLS, whole, clamped)
    lower = np.floor(clamped).astype(int)
    upper = np.minimum(lower + 1, cells - 1)
    rows = np.arange(len(position))
    weights[rows, lower] = 1 - (clamped - lower)
    weights[rows, upper] += np.where(upper > lower, clamped - lower, 0)
    weights[~inside] = 0
    return weights


def _runs(weights: NDArray[np.float32]) -> list[tuple[int, int, int, int]]:
    """Gather neighbouring rows that mix the same cells: first row, row after the last, lower cell, upper cell or -1."""
    used = weights > 0
    seen = used.any(axis=1)
    lower = np.where(seen, used.argmax(axis=1), -1)
    upper = np.where(seen, used.shape[1] - 1 - used[:, ::-1].argmax(axis=1), -1)
    change = np.flatnonzero((np.diff(lower) != 0) | (np.diff(upper) != 0)) + 1
    bounds = [0, *change.tolist(), len(weights)]
    return [(a, b, int(lower[a]), int(upper[a])) for a, b in pairwise(bounds)]


def _place_general(
    coarse: NDArray[np.float32], to_cell: NDArray[np.float64], shape: tuple[int, int, int]
) -> NDArray[np.float32]:
    """Interpolate slab by slab at places that no axis permutation gives, memory flat."""
    from scipy.ndimage import affine_transform  # 0.4 s, and only turned grids need it

    result = np.zeros(shape, dtype=np.float32, order="F")
    thickness = max(1, _SLAB_VOXELS // (shape[0] * shape[1]))
    i = np.arange(shape[0])[:, None, None]
    j = np.arange(shape[1])[None, :, None]
    for first in range(0, shape[2], thickness):
        slab = result[:, :, first : first + thickness]
        offset = to_cell[:3, 3] + to_cell[:3, 2] * first
        affine_transform(coarse, to_cell[:3, :3], offset=offset, output=slab, order=1, mode="nearest", prefilter=False)
        k = np.arange(slab.shape[2])[None, None, :]
        for axis in range(3):
            position = to_cell[axis, 0] * i + to_cell[axis, 1] * j + (to_cell[axis, 2] * k + offset[axis])
            slab[(position < -0.5 - BORDER_CELLS) | (position > coarse.shape[axis] - 0.5 + BORDER_CELLS)] = 0
    return result
