"""The dialog that asks what of a map to save, and where."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import (
    QCheckBox,
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QMessageBox,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_gradcam.errors import GradCamError
from napari_gradcam.export.formats import LABELS, USUAL, files_of
from napari_gradcam.viewer.parts import heading, plain_tip, text_label
from napari_gradcam.viewer.saving import Wish

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_gradcam.explanation import Explanation

FOLDER = "gradcam"
"""What the folder is called that is offered, in the person's home."""

PRIVATE = "Leave out what could lead to the patient"
PRIVATE_TIP = "Names, numbers, dates and UIDs of the patient, and names of files and folders"
LEAST_WIDTH = 460


class SaveDialog(QDialog):
    """Lists the formats; those that do not fit the map say why.

    Parameters
    ----------
    unfit
        By format, why it does not fit, or "".
    wish
        What was wanted last.
    """

    def __init__(self, unfit: Mapping[str, str], wish: Wish, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Save the heat map")
        self.setMinimumWidth(LEAST_WIDTH)
        self.formats = {name: QCheckBox(LABELS[name]) for name in unfit}
        self.private = QCheckBox(PRIVATE)
        self.folder, self.browse = QLineEdit(str(wish.folder)), QPushButton("Folder…")
        self.buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Save | QDialogButtonBox.StandardButton.Cancel)
        for name, box in self.formats.items():
            box.setEnabled(not unfit[name])
            box.setChecked(not unfit[name] and name in wish.formats)
            box.setToolTip(plain_tip(unfit[name]))
            box.toggled.connect(self._on_changed)
        self.private.setChecked(wish.deidentified)
        self.private.setToolTip(plain_tip(PRIVATE_TIP))
        self.folder.setAccessibleName("Folder")
        self._lay_out()
        self.folder.textChanged.connect(self._on_changed)
        self.browse.clicked.connect(self._on_browse)
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)
        self._on_changed()

    def wish(self) -> Wish:
        """Give what is ticked, and where to."""
        formats = tuple(name for name, box in self.formats.items() if box.isChecked())
        return Wish(Path(self.folder.text().strip()).expanduser(), formats, self.private.isChecked())

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.addWidget(heading("What"))
        for box in self.formats.values():
            column.addWidget(box)
        column.addWidget(heading("Patient"))
        column.addWidget(self.private)
        column.addWidget(heading("Where"))
        row = QHBoxLayout()
        row.addWidget(self.folder, 1)
        row.addWidget(self.browse)
        column.addLayout(row)
        column.addWidget(text_label("The files are written all together or not at all."))
        column.addWidget(self.buttons)

    def _on_changed(self) -> None:
        save = self.buttons.button(QDialogButtonBox.StandardButton.Save)
        assert save is not None
        save.setEnabled(bool(self.wish().formats) and bool(self.folder.text().strip()))

    def _on_browse(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Folder for the results", self.folder.text())
        if chosen:
            self.folder.setText(chosen)


class QtSaveDialogs:
    """Asks in dialogs; see :class:`napari_gradcam.viewer.saving.SaveDialogs`."""

    def __init__(self, parent: QWidget) -> None:
        self._parent = parent
        self._last = Wish(Path.home() / FOLDER, USUAL)

    def wish(self, explanation: Explanation) -> Wish | None:
        """Ask what to save and where; begin with what was wanted last."""
        dialog = SaveDialog(unfit_of(explanation), self._last, parent=self._parent)
        try:
            if dialog.exec() != QDialog.DialogCode.Accepted:
                return None
            self._last = dialog.wish()
            return self._last
        finally:
            dialog.deleteLater()

    def replace(self, folder: Path, names: Sequence[str]) -> bool:
        """Ask whether files may be replaced; no is what Enter and Escape do."""
        listed = "\n".join(names)
        yes, no = QMessageBox.StandardButton.Yes, QMessageBox.StandardButton.No
        answer = QMessageBox.question(
            self._parent, "Replace?", f"{folder} holds already:\n\n{listed}\n\nReplace them?", yes | no, no
        )
        return bool(answer == yes)


def unfit_of(explanation: Explanation) -> dict[str, str]:
    """Say of each format why it does not fit a map; "" of those that do."""
    return {name: _unfit(explanation, name) for name in LABELS}


def _unfit(explanation: Explanation, name: str) -> str:
    try:
        files_of(explanation, [name])
    except GradCamError as error:
        return str(error)
    return ""
