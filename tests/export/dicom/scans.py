"""Small DICOM scans of known geometry, maps on them, and what stands in a real bundle's provenance."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import CTImageStorage, EnhancedMRImageStorage, ExplicitVRLittleEndian, generate_uid

from napari_gradcam.provenance import Asked, Model, Provenance

if TYPE_CHECKING:
    from collections.abc import Sequence

PERSONAL = {
    "PatientName": "Secret^Person",
    "PatientID": "ID-4711-XY",
    "IssuerOfPatientID": "Hospital of Somewhere",
    "PatientBirthDate": "19700131",
    "PatientSex": "F",
    "PatientAge": "053Y",
    "PatientWeight": "61.5",
    "PatientComments": "likes tea",
    "StudyInstanceUID": "1.2.826.0.1.999.1",
    "SeriesInstanceUID": "1.2.826.0.1.999.2",
    "FrameOfReferenceUID": "1.2.826.0.1.999.3",
    "StudyDate": "20230517",
    "StudyTime": "101112",
    "SeriesDate": "20230518",
    "SeriesTime": "131415",
    "AcquisitionDate": "20230519",
    "ContentDate": "20230520",
    "ContentTime": "171819",
    "StudyID": "ST-0815",
    "AccessionNumber": "ACC-1234567",
    "StudyDescription": "Head of a person",
    "SeriesDescription": "T1 axial",
    "InstitutionName": "General Hospital",
    "InstitutionAddress": "1 Some Street",
    "StationName": "SCANNER7",
    "ReferringPhysicianName": "Doctor^Who",
    "PhysiciansOfRecord": "Doctor^Watson",
    "OperatorsName": "Smith^Op",
    "DeviceSerialNumber": "SN-998877",
    "ProtocolName": "PROTOCOL-55",
    "RequestedProcedureDescription": "Look for it",
    "TimezoneOffsetFromUTC": "+0530",
    "PositionReferenceIndicator": "SN-LINE-3",
}
"""What the series written here say of their patient, study and hospital."""


def write_series(
    folder: Path,
    positions: Any,
    orientation: Sequence[float] = (1, 0, 0, 0, 1, 0),
    *,
    size: tuple[int, int] = (10, 14),
    backwards: bool = False,
    **tags: Any,
) -> list[Path]:
    """Write a classic CT series, each image with its own number in its first pixel; a tag of None is left out."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, columns = size
    paths = []
    for number, position in enumerate(positions):
        dataset = Dataset()
        values = {
            "SOPClassUID": CTImageStorage,
            "SOPInstanceUID": f"{tags.get('SeriesInstanceUID') or PERSONAL['SeriesInstanceUID']}.{number + 1}",
            "Modality": "CT",
            "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
            "SeriesNumber": 4,
            "InstanceNumber": number + 1,
            "ImagePositionPatient": [round(float(mm), 6) for mm in position],
            "ImageOrientationPatient": [round(float(one), 6) for one in orientation],
            "PixelSpacing": [2.0, 1.5],
            "SliceThickness": 3,
            "Rows": rows,
            "Columns": columns,
            "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME2",
            "BitsAllocated": 16,
            "BitsStored": 16,
            "HighBit": 15,
            "PixelRepresentation": 1,
            "RescaleIntercept": 0,
            "RescaleSlope": 1,
            "SpecificCharacterSet": "ISO_IR 100",
            **PERSONAL,
            **tags,
        }
        for keyword, value in values.items():
            if value is not None:
                setattr(dataset, keyword, value)
        stored = (np.arange(rows * columns).reshape(size) + 1000 * number).astype(np.int16)
        dataset.PixelData = stored.tobytes()
        dataset["PixelData"].VR = "OW"
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = values["SOPClassUID"]
        dataset.file_meta.MediaStorageSOPInstanceUID = values["SOPInstanceUID"] or generate_uid()
        name = len(positions) - number if backwards else number
        paths.append(folder / f"image{name:03d}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def straight(count: int = 6, step: Sequence[float] = (0, 0, 4), first: Sequence[float] = (-20, -30, 40)) -> np.ndarray:
    """Give positions on a line, LPS+ mm."""
    return np.array(first, dtype=float) + np.arange(count)[:, None] * np.array(step, dtype=float)


def write_enhanced(path: Path, positions: Any, *, echoes: int = 1) -> Path:
    """Write an Enhanced MR file, its frames in the order given; of several echoes, one behind the other."""
    (single,) = write_series(path.parent, positions[:1], Modality="MR", SOPClassUID=EnhancedMRImageStorage)
    dataset = dcmread(single)
    single.unlink()
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        del dataset[keyword]
    del dataset.RescaleIntercept, dataset.RescaleSlope
    frames = []
    for echo in range(echoes):
        for position in positions:
            place, content, frame, time = Dataset(), Dataset(), Dataset(), Dataset()
            place.ImagePositionPatient = [float(mm) for mm in position]
            content.StackID = "1"
            time.EffectiveEchoTime = 10.0 * (echo + 1)
            frame.PlanePositionSequence, frame.FrameContentSequence = Items([place]), Items([content])
            frame.MREchoSequence = Items([time])
            frames.append(frame)
    measures, orientation, shared = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [2.0, 1.5], 3
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Items([measures]), Items([orientation])
    dataset.SharedFunctionalGroupsSequence = Items([shared])
    dataset.PerFrameFunctionalGroupsSequence = Items(frames)
    dataset.NumberOfFrames = len(frames)
    stored = np.arange(len(frames) * dataset.Rows * dataset.Columns, dtype=np.int16)
    dataset.PixelData = stored.tobytes()
    dataset.save_as(path, enforce_file_format=True)
    return path


def provenance_of() -> Provenance:
    model = Model(
        name="two classes",
        version="1.2.0",
        source=Path("model"),
        contents="c" * 64,
        weights="ab" * 32,
        preprocessing=(),
        activation="softmax",
        spatial_dims=3,
    )
    return Provenance(model, Asked(), "cpu", versions={"napari-gradcam": "0", "torch": "2.11.0"})


def two_spots(shape: tuple[int, int, int], *, signed: bool = False) -> np.ndarray:
    """Make a map of weak noise with two hot spots, in the order of memory that volumes have."""
    heat = np.asfortranarray(np.random.default_rng(7).random(shape, dtype=np.float32) * 0.01)
    last = max(shape[2] - 2, 0)
    heat[2:5, 3:6, : min(2, shape[2])] = 0.5
    heat[3, 4, 0] = 0.8
    heat[9:11, 6:8, last:] = -0.7 if signed else 0.6
    return heat
