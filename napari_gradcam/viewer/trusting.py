"""Whether a model may run code of its own: what it asks for, and a person's answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtGui import QFontDatabase
from qtpy.QtWidgets import (
    QAbstractItemView,
    QDialog,
    QDialogButtonBox,
    QHeaderView,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_gradcam.viewer.parts import plain_tip, text_label
from napari_gradcam.volumes.wording import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_gradcam.viewer.contract import CodeAsked

MEANING = (
    "Code that you trust may do anything that you may do on this computer: read, change and delete your files, and "
    "send them elsewhere. Trust it only if you know who made it and have it from them. Your answer is remembered "
    "for exactly these contents: after any change you are asked again."
)

_COLUMNS = ("Where", "What it asks for", "Why it is refused")
_SIZE = (820, 480)


class TrustDialog(QDialog):
    """Shows all that a model asks for; not to open it is what Enter and Escape do."""

    def __init__(self, asked: CodeAsked, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Code from this model")
        count = len(asked.findings)
        things = "one thing" if count == 1 else f"{count} things"
        self.introduction = text_label(
            f"The model “{printable(asked.name)}” asks for {things} that would run code of its own. "
            "Nothing of it was run."
        )
        self.table = QTableWidget(count, len(_COLUMNS), self)
        self.digest = text_label(asked.digest)
        self.digest.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        self.refuse, self.trust = QPushButton("Do not open"), QPushButton("Trust and open")
        self.buttons = QDialogButtonBox()
        self.buttons.addButton(self.trust, QDialogButtonBox.ButtonRole.AcceptRole)
        self.buttons.addButton(self.refuse, QDialogButtonBox.ButtonRole.RejectRole)
        self._fill(asked)
        column = QVBoxLayout(self)
        column.addWidget(self.introduction)
        column.addWidget(self.table, 1)
        for widget in (text_label("SHA-256 of its contents:"), self.digest, text_label(MEANING), self.buttons):
            column.addWidget(widget)
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)
        self.trust.setAutoDefault(False)
        self.refuse.setDefault(True)
        self.refuse.setFocus()
        self.resize(*_SIZE)

    def _fill(self, asked: CodeAsked) -> None:
        self.table.setHorizontalHeaderLabels(list(_COLUMNS))
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.table.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        rows, header = self.table.verticalHeader(), self.table.horizontalHeader()
        assert rows is not None
        assert header is not None
        rows.hide()
        rows.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        for row, finding in enumerate(asked.findings):
            for column, text in enumerate(finding):
                item = QTableWidgetItem(printable(text))
                item.setTextAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
                item.setToolTip(plain_tip(printable(text)))
                self.table.setItem(row, column, item)


def ask(parent: QWidget | None, asked: CodeAsked, trusted: Callable[[], None]) -> None:
    """Ask a person, without waiting for the answer.

    Parameters
    ----------
    parent
        The window that the question belongs to.
    asked
        What the model asks for.
    trusted
        Called if the person trusts it.
    """
    dialog = TrustDialog(asked, parent=parent)
    dialog.finished.connect(dialog.deleteLater)
    dialog.accepted.connect(trusted)
    dialog.open()
