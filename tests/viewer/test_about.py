"""What a model says of itself is closed at first, plain, and scrolls where it is long."""

from __future__ import annotations

from typing import Any

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QPlainTextEdit

from napari_gradcam.viewer.about import AboutSection

LICENCE = "Copyright\n\n" + "All of it. " * 200
FACTS = [("name", "<b>Nets</b>"), ("description", "reads " * 40), ("licence", LICENCE)]


@pytest.fixture
def section(qtbot: Any) -> AboutSection:
    section = AboutSection()
    qtbot.addWidget(section)
    section.resize(380, 600)
    section.show()
    section.show_facts(FACTS)
    return section


def test_it_is_closed_at_first_and_opens_by_a_click(section: AboutSection, qtbot: Any) -> None:
    box = section.findChild(QPlainTextEdit)
    assert not box.isVisible()
    qtbot.mouseClick(section.title, Qt.MouseButton.LeftButton)
    assert box.isVisible()
    qtbot.mouseClick(section.title, Qt.MouseButton.LeftButton)
    assert not box.isVisible()


def test_texts_are_shown_letter_by_letter_and_long_ones_scroll(section: AboutSection, qtbot: Any) -> None:
    qtbot.mouseClick(section.title, Qt.MouseButton.LeftButton)
    qtbot.wait(20)
    box = section.findChild(QPlainTextEdit)
    assert (box.toPlainText(), box.isReadOnly()) == (LICENCE, True)
    assert box.verticalScrollBar().maximum() > 0
    values = [label for label in section.findChildren(QLabel) if label.wordWrap()]
    assert [label.text() for label in values] == ["<b>Nets</b>", FACTS[1][1]]
    assert {label.textFormat() for label in values} == {Qt.TextFormat.PlainText}
    assert all(label.height() >= label.heightForWidth(label.width()) for label in values)


def test_another_model_s_facts_take_the_place_of_the_first_s(section: AboutSection, qtbot: Any) -> None:
    section.show_facts([("name", "other")])
    qtbot.wait(20)
    assert section.value("name") == "other"
    assert section.findChild(QPlainTextEdit) is None
    section.show_facts([])
    assert not section.isVisible()
