"""The voxels of a stack: decoded slice by slice into one array, in the scan's own units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_gradcam.errors import GradCamError
from napari_gradcam.progress import Progress
from napari_gradcam.volumes.dicom.pixels import read_pictures
from napari_gradcam.volumes.dicom.stored import photometric_of
from napari_gradcam.volumes.values import Values, brightness, finite
from napari_gradcam.volumes.wording import percent

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_gradcam.progress import Steps
    from napari_gradcam.volumes.dicom.geometry import Stack
    from napari_gradcam.volumes.dicom.slices import Slice

PAUSE = 16
"""Slices from one pause to the next."""


class Voxels(NamedTuple):
    """The values of a stack, ``(column, row, slice)`` in Fortran order; its colours, and what must be said."""

    array: NDArray[Any]
    color: NDArray[np.uint8] | None
    notices: tuple[str, ...]


def read_voxels(stack: Stack, label: str) -> Steps[Voxels]:
    """Read the voxels of a stack in steps.

    Raises
    ------
    GradCamError
        If the pixels of a slice are damaged, of another size than its header says, or too many for the memory.
    """
    read = _colors if stack.slices[0].in_color else _values
    with np.errstate(over="ignore", invalid="ignore"):  # what is too large for float32 is counted as infinite
        return (yield from read(stack, label))


def _values(stack: Stack, label: str) -> Steps[Voxels]:
    slices = stack.slices
    shape = len(slices), slices[0].rows, slices[0].columns
    stored_type = np.result_type(*{one.stored for one in slices})
    values: Values | None = None

    def target(rank: int) -> NDArray[Any] | None:
        return values.target(rank, slices[rank].stored) if values is not None else None

    padded = 0
    for done, (rank, stored) in enumerate(read_pictures(slices, target), start=1):
        _check_size(slices[rank], stored)
        if values is None:  # only now it is proven that a picture of this size exists
            _refuse_too_large(shape, stored_type, slices[0])
            values = Values(shape, stored_type, [one.scaling for one in slices])
        padding = _padding(slices[rank], stored)
        values.put(rank, stored, slices[rank].scaling)
        if padding is not None:
            padded += int(np.count_nonzero(padding))
            if slices[rank].inverted:  # turned over, what nobody measured would be bright
                values.fill(rank, padding, _darkest(slices[rank]))
        if done % PAUSE == 0:
            yield Progress(done, len(slices), "Reading slices")
    assert values is not None
    array, broken = finite(_mixed(stack, values.array()), label)
    return Voxels(array, None, (*_value_notices(stack, padded), *broken))


def _colors(stack: Stack, label: str) -> Steps[Voxels]:
    slices = stack.slices
    colors: NDArray[np.uint8] | None = None
    for done, (rank, stored) in enumerate(read_pictures(slices, lambda _: None), start=1):
        _check_size(slices[rank], stored)
        if colors is None:
            shape = len(slices), slices[0].rows, slices[0].columns, 3
            _refuse_too_large(shape, np.dtype(np.uint8), slices[0])
            colors = np.empty(shape, np.uint8)
        colors[rank] = stored
        if done % PAUSE == 0:
            yield Progress(done, len(slices), "Reading slices")
    assert colors is not None
    color = _mixed(stack, colors.transpose(2, 1, 0, 3))
    return Voxels(brightness(color), color, _value_notices(stack, 0))


def _refuse_too_large(shape: tuple[int, ...], stored: np.dtype[Any], one: Slice) -> None:
    """Refuse what cannot be in memory: numpy would promise it, and the system kill the process that uses it."""
    import psutil

    size = float(np.prod(shape, dtype=float)) * stored.itemsize
    if size > psutil.virtual_memory().available:
        raise GradCamError(
            f"The series of “{one.header.path}” needs {size / 2**30:.1f} GiB of memory or more, which is not there: "
            "read a part of it."
        )


def _check_size(one: Slice, stored: NDArray[Any]) -> None:
    if stored.shape[:2] != (one.rows, one.columns):
        raise GradCamError(
            f"“{one.header.path}” holds a picture of {' × '.join(map(str, stored.shape))} pixels and says "
            f"{one.rows} × {one.columns}: export it again."
        )


def _padding(one: Slice, stored: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Mark what was not measured."""
    if one.padding is None:
        return None
    lowest, highest = one.padding
    return stored == lowest if lowest == highest else (stored >= lowest) & (stored <= highest)


def _darkest(one: Slice) -> float:
    return min(one.scaling.of(one.scaling.lowest), one.scaling.of(one.scaling.highest))


def _mixed(stack: Stack, array: NDArray[Any]) -> NDArray[Any]:
    """Interpolate slices onto the even grid of a stack that is resampled."""
    if stack.mixture is None:
        return array
    out = np.empty((*array.shape[:2], stack.depth, *array.shape[3:]), array.dtype, order="F")
    for rank, (lower, upper, share) in enumerate(stack.mixture):
        if share in (0.0, 1.0):
            out[:, :, rank] = array[:, :, upper if share else lower]
            continue
        mixed = (1 - share) * array[:, :, lower] + share * array[:, :, upper].astype(np.float64)
        out[:, :, rank] = np.round(mixed) if array.dtype.kind in "iu" else mixed
    return out


def _value_notices(stack: Stack, padded: int) -> tuple[str, ...]:
    first, notices = stack.slices[0], []
    asked = [one for one in stack.slices if photometric_of(one.header) == "MONOCHROME1"]
    if asked and asked[0].inverted:
        notices.append(
            "The file stores bright as low (MONOCHROME1): its values were turned over, so that high is bright."
        )
    elif asked:
        notices.append(
            "The file asks to be shown inverted (MONOCHROME1): its values are kept, and high values are shown bright."
        )
    if padded:
        share = percent(padded, len(stack.slices) * first.rows * first.columns)
        notices.append(f"{share} % of the voxels are padding, which nobody measured (Pixel Padding Value).")
    if any(one.header.told("LossyImageCompression") == "01" for one in stack.slices):
        notices.append("The pictures were compressed with loss.")
    return tuple(notices)
