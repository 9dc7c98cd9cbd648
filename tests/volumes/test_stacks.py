"""The slices of a series sorted into volumes: by plane, by what their headers say, by time; or a sentence."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import EnhancedCTImageStorage, generate_uid

from napari_gradcam import GradCamError, read_volume
from napari_gradcam.volumes.orientation import axis_letters, obliquity
from napari_gradcam.volumes.reading import find_scans

PLACES = [(-10, -20, 5 * k) for k in range(3)]
NIBABEL = Path(nibabel.__file__).parent / "nicom" / "tests" / "data"


@pytest.fixture
def repeats() -> np.ndarray:
    """Three volumes of three slices, ``(volume, slice, row, column)``; every number another one."""
    return np.arange(3 * 3 * 2 * 4, dtype=np.int16).reshape(3, 3, 2, 4)


def check(path: Path, repeats: np.ndarray, *told_apart: str) -> None:
    """Prove that a series is these volumes, in this order, and under these names."""
    scans = find_scans(path).scans
    assert [scan.name for scan in scans] == [f"T1 axial, {what}" for what in told_apart]
    assert [scan.problem for scan in scans] == [None] * len(repeats)
    for scan, expected in zip(scans, repeats, strict=True):
        volume = scan.read()
        np.testing.assert_array_equal(volume.array, expected.transpose(2, 1, 0))
        np.testing.assert_allclose(volume.affine, [[-1.5, 0, 0, 10], [0, -2, 0, 20], [0, 0, 5, 0], [0, 0, 0, 1]])
        assert (volume.name, volume.shape, scan.images) == (scan.name, scan.shape, 3)


# Repeats at the same positions, file by file


@pytest.mark.parametrize(
    ("tags", "names"),
    [
        ([{"EchoTime": 4.6}, {"EchoTime": 9.2}, {"EchoTime": 18.4}], ["4.6 ms", "9.2 ms", "18.4 ms"]),
        ([{"EchoTime": 18.4}, {"EchoTime": 4.6}, {"EchoTime": 9.2}], ["4.6 ms", "9.2 ms", "18.4 ms"]),
        ([{"DiffusionBValue": b} for b in (0.0, 50.0, 1000.0)], ["b-value 0", "b-value 50", "b-value 1000"]),
        ([{"TriggerTime": 12.5 * t} for t in range(3)], ["trigger time 0 ms", "trigger time 12.5 ms", "time 25 ms"]),
        ([{"AcquisitionNumber": n} for n in (9, 10, 11)], ["acquisition 9", "acquisition 10", "acquisition 11"]),
        ([{"TemporalPositionIdentifier": n} for n in (1, 2, 3)], ["time 1", "time 2", "time 3"]),
        ([{"FlipAngle": n} for n in (3, 15, 20)], ["flip angle 3°", "flip angle 15°", "flip angle 20°"]),
        ([{"InversionTime": n} for n in (100, 900, 2500)], ["100 ms", "900 ms", "inversion time 2500 ms"]),
        ([{"NominalPercentageOfCardiacPhase": n} for n in (0, 40, 75)], ["phase 0", "phase 40", "cardiac phase 75"]),
        ([{"ImageType": ["ORIGINAL", "PRIMARY", kind]} for kind in ("M", "P", "R")], [" M", " P", " R"]),
        ([{"ComplexImageComponent": kind} for kind in ("MAGNITUDE", "PHASE", "REAL")], ["MAGNITUDE", "PHASE", "REAL"]),
    ],
    ids=lambda value: next(iter(value[0]), "") if isinstance(value[0], dict) else "",
)
def test_repeats_are_told_apart_by_what_their_headers_say(series, repeats, tags, names):
    for k in (1, 0, 2):  # slices of all volumes mixed, as scanners write them
        for volume in range(3):
            series.slice(repeats[volume, k], PLACES[k], **tags[volume])
    scans = find_scans(series.folder).scans
    assert len(scans) == 3
    for scan, name in zip(scans, names, strict=True):
        assert scan.name.endswith(name)
    numbers = [next(iter(one.values())) for one in tags]
    ranks = np.argsort([number if np.isscalar(number) and not isinstance(number, str) else 0 for number in numbers],
                       kind="stable")  # fmt: skip
    check(series.folder, repeats[ranks], *(scan.name.removeprefix("T1 axial, ") for scan in scans))


def test_magnitude_and_phase_of_two_echoes_are_four_volumes(series):
    stored = np.arange(4 * 3 * 8, dtype=np.int16).reshape(2, 2, 3, 2, 4)
    for echo in range(2):
        for kind in range(2):
            tags = {"EchoTime": 5 * (echo + 1), "ImageType": ["ORIGINAL", "PRIMARY", "MP"[kind]]}
            series.stack(stored[echo, kind], PLACES, **tags)
    names = ["M, echo time 5 ms", "M, echo time 10 ms", "P, echo time 5 ms", "P, echo time 10 ms"]
    check(series.folder, stored.swapaxes(0, 1).reshape(4, 3, 2, 4), *names)
    # A part of the name that no other has is enough.
    wanted = read_volume(series.folder, series="p, echo time 10")
    np.testing.assert_array_equal(wanted.array, stored[1, 1].transpose(2, 1, 0))


@pytest.mark.parametrize("clock", ["AcquisitionTime", "ContentTime", "AcquisitionDateTime"])
def test_repeats_with_nothing_but_a_clock_are_told_apart_by_it(series, repeats, clock):
    for volume in (2, 0, 1):
        for k in range(3):  # each slice has a time of its own, later in each repeat
            second = 10 * volume + k
            time = f"20240101{second:06d}" if clock.endswith("DateTime") else f"0930{second:02d}.5"
            series.slice(repeats[volume, k], PLACES[k], **{clock: time})
    check(series.folder, repeats, "repeat 1 of 3", "repeat 2 of 3", "repeat 3 of 3")


def test_a_scan_over_midnight_is_told_apart_by_its_date_first(series, repeats):
    series.stack(repeats[1], PLACES, AcquisitionDate="20240102", AcquisitionTime="000010")
    series.stack(repeats[0], PLACES, AcquisitionDate="20240101", AcquisitionTime="235950")
    check(series.folder, repeats[:2], "repeat 1 of 2", "repeat 2 of 2")


def test_what_differs_from_slice_to_slice_hides_nothing_that_tells_repeats_apart(series, repeats):
    for volume in range(3):
        for k in range(3):
            tags = {"TriggerTime": 100 * volume + k, "AcquisitionNumber": 3 * k + volume, "EchoTime": volume + 1}
            series.slice(repeats[volume, k], PLACES[k], **tags)
    check(series.folder, repeats, "echo time 1 ms", "echo time 2 ms", "echo time 3 ms")


def test_repeats_that_nothing_tells_apart_are_refused(series, repeats, refused):
    for volume in range(2):
        series.stack(repeats[volume], PLACES, AcquisitionTime="093000")
    (scan,) = find_scans(series.folder).scans
    assert (scan.images, scan.shape, scan.resampling) == (6, None, False)
    refused(series.folder, "6 images lie at 3 positions", "nothing in their headers tells", series=1)
    refused(series.folder, "6 images lie at 3 positions", resample=True)


def test_a_clock_that_leaves_out_a_repeat_tells_nothing(series, repeats, refused):
    for volume in range(2):
        series.stack(repeats[volume][: 3 - volume], PLACES[: 3 - volume], AcquisitionTime=f"09300{volume}")
    refused(series.folder, "5 images lie at 3 positions")


def test_a_slice_that_an_echo_lacks_is_missed_in_that_echo_alone(series):
    stored = np.arange(2 * 5 * 8, dtype=np.int16).reshape(2, 5, 2, 4)
    places = [(0, 0, 5 * k) for k in range(5)]
    series.stack(stored[0], places, EchoTime=5)
    series.stack(np.delete(stored[1], 2, axis=0), [places[k] for k in (0, 1, 3, 4)], EchoTime=10)
    whole, gap = find_scans(series.folder).scans
    np.testing.assert_array_equal(whole.read().array, stored[0].transpose(2, 1, 0))
    assert "echo time 10 ms" in gap.problem
    assert "1 slice is missing" in gap.problem


def test_values_that_vary_without_repeats_split_nothing(series, repeats):
    for k in range(3):
        series.slice(repeats[0, k], PLACES[k], EchoTime=4 + k, AcquisitionNumber=k, TriggerTime=100 * k)
    (scan,) = find_scans(series.folder).scans
    np.testing.assert_array_equal(scan.read().array, repeats[0].transpose(2, 1, 0))


# Planes


def test_three_planes_under_one_series_are_three_scans_with_their_own_affines(series, repeats):
    planes = {
        "axial": ([1, 0, 0, 0, 1, 0], "LPS"),
        "sagittal": ([0, 1, 0, 0, 0, -1], "PIR"),
        "coronal": ([1, 0, 0, 0, 0, -1], "LIP"),
    }
    for volume, (orientation, _) in enumerate(planes.values()):
        normal = np.cross(orientation[:3], orientation[3:])
        series.stack(repeats[volume], [normal * 4 * k for k in range(3)], ImageOrientationPatient=orientation)
    for volume, (name, (_, letters)) in enumerate(planes.items()):
        read = read_volume(series.folder, series=f"T1 axial, {name}")
        assert axis_letters(read.affine) == tuple(letters)
        assert read.spacing == (1.5, 2.0, 4.0)
        np.testing.assert_array_equal(read.array, repeats[volume].transpose(2, 1, 0))


def test_a_localizer_in_the_same_series_is_set_apart(series, repeats):
    series.stack(repeats[0], PLACES)
    scout = {"ImageType": ["DERIVED", "SECONDARY", "LOCALIZER"], "ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}
    series.slice(repeats[1, 0], (0, 0, 0), **scout)
    volume = read_volume(series.folder)
    np.testing.assert_array_equal(volume.array, repeats[0].transpose(2, 1, 0))
    assert volume.notices[-1] == "Localizer images were left out (1)."
    localizer = next(scan for scan in find_scans(series.folder).scans if scan.aside)
    assert localizer.aside == "localizer"
    np.testing.assert_array_equal(localizer.read().array[:, :, 0], repeats[1, 0].T)


@pytest.mark.parametrize(("modality", "aside"), [("SEG", "segmentation"), ("RTDOSE", "radiotherapy dose")])
def test_what_was_made_on_a_scan_is_set_apart_from_it_and_cannot_be_read(series, repeats, refused, modality, aside):
    series.stack(repeats[0], PLACES)
    series.slice(repeats[1, 0], PLACES[0], Modality=modality, SeriesInstanceUID=generate_uid())
    volume = read_volume(series.folder)
    assert volume.shape == (4, 2, 3)
    assert volume.notices[-1] == f"{aside.capitalize()} images were left out (1)."
    refused(series.folder, f"is a {aside}, not a scan", series=2)


def test_only_localizers_are_read_as_what_they_are(series, repeats):
    series.slice(repeats[0, 0], PLACES[0], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    np.testing.assert_array_equal(read_volume(series.folder).array[:, :, 0], repeats[0, 0].T)


# Geometry


@pytest.mark.parametrize(
    ("position", "lay"),
    [("HFP", "prone"), ("FFP", "prone"), ("HFDR", "on the right side"), ("FFDL", "on the left side")],
)
def test_letters_are_the_patients_own_however_the_patient_lay(series, repeats, position, lay):
    # Prone, a picture's rows run to the patient's right and its columns to the front: DICOM says it patient by patient.
    orientation = {"prone": [-1, 0, 0, 0, -1, 0], "on the right side": [0, -1, 0, 1, 0, 0]}.get(
        lay, [0, 1, 0, -1, 0, 0]
    )
    tags = {"PatientPosition": position, "ImageOrientationPatient": orientation}
    series.stack(repeats[0], PLACES, **tags)
    volume = read_volume(series.folder)
    letters = {"prone": "RAS", "on the right side": "ALS", "on the left side": "PRS"}[lay]
    assert axis_letters(volume.affine) == tuple(letters)
    assert any(f"The patient lay {lay} ({position})" in notice for notice in volume.notices)
    np.testing.assert_array_equal(volume.array, repeats[0].transpose(2, 1, 0))


@pytest.mark.parametrize("position", ["HFS", "FFS", None])
def test_a_patient_on_the_back_is_not_worth_a_notice(series, repeats, position):
    series.stack(repeats[0], PLACES, PatientPosition=position)
    assert read_volume(series.folder).notices == ()


@pytest.mark.parametrize("degrees", [3.0, 24.5])
def test_a_gantry_tilt_is_kept_as_shear_and_measured(series, repeats, degrees):
    tilt = np.radians(degrees)
    series.stack(repeats[0], PLACES, ImageOrientationPatient=[1, 0, 0, 0, np.cos(tilt), np.sin(tilt)])
    volume = read_volume(series.folder)
    across = volume.affine[:3, 1] / 2
    np.testing.assert_allclose(volume.affine[:3, 2], (0, 0, 5), atol=1e-9)
    np.testing.assert_allclose(across, (0, -np.cos(tilt), np.sin(tilt)), atol=1e-9)
    assert any(f"{degrees:.1f}° against" in notice and "gantry tilt" in notice for notice in volume.notices)


def test_degrees_of_an_oblique_scan_are_those_it_was_turned_by(series, repeats):
    turn = np.radians(20)
    row, down = np.array([np.cos(turn), np.sin(turn), 0]), np.array([-np.sin(turn), np.cos(turn), 0])
    series.stack(repeats[0], PLACES, ImageOrientationPatient=[*row, *down])
    volume = read_volume(series.folder)
    assert obliquity(volume.affine) == pytest.approx(20)
    assert volume.notices == ("The scan is 20.0° oblique: it is shown in its acquisition planes.",)


def test_nothing_but_positions_places_slices(series, repeats):
    numbers = {"SliceThickness": [1, 99, 0.1], "SpacingBetweenSlices": [7, -7, 0], "InstanceNumber": [3, 1, 2]}
    for k in range(3):
        series.slice(repeats[0, k], PLACES[k], **{name: values[k] for name, values in numbers.items()})
    volume = read_volume(series.folder)
    assert volume.spacing == (1.5, 2.0, 5.0)
    np.testing.assert_array_equal(volume.array, repeats[0].transpose(2, 1, 0))


def test_slices_within_tolerance_are_put_on_the_mean_grid(series):
    stored = np.zeros((5, 2, 4), np.int16)
    along = np.array([0, 4.8, 10, 15.3, 20])
    series.stack(stored, [(0, 0, z) for z in along])
    volume = read_volume(series.folder)
    step, start = np.polyfit(np.arange(5), along, 1)
    assert volume.affine[2, 2] == pytest.approx(step)
    assert volume.affine[2, 3] == pytest.approx(start)
    moved = np.abs(along - (start + step * np.arange(5))).max()
    assert any(f"moves a slice by up to {moved:.2f} mm" in notice for notice in volume.notices)


# Frames of Enhanced files


def test_frames_of_an_enhanced_file_lie_at_their_positions_with_their_slopes(series, repeats, functional):
    order, stored = [2, 0, 1], repeats[0].astype(np.uint16)
    slopes = {"PixelValueTransformationSequence": {"RescaleIntercept": -7, "RescaleType": "US"}}
    groups = [functional(PLACES[k], **slopes) for k in order]
    for k, one in zip(order, groups, strict=True):
        one.PixelValueTransformationSequence[0].RescaleSlope = 0.5 + k
    series.frames(stored[order], groups)
    volume = read_volume(series.folder)
    for k in range(3):
        np.testing.assert_allclose(volume.array[:, :, k], stored[k].T * (0.5 + k) - 7)
    np.testing.assert_allclose(volume.affine, [[-1.5, 0, 0, 10], [0, -2, 0, 20], [0, 0, 5, 0], [0, 0, 0, 1]])


def test_an_enhanced_ct_with_shared_values_is_in_whole_hounsfield_units(series, repeats, functional):
    shared = functional(
        PixelMeasuresSequence={"PixelSpacing": [0.7, 0.6]},
        PlaneOrientationSequence={"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
        PixelValueTransformationSequence={"RescaleSlope": 1, "RescaleIntercept": -1024, "RescaleType": "HU"},
        FrameVOILUTSequence={"WindowCenter": [40, 300], "WindowWidth": [400, 1500]},
    )
    tags = {"SOPClassUID": EnhancedCTImageStorage, "Modality": "CT", "shared": shared}
    series.frames(repeats[0], [functional(place) for place in PLACES], **tags)
    volume = read_volume(series.folder)
    np.testing.assert_array_equal(volume.array, repeats[0].transpose(2, 1, 0) - 1024)
    assert volume.array.dtype == np.int16
    assert (volume.spacing, volume.window, volume.modality) == ((0.6, 0.7, 5.0), (40, 400), "CT")


@pytest.mark.parametrize(
    ("sequence", "keyword", "values", "names"),
    [
        ("FrameContentSequence", "StackID", ["1", "2", "3"], ["axial 4 × 2, stack {}"]),
        ("FrameContentSequence", "TemporalPositionIndex", [1, 2, 3], ["time {}"]),
        ("FrameContentSequence", "FrameAcquisitionNumber", [1, 2, 3], ["acquisition {}"]),
        ("MREchoSequence", "EffectiveEchoTime", [1.0, 2.0, 3.0], ["echo time {} ms"]),
        ("MRDiffusionSequence", "DiffusionBValue", [1.0, 2.0, 3.0], ["b-value {}"]),
        ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime", [1.0, 2.0, 3.0], ["trigger time {} ms"]),
    ],
)
def test_frames_of_several_stacks_are_several_volumes(series, repeats, functional, sequence, keyword, values, names):
    groups = [functional(place, **{sequence: {keyword: value}}) for place in PLACES for value in values]
    series.frames(repeats.swapaxes(0, 1).reshape(9, 2, 4), groups)
    check(series.folder, repeats, *(names[0].format(n) for n in (1, 2, 3)))


def test_frames_told_apart_by_their_kind_and_direction(series, functional):
    stored = np.arange(3 * 3 * 8, dtype=np.int16).reshape(3, 3, 2, 4)
    groups = []
    for place in PLACES:
        for direction in ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0], None):
            one = functional(place, MRDiffusionSequence={"DiffusionBValue": 1000.0})
            if direction:
                inner = functional(DiffusionGradientDirectionSequence={"DiffusionGradientOrientation": direction})
                one.MRDiffusionSequence[0].update(inner)
            groups.append(one)
    series.frames(stored.swapaxes(0, 1).reshape(9, 2, 4), groups)
    scans = find_scans(series.folder).scans
    assert sorted(scan.name.removeprefix("T1 axial, ") for scan in scans) == [
        "direction 0, 1, 0", "direction 1, 0, 0", "no direction",
    ]  # fmt: skip
    for name, expected in (("1, 0, 0", stored[0]), ("0, 1, 0", stored[1]), ("no direction", stored[2])):
        volume = read_volume(series.folder, series=name)
        np.testing.assert_array_equal(volume.array, expected.transpose(2, 1, 0))


def test_frames_of_two_planes_are_two_scans(series, repeats, functional):
    sagittal = {"PlaneOrientationSequence": {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}}
    groups = [functional(place) for place in PLACES] + [functional((5 * -k, 0, 0), **sagittal) for k in range(3)]
    shared = functional(
        PixelMeasuresSequence={"PixelSpacing": [2.0, 1.5]},
        PlaneOrientationSequence={"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
    )
    series.frames(repeats[:2].reshape(6, 2, 4), groups, shared=shared)
    for name, letters, expected in (("axial, axial", "LPS", repeats[0]), ("sagittal", "PIR", repeats[1])):
        volume = read_volume(series.folder, series=name)
        assert axis_letters(volume.affine) == tuple(letters)
        np.testing.assert_array_equal(volume.array, expected.transpose(2, 1, 0))


def test_frames_without_their_places_are_refused(series, repeats, functional, refused):
    path = series.frames(repeats[0], [functional(place) for place in PLACES[:2]])
    refused(path, "says 3 frames but places 2")


# Siemens mosaics


@pytest.fixture(params=["siemens_dwi_0", "siemens_dwi_1000"])
def mosaic(request, tmp_path) -> Path:
    packed = NIBABEL / f"{request.param}.dcm.gz"
    if not packed.exists():
        pytest.skip("this nibabel comes without its Siemens mosaics")
    path = tmp_path / f"{request.param}.dcm"
    path.write_bytes(gzip.decompress(packed.read_bytes()))
    return path


def test_a_mosaic_is_the_volume_that_nibabel_takes_apart(mosaic):
    volume = read_volume(mosaic)
    from nibabel.nicom.dicomwrappers import wrapper_from_file  # warns where nobody has imported it yet

    theirs = wrapper_from_file(mosaic)
    assert volume.shape == (128, 128, 48)
    np.testing.assert_array_equal(volume.array, theirs.get_data().transpose(1, 0, 2))
    # nibabel's own tests hold this affine against SPM's, (row, column, slice) in nibabel's RAS+ axes.
    np.testing.assert_allclose(np.diag([-1, -1, 1, 1]) @ volume.affine[:, [1, 0, 2, 3]], theirs.affine, atol=1e-9)
    assert find_scans(mosaic).scans[0].images == 48


def test_tiles_of_a_mosaic_are_its_slices(mosaic):
    volume, picture = read_volume(mosaic), dcmread(mosaic).pixel_array
    for k in (0, 7, 30, 47):
        row, column = divmod(k, 7)
        tile = picture[128 * row : 128 * row + 128, 128 * column : 128 * column + 128]
        np.testing.assert_array_equal(volume.array[:, :, k], tile.T)


def test_several_mosaics_are_several_volumes(mosaic):
    dataset = dcmread(mosaic)
    dataset.SOPInstanceUID = generate_uid()
    dataset.save_as(mosaic.with_name("z.dcm"))
    first, second = find_scans(mosaic.parent).scans
    assert first.name.endswith(", volume 1 of 2")
    assert second.name.endswith(", volume 2 of 2")
    np.testing.assert_array_equal(first.read().array, second.read().array)


def test_a_mosaic_without_its_private_header_spoils_no_other(mosaic):
    dataset = dcmread(mosaic)
    dataset.SOPInstanceUID = generate_uid()
    del dataset[0x0029, 0x1010]
    dataset.save_as(mosaic.with_name("z.dcm"))
    good, bad = find_scans(mosaic.parent).scans
    assert good.read().shape == (128, 128, 48)
    assert "z.dcm” is a Siemens mosaic" in bad.problem
    assert bad.images == 1
    with pytest.raises(GradCamError, match="Siemens mosaic"):
        bad.read()


def test_a_plain_slice_in_the_series_of_a_mosaic_is_a_scan_of_its_own(mosaic, series, stored):
    uid = dcmread(mosaic).SeriesInstanceUID
    path = series.slice(
        stored[0], PLACES[0], SeriesInstanceUID=uid, StudyInstanceUID=dcmread(mosaic).StudyInstanceUID,
        PatientID=dcmread(mosaic).PatientID, PatientName=dcmread(mosaic).PatientName,
    )  # fmt: skip
    for name in ("a.dcm", "z.dcm"):  # before the mosaic and after it
        shutil.move(path, mosaic.with_name(name))
        path = mosaic.with_name(name)
        scans = find_scans(mosaic.parent).scans
        assert sorted(scan.images for scan in scans) == [1, 48]
        assert {scan.read().shape for scan in scans} == {(6, 4, 1), (128, 128, 48)}
