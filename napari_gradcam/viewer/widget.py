"""What napari calls to open the dock: the view, its controller and the orientation letters, put together."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from napari.utils.theme import get_theme
from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QKeySequence, QShortcut  # type: ignore[attr-defined]  # qtpy moves it here from Qt 5's place

from napari_gradcam.viewer import letters, trusting
from napari_gradcam.viewer.canvases import QtCanvases
from napari_gradcam.viewer.controller import Controller
from napari_gradcam.viewer.dock import Dock
from napari_gradcam.viewer.jobs import QtJobs
from napari_gradcam.viewer.preferences import read_preferences
from napari_gradcam.viewer.save_dialog import QtSaveDialogs
from napari_gradcam.viewer.surroundings import Surroundings

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtWidgets import QWidget


START_AFTER_MS = 300
"""So long after it was made the dock is on the screen, and torch may be loaded."""


COUNT_AFTER_MS = 60
"""So long after the last change of a map its findings are counted: while a slider is dragged they need not be."""


AHEAD_AFTER_MS = 250
"""So long after a map was shown the other classes are explained: it is on the screen by then, and its findings too."""


class Afterwards(QTimer):
    """Does the last of what it is given, when nothing more came for a moment."""

    def __init__(self, parent: QWidget, after_ms: int) -> None:
        super().__init__(parent)
        self._act: Callable[[], None] = lambda: None
        self.setSingleShot(True)
        self.setInterval(after_ms)
        self.timeout.connect(lambda: self._act())

    def __call__(self, act: Callable[[], None]) -> None:
        """Do `act` in place of what waits."""
        self._act = act
        self.start()


class GradCamWidget(Dock):
    """The dock in a viewer.

    Parameters
    ----------
    napari_viewer
        napari hands it over because of the parameter's name.
    """

    # No annotation that napari would have to resolve: a quoted one breaks its injection.
    def __init__(self, napari_viewer: Any, *, parent: QWidget | None = None) -> None:
        super().__init__(parent=parent)
        # napari hands a proxy over, whose layers never are the viewer's own; the identity of layers matters here.
        viewer = getattr(napari_viewer, "__wrapped__", napari_viewer)
        letters.install(viewer)
        self.controller = Controller(
            viewer,
            self,
            QtJobs(),
            around=Surroundings(
                ask=partial(trusting.ask, self),
                dialogs=QtSaveDialogs(self),
                canvases=QtCanvases(viewer, self),
                later=Afterwards(self, COUNT_AFTER_MS),
                counting=QtJobs(),
                ahead=Afterwards(self, AHEAD_AFTER_MS),
            ),
            preferences=read_preferences(),
        )
        self._take_keys()
        self._take_on_theme(viewer)
        self.destroyed.connect(partial(Controller.close, self.controller))
        self._start = QTimer(self)
        self._start.setSingleShot(True)
        self._start.setInterval(START_AFTER_MS)
        self._start.timeout.connect(self.controller.start)
        self._start.start()

    def _take_keys(self) -> None:
        """Hear the keys also while a part of the dock has the focus; napari hears them on the canvas alone."""
        for key, action in self.controller.actions.items():
            shortcut = QShortcut(QKeySequence(key.replace("-", "+")), self)
            shortcut.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
            shortcut.activated.connect(partial(_do, action))

    def _take_on_theme(self, viewer: Any) -> None:
        def paint(event: Any = None) -> None:
            self.profile.set_background(get_theme(viewer.theme).canvas.as_hex())

        viewer.events.theme.connect(paint)
        self.destroyed.connect(lambda: viewer.events.theme.disconnect(paint))
        paint()


def _do(action: Callable[[], object]) -> None:
    action()
