"""Saving an explanation: all of its files, or none."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from napari_gradcam.errors import GradCamError
from napari_gradcam.export import ExistingFileError, Manner, check_folder, save
from napari_gradcam.export.formats import DEFAULT, FORMATS, File, files_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_gradcam.explanation import Explanation
    from napari_gradcam.volumes import Volume

QUICK = ("nifti", "tables")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_saving_makes_the_folder_and_leaves_files_that_open(tmp_path: Path, explanation: Explanation) -> None:
    folder = tmp_path / "new" / "out"
    written = explanation.save(folder)
    assert sorted(path.name for path in written) == names(folder)
    # A map that was made by hand has no record.
    assert names(folder) == [
        *("heatmap.nii.gz", "hotspots.csv", "montage.png", "overlay.png"),
        *("profile.csv", "report.html", "scores.csv", "scores.json"),
    ]
    for name in ("overlay.png", "montage.png"):
        with Image.open(folder / name) as picture:
            assert picture.format == "PNG"


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError(28, "No space left on device")], ids=["Ctrl-C", "full"])
@pytest.mark.parametrize("failing", ["heatmap.nii.gz", "profile.csv"])
def test_a_failure_in_any_file_leaves_none(
    tmp_path: Path,
    explanation: Explanation,
    monkeypatch: pytest.MonkeyPatch,
    failing: str,
    failure: BaseException,
) -> None:
    break_file(monkeypatch, failing, failure)
    with pytest.raises((GradCamError, KeyboardInterrupt)):
        save(explanation, tmp_path / "out", QUICK)
    assert not list(tmp_path.iterdir())


def break_file(monkeypatch: pytest.MonkeyPatch, failing: str, failure: BaseException) -> None:
    write = File.write

    def fail(self: File, explanation: Explanation, path: Path, manner: Manner) -> None:
        if self.name == failing:
            path.write_bytes(b"half")
            raise failure
        write(self, explanation, path, manner)

    monkeypatch.setattr(File, "write", fail)


def test_a_failure_keeps_the_files_of_an_earlier_run(
    tmp_path: Path, explanation: Explanation, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in save(explanation, tmp_path, QUICK)}
    break_file(monkeypatch, "scores.json", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        save(explanation, tmp_path, QUICK, overwrite=True)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_is_there_is_replaced_only_when_that_is_said(tmp_path: Path, explanation: Explanation) -> None:
    (tmp_path / "scores.json").write_text("mine", encoding="utf-8")
    with pytest.raises(ExistingFileError, match=r"holds scores\.json already.*overwrite=True, --force"):
        save(explanation, tmp_path, QUICK)
    assert names(tmp_path) == ["scores.json"]
    save(explanation, tmp_path, QUICK, overwrite=True)
    assert (tmp_path / "scores.json").read_text(encoding="utf-8") != "mine"


def test_other_files_of_the_folder_are_left_alone(tmp_path: Path, explanation: Explanation) -> None:
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    save(explanation, tmp_path, QUICK)
    assert (tmp_path / "mine.txt").read_text(encoding="utf-8") == "mine"


def test_a_folder_in_a_file_s_place_is_refused_before_anything_is_written(
    tmp_path: Path, explanation: Explanation
) -> None:
    (tmp_path / "scores.json").mkdir()
    with pytest.raises(GradCamError, match=r"scores\.json” cannot be written: a folder of that name"):
        save(explanation, tmp_path, QUICK)
    assert names(tmp_path) == ["scores.json"]


def test_the_scan_itself_is_never_replaced(
    tmp_path: Path, make_volume: Callable[..., Volume], explanation: Explanation
) -> None:
    volume = make_volume(source=(tmp_path / "heatmap.nii.gz",))
    with pytest.raises(GradCamError, match="is the scan itself and would be replaced"):
        check_folder(tmp_path, volumes=[volume])
    with pytest.raises(GradCamError, match="is the scan itself and would be replaced"):
        save(replace(explanation, volumes=(volume,)), tmp_path, QUICK, overwrite=True)


def test_a_format_that_does_not_exist_names_those_that_do(tmp_path: Path, explanation: Explanation) -> None:
    with pytest.raises(GradCamError, match="no format “jpeg”; choose nifti, coarse, bands"):
        save(explanation, tmp_path, ["jpeg"])


def test_a_format_that_does_not_fit_says_why_only_when_it_was_asked_for(explanation: Explanation) -> None:
    assert "explanation.json" not in [file.name for file in files_of(explanation, DEFAULT)]
    assert "explanation.json" not in [file.name for file in files_of(explanation, ["all"])]
    with pytest.raises(GradCamError, match="put together by hand"):
        files_of(explanation, ["record"])
    with pytest.raises(GradCamError, match="DICOM"):
        files_of(explanation, ["dicom"])


def test_each_file_stands_once_and_has_a_writer() -> None:
    listed = {file.name: file for files in FORMATS.values() for file in files}
    for files in FORMATS.values():
        assert all(listed[file.name] == file for file in files)
        assert len({file.name for file in files}) == len(files)


def test_a_map_without_its_scan_says_so(tmp_path: Path, explanation: Explanation) -> None:
    with pytest.raises(GradCamError, match="does not say which scan it is of"):
        save(replace(explanation, volumes=()), tmp_path, ["tables"])


def test_bands_and_coarse_map_lie_over_the_scan_for_nibabel_and_simpleitk(
    tmp_path: Path, explanation: Explanation
) -> None:
    save(explanation, tmp_path, ["bands", "coarse"], Manner(top=0.083))
    bands = nib.load(tmp_path / "bands.nii.gz")
    assert bands.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.argwhere(np.asarray(bands.dataobj) == 3), [explanation.peak.index])
    np.testing.assert_allclose(bands.affine, explanation.affine, atol=1e-5)
    coarse = sitk.ReadImage(tmp_path / "coarse.nii.gz")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(coarse).T, explanation.coarse)
    place = np.array(coarse.TransformIndexToPhysicalPoint((1, 2, 3))) * (-1, -1, 1)
    np.testing.assert_allclose(place, (explanation.coarse_affine @ (1, 2, 3, 1))[:3], atol=1e-4)


def test_bands_of_a_fixed_scale_are_those_of_the_scale(tmp_path: Path, explanation: Explanation) -> None:
    save(explanation, tmp_path, ["bands"], Manner(top=1.0))
    assert np.asarray(nib.load(tmp_path / "bands.nii.gz").dataobj).max() == 0


def test_tables_hold_every_class_and_every_slice(tmp_path: Path, explanation: Explanation, volume: Volume) -> None:
    save(explanation, tmp_path, ["tables"])
    pandas_like: list[dict[str, Any]] = read(tmp_path / "scores.csv")
    assert [row["class"] for row in pandas_like] == list(explanation.scores)
    assert [float(row["logit"]) for row in pandas_like] == list(explanation.logits.values())
    assert [row["explained"] for row in pandas_like] == ["False", "True"]
    (spot,) = read(tmp_path / "hotspots.csv")
    assert float(spot["threshold"]) == pytest.approx(0.4 * 0.083)
    slices = read(tmp_path / "profile.csv")
    assert len(slices) == volume.shape[2]
    assert sum(float(row["share"]) for row in slices) == pytest.approx(1)
    assert [row["index"] for row in slices if row["hot"] == "True"] == ["5"]
    assert slices[0]["axis"] == "k"


def read(path: Path) -> list[dict[str, Any]]:
    import csv

    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("given", [{"threshold": 1.0}, {"opacity": 0.0}, {"top": -1.0}, {"threshold": float("nan")}])
def test_a_manner_out_of_range_is_refused(given: dict[str, float]) -> None:
    with pytest.raises(GradCamError, match="give one"):
        Manner(**given)
