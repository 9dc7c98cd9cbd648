"""R L A P S I at the sides of the canvas, through napari's public overlays.

The letters are shown where they are known to be true: in 2D, in one of the three planes of the display grid, and only
while every visible scan is one that was read in patient space.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

from napari.components.overlays import TextOverlay
from napari.layers import Image

from napari_gradcam.viewer.current import current_viewer
from napari_gradcam.viewer.layers import is_overlay, volume_of
from napari_gradcam.volumes.orientation import DisplayGrid, Letters, Plane

if TYPE_CHECKING:
    from napari.components import ViewerModel

_POSITIONS = {"left": "middle_left", "right": "middle_right", "top": "top_center", "bottom": "bottom_center"}
_FONT_SIZE = 16

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
            layer.events.visible.connect(self.update)
        self.update()

    def _watch_added(self, event: Any) -> None:
        event.value.events.visible.connect(self.update)

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
    """Give the letters of one scan for display axes in the order sliced, downwards, to the right."""
    volume = volume_of(layer)
    if volume is None or not volume.in_patient_space:
        return None
    grid = DisplayGrid.of(volume)
    sliced, down, right = order
    plane = next(plane for plane in Plane if plane.dims_order[0] == sliced)
    letters = grid.letters(plane)
    if plane.dims_order[1:] == (down, right):
        return letters
    return Letters(left=letters.top, right=letters.bottom, top=letters.left, bottom=letters.right)


def _key(side: str) -> str:
    return f"orientation_{side}"
