"""Layers as the channels of a classifier's input: further scans, and masks that were painted as labels."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from napari.layers import Image, Labels

from napari_gradcam.errors import GradCamError
from napari_gradcam.viewer import foreign
from napari_gradcam.viewer.layers import geometry, is_overlay, may_be_scan, read_layer, scan_of_reader
from napari_gradcam.viewer.world import data_shape, data_to_world
from napari_gradcam.volumes.orientation import DisplayGrid

if TYPE_CHECKING:
    from napari.layers import Layer
    from numpy.typing import NDArray

    from napari_gradcam.volumes import Volume


class _Painted(NamedTuple):
    """The values of a labels layer when it was read, and an image layer of them: painting changes the layer's own."""

    values: NDArray[Any]
    image: Image


class _Laid(NamedTuple):
    """A volume on the grid of a scan, and the two that it was made of."""

    volume: Volume
    scan: Volume
    laid: Volume


_painted: WeakKeyDictionary[Layer, _Painted] = WeakKeyDictionary()
_laid: WeakKeyDictionary[Layer, _Laid] = WeakKeyDictionary()


def may_be_channel(layer: Layer) -> bool:
    """Whether a layer may be a channel beside a scan: an image or labels, and no heat map of ours."""
    return isinstance(layer, Image | Labels) and not is_overlay(layer)


def in_colours(layer: Layer) -> bool:
    """Whether a layer gives red, green and blue."""
    return isinstance(layer, Image) and bool(layer.rgb)


def is_picture(layer: Layer) -> bool:
    """Whether a layer is a single picture, which cannot be cut along another plane; reads nothing."""
    return layer.ndim == 2 or (may_be_scan(layer) and 1 in data_shape(layer)[-3:])


def read_channel(layer: Layer, scan: Layer, volume: Volume) -> Volume:
    """Give what a layer adds to a scan as a further channel; the same for as long as neither changes.

    A layer that is drawn on the very voxels of the scan lies on the scan's grid, whatever it says of its own place: so
    do masks, which napari lets a person paint on any layer.

    Parameters
    ----------
    layer
        The channel's layer.
    scan, volume
        The scan's layer, and what it was read as.

    Raises
    ------
    GradCamError
        If it holds no scan and no mask.
    """
    if layer is scan:
        return volume
    kept = scan_of_reader(layer)
    if kept is not None:
        return kept
    image = layer if isinstance(layer, Image) else _image_of(layer)
    read = read_layer(image)
    if not _drawn_on(layer, scan):
        return read
    held = _laid.get(layer)
    if held is None or held.volume is not read or held.scan is not volume:
        held = _laid[layer] = _Laid(read, volume, _on_grid(read, image, scan, volume))
    return held.laid


def is_channel_of(layer: Layer, scan: Layer, volume: Volume, read: Volume) -> bool:
    """Whether what was read of a layer beside a scan is still what it adds to that scan."""
    try:
        return read_channel(layer, scan, volume) is read
    except GradCamError:
        return False


def _image_of(layer: Layer) -> Image:
    """Give an image layer of the values that a labels layer has now, where that lies; the same until they change."""
    if not isinstance(layer, Labels):
        kind = type(layer).__name__
        raise GradCamError(
            f"Layer “{layer.name}” is of napari's kind {kind}, not a scan or a mask: choose an image or labels layer."
        )
    values = layer.data[0] if layer.multiscale else layer.data
    held = _painted.get(layer)
    if held is None or not _same(held.values, values):
        own = values.copy() if isinstance(values, np.ndarray) else values
        held = _painted[layer] = _Painted(own, Image(own, rgb=False, name=layer.name, metadata=layer.metadata))
    for name, value in geometry(layer).items():
        setattr(held.image, name, value)
    return held.image


def _same(before: NDArray[Any], now: Any) -> bool:
    """Whether labels are what they were; those that are computed as they are looked at are not looked at for that."""
    if not isinstance(now, np.ndarray):
        return before is now
    return before.dtype == now.dtype and np.array_equal(before, now)


def _drawn_on(layer: Layer, scan: Layer) -> bool:
    """Whether napari draws two layers voxel on voxel."""
    alike = layer.ndim == scan.ndim and data_shape(layer) == data_shape(scan) and layer.units == scan.units
    return alike and np.allclose(data_to_world(layer), data_to_world(scan), rtol=1e-6, atol=1e-6)


def _on_grid(read: Volume, image: Image, scan: Layer, volume: Volume) -> Volume:
    """Say of a layer's volume that it lies on the grid of the scan it is drawn on."""
    array, color = read.array, read.color
    if scan_of_reader(scan) is volume:  # shown on the display grid; any other layer is read along its own axes
        grid = DisplayGrid.of(volume)
        array, color = grid.to_native(array), None if color is None else grid.to_native(color)
    said_of_place = foreign.place_of(image).notices
    return replace(
        read,
        array=array,
        color=color,
        affine=volume.affine,
        in_patient_space=volume.in_patient_space,
        unit=volume.unit,
        notices=tuple(notice for notice in read.notices if notice not in said_of_place),
    )
