"""R L A P S I at the sides of the canvas, through napari's public overlays.

The letters are shown where they are known to be true: in 2D, across napari's world axes, and only while every visible
scan says where in the patient it lies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

import numpy as np
from napari.components.overlays import TextOverlay
from napari.layers import Image

from napari_gradcam.viewer.current import current_viewer
from napari_gradcam.viewer.layers import is_overlay, world_to_patient
from napari_gradcam.viewer.world import data_to_world
from napari_gradcam.volumes.orientation import Letters, direction_letters

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

_POSITIONS = {"left": "middle_left", "right": "middle_right", "top": "top_center", "bottom": "bottom_center"}
_FONT_SIZE = 16

STRAIGHT = 1e-5
"""A slice that leans by less than this share of its step is called straight."""

_TELLING = ("visible", "data", "scale", "translate", "rotate", "shear", "affine", "axis_labels", "units", "metadata")
"""Events of a layer after which other letters may be true."""

_installed: WeakKeyDictionary[ViewerModel, OrientationLetters] = WeakKeyDictionary()


class OrientationLetters:
    """Keeps the letters of one viewer right, as long as the viewer lives.

    Parameters
    ----------
    viewer
        Held weakly: :func:`install` keeps this object by its viewer.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = ref(viewer)
        for side, position in _POSITIONS.items():
            # The box keeps a letter readable where it lies half on the scan, half on a light theme's canvas.
            viewer.canvas.overlays[_key(side)] = TextOverlay(position=position, font_size=_FONT_SIZE, box=True)
        for emitter in (
            viewer.dims.events.order,
            viewer.dims.events.ndisplay,
            viewer.dims.events.ndim,
            viewer.scene.camera.events.orientation,
            viewer.layers.events.inserted,
            viewer.layers.events.removed,
            viewer.layers.events.reordered,
        ):
            emitter.connect(self.update)
        viewer.layers.events.inserted.connect(self._watch_added)
        for layer in viewer.layers:
            self._watch(layer)
        self.update()

    def _watch_added(self, event: Any) -> None:
        self._watch(event.value)

    def _watch(self, layer: Layer) -> None:
        for name in _TELLING if isinstance(layer, Image) and not is_overlay(layer) else ():
            getattr(layer.events, name).connect(self.update)

    def update(self, event: Any = None) -> None:
        """Show the letters of the plane in sight, or none where they would not be known to be true."""
        viewer = self._viewer()
        if viewer is None:
            return
        letters = letters_in_sight(viewer)
        for side in _POSITIONS:
            overlay = viewer.canvas.overlays[_key(side)]
            overlay.text = getattr(letters, side) if letters else ""
            overlay.visible = letters is not None


def install(viewer: ViewerModel) -> None:
    """Give a viewer its letters, once."""
    if viewer not in _installed:
        _installed[viewer] = OrientationLetters(viewer)


def install_in_current_viewer() -> None:
    """Give the viewer in front its letters, where there is one.

    A reader does not know which viewer it reads for. Letters in a viewer without our scans stay hidden, so the wrong
    guess shows nothing.
    """
    viewer = current_viewer()
    if viewer is not None:
        install(viewer)


def letters_in_sight(viewer: ViewerModel) -> Letters | None:
    """Give the letters of what a viewer shows now, as it is drawn; None where they are not known to be true."""
    dims = viewer.dims
    if dims.ndisplay != 2 or dims.ndim < 3:
        return None
    sliced = [axis - (dims.ndim - 3) for axis in dims.order if axis >= dims.ndim - 3]
    if dims.order[:-3] and max(dims.order[:-3]) >= dims.ndim - 3:
        return None
    scans = [layer for layer in viewer.layers if isinstance(layer, Image) and layer.visible and not is_overlay(layer)]
    seen = {_drawn(layer, sliced) for layer in scans}
    letters = seen.pop() if len(seen) == 1 else None
    if letters is None:
        return None
    vertical, horizontal = (str(way) for way in viewer.scene.camera.orientation2d)
    if horizontal == "left":
        letters = letters._replace(left=letters.right, right=letters.left)
    if vertical == "up":
        letters = letters._replace(top=letters.bottom, bottom=letters.top)
    return letters


def _drawn(layer: Image, order: list[int]) -> Letters | None:
    """Give the letters of one scan for napari's world axes in the order sliced, downwards, to the right."""
    to_patient = world_to_patient(layer)
    if to_patient is None or not _sliced_straight(layer, order[0]):
        return None
    _, down, right = (to_patient[:3, axis] for axis in order)
    return Letters(
        direction_letters(-right), direction_letters(right), direction_letters(-down), direction_letters(down)
    )


def _sliced_straight(layer: Image, sliced: int) -> bool:
    """Whether the slices of a layer lie across a world axis: napari draws others without their rotation."""
    linear = np.abs(data_to_world(layer)[-4:-1, -4:-1])
    along = int(linear[sliced].argmax())
    largest = STRAIGHT * linear[sliced, along]
    across_world = np.delete(linear[:, along], sliced)
    across_data = np.delete(linear[sliced], along)
    return bool(across_world.max() <= largest and across_data.max() <= largest)


def _key(side: str) -> str:
    return f"orientation_{side}"
