"""Further canvases in the viewer's window, docked beside its own when they are first asked for."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QDockWidget, QMainWindow

from napari_gradcam.viewer.side_by_side import SideBySide
from napari_gradcam.viewer.three_planes import ThreePlanes

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari import Viewer
    from napari.layers import Layer
    from qtpy.QtWidgets import QWidget

    from napari_gradcam.explanation import Explanation
    from napari_gradcam.viewer.look import Look

LAID_OUT_MS = 500
"""By then a window has laid out a new dock."""

PLANES_SHARE = 0.36
"""The share of the window's height that the linked planes begin with."""

PLANES_TITLE, BESIDE_TITLE = "Linked planes (Grad-CAM)", "Beside (Grad-CAM)"


class QtCanvases:
    """Docks of a napari window; see :class:`napari_gradcam.viewer.contract.Canvases`.

    Parameters
    ----------
    viewer
        The viewer.
    panel
        Between which and the viewer's own canvas a map is set beside.
    """

    def __init__(self, viewer: Viewer, panel: QWidget) -> None:
        self._viewer, self._panel = viewer, panel
        self._planes = _Dock(viewer, PLANES_TITLE, "bottom", self._give_height)
        self._beside = _Dock(viewer, BESIDE_TITLE, "right", self._set_beside)

    def show_planes(self, on: bool) -> None:
        """Show the planes that the viewer does not show, linked to it, or no longer."""
        if on:
            self._planes.show(lambda: ThreePlanes(self._viewer))
        else:
            self._planes.hide()

    def show_beside(self, scan: Layer, explanation: Explanation, look: Look, title: str) -> None:
        """Show a map beside the one in sight, over the same slice of the same scan."""
        widget: Any = self._beside.show(lambda: SideBySide(self._viewer))
        widget.show_map(scan, explanation, look, title)

    def hide_beside(self) -> None:
        """Show one map alone."""
        self._beside.hide()

    def close(self) -> None:
        """Let go of the viewer."""
        self._planes.hide()
        self._beside.hide()

    def _give_height(self, dock: QDockWidget) -> None:
        window = dock.window()
        if isinstance(window, QMainWindow):
            # Held until the window has laid everything out, which may take its time and forgets what resizeDocks set.
            dock.setMinimumHeight(round(PLANES_SHARE * window.height()))
            release = QTimer(dock)
            release.setSingleShot(True)
            release.timeout.connect(partial(dock.setMinimumHeight, 0))
            release.start(LAID_OUT_MS)

    def _set_beside(self, dock: QDockWidget) -> None:
        """Put a dock between the canvas and the panel, and give it half of the canvas."""
        window, panel = dock.window(), self._panel
        while panel is not None and not isinstance(panel, QDockWidget):
            panel = panel.parentWidget()  # type: ignore[assignment]  # None above the window
        if not isinstance(window, QMainWindow):
            return
        room = window.centralWidget()
        half = (room.width() if room is not None else window.width()) // 2
        if panel is not None and window.dockWidgetArea(panel) == Qt.DockWidgetArea.RightDockWidgetArea:
            window.splitDockWidget(dock, panel, Qt.Orientation.Horizontal)
            window.resizeDocks([dock, panel], [half, panel.width()], Qt.Orientation.Horizontal)
        else:
            window.resizeDocks([dock], [half], Qt.Orientation.Horizontal)


class _Dock:
    """A dock that is there while it is shown; it is made anew each time, so that a hidden one costs nothing."""

    def __init__(self, viewer: Viewer, title: str, area: str, placed: Callable[[QDockWidget], None]) -> None:
        self._viewer, self._title, self._area, self._placed = viewer, title, area, placed
        self._widget: QWidget | None = None

    def show(self, make: Callable[[], QWidget]) -> QWidget:
        if self._widget is None:
            self._widget = widget = make()
            widget.destroyed.connect(self._forget)
            self._dock = self._viewer.window.add_dock_widget(widget, name=self._title, area=self._area)
            # Once the window has laid it out: sizes that are set before are forgotten.
            QTimer.singleShot(0, self._place)
        self._dock.show()  # the person may have closed it by its own button
        return self._widget

    def _place(self) -> None:
        if self._widget is not None:
            self._placed(self._dock)

    def hide(self) -> None:
        widget, self._widget = self._widget, None
        if widget is None:
            return
        widget.destroyed.disconnect(self._forget)
        widget.close()
        # The window may be gone by now, and all its docks with it.
        with suppress(LookupError, RuntimeError, AttributeError):
            self._viewer.window.remove_dock_widget(widget)
            widget.deleteLater()

    def _forget(self) -> None:
        self._widget = None
