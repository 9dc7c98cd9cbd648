"""The view by itself: it shows what it is told, and sends what the person does and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import QFileDialog, QLabel

from napari_gradcam import words
from napari_gradcam.progress import Progress
from napari_gradcam.viewer.contract import ChannelRow, Choice, Profile, Result, ScoreRow, SpotRow, Tone
from napari_gradcam.viewer.dock import SCAN_TIP, Dock
from napari_gradcam.viewer.look import Look, Style
from napari_gradcam.viewer.spots_table import COUNTING, NOTHING
from napari_gradcam.volumes.orientation import Plane

RESULT = Result(
    scores={
        "no lesion": ScoreRow("no lesion", 0.016, "0.016", "-2.1"),
        "lesion": ScoreRow("lesion", 0.984, "0.984", "2.1"),
    },
    target="lesion",
    against="",
    facts=(("Class", "lesion, 0.984"), ("Hottest point", "R 32.0 A 26.0 S 34.0 mm"), ("Raw maximum", "0.0293")),
    sentences=("The scan is 7.7° oblique: it is shown in its acquisition planes.", "For research and review."),
    top=0.0293,
    peak=0.0293,
)
LONG = "a name that is much longer than a dock of four hundred pixels can show in any of its lists " * 2


SPOTS = [
    SpotRow("1", "0.0378", "37 %", "5.06", "32.0, 26.0, 35.0", "82", "17"),
    SpotRow("2", "0.01", "1 %", "1.1", "-3.0, 6.0, 5.0", "102", "37"),
]
PROFILE = Profile("axial", np.array([0.0, 0.1, 0.5, 0.3, 0.1]), np.array([False, False, True, True, False]))


pytestmark = pytest.mark.every_qt


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
    dock.set_look(Look(opacity=0.1, threshold=0.9, colormap="bop blue", fixed_top=3.0, style=Style.BANDS))
    dock.set_plane(Plane.CORONAL)
    dock.set_plane(None, in_space=True)
    dock.set_scores([*RESULT.scores.values()], "lesion", ("lesion",))
    dock.set_spots(SPOTS, "LPS")
    dock.set_profile(PROFILE)
    dock.set_slice(3)
    dock.set_windows(choices, "2")
    dock.set_card(("one", "two"))
    dock.set_compared("Beside: x", (("Overlap", "0.5"),))
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
    dock.settings.title.click()
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
    display.style_box.setCurrentText("Bands")
    display.fixed.click()
    assert heard[-1] == ("look_changed", Look(0.2, 0.1, "viridis", pytest.approx(0.0293), Style.BANDS))
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
    assert dock.facts.value("Hottest point") == "R 32.0 A 26.0 S 34.0 mm"
    assert dock.display.painted.text() == "raw 0.0117 to 0.0293"
    assert "oblique" in dock.sentences.text()


def test_the_purpose_is_in_sight_before_and_after_a_run(dock: Dock) -> None:
    for lines in ((words.PURPOSE,), ("Model 1.0, weights 0123", words.PURPOSE)):
        dock.set_card(lines)
        assert any(words.PURPOSE in label.text() and label.isVisible() for label in dock.findChildren(QLabel))


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
    dock.set_scores([ScoreRow(LONG, 0.5, "0.5", "0"), ScoreRow("b", 0.5, "0.5", "0")], LONG, ())
    dock.set_result(Result({}, LONG, "", (("Class", LONG),), (LONG,), 1.0, 1.0))
    dock.set_card((LONG, LONG))
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
    dock.settings.title.click()
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
    area = dock._area
    qtbot.waitUntil(lambda: 0 <= dock.about.mapTo(area, dock.about.rect().topLeft()).y() < 300)


def test_scores_stand_in_the_order_given_and_a_click_explains(dock: Dock, heard: list[Any], qtbot: Any) -> None:
    rows = [RESULT.scores["lesion"], RESULT.scores["no lesion"]]
    dock.set_scores(rows, "lesion", ())
    assert dock.scores.names == ["lesion", "no lesion"]
    assert [dock.scores.item(row, 2).text() for row in range(2)] == ["0.984", "0.016"]
    assert dock.scores.item(0, 1).font().bold()
    assert not dock.scores.item(1, 1).font().bold()
    assert "logit 2.1" in dock.scores.item(0, 2).toolTip()
    where = dock.scores.visualItemRect(dock.scores.item(1, 1)).center()
    qtbot.mouseClick(dock.scores.viewport(), Qt.MouseButton.LeftButton, pos=where)
    assert heard == [("class_clicked", "no lesion")]


def test_scores_are_reached_by_the_keyboard(dock: Dock, heard: list[Any], qtbot: Any) -> None:
    dock.set_scores([ScoreRow(name) for name in "abc"], "a", ())
    dock.scores.setCurrentCell(1, 1)
    qtbot.keyClick(dock.scores, Qt.Key.Key_Return)
    qtbot.keyClick(dock.scores, Qt.Key.Key_Space)
    assert heard == [("class_clicked", "b"), ("classes_pinned", ("b",))]


def test_two_classes_are_pinned_at_most(dock: Dock, heard: list[Any]) -> None:
    dock.set_scores([ScoreRow(name) for name in "abc"], "a", ())
    for row in range(3):
        dock.scores.item(row, 0).setCheckState(Qt.CheckState.Checked)
    assert [names for _, names in heard] == [("a",), ("a", "b"), ("a", "c")]
    ticked = [dock.scores.item(row, 0).checkState() is Qt.CheckState.Checked for row in range(3)]
    assert ticked == [True, False, True]
    dock.scores.item(0, 0).setCheckState(Qt.CheckState.Unchecked)
    assert heard[-1] == ("classes_pinned", ("c",))


def test_hot_spots_are_listed_and_a_click_or_a_key_goes_there(dock: Dock, heard: list[Any], qtbot: Any) -> None:
    dock.set_result(RESULT)
    dock.set_spots(SPOTS, "LPS")
    table = dock.spots.table
    assert [table.item(0, column).text() for column in range(7)] == list(SPOTS[0])
    assert table.horizontalHeaderItem(4).text() == "LPS, mm"
    assert not table.isColumnHidden(6)
    qtbot.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=table.visualItemRect(table.item(1, 1)).center())
    assert heard == [("spot_picked", 1)]
    qtbot.keyClick(table, Qt.Key.Key_Up)
    assert heard == [("spot_picked", 1), ("spot_picked", 0)]
    dock.set_spots([spot._replace(instance="") for spot in SPOTS], "RAS")
    assert table.isColumnHidden(6)
    dock.set_spots((), "RAS")
    assert not table.isVisible()
    assert dock.spots.nothing.isVisible()
    assert not dock.spots.export.isEnabled()


def test_what_was_found_is_not_squeezed_before_qt_has_told_of_it(dock: Dock, qtbot: Any) -> None:
    """A picture of the dock right after a run shows rows and profile at their full height."""
    dock.set_result(RESULT)
    dock.resize(400, 600)
    qtbot.wait(50)
    dock.set_spots(SPOTS * 3, "RAS")
    dock.set_profile(PROFILE)
    assert dock.spots.height() >= dock.spots.minimumSizeHint().height() > dock.spots.table.height()
    assert dock.profile.height() >= dock.profile.heightForWidth(dock.profile.width())
    assert dock._inner.height() >= dock._inner.heightForWidth(dock._inner.width())


def test_while_hot_spots_are_counted_none_are_denied_and_none_can_be_picked(dock: Dock) -> None:
    dock.set_result(RESULT)
    dock.set_spots(None, "RAS")
    assert dock.spots.nothing.text() == COUNTING
    dock.set_spots(SPOTS, "RAS")
    assert dock.spots.table.isEnabled()
    dock.set_spots(None, "RAS")
    assert dock.spots.table.rowCount() == 2
    assert not dock.spots.table.isEnabled()
    assert not dock.spots.export.isEnabled()
    dock.set_spots((), "RAS")
    assert dock.spots.nothing.isVisible()
    assert dock.spots.nothing.text() == NOTHING


def test_hot_spots_are_saved_where_the_person_says(
    dock: Dock, heard: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    dock.set_spots(SPOTS, "RAS")
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, **__: ("", ""))
    dock.spots.export.click()
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, **__: ("/tables/spots.csv", ""))
    dock.spots.export.click()
    assert heard == [("spots_saved", Path("/tables/spots.csv"))]


def test_the_profile_goes_to_the_slice_that_is_clicked_or_dragged_to(dock: Dock, heard: list[Any], qtbot: Any) -> None:
    dock.set_result(RESULT)
    dock.set_profile(PROFILE)
    dock.set_slice(2)
    assert dock.profile.label.text() == "Axial slice 3 of 5: 50 % of the evidence"
    native = dock.profile.canvas.native
    qtbot.wait(50)
    at = [QPoint(round((n + 0.5) / 5 * native.width()), 20) for n in range(5)]
    qtbot.mousePress(native, Qt.MouseButton.LeftButton, pos=at[4])
    assert heard == [("slice_picked", 4)]
    qtbot.mouseMove(native, at[1])
    qtbot.mouseRelease(native, Qt.MouseButton.LeftButton, pos=at[1])
    qtbot.keyClick(dock.profile, Qt.Key.Key_Right)
    assert heard[-1] == ("slice_picked", 3)
    dock.set_profile(None)
    assert not dock.profile.isVisible()


def test_the_profile_tells_the_score_of_the_slice_in_sight(dock: Dock) -> None:
    dock.set_result(RESULT)
    scores = np.array([0.1, 0.2, 0.9, np.nan, 0.3])
    dock.set_profile(Profile("coronal", PROFILE.shares, PROFILE.hot, scores, "lesion"))
    dock.set_slice(2)
    assert dock.profile.label.text() == "Coronal slice 3 of 5: 50 % of the evidence, lesion 0.900"
    dock.set_slice(3)
    assert "lesion" not in dock.profile.label.text()


def test_the_card_is_copied(dock: Dock) -> None:
    dock.set_card(("Model 1.0, weights 0123", "lesion · Grad-CAM", words.PURPOSE))
    dock.card.copy.click()
    assert QGuiApplication.clipboard().text() == f"Model 1.0, weights 0123\nlesion · Grad-CAM\n{words.PURPOSE}"


def test_the_time_that_is_left_is_told_as_roughly_as_it_is_known(dock: Dock) -> None:
    dock.set_progress(Progress(30, 100, "Running the network"), left_s=23.0)
    assert dock.progress.stage.text() == "Running the network (30 of 100), about 25 s left…"
    dock.set_progress(Progress(30, 100, "Running the network"), left_s=200.0)
    assert dock.progress.stage.text() == "Running the network (30 of 100), about 3 min left…"


def test_space_and_linked_planes_have_buttons(dock: Dock, heard: list[Any]) -> None:
    dock.set_plane(None, in_space=True)
    assert dock.planes.space.isChecked()
    dock.set_plane(Plane.AXIAL)
    assert not dock.planes.space.isChecked()
    dock.planes.space.click()
    dock.planes.linked.click()
    assert heard == [("space_picked", None), ("planes_linked", True)]


def test_every_part_can_be_reached_by_the_tab_key(dock: Dock) -> None:
    dock.set_result(RESULT)
    dock.set_scores([*RESULT.scores.values()], "lesion", ())
    dock.set_spots(SPOTS, "RAS")
    dock.set_profile(PROFILE)
    reached, widget = set(), dock.explain.native
    for _ in range(200):
        widget = widget.nextInFocusChain()
        if widget.focusPolicy() & Qt.FocusPolicy.TabFocus and widget.isVisible():
            reached.add(widget)
    for part in (dock.scores, dock.spots.table, dock.profile, dock.settings.title, dock.planes.space, dock.scan.native):
        assert part in reached, part
