"""Real awkward scans: each row of ../shared/data/README.md, and pydicom's own files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pytest
from nibabel.affines import apply_affine
from pydicom import dcmread
from pydicom.data import get_testdata_file

from napari_gradcam import GradCamError, read_volume
from napari_gradcam.volumes.orientation import axis_letters, obliquity

if TYPE_CHECKING:
    from napari_gradcam.volumes import Volume


def pydicom_file(name: str) -> Path:
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip(f"this pydicom comes without {name}")
    return Path(path)


def same_values_at_the_same_positions(volume: Volume, expected: Path, tolerance: float = 0) -> None:
    """Compare voxel by voxel in patient space: the two arrays may run along their axes differently."""
    image = nibabel.load(expected)
    values = np.asanyarray(image.dataobj)
    index = np.moveaxis(np.indices(volume.shape), 0, -1)
    theirs = apply_affine(np.linalg.inv(image.affine) @ volume.affine, index)
    nearest = np.round(theirs).astype(int)
    sizes = np.linalg.norm(image.affine[:3, :3], axis=0)
    assert np.abs((theirs - nearest) * sizes).max() < 1e-3  # mm
    assert sorted(volume.shape) == sorted(values.shape)
    np.testing.assert_allclose(volume.array, values[tuple(np.moveaxis(nearest, -1, 0))], rtol=tolerance, atol=0)


@pytest.mark.parametrize("name", ["mr_j2k", "mr_rle", "mr_oblique_38deg"])
def test_a_series_equals_its_expected_volume(awkward, name):
    volume = read_volume(awkward / name / "series")
    assert volume.array.dtype.kind in "iu"
    same_values_at_the_same_positions(volume, awkward / name / "expected.nii.gz")


def test_a_slope_for_each_slice(awkward):
    volume = read_volume(awkward / "mr_slope_per_slice" / "series")
    assert volume.spacing == pytest.approx((6.4, 4.0, 0.5), abs=1e-4)
    same_values_at_the_same_positions(volume, awkward / "mr_slope_per_slice" / "expected.nii.gz", tolerance=1e-6)


def test_obliquity_of_the_38_degree_scan(awkward):
    volume = read_volume(awkward / "mr_oblique_38deg" / "series")
    assert obliquity(volume.affine) == pytest.approx(38.7, abs=0.05)
    assert "38.7° oblique" in volume.notices[0]


def test_the_ct_lies_under_its_own_labels(awkward):
    volume = read_volume(awkward / "ct_body_j2k" / "series")
    labels = nibabel.load(awkward / "ct_body_j2k" / "organ_labels.nii.gz")
    assert volume.shape == (512, 512, 20)
    assert volume.spacing == pytest.approx((0.9765625, 0.9765625, 2.0))  # Slice Thickness says 3
    assert (volume.modality, volume.name, volume.window) == ("CT", "CT Body 3.0", (40, 300))
    assert volume.array.dtype == np.int16
    assert volume.array.min() == -1024
    index = np.array([(0, 0, 0), (511, 511, 19), (100, 300, 7)])
    theirs = apply_affine(np.linalg.inv(labels.affine) @ volume.affine, index)
    np.testing.assert_allclose(theirs, np.round(theirs), atol=1e-3)
    # What is labelled is body, not air: the labels lie on the scan and not beside it. One voxel in 32 will do.
    thin = np.moveaxis(np.indices((128, 128, 10)), 0, -1) * (4, 4, 2)
    theirs = np.round(apply_affine(np.linalg.inv(labels.affine) @ volume.affine, thin)).astype(int)
    inside = np.asanyarray(labels.dataobj)[tuple(np.moveaxis(theirs, -1, 0))] > 0
    values = volume.array[::4, ::4, ::2][inside]
    assert np.median(values) > -200
    assert (values > -950).mean() > 0.98


def test_a_gantry_tilt_keeps_its_shear(awkward):
    volume = read_volume(awkward / "ct_gantry_tilt")
    step, down = volume.affine[:3, 2], volume.affine[:3, 1]
    np.testing.assert_allclose(step, (0, 0, 5), atol=1e-9)
    cosine = abs(step @ down) / np.linalg.norm(step) / np.linalg.norm(down)
    assert np.degrees(np.arcsin(cosine)) == pytest.approx(14.0, abs=0.1)
    assert any("14.0°" in notice and "gantry tilt" in notice for notice in volume.notices)


@pytest.mark.parametrize("name", ["mr_enhanced_multiframe/IM-0001-0170-0001.dcm", "ct_enhanced/eCT_Supplemental.dcm"])
def test_each_frame_of_an_enhanced_file_lies_at_its_own_place_with_its_own_values(awkward, name):
    volume = read_volume(awkward / name)
    dataset = dcmread(awkward / name)
    assert volume.shape == (dataset.Columns, dataset.Rows, dataset.NumberOfFrames)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    for frame, groups in zip(dataset.pixel_array, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        lps = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        index = np.linalg.solve(volume.affine, [-lps[0], -lps[1], lps[2], 1])[:3]
        np.testing.assert_allclose(index, np.round(index), atol=0.01)
        own = groups if "PixelValueTransformationSequence" in groups else shared
        scale = own.PixelValueTransformationSequence[0]
        expected = frame.T * float(scale.RescaleSlope) + float(scale.RescaleIntercept)
        np.testing.assert_allclose(volume.array[:, :, round(index[2])], expected, rtol=1e-6)


def test_an_enhanced_ct_is_one_volume_in_hounsfield_units(awkward):
    volume = read_volume(awkward / "ct_enhanced")
    assert volume.shape == (512, 512, 2)
    assert volume.modality == "CT"
    assert volume.spacing[2] == pytest.approx(10)
    assert volume.array.min() == -1024
    assert volume.array.dtype == np.int16


def test_images_at_one_position_are_refused(awkward):
    with pytest.raises(GradCamError, match=r"ct_one_position” is not a volume: its 4 images lie at one position"):
        read_volume(awkward / "ct_one_position")


def test_mixed_orientations_are_two_volumes_that_a_person_can_tell_apart(awkward):
    folder = awkward / "mr_mixed_orientations"
    with pytest.raises(GradCamError, match=r"holds 2 scans \(1: .*, sagittal”.*2 images; 2: .*, axial”.*2 images\)"):
        read_volume(folder)
    for name, letters in (("sagittal", "PIR"), ("axial", "LPS")):
        volume = read_volume(folder, series=name)
        assert axis_letters(volume.affine) == tuple(letters)
        assert volume.shape == (288, 288, 2)
        for k, path in enumerate(volume.source):
            dataset = dcmread(path)
            np.testing.assert_array_equal(volume.array[:, :, k], dataset.pixel_array.T)
            lps = np.diag([-1, -1, 1, 1]) @ volume.affine
            np.testing.assert_allclose(lps @ (0, 0, k, 1), [*dataset.ImagePositionPatient, 1], atol=0.01)
            np.testing.assert_allclose(volume.spacing[1::-1], dataset.PixelSpacing)


def test_one_of_the_mixed_stacks_can_be_given_as_a_list(awkward):
    files = [awkward / "mr_mixed_orientations" / f"IM-0001-000{n}-0001.dcm" for n in (1, 2)]
    volume = read_volume(files)
    assert volume.shape == (288, 288, 2)
    assert axis_letters(volume.affine) == ("L", "P", "S")


# NIfTI


def test_the_sform_is_used_where_it_differs_from_the_qform_and_this_is_said(awkward):
    path = awkward / "nifti" / "sform_differs_from_qform.nii.gz"
    volume, theirs = read_volume(path), nibabel.load(path)
    sform, qform = theirs.header.get_sform(), theirs.header.get_qform()
    assert np.linalg.norm(sform[:3, 3] - qform[:3, 3]) > 100  # mm: what makes the file awkward
    np.testing.assert_allclose(volume.affine, sform, atol=1e-6)
    np.testing.assert_allclose(volume.affine, theirs.affine, atol=1e-6)
    np.testing.assert_array_equal(volume.array, np.asanyarray(theirs.dataobj).reshape(volume.shape))
    assert any("sform" in notice and "qform" in notice for notice in volume.notices)


def test_a_big_endian_file_with_a_qform_alone_is_read_as_nibabel_reads_it(awkward):
    path = awkward / "nifti" / "big_endian_qform_only.nii.gz"
    volume, theirs = read_volume(path), nibabel.load(path)
    assert theirs.header.endianness == ">"
    assert int(theirs.header["sform_code"]) == 0
    np.testing.assert_allclose(volume.affine, theirs.affine, atol=1e-6)
    np.testing.assert_array_equal(volume.array, theirs.get_fdata(dtype=np.float32).reshape(volume.shape))
    assert volume.spacing == pytest.approx((4, 4, 6))
    assert volume.array.dtype.isnative


def test_scaled_bytes_are_read_as_values(awkward):
    path = awkward / "nifti" / "scaled_uint8.nii.gz"
    volume, theirs = read_volume(path), nibabel.load(path)
    slope, intercept = theirs.dataobj.slope, theirs.dataobj.inter
    assert (slope, intercept) != (1, 0)
    stored = theirs.dataobj.get_unscaled().reshape(volume.shape)
    assert stored.dtype == np.uint8
    np.testing.assert_allclose(volume.array, stored * slope + intercept, rtol=1e-6)
    np.testing.assert_allclose(volume.affine, theirs.affine, atol=1e-6)


# pydicom's own files

ENCODINGS = ["", "_RLE", "_bigendian", "_expb", "_implicit", "_jp2klossless", "_jpeg_ls_lossless", "_padded"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_one_mr_in_eight_encodings_is_one_volume(encoding):
    plain = read_volume(pydicom_file("MR_small.dcm"))
    volume = read_volume(pydicom_file(f"MR_small{encoding}.dcm"))
    np.testing.assert_array_equal(volume.array, plain.array)
    np.testing.assert_array_equal(volume.affine, plain.affine)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("JPEG-lossy.dcm", "cannot be decoded"),
        ("JPEG2000-embedded-sequence-delimiter.dcm", "cannot be decoded"),
        ("MR_truncated.dcm", "62 bytes of its pixel data are missing"),
        ("badVR.dcm", "damaged header"),
        ("meta_missing_tsyntax.dcm", "export it again"),
        ("nested_priv_SQ.dcm", "export it again"),
        ("test-SR.dcm", "Comprehensive SR"),
        ("rtstruct.dcm", "RT Structure Set"),
        ("rtdose.dcm", "not a scan"),
        ("liver_1frame.dcm", "a segmentation"),
        ("README.txt", "neither DICOM nor NIfTI"),
        ("dicomdirtests/DICOMDIR", "holds 24 scans"),
        ("dicomdirtests/77654033", "holds 4 scans"),
        ("dicomdirtests/77654033/CT2", "161 slices are missing"),
        ("dicomdirtests/98892001/CT2N", "1: “Scout, sagittal”, series 4, CT, localizer, 1 image; 2: “Scout, coronal”"),
    ],
)
def test_pydicoms_files_that_are_no_volume_are_refused(name, reason):
    path = pydicom_file("dicomdirtests/DICOMDIR").parents[1] / name if "/" in name else pydicom_file(name)
    with pytest.raises(GradCamError, match=r".+") as caught:
        read_volume(path)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_file_of_pydicom_ends_in_anything_but_a_volume_or_a_sentence():
    folder = pydicom_file("CT_small.dcm").parent
    read, named = 0, []
    for path in sorted(path for path in folder.glob("*") if path.is_file()):
        try:
            read += bool(np.isfinite(read_volume(path).array).all())
        except GradCamError as error:
            named.append(path.name in str(error))
    assert all(named)
    assert read > 40
    assert len(named) > 30


def test_a_gated_ct_of_pydicom_is_a_volume():
    volume = read_volume(pydicom_file("dicomdirtests/DICOMDIR").parent / "98892001" / "CT5N")
    assert volume.shape == (16, 16, 5)


def test_the_cervical_x_ray_is_turned_over_and_unplaced():
    volume = read_volume(pydicom_file("dicomdirtests/DICOMDIR").parent / "77654033" / "CR1")
    assert not volume.in_patient_space
    assert any("MONOCHROME1" in notice for notice in volume.notices)
