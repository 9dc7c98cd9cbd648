"""Stored numbers to a scan's own units: rescaling, and the smallest type that keeps every value."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_gradcam.errors import GradCamError
from napari_gradcam.volumes.wording import percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import DTypeLike, NDArray


class Scaling(NamedTuple):
    """``value = stored * slope + intercept``, and the numbers that can be stored."""

    slope: float
    intercept: float
    lowest: float
    highest: float

    def of(self, stored: float) -> float:
        """Give the value of a stored number."""
        return stored * self.slope + self.intercept

    def inverted(self) -> Scaling:
        """Give the scaling that turns the lowest stored number into the value of the highest, and the reverse."""
        return self._replace(slope=-self.slope, intercept=self.slope * (self.lowest + self.highest) + self.intercept)


class Values:
    """The values of a scan, filled slice by slice.

    Whole numbers stay whole where every slope is 1 or -1 and every intercept is a whole number: in the stored type
    where nothing changes, else in int16 for as long as the values fit, which CT does, else in int32. Everything else is
    float32.

    Parameters
    ----------
    shape
        ``(slice, row, column)``.
    stored
        The type that holds what every slice stores.
    scalings
        One for each slice, or one for all.
    """

    def __init__(self, shape: tuple[int, int, int], stored: DTypeLike, scalings: Sequence[Scaling]) -> None:
        self._array: NDArray[Any] = np.empty(shape, dtype=_first_type(np.dtype(stored), scalings))
        self._widest = _widest(scalings) if self._array.dtype == np.int16 else None
        self._lock = Lock()

    def target(self, index: int, stored: np.dtype[Any]) -> NDArray[Any] | None:
        """Give the memory of a slice as an array of the stored type, to read it there before :meth:`put`.

        None where values are of another size than stored numbers.
        """
        whole = self._array.dtype.kind in "iu" and stored.kind in "iu"
        if self._array.dtype.itemsize != stored.itemsize or not (whole or self._array.dtype == stored):
            return None
        place: NDArray[Any] = self._array[index].view(stored)
        return place

    def put(self, index: int, stored: NDArray[Any], scaling: Scaling) -> None:
        """Write the values of one slice, ``(row, column)``; fractions are computed in float64 and rounded once.

        `stored` may lie in the memory that :meth:`target` gave. Slices may be put by several threads.
        """
        if self._widest is None:
            _rescale(self._array[index], stored, scaling)
            return
        with self._lock:
            limits = np.iinfo(self._array.dtype)
            ends = scaling.of(float(stored.min())), scaling.of(float(stored.max()))
            if self._widest is not None and (min(ends) < limits.min or max(ends) > limits.max):
                self._array, self._widest = self._array.astype(self._widest), None
            _rescale(self._array[index], stored, scaling)

    def fill(self, index: int, where: NDArray[np.bool_], value: float) -> None:
        """Set some voxels of a slice."""
        self._array[index][where] = value

    def array(self) -> NDArray[Any]:
        """Give the volume, ``(column, row, slice)``: Fortran order, slices ``[:, :, k]`` contiguous."""
        return self._array.T


def _widest(scalings: Sequence[Scaling]) -> np.dtype[Any] | None:
    """Give the type to fall back to when int16 is too small, None where nothing that can be stored exceeds it."""
    ends = [one.of(end) for one in scalings for end in (one.lowest, one.highest)]
    for candidate in (np.int16, np.int32):
        limits = np.iinfo(candidate)
        if limits.min <= min(ends) and max(ends) <= limits.max:
            return None if candidate is np.int16 else np.dtype(candidate)
    return np.dtype(np.float32)


def _first_type(stored: np.dtype[Any], scalings: Sequence[Scaling]) -> np.dtype[Any]:
    if stored.kind == "f" or any(abs(one.slope) != 1 or one.intercept % 1 for one in scalings):
        return np.dtype(np.float32)
    if all(one.slope == 1 and one.intercept == 0 for one in scalings):
        return stored.newbyteorder("=")
    return np.dtype(np.int16)


def _rescale(out: NDArray[Any], stored: NDArray[Any], scaling: Scaling) -> None:
    slope, intercept = scaling.slope, scaling.intercept
    if stored.dtype.kind in "iu" and stored.dtype.itemsize == out.dtype.itemsize:
        stored = stored.view(out.dtype) if out.dtype.kind in "iu" else stored
    if slope == 1 and intercept == 0:
        if stored.dtype != out.dtype or not np.may_share_memory(stored, out):
            out[...] = stored
    elif out.dtype.kind in "iu":
        # Sums of whole numbers are right in any type that holds the result, even where a step on the way wraps around.
        whole = np.array(int(intercept)).astype(out.dtype)
        (np.add if slope == 1 else np.subtract)(whole, stored, out=out, dtype=out.dtype, casting="unsafe")
    else:
        out[...] = stored.astype(np.float64) * slope + intercept


def brightness(color: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Give the brightness of colours, ``(..., 3)``: the Y of YBR_FULL (DICOM PS3.3 C.7.6.3.1.2, after ITU-R BT.601)."""
    # 16 binary digits behind the point, rounded: exact at black, white and every grey.
    red, green, blue = (color[..., channel].astype(np.uint32) for channel in range(3))
    return ((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16).astype(np.uint8)


def colours(values: NDArray[Any]) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Give red, green and blue from 0 to 255, ``(..., 3)``, and what must be said of it.

    Parameters
    ----------
    values
        ``(..., 3)``, or ``(..., 4)`` with a transparency, which is left out. Fractions are taken from 0 to 1, as napari
        and matplotlib show them.
    """
    told = ("The colours' transparency is left out.",) if values.shape[-1] == 4 else ()
    values = values[..., :3]
    if values.dtype.kind == "f":
        values = np.rint(np.clip(np.nan_to_num(values, posinf=1, neginf=0), 0, 1) * 255)
    elif values.dtype.kind == "b":
        values = values * 255
    return values.astype(np.uint8), told


def finite(array: NDArray[Any], label: str) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Set what is no number to zero, and say in a notice how much of it there was.

    A network answers one NaN with NaN everywhere, and statistical maps are full of them outside of the brain.

    Raises
    ------
    GradCamError
        If there is not one finite value.
    """
    # One sum tells of any NaN or infinity without a mask as large as the volume.
    if array.dtype.kind != "f" or np.isfinite(array.sum(dtype=np.float64)):
        return array, ()
    array, count = (array if array.flags.writeable else array.copy(order="K")), 0
    for k in range(array.shape[2]):
        broken = ~np.isfinite(array[:, :, k])
        count += int(broken.sum())
        array[:, :, k][broken] = 0
    if count == array.size:
        raise GradCamError(f"{label} holds no finite value: export the scan again.")
    if not count:  # the sum was too large for itself
        return array, ()
    return array, (
        f"{count:,} voxels ({percent(count, array.size)} %) hold no number (NaN or infinite) and were set to 0.",
    )
