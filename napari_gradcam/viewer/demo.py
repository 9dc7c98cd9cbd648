"""``napari-gradcam demo`` where there is a display: napari with the sample scan, its scores and its heat map."""

from __future__ import annotations

import napari

from napari_gradcam.viewer.widget import GradCamWidget


def show() -> None:
    """Open napari with the sample brain, explain it, and stay until the window is closed."""
    viewer = napari.Viewer(title="Grad-CAM: sample brain with a synthetic lesion")
    viewer.open_sample("napari-gradcam", "mni152_lesion")
    _, dock = viewer.window.add_plugin_dock_widget("napari-gradcam")
    assert isinstance(dock, GradCamWidget)
    dock.controller.explain()
    napari.run()
