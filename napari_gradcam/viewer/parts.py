"""Small widgets that the dock is made of."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from magicgui.widgets import ComboBox
from qtpy.QtCore import QEvent, QSize, Qt
from qtpy.QtWidgets import (
    QApplication,
    QButtonGroup,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_gradcam.viewer.contract import Tone
from napari_gradcam.volumes.orientation import Plane

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_gradcam.progress import Progress
    from napari_gradcam.viewer.contract import Choice


_BREAK = "\u200b"


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

    def __init__(self, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._wanted: tuple[tuple[bool, int], ...] = ()

    def minimumSizeHint(self) -> QSize:
        """Ask for a width alone; a scroll area asks for the height at that width."""
        return QSize(super().minimumSizeHint().width(), 0)

    def settle(self, *parts: QWidget) -> None:
        """Give every part its height now, if any of `parts` wants another than it wanted before.

        Qt tells of a new height from the inside to the outside, one level in each turn of the event loop, and the
        scroll area comes last: until then a part that has grown is squeezed into the room that it had before.
        """
        wanted = tuple((part.isHidden(), part.sizeHint().height()) for part in parts)
        if wanted == self._wanted:
            return
        self._wanted = wanted
        for part in reversed(self.findChildren(QWidget)):
            layout = part.layout()
            if layout is not None:
                layout.activate()
        for widget in (self, self.parentWidget()):  # the latter is what the scroll area listens to
            if widget is not None:
                QApplication.sendEvent(widget, QEvent(QEvent.Type.LayoutRequest))


class PlaneRow(QWidget):
    """A button for each plane and one for the view in space, the one in sight down; one for three planes at once."""

    def __init__(
        self, picked: Callable[[Plane], None], space: Callable[[], None], *, parent: QWidget | None = None
    ) -> None:
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
        self.space = QPushButton("3D")
        self.space.setCheckable(True)
        self.space.setToolTip("Show the heat map in three dimensions")
        self.space.clicked.connect(lambda: space())
        self._group.addButton(self.space)
        self.linked = QPushButton("3 planes")
        self.linked.setCheckable(True)
        self.linked.setToolTip("Show the other two planes below, linked")
        row.addWidget(self.space)
        row.addWidget(self.linked)

    def mark(self, plane: Plane | None, choosable: bool, in_space: bool) -> None:
        """Put the button of a plane down, or that of the view in space, or all up."""
        self.setEnabled(choosable)
        self._group.setExclusive(False)
        for one, button in self.buttons.items():
            button.setChecked(one is plane)
        self.space.setChecked(in_space)
        self._group.setExclusive(plane is not None or in_space)


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

    def show_progress(self, progress: Progress | None, left_s: float | None = None) -> None:
        """Show how far the work has come, and how long it may take; a total of 0 is work that cannot be counted."""
        if progress is None:
            self.bar.setRange(0, 1)
            self.bar.setValue(0)
            self.stage.setText("Ready")
            return
        self.bar.setRange(0, progress.total)
        self.bar.setValue(progress.done)
        count = f" ({progress.done} of {progress.total})" if progress.total > 8 else ""
        left = "" if left_s is None else f", about {_duration(left_s)} left"
        self.stage.setText(f"{progress.stage}{count}{left}…")


def _duration(seconds: float) -> str:
    """Say a time as roughly as it is known."""
    return f"{5 * round(seconds / 5) or 5} s" if seconds < 90 else f"{round(seconds / 60)} min"


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
            # A place to break long names of layers, which have no blanks.
            self._labels[name].setText(value.replace(".", f".{_BREAK}"))

    def value(self, name: str) -> str:
        """Give the value that stands beside a name."""
        return self._labels[name].text().replace(_BREAK, "")


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
