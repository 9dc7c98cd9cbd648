"""The planes of a scan and its heat map that a picture shows: views of the display grid, nothing resampled."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_gradcam import words
from napari_gradcam.errors import GradCamError
from napari_gradcam.volumes.orientation import OBLIQUE_DEGREES, DisplayGrid, Letters, Plane

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_gradcam.explanation import Explanation
    from napari_gradcam.export.manner import Manner

PLANES = (Plane.AXIAL, Plane.CORONAL, Plane.SAGITTAL)
"""From left to right."""

_PATIENT_AXIS = {Plane.SAGITTAL: 0, Plane.CORONAL: 1, Plane.AXIAL: 2}

NO_LETTERS = Letters("", "", "", "")
"""Of a scan whose file does not place it in the patient: a guessed side would be worse than none."""

_THICKER = 1.2
"""From so many times the other spacings on, a scan's slices are those of its thickest axis."""


@dataclass(frozen=True, eq=False)
class Tile:
    """One plane as it is shown: rows run down, columns run right.

    Attributes
    ----------
    caption
        Such as ``"Axial, S 50.0 mm"``.
    grey, heat
        The scan, ``(rows, columns)`` or in colours ``(rows, columns, 3)``, and the raw heat map there,
        ``(rows, columns)``.
    pixel_mm
        Height and width of a pixel in mm; of a plain picture, in pixels.
    letters
        The patient's directions at the edges.
    mark
        Row and column of the point that the planes meet in, or None.
    """

    caption: str
    grey: NDArray[Any]
    heat: NDArray[np.float32]
    pixel_mm: tuple[float, float]
    letters: Letters
    mark: tuple[int, int] | None

    @property
    def size_mm(self) -> tuple[float, float]:
        """Width and height of the whole tile in mm."""
        rows, columns = self.heat.shape
        return columns * self.pixel_mm[1], rows * self.pixel_mm[0]


class Stack:
    """The slices of a scan and its map as they are shown, of any plane.

    A slice has the number that the slider of the window counts it by, here from 0: from the head, the patient's front
    or the right on.

    Parameters
    ----------
    explanation
        The map, and the scan it lies on.
    manner
        Whether the scan may be named.

    Raises
    ------
    GradCamError
        If the explanation has no scan, or its map lies on another grid than the scan.
    """

    def __init__(self, explanation: Explanation, manner: Manner) -> None:
        self.volume = volume = explanation.volume
        if explanation.heatmap.shape != volume.shape or not np.allclose(explanation.affine, volume.affine, atol=1e-3):
            raise GradCamError(
                f"The heat map is not on the grid of “{volume.name}”: give the scan that was explained, not another "
                "one."
            )
        self.grid = DisplayGrid.of(volume)
        self._name = "" if manner.deidentified else volume.name
        self._grey = self.grid.to_display(volume.array if volume.color is None else volume.color)
        self._heat = self.grid.to_display(explanation.heatmap)

    def count(self, plane: Plane) -> int:
        """Count the slices of a plane."""
        return self.grid.shape[plane.dims_order[0]]

    def number(self, plane: Plane, index: Sequence[int]) -> int:
        """Give the slice of a plane that holds a voxel of the native grid."""
        return self.shown(index)[plane.dims_order[0]]

    def shown(self, index: Sequence[int]) -> tuple[int, int, int]:
        """Turn a voxel of the native grid into one of the display grid."""
        i, p, left = (round(float(n)) for n in self.grid.index_to_display(index))
        return i, p, left

    def in_order(self, plane: Plane, values: NDArray[Any]) -> NDArray[Any]:
        """Put values that stand by native index along a plane's axis in the order of its slices."""
        first, last = (self._native(plane, number)[self.axis(plane)] for number in (0, self.count(plane) - 1))
        return values if first <= last else values[::-1]

    def axis(self, plane: Plane) -> int:
        """Give the axis of the native grid that a plane's slices are counted along."""
        return self.grid.native_axis(plane)

    def instance(self, plane: Plane, number: int) -> int | None:
        """Give the DICOM Instance Number of a slice; None where the files have other slices, or none."""
        return self.volume.instance(self._native(plane, number)) if self.axis(plane) == 2 else None

    def tile(self, plane: Plane, number: int, mark: tuple[int, int, int] | None = None) -> Tile:
        """Cut a slice.

        Parameters
        ----------
        plane
            Its plane.
        number
            Which one, from 0.
        mark
            A voxel of the display grid to be marked, or None.
        """
        _, down, right = order = plane.dims_order
        grey = self._grey.transpose(*order, *range(3, self._grey.ndim))
        return Tile(
            caption=self.caption(plane, number),
            grey=grey[number],
            heat=self._heat.transpose(order)[number],
            pixel_mm=(self.grid.scale[down], self.grid.scale[right]),
            letters=self.grid.letters(plane) if self.volume.in_patient_space else NO_LETTERS,
            mark=None if mark is None else (mark[down], mark[right]),
        )

    def caption(self, plane: Plane, number: int) -> str:
        """Name a plane and say where it lies; of an oblique one, for which no coordinate holds, how oblique."""
        if self.volume.unit == "pixels":
            return self._name or "Picture"
        if not self.volume.in_patient_space:
            return f"Plane {number + 1}"
        if self.grid.obliquity >= OBLIQUE_DEGREES:
            return f"{plane.value.capitalize()}, {self.grid.obliquity:.1f}° oblique"
        return f"{plane.value.capitalize()}, {self.position(plane, number)}"

    def position(self, plane: Plane, number: int) -> str:
        """Say where a slice lies along the patient's axis, ``"S 50.0 mm"``, of an oblique one its middle.

        "" where nothing places the scan in a patient.
        """
        if not self.volume.in_patient_space:
            return ""
        middle = [(n - 1) / 2 for n in self.grid.shape]
        middle[plane.dims_order[0]] = number
        axis = _PATIENT_AXIS[plane]
        place = f"{words.along_axis(axis, float(self.grid.patient_position(middle)[axis]))} mm"
        return f"middle {place}" if self.grid.obliquity >= OBLIQUE_DEGREES else place

    def numbered(self, plane: Plane, number: int) -> str:
        """Say which slice of how many, and its place in the file: ``"slice 12 of 20, image 9"``."""
        instance = self.instance(plane, number)
        told = f"slice {number + 1} of {self.count(plane)}"
        return told if instance is None else f"{told}, image {instance}"

    def _native(self, plane: Plane, number: int) -> tuple[int, int, int]:
        shown = [0, 0, 0]
        shown[plane.dims_order[0]] = number
        i, j, k = (round(float(n)) for n in self.grid.index_to_native(shown))
        return i, j, k


def tiles_through(stack: Stack, point: tuple[int, int, int], *, marked: bool) -> list[Tile]:
    """Cut the axial, the coronal and the sagittal plane through a voxel; of a plain picture give the picture alone.

    Parameters
    ----------
    stack
        The scan and its map.
    point
        The voxel on the native grid.
    marked
        Whether the point is to be marked.
    """
    shown = stack.shown(point)
    planes = PLANES if stack.volume.unit == "mm" else (Plane.AXIAL,)
    return [stack.tile(plane, shown[plane.dims_order[0]], shown if marked else None) for plane in planes]


def reading_plane(explanation: Explanation) -> Plane:
    """Give the plane that a map is read in: of a 2D classifier the one it read, else the one the scan was acquired in.

    That is the plane of the thickest slices, or of the slices that the files are; axial where nothing tells.
    """
    volume = explanation.volume
    if volume.unit == "pixels":
        return Plane.AXIAL
    if explanation.plane:
        return Plane(explanation.plane)
    grid = DisplayGrid.of(volume)
    thickest, next_one = sorted(range(3), key=lambda axis: -volume.spacing[axis])[:2]
    if volume.spacing[thickest] > _THICKER * volume.spacing[next_one]:
        axis = thickest
    elif volume.instances or 1 in volume.shape:
        axis = volume.shape.index(1) if 1 in volume.shape else 2
    else:
        return Plane.AXIAL
    return next(plane for plane in Plane if grid.native_axis(plane) == axis)


def recaptioned(tile: Tile, caption: str) -> Tile:
    """Give a tile another caption."""
    return replace(tile, caption=caption)
