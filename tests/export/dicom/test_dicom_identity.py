"""Whose results they are: as the source says, or nobody's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from pydicom import dcmread

from napari_gradcam import GradCamError
from napari_gradcam.export import Manner, save
from napari_gradcam.volumes.dicom.header import quiet
from tests.export.dicom.scans import PERSONAL, straight, write_enhanced, write_series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pydicom import Dataset

    from napari_gradcam.explanation import Explanation

Written = dict[str, "Path"]

KEPT = (
    *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientAge", "PatientWeight"),
    *("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "StudyDescription"),
    *("ReferringPhysicianName", "PhysiciansOfRecord", "TimezoneOffsetFromUTC"),
)
NOBODYS = ("SeriesDescription", "PatientSex", "PatientWeight", "ContentTime")
"""What tells nobody, or is so short that it may be found by chance."""


def texts(dataset: Dataset) -> Iterator[tuple[str, str]]:
    """Give every value of every element, nested ones too, and of the meta header."""
    for element in (*dataset.file_meta, *dataset.iterall()):
        if element.VR not in ("SQ", "OB", "OW", "OF"):
            yield element.keyword, str(element.value)


def test_patient_and_study_are_the_source_s(
    straight_series: Path, explained: Callable[..., Explanation], written: Callable[..., Written]
) -> None:
    for path in written(explained(straight_series)).values():
        dataset = dcmread(path)
        for keyword in KEPT:
            assert str(getattr(dataset, keyword)) == PERSONAL[keyword], keyword
        for keyword in ("InstitutionName", "StationName", "OperatorsName", "ProtocolName"):
            assert keyword not in dataset, "what tells of the scanner's room is not ours to say"


def test_nothing_of_the_source_is_left_in_deidentified_results(
    straight_series: Path, explained: Callable[..., Explanation], tmp_path: Path
) -> None:
    sources = [dcmread(path) for path in straight_series.iterdir()]
    personal = {str(value) for key, value in PERSONAL.items() if key not in NOBODYS}
    personal |= {"Secret", "Person", "Doctor", "Watson"}
    personal |= {source.SOPInstanceUID for source in sources} | {str(straight_series), "image000"}
    paths = save(explained(straight_series), tmp_path / "results", ["dicom"], Manner(deidentified=True))
    assert len(paths) == 4
    today = f"{datetime.now():%Y%m%d}"
    for path in paths:
        for keyword, text in texts(dcmread(path)):
            found = [one for one in personal if one in text]
            assert not found, f"{path.stem}, {keyword}: {text}"
            assert today not in text, f"{path.stem}, {keyword}: the day of the export, {text}"
        whole = path.read_bytes()
        assert not [one for one in personal if len(one) > 5 and one.encode() in whole]


def test_deidentified_results_say_so_and_stay_one_study(
    straight_series: Path, explained: Callable[..., Explanation], tmp_path: Path
) -> None:
    explanation = explained(straight_series)
    paths = [
        path
        for folder in ("one", "other")
        for path in save(explanation, tmp_path / folder, ["dicom"], Manner(deidentified=True))
    ]
    datasets = [dcmread(path) for path in paths]
    for dataset in datasets:
        assert dataset.PatientIdentityRemoved == "YES"
        assert dataset.DeidentificationMethod == "PS3.15 annex E Basic Profile"
        assert dataset.DeidentificationMethodCodeSequence[0].CodeValue == "113100"
        assert dataset.get("BurnedInAnnotation", "NO") == "NO"
    assert len({dataset.StudyInstanceUID for dataset in datasets}) == 1
    assert len({dataset.PatientID for dataset in datasets}) == 1
    pmap, segmentation, capture, report = datasets[:4]
    assert pmap.FrameOfReferenceUID == segmentation.FrameOfReferenceUID
    assert pmap.FrameOfReferenceUID in str(report)
    assert segmentation.SOPInstanceUID in str(report)
    sources = {one.ReferencedSOPInstanceUID for one in pmap.SourceImageSequence}
    assert {one.ReferencedSOPInstanceUID for one in segmentation.SourceImageSequence} < sources
    assert {one.ReferencedSOPInstanceUID for one in capture.SourceImageSequence} == sources
    assert all(uid in str(report.CurrentRequestedProcedureEvidenceSequence) for uid in sources)


def test_two_patients_are_two_nobodies(
    tmp_path: Path, explained: Callable[..., Explanation], written: Callable[..., Written]
) -> None:
    write_series(tmp_path / "one", straight())
    write_series(tmp_path / "other", straight(), PatientID="ID-5", StudyInstanceUID="1.2.3")
    ones, others = (
        dcmread(written(explained(tmp_path / name), "parametric_map", deidentified=True)["parametric_map"])
        for name in ("one", "other")
    )
    assert ones.PatientID != others.PatientID
    assert ones.StudyInstanceUID != others.StudyInstanceUID


def test_no_picture_is_deidentified_of_a_scan_with_burnt_in_text(
    tmp_path: Path, explained: Callable[..., Explanation]
) -> None:
    write_series(tmp_path / "scan", straight(), BurnedInAnnotation="YES")
    explanation = explained(tmp_path / "scan")
    with pytest.raises(GradCamError, match="text burnt in"):
        save(explanation, tmp_path / "results", ["dicom"], Manner(deidentified=True))
    assert not (tmp_path / "results").exists()
    assert len(save(explanation, tmp_path / "results", ["dicom"])) == 4


@pytest.mark.parametrize(
    ("name", "charset"),
    [
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", ["", "ISO 2022 IR 87"]),
        ("Müller^Jürgen", "ISO_IR 100"),
        ("Люкceмбypг", "ISO_IR 144"),
        ("Wang^XiaoDong=王^小东", "GB18030"),
        ("Buc^Jérôme", "ISO_IR 192"),
    ],
)
def test_names_of_every_alphabet_are_kept(
    name: str, charset: Any, tmp_path: Path, explained: Callable[..., Explanation], written: Callable[..., Written]
) -> None:
    write_series(tmp_path / "scan", straight(2), PatientName=name, SpecificCharacterSet=charset)
    assert dcmread(next((tmp_path / "scan").iterdir())).PatientName == name
    for path in written(explained(tmp_path / "scan", target="läsion × 病変", scores={"läsion × 病変": 0.9})).values():
        dataset = dcmread(path)
        assert dataset.SpecificCharacterSet == "ISO_IR 192"
        assert dataset.PatientName == name
        assert "läsion × 病変" in dataset.SeriesDescription


def test_times_are_told_in_the_source_s_time_zone(
    straight_series: Path, explained: Callable[..., Explanation], written: Callable[..., Written]
) -> None:
    dataset = dcmread(written(explained(straight_series), "parametric_map")["parametric_map"])
    told = datetime.strptime(dataset.ContentDate + dataset.ContentTime[:6], "%Y%m%d%H%M%S")
    there = (datetime.now(UTC) + timedelta(hours=5, minutes=30)).replace(tzinfo=None)
    assert abs(there - told) < timedelta(minutes=2)


MISSING = {
    "as in a teaching file": dict.fromkeys(
        ("StudyID", "AccessionNumber", "StudyTime", "PatientSex", "PatientBirthDate", "ReferringPhysicianName")
    ),
    "no frame of reference": {"FrameOfReferenceUID": None},
    "no study": {"StudyInstanceUID": None},
    "no series": {"SeriesInstanceUID": None, "SeriesNumber": None},
    "no patient": {"PatientName": None, "PatientID": None},
    "no thickness": {"SliceThickness": None},
    "no identifiers of images but in the meta header": {"SOPInstanceUID": "", "SOPClassUID": ""},
    "values that break the rules": {"PatientAge": "0Y", "TimezoneOffsetFromUTC": "Z", "SeriesNumber": -5},
    "identifiers that break the rules": {
        "AccessionNumber": "ACC-12345678901234567890",
        "StudyDate": "2023/05/17",
        "StudyTime": "10h11",
        "PatientBirthDate": "31.01.1970",
        "PatientID": "ID" * 40,
        "StudyID": "a\\b",
        "StudyInstanceUID": "1.2.03.4",
        "SeriesInstanceUID": "1.02.3",
        "FrameOfReferenceUID": "a frame",
    },
    "another alphabet's sex": {"PatientSex": "W"},
}


@pytest.mark.parametrize("name", MISSING)
def test_what_a_source_lacks_is_no_reason_to_fail(
    name: str, tmp_path: Path, explained: Callable[..., Explanation], written: Callable[..., Written]
) -> None:
    tags = MISSING[name]
    blanked = "SOPInstanceUID" in tags
    with quiet():  # pydicom, of what is written here on purpose
        paths = write_series(tmp_path / "scan", straight(), **({} if blanked else tags))
    if blanked:
        for path in paths:
            dataset = dcmread(path)
            dataset.SOPInstanceUID = dataset.SOPClassUID = ""
            dataset.save_as(path)
    datasets = [dcmread(path) for path in written(explained(tmp_path / "scan")).values()]
    source = dcmread(paths[0])
    assert len(datasets) == 4
    with quiet():
        for keyword in ("StudyInstanceUID", "PatientID", "PatientName", "StudyID", "StudyDate", "AccessionNumber"):
            (value,) = {str(getattr(dataset, keyword)) for dataset in datasets}
            assert value == str(source.get(keyword) or value)
        assert all(dataset.StudyInstanceUID for dataset in datasets)
        assert datasets[0].FrameOfReferenceUID == datasets[1].FrameOfReferenceUID
        assert len(datasets[0].SourceImageSequence) == 6
        assert all(one.ReferencedSOPInstanceUID for one in datasets[0].SourceImageSequence)


def test_an_enhanced_source_is_deidentified_as_well(
    tmp_path: Path, explained: Callable[..., Explanation], written: Callable[..., Written]
) -> None:
    path = write_enhanced(tmp_path / "scan.dcm", straight())
    uid = dcmread(path).SOPInstanceUID
    for result in written(explained(path), deidentified=True).values():
        assert uid.encode() not in result.read_bytes()
