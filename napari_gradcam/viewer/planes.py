"""Axial, sagittal, coronal: which plane a viewer shows, and which slices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_gradcam.viewer.layers import volume_of
from napari_gradcam.volumes.orientation import DisplayGrid, Plane

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

_SPATIAL = 3


def show_plane(viewer: ViewerModel, plane: Plane) -> None:
    """Show a plane in 2D; axes before the last three, such as time, stay in front."""
    extra = max(0, viewer.dims.ndim - _SPATIAL)
    viewer.dims.ndisplay = 2
    if viewer.dims.ndim >= _SPATIAL:
        viewer.dims.order = (*range(extra), *(extra + axis for axis in plane.dims_order))


def plane_in_sight(viewer: ViewerModel) -> Plane | None:
    """Name the plane that a viewer shows, or None in 3D or for an order of axes that no plane has."""
    extra = viewer.dims.ndim - _SPATIAL
    if viewer.dims.ndisplay != 2 or extra < 0:
        return None
    return Plane.from_dims_order(tuple(axis - extra for axis in viewer.dims.order[extra:]))


def go_to(viewer: ViewerModel, scan: Layer, index: tuple[int, int, int]) -> None:
    """Move all three slices of a viewer to a voxel of a scan.

    Parameters
    ----------
    index
        Voxel on the scan's native grid.
    """
    volume = volume_of(scan)
    if volume is None:
        return
    display = DisplayGrid.of(volume).index_to_display(index)
    world = scan.data_to_world(display)
    first = viewer.dims.ndim - len(world)
    viewer.dims.set_point(range(first, viewer.dims.ndim), [float(value) for value in world])
