"""The view by itself: it shows what it is told, and sends what the person does and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QLabel, QScrollArea

from napari_gradcam import words
from napari_gradcam.progress import Progress
from napari_gradcam.viewer.contract import ChannelRow, Choice, Result, Tone
from napari_gradcam.viewer.dock import SCAN_TIP, Dock
from napari_gradcam.viewer.look import Look
from napari_gradcam.volumes.orientation import Plane

RESULT = Result(
    scores={"no lesion": "0.016", "lesion": "0.984"},
    target="lesion",
    facts=(("Class", "lesion, 0.984"), ("Hottest point", "R 32.0 A 26.0 S 34.0 mm"), ("Raw maximum", "0.0293")),
    sentences=("The scan is 7.7° oblique: it is shown in its acquisition planes.", "For research and review."),
    top=0.0293,
    peak=0.0293,
)
LONG = "a name that is much longer than a dock of four hundred pixels can show in any of its lists " * 2


@pytest.fixture
def dock(qtbot: Any) -> Dock:
    dock = Dock()
    qtbot.addWidget(dock)
    dock.resize(400, 1000)
    dock.show()
    return dock


@pytest.fixture
def heard(dock: Dock) -> list[tuple[str, Any]]:
    heard: list[tuple[str, Any]] = []
    for name in dock.events:
        dock.events[name].connect(lambda *values, name=name: heard.append((name, values[0] if values else None)))
    return heard


def test_showing_state_sends_nothing(dock: Dock, heard: list[Any]) -> None:
    choices = [Choice("one", "1"), Choice("two", "2")]
    for fill in (
        dock.set_scans,
        dock.set_models,
        dock.set_classes,
        dock.set_layers,
        dock.set_methods,
        dock.set_devices,
    ):
        fill(choices, "2")
    dock.set_look(Look(opacity=0.1, threshold=0.9, colormap="bop blue", fixed_top=3.0, bands=True))
    dock.set_plane(Plane.CORONAL)
    dock.set_result(RESULT)
    dock.set_progress(Progress(1, 2, "Running"))
    assert heard == []
    assert dock.scan.value == "2"
    assert dock.display.colormap.currentText() == "bop blue"


def test_what_the_person_does_is_sent(dock: Dock, heard: list[Any], qtbot: Any) -> None:
    choices = [Choice("one", "1"), Choice("two", "2")]
    for fill in (
        dock.set_scans,
        dock.set_models,
        dock.set_classes,
        dock.set_layers,
        dock.set_methods,
        dock.set_devices,
    ):
        fill(choices, "1")
    for box in (dock.scan, dock.model, dock.target, dock.layer, dock.method, dock.device):
        qtbot.keyClick(box.native, Qt.Key.Key_Down)
    qtbot.mouseClick(dock.explain.native, Qt.MouseButton.LeftButton)
    qtbot.mouseClick(dock.planes.buttons[Plane.SAGITTAL], Qt.MouseButton.LeftButton)
    assert heard == [
        ("scan_picked", "2"),
        ("model_picked", "2"),
        ("class_picked", "2"),
        ("layer_picked", "2"),
        ("method_picked", "2"),
        ("device_picked", "2"),
        ("explain_pressed", None),
        ("plane_picked", Plane.SAGITTAL),
    ]


def test_a_model_can_be_opened_as_a_folder_or_a_file(
    dock: Dock, heard: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_, **__: "/models/one")
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_, **__: ("/models/two.yaml", ""))
    dock.folder.native.click()
    dock.file.native.click()
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_, **__: "")
    dock.folder.native.click()
    assert heard == [("model_opened", Path("/models/one")), ("model_opened", Path("/models/two.yaml"))]


def test_every_display_control_sends_the_whole_look(dock: Dock, heard: list[Any]) -> None:
    dock.set_result(RESULT)
    display = dock.display
    display.opacity.setValue(20)
    display.threshold.setValue(10)
    display.colormap.setCurrentText("viridis")
    display.bands.click()
    display.fixed.click()
    assert heard[-1] == ("look_changed", Look(0.2, 0.1, "viridis", pytest.approx(0.0293), True))
    assert display.top.isEnabled()
    display.top.setValue(0.5)
    assert heard[-1][1].fixed_top == 0.5
    display.fixed.click()
    assert heard[-1][1].fixed_top is None


def test_explain_and_cancel_take_turns(dock: Dock) -> None:
    assert (dock.explain.enabled, dock.cancel.enabled) == (True, False)
    dock.set_progress(Progress(1, 4, "Starting MONAI"))
    assert (dock.explain.enabled, dock.cancel.enabled) == (True, True)
    dock.set_progress(Progress(3, 10, "Running the network"), explaining=True)
    assert (dock.explain.enabled, dock.cancel.enabled) == (False, True)
    assert dock.progress.stage.text() == "Running the network (3 of 10)…"
    dock.set_progress(None)
    assert (dock.explain.enabled, dock.cancel.enabled) == (True, False)


def test_an_error_is_marked_and_goes_away(dock: Dock) -> None:
    dock.say("“x” holds no weights.", Tone.ERROR)
    assert dock.message.isVisible()
    assert (dock.message.text, dock.message.tone) == ("“x” holds no weights.", Tone.ERROR)
    dock.say("")
    assert not dock.message.isVisible()


def test_the_result_stands_in_the_table_and_below(dock: Dock) -> None:
    assert not dock.result.isVisible()
    dock.set_result(RESULT)
    cells = [[dock.scores.item(row, column).text() for column in range(2)] for row in range(2)]
    assert cells == [["no lesion", "0.016"], ["lesion", "0.984"]]
    assert dock.scores.item(1, 0).font().bold()
    assert dock.facts.value("Hottest point") == "R 32.0 A 26.0 S 34.0 mm"
    assert dock.display.painted.text() == "raw 0.0117 to 0.0293"
    assert "oblique" in dock.sentences.text()


def test_the_purpose_is_in_sight_before_and_after_a_run(dock: Dock) -> None:
    for result in (None, RESULT):
        dock.set_result(result)
        assert any(label.text() == words.PURPOSE and label.isVisible() for label in dock.findChildren(QLabel))


def test_long_names_and_sentences_fit_in_400_pixels(dock: Dock, qtbot: Any) -> None:
    for fill in (
        dock.set_scans,
        dock.set_models,
        dock.set_classes,
        dock.set_layers,
        dock.set_methods,
        dock.set_devices,
    ):
        fill([Choice(LONG, "1")], "1")
    dock.say(LONG, Tone.ERROR)
    long_result = Result({LONG: "0.5", "b": "0.5"}, LONG, (("Class", LONG),), (LONG,), 1.0, 1.0)
    dock.set_result(long_result)
    qtbot.wait(50)
    assert dock.width() == 400
    area = dock.scan.native.parentWidget()
    assert area.width() <= 400
    for label in (dock.sentences, dock.message):
        assert label.height() >= label.heightForWidth(label.width())


def test_further_channels_have_a_list_each_that_comes_and_goes(dock: Dock, heard: list[Any], qtbot: Any) -> None:
    choices = (Choice("choose a layer…", ""), Choice("t1", "1"), Choice("t2", "2"))
    dock.set_channels("T1", [ChannelRow("T2", choices, ""), ChannelRow(LONG, choices, "1")])
    assert [box.value for box in dock.channels] == ["", "1"]
    assert "T1" in dock.scan.native.toolTip()
    assert heard == []
    dock.channels[0].value = "2"
    assert heard == [("channel_picked", 0)]
    qtbot.wait(20)
    assert dock.width() == 400
    tops = [box.native.mapTo(dock, box.native.rect().topLeft()).y() for box in (dock.scan, *dock.channels, dock.model)]
    assert tops == sorted(set(tops))
    dock.set_channels("", [])
    assert dock.channels == []
    assert dock.scan.native.toolTip() == SCAN_TIP


def test_the_plane_of_the_slices_is_in_sight_only_where_there_is_a_choice(dock: Dock, heard: list[Any]) -> None:
    dock.set_slicings([], "")
    assert not dock.slicing.native.isVisible()
    dock.set_slicings([Choice("default: axial", ""), Choice("coronal", "coronal")], "")
    assert dock.slicing.native.isVisible()
    dock.slicing.value = "coronal"
    assert heard == [("slicing_picked", "coronal")]


def test_a_picture_has_no_planes_to_be_shown_in(dock: Dock) -> None:
    dock.set_plane(None, choosable=False)
    assert not dock.planes.isEnabled()
    dock.set_plane(Plane.AXIAL)
    assert dock.planes.isEnabled()


def test_names_from_files_are_no_markup(dock: Dock) -> None:
    named = "<img src='file:///x'>"
    dock.set_classes([Choice(named, "1")], "1")
    dock.set_channels("", [ChannelRow(named, (), "")])
    tips = [dock.target.native.itemData(0, Qt.ItemDataRole.ToolTipRole)]
    tips += [label.toolTip() for label in dock.findChildren(QLabel) if "img" in label.toolTip()]
    tips.append(dock.channels[0].native.toolTip())
    assert len(tips) == 3
    assert not any("<img" in tip for tip in tips)


def test_what_the_model_says_comes_into_sight_when_it_is_opened(dock: Dock, qtbot: Any) -> None:
    dock.set_result(RESULT)
    dock.set_about([("name", "x"), *((f"{n}", "word " * 60) for n in range(4))])
    dock.resize(400, 600)
    qtbot.wait(20)
    qtbot.mouseClick(dock.about.title, Qt.MouseButton.LeftButton)
    area = dock.findChild(QScrollArea)
    qtbot.waitUntil(lambda: 0 <= dock.about.mapTo(area, dock.about.rect().topLeft()).y() < 300)
