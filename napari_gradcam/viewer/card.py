"""The card: what must stand beside every map, always in sight and ready to be copied."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import QFrame, QHBoxLayout, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from napari_gradcam import words
from napari_gradcam.viewer.parts import text_label

if TYPE_CHECKING:
    from collections.abc import Sequence


class Card(QFrame):
    """Some lines, and a button that copies them."""

    def __init__(self, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        self.text = text_label()
        self.copy = QPushButton("Copy")
        self.copy.setToolTip("Copy these lines")
        self.copy.clicked.connect(self._on_copy)
        row = QHBoxLayout(self)
        row.setContentsMargins(8, 4, 8, 4)
        row.addWidget(self.text, 1)
        side = QVBoxLayout()
        side.addWidget(self.copy)
        side.addStretch(1)
        row.addLayout(side)
        self.show_lines((words.PURPOSE,))

    def show_lines(self, lines: Sequence[str]) -> None:
        """Show lines; the purpose alone has no button."""
        self.text.setText("\n".join(lines))
        self.copy.setVisible(len(lines) > 1)

    def _on_copy(self) -> None:
        clipboard = QGuiApplication.clipboard()
        assert clipboard is not None
        clipboard.setText(self.text.text())
