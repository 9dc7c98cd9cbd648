"""Four thousand damaged DICOM files, made of real ones: each is read to the right volume or refused in one sentence.

The mutants are made and read by a process of their own (this file as a script), so that a decoder that crashes or hangs
fails a test that names the mutant; ``python tests/volumes/test_fuzz.py FOLDER FIRST LAST`` makes some of them again.

What a mutant that is still read must be:

same
    The array and the affine of the original. Files cut short; elements left out, doubled or overwritten that neither
    carry nor place values (all but :data:`CONTENT`); sequences nested without end; bytes behind the pixels.
placed
    The shape and the affine of the original: bytes changed inside of the pixels, where no decoder can tell.
a volume
    Anything that is a volume: elements of :data:`CONTENT` left out or overwritten, lengths and tags that are wrong
    (what they hide is as if it were not there), sizes that contradict, bytes put in.
"""

from __future__ import annotations

import faulthandler
import json
import resource
import subprocess
import sys
import time
import warnings
import zipfile
import zlib
from io import BytesIO
from itertools import product
from pathlib import Path
from random import Random
from shutil import copytree
from struct import pack
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pydicom.data
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import data_element_generator, read_preamble
from pydicom.tag import Tag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, EnhancedMRImageStorage, ExplicitVRLittleEndian

from napari_gradcam import GradCamError, read_volume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_gradcam.volumes import Volume

MUTANTS = 2000
"""Beside those that are cut at each of their elements, and those of which each element is left out."""
SECONDS = 5.0
"""Processor time for one mutant."""
HANGS = 60.0
"""After so many seconds the process ends itself."""
GROWTH = 1 << 20
"""KiB of memory that the process may take beyond what reading the originals took."""

CONTENT = frozenset(
    Tag(keyword)
    for keyword in (
        *("TransferSyntaxUID", "SOPClassUID", "MediaStorageSOPClassUID", "ImageType", "Modality", "PixelData"),
        *("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames"),
        *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "RescaleSlope", "RescaleIntercept"),
        *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "ImagerPixelSpacing", "SliceThickness"),
        *("PixelPaddingValue", "PixelPaddingRangeLimit", "ModalityLUTSequence", "SequenceOfUltrasoundRegions"),
        *("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence", "DirectoryRecordSequence"),
        *("SeriesInstanceUID", "StudyInstanceUID", "PatientID", "PatientName", "FrameOfReferenceUID"),
        *("RedPaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData"),
        *("GreenPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableData"),
        *("BluePaletteColorLookupTableDescriptor", "BluePaletteColorLookupTableData"),
    )
)
"""What values, places and the choice of files come from."""

PIXELS = Tag("PixelData")
PYDICOM = Path(pydicom.data.get_testdata_file("CT_small.dcm", download=False)).parent
AWKWARD = Path(__file__).parents[3] / "shared" / "data" / "awkward"
FILES = (
    *("CT_small", "MR_small", "MR_small_RLE", "MR_small_jp2klossless", "MR_small_jpeg_ls_lossless"),
    *("MR_small_bigendian", "MR_small_implicit", "MR_small_padded", "image_dfl", "JPGExtended", "693_J2KI"),
    *("SC_rgb_jpeg_dcmtk", "SC_rgb_small_odd_jpeg", "SC_rgb_rle_2frame", "SC_ybr_full_422_uncompressed"),
    *("SC_rgb_gdcm_KY", "SC_rgb_small_odd_big_endian", "JPEGLSNearLossless_16"),
)
SERIES = Path("98892001", "CT5N")
ALL_TAGS = (
    "CT_small",
    "MR_small_implicit",
    "MR_small_RLE",
    "MR_small_bigendian",
    "enhanced",
    "SC_rgb_jpeg_dcmtk",
    "series",
)
"""Originals that each of their elements is left out of, and that are cut within some."""


# The originals


class Place(NamedTuple):
    """Where an element lies: its tag, where it and its value start, and where it ends."""

    tag: int
    start: int
    value: int
    end: int


class Original:
    """The bytes of a file, and where its elements lie; a deflated file is unpacked, an archive one piece."""

    def __init__(self, name: str, data: bytes, written: str = "mutant.dcm", opened: str = "") -> None:
        self.name, self.written, self.opened = name, written, opened or written
        """What it is written as, and what is opened: that, or the folder of a series."""
        self.data, self.places, self.pixels, self.deflated, self.patient = data, [], None, False, ""
        if data[:2] == b"PK":
            return
        file = BytesIO(data)
        dataset = dcmread(file)
        syntax, self.patient = dataset.file_meta.TransferSyntaxUID, str(dataset.get("PatientName", ""))
        file.seek(0)
        read_preamble(file, force=False)
        self.places = list(_places(file, implicit=False, little=True, until=Tag(0x0003, 0)))
        self.meta = self.places[-1].end
        self.deflated = syntax == DeflatedExplicitVRLittleEndian
        if self.deflated:
            data = data[: self.meta] + zlib.decompress(data[self.meta :], -zlib.MAX_WBITS)
        self.data, self.syntax = data, syntax
        self.little, self.implicit = syntax.is_little_endian, syntax.is_implicit_VR
        file = BytesIO(data)
        file.seek(self.meta)
        self.places += _places(file, implicit=self.implicit, little=self.little)
        self.pixels = next((one for one in self.places if one.tag == PIXELS), None)

    def write(self, path: Path, data: bytes, packed: bool) -> None:
        if self.deflated and not packed:
            pack = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
            data = data[: self.meta] + pack.compress(data[self.meta :]) + pack.flush()
        path.write_bytes(data)

    def number(self, value: int, size: int) -> bytes:
        return value.to_bytes(size, "little" if self.little else "big")


def _places(file: BytesIO, implicit: bool, little: bool, until: int | None = None) -> Iterator[Place]:
    start = file.tell()
    stop = (lambda tag, vr, length: tag >= until) if until else None
    for element in data_element_generator(file, implicit, little, stop_when=stop):
        value = getattr(element, "value_tell", None) or getattr(element, "file_tell", None) or start + 12
        yield Place(int(element.tag), start, int(value), file.tell())
        start = file.tell()


def enhanced() -> bytes:
    """Make a multi-frame file of 4 frames, each with a place and a slope of its own."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.SeriesInstanceUID = EnhancedMRImageStorage, "1.2.3", "1.2"
    dataset.Modality, dataset.ImageType, dataset.PatientName = "MR", ["ORIGINAL", "PRIMARY", "M"], "Secret^Person"
    dataset.Rows, dataset.Columns, dataset.NumberOfFrames, dataset.SamplesPerPixel = 6, 5, 4, 1
    dataset.PhotometricInterpretation, dataset.PixelRepresentation = "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    frames = []
    for k in range(4):
        frame, where, scale = Dataset(), Dataset(), Dataset()
        where.ImagePositionPatient = [-10, -20, 3 * k]
        scale.RescaleSlope, scale.RescaleIntercept = 1 + k / 2, -k
        frame.PlanePositionSequence, frame.PixelValueTransformationSequence = [where], [scale]
        frames.append(frame)
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    measures.PixelSpacing, measures.SliceThickness = [2, 1.5], 3
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    dataset.SharedFunctionalGroupsSequence, dataset.PerFrameFunctionalGroupsSequence = [shared], frames
    dataset.PixelData = np.arange(120, dtype=np.uint16).tobytes()
    return saved(dataset)


def palette() -> bytes:
    """Make a picture in colours of a table."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = "1.2.840.10008.5.1.4.1.1.7", "1.2.3", "US"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 4, 6, 1, "PALETTE COLOR"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    for channel, color in enumerate(("Red", "Green", "Blue")):
        setattr(dataset, f"{color}PaletteColorLookupTableDescriptor", [256, 0, 16])
        table = (np.arange(256) * (channel + 1) % 256 * 257).astype("<u2").tobytes()
        setattr(dataset, f"{color}PaletteColorLookupTableData", table)
    dataset.PixelData = np.arange(24, dtype=np.uint8).tobytes()
    return saved(dataset)


def saved(dataset: Dataset) -> bytes:
    dataset["PixelData"].VR = "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = UID(dataset.SOPClassUID)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return file.getvalue()


def originals() -> dict[str, Original]:
    made = {name: Original(name, (PYDICOM / f"{name}.dcm").read_bytes()) for name in FILES}
    made["enhanced"], made["palette"] = Original("enhanced", enhanced()), Original("palette", palette())
    scans = PYDICOM / "dicomdirtests"
    made["monochrome1"] = Original("monochrome1", (scans / "77654033" / "CR1" / "6154").read_bytes())
    made["DICOMDIR"] = Original("DICOMDIR", (scans / "DICOMDIR").read_bytes(), written="DICOMDIR")
    slice_ = (scans / SERIES / "2392").read_bytes()
    made["series"] = Original("series", slice_, written="series/2392", opened="series")
    for name in ("mr_oblique_38deg", "mr_slope_per_slice"):  # real ones of other makers, where they are
        if (AWKWARD / name).is_dir():
            made[name] = Original(name, next(iter(sorted((AWKWARD / name / "series").iterdir()))).read_bytes())
    made["archive"] = Original("archive", zipped({path.name: path.read_bytes() for path in (scans / SERIES).iterdir()}))
    return made


# The mutants


class Mutant(NamedTuple):
    """Damaged bytes, what was done to them, and what they must be where they are still read."""

    kind: str
    expected: str
    data: bytes
    packed: bool = False
    """Whether the bytes are those of the file, also where the original is deflated."""


SAME, PLACED, VOLUME = "same", "placed", "a volume"


def cut(original: Original, at: int) -> Mutant:
    return Mutant(f"cut after {at} bytes", SAME, original.data[:at])


def left_out(original: Original, place: Place) -> Mutant:
    kind = f"without {Tag(place.tag)}"
    return Mutant(kind, _unless_content(place), original.data[: place.start] + original.data[place.end :])


def _unless_content(place: Place) -> str:
    return VOLUME if place.tag in CONTENT else SAME


def doubled(original: Original, random: Random) -> Mutant:
    place, data = random.choice(original.places), original.data
    return Mutant(
        f"twice {Tag(place.tag)}", SAME, data[: place.end] + data[place.start : place.end] + data[place.end :]
    )


def swapped(original: Original, random: Random) -> Mutant:
    rank, data = random.randrange(len(original.places) - 1), original.data
    one, other = original.places[rank : rank + 2]
    changed = data[: one.start] + data[other.start : other.end] + data[one.start : one.end] + data[other.end :]
    expected = _unless_content(one) if other.tag == PIXELS else SAME  # what lies behind the pixels is not read
    return Mutant(f"{Tag(one.tag)} behind {Tag(other.tag)}", expected, changed)


def overwritten(original: Original, random: Random) -> Mutant:
    """Change some bytes of a value; inside of a sequence they may be lengths."""
    place = random.choice([one for one in original.places if one.tag != PIXELS and one.end > one.value])
    data = bytearray(original.data)
    is_sequence = data[place.value : place.value + 4] in (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")
    for at in random.choices(range(place.value, place.end), k=random.randint(1, 4)):
        data[at] = random.randrange(256)
    return Mutant(f"overwritten {Tag(place.tag)}", VOLUME if is_sequence else _unless_content(place), bytes(data))


def flipped_header(original: Original, random: Random) -> Mutant:
    end, data = original.pixels.value if original.pixels else len(original.data), bytearray(original.data)
    at = [random.randrange(end) for _ in range(random.randint(1, 8))]
    for byte in at:
        data[byte] ^= 1 << random.randrange(8)
    return Mutant(f"flipped bits of the header at {at}", VOLUME, bytes(data))


def flipped_pixels(original: Original, random: Random) -> Mutant:
    if original.pixels is None:
        return flipped_header(original, random)
    data = bytearray(original.data)
    # Half of them near the start, where codestreams keep their sizes.
    end = random.choice([original.pixels.end, min(original.pixels.end, original.pixels.value + 160)])
    for at in random.choices(range(original.pixels.value, end), k=random.randint(1, 8)):
        data[at] = random.choice([data[at] ^ 1 << random.randrange(8), 0, 255])
    return Mutant("overwritten pixels", PLACED, bytes(data))


def wrong_length(original: Original, random: Random) -> Mutant:
    place, data = random.choice(original.places), original.data
    size = 4 if place.value - place.start == 12 or (original.implicit and place.start >= original.meta) else 2
    at, now, most = place.value - size, place.end - place.value, 256**size - 1
    length = random.choice([0, most, most - 1, now + 1, now + 2, max(now - 1, 0), now * 2, random.randint(0, most)])
    number = length.to_bytes(size, "little" if place.start < original.meta else "little" if original.little else "big")
    return Mutant(f"{Tag(place.tag)} of length {length}", VOLUME, data[:at] + number + data[at + size :])


def other_size(original: Original, random: Random) -> Mutant:
    """Contradict the pixels: the numbers that tell their size, one or several."""
    data, done = bytearray(original.data), []
    sizes = [Tag(name) for name in SIZES]
    places = [one for one in original.places if one.tag in sizes and one.end - one.value == 2]
    for place in random.sample(places, min(len(places), random.randint(1, 3))):
        value = random.choice([0, 1, 2, 3, 8, 12, 15, 16, 17, 24, 32, 64, 255, 256, 4096, 32768, 65535])
        data[place.value : place.end] = original.number(value, 2)
        done.append(f"{Tag(place.tag)} = {value}")
    return Mutant(", ".join(done), VOLUME, bytes(data))


SIZES = (
    *("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    "PlanarConfiguration",
)


def bomb(original: Original, random: Random) -> Mutant:
    data = bytearray(original.data)
    for place in original.places:
        if place.tag in (Tag("Rows"), Tag("Columns")):
            data[place.value : place.end] = original.number(random.choice([65535, 32767, 20000, 8191]), 2)
    return Mutant("a very large picture", VOLUME, bytes(data))


def many_frames(original: Original, random: Random) -> Mutant:
    frames = random.choice([b"0 ", b"-1", b"2 ", b"7 ", b"2000", b"99999999", b"2147483647  ", b"1e6 ", b"x "])
    return Mutant(f"{frames!r} frames", VOLUME, _with(original, 0x00280008, b"IS", frames))


def _with(original: Original, tag: int, vr: bytes, value: bytes) -> bytes:
    """Put in an element, where its tag stands in the order, in place of one with its tag."""
    rest = [one for one in original.places if one.start >= original.meta]
    at = next((one.start for one in rest if one.tag >= tag), len(original.data))
    behind = next((one.start for one in rest if one.tag > tag), len(original.data))
    head = original.number(tag >> 16, 2) + original.number(tag & 0xFFFF, 2)
    if original.implicit:
        head += original.number(len(value), 4)
    else:
        long = vr in (b"SQ", b"UN", b"OB")
        head += vr + (b"\0\0" + original.number(len(value), 4) if long else original.number(len(value), 2))
    return original.data[:at] + head + value + original.data[behind:]


def nested(original: Original, random: Random) -> Mutant:
    """Put in private sequences within one another, each of undefined length."""
    depth, endless = random.choice([1, 5, 40, 400, 3000]), original.number(0xFFFFFFFF, 4)
    item, item_end, end = (
        original.number(0xFFFE, 2) + original.number(number, 2) for number in (0xE000, 0xE00D, 0xE0DD)
    )
    head = original.number(0x0009, 2) + original.number(0x1001, 2) + (b"" if original.implicit else b"SQ\0\0") + endless
    whole = (head + item + endless) * depth + (item_end + bytes(4) + end + bytes(4)) * depth
    at = next((one.start for one in original.places if one.tag > 0x00091001), len(original.data))
    return Mutant(f"{depth} sequences in one another", SAME, original.data[:at] + whole + original.data[at:])


def put_in(original: Original, random: Random) -> Mutant:
    at = random.randrange(len(original.data) + 1)
    behind = not original.pixels or at >= original.pixels.end
    in_pixels = original.pixels is not None and original.pixels.value <= at < original.pixels.end
    expected = SAME if behind and original.pixels else PLACED if in_pixels else VOLUME
    some = random.randbytes(random.randint(1, 64))
    return Mutant(f"{len(some)} bytes put in at {at}", expected, original.data[:at] + some + original.data[at:])


def taken_out(original: Original, random: Random) -> Mutant:
    at, count = random.randrange(len(original.data)), random.randint(1, 300)
    return Mutant(f"{count} bytes taken out at {at}", VOLUME, original.data[:at] + original.data[at + count :])


def other_syntax(original: Original, random: Random) -> Mutant:
    place = next(one for one in original.places if one.tag == Tag("TransferSyntaxUID"))
    uid = random.choice(
        ["1.2", "1.2.1", "1.2.2", "1.2.1.99", *(f"1.2.4.{n}" for n in (50, 51, 57, 70, 80, 90, 91)), "1.2.5"]
    )
    value = f"1.2.840.10008.{uid}".encode()[: place.end - place.value].ljust(place.end - place.value, b"\0")
    return Mutant(f"packed as {uid}", VOLUME, original.data[: place.value] + value + original.data[place.end :])


def codestream(original: Original, random: Random) -> Mutant:
    """Change the sizes that the compressed picture gives itself: JPEG, JPEG-LS, JPEG 2000, RLE."""
    assert original.pixels is not None
    data, start = bytearray(original.data), original.pixels.value
    marks = {mark: data.find(mark, start) for mark in (b"\xff\xc0", b"\xff\xc1", b"\xff\xc3", b"\xff\xf7", b"\xff\x51")}
    found = [(at, mark) for mark, at in marks.items() if at >= 0]
    if not found:
        return flipped_pixels(original, random)
    at, mark = random.choice(found)
    if mark == b"\xff\x51":  # SIZ: width, height, their offsets, tiles, theirs, components
        place, size = random.choice(
            [*((at + 6 + 4 * n, 4) for n in range(8)), (at + 38, 2), (at + 40, 1), (at + 41, 1)]
        )
    else:  # precision, height, width, components, sampling
        place, size = random.choice([(at + 4, 1), (at + 5, 2), (at + 7, 2), (at + 9, 1), (at + 11, 1)])
    value = random.choice([0, 1, 2, 255, 65535, 1 << 20, (1 << 31) - 1, (1 << 32) - 1, random.getrandbits(32)])
    data[place : place + size] = (value & 256**size - 1).to_bytes(size, "big")
    return Mutant(f"codestream says {value} at {place - at} of {mark!r}", PLACED, bytes(data))


def inner_left_out(original: Original, random: Random) -> Mutant:
    """Leave out an element somewhere inside of the sequences."""
    dataset = dcmread(BytesIO(original.data))
    inside = [item for element in dataset.iterall() if element.VR == "SQ" for item in element.value]
    item = random.choice(inside)
    tag = random.choice(list(item.keys()))
    del item[tag]
    file = BytesIO()
    dataset.save_as(file)
    return Mutant(f"without {tag} inside", VOLUME, file.getvalue())


def damaged_archive(original: Original, random: Random) -> Mutant:
    data = bytearray(original.data)
    at = [random.randrange(random.choice([0, len(data) - 400]), len(data)) for _ in range(random.randint(1, 3))]
    for byte in at:
        data[byte] ^= 1 << random.randrange(8)
    return Mutant(f"flipped bits at {at}", SAME, bytes(data))


def deflated_bomb(original: Original, size: int) -> Mutant:
    """So many MiB of zeros behind the header, one byte for a thousand."""
    pack = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    assert original.pixels is not None
    head = pack.compress(original.data[original.meta : original.pixels.end]) + pack.flush(zlib.Z_FULL_FLUSH)
    block = pack.compress(bytes(1 << 20)) + pack.flush(zlib.Z_FULL_FLUSH)  # which stands by itself
    data = original.data[: original.meta] + head + block * size + pack.flush()
    return Mutant(f"{size} MiB of zeros, deflated", VOLUME, data, packed=True)


def zip_bomb() -> Mutant:
    """Make an archive whose directory says that its file unpacks to an exabyte."""
    data = zipped({"slice.dcm": bytes(1 << 20)})
    at = data.index(b"PK\x01\x02")
    size = pack("<HHQ", 1, 8, 1 << 60)  # the extra field of a size of 64 bits
    entry = bytearray(data[at : data.index(b"PK\x05\x06")])
    entry[24:28], entry[30:32] = b"\xff" * 4, pack("<H", len(size))
    end = bytearray(data[data.index(b"PK\x05\x06") :])
    end[12:16] = pack("<I", len(entry) + len(size))
    return Mutant("an archive of an exabyte", VOLUME, data[:at] + bytes(entry) + size + bytes(end))


ANY_FILE = (
    *(doubled, swapped, overwritten, overwritten, flipped_header, flipped_header, flipped_pixels, wrong_length),
    *(wrong_length, other_size, other_size, bomb, many_frames, nested, put_in, taken_out, other_syntax),
)


def plans(made: dict[str, Original]) -> list[tuple[Original, Callable[[Random], Mutant]]]:
    """List how each mutant is made: cut and thinned at every element, then at random."""
    listed: list[tuple[Original, Callable[[Random], Mutant]]] = [
        (one, lambda _, one=one, place=place: cut(one, place.start)) for one in made.values() for place in one.places
    ]
    within: list[tuple[Original, Callable[[Random], Mutant]]] = []
    for one in (made[name] for name in ALL_TAGS):
        for place in one.places:
            listed.append((one, lambda _, one=one, place=place: left_out(one, place)))
            within.append((one, lambda random, one=one, place=place: cut(one, random.randint(place.start, place.end))))
    total = len(listed) + MUTANTS
    listed += Random(1).sample(within, 250)
    packed = [made[name] for name in FILES if made[name].pixels and UID(made[name].syntax).is_encapsulated]
    listed += [(one, lambda random, one=one: codestream(one, random)) for one in Random(2).choices(packed, k=300)]
    listed += [(one, lambda random, one=one: flipped_pixels(one, random)) for one in Random(3).choices(packed, k=200)]
    listed += [(made["enhanced"], lambda random: inner_left_out(made["enhanced"], random)) for _ in range(40)]
    listed += [(made["archive"], lambda random: damaged_archive(made["archive"], random)) for _ in range(60)]
    listed += [(made["image_dfl"], lambda _, size=size: deflated_bomb(made["image_dfl"], size)) for size in (100, 5000)]
    listed += [(made["archive"], lambda _: zip_bomb())]
    directory = made["DICOMDIR"]
    listed += [(directory, lambda random: cut(directory, random.randrange(len(directory.data)))) for _ in range(40)]
    for name, way in product(("enhanced", "DICOMDIR", "MR_small"), (wrong_length, put_in, flipped_header)):
        listed += [(made[name], lambda random, name=name, way=way: way(made[name], random)) for _ in range(30)]
    ways, files = Random(4), [one for one in made.values() if one.places]
    while len(listed) < total:
        one, way = ways.choice(files), ways.choice(ANY_FILE)
        listed.append((one, lambda random, one=one, way=way: way(one, random)))
    return listed


# Reading them, in a process of its own


def test_damaged_files_are_read_right_or_refused_in_a_sentence(tmp_path):
    """One process reads them all; another goes on where it dies, until three have died."""
    wrong, first, died, volumes, count = [], 0, 0, 0, len(plans(originals()))
    while first < count and died < 3:
        folder = tmp_path / str(first)
        folder.mkdir()
        command = [sys.executable, __file__, str(folder), str(first), str(count)]
        run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
        begun = ""
        for line in filter(lambda line: line.startswith("{"), run.stdout.splitlines()):
            said = json.loads(line)
            if "mutant" in said:
                first, begun = said["number"] + 1, f"{said['number']}: {said['mutant']}"
            elif "ended" in said:
                wrong += [f"{begun}: {said['ended']}"] if said["ended"] else []
                wrong += [f"{begun}: took {said['took']:.1f} s"] if said["took"] > SECONDS else []
                volumes += said["read"]
            else:
                assert said["grown"] < GROWTH
        if run.returncode:
            wrong.append(f"{begun}: the process ended with {run.returncode}: {run.stderr[-2000:]}")
            died += 1
    assert not wrong
    assert volumes > MUTANTS / 5  # or nothing was proven about those that are read


def main(folder: Path, first: int, last: int) -> None:
    """Read some mutants, and write a line of JSON before and behind each."""
    made = originals()
    for path in (Path("series"), SERIES):  # one for each, since a mutant takes the place of a slice
        copytree(PYDICOM / "dicomdirtests" / SERIES, folder / path)
    whole = {name: read(one, Mutant("whole", SAME, one.data), folder)[1] for name, one in made.items()}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    listed = plans(made)
    for number in range(first, min(last, len(listed))):
        original, make = listed[number]
        mutant = make(Random(number))
        print(json.dumps({"number": number, "mutant": f"{original.name}, {mutant.kind}"}), flush=True)
        faulthandler.dump_traceback_later(HANGS, exit=True)
        began = time.process_time()
        ended, volume = read(original, mutant, folder)
        took = time.process_time() - began
        faulthandler.cancel_dump_traceback_later()
        if volume is not None:
            ended = unlike(volume, whole[original.name], mutant.expected)
        print(json.dumps({"ended": ended, "read": volume is not None, "took": took}), flush=True)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps({"grown": grown}), flush=True)


def read(original: Original, mutant: Mutant, folder: Path) -> tuple[str, Volume | None]:
    """Read a mutant; give what is wrong with the way it ended, "" where nothing is, and the volume."""
    original.write(folder / original.written, mutant.data, mutant.packed)
    path = folder / original.opened
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            volume = read_volume(path)
        except GradCamError as error:
            return unlike_a_sentence(str(error), path.name, original.patient), None
        except BaseException as error:
            return f"{type(error).__name__}: {error}", None
    return ("; ".join(str(one.message) for one in warned)), volume


def unlike_a_sentence(said: str, name: str, patient: str) -> str:
    one_line = said.strip() == said and said.isprintable() and said.endswith(".")
    private = patient and patient in said
    return "" if one_line and name in said and "Traceback" not in said and not private else f"said {said!r}"


def unlike(volume: Volume, whole: Volume, expected: str) -> str:
    if not (np.isfinite(volume.array).all() and np.isfinite(volume.affine).all()):
        return "read with values that are no numbers"
    if expected == VOLUME:
        return ""
    if not (volume.shape == whole.shape and np.array_equal(volume.affine, whole.affine)):
        return f"read as {volume.shape} at {volume.affine.tolist()}"
    if expected == SAME and not (
        np.array_equal(volume.array, whole.array) and np.array_equal(volume.color, whole.color, equal_nan=False)
    ):
        return "read with other values"
    return ""


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
