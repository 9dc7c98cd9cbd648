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
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_gradcam.progress import Steps
    from napari_gradcam.volumes.dicom.geometry import Stack
    from napari_gradcam.volumes.dicom.slices import Slice


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
    slices = stack.slices
    sink = _Colors(slices) if slices[0].in_color else _Greys(slices)
    done = 0
    for count in read_pictures(slices, sink):
        done += count
        yield Progress(done, len(slices), "Reading slices")
    return sink.voxels(stack, label)


class _Greys:
    """Gathers slices of one value for each pixel."""

    def __init__(self, slices: Sequence[Slice]) -> None:
        self._slices = slices
        self._values: Values | None = None
        self._padded = [0] * len(slices)

    def target(self, rank: int) -> NDArray[Any] | None:
        return None if self._values is None else self._values.target(rank, self._slices[rank].stored)

    def take(self, rank: int, stored: NDArray[Any]) -> None:
        one = self._slices[rank]
        _check_size(one, stored)
        if self._values is None:  # only now it is proven that a picture of this size exists
            self._values = self._room()
        padding = _padding(one, stored)
        with np.errstate(over="ignore", invalid="ignore"):  # what is too large for float32 is counted as infinite
            self._values.put(rank, stored, one.scaling)
        if padding is not None:
            self._padded[rank] = int(np.count_nonzero(padding))
            if one.inverted:  # turned over, what nobody measured would be bright
                self._values.fill(rank, padding, _darkest(one))

    def _room(self) -> Values:
        first = self._slices[0]
        shape, stored_type = (len(self._slices), first.rows, first.columns), {one.stored for one in self._slices}
        _refuse_too_large(shape, np.result_type(*stored_type), first)
        return Values(shape, np.result_type(*stored_type), [one.scaling for one in self._slices])

    def voxels(self, stack: Stack, label: str) -> Voxels:
        assert self._values is not None
        array, broken = finite(_mixed(stack, self._values.array()), label)
        return Voxels(array, None, (*_value_notices(stack, sum(self._padded)), *broken))


class _Colors:
    """Gathers slices in colours."""

    def __init__(self, slices: Sequence[Slice]) -> None:
        self._slices = slices
        self._colors: NDArray[np.uint8] | None = None

    def target(self, rank: int) -> NDArray[Any] | None:
        return None

    def take(self, rank: int, stored: NDArray[Any]) -> None:
        first = self._slices[0]
        _check_size(self._slices[rank], stored)
        if self._colors is None:
            shape = len(self._slices), first.rows, first.columns, 3
            _refuse_too_large(shape, np.dtype(np.uint8), first)
            self._colors = np.empty(shape, np.uint8)
        self._colors[rank] = stored

    def voxels(self, stack: Stack, label: str) -> Voxels:
        assert self._colors is not None
        color = _mixed(stack, self._colors.transpose(2, 1, 0, 3))
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
