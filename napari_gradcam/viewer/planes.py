"""Axial, sagittal, coronal: which plane a viewer shows, and which slices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from napari.layers import Image
from nibabel.orientations import io_orientation

from napari_gradcam.viewer.layers import index_in_layer, index_of_layer, is_overlay, world_to_patient
from napari_gradcam.viewer.world import data_to_world
from napari_gradcam.volumes.orientation import RAS_TO_DISPLAY, Plane

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer
    from numpy.typing import NDArray

_SPATIAL = 3

WorldAxes = tuple[int, int, int]
"""The axes of napari's world, of the last three, along which the patient's I, P and L lie, either way."""

CONVENTION: WorldAxes = (0, 1, 2)
"""Those of our own layers; also taken where no layer says how it lies."""


def show_plane(viewer: ViewerModel, plane: Plane) -> None:
    """Show a plane in 2D; axes before the last three, such as time, stay in front."""
    extra = max(0, viewer.dims.ndim - _SPATIAL)
    viewer.dims.ndisplay = 2
    if viewer.dims.ndim >= _SPATIAL:
        axes = world_axes(viewer) or CONVENTION
        viewer.dims.order = (*range(extra), *(extra + axes[axis] for axis in plane.dims_order))


def show_space(viewer: ViewerModel) -> None:
    """Show all in three dimensions, as far as there are three."""
    if viewer.dims.ndim >= _SPATIAL:
        viewer.dims.ndisplay = 3


def plane_in_sight(viewer: ViewerModel) -> Plane | None:
    """Name the plane that a viewer shows.

    None in 3D, for an order of axes that no plane has, and where the scans in sight lie along different axes.
    """
    extra = viewer.dims.ndim - _SPATIAL
    axes = world_axes(viewer)
    if viewer.dims.ndisplay != 2 or extra < 0 or axes is None:
        return None
    order = tuple(axis - extra for axis in viewer.dims.order[extra:])
    return next((plane for plane in Plane if tuple(axes[axis] for axis in plane.dims_order) == order), None)


def world_axes(viewer: ViewerModel) -> WorldAxes | None:
    """Find the axes of napari's world that run along the patient's; None where the visible scans do not agree.

    A scan that does not say how it lies in the patient has no part in it.
    """
    scans = [layer for layer in viewer.layers if isinstance(layer, Image) and layer.visible and not is_overlay(layer)]
    placed = [to_patient for layer in scans if (to_patient := world_to_patient(layer)) is not None]
    found = {_axes(to_patient[:3, :3]) for to_patient in placed}
    if not found:
        return CONVENTION
    return found.pop() if len(found) == 1 else None


def _axes(world_to_ras: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> WorldAxes:
    shown = np.eye(4)
    shown[:3, :3] = RAS_TO_DISPLAY @ world_to_ras
    i, p, l = (int(axis) for axis in np.argsort(io_orientation(shown)[:, 0]))  # noqa: E741  # the letters
    return i, p, l


class Slicing(NamedTuple):
    """How the slices in sight are counted.

    Attributes
    ----------
    axis
        The axis of the scan's native grid that they are cut along.
    slices
        How many there are.
    forward
        Whether the viewer's slider counts them as the native grid does.
    """

    axis: int
    slices: int
    forward: bool

    def number(self, index: float) -> int:
        """Give the slice, from 0 as the slider counts, of an index along the native axis; the nearest there is."""
        inside = min(max(round(index), 0), self.slices - 1)
        return inside if self.forward else self.slices - 1 - inside

    def in_order(self, values: NDArray[Any]) -> NDArray[Any]:
        """Put values that stand by native index, ``(slices,)``, in the order of the slider."""
        return values if self.forward else values[::-1]


def slicing_in_sight(viewer: ViewerModel, scan: Layer, shape: tuple[int, int, int]) -> Slicing | None:
    """Tell along which axis of a scan a viewer slices now; None of a picture, which has one slice.

    Parameters
    ----------
    shape
        Voxels of the scan's native grid.
    """
    if viewer.dims.ndim < _SPATIAL or scan.ndim < _SPATIAL:
        return None
    sliced = viewer.dims.order[-_SPATIAL] - (viewer.dims.ndim - _SPATIAL)
    if sliced < 0:
        return None
    along = int(np.abs(data_to_world(scan)[-4:-1, -4:-1][sliced]).argmax())
    step = np.zeros(scan.ndim)
    step[along - _SPATIAL] = 1
    moved = index_of_layer(scan, step) - index_of_layer(scan, np.zeros(scan.ndim))
    axis = int(np.abs(moved).argmax())
    return Slicing(axis, shape[axis], bool(moved[axis] > 0))


def index_in_sight(viewer: ViewerModel, scan: Layer) -> NDArray[np.float64]:
    """Give the place on a scan's native grid, ``(i, j, k)``, that all three slices of a viewer go through."""
    return index_at(viewer, scan, np.array(viewer.dims.point))


def index_at(viewer: ViewerModel, scan: Layer, world: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the place on a scan's native grid of a point in a viewer's world."""
    world = world[-scan.ndim :]
    data = np.array(scan.world_to_data(world / _per_unit(viewer, scan)))
    return index_of_layer(scan, data)


def go_to(viewer: ViewerModel, scan: Layer, index: tuple[int, int, int]) -> None:
    """Move all three slices of a viewer to a voxel of a scan.

    Parameters
    ----------
    index
        Voxel on the scan's native grid.
    """
    world = np.array(scan.data_to_world(index_in_layer(scan, index))) * _per_unit(viewer, scan)
    first = viewer.dims.ndim - len(world)
    viewer.dims.set_point(range(first, viewer.dims.ndim), [float(value) for value in world])


def _per_unit(viewer: ViewerModel, scan: Layer) -> NDArray[np.float64]:
    """Give what one unit of a layer's is in the viewer's: layers in mm and in µm share one world, in one of the two."""
    shared = viewer.dims.units
    if shared is None:
        return np.ones(scan.ndim)
    pairs = zip(scan.units, shared[-scan.ndim :], strict=True)
    return np.array([float((1 * own).to(one).magnitude) for own, one in pairs])
