"""A part of the dock below a title that opens and closes it."""

from __future__ import annotations

from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget

_CLOSED, _OPEN = "▸", "▾"


class Section(QWidget):
    """A title, and what it opens.

    Not superqt's ``QCollapsible``, which gives its content the height that its text would have at another width, and
    paints an arrow in the colours of Qt rather than of napari's theme.

    Parameters
    ----------
    title
        What stands beside the arrow.
    content
        What is shown while it is open.
    opened
        Whether it is at first.
    """

    def __init__(self, title: str, content: QWidget, *, opened: bool = False, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._title, self.content = title, content
        self.title = QPushButton()
        self.title.setCheckable(True)
        self.title.setFlat(True)
        self.title.setStyleSheet("text-align: left; font-weight: bold; padding: 2px 0; background: transparent;")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(3)
        column.addWidget(self.title)
        column.addWidget(content)
        self.title.toggled.connect(self._on_toggled)
        self.title.setChecked(opened)
        self._on_toggled(opened)

    def replace(self, content: QWidget) -> None:
        """Show something else below the title."""
        column, before = self.layout(), self.content
        assert column is not None
        self.content = content
        column.replaceWidget(before, content)
        before.deleteLater()
        content.setVisible(self.title.isChecked())

    def _on_toggled(self, opened: bool) -> None:
        self.title.setText(f"{_OPEN if opened else _CLOSED} {self._title}")
        self.content.setVisible(opened)
