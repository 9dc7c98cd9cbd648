"""What cannot be written as DICOM is refused in one sentence, and leaves nothing behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest

from napari_gradcam import GradCamError, read_volume
from napari_gradcam.export import save
from napari_gradcam.export.formats import FORMATS, files_of
from tests.export.dicom.scans import straight, write_series

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_gradcam.explanation import Explanation


def refused(explanation: Explanation, folder: Path) -> str:
    with pytest.raises(GradCamError) as caught:
        save(explanation, folder, ["dicom"])
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    assert not folder.exists()
    return sentence


def test_a_nifti_scan(tmp_path: Path, make_explanation: Callable[..., Explanation]) -> None:
    nib.save(nib.Nifti1Image(np.ones((10, 12, 8), dtype=np.float32), np.diag([2.0, 2, 3, 1])), tmp_path / "scan.nii.gz")
    explanation = make_explanation(read_volume(tmp_path / "scan.nii.gz"))
    assert "was not read from DICOM files" in refused(explanation, tmp_path / "results")
    assert "parametric_map.dcm" not in [file.name for file in files_of(explanation, ["all"])]


def test_an_array_without_files(tmp_path: Path, explanation: Explanation) -> None:
    assert "was not read from DICOM files" in refused(explanation, tmp_path / "results")


def test_a_map_without_a_scan(tmp_path: Path, volume: object, make_explanation: Callable[..., Explanation]) -> None:
    assert "does not say which scan" in refused(make_explanation(volume, volumes=()), tmp_path / "results")


def test_a_file_that_is_gone(straight_series: Path, tmp_path: Path, explained: Callable[..., Explanation]) -> None:
    explanation = explained(straight_series)
    assert all(file.refused(explanation) == "" for file in FORMATS["dicom"])
    (straight_series / "image003.dcm").unlink()
    sentence = refused(explanation, tmp_path / "results")
    assert "image003.dcm” cannot be read any more" in sentence


def test_a_file_that_is_gone_and_named_after_the_patient(tmp_path: Path, explained: Callable[..., Explanation]) -> None:
    paths = write_series(tmp_path / "scan", straight())
    paths[2].rename(tmp_path / "scan" / "secret_person_2.dcm")
    explanation = explained(tmp_path / "scan")
    (tmp_path / "scan" / "secret_person_2.dcm").unlink()
    assert "secret" not in refused(explanation, tmp_path / "results").lower()


def test_files_that_are_others_by_now(
    straight_series: Path, tmp_path: Path, explained: Callable[..., Explanation]
) -> None:
    explanation = explained(straight_series)
    write_series(straight_series, straight(step=(0, 0, 5)))
    assert "are not what was read from them" in refused(explanation, tmp_path / "results")


def test_a_map_of_another_scan(straight_series: Path, tmp_path: Path, explained: Callable[..., Explanation]) -> None:
    explanation = explained(straight_series, heatmap=np.ones((3, 3, 3), dtype=np.float32))
    assert "is not on the grid" in refused(explanation, tmp_path / "results")


def test_a_picture_without_a_place_is_a_capture_alone(tmp_path: Path, explained: Callable[..., Explanation]) -> None:
    nowhere = {"ImageOrientationPatient": None, "ImagePositionPatient": None, "FrameOfReferenceUID": None}
    write_series(tmp_path / "scan", straight(1), Modality="CR", **nowhere)
    explanation = explained(tmp_path / "scan")
    (path,) = save(explanation, tmp_path / "results", ["dicom"])
    assert path.name == "secondary_capture.dcm"
    (sentence,) = {
        file.refused(explanation).replace(name, "…")
        for file, name in zip(
            (*FORMATS["dicom"][:2], FORMATS["dicom"][3]),
            ("parametric map", "segmentation", "structured report"),
            strict=True,
        )
    }
    assert "does not say where in the patient it lies" in sentence


def test_images_without_identifiers(
    tmp_path: Path, explained: Callable[..., Explanation], monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_gradcam.export.dicom import images

    write_series(tmp_path / "scan", straight(), SOPInstanceUID="")
    monkeypatch.setattr(images, "_meta", lambda path: {})
    assert "does not say which image it is" in refused(explained(tmp_path / "scan"), tmp_path / "results")


def test_results_of_other_formats_are_not_left_behind(
    straight_series: Path, tmp_path: Path, explained: Callable[..., Explanation], monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_gradcam.export.dicom import structured_report

    def fail(made: object) -> None:
        raise GradCamError("The last one fails.")

    explanation = explained(straight_series)
    monkeypatch.setattr(structured_report, "_report", fail)
    with pytest.raises(GradCamError, match="The last one fails"):
        save(explanation, tmp_path / "results", ["nifti", "dicom"])
    assert not (tmp_path / "results").exists()
