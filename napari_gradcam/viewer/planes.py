"""Axial, sagittal, coronal: which plane a viewer shows, and which slices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Image
from nibabel.orientations import io_orientation

from napari_gradcam.viewer.layers import index_in_layer, is_overlay, world_to_patient
from napari_gradcam.volumes.orientation import RAS_TO_DISPLAY, Plane

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

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


def go_to(viewer: ViewerModel, scan: Layer, index: tuple[int, int, int]) -> None:
    """Move all three slices of a viewer to a voxel of a scan.

    Parameters
    ----------
    index
        Voxel on the scan's native grid.
    """
    world = np.array(scan.data_to_world(index_in_layer(scan, index)))
    first = viewer.dims.ndim - len(world)
    shared = viewer.dims.units
    if shared is not None:  # layers in mm and in µm share one world, in the unit of one of them
        pairs = zip(world, scan.units, shared[first:], strict=True)
        world = np.array([(float(value) * own).to(one).magnitude for value, own, one in pairs])
    viewer.dims.set_point(range(first, viewer.dims.ndim), [float(value) for value in world])
