"""The voxels of a stack: decoded slice by slice into one array, in the scan's own units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_gradcam.errors import GradCamError
from napari_gradcam.progress import Progress
from napari_gradcam.volumes.dicom.pixels import read_pictures
from napari_gradcam.volumes.dicom.stored import photometric_of
from napari_gradcam.volumes.values import Values, brightness, finite, parts, room, rounding_notices
from napari_gradcam.volumes.wording import percent

if TYPE_CHECKING:
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
    sink = _Colors(stack, label) if slices[0].in_color else _Greys(stack, label)
    done = 0
    for count in read_pictures(slices, sink):
        done += count
        yield Progress(done, len(slices), "Reading slices")
    return sink.voxels()


class _Greys:
    """Gathers slices of one value for each pixel."""

    def __init__(self, stack: Stack, label: str) -> None:
        self._stack, self._label, self._slices = stack, label, stack.slices
        self._shift, self._room = _places(stack)
        self._values: Values | None = None
        self._padded = [0] * len(stack.slices)
        self._unmeasured: dict[int, NDArray[np.uint8]] = {}

    def target(self, rank: int) -> NDArray[Any] | None:
        return None if self._values is None else self._values.target(self._shift + rank, self._slices[rank].stored)

    def take(self, rank: int, stored: NDArray[Any]) -> None:
        one = self._slices[rank]
        _check_size(one, stored)
        if self._values is None:  # only now it is proven that a picture of this size exists
            kinds = {one.stored for one in self._slices}
            shape, scalings = (self._room, one.rows, one.columns), [one.scaling for one in self._slices]
            self._values = Values(shape, np.result_type(*kinds), scalings, self._label)
        padding = _padding(one, stored)
        with np.errstate(over="ignore", invalid="ignore"):  # what is too large for float32 is counted as infinite
            self._values.put(self._shift + rank, stored, one.scaling)
        if padding is not None and padding.any():
            self._padded[rank] = int(np.count_nonzero(padding))
            if one.stored.kind == "f":  # mostly as low as numbers go; what was measured is known once all is read
                self._unmeasured[rank] = np.packbits(padding)
            elif one.inverted:  # turned over, what nobody measured would be bright
                self._values.fill(self._shift + rank, padding, _darkest(one))

    def voxels(self) -> Voxels:
        assert self._values is not None
        array = self._values.array()
        if self._unmeasured:
            self._fill_unmeasured(array[:, :, self._shift :])
        array, broken = finite(_mixed(self._stack, array, self._shift), self._label)
        told = rounding_notices(self._values.rounding)
        return Voxels(array, None, (*_value_notices(self._stack, sum(self._padded)), *told, *broken))

    def _fill_unmeasured(self, array: NDArray[Any]) -> None:
        """Set padding of floating point numbers to the lowest that was measured: a network reads it too."""
        lowest = np.inf
        for rank in range(len(self._slices)):
            measured = np.isfinite(array[:, :, rank].T)
            if rank in self._unmeasured:
                measured &= ~self._padding_of(rank)
            lowest = min(lowest, array[:, :, rank].T[measured].min(initial=np.inf))
        for rank in self._unmeasured:
            array[:, :, rank].T[self._padding_of(rank)] = lowest if np.isfinite(lowest) else 0

    def _padding_of(self, rank: int) -> NDArray[np.bool_]:
        one = self._slices[rank]
        bits = np.unpackbits(self._unmeasured[rank], count=one.rows * one.columns)
        return bits.reshape(one.rows, one.columns).view(np.bool_)


class _Colors:
    """Gathers slices in colours."""

    def __init__(self, stack: Stack, label: str) -> None:
        self._stack, self._label = stack, label
        self._shift, self._room = _places(stack)
        self._colors: NDArray[np.uint8] | None = None

    def target(self, rank: int) -> NDArray[Any] | None:
        return None

    def take(self, rank: int, stored: NDArray[Any]) -> None:
        one = self._stack.slices[rank]
        _check_size(one, stored)
        if self._colors is None:
            pixels = self._room * one.rows * one.columns
            self._colors = room((self._room, one.rows, one.columns, 3), np.uint8, self._label, beside=pixels)
        self._colors[self._shift + rank] = stored

    def voxels(self) -> Voxels:
        assert self._colors is not None
        color = _mixed(self._stack, self._colors.transpose(2, 1, 0, 3), self._shift)
        return Voxels(brightness(color), color, _value_notices(self._stack, 0))


def _places(stack: Stack) -> tuple[int, int]:
    """Say how far behind its rank each slice is read into an array, and for how many slices that has room.

    What is resampled is mixed in the same array, from its start: each slice of the even grid must lie before all that
    the next ones are mixed from.
    """
    if stack.mixture is None:
        return 0, len(stack.slices)
    shift = max(rank - (upper if share == 1 else lower) for rank, (lower, upper, share) in enumerate(stack.mixture))
    return shift, max(stack.depth, shift + len(stack.slices))


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
    marked: NDArray[np.bool_]
    if np.isnan(lowest):
        marked = np.isnan(stored)
    elif lowest == highest:
        marked = stored == lowest
    else:
        marked = (stored >= lowest) & (stored <= highest)
    return marked


def _darkest(one: Slice) -> float:
    return min(one.scaling.of(one.scaling.lowest), one.scaling.of(one.scaling.highest))


def _mixed(stack: Stack, array: NDArray[Any], shift: int) -> NDArray[Any]:
    """Interpolate slices onto the even grid of a stack that is resampled, in place; see :func:`_places`."""
    if stack.mixture is None:
        return array
    for rank, (lower, upper, share) in enumerate(stack.mixture):
        below, above = array[:, :, shift + lower], array[:, :, shift + upper]
        if share in (0.0, 1.0):
            array[:, :, rank] = above if share else below
            continue
        for part in parts(below):
            mixed = (1 - share) * below[part].astype(np.float64) + share * above[part].astype(np.float64)
            array[:, :, rank][part] = np.round(mixed) if array.dtype.kind in "iu" else mixed
    return array[:, :, : stack.depth]


def _value_notices(stack: Stack, padded: int) -> tuple[str, ...]:
    first, notices = stack.slices[0], []
    asked = [one for one in stack.slices if photometric_of(one.header) == "MONOCHROME1"]
    some = "" if len(asked) == len(stack.slices) else f" in {len(asked)} of {len(stack.slices)} slices"
    there = " there" if some else ""
    if asked and asked[0].inverted:
        notices.append(
            f"The file stores bright as low{some} (MONOCHROME1): its values were turned over{there}, so that high is "
            "bright."
        )
    elif asked:
        notices.append(
            f"The file asks to be shown inverted{some} (MONOCHROME1): its values are kept, and high values are shown "
            "bright."
        )
    if padded:
        share = percent(padded, len(stack.slices) * first.rows * first.columns)
        filled = ", and were set to the lowest measured value" if first.stored.kind == "f" else ""
        notices.append(f"{share} % of the voxels are padding, which nobody measured (Pixel Padding Value){filled}.")
    if any(one.header.told("LossyImageCompression") == "01" for one in stack.slices):
        notices.append("The pictures were compressed with loss.")
    return tuple(notices)
