"""Where a layer lies in napari's world: its transforms as one matrix, its units, what its axis labels name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from napari.layers import Layer
    from numpy.typing import NDArray

PICTURE_MM = 1.0
"""What is taken for the thickness of a single picture; nothing says it."""

FLAT = 1e-6
"""Axes that span less than this share of their box are no grid."""

_WORDS = {"RIGHT": "R", "LEFT": "L", "ANTERIOR": "A", "POSTERIOR": "P", "SUPERIOR": "S", "INFERIOR": "I"}
_DIRECTIONS = {"R": (0, 1.0), "L": (0, -1.0), "A": (1, 1.0), "P": (1, -1.0), "S": (2, 1.0), "I": (2, -1.0)}
"""Patient axis of RAS+, and which way along it."""

_LENGTH = {"[length]": 1}
"""What pint calls the dimensions of a unit of length."""


def data_shape(layer: Layer) -> tuple[int, ...]:
    """Voxels along a layer's data axes, of its finest level, without the colours."""
    return tuple(int(n) for n in layer.level_shapes[0])


def drawn_in_mm(layer: Layer) -> tuple[NDArray[np.float64], bool]:
    """Give the index of a layer's last three data axes to napari's world in mm, 4 × 4, and whether a unit says so.

    A picture with two axes gets a first one of 1 mm. Where no unit of length is given, the numbers stand as they are.
    """
    whole = data_to_world(layer)
    factors = [_mm(unit) for unit in layer.units]
    lengths = [factor for factor in factors[-3:] if factor is not None]
    in_lengths = len(lengths) == min(3, layer.ndim)
    spatial = np.diag([PICTURE_MM, 1.0, 1.0, 1.0]) if layer.ndim == 2 else np.eye(4)
    first = 3 - min(3, layer.ndim)
    spatial[first:3, first:] = whole[-1 - (3 - first) : -1, -1 - (3 - first) :]
    if in_lengths:
        spatial[first:3] *= np.array(lengths)[:, None]
    return spatial, in_lengths


def data_to_world(layer: Layer) -> NDArray[np.float64]:
    """Give all of a layer's transforms as one matrix: index of its data to napari's world, in the layer's units."""
    matrix = np.eye(layer.ndim + 1)
    origin = np.array(layer.data_to_world(np.zeros(layer.ndim)))
    for axis, step in enumerate(np.eye(layer.ndim)):
        matrix[:-1, axis] = np.array(layer.data_to_world(step)) - origin
    matrix[:-1, -1] = origin
    return matrix


def named_axes(labels: tuple[str, ...]) -> NDArray[np.float64] | None:
    """Give napari's world to RAS+, 4 × 4, where the last three axis labels name three directions in the patient.

    Understood are the six words, and their capital first letters: small ones name where an axis comes from as often as
    where it runs to.
    """
    named = [_WORDS.get(label.upper(), label) for label in labels[-3:]]
    known = [_DIRECTIONS[letter] for letter in named if letter in _DIRECTIONS]
    if {axis for axis, _ in known} != {0, 1, 2} or len(named) != 3:
        return None
    matrix = np.eye(4)
    matrix[:3, :3] = 0
    for world, (axis, sign) in enumerate(known):
        matrix[axis, world] = sign
    return matrix


def _mm(unit: Any) -> float | None:
    """Give the mm of one of pint's units, None for pixels and whatever else is no length."""
    if dict(unit.dimensionality) != _LENGTH:
        return None
    return float((1 * unit).to("mm").magnitude)


def usable(affine: Any) -> NDArray[np.float64] | None:
    """Give an affine as 4 × 4 float64, or None where it is none that can be inverted."""
    try:
        matrix = np.array(affine, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or not np.array_equal(matrix[3], [0, 0, 0, 1]):
        return None
    sizes = np.linalg.norm(matrix[:3, :3], axis=0)
    # Against the voxel's own size: one of a nanometre is small, not flat.
    return matrix if sizes.all() and abs(np.linalg.det(matrix[:3, :3] / sizes)) > FLAT else None
