"""NIfTI files give their own values at their own place, or a sentence."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nibabel.eulerangles import euler2mat
from nibabel.testing import data_path

from napari_gradcam import GradCamError, read_volume
from napari_gradcam.volumes.nifti import is_nifti, nifti_scan, read_nifti

if TYPE_CHECKING:
    from napari_gradcam.volumes import Volume

NIBABEL_DATA = Path(data_path)
AFFINE = np.array([[-1.5, 0, 0, 80], [0, 2, 0, -90], [0, 0, 3, -40], [0, 0, 0, 1.0]])


def save(path: Path, array: np.ndarray, affine: np.ndarray | None = AFFINE, kind: type = nibabel.Nifti1Image) -> Path:
    kind(array, affine, dtype=array.dtype).to_filename(path)
    return path


def as_nibabel_reads(path: Path, volume: Volume) -> None:
    image = nibabel.load(path)
    np.testing.assert_allclose(volume.affine, image.affine, atol=1e-9)
    np.testing.assert_allclose(volume.array, image.get_fdata(), rtol=1e-6)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".hdr", ".img"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32])
def test_values_keep_their_type_and_place(tmp_path, ending, dtype):
    array = np.arange(24, dtype=dtype).reshape(2, 3, 4) + dtype(7)
    kind = nibabel.Nifti1Image if ending.startswith(".nii") else nibabel.Nifti1Pair
    volume = read_volume(save(tmp_path / f"head.one{ending}", array, kind=kind))
    assert volume.array.dtype == dtype
    assert volume.array.dtype.isnative
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_array_equal(volume.affine, AFFINE)
    assert volume.spacing == (1.5, 2.0, 3.0)
    assert (volume.name, volume.modality, volume.notices, volume.window) == ("head.one", "", (), None)
    assert volume.in_patient_space


def test_nifti_2_is_read(tmp_path):
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    np.testing.assert_array_equal(read_volume(save(tmp_path / "a.nii", array, kind=nibabel.Nifti2Image)).array, array)


def test_float64_becomes_float32(tmp_path):
    volume = read_volume(save(tmp_path / "a.nii", np.linspace(0, 1, 24).reshape(2, 3, 4)))
    assert volume.array.dtype == np.float32
    assert volume.array.max() == 1


def test_a_whole_intercept_keeps_whole_numbers_whole(tmp_path):
    image = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), AFFINE)
    image.header.set_slope_inter(1, -1024)
    image.to_filename(tmp_path / "a.nii")
    raw = bytearray((tmp_path / "a.nii").read_bytes())
    raw[112:120] = np.array([1, -1024], "<f4").tobytes()  # scl_slope and scl_inter, which nibabel resets on writing
    (tmp_path / "a.nii").write_bytes(raw)
    volume = read_volume(tmp_path / "a.nii")
    assert volume.array.dtype == np.int16
    as_nibabel_reads(tmp_path / "a.nii", volume)
    raw[112:120] = np.array([1, 32000], "<f4").tobytes()
    raw[352:354] = np.array([32000], "<i2").tobytes()
    (tmp_path / "a.nii").write_bytes(raw)
    volume = read_volume(tmp_path / "a.nii")
    assert volume.array.dtype == np.int32
    assert volume.array[0, 0, 0] == 64000


def test_a_display_range_is_the_window(tmp_path):
    image = nibabel.Nifti1Image(np.zeros((2, 3, 4), np.int16), AFFINE)
    image.header["cal_min"], image.header["cal_max"] = -100, 300
    image.to_filename(tmp_path / "a.nii")
    assert read_volume(tmp_path / "a.nii").window == (100, 400)
    assert read_volume(tmp_path / "a.nii").window.limits == (-100, 300)


def test_a_picture_is_one_slice(tmp_path):
    assert read_volume(save(tmp_path / "a.nii", np.zeros((5, 6), np.int16))).shape == (5, 6, 1)


def test_one_frame_is_no_more_than_a_volume(tmp_path):
    assert read_volume(save(tmp_path / "a.nii", np.zeros((5, 6, 7, 1, 1), np.int16))).shape == (5, 6, 7)


def test_nan_and_infinity_become_zero_and_are_counted(tmp_path):
    array = np.ones((2, 3, 4), np.float32)
    array[0, 0, 0], array[1, 1, 1] = np.nan, -np.inf
    volume = read_volume(save(tmp_path / "a.nii", array))
    assert volume.array[0, 0, 0] == volume.array[1, 1, 1] == 0
    assert volume.array.sum() == 22
    assert volume.notices == ("2 voxels (8.3 %) hold no number (NaN or infinite) and were set to 0.",)


def test_values_too_large_for_float32_are_said(tmp_path):
    array = np.ones((2, 3, 4))
    array[0, 0, 0] = 1e300
    assert "1 voxels" in read_volume(save(tmp_path / "a.nii", array)).notices[0]


def test_no_orientation_is_no_patient_space(tmp_path):
    image = nibabel.Nifti1Image(np.zeros((2, 3, 4), np.int16), AFFINE)
    image.header["sform_code"] = image.header["qform_code"] = 0
    image.to_filename(tmp_path / "a.nii")
    raw = bytearray((tmp_path / "a.nii").read_bytes())
    raw[252:256] = bytes(4)  # qform_code and sform_code
    (tmp_path / "a.nii").write_bytes(raw)
    volume = read_volume(tmp_path / "a.nii")
    assert not volume.in_patient_space
    assert "left and right" in volume.notices[0]


@pytest.mark.parametrize(("unit", "factor"), [("meter", 1000), ("micron", 0.001)])
def test_other_units_become_mm(tmp_path, unit, factor):
    image = nibabel.Nifti1Image(np.zeros((2, 3, 4), np.int16), AFFINE)
    image.header.set_xyzt_units(unit)
    image.to_filename(tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii")
    np.testing.assert_allclose(volume.affine[:3], AFFINE[:3] * factor)
    assert unit in volume.notices[0]


def test_an_oblique_scan_says_so(tmp_path):
    turn = np.eye(4)
    turn[:3, :3] = euler2mat(x=np.radians(12))
    notices = read_volume(save(tmp_path / "a.nii", np.zeros((2, 3, 4), np.int16), turn @ AFFINE)).notices
    assert notices == ("The scan is 12.0° oblique: it is shown in its acquisition planes.",)


@settings(derandomize=True, max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    angles=st.tuples(*[st.floats(-3, 3)] * 3),
    sizes=st.tuples(*[st.floats(0.2, 8)] * 3),
    shape=st.tuples(*[st.integers(1, 5)] * 3),
    dtype=st.sampled_from(["<i2", ">i2", ">f4", "<u2", "<f8", "u1"]),
)
def test_any_grid_and_type_is_read_back(tmp_path, angles, sizes, shape, dtype):
    affine = np.eye(4)
    affine[:3, :3] = euler2mat(*angles) @ np.diag(sizes)
    affine[:3, 3] = (3, -50, 120)
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    header = nibabel.Nifti1Header(endianness=">" if dtype[0] == ">" else "<")
    header.set_data_dtype(array.dtype)
    nibabel.Nifti1Image(array, affine, header).to_filename(tmp_path / "a.nii")
    volume = read_nifti(tmp_path / "a.nii")
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-4)
    assert volume.array.dtype.isnative


# Real files


def test_sform_is_taken_where_it_differs_from_qform(awkward):
    path = awkward / "nifti" / "sform_differs_from_qform.nii.gz"
    volume = read_volume(path)
    as_nibabel_reads(path, volume)
    np.testing.assert_allclose(volume.affine, nibabel.load(path).get_sform())
    assert any("sform and qform differ by up to 145 mm" in notice for notice in volume.notices)


def test_big_endian_with_a_qform_alone(awkward):
    path = awkward / "nifti" / "big_endian_qform_only.nii.gz"
    volume = read_volume(path)
    as_nibabel_reads(path, volume)
    assert volume.spacing == pytest.approx((4, 4, 6))
    assert volume.array.dtype == np.float32


def test_scaled_bytes_are_scaled(awkward):
    path = awkward / "nifti" / "scaled_uint8.nii.gz"
    volume = read_volume(path)
    as_nibabel_reads(path, volume)
    assert volume.array.dtype == np.float32


@pytest.mark.parametrize("name", ["anatomical.nii", "standard.nii.gz", "reoriented_anat_moved.nii"])
def test_nibabels_own_volumes_read_as_nibabel_reads_them(name):
    as_nibabel_reads(NIBABEL_DATA / name, read_volume(NIBABEL_DATA / name))


def test_nibabels_map_with_nan_is_read_with_a_count():
    volume = read_volume(NIBABEL_DATA / "resampled_anat_moved.nii")
    expected = nibabel.load(NIBABEL_DATA / "resampled_anat_moved.nii").get_fdata()
    assert f"{np.isnan(expected).sum()} voxels" in volume.notices[0]
    np.testing.assert_allclose(volume.array, np.nan_to_num(expected), rtol=1e-6)


def test_the_scan_is_described_before_a_voxel_is_read(tmp_path):
    noise = np.random.default_rng(0).integers(0, 99, (30, 40, 7, 2)).astype(np.int16)
    path = save(tmp_path / "a.nii.gz", noise)
    raw = bytearray(path.read_bytes())
    raw[-6] ^= 1  # the checksum
    path.write_bytes(raw)
    scan = nifti_scan(path)
    assert (scan.name, scan.modality, scan.images, scan.shape, scan.frames) == ("a", "", 7, (30, 40, 7), 2)
    assert (scan.spacing, scan.source, scan.in_patient_space) == ((1.5, 2.0, 3.0), (path,), True)
    np.testing.assert_array_equal(scan.affine, AFFINE)
    with pytest.raises(GradCamError, match="cut short or damaged"):
        scan.read(2)


def test_a_sheared_scan_says_so_and_keeps_its_shear(tmp_path):
    sheared = AFFINE.copy()
    sheared[1, 2] = 3 * np.tan(np.radians(14))
    volume = read_volume(save(tmp_path / "a.nii", np.zeros((2, 3, 4), np.int16), sheared))
    np.testing.assert_allclose(volume.affine, sheared, rtol=1e-6)
    assert volume.notices[-1] == (
        "The scan's axes are sheared by 14.0°: the picture is drawn without this shear; positions and exported files "
        "keep it."
    )


def test_a_scan_that_is_sheared_and_oblique_says_both(tmp_path):
    sheared, turn = AFFINE.copy(), np.eye(4)
    sheared[1, 2] = 3 * np.tan(np.radians(5))
    turn[:3, :3] = euler2mat(z=np.radians(20))
    notices = read_volume(save(tmp_path / "a.nii", np.zeros((2, 3, 4), np.int16), turn @ sheared)).notices
    assert "sheared by 5.0°" in notices[-2]
    assert "oblique" in notices[-1]


# Refusals


def refusal(path: Path) -> str:
    with pytest.raises(GradCamError) as caught:
        read_volume(path)
    sentence = str(caught.value)
    assert path.stem.split(".")[0] in sentence
    assert "\n" not in sentence
    assert ": " in sentence or ";" in sentence
    return sentence


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nifti1.hdr", "nifti1.img” does not exist: “nifti1.hdr” is one of a pair and needs it beside it."),
        ("nifti2.hdr", "nifti2.img” does not exist"),
        ("row_major.dconn.nii", "is CIFTI"),
    ],
)
def test_what_is_no_picture_is_refused(name, reason):
    assert reason in refusal(NIBABEL_DATA / name)


def test_analyze_is_refused(tmp_path):
    path = tmp_path / "analyze.hdr"
    path.write_bytes((NIBABEL_DATA / "analyze.hdr").read_bytes())
    (tmp_path / "analyze.img").write_bytes(bytes(1000))
    assert not is_nifti(path)
    with pytest.raises(GradCamError, match="does not say left from right"):
        read_nifti(path)


def test_all_nan_is_refused(tmp_path):
    assert "no finite value" in refusal(save(tmp_path / "a.nii", np.full((2, 3, 4), np.nan, np.float32)))


def test_a_flat_geometry_is_refused(tmp_path):
    path = save(tmp_path / "flat.nii", np.zeros((2, 3, 4), np.int16))
    raw = bytearray(path.read_bytes())
    raw[280:328] = bytes(48)  # the sform's rows
    path.write_bytes(raw)
    assert "cannot be inverted" in refusal(path)


def test_a_damaged_qform_beside_a_good_sform_is_said(tmp_path):
    path = save(tmp_path / "a.nii", np.zeros((2, 3, 4), np.int16))
    raw = bytearray(path.read_bytes())
    raw[252:254] = np.array([1], "<i2").tobytes()
    raw[256:268] = np.array([5, 5, 5], "<f4").tobytes()  # no quaternion
    path.write_bytes(raw)
    volume = read_volume(path)
    assert "qform cannot be read" in volume.notices[0]
    np.testing.assert_allclose(volume.affine, AFFINE)


def test_what_nibabel_mends_is_said_and_not_printed(tmp_path, capfd):
    path = save(tmp_path / "a.nii", np.zeros((2, 3, 4), np.int16))
    raw = bytearray(path.read_bytes())
    raw[252:254] = np.array([15617], "<i2").tobytes()  # qform_code
    path.write_bytes(raw)
    assert "qform_code 15617 not valid" in read_volume(path).notices[0]
    assert capfd.readouterr() == ("", "")


def test_a_nifti_file_is_known_by_its_content(tmp_path):
    path = save(tmp_path / "a.nii.gz", np.zeros((2, 3, 4), np.int16))
    other = path.rename(tmp_path / "a.scan")
    assert is_nifti(other)
    assert "rename it" in refusal(other)
    assert not is_nifti(tmp_path / "missing")


def test_a_flipped_byte_of_a_packed_file_is_found(tmp_path):
    array = np.random.default_rng(0).integers(0, 1000, (20, 20, 20)).astype(np.int16)
    path = save(tmp_path / "a.nii.gz", array)
    raw = bytearray(path.read_bytes())
    for place in (len(raw) // 2, len(raw) - 7):
        broken = raw.copy()
        broken[place] ^= 0x10
        (tmp_path / "b.nii.gz").write_bytes(broken)
        assert "cut short or damaged" in refusal(tmp_path / "b.nii.gz")


def test_a_header_that_promises_terabytes_is_refused_at_once(tmp_path):
    path = save(tmp_path / "bomb.nii", np.zeros((2, 3, 4), np.int16))
    raw = bytearray(path.read_bytes())
    raw[42:48] = np.array([32767] * 3, "<i2").tobytes()
    path.write_bytes(raw)
    assert "more than the file has" in refusal(path)
    packed = tmp_path / "bomb.nii.gz"
    packed.write_bytes(gzip.compress(bytes(raw)))
    assert "more than the file has" in refusal(packed)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_file_cut_anywhere_is_refused_or_right(tmp_path, ending):
    array = np.random.default_rng(0).integers(0, 1000, (9, 8, 7)).astype(np.int16)
    whole = save(tmp_path / f"a{ending}", array).read_bytes()
    cut = tmp_path / f"cut{ending}"
    for length in np.linspace(0, len(whole) - 1, 30).astype(int):
        cut.write_bytes(whole[:length])
        refusal(cut)


HEADER_NONSENSE = {
    "its own size": (0, np.array([347], "<i4"), "does not begin with its own size"),
    "no axes": (40, np.array([0], "<i2"), "says it has 0 axes"),
    "eight axes": (40, np.array([8], "<i2"), "says it has 8 axes"),
    "a negative count": (42, np.array([-2], "<i2"), "holds no voxels (its shape is -2 × 3 × 4)"),
    "65,535 voxels": (42, np.array([65535] * 3, "<u2"), "holds no voxels (its shape is -1 × -1 × -1)"),
    "voxels inside the header": (108, np.array([100], "<f4"), "vox offset 100 too low"),
    "voxels before the file": (108, np.array([-16], "<f4"), "cannot be read as NIfTI"),
    "voxels at half a byte": (108, np.array([352.5], "<f4"), "begin at byte 352.5"),
    "voxels nowhere": (108, np.array([np.nan], "<f4"), "begin at byte nan"),
    "voxels after the file": (108, np.array([1e9], "<f4"), "more than the file has"),
    "no type": (70, np.array([0], "<i2"), "cannot be computed with here (none)"),
    "bits": (70, np.array([1], "<i2"), "cannot be computed with here (binary)"),
    "an infinite intercept": (116, np.array([np.inf], "<f4"), "invalid intercept inf"),
}


@pytest.mark.parametrize(("place", "value", "reason"), HEADER_NONSENSE.values(), ids=HEADER_NONSENSE)
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_header_of_nonsense_is_refused(tmp_path, place, value, reason, ending):
    raw = bytearray(save(tmp_path / "a.nii", np.zeros((2, 3, 4), np.int16)).read_bytes())
    raw[place : place + value.nbytes] = value.tobytes()
    path = tmp_path / f"bad{ending}"
    path.write_bytes(gzip.compress(raw) if ending.endswith("gz") else raw)
    assert reason in refusal(path)
    with pytest.raises(GradCamError):
        nifti_scan(path)  # before a voxel is read


@pytest.mark.parametrize("size", [0.0, -2.0, np.nan])
def test_a_voxel_size_that_is_none_is_refused_where_the_qform_needs_it(tmp_path, size):
    image = nibabel.Nifti1Image(np.zeros((2, 3, 4), np.int16), AFFINE)
    image.set_qform(AFFINE, 1)
    image.set_sform(None, 0)
    image.to_filename(tmp_path / "a.nii")
    raw = bytearray((tmp_path / "a.nii").read_bytes())
    raw[80:84] = np.array([size], "<f4").tobytes()
    (tmp_path / "a.nii").write_bytes(raw)
    assert f"gives {size:g} as a voxel size" in refusal(tmp_path / "a.nii")


def test_a_distance_that_no_body_has_is_refused(tmp_path):
    path = save(tmp_path / "a.nii", np.zeros((2, 3, 4), np.int16))
    raw = bytearray(path.read_bytes())
    raw[280:284] = np.array([1e30], "<f4").tobytes()
    path.write_bytes(raw)
    assert "no usable geometry" in refusal(path)


def test_an_offset_of_zero_is_right_after_the_header(tmp_path):
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    path = save(tmp_path / "a.nii", array)
    raw = bytearray(path.read_bytes())
    raw[108:112] = bytes(4)
    path.write_bytes(raw)
    np.testing.assert_array_equal(read_volume(path).array, array)
