"""Files and folders to layers: the scans in them are listed, chosen where there are several, and read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error, show_info

from napari_gradcam.errors import GradCamError
from napari_gradcam.progress import finish
from napari_gradcam.viewer import letters
from napari_gradcam.viewer.current import current_viewer
from napari_gradcam.viewer.layers import FullLayerData, scan_layer
from napari_gradcam.volumes.reading import find_scans_steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_gradcam.progress import Answer, Steps
    from napari_gradcam.viewer.chooser import Pick
    from napari_gradcam.volumes import Catalogue, Volume

SHOWN_AFTER_MS = 500
"""Reading that takes longer than this shows how far it has come, and can be cancelled."""


class Cancelled(Exception):
    """The person stopped the reading."""


def open_scans(path: str | Sequence[str]) -> list[FullLayerData]:
    """Read the scans at a path as layer data: each an Image layer on the display grid, in mm.

    In a window, a person chooses where there are several scans or frames, sees how far the reading has come, and is
    told of what cannot be read. Without one, every scan is read that can be, its first frame.

    Raises
    ------
    GradCamError
        If there is no scan that can be read.
    Cancelled
        If the person did not want one.
    """
    window = _window()
    catalogue = run(find_scans_steps(path), window)
    opened = []
    for pick in _picked(catalogue, window):
        try:
            opened.append(run(pick.scan.steps(pick.frame, resample=pick.resample), window))
        except GradCamError as error:
            if window is None and not opened and len(catalogue.scans) == 1:
                raise
            show_error(str(error))
    if not opened:
        raise Cancelled
    for volume in opened:
        _tell(volume, catalogue)
    letters.install_in_current_viewer()
    return [scan_layer(volume) for volume in opened]


def _picked(catalogue: Catalogue, window: Any) -> list[Pick]:
    from napari_gradcam.viewer.chooser import Pick, ask

    only = catalogue.scans[0]
    plain = len(catalogue.scans) == 1 and only.frames == 1 and not only.resampling
    if window is not None and not plain:
        return ask(catalogue, window)
    scans = [scan for scan in catalogue.scans if not scan.problem] or list(catalogue.scans[:1])
    return [Pick(scan, None, False) for scan in [scan for scan in scans if not scan.aside] or scans]


def _tell(volume: Volume, catalogue: Catalogue) -> None:
    """Say what a reader of the picture must know, before anything is explained on it; our dock says it by itself."""
    from napari_gradcam.viewer.dock import Dock

    window = _window()
    notices = (
        catalogue.notices if window is not None and window.findChild(Dock) else (*volume.notices, *catalogue.notices)
    )
    if notices and window is not None:
        show_info(f"{volume.name}: {' '.join(notices)}")


def _window() -> Any:
    viewer = current_viewer()
    return viewer.window._qt_window if viewer is not None else None


def run(steps: Steps[Answer], window: Any) -> Answer:
    """Run work on the main thread, as napari's readers do; its window stays alive between the steps.

    Raises
    ------
    Cancelled
        If the person stopped it.
    """
    if window is None:
        return finish(steps)
    from qtpy.QtCore import Qt
    from qtpy.QtWidgets import QProgressDialog

    dialog = QProgressDialog("Reading…", "Cancel", 0, 0, window)
    dialog.setWindowTitle("Grad-CAM")
    dialog.setWindowModality(Qt.WindowModality.WindowModal)
    dialog.setMinimumDuration(SHOWN_AFTER_MS)
    try:
        while True:
            try:
                step = next(steps)
            except StopIteration as stop:
                answer: Answer = stop.value
                return answer
            dialog.setMaximum(step.total)
            dialog.setLabelText(f"{step.stage} ({step.done}{f' of {step.total}' if step.total else ''})…")
            dialog.setValue(step.done)  # which lets a modal dialog's events come to their turn
            if dialog.wasCanceled():
                raise Cancelled
    finally:
        steps.close()
        dialog.close()
        dialog.deleteLater()
