"""Native grid to display grid and back, planes, orientation letters, obliquity.

napari draws upright, unmirrored radiological planes for one layout only: array axes that run to the patient's Inferior,
Posterior and Left, with a positive diagonal scale. Every scan and every map on its grid is therefore shown as a view of
its array with the axes reordered and flipped; nothing is resampled.

The *display world* is the patient space of DICOM and NIfTI with its axes in that order, in mm:
``(I, P, L) = (-z, -y, -x)`` of a RAS+ position ``(x, y, z)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from nibabel.affines import apply_affine, voxel_sizes
from nibabel.orientations import (
    aff2axcodes,
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from napari_gradcam.volumes.volume import Volume

DISPLAY_AXES = ("I", "P", "L")
"""Where the display grid's axes run to, and napari's `axis_labels`."""

RAS_TO_DISPLAY = np.array([[0.0, 0.0, -1.0], [0.0, -1.0, 0.0], [-1.0, 0.0, 0.0]])
"""RAS+ mm to display world mm; its own inverse."""
RAS_TO_DISPLAY.setflags(write=False)

OBLIQUE_DEGREES = 0.1
"""From here on a scan is called oblique: 0.1° moves the corner of a 500 mm field by less than half a millimetre."""

SECOND_LETTER_DEGREES = 15.0
"""A direction that leans this far to a second patient axis shows that axis's letter too, as in ``"RA"``."""


class Letters(NamedTuple):
    """What stands at the four sides of a picture, each one or more of ``R L A P S I``."""

    left: str
    right: str
    top: str
    bottom: str


class Plane(Enum):
    """A plane of the display grid in radiological convention; the value is its name."""

    AXIAL = "axial"
    SAGITTAL = "sagittal"
    CORONAL = "coronal"

    @property
    def dims_order(self) -> tuple[int, int, int]:
        """Display axes as napari's `dims.order`: the one that is sliced, the one drawn down, the one drawn right."""
        return _DIMS_ORDER[self]

    @property
    def letters(self) -> Letters:
        """The letters of a scan that is not oblique: what the plane looks like by convention."""
        _, down, right = (DISPLAY_AXES[axis] for axis in self.dims_order)
        return Letters(_OPPOSITE[right], right, _OPPOSITE[down], down)

    @classmethod
    def from_dims_order(cls, order: tuple[int, ...]) -> Plane | None:
        """Find the plane drawn by napari's `dims.order` of three axes, or None for an order that no plane has."""
        return next((plane for plane, known in _DIMS_ORDER.items() if known == tuple(order)), None)


_DIMS_ORDER = {Plane.AXIAL: (0, 1, 2), Plane.SAGITTAL: (2, 0, 1), Plane.CORONAL: (1, 0, 2)}
_OPPOSITE = {"R": "L", "L": "R", "A": "P", "P": "A", "S": "I", "I": "S"}


class SliceAxis(NamedTuple):
    """The native axis along which the slices of a plane are stacked."""

    axis: int
    """0, 1 or 2 of the native grid ``(i, j, k)``."""
    direction: int
    """+1 where the index grows towards Superior (axial), Right (sagittal) or Anterior (coronal), else -1."""


@dataclass(frozen=True, eq=False)
class DisplayGrid:
    """A native grid as it is shown: axes reordered and flipped to (I, P, L), never resampled.

    Make one with :meth:`from_affine` or :meth:`of`.

    Attributes
    ----------
    shape
        Voxels along ``(I, P, L)``.
    scale
        Voxel sizes in mm along ``(I, P, L)``, all positive.
    translate
        Centre of display voxel (0, 0, 0) in the display world, mm. Exact where the scan is aligned with the patient's
        axes. An oblique or sheared scan is turned about its own centre, which stays where it is in the patient.
    affine
        Display index to the *true* patient position, RAS+ mm, 4 × 4; of an oblique scan too.
    native_shape
        Voxels along ``(i, j, k)``.
    """

    shape: tuple[int, int, int]
    scale: tuple[float, float, float]
    translate: tuple[float, float, float]
    affine: NDArray[np.float64]
    native_shape: tuple[int, int, int]
    _forward: NDArray[np.float64]
    _backward: NDArray[np.float64]
    _to_native: NDArray[np.float64]

    @classmethod
    def from_affine(cls, affine: ArrayLike, shape: tuple[int, ...]) -> DisplayGrid:
        """Lay the display grid over a native grid.

        Parameters
        ----------
        affine
            Native index to RAS+ mm, invertible 4 × 4.
        shape
            Voxels along ``(i, j, k)``; further axes are left alone.
        """
        affine = np.asarray(affine, dtype=np.float64)
        i, j, k = (int(n) for n in shape[:3])
        native, display = io_orientation(affine), axcodes2ornt(DISPLAY_AXES)
        forward = ornt_transform(native, display)
        to_native = inv_ornt_aff(forward, (i, j, k))
        true = affine @ to_native
        axes = [int(axis) for axis in np.argsort(forward[:, 0])]
        shown = (i, j, k)[axes[0]], (i, j, k)[axes[1]], (i, j, k)[axes[2]]
        scale = voxel_sizes(true)
        linear, origin = RAS_TO_DISPLAY @ true[:3, :3], RAS_TO_DISPLAY @ true[:3, 3]
        # The centre of the shown box stays at its true place; of an aligned scan the added term is exactly zero.
        translate = origin + (linear - np.diag(scale)) @ ((np.array(shown) - 1) / 2)
        for array in (true, forward, to_native):
            array.setflags(write=False)
        return cls(
            shape=shown,
            scale=_triple(scale),
            translate=_triple(translate),
            affine=true,
            native_shape=(i, j, k),
            _forward=forward,
            _backward=ornt_transform(display, native),
            _to_native=to_native,
        )

    @classmethod
    def of(cls, volume: Volume) -> DisplayGrid:
        """Lay the display grid over a volume's grid; the same one each time, since it is asked for with every slice."""
        if volume not in _grids:
            _grids[volume] = cls.from_affine(volume.affine, volume.shape)
        return _grids[volume]

    def to_display(self, array: NDArray[Any]) -> NDArray[Any]:
        """View an array of the native grid, ``(i, j, k, ...)``, on the display grid, ``(I, P, L, ...)``."""
        return self._view(array, self.native_shape, self._forward)

    def to_native(self, array: NDArray[Any]) -> NDArray[Any]:
        """View an array of the display grid, ``(I, P, L, ...)``, on the native grid, ``(i, j, k, ...)``."""
        return self._view(array, self.shape, self._backward)

    @staticmethod
    def _view(array: NDArray[Any], shape: tuple[int, ...], orientation: NDArray[np.float64]) -> NDArray[Any]:
        if array.shape[:3] != shape:
            raise ValueError(f"an array of shape {array.shape} does not lie on this grid of {shape}")
        view: NDArray[Any] = apply_orientation(array, orientation)
        return view

    def index_to_native(self, point: ArrayLike) -> NDArray[np.float64]:
        """Turn display indices, ``(..., 3)``, whole or between voxels, into native ones."""
        return _apply(self._to_native, point)

    def index_to_display(self, point: ArrayLike) -> NDArray[np.float64]:
        """Turn native indices, ``(..., 3)``, whole or between voxels, into display ones."""
        return _apply(_inverse(self._to_native), point)

    def patient_position(self, point: ArrayLike) -> NDArray[np.float64]:
        """Give the true RAS+ position in mm of display indices, ``(..., 3)``, of an oblique scan too."""
        return _apply(self.affine, point)

    def native_axis(self, plane: Plane) -> int:
        """Give the axis of the native grid along which the slices of a plane are stacked."""
        return int(np.argsort(self._forward[:, 0])[plane.dims_order[0]])

    def letters(self, plane: Plane) -> Letters:
        """Give what stands at the sides of a plane in this scan, true to the patient also where it is oblique."""
        _, down, right = (self.affine[:3, axis] for axis in plane.dims_order)
        return Letters(
            direction_letters(-right), direction_letters(right), direction_letters(-down), direction_letters(down)
        )

    @property
    def obliquity(self) -> float:
        """Largest angle in degrees between an axis as shown and where it runs in the patient."""
        return obliquity(self.affine)


def obliquity(affine: ArrayLike) -> float:
    """Measure the largest angle in degrees between a voxel axis and the patient axis it stands for.

    Parameters
    ----------
    affine
        Voxel index to RAS+ mm, invertible 4 × 4.
    """
    linear = np.asarray(affine, dtype=np.float64)[:3, :3]
    nearest = io_orientation(affine)[:, 0].astype(int)
    along = np.abs(linear[nearest, range(3)])
    # atan2 of what runs across and what runs along stays exact near 0°, where arccos of a cosine does not.
    across = np.sqrt(np.maximum((linear**2).sum(axis=0) - along**2, 0))
    across[across < 1e-7 * along] = 0  # what is left by the rounding of the squares, below 1e-5 degrees
    return float(np.degrees(np.arctan2(across, along)).max())


def obliquity_notices(affine: ArrayLike) -> tuple[str, ...]:
    """Say in a sentence that a scan is oblique; nothing where it is not."""
    degrees = obliquity(affine)
    if degrees < OBLIQUE_DEGREES:
        return ()
    return (f"The scan is {degrees:.1f}° oblique: it is shown in its acquisition planes.",)


def axis_letters(affine: ArrayLike) -> tuple[str, str, str]:
    """Name the patient directions that the voxel axes run to, such as ``("L", "P", "S")``."""
    i, j, k = aff2axcodes(np.asarray(affine, dtype=np.float64))
    return str(i), str(j), str(k)


def direction_letters(direction: ArrayLike) -> str:
    """Name a direction of patient space, RAS+: the nearest letter first, then those it leans to by 15° or more."""
    vector = np.asarray(direction, dtype=np.float64)
    vector = vector / np.linalg.norm(vector)
    named = sorted(zip(np.abs(vector), vector > 0, ("RL", "AP", "SI"), strict=True), key=lambda named: -named[0])
    least = np.sin(np.radians(SECOND_LETTER_DEGREES))
    return "".join(
        pair[0] if positive else pair[1]
        for rank, (size, positive, pair) in enumerate(named)
        if rank == 0 or size >= least
    )


def slice_axis(affine: ArrayLike, plane: Plane) -> SliceAxis:
    """Find the native axis whose slices lie nearest to a plane, and which way it runs.

    Parameters
    ----------
    affine
        Voxel index to RAS+ mm, invertible 4 × 4.
    plane
        The plane the slices should lie in.
    """
    orientation = io_orientation(np.asarray(affine, dtype=np.float64))
    patient_axis = {Plane.SAGITTAL: 0, Plane.CORONAL: 1, Plane.AXIAL: 2}[plane]
    axis = int(np.flatnonzero(orientation[:, 0] == patient_axis)[0])
    return SliceAxis(axis, int(orientation[axis, 1]))


def _apply(affine: NDArray[np.float64], point: ArrayLike) -> NDArray[np.float64]:
    moved: NDArray[np.float64] = apply_affine(affine, np.asarray(point, dtype=np.float64))
    return moved


def _inverse(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.inv(affine), dtype=np.float64)


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    a, b, c = (float(value) for value in values)
    return a, b, c


_grids: WeakKeyDictionary[Volume, DisplayGrid] = WeakKeyDictionary()
