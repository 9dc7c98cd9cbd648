"""The question whether a model may run code: all of it is in sight, and nothing but a click on one button says yes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QWidget

from napari_gradcam.classifiers.bundle import inspect_bundle
from napari_gradcam.classifiers.trust import UntrustedError
from napari_gradcam.viewer import steps
from napari_gradcam.viewer.contract import CodeAsked
from napari_gradcam.viewer.trusting import MEANING, TrustDialog, ask
from tests.classifiers.test_trust import scripted

if TYPE_CHECKING:
    from pathlib import Path

DIGEST = "0123456789abcdef" * 4
MARKUP = "<b>safe</b> <a href='x'>look</a>"
ASKED = CodeAsked(
    "zoo",
    (("imports::0", "$import os", "which runs code"), ("preprocessing", MARKUP, "which\nis \u202eno class")),
    DIGEST,
)


@pytest.fixture
def dialog(qtbot: Any) -> TrustDialog:
    dialog = TrustDialog(ASKED)
    qtbot.addWidget(dialog)
    dialog.show()
    return dialog


def test_all_that_is_asked_for_is_shown_letter_by_letter(dialog: TrustDialog) -> None:
    cells = [[dialog.table.item(row, column).text() for column in range(3)] for row in range(2)]
    assert cells == [["imports::0", "$import os", "which runs code"], ["preprocessing", MARKUP, "which is no class"]]
    assert dialog.digest.text() == DIGEST
    texts = dialog.findChildren(QLabel)
    assert any(label.text() == MEANING for label in texts)
    assert {label.textFormat() for label in texts} == {Qt.TextFormat.PlainText}
    assert "&lt;b&gt;" in dialog.table.item(1, 1).toolTip()
    assert dialog.windowTitle() == "Code from this model"


@pytest.mark.parametrize("key", [Qt.Key.Key_Escape, Qt.Key.Key_Return])
def test_keys_that_are_pressed_without_reading_do_not_open_it(dialog: TrustDialog, qtbot: Any, key: Any) -> None:
    answers: list[bool] = []
    dialog.accepted.connect(lambda: answers.append(True))
    dialog.rejected.connect(lambda: answers.append(False))
    qtbot.keyClick(dialog, key)
    assert answers == [False]


def test_many_things_scroll_and_long_ones_wrap(qtbot: Any) -> None:
    findings = tuple((f"preprocessing::transforms::{n}", "$" + "x y " * 80, "which runs code") for n in range(60))
    dialog = TrustDialog(CodeAsked("n" * 300, findings, DIGEST))
    qtbot.addWidget(dialog)
    dialog.show()
    qtbot.wait(20)
    assert dialog.width() == 820
    assert dialog.table.verticalScrollBar().maximum() > 0
    assert dialog.table.horizontalScrollBar().maximum() == 0
    assert dialog.table.rowHeight(0) > 2 * dialog.fontMetrics().height()
    assert dialog.digest.height() >= dialog.digest.heightForWidth(dialog.digest.width())


@pytest.mark.parametrize("button", ["trust", "refuse"])
def test_the_answer_comes_back_once_and_only_if_it_is_yes(qtbot: Any, button: str) -> None:
    parent, answers = QWidget(), []
    qtbot.addWidget(parent)
    parent.show()
    ask(parent, ASKED, lambda: answers.append(True))
    [dialog] = parent.findChildren(TrustDialog)
    qtbot.mouseClick(getattr(dialog, button), Qt.MouseButton.LeftButton)
    assert answers == ([True] if button == "trust" else [])
    qtbot.waitUntil(lambda: not parent.findChildren(TrustDialog))


def test_what_the_dialogue_showed_is_what_runs(qtbot: Any, tmp_path: Path) -> None:
    folder = scripted(tmp_path / "own")
    with pytest.raises(UntrustedError) as refused:
        list(steps.load_steps(str(folder)))
    asked = steps.code_asked(refused.value, str(folder))
    assert asked is not None
    dialog = TrustDialog(asked)
    qtbot.addWidget(dialog)
    shown = dialog.digest.text()
    assert shown == inspect_bundle(folder).digest
    (folder / "scripts/late.py").write_text(f"amount = 2\nopen({str(tmp_path / 'canary')!r}, 'w').close()\n")
    with pytest.raises(UntrustedError) as again:
        list(steps.load_steps(str(folder), shown))
    assert again.value.digest != shown
    assert not (tmp_path / "canary").exists()
    list(steps.load_steps(str(folder), again.value.digest))
    assert (tmp_path / "canary").exists()
