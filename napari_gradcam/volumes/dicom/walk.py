"""A quick walk through the elements of a DICOM file, up to its pixels.

pydicom takes a millisecond or more for a header, which is most of the time that a long series takes; this walk takes a
fifth of that. It goes by nothing it does not understand: where a file is not plainly little endian, its tags do not
ascend, a value representation is unknown or a length leaves the file, it gives None, and pydicom reads the file
instead. Values are converted by pydicom in either case.

Most files of a series are laid out alike. Where every byte that led the walk through one file stands at the same place
of another of the same size, it would lead to the same places, and the values are taken from there at once.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from pydicom.datadict import tag_for_keyword
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Set
    from typing import BinaryIO

UNDEFINED = 0xFFFFFFFF
"""The length of what ends with a delimiter (PS3.5, section 7.1.1)."""

PIXELS: Mapping[int, str] = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData", 0x7FE00010: "PixelData"}
"""The elements that hold pixels, by tag."""

_MARK, _START = 128, 132
_FIRST, _MOST = 1 << 15, 1 << 26
"""How much of a file is looked at first, and how much at most, in bytes."""

_SHORT = frozenset(b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split())
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_META_END = 0x00030000
_DEEPEST = 32
_MOST_KNOWN, _MOST_ALIKE = 64, 4
"""So many sizes of files, and so many ways through files of one size, are kept."""
_TRANSFER_SYNTAX = 0x00020010
_META = frozenset((_TRANSFER_SYNTAX, 0x00020002))  # and the class of the object

_tag = Struct("<HH").unpack_from
_word = Struct("<H").unpack_from
_long = Struct("<I").unpack_from
_explicit = Struct("<HH2sH").unpack_from
_implicit = Struct("<HHI").unpack_from


Element = tuple[bytes, bytes]
"""An element as it is stored: value representation, b"" where it is implied, and value."""


class Walked(NamedTuple):
    """What was found on the way.

    Attributes
    ----------
    elements
        The wanted elements by tag, those of the meta header among them.
    syntax
        The transfer syntax of the meta header.
    pixels
        Tag, offset and length of the pixels' value; None where the file ends without any.
    """

    elements: dict[int, Element]
    syntax: str
    pixels: tuple[int, int, int] | None


class _Layout(NamedTuple):
    """The way through one file, to be recognised in others.

    Attributes
    ----------
    unpack
        Gives the bytes that led the way: tags, representations, lengths, and the transfer syntax.
    led
        What they were.
    spans
        Representation, start and end of each wanted element, by tag.
    end
        How much of the file the way needs.
    """

    unpack: Callable[[bytes], tuple[bytes, ...]]
    led: tuple[bytes, ...]
    spans: dict[int, tuple[bytes, int, int]]
    syntax: str
    pixels: tuple[int, int, int]
    end: int

    def through(self, head: bytes) -> Walked | None:
        """Go the same way through another file of the same size; None where it is laid out otherwise."""
        if len(head) < self.end or self.unpack(head) != self.led:
            return None
        elements = {tag: (vr, head[start:end]) for tag, (vr, start, end) in self.spans.items()}
        return Walked(elements, self.syntax, self.pixels)


class _Strange(Exception):
    """The file is not as plain as this walk takes it to be."""


class _Short(Exception):
    """More of the file is needed."""


def tags_of(keywords: Iterable[str]) -> dict[int, str]:
    """Give ``{tag: keyword}``."""
    tags = {}
    for keyword in keywords:
        tag = tag_for_keyword(keyword)
        assert tag is not None, keyword
        tags[int(tag)] = keyword
    return tags


_known: dict[tuple[int, Set[int], Set[int]], list[_Layout]] = {}


def walk(file: BinaryIO, size: int, wanted: Set[int], strange: Set[int]) -> Walked | None:
    """Find elements of a DICOM file without reading its pixels.

    Parameters
    ----------
    file
        The open file, at its start.
    size
        Its size in bytes.
    wanted
        The tags to look for: those whose values are kept, none of them a sequence, those in `strange`, and the pixels.
    strange
        Tags that only pydicom can read; a file with one of them is left to it.

    Returns
    -------
    Walked or None
        None where the file is not as plain as this walk needs it.
    """
    step, head = _FIRST, b""
    known = _known.setdefault((size, wanted, strange), [])
    while True:
        head += file.read(step - len(head))
        for layout in known:
            found = layout.through(head)
            if found is not None:
                return found
        try:
            return _walked(head, size, wanted, strange, known)
        except _Strange:
            return None
        except _Short:
            if len(head) < step or step >= _MOST:
                return None  # the file, or what may be looked at, ends here
            step *= 8


def _walked(head: bytes, size: int, wanted: Set[int], strange: Set[int], known: list[_Layout]) -> Walked:
    if head[_MARK:_START] != b"DICM":
        raise _Strange
    way = [(_MARK, _START)]
    spans: dict[int, tuple[bytes, int, int]] = {}
    at, _ = _elements(head, _START, size, _META_END, _META, spans, frozenset(), way, implicit=False)
    if _TRANSFER_SYNTAX not in spans:
        raise _Strange
    _, start, end = spans.pop(_TRANSFER_SYNTAX)
    syntax = head[start:end].rstrip(b"\0 ").decode("ascii", "replace")
    if syntax in (DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian):
        raise _Strange
    way.append((start, end))
    implicit = syntax == ImplicitVRLittleEndian
    _, pixels = _elements(head, at, size, 1 << 32, wanted, spans, strange, way, implicit=implicit)
    if pixels is not None:
        _remember(known, head, way, spans, syntax, pixels)
    return Walked({tag: (vr, head[start:end]) for tag, (vr, start, end) in spans.items()}, syntax, pixels)


def _remember(
    known: list[_Layout],
    head: bytes,
    way: list[tuple[int, int]],
    spans: dict[int, tuple[bytes, int, int]],
    syntax: str,
    pixels: tuple[int, int, int],
) -> None:
    """Keep the way through a file for others like it, in place of an older one where there are many."""
    if len(_known) > _MOST_KNOWN:
        _known.clear()
    parts, last = [], 0
    for start, end in sorted(way):
        parts.append(f"{start - last}x{end - start}s")
        last = end
    unpack = Struct("<" + "".join(parts)).unpack_from
    known.insert(0, _Layout(unpack, unpack(head), spans, syntax, pixels, last))
    del known[_MOST_ALIKE:]


def _elements(
    head: bytes,
    at: int,
    size: int,
    end_tag: int,
    looked_for: Set[int],
    found: dict[int, tuple[bytes, int, int]],
    strange: Set[int],
    way: list[tuple[int, int]],
    *,
    implicit: bool,
) -> tuple[int, tuple[int, int, int] | None]:
    """Go from element to element until a tag of `end_tag` or more, the pixels, or the end of the file."""
    last, read = -1, len(head)
    # Written out rather than split into functions: it runs for every element of every file of a long series.
    while at < size:
        if at + 12 > read:
            if read >= size:
                raise _Strange  # a few bytes that are no element
            raise _Short
        if implicit:
            group, number, length = _implicit(head, at)
            vr = b""
        else:
            group, number, vr, length = _explicit(head, at)
        tag = group << 16 | number
        if tag >= end_tag:
            return at, None
        if tag <= last:
            raise _Strange
        last, start = tag, at + 8
        if not implicit and vr not in _SHORT:
            if vr not in _LONG:
                raise _Strange
            start, (length,) = at + 12, _long(head, at + 8)
        way.append((at, start))
        if tag not in looked_for:
            at = (
                start + length if length != UNDEFINED else _after_items(head, start, size, implicit or vr == b"UN", way)
            )
            continue
        if tag in PIXELS:
            return at, (tag, start, length)
        at = start + length
        if tag in strange or at > size:
            raise _Strange
        if at > read:
            raise _Short
        found[tag] = vr, start, at
    if at > size:
        raise _Strange
    return at, None


def _sized(head: bytes, at: int, implicit: bool) -> tuple[bytes, int, int]:
    """Give value representation (b"" where it is implied), where the value starts, and its length."""
    if implicit:
        return b"", at + 8, _long(head, at + 4)[0]
    vr = head[at + 4 : at + 6]
    if vr in _SHORT:
        return vr, at + 8, _word(head, at + 6)[0]
    if vr in _LONG:
        return vr, at + 12, _long(head, at + 8)[0]
    raise _Strange


def _after_items(head: bytes, at: int, size: int, implicit: bool, way: list[tuple[int, int]], depth: int = 0) -> int:
    """Give where a sequence of undefined length ends."""
    if depth > _DEEPEST:
        raise _Strange
    while True:
        tag, length = _item(head, at, size)
        way.append((at, at + 8))
        at += 8
        if tag == _SEQUENCE_END:
            return at
        if tag != _ITEM:
            raise _Strange
        if length != UNDEFINED:
            at += length
            continue
        while True:
            if at + 12 > len(head):
                raise _Short if len(head) < size else _Strange
            group, number = _tag(head, at)
            inner = group << 16 | number
            if inner == _ITEM_END:
                way.append((at, at + 8))
                at += 8
                break
            vr, start, length = _sized(head, at, implicit)
            way.append((at, start))
            at = start + length
            if length == UNDEFINED:
                at = _after_items(head, start, size, implicit or vr == b"UN", way, depth + 1)


def _item(head: bytes, at: int, size: int) -> tuple[int, int]:
    if at + 8 > len(head):
        raise _Short if len(head) < size else _Strange
    group, number = _tag(head, at)
    return group << 16 | number, _long(head, at + 4)[0]
