"""The scores: every class with a bar of its probability; a click explains it, a tick pins it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psygnal import Signal
from qtpy.QtCore import QModelIndex, QRectF, Qt
from qtpy.QtGui import QColor, QPainter
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QTableWidget,
    QTableWidgetItem,
    QWidget,
)

from napari_gradcam.viewer.parts import plain_tip

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtGui import QKeyEvent

    from napari_gradcam.viewer.contract import ScoreRow

SHOWN_SCORES = 6
"""Rows of the table before it scrolls."""

PINNED = 2
"""So many classes are set against one another."""

_PIN, _CLASS, _SCORE = range(3)
_PROBABILITY = int(Qt.ItemDataRole.UserRole)
_NAME = _PROBABILITY + 1
_BAR = QColor(70, 130, 200, 150)


class _Bar(QStyledItemDelegate):
    """Paints a bar behind the number."""

    def paint(self, painter: QPainter | None, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        probability = index.data(_PROBABILITY)
        if painter is not None and probability is not None:
            cell = QRectF(option.rect).adjusted(2, 3, -2, -3)
            cell.setWidth(cell.width() * float(probability))
            painter.fillRect(cell, _BAR)
        super().paint(painter, option, index)


class ScoresTable(QTableWidget):
    """Classes and their probabilities, the most probable first; the class that is explained in bold.

    Attributes
    ----------
    picked
        Emits the name of the class that the person clicked, or went to and pressed Return.
    pinned
        Emits the names that are ticked, two at most, the first one first.
    """

    picked = Signal(str)
    pinned = Signal(object)

    def __init__(self, *, parent: QWidget | None = None) -> None:
        super().__init__(0, 3, parent)
        self.setHorizontalHeaderLabels(["Pin", "Class", "Probability"])
        header, rows = self.horizontalHeader(), self.verticalHeader()
        assert header is not None
        assert rows is not None
        header.setSectionResizeMode(_PIN, QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(_CLASS, QHeaderView.ResizeMode.Stretch)
        header.setSectionResizeMode(_SCORE, QHeaderView.ResizeMode.Fixed)
        header.resizeSection(_SCORE, 120)
        header.setHighlightSections(False)
        rows.hide()
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setShowGrid(False)
        self.setTabKeyNavigation(False)  # Tab leads on to the next part of the dock
        self.setItemDelegateForColumn(_SCORE, _Bar(self))
        self.setToolTip("Click a class to see its map; tick two to see the one against the other")
        self._ticked: tuple[str, ...] = ()
        self.itemClicked.connect(self._on_clicked)
        self.itemChanged.connect(self._on_changed)

    @property
    def names(self) -> list[str]:
        """The classes from top to bottom."""
        return [self._name(row) for row in range(self.rowCount())]

    def show_scores(self, rows: Sequence[ScoreRow], target: str, pinned: Sequence[str]) -> None:
        """List classes in the order given, mark the one that is explained, and tick those that are pinned."""
        self.blockSignals(True)
        self._ticked = tuple(pinned)
        self.setRowCount(len(rows))
        for number, row in enumerate(rows):
            self._fill(number, row, explained=row.name == target, ticked=row.name in pinned)
        self.blockSignals(False)
        header = self.horizontalHeader()
        assert header is not None
        height = sum(self.rowHeight(row) for row in range(min(len(rows), SHOWN_SCORES)))
        self.setFixedHeight(header.sizeHint().height() + height + 2 * self.frameWidth() + 2)

    def _fill(self, number: int, row: ScoreRow, *, explained: bool, ticked: bool) -> None:
        pin, name, score = QTableWidgetItem(), QTableWidgetItem(row.name), QTableWidgetItem(row.said)
        pin.setFlags(Qt.ItemFlag.ItemIsUserCheckable | Qt.ItemFlag.ItemIsEnabled)
        pin.setCheckState(Qt.CheckState.Checked if ticked else Qt.CheckState.Unchecked)
        score.setData(_PROBABILITY, row.probability)
        score.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        logit = f"{row.name}: logit {row.logit}" if row.logit else row.name
        for column, item in enumerate((pin, name, score)):
            item.setData(_NAME, row.name)
            item.setToolTip(plain_tip(logit))
            font = item.font()
            font.setBold(explained)
            item.setFont(font)
            self.setItem(number, column, item)

    def _name(self, row: int) -> str:
        item = self.item(row, _CLASS)
        return "" if item is None else str(item.data(_NAME))

    def _on_clicked(self, item: Any) -> None:
        if item.column() != _PIN:
            self.picked.emit(str(item.data(_NAME)))

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Explain the class of the row with Return, and pin it with the space bar."""
        row = self.currentRow()
        if event is None or row < 0 or event.key() not in (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Space):
            super().keyPressEvent(event)
        elif event.key() == Qt.Key.Key_Space:
            pin = self.item(row, _PIN)
            assert pin is not None
            on = pin.checkState() == Qt.CheckState.Checked
            pin.setCheckState(Qt.CheckState.Unchecked if on else Qt.CheckState.Checked)
        else:
            self.picked.emit(self._name(row))

    def _on_changed(self, item: Any) -> None:
        if item.column() != _PIN:
            return
        name, ticked = str(item.data(_NAME)), item.checkState() == Qt.CheckState.Checked
        others = tuple(one for one in self._ticked if one != name)
        # A third one takes the place of the second, so that a click always does something.
        self._ticked = (*others[: PINNED - 1], name) if ticked else others
        self.blockSignals(True)
        for row in range(self.rowCount()):
            pin = self.item(row, _PIN)
            if pin is not None:
                on = self._name(row) in self._ticked
                pin.setCheckState(Qt.CheckState.Checked if on else Qt.CheckState.Unchecked)
        self.blockSignals(False)
        self.pinned.emit(self._ticked)
