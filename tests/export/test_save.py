"""Saving an explanation: all of its files, or none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from PIL import Image

from napari_gradcam import export
from napari_gradcam.errors import GradCamError
from napari_gradcam.export import check_folder, save

if TYPE_CHECKING:
    from pathlib import Path

    from napari_gradcam.explanation import Explanation
    from napari_gradcam.volumes import Volume


def test_saving_makes_the_folder_and_leaves_three_files_that_open(
    tmp_path: Path, explanation: Explanation, volume: Volume
) -> None:
    folder = tmp_path / "new" / "out"
    written = save(explanation, volume, folder)
    assert [path.name for path in written] == ["heatmap.nii.gz", "overlay.png", "scores.json"]
    assert sorted(folder.iterdir()) == written
    with Image.open(folder / "overlay.png") as picture:
        assert picture.format == "PNG"
        assert picture.width == 1500


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError(28, "No space left on device")], ids=["Ctrl-C", "full"])
@pytest.mark.parametrize("failing", export.FILES)
def test_a_failure_in_any_file_leaves_none(
    tmp_path: Path,
    explanation: Explanation,
    volume: Volume,
    monkeypatch: pytest.MonkeyPatch,
    failing: str,
    failure: BaseException,
) -> None:
    def fail(_explanation: Explanation, _volume: Volume, path: Path) -> None:
        path.write_bytes(b"half")
        raise failure

    monkeypatch.setitem(export.FILES, failing, fail)
    with pytest.raises((GradCamError, KeyboardInterrupt)):
        save(explanation, volume, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_failure_keeps_the_files_of_an_earlier_run(
    tmp_path: Path, explanation: Explanation, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in save(explanation, volume, tmp_path)}

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(export.FILES, "scores.json", fail)
    with pytest.raises(KeyboardInterrupt):
        save(explanation, volume, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_folder_in_a_file_s_place_is_refused_before_anything_is_written(
    tmp_path: Path, explanation: Explanation, volume: Volume
) -> None:
    (tmp_path / "scores.json").mkdir()
    with pytest.raises(GradCamError, match=r"scores\.json” cannot be written: a folder of that name"):
        save(explanation, volume, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["scores.json"]


def test_the_scan_itself_is_never_replaced(tmp_path: Path, make_volume: type[Volume]) -> None:
    volume = make_volume(source=(tmp_path / "heatmap.nii.gz",))
    with pytest.raises(GradCamError, match="is the scan itself and would be replaced"):
        check_folder(tmp_path, volume)
