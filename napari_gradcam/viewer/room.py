"""The reading room: what a person does to read a map, from going to a hot spot to setting a second map beside it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from napari.components.overlays import TextOverlay

from napari_gradcam import words
from napari_gradcam.errors import GradCamError
from napari_gradcam.viewer import grey, keys
from napari_gradcam.viewer.beside import Beside
from napari_gradcam.viewer.contract import Choice, Tone
from napari_gradcam.viewer.cursor import CursorReadout
from napari_gradcam.viewer.findings import Findings
from napari_gradcam.viewer.layers import scan_of_reader
from napari_gradcam.viewer.planes import plane_in_sight, show_plane, show_space
from napari_gradcam.volumes.orientation import Plane

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from napari.components import ViewerModel
    from napari.layers import Image, Layer

    from napari_gradcam.coordinates import System
    from napari_gradcam.viewer.contract import DockView
    from napari_gradcam.viewer.kept import Made
    from napari_gradcam.viewer.look import Look
    from napari_gradcam.viewer.surroundings import Surroundings

UNIT = "heat_unit"
"""The key of the text below the colour bar among the canvas's overlays."""

DIGITS = "heat_digits"
"""The key of what is never seen among them: napari makes each sign of its texts when it is first drawn, in 10 to 20 ms,
and the colour bar of another class has other digits."""

NOT_HOTTER = "No further slice of this plane has heat above the threshold."
SAVED = "{} hot spots were saved in “{}”."
OWN_WINDOW = "as you set it"


class InSight(NamedTuple):
    """What is read: the scan's layer, its map, and how that is painted; either may be missing."""

    scan: Image | None
    made: Made | None
    look: Look


class Room:
    """Reads one map at a time in a viewer.

    Parameters
    ----------
    viewer, dock, around
        Where it is read, told of, and shown beside others.
    in_sight
        Gives what is read now.
    system
        How positions are told.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        dock: DockView,
        around: Surroundings,
        in_sight: Callable[[], InSight],
        system: System,
    ) -> None:
        self._viewer, self._dock, self._canvases, self._in_sight = viewer, dock, around.canvases, in_sight
        self._findings = Findings(viewer, dock, system, around.later, around.counting)
        self._beside = Beside(dock, around.canvases)
        self._cursor = CursorReadout(viewer, self._under_cursor, system)
        self._drag = grey.WindowDrag(viewer, lambda: self._in_sight().scan)
        self._windowed: Image | None = None
        events = dock.events
        for signal, heard in (
            (events.plane_picked, self.show_plane),
            (events.space_picked, self.show_space),
            (events.planes_linked, around.canvases.show_planes),
            (events.spot_picked, self._findings.go_to_spot),
            (events.spots_saved, self._on_spots_saved),
            (events.slice_picked, self._findings.go_to_slice),
            (events.window_picked, self._on_window),
            (events.beside_pressed, self._on_beside),
            (events.alone_pressed, self._beside.close),
        ):
            signal.connect(heard)
        for emitter, heard in self._viewer_events():
            emitter.connect(heard)

    def _viewer_events(self) -> list[tuple[Any, Callable[..., None]]]:
        dims = self._viewer.dims.events
        return [(dims.order, self.turned), (dims.ndisplay, self.turned), (dims.point, self._findings.moved)]

    @property
    def actions(self) -> dict[str, Callable[[], object]]:
        """What keys do."""
        planes = {keys.AXIAL: Plane.AXIAL, keys.SAGITTAL: Plane.SAGITTAL, keys.CORONAL: Plane.CORONAL}
        return {
            keys.HOT_NEXT: partial(self.go_to_hot, 1),
            keys.HOT_BEFORE: partial(self.go_to_hot, -1),
            **{key: partial(self.show_plane, plane) for key, plane in planes.items()},
            keys.SPACE: self.show_space,
        }

    def refresh(self) -> None:
        """Show what is in sight now."""
        seen = self._in_sight()
        self._show_scale(seen)
        self._findings.show(*seen)
        self._beside.show(*seen)
        self._watch_window(seen.scan)

    def _show_scale(self, seen: InSight) -> None:
        """Show how long a mm is, where there are any, and what the colours of the heat are measured in."""
        overlays, made = self._viewer.canvas.overlays, seen.made
        in_mm = seen.scan is not None and all(unit == "millimeter" for unit in seen.scan.units)
        overlays.scale_bar.visible = in_mm
        if UNIT not in overlays:
            overlays[UNIT] = TextOverlay(position="top_right", font_size=8)
            overlays[DIGITS] = TextOverlay(text="0123456789.e-", color=(0, 0, 0, 0), font_size=8)
        overlays[DIGITS].visible = made is None  # drawn by the time that there is a map
        with_colours = made is not None and made.explanation.strongest > 0 and not seen.look.in_bands
        overlays[UNIT].visible = with_colours
        overlays[UNIT].text = words.unit(made.explanation) if made is not None else ""

    def only(self, scans: Collection[str]) -> None:
        """Let go of what is of a scan that is gone."""
        self._beside.only(scans)

    def close(self) -> None:
        """Let go of the viewer."""
        for emitter, heard in self._viewer_events():
            emitter.disconnect(heard)
        for part in (self._cursor, self._drag, self._canvases, self._findings):
            part.close()
        self._unwatch_window()

    def turned(self, event: Any = None) -> None:
        """Say which plane is in sight, and count its slices."""
        dims = self._viewer.dims
        self._dock.set_plane(plane_in_sight(self._viewer), choosable=dims.ndim > 2, in_space=dims.ndisplay > 2)
        self._findings.turned()

    def show_plane(self, plane: Plane) -> None:
        """Turn the viewer to a plane."""
        show_plane(self._viewer, plane)
        self.turned()

    def show_space(self) -> None:
        """Turn the viewer to the view in three dimensions."""
        show_space(self._viewer)
        self.turned()

    def go_to_hot(self, way: int) -> None:
        """Go to the next slice with heat above the threshold, or with `way` -1 to the one before."""
        self._dock.say("" if self._findings.go_to_hot(way) else NOT_HOTTER)

    def _on_spots_saved(self, path: Path) -> None:
        try:
            count = self._findings.save(path)
        except GradCamError as error:
            self._dock.say(str(error), Tone.ERROR)
            return
        self._dock.say(SAVED.format(count, path.name))

    def _on_beside(self) -> None:
        scan, made, look = self._in_sight()
        if scan is not None and made is not None:
            self._beside.keep(scan, made, look)

    def _under_cursor(self) -> tuple[Layer, Made, float] | None:
        scan, made, look = self._in_sight()
        return None if scan is None or made is None else (scan, made, look.top(made.explanation))

    # Window and level

    def _on_window(self, key: str) -> None:
        scan = self._in_sight().scan
        volume = scan_of_reader(scan) if scan is not None else None
        if scan is not None and volume is not None and key != grey.OWN:
            grey.show_window(scan, grey.limits_of(key, volume))

    def _watch_window(self, scan: Image | None) -> None:
        """Say which window a scan is shown by, also when napari's own slider changes it."""
        if scan is not self._windowed:
            self._unwatch_window()
            self._windowed = scan
            if scan is not None:
                scan.events.contrast_limits.connect(self._show_window)
        self._show_window()

    def _unwatch_window(self) -> None:
        if self._windowed is not None:
            self._windowed.events.contrast_limits.disconnect(self._show_window)
        self._windowed = None

    def _show_window(self, event: Any = None) -> None:
        scan = self._windowed
        volume = scan_of_reader(scan) if scan is not None else None
        listed = grey.windows_of(volume)
        if scan is None or volume is None or not listed:
            self._dock.set_windows((), "")
            return
        current = grey.current(scan, volume, listed)
        own = [Choice(OWN_WINDOW, grey.OWN)] if current == grey.OWN else []
        self._dock.set_windows([*listed, *own], current)
