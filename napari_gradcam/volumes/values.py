"""Stored numbers to a scan's own units: rescaling, and the smallest type that keeps every value."""

from __future__ import annotations

import math
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from napari_gradcam.errors import GradCamError
from napari_gradcam.volumes.wording import percent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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

    def exactly(self, stored: int) -> float:
        """Give the value of a stored whole number, whole and exact where slope and intercept are whole."""
        if self.slope % 1 or self.intercept % 1:
            return self.of(stored)
        return stored * int(self.slope) + int(self.intercept)

    def inverted(self) -> Scaling:
        """Give the scaling that turns the lowest stored number into the value of the highest, and the reverse."""
        return self._replace(slope=-self.slope, intercept=self.slope * (self.lowest + self.highest) + self.intercept)


class Values:
    """The values of a scan, filled slice by slice.

    Whole numbers stay whole where every slope and intercept is a whole number: in the stored type where nothing
    changes, else in the smallest of int16, int32 and int64 that holds what was read so far; CT stays int16. Everything
    else is float32, and so is what another slope than 1 or -1 makes of 16 bits, which float32 keeps in half the memory.

    A volume that must be widened is there twice for a moment: whether it must is known from its voxels alone.

    Parameters
    ----------
    shape
        ``(slice, row, column)``.
    stored
        The type that holds what every slice stores.
    scalings
        One for each slice, or one for all.
    label
        What the person calls the scan, where it is too large for the memory.

    Attributes
    ----------
    rounding
        By how much float32 moved whole numbers that it cannot tell apart, at most; 0 where it kept all.
    """

    def __init__(
        self, shape: tuple[int, int, int], stored: DTypeLike, scalings: Sequence[Scaling], label: str = "The scan"
    ) -> None:
        self.rounding = 0.0
        self._label, self._scalings, self._lock = label, scalings, Lock()
        self._stored = np.dtype(stored)
        self._array: NDArray[Any] = room(shape, _first_type(self._stored, scalings), label)
        self._filled: list[int] = []
        self._settled = self._is_settled()

    def target(self, index: int, stored: np.dtype[Any]) -> NDArray[Any] | None:
        """Give the memory of a slice as an array of the stored type, to read it there before :meth:`put`.

        None where values are of another size than stored numbers.
        """
        array = self._array  # another thread may widen it
        whole = array.dtype.kind in "iu" and stored.kind in "iu"
        if array.dtype.itemsize != stored.itemsize or not (whole or array.dtype == stored):
            return None
        place: NDArray[Any] = array[index].view(stored)
        return place

    def put(self, index: int, stored: NDArray[Any], scaling: Scaling) -> None:
        """Write the values of one slice, ``(row, column)``; fractions are computed in float64 and rounded once.

        `stored` may lie in the memory that :meth:`target` gave. Slices may be put by several threads.
        """
        if self._settled:
            _rescale(self._array[index], stored, scaling)
            return
        with self._lock:
            lowest, highest = sorted(scaling.exactly(int(end)) for end in (stored.min(), stored.max()))
            if self._array.dtype.kind == "i" and not _holds(self._array.dtype, lowest, highest):
                self._widen(next((one for one in _WHOLE if _holds(one, lowest, highest)), np.dtype(np.float32)))
            if self._array.dtype.kind == "f":
                step = _step(max(abs(lowest), abs(highest)))
                self.rounding = max(self.rounding, step / 2 if step > abs(scaling.slope) else 0.0)
            _rescale(self._array[index], stored, scaling)
            self._filled.append(index)

    def fill(self, index: int, where: NDArray[np.bool_], value: float) -> None:
        """Set some voxels of a slice."""
        with self._lock:
            self._array[index][where] = value

    def array(self) -> NDArray[Any]:
        """Give the volume, ``(column, row, slice)``: Fortran order, slices ``[:, :, k]`` contiguous."""
        return self._array.T

    def _widen(self, wider: np.dtype[Any]) -> None:
        array = room(self._array.shape, wider, self._label)
        for index in self._filled:  # what was not read yet takes no memory in either
            array[index] = self._array[index]
        self._array = array
        self._settled = self._is_settled()

    def _is_settled(self) -> bool:
        """Whether the type keeps whatever can be stored, so that no slice has to be looked at."""
        if self._stored.kind == "f":
            return True
        ends = [one.of(end) for one in self._scalings for end in (one.lowest, one.highest)]
        if self._array.dtype.kind == "f":
            return _step(max(map(abs, ends))) <= min(abs(one.slope) for one in self._scalings)
        return _as_stored(self._scalings) or _holds(self._array.dtype, min(ends), max(ends))


def rounding_notices(rounding: float) -> tuple[str, ...]:
    """Say that whole numbers were rounded; see :attr:`Values.rounding`."""
    if not rounding:
        return ()
    return (f"The numbers have more digits than 32-bit fractions keep: values were rounded by up to {rounding:g}.",)


_WHOLE = tuple(map(np.dtype, (np.int16, np.int32, np.int64)))
_MOST_WHOLE = 2.0**53
"""Slopes and intercepts below this are whole numbers where they look like it."""


def _first_type(stored: np.dtype[Any], scalings: Sequence[Scaling]) -> np.dtype[Any]:
    if stored.kind != "f" and _as_stored(scalings):
        return stored.newbyteorder("=")
    numbers = [number for one in scalings for number in (one.slope, one.intercept)]
    whole = all(number % 1 == 0 and abs(number) < _MOST_WHOLE for number in numbers)
    if stored.kind == "f" or not whole or (stored.itemsize < 4 and any(abs(one.slope) != 1 for one in scalings)):
        return np.dtype(np.float32)
    return np.dtype(np.int16)


def _as_stored(scalings: Sequence[Scaling]) -> bool:
    return all(one.slope == 1 and one.intercept == 0 for one in scalings)


def _holds(kind: np.dtype[Any], lowest: float, highest: float) -> bool:
    limits = np.iinfo(kind)
    return bool(limits.min <= lowest and highest <= limits.max)


def _step(value: float) -> float:
    """Give how far numbers of float32 lie apart where a value lies: 24 binary digits hold each."""
    return math.ldexp(1.0, math.frexp(value)[1] - 24)


def _rescale(out: NDArray[Any], stored: NDArray[Any], scaling: Scaling) -> None:
    slope, intercept = scaling.slope, scaling.intercept
    if stored.dtype.kind in "iu" and stored.dtype.itemsize == out.dtype.itemsize:
        stored = stored.view(out.dtype) if out.dtype.kind in "iu" else stored
    if slope == 1 and intercept == 0:
        if stored.dtype != out.dtype or not np.may_share_memory(stored, out):
            out[...] = stored
    elif out.dtype.kind in "iu":
        # Sums and products of whole numbers are right in any type that holds the result, even where a step on the way
        # wraps around.
        times, plus = (np.array(int(number)).astype(out.dtype) for number in (slope, intercept))
        if abs(slope) != 1:
            stored = np.multiply(stored, times, out=out, dtype=out.dtype, casting="unsafe")
        (np.subtract if slope == -1 else np.add)(plus, stored, out=out, dtype=out.dtype, casting="unsafe")
    else:
        out[...] = stored.astype(np.float64) * slope + intercept


def room(
    shape: tuple[int, ...], kind: DTypeLike, label: str, *, order: Literal["C", "F"] = "C", beside: int = 0
) -> NDArray[Any]:
    """Give memory for an array, not yet filled.

    Parameters
    ----------
    shape, kind, order
        Of the array.
    label
        What the person calls the scan.
    beside
        Bytes that will be needed beside it.

    Raises
    ------
    GradCamError
        If so much is not free: numpy would promise it, and the system kill the process that uses it.
    """
    refuse_too_large(math.prod(shape) * np.dtype(kind).itemsize + beside, label)
    try:
        return np.empty(shape, kind, order)
    except MemoryError:
        raise _too_large(math.prod(shape) * np.dtype(kind).itemsize, label) from None


def refuse_too_large(size: int, label: str) -> None:
    """Refuse what needs more bytes of memory than are free.

    Raises
    ------
    GradCamError
        If it does.
    """
    import psutil

    if size > psutil.virtual_memory().available:
        raise _too_large(size, label)


def _too_large(size: int, label: str) -> GradCamError:
    return GradCamError(
        f"{label} needs {size / 2**30:.1f} GiB of memory, more than is free: close other programs or crop the scan."
    )


def brightness(color: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Give the brightness of colours, ``(..., 3)``: the Y of YBR_FULL (DICOM PS3.3 C.7.6.3.1.2, after ITU-R BT.601)."""
    bright = np.empty_like(color[..., 0])
    for part in parts(bright):
        # 16 binary digits behind the point, rounded: exact at black, white and every grey.
        red, green, blue = (color[part][..., channel].astype(np.uint32) for channel in range(3))
        bright[part] = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16
    return bright


_AT_ONCE = 1 << 15
"""Numbers that are converted at once, where a step on the way takes several times the memory of the result."""


def parts(array: NDArray[Any]) -> Iterator[tuple[slice, ...]]:
    """Cut an array into parts that lie together in memory."""
    if not array.ndim:
        yield ()
        return
    axis = max(range(array.ndim), key=lambda n: (array.shape[n] > 1, abs(array.strides[n])))
    thick = max(1, _AT_ONCE * array.shape[axis] // max(array.size, 1))
    for start in range(0, array.shape[axis], thick):
        yield (*[slice(None)] * axis, slice(start, start + thick))


def colours(values: NDArray[Any]) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Give red, green and blue from 0 to 255, ``(..., 3)``, and what must be said of it.

    Parameters
    ----------
    values
        ``(..., 3)``, or ``(..., 4)`` with a transparency, which is left out. Fractions are taken from 0 to 1, as napari
        and matplotlib show them; bytes are shared, not copied.
    """
    told = ("The colours' transparency is left out.",) if values.shape[-1] == 4 else ()
    values = values[..., :3]
    if values.dtype == np.uint8:
        return values, told
    color = np.empty_like(values, np.uint8)
    for part in parts(color[..., 0]):
        color[part] = _bytes(values[part])
    return color, told


def _bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    if values.dtype.kind == "f":
        values = np.rint(np.clip(np.nan_to_num(values, posinf=1, neginf=0), 0, 1) * 255)
    elif values.dtype.kind == "b":
        values = values * np.uint8(255)
    return values.astype(np.uint8)


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
