"""The planes that the main canvas does not show, on canvases beside it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QHBoxLayout, QLabel, QWidget

from napari_gradcam.viewer.connections import Connections
from napari_gradcam.viewer.crosshair import Cross
from napari_gradcam.viewer.panes import PlanePane
from napari_gradcam.viewer.planes import plane_in_sight
from napari_gradcam.viewer.stage import canvas_of
from napari_gradcam.volumes.orientation import Plane

if TYPE_CHECKING:
    from napari.components import ViewerModel

NO_PLANES = "The other planes of a scan with three axes are shown here."


class ThreePlanes(QWidget):
    """The planes that a viewer does not show; all three where it shows none of them, as in 3D.

    Follows the viewer while it is on the screen. :meth:`close` lets go of it for good.

    Parameters
    ----------
    viewer
        The main viewer.

    Attributes
    ----------
    panes
        Those that were made: two, and a third one once it was needed.
    cross
        The cross over the main viewer's canvas; None out of sight, and for a viewer without a window.
    """

    def __init__(self, viewer: ViewerModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer: ViewerModel = getattr(viewer, "__wrapped__", viewer)
        self._links, self._closed = Connections(), False
        self.panes: list[PlanePane] = []
        self.cross: Cross | None = None
        self._note = QLabel(NO_PLANES)
        self._note.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._note.setWordWrap(True)
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(0, 0, 0, 0)
        self._row.setSpacing(4)
        self._row.addWidget(self._note)
        self.destroyed.connect(partial(Connections.close, self._links))

    def showEvent(self, event: Any) -> None:
        """Catch up, and follow from now on."""
        super().showEvent(event)
        if self._closed or self._links:
            return
        viewer, dims = self._viewer, self._viewer.dims.events
        layers, canvas = viewer.layers.events, canvas_of(viewer)
        self.cross = Cross(viewer, canvas) if canvas is not None else None
        self._links.connect(self._arrange, dims.order, dims.ndisplay, dims.ndim)
        self._links.connect(self._arrange, layers.inserted, layers.removed, layers.reordered)
        self._links.connect(self._on_point, dims.point)
        self._arrange()

    def hideEvent(self, event: Any) -> None:
        """Follow no more, unless it is the whole window that was made small."""
        super().hideEvent(event)
        if not event.spontaneous():
            self._stop()

    def closeEvent(self, event: Any) -> None:
        """Let go of the main viewer, for good."""
        super().closeEvent(event)
        self._closed = True
        self._stop()
        for pane in self.panes:
            pane.close()
            pane.deleteLater()
        self.panes.clear()

    def _stop(self) -> None:
        self._links.close()
        if self.cross is not None:
            self.cross.close()
            self.cross = None

    @property
    def planes(self) -> tuple[Plane, ...]:
        """The planes on the screen, from left to right."""
        return tuple(pane.plane for pane in self.panes if not pane.isHidden())

    def _arrange(self, event: Any = None) -> None:
        """Give each plane that the main viewer does not show a pane; one that has it already keeps it."""
        shown = plane_in_sight(self._viewer)
        wanted = [plane for plane in Plane if plane is not shown] if self._viewer.dims.ndim > 2 else []
        while len(self.panes) < len(wanted):
            self.panes.append(PlanePane(self._viewer))
            self._row.addWidget(self.panes[-1], stretch=1)
        kept = {pane.plane: pane for pane in self.panes[: len(wanted)] if pane.plane in wanted and not pane.isHidden()}
        free = [pane for pane in self.panes[: len(wanted)] if pane not in kept.values()]
        for plane in wanted:
            if plane not in kept:
                free.pop(0).show_plane(plane)
        for number, pane in enumerate(self.panes):
            pane.setVisible(number < len(wanted))
        self._note.setVisible(not wanted)
        self._on_point()

    def _on_point(self, event: Any = None) -> None:
        if self.cross is not None:
            self.cross.move_to(self._viewer.dims.point if self._viewer.dims.ndim > 2 else None)
