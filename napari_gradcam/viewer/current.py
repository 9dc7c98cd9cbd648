"""The viewer in front, for what napari calls without telling for which viewer."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari import Viewer


def current_viewer() -> Viewer | None:
    """Give the viewer in front; None off the main thread, or where napari has opened no window."""
    # To ask napari would import Qt, which a script without a window has no need of.
    if "napari._qt.qt_main_window" not in sys.modules or threading.current_thread() is not threading.main_thread():
        return None
    import napari

    viewer: Viewer | None = napari.current_viewer()
    return viewer
