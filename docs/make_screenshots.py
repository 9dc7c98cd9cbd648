"""Make the pictures of the real window again: ``python docs/make_screenshots.py`` (by xvfb-run without a display).

Each picture is ``docs/images/<name>.png``, 1600 × 1000 pixels; ``scroll.gif`` goes through the sample slice by slice.
Names of pictures can be given. Look at them before they are committed.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import napari
from napari.settings import get_settings
from PIL import Image
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from napari_gradcam import samples
from napari_gradcam.viewer.contract import Tone
from napari_gradcam.volumes.orientation import Plane

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_gradcam.viewer.widget import GradCamWidget

    Scene = Callable[[napari.Viewer, GradCamWidget], None]

IMAGES = Path(__file__).parent / "images"
SIZE = (1600, 1000)
PATIENCE_S = 180.0

GIF_WIDTH, GIF_STEP, GIF_COLOURS, GIF_MS = 800, 4, 96, 150
"""Pixels, slices from frame to frame, colours, and how long a frame is shown: small enough to be in a repository."""


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


def overview(viewer: napari.Viewer, dock: GradCamWidget) -> None:
    """Show the sample's lesion, its scores, hot spots and profile."""


def slices(viewer: napari.Viewer, dock: GradCamWidget) -> None:
    """Show a 2D classifier: hot spots, and the score of each slice over the profile."""
    dock.model.value = str(samples.CLASSIFIERS["brain_lesion_2d"])
    wait(lambda: not dock.cancel.enabled)
    explain(dock)
    settle()
    dock.events.spot_picked.emit(0)
    dock.spots.table.setCurrentCell(0, 0)


def planes(viewer: napari.Viewer, dock: GradCamWidget) -> None:
    """Show three linked planes."""
    dock.planes.linked.click()


def compare(viewer: napari.Viewer, dock: GradCamWidget) -> None:
    """Show two layers side by side."""
    dock.beside.native.click()
    dock.layer.value = "features.denseblock1.denselayer2"
    dock.method.value = "layercam"
    explain(dock)
    dock.comparing.title.click()
    settle()
    dock._area.ensureWidgetVisible(dock.comparing, 0, 0)


def against(viewer: napari.Viewer, dock: GradCamWidget) -> None:
    """Show one class against the other."""
    for row in range(2):
        dock.scores.item(row, 0).setCheckState(Qt.CheckState.Checked)
    wait(lambda: not dock.cancel.enabled)


def space(viewer: napari.Viewer, dock: GradCamWidget) -> None:
    """Show the map in three dimensions."""
    dock.planes.space.click()
    viewer.layers[0].opacity = 0.35
    viewer.scene.camera.angles = (0.0, 25.0, 60.0)


def contours(viewer: napari.Viewer, dock: GradCamWidget) -> None:
    """Show contour lines in a coronal plane, in the light theme."""
    dock.planes.buttons[Plane.CORONAL].click()
    dock.display.style_box.setCurrentText("Contour lines")
    dock.display.colormap.setCurrentText("cividis")


def scroll(viewer: napari.Viewer, dock: GradCamWidget) -> None:
    """Go through the slices around the lesion, and save them as a moving picture."""
    frames = []
    for number in range(40, 125, GIF_STEP):
        viewer.dims.set_current_step(0, number)
        settle(0.1)
        frame = Image.fromarray(viewer.screenshot(canvas_only=False, flash=False)[..., :3])
        small = frame.resize((GIF_WIDTH, round(GIF_WIDTH * frame.height / frame.width)), Image.Resampling.LANCZOS)
        frames.append(small.quantize(GIF_COLOURS))
    frames[0].save(
        IMAGES / "scroll.gif", save_all=True, append_images=frames[1:], duration=GIF_MS, loop=0, optimize=True
    )


SCENES: dict[str, Scene] = {
    scene.__name__: scene for scene in (overview, slices, planes, compare, against, space, contours, scroll)
}
LIGHT = (contours,)


def main(names: list[str]) -> None:
    """Make the pictures that were asked for, or all."""
    IMAGES.mkdir(exist_ok=True)
    for name in names or SCENES:
        scene = SCENES[name]
        viewer, dock = open_window("light" if scene in LIGHT else "dark", "mni152_lesion")
        explain(dock)
        settle()
        scene(viewer, dock)
        settle(1.5)
        if scene is not scroll:
            viewer.screenshot(str(IMAGES / f"{name}.png"), canvas_only=False, flash=False)
        viewer.close()


if __name__ == "__main__":
    main(sys.argv[1:])
