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


def test_values_that_vary_from_slice_to_slice_split_nothing_and_need_no_notice(series, stored):
    for k in range(5):
        series.slice(stored[k], (0, 0, 5 * k), EchoTime=4 + k, AcquisitionNumber=k % 2, TriggerTime=100 * (k % 2))
    (scan,) = find_scans(series.folder).scans
    np.testing.assert_array_equal(scan.read().array, stored.transpose(2, 1, 0))
    assert scan.notices == scan.read().notices == ()


# Other kinds at other positions

ORIGINAL, MIP = ["ORIGINAL", "PRIMARY", "AXIAL"], ["DERIVED", "SECONDARY", "MIP"]


@pytest.mark.parametrize("z", [25, 12.5, 20, -5])
def test_a_projection_before_behind_among_or_on_the_originals_is_set_apart(series, stored, z):
    series.stack(stored, [(0, 0, 5 * k) for k in range(5)], ImageType=ORIGINAL)
    series.slice(stored[0] + 1000, (0, 0, z), ImageType=MIP)
    volume = read_volume(series.folder)
    np.testing.assert_array_equal(volume.array, stored.transpose(2, 1, 0))
    assert volume.notices == ("Derived images were left out (1).",)
    projection = next(scan for scan in find_scans(series.folder).scans if scan.aside)
    assert (projection.name, projection.aside, projection.images) == ("T1 axial, MIP", "derived", 1)
    np.testing.assert_array_equal(projection.read().array[:, :, 0], stored[0].T + 1000)


def test_a_projection_in_a_series_of_two_echoes_is_part_of_neither(series, stored):
    for echo in (5, 10):
        series.stack(stored + echo, [(0, 0, 5 * k) for k in range(5)], ImageType=ORIGINAL, EchoTime=echo)
    series.slice(stored[0], (0, 0, 25), ImageType=MIP, EchoTime=5)
    scans = find_scans(series.folder).scans
    assert sorted((scan.images, scan.aside) for scan in scans) == [(1, "derived"), (5, ""), (5, "")]


@pytest.mark.parametrize("kinds", ["MMPP", "MPMP", "MPPM"])
def test_magnitude_and_phase_at_other_positions_are_volumes_of_their_own(series, stored, kinds):
    for k, kind in enumerate(kinds):
        series.slice(stored[k], (0, 0, 5 * k), ImageType=["ORIGINAL", "PRIMARY", kind])
    for scan, kind in zip(find_scans(series.folder).scans, "MP", strict=True):
        assert scan.name == f"T1 axial, {kind}"
        own = [k for k in range(4) if kinds[k] == kind]
        np.testing.assert_array_equal(scan.read().array, stored[own].transpose(2, 1, 0))
        assert scan.affine[2, 2] == 5 * (own[1] - own[0])


def test_complex_components_at_other_positions_are_volumes_of_their_own(series, stored):
    for k in range(4):
        series.slice(stored[k], (0, 0, 5 * k), ComplexImageComponent="PHASE" if k % 2 else "MAGNITUDE")
    assert [scan.name for scan in find_scans(series.folder).scans] == ["T1 axial, M MAGNITUDE", "T1 axial, M PHASE"]


def test_derived_slices_between_the_originals_are_a_volume_of_their_own(series, stored):
    for k in range(4):
        kind = "ORIGINAL" if k % 2 else "DERIVED"
        series.slice(stored[k], (0, 0, 5 * k), ImageType=[kind, "PRIMARY", "M"])
    assert [scan.name for scan in find_scans(series.folder).scans] == ["T1 axial, derived", "T1 axial, original"]


def test_a_slice_that_was_worked_on_stays_in_its_volume_and_this_is_said(series, stored):
    for k in range(5):
        series.slice(stored[k], (0, 0, 5 * k), ImageType=["DERIVED" if k == 2 else "ORIGINAL", "PRIMARY", "M"])
    (scan,) = find_scans(series.folder).scans
    volume = scan.read()
    np.testing.assert_array_equal(volume.array, stored.transpose(2, 1, 0))
    assert scan.notices == volume.notices
    assert "not all of one kind (derived; original)" in volume.notices[0]


def test_kinds_that_together_and_apart_make_no_grid_are_not_mixed(series, stored):
    for k, z in enumerate((0, 5, 12, 15, 18)):
        series.slice(stored[k], (0, 0, z), ImageType=["ORIGINAL", "PRIMARY", "MMMPP"[k]])
    gap, whole = find_scans(series.folder).scans
    assert "too unevenly spaced" in gap.problem
    assert (gap.name, whole.name, whole.shape) == ("T1 axial, M", "T1 axial, P", (6, 4, 2))


@pytest.mark.parametrize(
    ("keyword", "values", "said"),
    [
        ("EchoTime", [10, 90, 10, 90, 10], "echo time 10 ms and echo time 90 ms"),
        ("InversionTime", [100, 100, 900, 900, 900], "inversion time 100 ms and inversion time 900 ms"),
        ("DiffusionBValue", [0.0, 50.0, 800.0, 0.0, 0.0], "b-value 0 and b-value 50 and b-value 800"),
        ("EchoTime", [10, None, None, 10, 10], "echo time 10 ms and no echo time"),
    ],
)
def test_a_few_echoes_at_other_positions_are_said(series, stored, keyword, values, said):
    for k in range(5):
        series.slice(stored[k], (0, 0, 5 * k), **{keyword: values[k]})
    (scan,) = find_scans(series.folder).scans
    assert scan.notices == scan.read().notices == (f"The slices of this one volume differ: {said}.",)


def test_an_echo_time_that_is_written_a_little_differently_is_one(series, stored):
    for k in range(5):
        series.slice(stored[k], (0, 0, 5 * k), EchoTime=4.6 + 0.0001 * (k % 2))
    assert read_volume(series.folder).notices == ()


def test_frames_of_two_kinds_in_an_enhanced_ct_are_set_apart(series, stored, functional):
    groups = [
        functional((0, 0, 5 * k), CTImageFrameTypeSequence={"FrameType": MIP if k == 4 else ORIGINAL}) for k in range(5)
    ]
    series.frames(stored, groups, SOPClassUID=EnhancedCTImageStorage, Modality="CT")
    assert sorted((scan.images, scan.aside) for scan in find_scans(series.folder).scans) == [(1, "derived"), (4, "")]


# One position


@pytest.mark.parametrize(
    ("keyword", "values", "names"),
    [
        ("EchoTime", [4, 2, 5, 3], ["echo time 2 ms", "echo time 3 ms", "echo time 4 ms", "echo time 5 ms"]),
        ("TriggerTime", [30, 0, 60, 90], [f"trigger time {30 * t} ms" for t in range(4)]),
        ("TemporalPositionIdentifier", [2, 1, 3, 4], ["time 1", "time 2", "time 3", "time 4"]),
    ],
)
def test_images_at_one_position_that_are_told_apart_are_frames(series, stored, keyword, values, names):
    for k in range(4):
        series.slice(stored[k], (0, 0, 7), **{keyword: values[k]})
    (scan,) = find_scans(series.folder).scans
    assert (scan.images, scan.frames, scan.shape, len(scan.source)) == (4, 4, (6, 4, 1), 4)
    assert f"Its 4 images lie at one position, from {names[0]} to {names[-1]}." in scan.notices
    for number, rank in enumerate(np.argsort(values), start=1):
        volume = scan.read(number)
        np.testing.assert_array_equal(volume.array[:, :, 0], stored[rank].T)
        assert volume.affine[2, 3] == 7
        assert volume.notices[:2] == (
            f"The series holds 4 frames one after another; this is frame {number}.",
            f"This frame is that of {names[number - 1]}.",
        )
        assert len(volume.source) == 1
    assert read_volume(series.folder, frame=2).array[0, 0, 0] == stored[np.argsort(values)[1]][0, 0]


def test_frames_of_an_enhanced_file_at_one_position_are_chosen_like_others(series, stored, functional):
    times = [functional((0, 0, 7), FrameContentSequence={"TemporalPositionIndex": t}) for t in (3, 1, 2)]
    series.frames(stored[:3], times)
    (scan,) = find_scans(series.folder).scans
    assert scan.frames == 3
    for number, rank in ((1, 1), (2, 2), (3, 0)):
        np.testing.assert_array_equal(scan.read(number).array[:, :, 0], stored[rank].T)


@pytest.mark.parametrize("tags", [{}, {"AcquisitionNumber": 0}, {"EchoTime": 3}])
def test_images_at_one_position_that_nothing_but_a_number_tells_apart_are_refused(series, stored, refused, tags):
    for k in range(4):
        series.slice(stored[k], (0, 0, 7), **{name: value + k // 2 for name, value in tags.items()}, InstanceNumber=k)
    refused(series.folder, "4 images lie at one position")


@pytest.mark.parametrize("clock", [False, True])
def test_repeats_of_diffusion_are_called_by_their_b_value_too(series, clock):
    stored = np.arange(3 * 3 * 8, dtype=np.int16).reshape(3, 3, 2, 4)
    for volume, b in enumerate((0.0, 1000.0, 1000.0)):
        tags = {"AcquisitionTime": f"09300{volume}"} if clock else {"AcquisitionNumber": volume + 1}
        series.stack(stored[volume], PLACES, DiffusionBValue=b, **tags)
    number = "repeat {} of 3" if clock else "acquisition {}"
    check(series.folder, stored, *(f"{number.format(n)}, b-value {b}" for n, b in ((1, 0), (2, 1000), (3, 1000))))


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


@pytest.mark.parametrize(
    ("description", "aside"),
    [
        ("localizer 3-plane", "localizer"),
        ("SCOUT", "localizer"),
        ("Survey_MST", "localizer"),
        ("Localiser", "localizer"),
        ("T1 scouting", ""),
    ],
)
def test_a_localizer_is_known_by_its_description_too(series, repeats, description, aside):
    series.slice(repeats[0, 0], PLACES[0], SeriesDescription=description, ImageType=["ORIGINAL", "PRIMARY", "M"])
    (scan,) = find_scans(series.folder).scans
    assert scan.aside == aside


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


def test_each_slice_keeps_its_instance_number(series, stored):
    for k, number in enumerate([14, 3, 9, "", 20]):
        series.slice(stored[k], (0, 0, 5 * k), InstanceNumber=number)
    volume = read_volume(series.folder)
    assert volume.instances == (14, 3, 9, None, 20)
    assert volume.instance((1, 1, 2)) == 9


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


def test_slices_that_lie_beside_one_another_are_not_called_unevenly_spaced(series, stored):
    series.stack(stored, [(0.25 if k == 2 else 0, 0, 3 * k) for k in range(5)])
    (notice,) = read_volume(series.folder).notices
    assert notice == (
        "The slices lie a little beside one another: they are drawn on one straight line, which moves a slice by up to "
        "0.20 mm."
    )


def test_nuclear_medicine_is_not_said_to_be_silent_about_its_place(series, stored):
    tags = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.20", "Modality": "NM", "ImageOrientationPatient": None}
    path = series.slice(stored[0], None, NumberOfFrames=5, PixelData=stored.tobytes(), **tags)
    volume = read_volume(path)
    assert not any("file does not say where" in notice for notice in volume.notices)
    assert any("is not read from a file of nuclear medicine" in notice for notice in volume.notices)


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
