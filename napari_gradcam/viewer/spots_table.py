"""The hot spots: what each holds and where it lies; a click goes there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from psygnal import Signal
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QFileDialog,
    QHeaderView,
    QLabel,
    QPushButton,
    QSizePolicy,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_gradcam.viewer.parts import heading, side_by_side

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtGui import QKeyEvent

    from napari_gradcam.viewer.contract import SpotRow

SHOWN_SPOTS = 5
"""Rows of the table before it scrolls."""

NOTHING = "No heat above the threshold."
COUNTING = "Looking for hot spots…"

_TIPS = (
    "Rank by evidence",
    "Raw heat at the hottest voxel",
    "Share of all positive evidence in the map",
    "Volume in ml",
    "Hottest voxel in the patient, mm",
    "Slice of the plane in sight",
    "DICOM instance number",
)


class _Rows(QTableWidget):
    """A table that tells when the arrow keys went to another row; a click is told by Qt."""

    stepped = Signal(int)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Go to another row, and tell which."""
        before = self.currentRow()
        super().keyPressEvent(event)
        if self.currentRow() != before:
            self.stepped.emit(self.currentRow())


_PLACE = 4
"""The column of the place in the patient."""


class SpotsTable(QWidget):
    """A row for each hot spot.

    Attributes
    ----------
    picked
        Emits the number of the row that the person clicked or went to, from 0.
    saved
        Emits the file that the person wants them in.
    """

    picked = Signal(int)
    saved = Signal(object)

    def __init__(self, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.table = _Rows(0, len(_TIPS))
        self.nothing = QLabel(NOTHING)
        self.export = QPushButton("Save as CSV…")
        self.export.setToolTip("Save the hot spots as a table")
        self.export.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
        header, rows = self.table.horizontalHeader(), self.table.verticalHeader()
        assert header is not None
        assert rows is not None
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setStretchLastSection(True)
        header.setMinimumSectionSize(18)
        header.setHighlightSections(False)
        rows.hide()
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.setShowGrid(False)
        self.table.setTabKeyNavigation(False)
        self.table.setWordWrap(False)
        self.table.setToolTip("Click a hot spot to see it in all planes")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(3)
        column.addLayout(side_by_side(heading("Hot spots"), self.export))
        for part in (self.table, self.nothing):
            column.addWidget(part)
        self.table.stepped.connect(self.picked.emit)
        self.table.itemClicked.connect(lambda item: self.picked.emit(item.row()))
        self.export.clicked.connect(self._on_export)
        self.show_spots((), "RAS")

    def show_spots(self, rows: Sequence[SpotRow] | None, system: str) -> None:
        """List hot spots; `system` names the axes of their positions.

        While they are counted those of the map before stay, dimmed, so that nothing jumps.
        """
        self.table.setEnabled(rows is not None)
        self.export.setEnabled(bool(rows))
        self.nothing.setText(COUNTING if rows is None else NOTHING)
        if rows is not None:
            self._fill(rows, system)

    def _place_of(self, row: int) -> str:
        """Give the place that a row tells; "" of none."""
        item = self.table.item(row, _PLACE)
        return item.text() if item is not None else ""

    def _fill(self, rows: Sequence[SpotRow], system: str) -> None:
        before, picked = self.table.currentRow(), self._place_of(self.table.currentRow())
        instances = any(row.instance for row in rows)
        self.table.blockSignals(True)
        self.table.setHorizontalHeaderLabels(["#", "Peak", "Share", "ml", f"{system}, mm", "Slice", "Inst."])
        self.table.setRowCount(len(rows))
        for number, row in enumerate(rows):
            for column, text in enumerate(row):
                item = QTableWidgetItem(text)
                item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
                self.table.setItem(number, column, item)
        for column, tip in enumerate(_TIPS):
            head = self.table.horizontalHeaderItem(column)
            if head is not None:
                head.setToolTip(tip)
        self.table.setColumnHidden(len(_TIPS) - 1, not instances)
        # Of another map the row is another place: a mark left on it would say that it is in sight.
        same = picked != "" and self._place_of(before) == picked
        self.table.setCurrentCell(before if same else -1, 0)
        self.table.blockSignals(False)
        self.table.setVisible(bool(rows))
        self.nothing.setVisible(not rows)
        self._fit(len(rows))

    def _fit(self, count: int) -> None:
        header = self.table.horizontalHeader()
        assert header is not None
        height = sum(self.table.rowHeight(row) for row in range(min(count, SHOWN_SPOTS)))
        self.table.setFixedHeight(header.sizeHint().height() + height + 2 * self.table.frameWidth() + 2)

    def _on_export(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save the hot spots", "hot_spots.csv", "Table (*.csv)")
        if path:
            self.saved.emit(Path(path))
