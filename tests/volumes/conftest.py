"""Scans to read: small DICOM series written here, and the real awkward ones where they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pydicom import dcmread, dcmwrite
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, EnhancedMRImageStorage, ExplicitVRLittleEndian, generate_uid

from napari_gradcam import GradCamError, read_volume

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PRIVATE = ("secret", "person", "4711", "19700101")
"""What every scan written here holds of its patient, in small letters."""

AWKWARD = Path(__file__).parents[3] / "shared" / "data" / "awkward"


@pytest.fixture(scope="session")
def awkward() -> Path:
    if not AWKWARD.is_dir():
        pytest.skip("the real awkward scans (../shared/data/awkward) are on the project's own machines only")
    return AWKWARD


class SeriesMaker:
    """Writes classic DICOM series, one file a slice, into a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.uid = generate_uid()

    def slice(self, stored: np.ndarray, position: Any, *, name: str | None = None, **tags: Any) -> Path:
        """Write one image, ``(row, column)``; a tag of None is left out."""
        self.folder.mkdir(parents=True, exist_ok=True)
        dataset = Dataset()
        values = {
            "SOPClassUID": CTImageStorage,
            "SOPInstanceUID": generate_uid(),
            "SeriesInstanceUID": self.uid,
            "FrameOfReferenceUID": "1.2.3.4",
            "PatientName": "Secret^Person",
            "PatientID": "ID-4711",
            "PatientBirthDate": "19700101",
            "Modality": "MR",
            "SeriesDescription": "T1 axial",
            "ImageType": ["ORIGINAL", "PRIMARY", "M"],
            "ImagePositionPatient": None if position is None else [float(mm) for mm in position],
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "PixelSpacing": [2.0, 1.5],
            "SliceThickness": 9,
            "SpacingBetweenSlices": 8,
            "Rows": stored.shape[0],
            "Columns": stored.shape[1],
            "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME2",
            "BitsAllocated": stored.dtype.itemsize * 8,
            "BitsStored": stored.dtype.itemsize * 8,
            "HighBit": stored.dtype.itemsize * 8 - 1,
            "PixelRepresentation": int(stored.dtype.kind == "i"),
            "PixelData": stored.tobytes(),
            **tags,
        }
        for keyword, value in values.items():
            if value is not None:
                setattr(dataset, keyword, value)
        if "PixelData" in dataset:
            dataset["PixelData"].VR = "OW"
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = UID(values["SOPClassUID"])
        dataset.file_meta.MediaStorageSOPInstanceUID = values["SOPInstanceUID"] or generate_uid()
        path = self.folder / (name or f"{len(list(self.folder.iterdir())):03d}.dcm")
        dataset.save_as(path, enforce_file_format=True)
        return path

    def stack(self, stored: np.ndarray, positions: Any, **tags: Any) -> list[Path]:
        """Write one image for each position; `stored` is ``(slice, row, column)``."""
        return [self.slice(one, position, **tags) for one, position in zip(stored, positions, strict=True)]

    def frames(self, stored: np.ndarray, groups: Sequence[Dataset], **tags: Any) -> Path:
        """Write an Enhanced file, ``(frame, row, column)``, with the functional groups of each frame."""
        shared = tags.pop("shared", None) or group(
            PixelMeasuresSequence={"PixelSpacing": [2.0, 1.5], "SliceThickness": 9},
            PlaneOrientationSequence={"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
        )
        return self.slice(
            stored[0], None, **{
                "SOPClassUID": EnhancedMRImageStorage, "NumberOfFrames": len(stored), "PixelData": stored.tobytes(),
                "ImageOrientationPatient": None, "PixelSpacing": None, "SliceThickness": None,
                "SpacingBetweenSlices": None, "PerFrameFunctionalGroupsSequence": list(groups),
                "SharedFunctionalGroupsSequence": [shared], **tags,
            },
        )  # fmt: skip


@pytest.fixture
def series(tmp_path: Path) -> SeriesMaker:
    return SeriesMaker(tmp_path / "scan")


@pytest.fixture
def stored() -> np.ndarray:
    """Five slices of 4 rows and 6 columns, every number another one."""
    return np.arange(5 * 4 * 6, dtype=np.int16).reshape(5, 4, 6)


def group(position: Any = None, **items: dict[str, Any]) -> Dataset:
    """Make the functional groups of a frame: its position, and each other sequence of one item."""
    if position is not None:
        items["PlanePositionSequence"] = {"ImagePositionPatient": [float(mm) for mm in position]}
    groups = Dataset()
    for sequence, values in items.items():
        item = Dataset()
        for keyword, value in values.items():
            setattr(item, keyword, value)
        setattr(groups, sequence, [item])
    return groups


@pytest.fixture
def functional() -> Callable[..., Dataset]:
    """Give :func:`group`."""
    return group


@pytest.fixture
def refused() -> Callable[..., str]:
    """Give a function that reads what must be refused: in one sentence with these reasons and nobody's name."""

    def refused(paths: Any, *reasons: str, **how: Any) -> str:
        with pytest.raises(GradCamError) as caught:
            read_volume(paths, **how)
        sentence = str(caught.value)
        for reason in reasons:
            assert reason in sentence
        assert "\n" not in sentence
        assert not [private for private in PRIVATE if private in sentence.lower()]
        return sentence

    return refused


def repacked(path: Path, syntax: str, **tags: Any) -> Path:
    """Write a file again in another transfer syntax that is not compressed; its pixels are to be given in its order."""
    dataset = dcmread(path)
    for _ in dataset.iterall():
        pass  # what is still as it was read would be written as it was read
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    uid = UID(syntax)
    dataset.file_meta.TransferSyntaxUID = uid
    how = {"implicit_vr": uid.is_implicit_VR, "little_endian": uid.is_little_endian, "force_encoding": True}
    dcmwrite(path, dataset, **how)
    return path


@pytest.fixture
def repack() -> Callable[..., Path]:
    """Give :func:`repacked`."""
    return repacked


@pytest.fixture(scope="session")
def pydicom_file() -> Callable[[str], Path]:
    """Give a function that finds one of pydicom's own test files."""

    def find(name: str) -> Path:
        path = get_testdata_file(name, download=False)
        if path is None:
            pytest.skip(f"this pydicom comes without {name}")
        return Path(path)

    return find
