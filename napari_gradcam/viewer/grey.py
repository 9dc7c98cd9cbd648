"""Window and level of a scan: that of its file, a radiologist's presets for CT, and dragging with the right button."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from napari_gradcam.viewer.contract import Choice
from napari_gradcam.volumes.volume import Window
from napari_gradcam.volumes.window import grey_limits

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_gradcam.volumes import Volume

FILE, OWN = "file", "own"
"""Keys of the window that the file asks for, and of one that is none of those on offer."""

PRESETS: Mapping[str, Window] = MappingProxyType(
    {
        "lung": Window(-600, 1500),
        "bone": Window(400, 1800),
        "brain": Window(40, 80),
        "abdomen": Window(40, 400),
        "mediastinum": Window(50, 350),
    }
)
"""What CT is read with, centre and width in HU."""

_limits: WeakKeyDictionary[Volume, tuple[float, float]] = WeakKeyDictionary()

SPAN_PIXELS = 400.0
"""Dragging so far to the right doubles the width, downwards moves the centre by the width it began with."""

_CLOSE = 1e-3


def windows_of(volume: Volume | None) -> list[Choice]:
    """List the windows on offer for a scan; none for one in colours."""
    if volume is None or volume.color is not None:
        return []
    first = "from the file" if volume.window is not None else "all values"
    presets = PRESETS if volume.modality == "CT" else {}
    return [
        Choice(first, FILE),
        *(Choice(f"{name} ({window.width:g} / {window.center:g})", name) for name, window in presets.items()),
    ]


def limits_of(key: str, volume: Volume) -> tuple[float, float]:
    """Give the values shown black and white by a window on offer."""
    if key in PRESETS:
        return PRESETS[key].limits
    if volume not in _limits:  # without a window in the file, all values have to be looked at
        _limits[volume] = grey_limits(volume)
    return _limits[volume]


def current(layer: Layer, volume: Volume, choices: list[Choice]) -> str:
    """Name the window that a layer is shown by, :data:`OWN` where it is none of those on offer."""
    low, high = layer.contrast_limits
    for choice in choices:
        wanted = limits_of(choice.key, volume)
        if np.allclose((low, high), wanted, rtol=_CLOSE, atol=_CLOSE * (wanted[1] - wanted[0])):
            return choice.key
    return OWN


def show_window(layer: Layer, limits: tuple[float, float]) -> None:
    """Show a layer by a window, whatever range its slider had."""
    low, high = limits
    first, last = layer.contrast_limits_range
    layer.contrast_limits_range = (min(low, first), max(high, last))
    layer.contrast_limits = (low, high)


class WindowDrag:
    """Sets the window of a scan by dragging with the right button: to the right for width, downwards for level.

    Parameters
    ----------
    viewer
        In two dimensions alone: in three the right button zooms, as ever.
    scan
        Gives the scan's layer, or None.
    """

    def __init__(self, viewer: ViewerModel, scan: Callable[[], Layer | None]) -> None:
        self._viewer, self._scan = viewer, scan
        viewer.mouse_drag_callbacks.append(self._on_drag)

    def close(self) -> None:
        """Let go of the viewer."""
        if self._on_drag in self._viewer.mouse_drag_callbacks:
            self._viewer.mouse_drag_callbacks.remove(self._on_drag)

    def _on_drag(self, viewer: Any, event: Any) -> Generator[None, None, None]:
        scan = self._scan()
        if event.button != 2 or event.modifiers or self._viewer.dims.ndisplay != 2 or scan is None or scan.rgb:
            return
        low, high = scan.contrast_limits
        width, center = high - low, (high + low) / 2
        x, y = event.pos
        zooms, self._viewer.scene.camera.mouse_zoom = self._viewer.scene.camera.mouse_zoom, False
        event.handled = True
        try:
            yield
            while event.type == "mouse_move":
                event.handled = True
                across, down = (event.pos[0] - x) / SPAN_PIXELS, (event.pos[1] - y) / SPAN_PIXELS
                wide, level = width * 2.0**across, center + down * width
                show_window(scan, (level - wide / 2, level + wide / 2))
                yield
        finally:
            self._viewer.scene.camera.mouse_zoom = zooms
