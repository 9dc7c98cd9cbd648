"""Small canvases beside the main one, which show its layers at the same place."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_gradcam.viewer.connections import Connections
from napari_gradcam.viewer.mirror import is_shown
from napari_gradcam.viewer.planes import show_plane
from napari_gradcam.viewer.stage import Stage, canvas_of
from napari_gradcam.viewer.worlds import carried, go_along
from napari_gradcam.volumes.orientation import Plane

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from napari.components import ViewerModel
    from napari.layers import Layer

SMALLEST = 140
"""Pixels of a pane's sides, at least."""

AFLOAT = "Shown once it is back in the window of the scan."

LEFT_BUTTON, MIDDLE_BUTTON = 1, 3
"""As vispy counts them."""


class Pane(QWidget):
    """A canvas of its own that shows layers of another viewer, live. It is there only while it is on the screen.

    It costs nothing out of sight, and in another window than the main viewer's, such as that of a dock that floats, it
    shows a sentence instead: OpenGL's objects do not survive the move, and napari confuses those of two windows when a
    layer is removed.

    Parameters
    ----------
    viewer
        The main viewer; nothing is added to it.
    shows
        Which of its layers are shown.
    """

    def __init__(
        self, viewer: ViewerModel, shows: Callable[[Layer], bool] = is_shown, *, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._viewer, self._shows = viewer, shows
        self._stage: Stage | None = None
        self._links = Connections()
        self._following = self._closed = False
        self.setMinimumSize(SMALLEST, SMALLEST)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        self._note = QLabel(AFLOAT)
        self._note.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._note.setWordWrap(True)
        self._note.hide()
        column.addWidget(self._note)
        # What is called then is no part of the widget, which is gone.
        self.destroyed.connect(partial(Connections.close, self._links))

    @property
    def stage(self) -> Stage:
        """What is on the screen."""
        assert self._stage is not None, "the pane is out of sight"
        return self._stage

    @property
    def model(self) -> ViewerModel:
        """What the pane shows. Along the axes that it slices, it stands where the main viewer stands."""
        return self.stage.model

    def showEvent(self, event: Any) -> None:
        """Come into being, and follow from now on."""
        super().showEvent(event)
        if self._stage is None and not self._closed:
            main = canvas_of(self._viewer)
            at_home = main is None or main.window() is self.window()
            self._note.setVisible(not at_home)
            if at_home:
                self._open()

    def hideEvent(self, event: Any) -> None:
        """Follow no more, unless it is the whole window that was made small."""
        super().hideEvent(event)
        if not event.spontaneous():
            self._shut()

    def closeEvent(self, event: Any) -> None:
        """Let go of the main viewer, for good."""
        super().closeEvent(event)
        self._closed = True
        self._shut()

    def _open(self) -> None:
        self._stage = Stage(self._viewer, self._shows)
        layout = self.layout()
        assert layout is not None
        layout.addWidget(self._stage.qt)
        self._stage.qt.show()
        viewer, dims = self._viewer, self._viewer.dims.events
        layers = viewer.layers.events
        self._links.connect(self.follow, layers.inserted, layers.removed, layers.reordered, viewer.events.theme)
        self._links.connect(self.follow, dims.order, dims.ndisplay, dims.ndim)
        self._links.connect(self._on_point, dims.point, dims.margin_left, dims.margin_right)
        self._links.connect(self._on_own_point, self.model.dims.events.point)
        self.follow()

    def _shut(self) -> None:
        self._links.close()
        if self._stage is not None:
            self._stage.close()
            self._stage = None

    def follow(self, event: Any = None) -> None:
        """Show what the main viewer shows: its layers, its place, its theme."""
        if self._following or self._stage is None:
            return
        with self._followed():
            self.model.theme = self._viewer.theme
            with self.stage.drawing():
                self.stage.mirrors.sync()
            self.model.layers.selection.clear()  # no layer of a pane has handles, keys or tools
            self._arrange()
            self._go()

    def _arrange(self) -> None:
        """Turn the axes as they should be."""

    def _go(self) -> None:
        # Along the others napari would slice the same slice anew: its input is compared with them.
        go_along(self._viewer.dims, self.model.dims, self.model.dims.not_displayed)

    @contextmanager
    def _followed(self) -> Iterator[None]:
        """Do not send back what comes from the main viewer."""
        before, self._following = self._following, True
        try:
            yield
        finally:
            self._following = before

    def _on_point(self, event: Any = None) -> None:
        if not self._following:
            with self._followed():
                self._go()

    def _on_own_point(self, event: Any = None) -> None:
        """Take the main viewer along where the person scrolls in the pane."""
        if not self._following:
            go_along(self.model.dims, self._viewer.dims, _same_axes(self.model, self._viewer))


def _same_axes(model: ViewerModel, viewer: ViewerModel) -> list[int]:
    """Name the axes that a pane slices as the main viewer counts them."""
    return [axis + viewer.dims.ndim - model.dims.ndim for axis in model.dims.not_displayed]


class PlanePane(Pane):
    """A pane of one plane, with a cross at the place where all slices meet; a click or drag moves all of them there.

    The middle button moves the picture, the wheel zooms, with Ctrl it goes through the slices; a double click shows the
    whole of it.
    """

    def __init__(self, viewer: ViewerModel, *, parent: QWidget | None = None) -> None:
        super().__init__(viewer, parent=parent)
        self.plane = Plane.AXIAL

    def show_plane(self, plane: Plane) -> None:
        """Show another plane."""
        self.plane = plane
        self.follow()

    def _open(self) -> None:
        super()._open()
        model = self.model
        caption = model.canvas.overlays["text"]
        caption.position, caption.visible = "top_left", True
        # napari's own look for the mouse at the last two axes, which are not those of every plane.
        model.mouse_drag_callbacks[:] = [self._on_drag]
        model.mouse_double_click_callbacks[:] = [self._on_double_click]
        self._links.connect(self._on_size, model.canvas.events.size)
        self._links.connect(self._keep_still, model.scene.camera.events.mouse_pan)
        self._keep_still()
        self._on_size()

    def _arrange(self) -> None:
        show_plane(self.model, self.plane)
        self.model.canvas.overlays["text"].text = self.plane.value.capitalize()

    def _go(self) -> None:
        super()._go()
        viewer, dims = self._viewer, self.model.dims
        point = list(dims.point)
        values = carried(viewer.dims.point, viewer.dims, dims)
        point[dims.ndim - len(values) :] = values
        self.stage.cross.move_to(point if self.model.layers else None)

    def _on_size(self, event: Any = None) -> None:
        self.model.fit_to_view()

    def _keep_still(self, event: Any = None) -> None:
        """Keep the left button for going places; napari gives it back whenever layers come or go."""
        self.model.scene.camera.mouse_pan = False

    def _on_drag(self, model: ViewerModel, event: Any) -> Generator[None, None, None]:
        button, start = event.button, event.pos
        center = model.scene.camera.center
        while event.type in ("mouse_press", "mouse_move"):
            if button == LEFT_BUTTON:
                self._move_all(event.position)
            elif button == MIDDLE_BUTTON:
                self._pan(center, event.pos - start)
            yield

    def _move_all(self, position: tuple[float, ...]) -> None:
        dims, own = self._viewer.dims, self.model.dims
        values = carried(position, own, dims)
        dims.set_point(range(dims.ndim - len(values), dims.ndim), values)

    def _pan(self, center: tuple[float, ...], moved: Any) -> None:
        camera = self.model.scene.camera
        vertical, horizontal = (str(way) for way in camera.orientation2d)
        right, down = (float(pixels) / camera.zoom for pixels in moved)
        down, right = (down if vertical == "down" else -down), (right if horizontal == "right" else -right)
        camera.center = (center[0], center[-2] - down, center[-1] - right)

    def _on_double_click(self, model: ViewerModel, event: Any) -> None:
        model.fit_to_view()
