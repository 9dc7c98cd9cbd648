"""Two thousand damaged DICOM files, made of real ones: each is read to the right volume or refused in one sentence.

The mutants are made and read by a process of their own (this file as a script), so that a decoder that crashes or hangs
fails a test that names the mutant; ``python tests/volumes/test_fuzz.py FOLDER FIRST LAST`` makes some of them again.

What a mutant that is still read must be:

same
    The array and the affine of the original. Files cut short; elements left out, doubled or overwritten that neither
    carry nor place values (all but :data:`CONTENT`); sequences nested without end; bytes behind the pixels.
placed
    The shape and the affine of the original: bytes changed inside of the pixels, where no decoder can tell.
a volume
    Anything that is a volume: elements of :data:`CONTENT` left out or overwritten, lengths and tags that are wrong (what
    they hide is as if it were not there), sizes that contradict, bytes put in between.
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
from pathlib import Path
from random import Random
from shutil import copytree, rmtree
from struct import pack
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pydicom.data
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import data_element_generator, read_preamble
from pydicom.filewriter import write_file_meta_info
from pydicom.tag import Tag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, EnhancedMRImageStorage, ExplicitVRLittleEndian

from napari_gradcam import GradCamError, read_volume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_gradcam.volumes import Volume

MUTANTS = 2000
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
FILES = (
    *("CT_small", "MR_small", "MR_small_RLE", "MR_small_jp2klossless", "MR_small_jpeg_ls_lossless"),
    *("MR_small_bigendian", "MR_small_implicit", "MR_small_padded", "image_dfl", "JPGExtended", "693_J2KI"),
    *("SC_rgb_jpeg_dcmtk", "SC_rgb_small_odd_jpeg", "SC_rgb_rle_2frame", "SC_ybr_full_422_uncompressed"),
    *("SC_rgb_gdcm_KY", "SC_rgb_small_odd_big_endian", "JPEGLSNearLossless_16"),
)
ALL_TAGS = ("CT_small", "MR_small_implicit", "MR_small_RLE", "MR_small_bigendian", "enhanced", "SC_rgb_jpeg_dcmtk")
"""Originals that are cut at each of their elements, and that each is left out of."""


# The originals


class Place(NamedTuple):
    """Where an element lies: its tag, where it and its value start, and where it ends."""

    tag: int
    start: int
    value: int
    end: int


class Original:
    """The bytes of a file, and where its elements lie; those of a deflated file unpacked."""

    def __init__(self, name: str, data: bytes, inside: str = "mutant.dcm") -> None:
        self.name, self.inside = name, inside
        """What the mutant is called in its folder."""
        file = BytesIO(data)
        dataset = dcmread(file)
        syntax = dataset.file_meta.TransferSyntaxUID
        file.seek(0)
        read_preamble(file, force=False)
        self.places = list(_places(file, implicit=False, little=True, until=Tag(0x0003, 0)))
        self.meta = self.places[-1].end
        self.deflated = syntax == DeflatedExplicitVRLittleEndian
        if self.deflated:
            data = data[: self.meta] + zlib.decompress(data[self.meta :], -zlib.MAX_WBITS)
        self.data, self.little, self.implicit = data, syntax.is_little_endian, syntax.is_implicit_VR
        file = BytesIO(data)
        file.seek(self.meta)
        self.places += _places(file, implicit=self.implicit, little=self.little)
        self.pixels = next((one for one in self.places if one.tag == PIXELS), None)

    def write(self, path: Path, data: bytes) -> None:
        if self.deflated:
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


def originals() -> dict[str, Original]:
    made = {name: Original(name, (PYDICOM / f"{name}.dcm").read_bytes()) for name in FILES}
    made["enhanced"], made["palette"] = Original("enhanced", enhanced()), Original("palette", palette())
    directory = (PYDICOM / "dicomdirtests" / "DICOMDIR").read_bytes()
    made["DICOMDIR"] = Original("DICOMDIR", directory, inside="DICOMDIR")
    return made
