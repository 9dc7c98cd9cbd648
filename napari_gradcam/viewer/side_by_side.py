"""The same slice of a scan a second time, with another heat map: to compare two methods, layers or classes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QVBoxLayout, QWidget
from superqt import QElidingLabel

from napari_gradcam.viewer.connections import Connections
from napari_gradcam.viewer.crosshair import Cross
from napari_gradcam.viewer.mirror import Follower
from napari_gradcam.viewer.overlay import HeatMapOverlay
from napari_gradcam.viewer.panes import Pane
from napari_gradcam.viewer.parts import plain_tip
from napari_gradcam.viewer.stage import canvas_of
from napari_gradcam.viewer.worlds import carried, factors, order_in

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_gradcam.explanation import Explanation
    from napari_gradcam.viewer.look import Look

ARM = 9
"""Pixels of an arm of the cross that stands where the mouse is on the other canvas."""


class Shown(NamedTuple):
    """What is compared: an explanation of a scan's layer, and how it is painted."""

    scan: Layer
    explanation: Explanation
    look: Look


class TwinPane(Pane):
    """A pane of one scan that shows the main viewer's plane, slice, centre and zoom, and takes it along as well."""

    def __init__(self, viewer: ViewerModel, *, parent: QWidget | None = None) -> None:
        super().__init__(viewer, self._is_scan, parent=parent)
        self.shown: Shown | None = None
        self.overlay: HeatMapOverlay | None = None
        self.main_cross: Cross | None = None
        self._followers: list[Follower] = []

    def _is_scan(self, layer: Layer) -> bool:
        return self.shown is not None and layer is self.shown.scan

    def paint(self, shown: Shown | None) -> None:
        """Show something else; out of sight it waits for the pane to be seen."""
        if self.shown is not None and (shown is None or shown.scan is not self.shown.scan):
            self._wipe()
        self.shown = shown
        self.follow()
        if shown is None or self._stage is None or shown.scan not in self._viewer.layers:
            return
        scan = self.stage.mirrors[shown.scan]
        if self.overlay is None:
            self.overlay = HeatMapOverlay(self.model, scan, _ignore)
        with self._followed():  # napari moves the camera to what is added
            self.overlay.show(shown.explanation, shown.look)
        self._unfollow()
        self._followers = [Follower(scan, layer) for layer in self._maps()]
        self.follow()

    def _maps(self) -> list[Layer]:
        overlay = self.overlay
        return [] if overlay is None else [layer for layer in (overlay.heat, overlay.bands) if layer is not None]

    def _wipe(self) -> None:
        """Take the maps away."""
        maps = self._maps()
        self._unfollow()
        if self.overlay is not None:
            self.overlay.close()
            self.overlay = None
        for layer in maps:
            with self.stage.drawing():
                self.model.layers.remove(layer)

    def _unfollow(self) -> None:
        for follower in self._followers:
            follower.close()
        self._followers.clear()

    def _open(self) -> None:
        super()._open()
        self.stage.cross.reach = ARM
        canvas = canvas_of(self._viewer)
        self.main_cross = Cross(self._viewer, canvas, ARM) if canvas is not None else None
        for model, heard in ((self._viewer, self._on_camera), (self.model, self._on_own_camera)):
            camera = model.scene.camera.events
            self._links.connect(heard, camera.center, camera.zoom, camera.angles, camera.perspective)
            self._links.connect(heard, camera.orientation)
        viewer, own = self._viewer, self.model
        self._links.connect(self._on_cursor, viewer.cursor.events.position, viewer.events.mouse_over_canvas)
        self._links.connect(self._on_own_cursor, own.cursor.events.position, own.events.mouse_over_canvas)
        self.paint(self.shown)

    def _shut(self) -> None:
        if self._stage is not None:
            self._wipe()
        if self.main_cross is not None:
            self.main_cross.close()
            self.main_cross = None
        super()._shut()

    def _arrange(self) -> None:
        dims, own = self._viewer.dims, self.model.dims
        own.ndisplay = dims.ndisplay
        own.order = order_in(dims, own)
        _copy_camera(self._viewer, self.model)

    def _on_camera(self, event: Any = None) -> None:
        if not self._following:
            with self._followed():
                _copy_camera(self._viewer, self.model)

    def _on_own_camera(self, event: Any = None) -> None:
        if not self._following and self.model.layers:
            with self._followed():
                _copy_camera(self.model, self._viewer)

    def _on_cursor(self, event: Any = None) -> None:
        _point_at(self._viewer, self.model, self.stage.cross)

    def _on_own_cursor(self, event: Any = None) -> None:
        if self.main_cross is not None:
            _point_at(self.model, self._viewer, self.main_cross)


def _copy_camera(source: ViewerModel, target: ViewerModel) -> None:
    one, other = source.scene.camera, target.scene.camera
    scale = (factors(source.dims, target.dims) or [1.0])[-1]
    other.orientation = one.orientation
    other.center = tuple(value * scale for value in one.center)
    other.zoom = one.zoom / scale
    if source.dims.ndisplay == 3:
        other.angles, other.perspective = one.angles, one.perspective


def _point_at(source: ViewerModel, target: ViewerModel, cross: Cross) -> None:
    """Put a cross where the mouse is on another canvas."""
    if not source.mouse_over_canvas or len(source.cursor.position) != source.dims.ndim:
        cross.move_to(None)
        return
    point = list(target.dims.point)
    values = carried(source.cursor.position, source.dims, target.dims)
    point[len(point) - len(values) :] = values
    cross.move_to(point)


class SideBySide(QWidget):
    """A second canvas with a title, for a heat map beside the main viewer's own.

    Follows the viewer while it is on the screen. :meth:`close` lets go of it for good.

    Parameters
    ----------
    viewer
        The main viewer.

    Attributes
    ----------
    pane
        The canvas.
    """

    def __init__(self, viewer: ViewerModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer: ViewerModel = getattr(viewer, "__wrapped__", viewer)
        self._links = Connections()
        self._title = QElidingLabel()
        self._title.setTextFormat(Qt.TextFormat.PlainText)
        self._title.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.pane = TwinPane(self._viewer)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(self._title)
        column.addWidget(self.pane, stretch=1)
        self._links.connect(self._on_removed, self._viewer.layers.events.removed)
        self.destroyed.connect(partial(Connections.close, self._links))

    @property
    def title(self) -> str:
        """What stands above the canvas."""
        text: str = self._title.text()
        return text

    @property
    def heat(self) -> Layer | None:
        """The layer of the heat map; None where nothing is shown, or a map without any heat."""
        return self.pane.overlay.heat if self.pane.overlay is not None else None

    def show_map(self, scan: Layer, explanation: Explanation, look: Look, title: str) -> None:
        """Show an explanation over a scan.

        Parameters
        ----------
        scan
            A layer of the main viewer that the explanation is of.
        explanation, look
            What is painted, and how.
        title
            One line that tells it from the main viewer's, such as ``"HiResCAM · layer3 · lesion"``.
        """
        self._title.setText(title)
        self._title.setToolTip(plain_tip(title))
        self.pane.paint(Shown(scan, explanation, look))

    def restyle(self, look: Look) -> None:
        """Paint what is shown in another way."""
        if self.pane.shown is not None:
            self.pane.paint(self.pane.shown._replace(look=look))

    def clear(self) -> None:
        """Show nothing."""
        self._title.setText("")
        self._title.setToolTip("")
        self.pane.paint(None)

    def closeEvent(self, event: Any) -> None:
        """Let go of the main viewer, for good."""
        super().closeEvent(event)
        self._links.close()
        self.clear()
        self.pane.close()

    def _on_removed(self, event: Any) -> None:
        if self.pane.shown is not None and event.value is self.pane.shown.scan:
            self.clear()


def _ignore(look: Look) -> None:
    """Nobody moves napari's sliders in a pane."""
