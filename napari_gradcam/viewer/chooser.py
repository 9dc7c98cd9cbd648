"""Which scans of a folder or an archive to open: a list to choose from."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QDialog,
    QDialogButtonBox,
    QHeaderView,
    QSpinBox,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_gradcam.viewer.parts import plain_tip, text_label

if TYPE_CHECKING:
    from napari_gradcam.volumes import Catalogue, Scan

MOST_MARKED = 8
"""So many scans are marked from the start; of more, none is: each takes memory and a layer."""

_COLUMNS = ("Scan", "Patient", "Study", "Modality", "Images", "Voxels", "Frame", "Remark")
_SCAN, _PATIENT, _FRAME = 0, 1, 6


class Pick(NamedTuple):
    """A scan that a person chose, and how it is to be read."""

    scan: Scan
    frame: int | None
    resample: bool


class Chooser(QDialog):
    """Lists scans by patient, study and series; names are shown to those who ask for them."""

    def __init__(self, catalogue: Catalogue, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Open scans")
        self.scans = catalogue.scans
        self.table = QTableWidget(len(self.scans), len(_COLUMNS), self)
        self.names = QCheckBox("Show patients' names")
        self.resample = QCheckBox("Interpolate slices that are missing or unevenly spaced")
        self.buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Open | QDialogButtonBox.StandardButton.Cancel)
        self.frames: dict[int, QSpinBox] = {}
        column = QVBoxLayout(self)
        column.addWidget(
            text_label(f"Scans in {catalogue.label}. Click on those to open: each becomes a layer of its own.")
        )
        for widget in (self.table, *map(text_label, catalogue.notices), self.names, self.resample, self.buttons):
            column.addWidget(widget)
        self.names.setVisible(any(scan.series for scan in self.scans))
        self.resample.setVisible(any(scan.resampling for scan in self.scans))
        self._fill()
        self._connect()
        self.resize(900, min(640, 240 + 26 * len(self.scans)))

    def picks(self) -> list[Pick]:
        """Give what is marked."""
        return [
            Pick(scan, self.frames[row].value() if row in self.frames else None, self.resample.isChecked())
            for row, scan in enumerate(self.scans)
            if self._is_marked(row)
        ]

    def mark(self, row: int, marked: bool = True) -> None:
        """Mark a scan, or take the mark away."""
        for column in range(self.table.columnCount()):
            item = self.table.item(row, column)
            assert item is not None
            item.setSelected(marked)

    def _is_marked(self, row: int) -> bool:
        item = self.table.item(row, _SCAN)
        return item is not None and item.isSelected()

    def _fill(self) -> None:
        self.table.setHorizontalHeaderLabels(list(_COLUMNS))
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.MultiSelection)  # a click marks or unmarks
        rows, header = self.table.verticalHeader(), self.table.horizontalHeader()
        assert rows is not None
        assert header is not None
        rows.hide()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(_SCAN, QHeaderView.ResizeMode.Interactive)
        header.setStretchLastSection(True)
        wanted = [scan for scan in self.scans if not scan.problem and not scan.aside]
        wanted = wanted or [scan for scan in self.scans if not scan.problem]
        for row, scan in enumerate(self.scans):
            self._fill_row(row, scan)
            if scan in wanted and len(wanted) <= MOST_MARKED:
                self.mark(row)
        self.table.setColumnWidth(_SCAN, 260)
        self._on_resample()

    def _fill_row(self, row: int, scan: Scan) -> None:
        of = scan.series
        study = " ".join(filter(None, (str(of.study), of.study_description))) if of else ""
        grid = " × ".join(map(str, scan.shape)) if scan.shape else ""
        number = f" ({of.number})" if of and of.number else ""
        remark = scan.aside or scan.problem or ""
        cells = (scan.name + number, "", study, scan.modality, str(scan.images), grid, "", remark)
        for column, text in enumerate(cells):
            item = QTableWidgetItem(text)
            item.setToolTip(plain_tip(text))
            self.table.setItem(row, column, item)
        self._show_patient(row)
        if scan.frames > 1:
            box = self.frames[row] = QSpinBox()
            box.setRange(1, scan.frames)
            box.setSuffix(f" of {scan.frames}")
            self.table.setCellWidget(row, _FRAME, box)

    def _show_patient(self, row: int) -> None:
        of, item = self.scans[row].series, self.table.item(row, _PATIENT)
        assert item is not None
        if of is not None:
            item.setText(of.person.name or str(of.patient) if self.names.isChecked() else str(of.patient))

    def _connect(self) -> None:
        self.names.toggled.connect(self._on_names)
        self.resample.toggled.connect(self._on_resample)
        self.table.itemSelectionChanged.connect(self._on_marked)
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)
        self._on_marked()

    def _on_names(self) -> None:
        for row in range(len(self.scans)):
            self._show_patient(row)

    def _on_resample(self) -> None:
        """Let be marked what can be read."""
        for row, scan in enumerate(self.scans):
            readable = not scan.problem or (scan.resampling and self.resample.isChecked())
            if not readable:
                self.mark(row, False)
            flags = Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable if readable else Qt.ItemFlag.NoItemFlags
            for column in range(self.table.columnCount()):
                item = self.table.item(row, column)
                assert item is not None
                item.setFlags(flags)

    def _on_marked(self) -> None:
        button = self.buttons.button(QDialogButtonBox.StandardButton.Open)
        assert button is not None
        button.setEnabled(bool(self.picks()))


def ask(catalogue: Catalogue, parent: QWidget | None) -> list[Pick]:
    """Let a person choose; nothing where they cancel."""
    chooser = Chooser(catalogue, parent=parent)
    try:
        return chooser.picks() if chooser.exec() else []
    finally:
        chooser.deleteLater()
