"""What a model says of itself, in a section of the dock that is closed at first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFormLayout, QLabel, QPlainTextEdit, QWidget

from napari_gradcam.viewer.parts import text_label
from napari_gradcam.viewer.section import Section

if TYPE_CHECKING:
    from collections.abc import Sequence

TITLE = "About the model"

LONG = 400
"""Texts of more letters than this, or of several lines, scroll."""

_LINES = 10


class AboutSection(Section):
    """Names and values.

    Values are shown letter by letter: they come from the model, and are neither markup nor links.
    """

    def __init__(self, *, parent: QWidget | None = None) -> None:
        super().__init__(TITLE, QWidget(), parent=parent)
        self.title.setToolTip("What the model's makers say of it")
        self._facts: tuple[tuple[str, str], ...] = ()
        self._values: dict[str, QWidget] = {}
        self.hide()

    def show_facts(self, facts: Sequence[tuple[str, str]]) -> None:
        """Show names and values; the section is hidden where there are none."""
        facts = tuple(facts)
        self.setVisible(bool(facts))
        if facts == self._facts:
            return
        self._facts = facts
        self._values = {name: _shown(value) for name, value in facts}
        content = QWidget()
        form = QFormLayout(content)
        form.setContentsMargins(0, 0, 0, 0)
        form.setVerticalSpacing(3)
        for name, widget in self._values.items():
            if isinstance(widget, QPlainTextEdit):  # as wide as the dock
                form.addRow(QLabel(name.capitalize()))
                form.addRow(widget)
            else:
                form.addRow(name.capitalize(), widget)
        self.replace(content)

    def value(self, name: str) -> str:
        """Give the text that stands beside a name."""
        widget = self._values[name]
        return widget.toPlainText() if isinstance(widget, QPlainTextEdit) else widget.text()  # type: ignore[attr-defined]


def _shown(text: str) -> QWidget:
    """Make a label of a text, or of a long one a box in which it scrolls; either can be copied."""
    if len(text) <= LONG and "\n" not in text.strip():
        return text_label(text)
    box = QPlainTextEdit(text)
    box.setReadOnly(True)
    box.setFixedHeight(_LINES * box.fontMetrics().lineSpacing())
    return box
