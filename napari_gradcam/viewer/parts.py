"""Small widgets that the dock is made of."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from magicgui.widgets import ComboBox
from qtpy.QtCore import QSize, Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QButtonGroup,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_gradcam.viewer.contract import Tone
from napari_gradcam.volumes.orientation import Plane

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from napari_gradcam.progress import Progress
    from napari_gradcam.viewer.contract import Choice

SHOWN_SCORES = 6
"""Rows of the scores table before it scrolls."""


def choice_box(name: str, label: str, tooltip: str) -> ComboBox:
    """Make a list to choose from that may be narrower than its longest entry."""
    box = ComboBox(name=name, label=label, choices=[], tooltip=tooltip)
    native: QComboBox = box.native
    native.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    native.setMinimumContentsLength(12)
    return box


def fill(box: ComboBox, choices: Sequence[Choice], current: str) -> None:
    """List choices and mark one, without a word to those who listen for the person's picks."""
    with box.changed.blocked():
        box.choices = [(choice.label, choice.key) for choice in choices]
        if any(choice.key == current for choice in choices):
            box.value = current
    for row, choice in enumerate(choices):
        box.native.setItemData(row, plain_tip(choice.label), Qt.ItemDataRole.ToolTipRole)
    box.enabled = bool(choices)


def plain_tip(text: str) -> str:
    """Give a tooltip that shows a text letter by letter: Qt takes what looks like markup for markup."""
    return f"<span>{html.escape(text)}</span>" if "<" in text or "&" in text else text


def text_label(text: str = "") -> QLabel:
    """Make a label whose text wraps and can be copied."""
    label = QLabel(text)
    label.setWordWrap(True)
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    # A label that wraps is as high as its text at the width it has, and never asks for more width.
    label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    return label


def heading(text: str) -> QLabel:
    """Make a section's title."""
    label = QLabel(text)
    font = label.font()
    font.setBold(True)
    label.setFont(font)
    return label


def row_label(text: str, width: int) -> QLabel:
    """Make the label of a row whose name comes from a file: letter by letter, cut where it is wider than `width`."""
    label = QLabel()
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setText(label.fontMetrics().elidedText(text, Qt.TextElideMode.ElideRight, width))
    label.setToolTip(plain_tip(text))
    return label


class Column(QWidget):
    """What scrolls: as high as its texts are at the width they have, of which Qt's own least height knows nothing."""

    def minimumSizeHint(self) -> QSize:
        """Ask for a width alone; a scroll area asks for the height at that width."""
        return QSize(super().minimumSizeHint().width(), 0)


class PlaneRow(QWidget):
    """Three buttons, of which the one of the plane in sight is down."""

    def __init__(self, picked: Callable[[Plane], None], *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        self.buttons: dict[Plane, QPushButton] = {}
        self._group = QButtonGroup(self)
        for plane in Plane:
            button = QPushButton(plane.value.capitalize())
            button.setCheckable(True)
            button.setToolTip(f"Show the {plane.value} plane")
            button.clicked.connect(lambda _=False, plane=plane: picked(plane))
            self._group.addButton(button)
            row.addWidget(button)
            self.buttons[plane] = button

    def mark(self, plane: Plane | None, choosable: bool) -> None:
        """Put the button of a plane down, or all up."""
        self.setEnabled(choosable)
        self._group.setExclusive(False)
        for one, button in self.buttons.items():
            button.setChecked(one is plane)
        self._group.setExclusive(plane is not None)


class ProgressRow(QWidget):
    """A bar and what is being done; empty, but no lower, while nothing is going on."""

    def __init__(self, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(6)
        self.stage = QLabel()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(self.bar)
        column.addWidget(self.stage)
        self.show_progress(None)

    def show_progress(self, progress: Progress | None) -> None:
        """Show how far the work has come; a total of 0 is work that cannot be counted."""
        if progress is None:
            self.bar.setRange(0, 1)
            self.bar.setValue(0)
            self.stage.setText("Ready")
            return
        self.bar.setRange(0, progress.total)
        self.bar.setValue(progress.done)
        count = f" ({progress.done} of {progress.total})" if progress.total > 8 else ""
        self.stage.setText(f"{progress.stage}{count}…")


class MessageLabel(QWidget):
    """One sentence; an error has a sign and bold type, so that it is seen in any theme."""

    def __init__(self, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._label = text_label()
        self.tone = Tone.NOTE
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self._label)
        self.hide()

    @property
    def text(self) -> str:
        """The sentence, without its sign."""
        return self._label.text().removeprefix("⚠ ")

    def say(self, sentence: str, tone: Tone) -> None:
        """Show a sentence; hide where there is none."""
        self.tone = tone
        font = self._label.font()
        font.setBold(tone is Tone.ERROR)
        self._label.setFont(font)
        self._label.setText(f"⚠ {sentence}" if sentence and tone is Tone.ERROR else sentence)
        self.setVisible(bool(sentence))


class ScoresTable(QTableWidget):
    """Classes and their probabilities; the class that is explained in bold."""

    def __init__(self, *, parent: QWidget | None = None) -> None:
        super().__init__(0, 2, parent)
        self.setHorizontalHeaderLabels(["Class", "Probability"])
        header, rows = self.horizontalHeader(), self.verticalHeader()
        assert header is not None
        assert rows is not None
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        header.setSectionResizeMode(1, QHeaderView.ResizeMode.ResizeToContents)
        rows.hide()
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setShowGrid(False)

    def show_scores(self, scores: Mapping[str, str], target: str) -> None:
        """List the scores in the classifier's order."""
        self.setRowCount(len(scores))
        for row, (name, score) in enumerate(scores.items()):
            for column, text in enumerate((name, score)):
                item = QTableWidgetItem(text)
                font = item.font()
                font.setBold(name == target)
                item.setFont(font)
                item.setToolTip(plain_tip(name))
                if column:
                    item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
                self.setItem(row, column, item)
        header = self.horizontalHeader()
        assert header is not None
        rows = sum(self.rowHeight(row) for row in range(min(len(scores), SHOWN_SCORES)))
        self.setFixedHeight(header.sizeHint().height() + rows + 2 * self.frameWidth() + 2)


class FactsForm(QWidget):
    """Names and values, one below the other."""

    def __init__(self, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._form = QFormLayout(self)
        self._form.setContentsMargins(0, 0, 0, 0)
        self._form.setVerticalSpacing(3)
        self._labels: dict[str, QLabel] = {}

    def show_facts(self, facts: Sequence[tuple[str, str]]) -> None:
        """Show values; a name that was there keeps its place."""
        for name, value in facts:
            if name not in self._labels:
                self._labels[name] = text_label()
                self._form.addRow(name, self._labels[name])
            self._labels[name].setText(value)

    def value(self, name: str) -> str:
        """Give the value that stands beside a name."""
        return self._labels[name].text()


class RawSpinBox(QDoubleSpinBox):
    """A positive raw value of any magnitude, shown to four significant digits."""

    def __init__(self, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setDecimals(9)
        self.setRange(1e-9, 1e9)
        self.setStepType(QDoubleSpinBox.StepType.AdaptiveDecimalStepType)
        self.setKeyboardTracking(False)

    def textFromValue(self, value: float) -> str:
        """Write a value shortly."""
        return f"{value:.4g}"


def side_by_side(*widgets: QWidget) -> QHBoxLayout:
    """Put widgets in a row."""
    row = QHBoxLayout()
    row.setContentsMargins(0, 0, 0, 0)
    row.setSpacing(6)
    for widget in widgets:
        row.addWidget(widget)
    return row
