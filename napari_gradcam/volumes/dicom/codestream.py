"""The size that a compressed picture gives itself, read before a decoder sees it.

Decoders trust a codestream: libjpeg runs without end where it says 0 rows, others take the memory of whatever it says.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

_JPEG, _JPEG2000 = b"\xff\xd8", b"\xff\x4f\xff\x51"
_FRAMES = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}
"""Markers of JPEG (ISO/IEC 10918-1, table B.1) and JPEG-LS (14495-1, annex C) that are followed by a size."""
_ALONE = frozenset((0x01, *range(0xD0, 0xD9)))
"""Markers without a length."""
_WHERE = 4096
"""A JPEG 2000 codestream begins within so many bytes, behind the boxes of a file."""

_frame = Struct(">HBHHB")
_image = Struct(">HHIIIIIIIIH")


class Size(NamedTuple):
    """Rows, columns, and numbers per pixel."""

    rows: int
    columns: int
    samples: int


def size_of(data: bytes) -> Size | None:
    """Give the size of a JPEG, JPEG-LS or JPEG 2000 picture; None where the bytes are none of these, or damaged."""
    if data[:2] == _JPEG:
        return _jpeg(data)
    start = data.find(_JPEG2000, 0, _WHERE)
    if start < 0 or start + 4 + _image.size > len(data):
        return None
    _, _, right, bottom, left, top, *_, samples = _image.unpack_from(data, start + 4)
    return Size(bottom - top, right - left, samples)


def _jpeg(data: bytes) -> Size | None:
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        mark = data[at + 1]
        if mark == 0xFF:  # bytes that fill up
            at += 1
        elif mark in _ALONE:
            at += 2
        elif mark in _FRAMES:
            if at + 2 + _frame.size > len(data):
                return None
            _, _, rows, columns, samples = _frame.unpack_from(data, at + 2)
            return Size(rows, columns, samples)
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None
