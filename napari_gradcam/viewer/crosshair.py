"""A cross over a canvas of napari, at a place of its world.

Four thin widgets of Qt: to move them draws nothing of the canvas anew, and adds no layer to the viewer. They are not
part of napari's screenshots of the canvas.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QRect, Qt
from qtpy.QtGui import QColor, QPainter
from qtpy.QtWidgets import QWidget

from napari_gradcam.viewer.connections import Connections

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.components import ViewerModel

COLOR = "#00d0ff"
"""Neither a grey of a scan nor a colour of inferno, and seen on black and on white."""

GAP, SMALL_GAP = 14, 3
"""Pixels around the place that stay free, so that the cross hides nothing of what it points at."""


class _Line(QWidget):
    """One arm."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.hide()

    def paintEvent(self, event: Any) -> None:
        """Fill it; a style sheet of napari's would colour it otherwise."""
        painter = QPainter(self)
        painter.fillRect(self.rect(), QColor(COLOR))
        painter.end()


class Cross:
    """A cross over the canvas of a viewer that shows two axes; hidden in 3D and in napari's grid.

    Parameters
    ----------
    viewer
        What the canvas shows.
    canvas
        The widget that draws it.
    reach
        Length of an arm in pixels; None for arms that reach the edges.
    """

    def __init__(self, viewer: ViewerModel, canvas: QWidget, reach: int | None = None) -> None:
        self.reach = reach
        self._viewer, self._canvas = viewer, canvas
        self._point: tuple[float, ...] | None = None
        self.lines = tuple(_Line(canvas) for _ in range(4))
        camera, dims = viewer.scene.camera.events, viewer.dims.events
        self._links = Connections()
        self._links.connect(self._place, camera.center, camera.zoom, camera.orientation, dims.order, dims.ndisplay)
        self._links.connect(self._place, viewer.canvas.events.size, viewer.canvas.grid.events.enabled)

    @property
    def position(self) -> tuple[float, float] | None:
        """Where it stands on the canvas, ``(x, y)`` in pixels from its upper left corner; None where it is hidden."""
        viewer, point = self._viewer, self._point
        if point is None or viewer.dims.ndisplay != 2 or viewer.canvas.grid.enabled or len(point) != viewer.dims.ndim:
            return None
        camera = viewer.scene.camera
        vertical, horizontal = (str(way) for way in camera.orientation2d)
        down, right = (
            point[axis] - middle for axis, middle in zip(viewer.dims.displayed, camera.center[-2:], strict=True)
        )
        x = self._canvas.width() / 2 + camera.zoom * (right if horizontal == "right" else -right)
        y = self._canvas.height() / 2 + camera.zoom * (down if vertical == "down" else -down)
        return x, y

    def move_to(self, point: Sequence[float] | None) -> None:
        """Move to a place of the viewer's world, one number for each of its axes; hide where there is none."""
        self._point = None if point is None else tuple(float(value) for value in point)
        self._place()

    def _place(self, event: Any = None) -> None:
        position = self.position
        if position is None:
            for line in self.lines:
                line.hide()
            return
        for line, arm in zip(self.lines, self._arms(*position), strict=True):
            line.setGeometry(arm)
            line.setVisible(not arm.isEmpty())

    def _arms(self, x: float, y: float) -> list[QRect]:
        """Left, right, upper and lower arm, none of it outside of the canvas."""
        area = self._canvas.rect()
        # Far outside of the canvas a pixel is no longer a number that Qt can hold.
        column = round(min(max(x, -9999.0), 99999.0))
        row = round(min(max(y, -9999.0), 99999.0))
        gap, width = (GAP, 1) if self.reach is None else (SMALL_GAP, 2)
        reach = self.reach or 2 * 99999
        arms = (
            QRect(column - reach, row, reach - gap, width),
            QRect(column + gap + 1, row, reach - gap, width),
            QRect(column, row - reach, width, reach - gap),
            QRect(column, row + gap + 1, width, reach - gap),
        )
        return [arm.intersected(area) for arm in arms]

    def close(self) -> None:
        """Take it away."""
        self._links.close()
        with suppress(RuntimeError):  # the canvas may be gone, and the lines with it
            for line in self.lines:
                line.hide()
                line.deleteLater()
