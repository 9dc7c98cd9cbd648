"""The planes of a scan and its heat map that a picture shows: views of the display grid, nothing resampled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_gradcam import words
from napari_gradcam.volumes.orientation import OBLIQUE_DEGREES, DisplayGrid, Letters, Plane

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_gradcam.volumes import Volume

PLANES = (Plane.AXIAL, Plane.CORONAL, Plane.SAGITTAL)
"""From left to right."""

_PATIENT_AXIS = {Plane.SAGITTAL: 0, Plane.CORONAL: 1, Plane.AXIAL: 2}


NO_LETTERS = Letters("", "", "", "")
"""Of a scan whose file does not place it in the patient: a guessed side would be worse than none."""


@dataclass(frozen=True, eq=False)
class Tile:
    """One plane as it is shown: rows run down, columns run right.

    Attributes
    ----------
    caption
        Such as ``"Axial, S 50.0 mm"``.
    grey, heat
        The scan and the raw heat map there, ``(rows, columns)``.
    pixel_mm
        Height and width of a pixel in mm.
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
        rows, columns = self.grey.shape
        return columns * self.pixel_mm[1], rows * self.pixel_mm[0]


def tiles_through(
    volume: Volume, heatmap: NDArray[np.float32], point: tuple[int, int, int], *, marked: bool
) -> list[Tile]:
    """Cut the axial, the coronal and the sagittal plane through a voxel; of a plain picture give the picture alone.

    Parameters
    ----------
    volume
        The scan.
    heatmap
        Raw heat on the same native grid.
    point
        The voxel on the native grid.
    marked
        Whether the point is to be marked.
    """
    grid = DisplayGrid.of(volume)
    grey, heat = grid.to_display(volume.array), grid.to_display(heatmap)
    i, p, left = (round(float(n)) for n in grid.index_to_display(point))
    shown = (i, p, left)
    tiles = []
    for plane in PLANES if volume.unit == "mm" else (Plane.AXIAL,):
        across, down, right = plane.dims_order
        order = (across, down, right)
        tiles.append(
            Tile(
                caption=_caption(volume, grid, plane, shown),
                grey=grey.transpose(order)[shown[across]],
                heat=heat.transpose(order)[shown[across]],
                pixel_mm=(grid.scale[down], grid.scale[right]),
                letters=grid.letters(plane) if volume.in_patient_space else NO_LETTERS,
                mark=(shown[down], shown[right]) if marked else None,
            )
        )
    return tiles


def _caption(volume: Volume, grid: DisplayGrid, plane: Plane, shown: tuple[int, int, int]) -> str:
    """Name a plane and say where it lies; of an oblique one, which no coordinate holds for as a whole, how oblique."""
    if volume.unit == "pixels":
        return volume.name
    if not volume.in_patient_space:
        return f"Plane {shown[plane.dims_order[0]]}"
    if grid.obliquity >= OBLIQUE_DEGREES:
        return f"{plane.value.capitalize()}, {grid.obliquity:.1f}° oblique"
    axis = _PATIENT_AXIS[plane]
    return f"{plane.value.capitalize()}, {words.along_axis(axis, float(grid.patient_position(shown)[axis]))} mm"
