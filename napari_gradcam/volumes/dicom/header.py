"""The header of one DICOM file: the values that reading needs, and where its pixels lie."""

from __future__ import annotations

import os
import warnings
import zlib
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from pydicom.charset import convert_encodings
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info, read_partial
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from napari_gradcam.errors import GradCamError
from napari_gradcam.volumes.dicom.walk import PIXELS, UNDEFINED, Element, tags_of, walk
from napari_gradcam.volumes.wording import printable, reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from pydicom import FileDataset

SEQUENCES = (
    *("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence", "ModalityLUTSequence"),
    *("RealWorldValueMappingSequence", "SequenceOfUltrasoundRegions", "DirectoryRecordSequence"),
    *("RedPaletteColorLookupTableDescriptor", "SegmentedRedPaletteColorLookupTableData"),
)
"""What only pydicom reads: a file that has one of these is not walked."""

KEYWORDS = (
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"),
    *("PatientName", "PatientID", "PatientBirthDate", "StudyDescription", "SeriesDescription", "SeriesNumber"),
    *("SpecificCharacterSet", "Modality", "ImageType", "PatientPosition", "InstanceNumber"),
    *("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "BitsAllocated"),
    *("BitsStored", "HighBit", "PixelRepresentation", "NumberOfFrames", "PixelPaddingValue"),
    *("PixelPaddingRangeLimit", "FloatPixelPaddingValue", "FloatPixelPaddingRangeLimit"),
    *("DoubleFloatPixelPaddingValue", "DoubleFloatPixelPaddingRangeLimit"),
    *("RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "ImagerPixelSpacing", "SliceThickness"),
    *("EchoTime", "EchoNumbers", "TemporalPositionIdentifier", "TriggerTime", "DiffusionBValue", "InversionTime"),
    *("AcquisitionNumber", "AcquisitionDateTime", "AcquisitionTime", "ContentTime", "ComplexImageComponent"),
    *("FlipAngle", "NominalPercentageOfCardiacPhase", "AcquisitionDate", "ContentDate", "LossyImageCompression"),
)
"""The values that are kept of a header."""

LARGEST_INFLATED = 4 << 30
"""Bytes of a deflated file, unpacked; more than this is no picture."""

LARGEST_UNPROVEN = 1 << 27
"""A deflated file that unpacks to more bytes than this must have a hundredth of them, or it is a decompression bomb."""

_TAGS = tags_of(KEYWORDS)
_TAG_OF = {keyword: tag for tag, keyword in _TAGS.items()}
_STRANGE = frozenset(tags_of(SEQUENCES))
_LOOKED_FOR = frozenset((*_TAGS, *_STRANGE, *PIXELS))
_SOP_CLASS, _META_SOP_CLASS = _TAG_OF["SOPClassUID"], 0x00020002
_CHARACTER_SET = _TAG_OF["SpecificCharacterSet"]
_META_TAGS = 0x00020000
_PREAMBLE = 128
_DEFER_BYTES = 1 << 16
_FRAGMENT, _FRAGMENTS_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"


class Pixels(NamedTuple):
    """Where the pixels of a file lie: their element, the offset and length of its value in bytes, and its VR."""

    keyword: str
    start: int
    length: int
    vr: str = "OW"
    """Tells how bytes are swapped in a big endian file, and nothing in others."""
    fragments: int = 0
    """How many there are of compressed pixels, the offset table among them; each picture has one or more."""

    @property
    def is_encapsulated(self) -> bool:
        """Whether the value is a row of fragments up to a delimiter (PS3.5, section A.4)."""
        return self.length == UNDEFINED

    @property
    def is_deflated(self) -> bool:
        """Whether the pixels are packed with the rest of the file, and have no place in it."""
        return self.start < 0


class Header:
    """The values of a DICOM file that are in :data:`KEYWORDS` or :data:`SEQUENCES`.

    Attributes
    ----------
    path
        The file.
    syntax
        Transfer Syntax UID (0002,0010); of a file without a meta header, as the rest of it was found to be.
    pixels
        Where its pixels lie; None where it has none.
    """

    def __init__(
        self, path: Path, syntax: str, pixels: Pixels | None, source: Mapping[int, Element] | FileDataset
    ) -> None:
        self.path, self.syntax, self.pixels = path, syntax, pixels
        self._source = source
        self._values: dict[str, Any] = {}

    def get(self, keyword: str, default: Any = None) -> Any:
        """Give a value as pydicom converts it, or `default` where it is absent.

        Raises
        ------
        Exception
            Of any type, by pydicom, where the value is damaged.
        """
        if keyword not in self._values:
            self._values[keyword] = self._converted(keyword)
        value = self._values[keyword]
        return default if value is None else value

    @property
    def dataset(self) -> FileDataset:
        """What pydicom read, of a file with one of :data:`SEQUENCES`."""
        assert isinstance(self._source, Dataset)
        return self._source

    def same(self, tags: Sequence[int]) -> tuple[Element | None, ...] | None:
        """Give elements as they are stored, to tell at once that headers are alike; None where pydicom read it."""
        if isinstance(self._source, Dataset):
            return None
        return tuple(map(self._source.get, tags))

    def told(self, keyword: str) -> str:
        """Give a value that only describes, on one line; "" where it is missing or damaged."""
        try:
            value = self.get(keyword)
            return "" if value is None else printable(str(value))
        except Exception:  # pydicom converts a value when it is asked for, and raises any type on a damaged one
            return ""

    @property
    def sop_class(self) -> str:
        """Name of the kind of object, "" where the file does not say; never what else a damaged file has there."""
        uid = UID(self.told("SOPClassUID"))
        return uid.name if uid.is_valid else ""

    def _converted(self, keyword: str) -> Any:
        if isinstance(self._source, Dataset):
            return self._source.get(keyword)
        tag = _TAG_OF.get(keyword, 0)
        if tag not in self._source:
            return None
        stored, value = self._source[tag]
        vr = stored.decode() if stored else dictionary_VR(tag)
        if vr == "US or SS":  # an implicit file leaves it to the pixels
            vr = "SS" if self.get("PixelRepresentation") == 1 else "US"
        character_set = self._source.get(_CHARACTER_SET)
        return _convert(tag, vr, value, character_set[1] if character_set and vr in _TEXT else b"")


_TEXT = frozenset(("LO", "LT", "PN", "SH", "ST", "UC", "UT"))


@lru_cache(maxsize=1 << 14)
def _convert(tag: int, vr: str, value: bytes, character_set: bytes) -> Any:
    """Convert a value by pydicom; most values are the same in all files of a series."""
    encodings = convert_encodings([one.strip() for one in character_set.decode("ascii", "replace").split("\\")])
    raw = RawDataElement(BaseTag(tag), vr, len(value), value, 0, False, True)
    return convert_raw_data_element(raw, encoding=encodings).value


@contextmanager
def quiet() -> Iterator[None]:
    """Keep pydicom's warnings from the person.

    They tell of values that break a rule of the standard (an identifier too long, a character set misspelt) and of
    bytes beyond the pixels. What matters to the picture is checked here and in the modules beside, and refused or said.
    pydicom converts a value when it is first asked for, so that any line that looks into a header may warn.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def walked_header(path: Path) -> Header | None:
    """Read a header by a quick walk; None where the file is not as plain as that needs it, or no DICOM at all.

    Raises
    ------
    GradCamError
        If the file is shorter than it says.
    """
    with _said_of(path), path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        header = _walked(path, file, size)
        if header is not None:
            header.pixels = _checked(file, size, header.pixels)
        return header


def read_header(path: Path) -> Header:
    """Read the header of a DICOM file.

    Raises
    ------
    GradCamError
        If the file is damaged or shorter than it says.
    """
    header = walked_header(path)
    if header is None:
        with _said_of(path):
            header = _parsed(path)
            if header.pixels is None or not header.pixels.is_deflated:
                with path.open("rb") as file:
                    header.pixels = _checked(file, os.fstat(file.fileno()).st_size, header.pixels)
    return header


@contextmanager
def _said_of(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong with a file into a sentence."""
    try:
        yield
    except GradCamError:
        raise
    except OSError as error:
        raise GradCamError(f"“{path}” cannot be read ({error.strerror or error}): check the file.") from error
    except Exception as error:  # pydicom raises a dozen types on damaged files
        raise GradCamError(f"“{path}” is cut short or damaged ({reason(error)}): copy or export it again.") from error


def parsed(path: Path) -> FileDataset:
    """Read a file by pydicom; its large elements follow when they are asked for.

    Those of a deflated file could not be found again in it. For a moment pydicom holds all of it, packed and unpacked,
    and its pixels once more: nearly four times their memory.
    """
    is_deflated = _deflated_meta(path) is not None
    with path.open("rb") as file:
        dataset = read_partial(file, _Enough(), defer_size=None if is_deflated else _DEFER_BYTES, force=True)
    if is_deflated:
        dataset.buffer = None  # the unpacked file
    return dataset


def _deflated_meta(path: Path) -> Dataset | None:
    """Give the meta header of a deflated file, None of any other."""
    with path.open("rb") as file:
        if file.read(_PREAMBLE + 4)[_PREAMBLE:] != b"DICM":
            return None
    meta = read_file_meta_info(path)
    return meta if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian else None


class _Enough:
    """Tells pydicom to stop behind the pixels, where only filling follows, and at filling: zeros make many elements."""

    def __init__(self) -> None:
        self._last = 0

    def __call__(self, tag: int, vr: str | None, length: int) -> bool:
        if self._last in PIXELS or tag < _META_TAGS:
            return True
        self._last = int(tag)
        return False


def _walked(path: Path, file: BinaryIO, size: int) -> Header | None:
    found = walk(file, size, _LOOKED_FOR, _STRANGE)
    if found is None:
        return None
    pixels = None
    if found.pixels is not None:
        tag, start, length = found.pixels
        pixels = Pixels(PIXELS[tag], start, length)
    if _SOP_CLASS not in found.elements and _META_SOP_CLASS in found.elements:
        found.elements[_SOP_CLASS] = found.elements[_META_SOP_CLASS]
    return Header(path, found.syntax, pixels, found.elements)


def _parsed(path: Path) -> Header:
    _refuse_bomb(path)
    dataset = parsed(path)
    sop_class = dataset.file_meta.get("MediaStorageSOPClassUID", "")
    if not len(dataset) and "Directory" not in UID(sop_class).name:
        raise EOFError("it holds no DICOM elements")
    if "SOPClassUID" not in dataset and sop_class:
        dataset.SOPClassUID = sop_class  # as the walk does
    syntax, pixels = _syntax(path, dataset), None
    if syntax != DeflatedExplicitVRLittleEndian:
        _refuse_cut(dataset, path.stat().st_size)
    for keyword in PIXELS.values():
        if keyword in dataset:
            element: Any = dataset.get_item(keyword, keep_deferred=True)
            start = -1 if syntax == DeflatedExplicitVRLittleEndian else getattr(element, "value_tell", 0)
            pixels = Pixels(keyword, start, getattr(element, "length", UNDEFINED))
            if syntax == ExplicitVRBigEndian:
                pixels = pixels._replace(vr=element.VR)
            del dataset[keyword]
    return Header(path, syntax, pixels, dataset)


def _refuse_cut(dataset: FileDataset, size: int) -> None:
    """Refuse a file that ends within an element, a DICOMDIR within its list: pydicom reads what is there."""
    for tag in dataset.keys() - PIXELS.keys():
        element: Any = dataset.get_item(tag, keep_deferred=True)
        if isinstance(element, RawDataElement) and element.length != UNDEFINED:
            missing = element.value_tell + element.length - size
            if missing > 0:
                raise EOFError(f"{missing:,} bytes are missing at its end")


def _refuse_bomb(path: Path) -> None:
    """Refuse a deflated file that unpacks to more than any picture, before pydicom unpacks it."""
    meta = _deflated_meta(path)
    if meta is None:
        return
    unpacked, inflate, size = 0, zlib.decompressobj(-zlib.MAX_WBITS), path.stat().st_size
    with path.open("rb") as file:
        # The group length element takes 12 bytes and counts what follows it (PS3.10, section 7.1).
        file.seek(_PREAMBLE + 4 + 12 + int(meta.get("FileMetaInformationGroupLength", 0)))
        while block := file.read(1 << 16):
            while block:
                unpacked += len(inflate.decompress(block, 1 << 24))
                block = inflate.unconsumed_tail
                if unpacked > min(LARGEST_INFLATED, max(LARGEST_UNPROVEN, 100 * size)):
                    raise EOFError("it unpacks to more than any picture holds")


def _syntax(path: Path, dataset: FileDataset) -> str:
    """Say how the file is packed; of one without a meta header, as the rest of it was found to be."""
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax:
        return str(syntax)
    if len(dataset.file_meta):
        raise GradCamError(
            f"“{path}” does not say how its pixels are packed (no Transfer Syntax UID): export it again."
        )
    implicit, little = dataset.original_encoding
    if implicit:
        return str(ImplicitVRLittleEndian)
    return str(ExplicitVRLittleEndian if little else ExplicitVRBigEndian)


def _checked(file: BinaryIO, size: int, pixels: Pixels | None) -> Pixels | None:
    """Prove that the file is as long as its pixels, and count fragments; decoders make up what is missing."""
    if pixels is None:
        return None
    if not pixels.is_encapsulated:
        missing = pixels.start + pixels.length - size
        if missing > 0:
            raise EOFError(f"{missing:,} bytes of its pixel data are missing")
        return pixels
    at, fragments = pixels.start, 0
    while True:
        file.seek(at)
        head = file.read(8)
        tag = head[:4]
        if tag == _FRAGMENTS_END:
            return pixels._replace(fragments=fragments)
        if tag != _FRAGMENT or len(head) < 8:
            raise EOFError("its compressed pixel data have no end")
        at += 8 + int.from_bytes(head[4:], "little")
        fragments += 1
