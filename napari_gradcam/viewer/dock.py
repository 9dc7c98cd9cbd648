"""The dock: shows state, sends what the person did, decides nothing.

It is the view of :class:`napari_gradcam.viewer.contract.DockView`, from top to bottom in the order of reading: the
plane, the scan and the model, the scores, where the heat is, how it is painted. What is rarely changed is folded away.
The card below is always in sight.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from magicgui.widgets import ComboBox, PushButton
from qtpy.QtCore import QSize, Qt, QTimer
from qtpy.QtWidgets import QFileDialog, QFormLayout, QFrame, QHBoxLayout, QScrollArea, QSizePolicy, QVBoxLayout, QWidget

from napari_gradcam.viewer import keys
from napari_gradcam.viewer.about import AboutSection
from napari_gradcam.viewer.card import Card
from napari_gradcam.viewer.contract import ChannelRow, Choice, DockEvents, Profile, Result, ScoreRow, SpotRow, Tone
from napari_gradcam.viewer.display import DisplayForm
from napari_gradcam.viewer.parts import (
    Column,
    FactsForm,
    MessageLabel,
    PlaneRow,
    ProgressRow,
    choice_box,
    fill,
    heading,
    plain_tip,
    row_label,
    side_by_side,
    text_label,
)
from napari_gradcam.viewer.profile_plot import ProfilePlot
from napari_gradcam.viewer.scores_table import ScoresTable
from napari_gradcam.viewer.section import Section
from napari_gradcam.viewer.spots_table import SpotsTable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_gradcam.progress import Progress
    from napari_gradcam.viewer.look import Look
    from napari_gradcam.volumes.orientation import Plane


SCAN_TIP = "The scan that is explained"
MODEL_FILES = "MONAI bundle or recipe (*.zip *.yaml *.yml)"

WIDTH = 396
"""Pixels of the dock, at least: below, the buttons of the planes would be cut off."""

NOTICES = 96
"""Pixels of what must be known of a map, at most; more of it scrolls."""

WIDEST_LABEL = 90
"""Pixels of the name of a channel; longer ones are cut, and told in full in their tooltip."""


class Dock(QWidget):
    """The form, the run and the result.

    Attributes
    ----------
    events
        What the person did.
    """

    def __init__(self, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.events = DockEvents()
        self.scan = choice_box("scan", "Scan", SCAN_TIP)
        self.scan_file = PushButton(text="File…", tooltip="Open a DICOM or NIfTI file, or a zip archive")
        self.scan_folder = PushButton(text="Folder…", tooltip="Open the scans of a folder and its sub-folders")
        self.channels: list[ComboBox] = []
        self.model = choice_box("model", "Model", "The classifier: a MONAI bundle, or a recipe")
        self.file = PushButton(text="File…", tooltip="Choose a MONAI bundle as a zip file, or a recipe (YAML)")
        self.folder = PushButton(text="Folder…", tooltip="Choose a MONAI bundle as a folder")
        self.target = choice_box("target", "Class", "The class whose score is explained")
        self.layer = choice_box("layer", "Layer", "The network's layer at which the map is taken")
        self.slicing = choice_box("slicing", "Plane", "The plane of the slices that the model reads")
        self.method = choice_box("method", "Method", "How activations and gradients become a map")
        self.device = choice_box("device", "Device", "Where the network runs")
        self.explain = PushButton(text="Explain", tooltip="Run the model on the scan and show where it looked")
        self.cancel = PushButton(text="Cancel", tooltip="Stop after the step that is being done", enabled=False)
        self.save = PushButton(text="Save…", tooltip="Save the map, pictures, a report, numbers", enabled=False)
        self.planes = PlaneRow(self.events.plane_picked.emit, self.events.space_picked.emit)
        self.progress = ProgressRow()
        self.message = MessageLabel()
        self.scores = ScoresTable()
        self.facts = FactsForm()
        self.spots = SpotsTable()
        self.profile = ProfilePlot()
        self.sentences = text_label()
        self.result = QWidget()
        self.grey = choice_box("window", "Window", "Which of the scan's values are shown black and white")
        self.display = DisplayForm(self.events.look_changed.emit)
        self.beside = PushButton(text="Keep beside", tooltip="Keep this map beside the next ones, to compare them")
        self.alone = PushButton(text="Close", tooltip="Show one map alone again", enabled=False)
        self.compared = text_label()
        self.compared_facts = FactsForm()
        self.numbers = Section("Numbers", self.facts)
        self.settings = Section("Class, layer, method, device", QWidget())
        self.comparing = Section("Compare", QWidget())
        self.shortcuts = Section("Keys", text_label("\n".join(f"{key}   {what}" for key, what in keys.LISTED)))
        self.about = AboutSection()
        self.card = Card()
        self._model_row = _chosen(self.model, self.file, self.folder)
        self._form = QFormLayout()
        self._area, self._notices, self._inner = QScrollArea(), QScrollArea(), Column()
        self._labels: tuple[str, ...] = ()
        self._to_about = QTimer(self)
        self._to_about.setSingleShot(True)
        self._lay_out()
        self._connect()
        self.set_result(None)

    def _lay_out(self) -> None:
        form = self._form
        form.setContentsMargins(0, 0, 0, 0)
        form.setVerticalSpacing(5)
        form.addRow("Scan", _chosen(self.scan, self.scan_file, self.scan_folder))
        form.addRow("Model", self._model_row)
        self._settings = QFormLayout(self.settings.content)
        self._settings.setContentsMargins(0, 0, 0, 0)
        for box in (self.target, self.slicing, self.layer, self.method, self.device):
            self._settings.addRow(box.label, box.native)
        found = QVBoxLayout(self.result)
        found.setContentsMargins(0, 0, 0, 0)
        found.setSpacing(5)
        for part in (self.spots, self.profile, self.numbers):
            found.addWidget(part)
        beside = QVBoxLayout(self.comparing.content)
        beside.setContentsMargins(0, 0, 0, 0)
        beside.addLayout(side_by_side(self.beside.native, self.alone.native))
        beside.addWidget(self.compared)
        beside.addWidget(self.compared_facts)
        self._windows = QWidget()
        windows = QFormLayout(self._windows)
        windows.setContentsMargins(0, 0, 0, 0)
        windows.addRow("Window", self.grey.native)
        column = QVBoxLayout(self._inner)
        column.setContentsMargins(8, 6, 8, 6)
        column.setSpacing(7)
        column.addWidget(self.planes)
        column.addLayout(form)
        column.addWidget(self.settings)
        column.addLayout(side_by_side(self.explain.native, self.cancel.native, self.save.native))
        for section in (self.progress, self.message, heading("Scores"), self.scores, self.result):
            column.addWidget(section)
        column.addWidget(heading("Heat map"))
        column.addWidget(self.display)
        column.addWidget(self._windows)
        for section in (self.comparing, self.about, self.shortcuts):
            column.addWidget(section)
        column.addStretch(1)
        area = self._area
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setWidget(self._inner)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(area, 1)
        # Outside of what scrolls they are always in sight, and move no slider while it is dragged.
        self._notices.setWidgetResizable(True)
        self._notices.setWidget(self.sentences)
        self._notices.setMaximumHeight(NOTICES)
        self.sentences.setContentsMargins(8, 2, 8, 2)
        self.sentences.setAlignment(Qt.AlignmentFlag.AlignTop)
        outer.addWidget(self._notices)
        outer.addWidget(self.card)
        self.setMinimumWidth(WIDTH)

    def sizeHint(self) -> QSize:
        """Ask for no more width than is needed; texts wrap, and tables may be wider than what they hold."""
        return QSize(WIDTH, super().sizeHint().height())

    def _connect(self) -> None:
        events = self.events
        self.scan.changed.connect(events.scan_picked.emit)
        self.model.changed.connect(events.model_picked.emit)
        self.target.changed.connect(events.class_picked.emit)
        self.layer.changed.connect(events.layer_picked.emit)
        self.slicing.changed.connect(events.slicing_picked.emit)
        self.method.changed.connect(events.method_picked.emit)
        self.device.changed.connect(events.device_picked.emit)
        self.scan_file.clicked.connect(self._open_scan_file)
        self.scan_folder.clicked.connect(self._open_scan_folder)
        self.folder.clicked.connect(self._open_folder)
        self.file.clicked.connect(self._open_file)
        # Once it is laid out: what opens below the edge of the window would go unseen.
        self.about.title.toggled.connect(lambda opened: self._to_about.start() if opened else None)
        self._to_about.timeout.connect(self._show_about)
        self.scores.picked.connect(events.class_clicked.emit)
        self.scores.pinned.connect(events.classes_pinned.emit)
        self.spots.picked.connect(events.spot_picked.emit)
        self.spots.saved.connect(events.spots_saved.emit)
        self.profile.picked.connect(events.slice_picked.emit)
        self.grey.changed.connect(events.window_picked.emit)
        self.planes.linked.toggled.connect(events.planes_linked.emit)
        self.beside.clicked.connect(lambda: events.beside_pressed.emit())
        self.alone.clicked.connect(lambda: events.alone_pressed.emit())
        self.explain.clicked.connect(lambda: events.explain_pressed.emit())
        self.cancel.clicked.connect(lambda: events.cancel_pressed.emit())
        self.save.clicked.connect(lambda: events.save_pressed.emit())

    def _show_about(self) -> None:
        """Scroll to what the model says; to its title where it is higher than what is in sight."""
        self._area.ensureWidgetVisible(self.about, 0, 0)
        self._area.ensureWidgetVisible(self.about.title, 0, 0)

    def _open_scan_file(self) -> None:
        self._scan_opened(QFileDialog.getOpenFileName(self, "Open a scan")[0])

    def _open_scan_folder(self) -> None:
        self._scan_opened(QFileDialog.getExistingDirectory(self, "Open the scans of a folder"))

    def _scan_opened(self, path: str) -> None:
        if path:
            self.events.scan_opened.emit(Path(path))

    def _open_folder(self) -> None:
        self._opened(QFileDialog.getExistingDirectory(self, "Open a MONAI bundle"))

    def _open_file(self) -> None:
        self._opened(QFileDialog.getOpenFileName(self, "Open a MONAI bundle or a recipe", filter=MODEL_FILES)[0])

    def _opened(self, path: str) -> None:
        if path:
            self.events.model_opened.emit(Path(path))

    def set_scans(self, choices: Sequence[Choice], current: str) -> None:
        """List the scans."""
        fill(self.scan, choices, current)

    def set_models(self, choices: Sequence[Choice], current: str) -> None:
        """List the models."""
        fill(self.model, choices, current)

    def set_classes(self, choices: Sequence[Choice], current: str) -> None:
        """List the classes of the model."""
        fill(self.target, choices, current)

    def set_layers(self, choices: Sequence[Choice], current: str) -> None:
        """List the model's layers that can be a target."""
        fill(self.layer, choices, current)

    def set_methods(self, choices: Sequence[Choice], current: str) -> None:
        """List the methods."""
        fill(self.method, choices, current)

    def set_channels(self, first: str, rows: Sequence[ChannelRow]) -> None:
        """Name the channels that the scan gives, and show a list for each further one; nothing and none as a rule."""
        self.scan.native.setToolTip(plain_tip(f"{SCAN_TIP}: the model reads it as {first}" if first else SCAN_TIP))
        labels = tuple(row.label for row in rows)
        if labels != self._labels:
            self._labels = labels
            self._make_channels()
        for box, row in zip(self.channels, rows, strict=True):
            fill(box, row.choices, row.current)

    def _make_channels(self) -> None:
        for box in self.channels:
            self._form.removeRow(box.native)
        self.channels = []
        below, _ = self._form.getWidgetPosition(self._model_row)
        for number, label in enumerate(self._labels):
            box = choice_box(f"channel_{number}", label, plain_tip(f"What the model reads as {label}"))
            box.changed.connect(partial(self.events.channel_picked.emit, number))
            self._form.insertRow(below + number, row_label(label, WIDEST_LABEL), box.native)
            self.channels.append(box)

    def set_slicings(self, choices: Sequence[Choice], current: str) -> None:
        """List the planes that a 2D model may cut the scan along; hide the list where there are none."""
        fill(self.slicing, choices, current)
        label = self._settings.labelForField(self.slicing.native)
        assert label is not None
        label.setVisible(bool(choices))
        self.slicing.native.setVisible(bool(choices))

    def set_devices(self, choices: Sequence[Choice], current: str) -> None:
        """List the devices that the network may run on."""
        fill(self.device, choices, current)

    def set_about(self, facts: Sequence[tuple[str, str]]) -> None:
        """Tell what the model says of itself, name by name; nothing before it is loaded."""
        self.about.show_facts(facts)

    def set_plane(self, plane: Plane | None, *, choosable: bool = True, in_space: bool = False) -> None:
        """Mark the plane in sight, or the view in three dimensions; pictures have one plane, so none can be chosen."""
        self.planes.mark(plane, choosable, in_space)

    def set_scores(self, rows: Sequence[ScoreRow], target: str, pinned: Sequence[str]) -> None:
        """List the classes, the most probable first, mark the one explained and those that are pinned."""
        self.scores.show_scores(rows, target, pinned)

    def set_spots(self, rows: Sequence[SpotRow] | None, system: str) -> None:
        """List the hot spots, None while they are counted; `system` names the axes of their positions."""
        self.spots.show_spots(rows, system)
        self._inner.settle(self.spots, self.profile)

    def set_profile(self, profile: Profile | None) -> None:
        """Draw the evidence slice by slice; nothing where there is no map or no plane."""
        self.profile.show_profile(profile)
        self._inner.settle(self.spots, self.profile)

    def set_slice(self, number: int) -> None:
        """Mark the slice in sight, from 0."""
        self.profile.show_slice(number)

    def set_windows(self, choices: Sequence[Choice], current: str) -> None:
        """List the grey windows on offer; none for a scan in colours, or none at all."""
        fill(self.grey, choices, current)
        self._windows.setVisible(bool(choices))

    def set_card(self, lines: Sequence[str]) -> None:
        """Show what must stand beside every map: by what it was made, and what it is no good for."""
        self.card.show_lines(lines)

    def set_compared(self, title: str, facts: Sequence[tuple[str, str]]) -> None:
        """Say what stands beside the map in sight, and how alike the two are; nothing where none does."""
        self.compared.setText(title)
        self.compared.setVisible(bool(title))
        self.compared_facts.show_facts(facts)
        self.compared_facts.setVisible(bool(facts))
        self.alone.enabled = bool(title)

    def set_look(self, look: Look) -> None:
        """Show how heat maps are painted."""
        self.display.show_look(look)

    def set_progress(self, progress: Progress | None, *, explaining: bool = False, left_s: float | None = None) -> None:
        """Show how far the work has come; None where nothing is going on. Explain can be pressed unless it was.

        `left_s` is an estimate of the seconds that are left, where there is one.
        """
        self.progress.show_progress(progress, left_s)
        self.explain.enabled = not explaining
        self.cancel.enabled = progress is not None

    def set_result(self, result: Result | None, notices: Sequence[str] = ()) -> None:
        """Show what was found; where nothing was yet, what must be known of the scan."""
        self.display.show_result(result)
        self.result.setVisible(result is not None)
        self.beside.enabled = self.save.enabled = result is not None
        if result is not None:
            self.facts.show_facts(result.facts)
        sentences = notices if result is None else result.sentences
        self.sentences.setText("\n".join(f"• {sentence}" for sentence in sentences))
        self._notices.setVisible(bool(sentences))

    def say(self, sentence: str, tone: Tone = Tone.NOTE) -> None:
        """Show one sentence in place of the last one."""
        self.message.say(sentence, tone)


def _chosen(box: ComboBox, *buttons: PushButton) -> QWidget:
    """Put a list in a row with the buttons that add to it."""
    row = QWidget()
    row.setLayout(side_by_side(box.native, *(button.native for button in buttons)))
    layout = row.layout()
    assert isinstance(layout, QHBoxLayout)
    layout.setStretch(0, 1)
    for button in buttons:
        button.native.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
    return row
