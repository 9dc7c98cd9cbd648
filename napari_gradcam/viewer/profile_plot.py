"""The slice profile: evidence against slice, with the slice in sight marked; click or drag to go there.

Drawn by vispy, which napari has loaded: pyqtgraph would take a second more to start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QVBoxLayout, QWidget
from vispy.scene import PanZoomCamera, SceneCanvas
from vispy.scene.visuals import Line, Mesh

from napari_gradcam import words
from napari_gradcam.viewer.parts import text_label

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from qtpy.QtGui import QKeyEvent

    from napari_gradcam.viewer.contract import Profile

HEIGHT = 84
"""Pixels of the plot."""

_QUIET, _HOT = (0.55, 0.55, 0.6, 1.0), (0.95, 0.5, 0.1, 1.0)
_SCORE, _HERE = (0.3, 0.65, 0.95, 1.0), (0.2, 0.8, 0.4, 1.0)
_HEADROOM = 1.06
_STEPS = {Qt.Key.Key_Left: -1, Qt.Key.Key_Down: -1, Qt.Key.Key_Right: 1, Qt.Key.Key_Up: 1}


class ProfilePlot(QWidget):
    """One bar for each slice: orange where there is heat above the threshold, a blue line for the scores of slices.

    Attributes
    ----------
    picked
        Emits the slice that the person clicked, dragged or stepped to, from 0.
    """

    picked = Signal(int)

    def __init__(self, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.label = text_label()
        self._profile: Profile | None = None
        self._slice = 0
        self.canvas = SceneCanvas(keys=None, bgcolor="black", show=False)
        native: QWidget = self.canvas.native
        native.setFixedHeight(HEIGHT)
        native.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        native.setToolTip("Click or drag to go to a slice; orange slices hold heat above the threshold")
        view = self.canvas.central_widget.add_view()
        view.camera = self._camera = PanZoomCamera(interactive=False)
        self._bars = Mesh(parent=view.scene)
        self._scores = Line(color=_SCORE, width=2, parent=view.scene)
        self._here = Line(color=_HERE, width=2, parent=view.scene)
        for order, visual in enumerate((self._bars, self._scores, self._here)):
            visual.order = order
            visual.set_gl_state("translucent", depth_test=False)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(self.label)
        column.addWidget(native)
        self.canvas.events.mouse_press.connect(self._on_mouse)
        self.canvas.events.mouse_move.connect(self._on_mouse)
        self.show_profile(None)

    def set_background(self, colour: Any) -> None:
        """Take on the colour of the theme."""
        self.canvas.bgcolor = colour

    def show_profile(self, profile: Profile | None) -> None:
        """Draw a profile, or hide."""
        self._profile = profile
        self.setVisible(profile is not None)
        if profile is None:
            return
        count, top = len(profile.shares), float(profile.shares.max()) or 1.0
        vertices, faces = _bars_of(profile.shares / top)
        colours = np.where(profile.hot[:, None], _HOT, _QUIET).repeat(4, axis=0)
        self._bars.set_data(vertices, faces, vertex_colors=colours.astype(np.float32))
        self._scores.visible = profile.scores is not None
        if profile.scores is not None:
            read = np.flatnonzero(np.isfinite(profile.scores))
            line = np.column_stack([read + 0.5, profile.scores[read]])
            self._scores.set_data(line if len(line) > 1 else np.repeat(line, 2, axis=0))
        self._camera.rect = (0, 0, count, _HEADROOM)
        self.show_slice(min(self._slice, count - 1))

    def show_slice(self, number: int) -> None:
        """Mark the slice in sight."""
        profile = self._profile
        if profile is None:
            return
        self._slice = number = min(max(number, 0), len(profile.shares) - 1)
        self._here.set_data(np.array([[number + 0.5, 0.0], [number + 0.5, _HEADROOM]]))
        self.label.setText(_said(profile, number))
        self.canvas.update()

    def slice_at(self, x: float) -> int:
        """Give the slice at so many pixels from the left."""
        assert self._profile is not None
        count = len(self._profile.shares)
        return min(max(int(x / max(self.canvas.size[0], 1) * count), 0), count - 1)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Step from slice to slice with the arrow keys."""
        if event is not None and self._profile is not None and event.key() in _STEPS:
            step = self._slice + _STEPS[Qt.Key(event.key())]
            if 0 <= step < len(self._profile.shares):
                self.picked.emit(step)
            return
        super().keyPressEvent(event)

    def _on_mouse(self, event: Any) -> None:
        held = event.button == 1 if event.type == "mouse_press" else 1 in event.buttons
        if held and self._profile is not None:
            number = self.slice_at(event.pos[0])
            if number != self._slice or event.type == "mouse_press":
                self.picked.emit(number)


def _bars_of(heights: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.uint32]]:
    """Make two triangles for each bar."""
    left = np.arange(len(heights))
    vertices = np.zeros((len(heights), 4, 3), np.float32)
    vertices[:, (0, 3), 0], vertices[:, (1, 2), 0] = left[:, None], left[:, None] + 1
    vertices[:, 2:, 1] = heights[:, None]
    corners = np.array([[0, 1, 2], [0, 2, 3]], np.uint32)
    return vertices.reshape(-1, 3), (corners[None] + 4 * left[:, None, None].astype(np.uint32)).reshape(-1, 3)


def _said(profile: Profile, number: int) -> str:
    plane = f"{profile.plane} slice" if profile.plane else "slice"
    share = f"{100 * profile.shares[number]:.2g} % of the evidence"
    told = f"{plane.capitalize()} {number + 1} of {len(profile.shares)}: {share}"
    if profile.scores is not None and np.isfinite(profile.scores[number]):
        told += f", {profile.target} {words.probability(float(profile.scores[number]))}"
    return told
