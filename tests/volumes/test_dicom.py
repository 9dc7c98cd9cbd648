"""Classic series written here: every slice at its place with its values, or a sentence."""

from __future__ import annotations

import shutil
from itertools import product

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nibabel.affines import apply_affine
from nibabel.eulerangles import euler2mat
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, generate_uid

from napari_gradcam import GradCamError, read_volume, words
from napari_gradcam.volumes.reading import find_scans

EVENLY = [(-10, -20, 5 * k) for k in range(5)]


def refusal(paths, *reasons: str) -> str:
    with pytest.raises(GradCamError) as caught:
        read_volume(paths)
    sentence = str(caught.value)
    for reason in reasons:
        assert reason in sentence
    assert "\n" not in sentence
    for private in ("Secret", "Person", "4711", "19700101"):
        assert private not in sentence
    return sentence


def test_a_series_lies_where_its_positions_say(series, stored):
    series.stack(stored, EVENLY)
    volume = read_volume(series.folder)
    np.testing.assert_array_equal(volume.array, stored.transpose(2, 1, 0))
    assert volume.array.dtype == np.int16
    assert volume.array.flags.f_contiguous
    # LPS+ positions are RAS+ with x and y turned over; columns are 1.5 mm apart, rows 2 mm, slices 5 mm.
    np.testing.assert_allclose(
        volume.affine, [[-1.5, 0, 0, 10], [0, -2, 0, 20], [0, 0, 5, 0], [0, 0, 0, 1]], atol=1e-12
    )
    assert (volume.modality, volume.name, volume.notices, volume.window) == ("MR", "T1 axial", (), None)
    assert [path.name for path in volume.source] == [f"{k:03d}.dcm" for k in range(5)]


def test_neither_numbers_nor_names_place_slices(series, stored):
    for rank, k in enumerate([3, 0, 4, 1, 2]):
        series.slice(stored[k], EVENLY[k], name=f"{rank}.dcm", InstanceNumber=7 - rank, SliceLocation=rank)
    volume = read_volume(series.folder)
    np.testing.assert_array_equal(volume.array, stored.transpose(2, 1, 0))
    assert volume.spacing == pytest.approx((1.5, 2, 5))


def test_a_list_of_files_and_subfolders_are_a_series_too(series, stored):
    paths = series.stack(stored, EVENLY)
    (series.folder / "deeper").mkdir()
    shutil.move(paths[2], series.folder / "deeper")
    np.testing.assert_array_equal(read_volume(series.folder).array, stored.transpose(2, 1, 0))
    paths[2] = series.folder / "deeper" / paths[2].name
    np.testing.assert_array_equal(read_volume([str(path) for path in reversed(paths)]).array, stored.transpose(2, 1, 0))
    np.testing.assert_array_equal(read_volume([*paths, paths[0]]).array, stored.transpose(2, 1, 0))


def test_slices_from_head_to_feet_are_the_same_volume(series, stored):
    series.stack(stored[::-1], EVENLY[::-1])
    np.testing.assert_array_equal(read_volume(series.folder).array, stored.transpose(2, 1, 0))


def test_each_slice_has_its_own_slope(series, stored):
    for k in range(5):
        series.slice(stored[k], EVENLY[k], RescaleSlope=0.5 + k, RescaleIntercept=-k)
    volume = read_volume(series.folder)
    assert volume.array.dtype == np.float32
    for k in range(5):
        np.testing.assert_allclose(volume.array[:, :, k], stored[k].T * (0.5 + k) - k, rtol=1e-6)


def test_hounsfield_units_stay_whole_and_small(series):
    stored = np.arange(5 * 24, dtype=np.uint16).reshape(5, 4, 6)
    series.stack(stored, EVENLY, Modality="CT", RescaleSlope=1, RescaleIntercept=-1024)
    volume = read_volume(series.folder)
    assert volume.array.dtype == np.int16
    assert volume.array.min() == -1024


def test_values_beyond_int16_widen_the_volume(series):
    stored = np.zeros((5, 4, 6), dtype=np.uint16)
    stored[3] = 65000
    stored[0] = 5
    series.stack(stored, EVENLY, RescaleSlope=1, RescaleIntercept=-1024)
    volume = read_volume(series.folder)
    assert volume.array.dtype == np.int32
    assert volume.array[0, 0].tolist() == [5 - 1024, -1024, -1024, 65000 - 1024, -1024]


def test_monochrome1_is_turned_over_with_its_window(series, stored):
    x_ray = {"Modality": "DX", "PhotometricInterpretation": "MONOCHROME1", "BitsStored": 8, "HighBit": 7}
    series.slice(stored[0].astype(np.uint16), EVENLY[0], WindowCenter=[10, 99], WindowWidth=[20, 99], **x_ray)
    volume = read_volume(series.folder)
    np.testing.assert_array_equal(volume.array[:, :, 0], 255 - stored[0].T)
    assert volume.window == (245, 20)
    assert any("MONOCHROME1" in notice for notice in volume.notices)


def test_monochrome1_with_a_slope_is_turned_over_within_its_range(series, stored):
    series.slice(
        stored[0].astype(np.uint8), EVENLY[0], Modality="CR", PhotometricInterpretation="MONOCHROME1",
        RescaleSlope=2, RescaleIntercept=10, WindowCenter=30, WindowWidth=8,
    )  # fmt: skip
    volume = read_volume(series.folder)
    np.testing.assert_allclose(volume.array[:, :, 0], (255 - stored[0].T.astype(float)) * 2 + 10)
    assert volume.window.center == 10 + 520 - 30


def test_hounsfield_units_are_never_turned_over(series, stored):
    series.stack(stored, EVENLY, Modality="CT", PhotometricInterpretation="MONOCHROME1")
    volume = read_volume(series.folder)
    np.testing.assert_array_equal(volume.array, stored.transpose(2, 1, 0))
    assert any("values are kept" in notice for notice in volume.notices)


def test_the_first_window_is_taken(series, stored):
    series.stack(stored, EVENLY, WindowCenter=[40, 300], WindowWidth=[400, 1500])
    assert read_volume(series.folder).window == (40, 400)


@pytest.mark.parametrize("window", [{"WindowCenter": 40}, {"WindowCenter": 40, "WindowWidth": 0}])
def test_half_a_window_is_none(series, stored, window):
    series.stack(stored, EVENLY, **window)
    assert read_volume(series.folder).window is None


def test_a_gantry_tilt_keeps_its_shear(series, stored):
    tilt = np.radians(14)
    series.stack(stored, EVENLY, ImageOrientationPatient=[1, 0, 0, 0, np.cos(tilt), -np.sin(tilt)])
    volume = read_volume(series.folder)
    np.testing.assert_allclose(volume.affine[:3, 2], (0, 0, 5), atol=1e-9)
    np.testing.assert_allclose(volume.affine[:3, 1], (0, -2 * np.cos(tilt), -2 * np.sin(tilt)), atol=1e-9)
    assert len(volume.notices) == 1
    assert "14.0°" in volume.notices[0]
    assert "tilt" in volume.notices[0]


def test_an_oblique_series_says_so(series, stored):
    turn = euler2mat(x=np.radians(7.7))
    orientation = [*turn[:, 0], *turn[:, 1]]
    series.stack(stored, [turn @ (0, 0, 5.0 * k) for k in range(5)], ImageOrientationPatient=orientation)
    volume = read_volume(series.folder)
    assert volume.notices == ("The scan is 7.7° oblique: it is shown in its acquisition planes.",)


def test_slightly_uneven_slices_are_evened_and_said(series, stored):
    series.stack(stored, [(0, 0, z) for z in (0, 5.1, 10, 14.9, 20)])
    volume = read_volume(series.folder)
    assert volume.spacing[2] == pytest.approx(5, abs=0.05)
    assert "unevenly spaced (4.90 to 5.10 mm)" in volume.notices[0]
    centres = apply_affine(volume.affine, [(0, 0, k) for k in range(5)])[:, 2]
    np.testing.assert_allclose(centres, (0, 5.1, 10, 14.9, 20), atol=0.2)


@settings(derandomize=True, max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    angles=st.tuples(*[st.floats(-3, 3)] * 3),
    sizes=st.tuples(*[st.floats(0.3, 6)] * 3),
    order=st.permutations(range(4)),
    signed=st.booleans(),
)
def test_any_orientation_is_read_back(series, angles, sizes, order, signed):
    """The world position of every voxel is the one DICOM's own equation gives (PS3.3 C.7.6.2.1.1)."""
    shutil.rmtree(series.folder, ignore_errors=True)
    turn = euler2mat(*angles)
    stored = np.arange(4 * 3 * 5).reshape(4, 3, 5).astype(np.int16 if signed else np.uint16)
    origin = np.array([12.0, -34.0, 56.0])
    for k in order:
        series.slice(
            stored[k], np.round(origin + turn[:, 2] * sizes[2] * k, 9), PixelSpacing=[round(n, 9) for n in sizes[:2]],
            ImageOrientationPatient=[round(float(n), 9) for n in (*turn[:, 0], *turn[:, 1])],
        )  # fmt: skip
    volume = read_volume(series.folder)
    for k, row, column in [(0, 0, 0), (3, 2, 4), (1, 2, 0), (2, 0, 3)]:
        lps = origin + turn @ (column * sizes[1], row * sizes[0], k * sizes[2])
        index = np.linalg.solve(volume.affine, [-lps[0], -lps[1], lps[2], 1])[:3]
        np.testing.assert_allclose(index, np.round(index), atol=1e-5)
        assert volume.array[tuple(np.round(index).astype(int))] == stored[k, row, column]


def test_highdicom_finds_the_same_grid(series, stored):
    spatial = pytest.importorskip("highdicom.spatial")
    turn = euler2mat(0.3, -0.2, 0.5)
    positions = [np.round(turn @ (3, 4, 5.0 * k), 9) for k in range(5)]
    orientation = [round(float(n), 9) for n in (*turn[:, 0], *turn[:, 1])]
    series.stack(stored, positions, ImageOrientationPatient=orientation)
    spacing, ranks = spatial.get_volume_positions([p.tolist() for p in positions], orientation, index_convention="RD")
    theirs = spatial.create_affine_matrix_from_attributes(
        positions[ranks.index(0)].tolist(), orientation, [2.0, 1.5], spacing
    )
    np.testing.assert_allclose(read_volume(series.folder).affine, np.diag([-1, -1, 1, 1]) @ theirs, atol=1e-6)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_one_slice_is_drawn_as_thick_as_it_says(series, stored, syntax):
    path = series.slice(stored[0], EVENLY[3])
    if syntax == RLELossless:
        dataset = dcmread(path)
        dataset.compress(RLELossless)
        dataset.save_as(path)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array[:, :, 0], stored[0].T)
    np.testing.assert_allclose(volume.affine[:3, 3], (10, 20, 15))
    assert volume.spacing[2] == 9
    assert "single slice" in volume.notices[0]
    assert volume.in_patient_space


def test_an_x_ray_has_no_place_in_the_patient(series, stored):
    path = series.slice(
        stored[0].astype(np.uint16), None, ImageOrientationPatient=None, PixelSpacing=None, Modality="DX",
        ImagerPixelSpacing=[0.3, 0.2], SliceThickness=None,
    )  # fmt: skip
    volume = read_volume(path)
    assert volume.spacing == (0.2, 0.3, 1.0)
    assert not volume.in_patient_space
    assert any("detector" in notice for notice in volume.notices)
    assert any("every position, are unknown" in notice for notice in volume.notices)


def test_a_picture_without_any_spacing_says_so(series, stored):
    path = series.slice(stored[0], None, ImageOrientationPatient=None, PixelSpacing=None)
    volume = read_volume(path)
    assert any("in pixels, not mm" in notice for notice in volume.notices)
    assert volume.unit == "pixels"
    (scan,) = find_scans(path).scans
    told = dict(words.facts(scan))
    assert (scan.unit, "spacing" in told, told["orientation"]) == ("pixels", False, "unknown")
    rows, columns = stored[0].shape
    assert words.extent(volume) == f"{columns} × {rows} pixels"


def test_numbers_beyond_bits_stored_are_not_pixels(series):
    stored = np.full((4, 6), 0xF123, dtype=np.uint16)  # an old overlay in the upper four bits
    path = series.slice(stored, EVENLY[0], BitsStored=12, HighBit=11)
    assert (read_volume(path).array == 0x123).all()


def test_bytes_beyond_the_pixels_are_no_matter(series, stored):
    path = series.slice(stored[0], EVENLY[0], PixelData=stored[0].tobytes() + bytes(500))
    np.testing.assert_array_equal(read_volume(path).array[:, :, 0], stored[0].T)


def test_floating_point_pixels_are_read(series):
    stored = np.linspace(-1, 1, 24, dtype=np.float32).reshape(4, 6)
    path = series.slice(
        stored, EVENLY[0], PixelData=None, FloatPixelData=stored.tobytes(), PixelRepresentation=None, BitsStored=None,
        HighBit=None,
    )  # fmt: skip
    np.testing.assert_array_equal(read_volume(path).array[:, :, 0], stored.T)


# What else lies in a folder


def test_everyday_companions_are_passed_over(series, stored):
    series.stack(stored, EVENLY)
    for name in ("README.txt", ".DS_Store", "Thumbs.db", "DICOMDIR", "VERSION", "report.pdf"):
        (series.folder / name).write_bytes(b"anything")
    (series.folder / "__MACOSX").mkdir()
    (series.folder / "__MACOSX" / "._000.dcm").write_bytes(b"anything")
    volume = read_volume(series.folder)
    assert volume.shape == (6, 4, 5)
    assert volume.notices == ()


def test_a_damaged_file_of_another_kind_is_no_slice_but_is_named(series, stored):
    series.stack(stored, EVENLY)
    (series.folder / "brain.nii.gz").write_bytes(b"anything")
    volume = read_volume(series.folder)
    np.testing.assert_array_equal(volume.array, stored.transpose(2, 1, 0))
    assert len(volume.notices) == 1
    assert "brain.nii.gz" in volume.notices[0]


def test_unknown_files_are_named(series, stored):
    series.stack(stored, EVENLY)
    (series.folder / "notes").write_bytes(b"anything at all" * 20)
    assert "“notes”" in read_volume(series.folder).notices[-1]


def test_objects_without_pictures_are_left_out_and_named(series, stored):
    series.stack(stored, EVENLY)
    report = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11", "Modality": "SR", "Rows": None, "PixelData": None}
    path = series.slice(stored[0], None, name="report.dcm", **report)
    assert "“report.dcm” (Basic Text SR)" in read_volume(series.folder).notices[-1]
    refusal(path, "holds no pictures", "Basic Text SR")


def test_localizers_are_set_apart(series, stored):
    series.stack(stored, EVENLY)
    series.slice(
        stored[0], (0, 0, 0), SeriesInstanceUID=generate_uid(), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
        ImageOrientationPatient=[0, 1, 0, 0, 0, -1],
    )  # fmt: skip
    volume = read_volume(series.folder)
    assert volume.shape == (6, 4, 5)
    assert "Localizer" in volume.notices[-1]


@pytest.mark.parametrize(
    ("damage", "ending"),
    [
        *product(["cut in the pixels", "cut in the header", "cut in the preamble", "empty"], [".dcm", ""]),
        ("noise", ".dcm"),
    ],
)
def test_a_damaged_slice_is_never_dropped(series, stored, damage, ending):
    paths = series.stack(stored, EVENLY)
    last = paths[-1].rename(paths[-1].with_name(f"last{ending}"))
    whole = last.read_bytes()
    length = {"cut in the pixels": len(whole) - 10, "cut in the header": 600, "cut in the preamble": 100, "empty": 0}
    last.write_bytes(bytes(range(200)) if damage == "noise" else whole[: length[damage]])
    refusal(series.folder, last.name)


def test_noise_without_a_dicom_name_cannot_be_told_from_another_file_but_is_named(series, stored):
    last = series.stack(stored, EVENLY)[-1]
    last.rename(last.with_name("last")).write_bytes(bytes(range(200)))
    assert "“last”" in read_volume(series.folder).notices[-1]


def test_an_image_without_pixels_is_refused(series, stored):
    refusal(series.slice(stored[0], EVENLY[0], PixelData=None), "000.dcm", "holds no pixel data")


# Not one volume


def test_several_series_are_listed_without_the_patient(series, stored):
    series.stack(stored, EVENLY, SeriesNumber=3)
    second = {"SeriesInstanceUID": generate_uid(), "SeriesNumber": 4, "SeriesDescription": "T2 Secret"}
    series.stack(stored[:2], EVENLY[:2], **second)
    sentence = refusal(
        series.folder, "holds 2 scans", "1: “T1 axial”, series 3, MR, 5 images", "2: “scan”, series 4, MR, 2 images"
    )
    assert "choose one by its number or its name" in sentence
    np.testing.assert_array_equal(read_volume(series.folder, series=1).array, stored.transpose(2, 1, 0))
    np.testing.assert_array_equal(read_volume(series.folder, series="scan").array, stored[:2].transpose(2, 1, 0))


def test_a_missing_slice_is_found(series, stored):
    series.stack(stored[[0, 1, 2, 4]], [EVENLY[k] for k in (0, 1, 2, 4)])
    refusal(
        series.folder, "has a gap", "“002.dcm” and “003.dcm” lie 10.00 mm apart where 5.00 mm", "1 slice is missing"
    )


@pytest.mark.parametrize("missing", [1, 30, 58])
def test_one_missing_slice_among_many_is_found(series, missing):
    stored = np.zeros((60, 2, 2), np.int16)
    kept = [k for k in range(60) if k != missing]
    series.stack(stored[kept], [(0, 0, k) for k in kept])
    refusal(series.folder, "1 slice is missing")


def test_wild_spacing_is_refused(series, stored):
    series.stack(stored, [(0, 0, z) for z in (0, 5, 11.5, 15, 20)])
    refusal(series.folder, "too unevenly spaced")


def test_a_slice_beside_the_line_is_refused(series, stored):
    series.stack(stored, [(3 if k == 2 else 0, 0, 5 * k) for k in range(5)])
    refusal(series.folder, "“002.dcm”", "straight line")


def test_slices_side_by_side_are_refused(series, stored):
    series.stack(stored, [(50 * k, 0, 5 * k) for k in range(5)])
    refusal(series.folder, "side by side")


def test_several_images_at_one_position_are_refused(series, stored):
    series.stack(stored, [EVENLY[k // 2] for k in range(5)])
    refusal(series.folder, "5 images lie at 3 positions", "“000.dcm” and “001.dcm”")


def test_a_copy_of_a_file_is_left_out_and_said(series, stored):
    paths = series.stack(stored, EVENLY)
    for name in ("copy.dcm", "another.dcm"):
        shutil.copy(paths[0], series.folder / name)
    volume = read_volume(series.folder)
    np.testing.assert_array_equal(volume.array, stored.transpose(2, 1, 0))
    assert volume.notices == ("2 files are copies of another and were left out.",)


def test_two_files_that_call_themselves_the_same_image_and_differ_are_refused(series, stored):
    series.stack(stored[:4], EVENLY[:4])
    for number in (0, 1):
        series.slice(stored[number], EVENLY[4], name=f"twin{number}.dcm", SOPInstanceUID="1.2.3.99")
    refusal(series.folder, "“twin0.dcm” and “twin1.dcm”", "call themselves the same image and differ")


@pytest.mark.parametrize(
    ("other", "names"),
    [
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, ["T1 axial, axial", "T1 axial, sagittal"]),
        ({"PixelSpacing": [1.0, 1.0]}, ["T1 axial, axial 6 × 4, stack 1", "T1 axial, axial 6 × 4, stack 2"]),
        ({"FrameOfReferenceUID": "1.2.3.5"}, ["T1 axial, axial 6 × 4, stack 1", "T1 axial, axial 6 × 4, stack 2"]),
    ],
)
def test_mixed_stacks_are_volumes_of_their_own(series, stored, other, names):
    places = [(5 * k, 0, 5 * k) for k in range(5)]  # behind one another along either normal
    series.stack(stored[:3], places[:3])
    series.stack(stored[3:], places[3:], **other)
    refusal(series.folder, "holds 2 scans", *(f"“{name}”" for name in names), "3 images", "2 images")
    first, second = (read_volume(series.folder, series=name) for name in names)
    np.testing.assert_array_equal(first.array, stored[:3].transpose(2, 1, 0))
    np.testing.assert_array_equal(second.array[:, :, np.argsort(second.array[0, 0])], stored[3:].transpose(2, 1, 0))
    assert (first.name, second.name) == tuple(names)
    for volume, tags in ((first, {}), (second, other)):
        row, down = np.reshape(tags.get("ImageOrientationPatient", [1, 0, 0, 0, 1, 0]), (2, 3))
        between_rows, between_columns = tags.get("PixelSpacing", [2.0, 1.5])
        lps = np.diag([-1, -1, 1, 1]) @ volume.affine
        np.testing.assert_allclose(lps[:3, 0], row * between_columns, atol=1e-9)
        np.testing.assert_allclose(lps[:3, 1], down * between_rows, atol=1e-9)
    np.testing.assert_allclose(first.affine[:3, 3], 0, atol=1e-9)


def test_a_slice_of_another_size_is_a_scan_of_its_own(series, stored):
    series.stack(stored[:4], EVENLY[:4])
    series.slice(np.full((8, 8), 7, np.int16), EVENLY[4])
    refusal(series.folder, "“T1 axial, axial 6 × 4”, MR, 4 images", "“T1 axial, axial 8 × 8”, MR, 1 image")
    np.testing.assert_array_equal(read_volume(series.folder, series="6 × 4").array, stored[:4].transpose(2, 1, 0))
    alone = read_volume(series.folder, series="8 × 8")
    assert (alone.array == 7).all()
    np.testing.assert_allclose(alone.affine[:3, 3], (10, 20, 20))


def test_a_picture_without_a_place_is_a_scan_beside_the_slices(series, stored):
    series.stack(stored[:4], EVENLY[:4])
    series.slice(stored[4], None, name="shot.dcm")
    slices, picture = find_scans(series.folder).scans
    assert (slices.images, slices.in_patient_space) == (4, True)
    assert (picture.images, picture.in_patient_space, picture.name) == (1, False, "T1 axial, picture “shot.dcm”")
    np.testing.assert_array_equal(slices.read().array, stored[:4].transpose(2, 1, 0))
    np.testing.assert_array_equal(picture.read().array[:, :, 0], stored[4].T)


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"SamplesPerPixel": 3}, "3 numbers per pixel for one grey"),
        ({"PhotometricInterpretation": "RGB"}, "1 numbers per pixel for RGB"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "cannot be decoded"),
        ({"PhotometricInterpretation": None}, "how grey is stored"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]}, "Siemens mosaic"),
        ({"NumberOfFrames": 2}, "2 frames"),
        ({"Modality": "SEG"}, "segmentation"),
        ({"RescaleSlope": 0, "RescaleIntercept": 0}, "scales its values by 0"),
        ({"PixelSpacing": None}, "how large its pixels are"),
        ({"PixelSpacing": [0, 1]}, "pixel spacing of 0 × 1"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "orientation that is none"),
        ({"ImageOrientationPatient": [1, 0, 0]}, "orientation that is none (1.0, 0.0, 0.0)"),
        ({"Rows": 0}, "no rows"),
        ({"Rows": 60000, "Columns": 60000}, "cannot be decoded"),
        ({"BitsAllocated": 12}, "12"),
    ],
)
def test_what_is_no_plain_slice_is_refused(series, stored, tags, reason):
    refusal(series.slice(stored[0], EVENLY[0], **tags), "000.dcm", reason)


def test_nothing_to_read_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    refusal(tmp_path / "empty", "holds no DICOM or NIfTI images")
    refusal(tmp_path / "missing", "does not exist")
    refusal([], "is empty")
    (tmp_path / "letter.txt").write_text("Dear colleague")
    refusal(tmp_path / "letter.txt", "neither DICOM nor NIfTI")


# Names


def test_a_description_that_names_the_patient_is_not_used(series, stored):
    series.stack(stored, EVENLY, SeriesDescription="Knee of SECRET")
    assert read_volume(series.folder).name == "scan"


def test_nothing_of_the_patient_is_in_the_volume(series, stored):
    series.stack(stored, EVENLY)
    volume = read_volume(series.folder)
    said = " ".join([volume.name, *volume.notices, repr(volume.source)])
    for private in ("Secret", "Person", "4711", "19700101"):
        assert private not in said


# Fuzz


def test_a_damaged_identifier_is_refused_or_no_matter(series, stored):
    path = series.slice(stored[0], EVENLY[0])
    raw = path.read_bytes()
    broken = raw.replace(b"1.2.840.10008.5.1.4.1.1.2", b"1.2.840.1\\008.5.1.4.1.1.2")
    broken = broken.replace(b"ORIGINAL", b"\xff\xfe\xff\xfe????")
    assert broken != raw
    path.write_bytes(broken)
    assert read_volume(path).shape == (6, 4, 1)


def test_a_file_cut_anywhere_is_refused(series, stored):
    path = series.slice(stored[0], EVENLY[0])
    whole = path.read_bytes()
    for length in np.linspace(0, len(whole) - 1, 30).astype(int):
        path.write_bytes(whole[:length])
        refusal(path, "000.dcm")


def test_flipped_bytes_end_in_a_volume_or_a_sentence(series, stored):
    path = series.slice(stored[0], EVENLY[0])
    whole = path.read_bytes()
    rng, ends = np.random.default_rng(0), []
    for place in rng.integers(132, len(whole), 150):
        broken = bytearray(whole)
        broken[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(broken)
        try:
            ends.append(read_volume(path).array.size == 24)
        except GradCamError as error:
            ends.append("000.dcm" in str(error))
    assert all(ends)
