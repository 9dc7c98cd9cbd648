"""The pixels of DICOM files, decoded: straight from the file where that is proven to be enough, else by pydicom."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.decoders.base import Decoder, get_decoder
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut
from pydicom.uid import JPEG2000, UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from napari_gradcam.errors import GradCamError
from napari_gradcam.volumes.dicom import jpeg2000
from napari_gradcam.volumes.dicom.codestream import size_of
from napari_gradcam.volumes.dicom.groups import frame_count
from napari_gradcam.volumes.dicom.header import Header, parsed
from napari_gradcam.volumes.dicom.stored import COLORS, bits_of, photometric_of
from napari_gradcam.volumes.wording import printable, reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from napari_gradcam.volumes.dicom.slices import Slice

DECODERS = 2
"""Threads that read and decode."""

BATCH = 32
"""Pictures that are read as they are in one go, by one of them."""

LARGEST_UNPROVEN = 1 << 28
"""A picture of more bytes than this must come from a thousandth of them at least, or it is a decompression bomb."""

_LITTLE_ENDIAN = (ImplicitVRLittleEndian, ExplicitVRLittleEndian)
_NUMBERS = {"PixelData": ((8, 16, 32), "iu"), "FloatPixelData": ((32,), "f"), "DoubleFloatPixelData": ((64,), "f")}

_BEST = {RLELossless: "pylibjpeg", JPEG2000Lossless: jpeg2000.LABEL, JPEG2000: jpeg2000.LABEL}
"""The quickest decoder of several: pylibjpeg's RLE takes a sixth of the time of pydicom's own, and imagecodecs lets
another thread decode at the same time."""

jpeg2000.install()


class Sink(Protocol):
    """Where pictures go; both are called from several threads, once for each slice, but for the first slice alone."""

    def target(self, rank: int) -> NDArray[Any] | None:
        """Give memory that a slice may be read into as it is stored, or None."""

    def take(self, rank: int, stored: NDArray[Any]) -> None:
        """Take what is stored of a slice: ``(row, column)``, or ``(row, column, 3)`` of colours from 0 to 255."""


def read_pictures(slices: Sequence[Slice], sink: Sink) -> Iterator[int]:
    """Decode slices, in the order of their files, and hand them on.

    Parameters
    ----------
    slices
        The slices of a stack.
    sink
        Where they go. The first slice is handed on before another is begun: it proves that there is a picture.

    Yields
    ------
    int
        How many slices were handed on since the last time.

    Raises
    ------
    GradCamError
        If the pixels of a file are damaged, or nothing installed can decode them.
    """
    with ThreadPoolExecutor(DECODERS) as pool:
        waiting: deque[Future[int]] = deque()
        begun = False
        for job in _jobs(slices, sink):
            waiting.append(pool.submit(job))
            if not begun or len(waiting) > DECODERS:
                yield waiting.popleft().result()
            begun = True
        while waiting:
            yield waiting.popleft().result()


def _jobs(slices: Sequence[Slice], sink: Sink) -> Iterator[Callable[[], int]]:
    """Give the work in pieces: a few pictures that are read as they are, or one that is decoded."""
    files: dict[Header, dict[int, int]] = {}
    for rank, one in enumerate(slices):
        files.setdefault(one.header, {})[one.frame] = rank
    batch: list[tuple[int, Slice]] = []
    most = 1
    for header, frames in files.items():
        if not is_straight(header):
            for frame, make in _makers(header, max(frames) + 1):
                if frame in frames:
                    yield partial(_decoded, sink, frames[frame], header, make)
            continue
        for rank in frames.values():
            batch.append((rank, slices[rank]))
            if len(batch) == most:
                yield partial(_straight, sink, batch)
                batch, most = [], BATCH
    if batch:
        yield partial(_straight, sink, batch)


def is_straight(header: Header) -> bool:
    """Whether the pixels are numbers in a row, little endian, so that they can be read from the file as they are."""
    pixels = header.pixels
    if pixels is None or pixels.is_encapsulated or pixels.is_deflated or header.syntax not in _LITTLE_ENDIAN:
        return False
    sizes, _ = _NUMBERS[pixels.keyword]
    return (
        photometric_of(header) not in COLORS
        and not header.get("ModalityLUTSequence")
        and bits_of(header)[0] in sizes
        and pixels.length >= _frame_bytes(header, frame_count(header))
    )


def _frame_bytes(header: Header, frames: int = 1) -> int:
    """Count the bytes of decoded pictures; single bits of one follow on those of another."""
    bits = int(header.get("BitsAllocated") or 0) * int(header.get("SamplesPerPixel", 1))
    return (frames * int(header.get("Rows")) * int(header.get("Columns")) * bits + 7) // 8


def _straight(sink: Sink, batch: Sequence[tuple[int, Slice]]) -> int:
    """Read pictures as they are stored."""
    for rank, one in batch:
        header, place = one.header, sink.target(rank)
        assert header.pixels is not None
        stored = np.empty((one.rows, one.columns), one.stored) if place is None else place
        try:
            with header.path.open("rb", buffering=0) as file:
                file.seek(header.pixels.start + one.frame * _frame_bytes(header))
                _fill(file, stored)
        except OSError as error:
            raise GradCamError(
                f"“{header.path}” cannot be read ({error.strerror or error}): check the file."
            ) from error
        sink.take(rank, _stored_bits(header, stored))
    return len(batch)


def _fill(file: Any, stored: NDArray[Any]) -> None:
    """Read into an array; a file system may give less at once than was asked for."""
    view = memoryview(stored.data).cast("B")
    while view:
        count = file.readinto(view)
        if not count:
            raise OSError("it became shorter while it was read")
        view = view[count:]


def _stored_bits(header: Header, stored: NDArray[Any]) -> NDArray[Any]:
    """Clear, in place, what stands above and below the bits that are stored, by the sign where there is one.

    See PS3.5, section 8.1.1.
    """
    if stored.dtype.kind == "f":
        return stored
    allocated, bits, high = bits_of(header)
    if allocated > bits == high + 1 and stored.dtype.kind == "u":
        np.bitwise_and(stored, (1 << bits) - 1, out=stored)  # in one go
    elif allocated > bits:
        np.left_shift(stored, allocated - 1 - high, out=stored)
        np.right_shift(stored, allocated - bits, out=stored)
    return stored


def _makers(header: Header, frames: int) -> Iterator[tuple[int, Callable[[], NDArray[Any]]]]:
    """Give a function for each of the first frames of a file that decodes it; the encoded data are read here."""
    try:
        decoder = get_decoder(header.syntax)
        if not decoder.is_available:
            raise GradCamError(
                f"“{header.path}” is compressed as {_packing(header)}, which nothing installed here can decode: "
                "export it uncompressed."
            )
        yield from (_encapsulated if header.pixels and header.pixels.is_encapsulated else _native)(
            header, decoder, frames
        )
    except (GradCamError, GeneratorExit):
        raise
    except Exception as error:  # pydicom raises a dozen types on damaged data
        raise _damaged(header, error) from error


def _native(header: Header, decoder: Decoder, frames: int) -> Iterator[tuple[int, Callable[[], NDArray[Any]]]]:
    """Decode what is not compressed one after another: big endian, deflated, single bits, colours."""
    pixels = header.pixels
    assert pixels is not None
    allocated, bits, high = bits_of(header)
    if high != bits - 1:
        raise ValueError(f"its numbers of {bits} bits end at bit {high}")
    expected = _frame_bytes(header, frame_count(header))
    if photometric_of(header) == "YBR_FULL_422":
        expected = expected * 2 // 3
    if pixels.length < expected:
        raise EOFError(f"{expected:,} bytes are needed and {pixels.length:,} are there")
    if allocated == 1 and header.syntax in _LITTLE_ENDIAN:
        yield from _single_bits(header, frames)
        return
    source: Any = _unpacked(header) if pixels.is_deflated else header.path.open("rb")
    try:
        source.seek(max(pixels.start, 0))
        pictures = decoder.iter_array(source, raw=not _in_color(header), **_options(header))
        for frame in range(frames):
            picture, _ = next(pictures)
            yield frame, partial(_finished, header, picture)
    except StopIteration:
        raise EOFError("it holds fewer pictures than it says") from None
    finally:
        source.close()


def _unpacked(header: Header) -> BytesIO:
    """Give the pixels of a deflated file, without the rest of it."""
    assert header.pixels is not None
    return BytesIO(parsed(header.path)[header.pixels.keyword].value)


def _single_bits(header: Header, frames: int) -> Iterator[tuple[int, Callable[[], NDArray[Any]]]]:
    """Unpack bits, those of a picture behind those of another, the lowest of a byte first (PS3.5, section 8.1.1).

    pydicom 3.0 loses bits of a picture that begins inside of a byte.
    """
    assert header.pixels is not None
    shape = int(header.get("Rows")), int(header.get("Columns"))
    size = shape[0] * shape[1]
    with header.path.open("rb") as file:
        for frame in range(frames):
            first = frame * size
            file.seek(header.pixels.start + first // 8)
            data = np.frombuffer(file.read((first % 8 + size + 7) // 8), np.uint8)
            bits = np.unpackbits(data, bitorder="little")[first % 8 :][:size]
            yield frame, partial(_finished, header, bits.reshape(shape))


def _encapsulated(header: Header, decoder: Decoder, frames: int) -> Iterator[tuple[int, Callable[[], NDArray[Any]]]]:
    """Read the compressed pictures one after another."""
    assert header.pixels is not None
    options = {**_options(header), "number_of_frames": 1}
    offsets = header.get("ExtendedOffsetTable"), header.get("ExtendedOffsetTableLengths")
    with header.path.open("rb") as file:
        file.seek(header.pixels.start)
        encoded = generate_frames(
            file,
            number_of_frames=frame_count(header),
            extended_offsets=offsets if all(offsets) else None,
        )
        for frame in range(frames):
            data = next(encoded, None)
            if data is None:
                raise EOFError("it holds fewer pictures than it says")
            _refuse_bomb(header, len(data))
            _refuse_other_size(header, data)
            _refuse_unfinished(header, data)
            yield frame, partial(_decode, header, decoder, data, options)


def _refuse_bomb(header: Header, encoded: int) -> None:
    size = _frame_bytes(header)
    if size > LARGEST_UNPROVEN and size > 1000 * encoded:
        raise EOFError(f"{encoded:,} bytes cannot be a picture of {size:,}")


def _refuse_other_size(header: Header, data: bytes) -> None:
    size, said = size_of(data), (int(header.get("Rows")), int(header.get("Columns")))
    if size is not None and (size.rows, size.columns) != said:
        raise ValueError(f"its picture has {size.rows} rows and {size.columns} columns, and the file says {said}")
    if size is not None and size.samples != int(header.get("SamplesPerPixel", 1)):
        raise ValueError(f"its picture has {size.samples} numbers per pixel")


def _refuse_unfinished(header: Header, data: bytes) -> None:
    """Refuse a codestream without its end marker: decoders fill in what is missing, most of them without a word."""
    if UID(header.syntax) != RLELossless and not data.rstrip(b"\0\xff").endswith(b"\xff\xd9"):
        raise EOFError("the end of its picture is missing")


def _decode(header: Header, decoder: Decoder, data: bytes, options: dict[str, Any]) -> NDArray[Any]:
    source, how = encapsulate([data], has_bot=False), {"raw": not _in_color(header), **options}
    best = _BEST.get(UID(header.syntax), "")
    if best in decoder.available_plugins and len(decoder.available_plugins) > 1:
        try:
            return _finished(header, decoder.as_array(source, index=0, decoding_plugin=best, **how)[0])
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # another may know what this one does not; a panic of Rust's is no Exception
            how["decoding_plugin"] = next(one for one in decoder.available_plugins if one != best)
    return _finished(header, decoder.as_array(source, index=0, **how)[0])


def _decoded(sink: Sink, rank: int, header: Header, make: Callable[[], NDArray[Any]]) -> int:
    try:
        picture = make()
    except Exception as error:  # the decoders raise a dozen types on damaged data
        raise _damaged(header, error) from error
    sink.take(rank, picture)
    return 1


def _damaged(header: Header, error: Exception) -> GradCamError:
    return GradCamError(
        f"The pixel data of “{header.path}”, {_packing(header)}, cannot be decoded ({reason(error)}): copy or "
        "export it again."
    )


def _packing(header: Header) -> str:
    return printable(UID(header.syntax).name)


def _options(header: Header) -> dict[str, Any]:
    """Describe the pixels to pydicom's decoders."""
    assert header.pixels is not None
    options: dict[str, Any] = {
        "rows": int(header.get("Rows")),
        "columns": int(header.get("Columns")),
        "number_of_frames": frame_count(header),
        "samples_per_pixel": int(header.get("SamplesPerPixel", 1)),
        "photometric_interpretation": photometric_of(header),
        "pixel_keyword": header.pixels.keyword,
        "bits_allocated": int(header.get("BitsAllocated")),
        "bits_stored": int(header.get("BitsStored") or header.get("BitsAllocated")),
        "pixel_representation": int(header.get("PixelRepresentation") or 0),
    }
    if options["samples_per_pixel"] > 1:
        options["planar_configuration"] = int(header.get("PlanarConfiguration") or 0)
    options["pixel_vr"] = header.pixels.vr
    return options


def _in_color(header: Header) -> bool:
    return photometric_of(header) in COLORS


def _finished(header: Header, picture: NDArray[Any]) -> NDArray[Any]:
    """Look values up in the tables of the file, and bring colours to bytes."""
    photometric, shape = photometric_of(header), (int(header.get("Rows")), int(header.get("Columns")))
    if picture.shape != (shape if photometric not in COLORS or photometric == "PALETTE COLOR" else (*shape, 3)):
        raise ValueError(f"a picture of {' × '.join(map(str, picture.shape))} pixels, and the file says {shape}")
    if photometric == "PALETTE COLOR":
        picture = apply_color_lut(picture, header.dataset)[..., :3]
        bits = 8 if picture.max() <= 255 and _is_palette_of_bytes(header) else 16
    elif photometric in COLORS:
        bits = int(header.get("BitsStored") or header.get("BitsAllocated"))
    else:
        picture = picture.astype(picture.dtype.newbyteorder("="), copy=False)
        return apply_modality_lut(picture, header.dataset) if header.get("ModalityLUTSequence") else picture
    return picture if bits == 8 else (picture >> (bits - 8) if bits > 8 else picture).astype(np.uint8)


def _is_palette_of_bytes(header: Header) -> bool:
    """Whether no entry of a palette needs more than 8 bits, whatever the descriptor says.

    Tables of 16-bit words often hold values of 8 bits, which shifting would turn to black.
    """
    count, first, _ = header.dataset.RedPaletteColorLookupTableDescriptor
    return bool(apply_color_lut(first + np.arange(count or 1 << 16), header.dataset).max() <= 255)
