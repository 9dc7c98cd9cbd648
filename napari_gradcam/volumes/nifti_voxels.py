"""The voxels of a NIfTI file: unpacked straight into the array that is kept, one frame of however many there are."""

from __future__ import annotations

import bz2
import math
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from isal import igzip

from napari_gradcam.errors import GradCamError
from napari_gradcam.progress import Progress
from napari_gradcam.volumes.values import Scaling, Values, brightness, room, rounding_notices
from napari_gradcam.volumes.wording import reason

if TYPE_CHECKING:
    from io import BufferedIOBase, RawIOBase
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_gradcam.progress import Steps

_STAGE = "Reading the scan"
_PASSED_AT_ONCE = 1 << 20
"""Bytes of a packed file that are unpacked at once where nothing of them is kept."""


class Packing(Enum):
    """How a file is packed; the value is the most bytes that one byte of it can stand for."""

    NONE = 1
    GZIP = 1100  # 1,032 by the format (deflate), and some air
    BZIP2 = 1_500_000  # a block of 900,000 bytes holds 46 million equal ones and packs into 33

    @classmethod
    def of(cls, path: Path) -> Packing:
        """Tell by its first bytes; names are often wrong after a download that unpacks by itself.

        Raises
        ------
        OSError
            If the file cannot be read.
        """
        if path.name.lower().endswith(".img"):  # begins with a voxel, and that may be any bytes
            return cls.NONE
        with path.open("rb") as file:
            mark = file.read(3)
        return cls.GZIP if mark[:2] == b"\x1f\x8b" else cls.BZIP2 if mark == b"BZh" else cls.NONE

    def open(self, path: Path) -> BufferedIOBase | RawIOBase:
        """Open a file as it reads unpacked. Checksums are compared where a packed file ends."""
        if self is Packing.GZIP:
            return cast("BufferedIOBase", igzip.open(path, "rb"))  # type: ignore[no-untyped-call]
        return bz2.open(path, "rb") if self is Packing.BZIP2 else path.open("rb", buffering=0)


@dataclass(frozen=True)
class Stored:
    """Where the voxels of a file lie, and as which numbers.

    Attributes
    ----------
    path, packing
        The file that holds them.
    offset
        Bytes before the first voxel, unpacked.
    shape
        Voxels of one frame along ``(i, j, k)``, the first running fastest.
    frames
        How many frames follow one another.
    dtype
        The stored type: numbers of any byte order, or bytes where there are colours.
    slope, intercept
        What makes values of stored numbers.
    channels
        Colour channels a voxel, 3 or 4 of which the first are red, green and blue; 0 where there are none.
    planar
        Whether each channel is a volume of its own, one after another, rather than each voxel's side by side.
    """

    path: Path
    packing: Packing
    offset: int
    shape: tuple[int, int, int]
    frames: int
    dtype: np.dtype[Any]
    slope: float = 1.0
    intercept: float = 0.0
    channels: int = 0
    planar: bool = False

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame, unpacked."""
        i, j, k = self.shape
        return i * j * k * self.dtype.itemsize * (self.channels or 1)


class Voxels(NamedTuple):
    """Values ``(i, j, k)``, of colours their brightness; the colours, ``(i, j, k, 3)``; and what must be said."""

    array: NDArray[Any]
    color: NDArray[np.uint8] | None
    notices: tuple[str, ...]


def read_voxels(stored: Stored, frame: int) -> Steps[Voxels]:
    """Read one frame, from 0, in steps; of a packed file, prove by its checksum that it is undamaged.

    Whole numbers stay as stored unless slope and intercept make others of them; fractions are float32, and of complex
    numbers it is their magnitude. What is kept is the answer and one slice, never a second copy.

    Raises
    ------
    GradCamError
        If the file is cut short or damaged, or does not fit into memory.
    """
    try:
        slices = _Slices(stored)
        yield from _fill(stored, frame, slices)
        return slices.voxels()
    except GradCamError:
        raise
    except Exception as error:  # gzip, zlib and the file system raise a dozen types on damaged files
        raise GradCamError(
            f"“{stored.path}” is cut short or damaged ({reason(error)}): copy or download it again."
        ) from error


class _Slices:
    """Memory for each slice as it is stored, and what becomes of it.

    Colours are kept as their bytes, a slice of bytes for each slice; what changes its type passes through one slice.
    """

    def __init__(self, stored: Stored) -> None:
        i, j, k = stored.shape
        self._stored, label = stored, f"“{stored.path}”"
        if stored.channels:
            i, k = (i, k * stored.channels) if stored.planar else (i * stored.channels, k)
        self.count = k
        self._scaling = _scaling(stored)
        self._kept: NDArray[Any] | None = None
        if self._scaling is None:
            bright = math.prod(stored.shape) if stored.channels else 0
            self._kept = room((i, j, k), stored.dtype.newbyteorder("="), label, order="F", beside=bright)
        else:
            kind = np.dtype(np.float32) if stored.dtype.kind == "c" else stored.dtype
            self._values = Values((k, j, i), kind, [self._scaling], label)
            self._passing = np.empty((i, j), stored.dtype, order="F")

    def memory(self, k: int) -> NDArray[Any]:
        """Give the memory to read a slice into, ``(i, j)``, its bytes one after another."""
        return self._passing if self._kept is None else self._kept[:, :, k]

    def put(self, k: int) -> None:
        """Take over a slice that was read."""
        if self._kept is not None:
            if not self._stored.dtype.isnative:
                self._kept[:, :, k].byteswap(inplace=True)
            return
        assert self._scaling is not None
        read = self._passing.astype(self._stored.dtype.newbyteorder("="), copy=False)
        with np.errstate(all="ignore"):  # what is too large for float32 is counted as infinite by who asked
            if read.dtype.kind == "c":
                read = np.abs(read * self._stored.slope + self._stored.intercept)
            self._values.put(k, read.T, self._scaling)

    def color(self) -> NDArray[np.uint8] | None:
        """Give the colours, a view of what was read."""
        if not self._stored.channels or self._kept is None:
            return None
        shape, channels = self._stored.shape, self._stored.channels
        if self._stored.planar:
            return self._kept.reshape((*shape, channels), order="F")[..., :3]
        return np.moveaxis(self._kept.reshape((channels, *shape), order="F"), 0, -1)[..., :3]

    def voxels(self) -> Voxels:
        """Give the values."""
        color = self.color()
        if color is not None:
            return Voxels(brightness(color), color, ())
        if self._kept is not None:
            return Voxels(self._kept, None, ())
        return Voxels(self._values.array(), None, rounding_notices(self._values.rounding))


def _scaling(stored: Stored) -> Scaling | None:
    """Give what makes values of the stored numbers, or None where they are the values."""
    if stored.dtype.kind == "c":
        return Scaling(1.0, 0.0, -np.inf, np.inf)  # of the magnitude, once it is scaled
    plain = (stored.slope, stored.intercept) == (1, 0)
    if stored.channels or (plain and (stored.dtype.kind != "f" or stored.dtype.itemsize == 4)):
        return None
    limits = np.iinfo(stored.dtype) if stored.dtype.kind in "iu" else np.finfo(np.float64)
    return Scaling(stored.slope, stored.intercept, float(limits.min), float(limits.max))


def _fill(stored: Stored, frame: int, slices: _Slices) -> Steps[None]:
    total, size = slices.count, stored.frame_bytes
    said_every = -(-total // 100)
    before, after = stored.offset + frame * size, (stored.frames - frame - 1) * size
    with stored.packing.open(stored.path) as stream:
        if stored.packing is Packing.NONE:
            stream.seek(before)
        else:
            yield from _pass_over(stream, before, Progress(0, total, "Passing over what lies before"))
        for k in range(total):
            if k % said_every == 0:
                yield Progress(k, total, _STAGE)
            _read_into(stream, slices.memory(k))
            slices.put(k)
        if stored.packing is not Packing.NONE:
            # To the end, further than the header says: only there is the checksum compared.
            yield from _pass_over(stream, after, Progress(total, total, "Checking the file"), to_the_end=True)


def _read_into(stream: BufferedIOBase | RawIOBase, memory: NDArray[Any]) -> None:
    rest = memory.T.reshape(-1).view(np.uint8).data
    while rest:
        count = stream.readinto(rest)
        if not count:
            raise EOFError("it ends before its last voxel")
        rest = rest[count:]


def _pass_over(
    stream: BufferedIOBase | RawIOBase, count: int, where: Progress, *, to_the_end: bool = False
) -> Steps[None]:
    """Unpack bytes and drop them."""
    scratch = memoryview(bytearray(_PASSED_AT_ONCE))
    while count > 0 or to_the_end:
        yield where
        least = _PASSED_AT_ONCE if to_the_end else min(count, _PASSED_AT_ONCE)
        got = stream.readinto(scratch[:least]) or 0
        count -= got
        if not got:
            if count > 0:
                raise EOFError("it ends before its last voxel")
            return
