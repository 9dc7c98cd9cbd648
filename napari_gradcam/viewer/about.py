"""What a model says of itself, in a section of the dock that is closed at first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFormLayout, QLabel, QPlainTextEdit, QPushButton, QVBoxLayout, QWidget

from napari_gradcam.viewer.parts import text_label

if TYPE_CHECKING:
    from collections.abc import Sequence

TITLE = "About the model"

LONG = 400
"""Texts of more letters than this, or of several lines, scroll."""

_LINES = 10
_CLOSED, _OPEN = "▸", "▾"


class AboutSection(QWidget):
    """Names and values below a title that opens and closes it.

    Not superqt's ``QCollapsible``, which gives its content the height that its text would have at another width, and
    paints an arrow in the colours of Qt rather than of napari's theme.

    Values are shown letter by letter: they come from the model, and are neither markup nor links.
    """

    def __init__(self, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.title = QPushButton()
        self.title.setCheckable(True)
        self.title.setFlat(True)
        self.title.setToolTip("What the model's makers say of it")
        self.title.setStyleSheet("text-align: left; font-weight: bold; padding: 2px 0; background: transparent;")
        self._facts: tuple[tuple[str, str], ...] = ()
        self._values: dict[str, QWidget] = {}
        self._content = QWidget()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(3)
        column.addWidget(self.title)
        column.addWidget(self._content)
        self.title.toggled.connect(self._on_toggled)
        self._on_toggled(False)
        self.hide()

    def show_facts(self, facts: Sequence[tuple[str, str]]) -> None:
        """Show names and values; the section is hidden where there are none."""
        facts = tuple(facts)
        self.setVisible(bool(facts))
        if facts == self._facts:
            return
        self._facts = facts
        self._values = {name: _shown(value) for name, value in facts}
        column, before = self.layout(), self._content
        assert column is not None
        self._content = QWidget()
        form = QFormLayout(self._content)
        form.setContentsMargins(0, 0, 0, 0)
        form.setVerticalSpacing(3)
        for name, widget in self._values.items():
            if isinstance(widget, QPlainTextEdit):  # as wide as the dock
                form.addRow(QLabel(name.capitalize()))
                form.addRow(widget)
            else:
                form.addRow(name.capitalize(), widget)
        column.replaceWidget(before, self._content)
        before.deleteLater()
        self._content.setVisible(self.title.isChecked())

    def value(self, name: str) -> str:
        """Give the text that stands beside a name."""
        widget = self._values[name]
        return widget.toPlainText() if isinstance(widget, QPlainTextEdit) else widget.text()  # type: ignore[attr-defined]

    def _on_toggled(self, opened: bool) -> None:
        self.title.setText(f"{_OPEN if opened else _CLOSED} {TITLE}")
        self._content.setVisible(opened)


def _shown(text: str) -> QWidget:
    """Make a label of a text, or of a long one a box in which it scrolls; either can be copied."""
    if len(text) <= LONG and "\n" not in text.strip():
        return text_label(text)
    box = QPlainTextEdit(text)
    box.setReadOnly(True)
    box.setFixedHeight(_LINES * box.fontMetrics().lineSpacing())
    return box
