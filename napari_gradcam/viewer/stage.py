"""A canvas of napari outside of a window of its own, and OpenGL kept apart between several of them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from napari.components import ViewerModel
from napari.qt import QtViewer
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QWidget

from napari_gradcam.viewer import letters
from napari_gradcam.viewer.connections import Connections
from napari_gradcam.viewer.crosshair import Cross
from napari_gradcam.viewer.mirror import Mirrors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari.layers import Layer


class Stage:
    """A canvas, what it shows, and a cross over it.

    Parameters
    ----------
    viewer
        The main viewer.
    shows
        Which of its layers are shown.
    reach
        Length of the cross's arms in pixels; None for arms that reach the edges.

    Attributes
    ----------
    model
        What is shown.
    mirrors
        Its layers, which are those of the main viewer.
    qt
        The widget, with the canvas in it.
    """

    def __init__(self, viewer: ViewerModel, shows: Callable[[Layer], bool], reach: int | None = None) -> None:
        self.model = ViewerModel()
        self.mirrors = Mirrors(viewer, self.model, shows)
        letters.install(self.model)
        self.qt = QtViewer(self.model)
        self.qt.dims.hide()
        self.qt.setAcceptDrops(False)  # what is dropped is the main window's to open
        self.canvas.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # napari's keys stay the main viewer's
        self.cross = Cross(self.model, self.canvas, reach)
        self._main, self._links = canvas_of(viewer), Connections()
        self._links.connect(self._on_removing, viewer.layers.events.removing)

    @property
    def canvas(self) -> QWidget:
        """The widget that draws."""
        native: QWidget = self.qt.canvas.native
        return native

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Make OpenGL speak to this canvas: where napari removes a layer, it would speak to the one drawn last."""
        _speak_to(self.canvas)
        yield

    def _on_removing(self, event: Any = None) -> None:
        _speak_to(self._main)

    def close(self) -> None:
        """Take it away."""
        self._links.close()
        self.cross.close()
        self.mirrors.close()
        for callbacks in (self.model.mouse_drag_callbacks, self.model.mouse_double_click_callbacks):
            callbacks.clear()
        # napari keeps a canvas that was closed, and its model, for a while; the scans must not stay with it.
        with self.drawing():
            self.model.layers.clear()
        self.qt.close()
        self.qt.setParent(None)  # Qt deletes it later, and would draw it once more where a dock floats to


def canvas_of(viewer: ViewerModel) -> QWidget | None:
    """Find the widget that draws a viewer; None for a viewer without a window."""
    for widget in QApplication.allWidgets():
        if isinstance(widget, QtViewer) and widget.viewer is viewer:
            canvas: QWidget = widget.canvas.native
            return canvas
    return None


def _speak_to(canvas: Any) -> None:
    if canvas is not None and canvas.isValid():
        canvas.makeCurrent()
