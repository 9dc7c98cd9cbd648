"""What napari calls to save a layer as NIfTI: in the grid and at the place of the scan, not in napari's own axes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Layer
from napari.utils.notifications import show_error

from napari_gradcam.errors import GradCamError
from napari_gradcam.viewer.current import current_viewer
from napari_gradcam.viewer.layers import explanation_of, on_native_grid, read_layer

if TYPE_CHECKING:
    from nibabel import Nifti1Image
    from numpy.typing import NDArray


_RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
"""NIfTI's RGB24."""


def write_image(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Save an Image layer: a heat map, a scan, or any other that says how large its voxels are.

    Parameters
    ----------
    path
        The file, ``.nii`` or ``.nii.gz``.
    data, attributes
        The layer's.

    Returns
    -------
    list of str
        The file; empty where a person was told why there is none.

    Raises
    ------
    GradCamError
        If the layer cannot be saved, and there is no window.
    """
    return _written(path, data, attributes, "image")


def write_labels(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Save a Labels layer, such as the bands of a heat map; see :func:`write_image`."""
    return _written(path, data, attributes, "labels")


def _written(path: str, data: Any, attributes: dict[str, Any], kind: str) -> list[str]:
    from napari_gradcam.export.nifti import write_image

    try:
        # napari has asked before a file is replaced.
        write_image(_image(Layer.create(data, attributes, kind)), Path(path))
    except GradCamError as error:
        if current_viewer() is None:
            raise
        show_error(str(error))
        return []
    return [path]


def _image(layer: Layer) -> Nifti1Image:
    """Make a NIfTI image of what a layer holds, on the grid of its scan."""
    from napari_gradcam.export.nifti import grid_image, on_scan_image, source_forms

    explanation = explanation_of(layer)
    if explanation is not None:
        return on_scan_image(explanation, _stored(on_native_grid(layer, explanation)), layer.name)
    volume = read_layer(layer)
    values = _stored(volume.array) if volume.color is None else np.ascontiguousarray(volume.color).view(_RGB)[..., 0]
    forms = source_forms(volume, volume.affine)
    return grid_image(values, volume.affine, layer.name, unit=volume.unit, forms=forms)


def _stored(values: NDArray[Any]) -> NDArray[Any]:
    """Give values in a type that NIfTI-1 has, with the same numbers: nibabel refuses 64-bit integers, and booleans."""
    if values.dtype == bool:
        return values.astype(np.uint8)
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8:
        lowest, highest = int(values.min(initial=0)), int(values.max(initial=0))
        for fitting in (np.uint8, np.int16, np.int32):
            if np.iinfo(fitting).min <= lowest and highest <= np.iinfo(fitting).max:
                return values.astype(fitting)
        raise GradCamError("The layer holds numbers beyond 2³¹, which not every NIfTI reader takes: renumber it first.")
    return values.astype(np.float32) if values.dtype == np.float16 else values
