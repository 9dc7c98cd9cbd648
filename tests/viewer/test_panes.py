"""Canvases beside the main one: what they show, that they go where it goes, and that they let go of it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.layers import Layer
from napari.qt import QtViewer
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QLabel

from napari_gradcam.viewer.letters import letters_in_sight
from napari_gradcam.viewer.look import Look, Style
from napari_gradcam.viewer.overlay import HeatMapOverlay
from napari_gradcam.viewer.panes import AFLOAT
from napari_gradcam.viewer.planes import go_to, show_plane
from napari_gradcam.viewer.side_by_side import SideBySide
from napari_gradcam.viewer.three_planes import ThreePlanes
from napari_gradcam.volumes.orientation import Plane

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NO_SCREEN = sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
pytestmark = pytest.mark.skipif(
    NO_SCREEN or os.environ.get("QT_QPA_PLATFORM") == "offscreen", reason="napari draws on a real screen only"
)

AXIAL, SAGITTAL, CORONAL = Plane.AXIAL, Plane.SAGITTAL, Plane.CORONAL


class Room:
    """A viewer with a scan and its heat map."""

    def __init__(self, viewer: Any, scan: Any, explanation: Callable[..., Any], qtbot: Any) -> None:
        self.viewer, self.scan, self.explanation, self.qtbot = viewer, scan, explanation, qtbot
        self.overlay = HeatMapOverlay(viewer, scan, lambda look: None)
        self.overlay.show(explanation(), Look())
        self.heat = self.overlay.heat
        go_to(viewer, scan, (8, 9, 6))

    def open(self, widget: Any, area: str = "bottom") -> Any:
        self.viewer.window.add_dock_widget(widget, area=area, name=type(widget).__name__)
        self.qtbot.waitUntil(widget.isVisible)
        self.qtbot.wait(50)
        return widget

    def finish(self, widget: Any) -> None:
        self.viewer.window.remove_dock_widget(widget)
        widget.close()
        widget.deleteLater()
        self.qtbot.wait(50)

    def connections(self) -> dict[str, int]:
        """Count who listens to what of the main viewer and its layers."""
        viewer = self.viewer
        groups = {
            "viewer": viewer.events,
            "dims": viewer.dims.events,
            "camera": viewer.scene.camera.events,
            "canvas": viewer.canvas.events,
            "grid": viewer.canvas.grid.events,
            "cursor": viewer.cursor.events,
            "layers": viewer.layers.events,
            **{layer.name: layer.events for layer in viewer.layers},
        }
        return {
            f"{name}.{event}": len(emitter.callbacks)
            for name, group in groups.items()
            for event, emitter in group.emitters.items()
            if emitter.callbacks
        }


@pytest.fixture
def room(
    make_napari_viewer: Any,
    make_volume: Callable[..., Any],
    make_explanation: Callable[..., Any],
    add_scan: Callable[..., Any],
    qtbot: Any,
) -> Any:
    viewer, volume = make_napari_viewer(show=True), make_volume()
    viewer.window.resize(800, 600)  # it is drawn without a graphics card
    return Room(viewer, add_scan(viewer, volume), lambda **given: make_explanation(volume, **given), qtbot)


@pytest.fixture
def three(room: Room) -> Iterator[ThreePlanes]:
    three = room.open(ThreePlanes(room.viewer))
    yield three
    room.finish(three)


@pytest.fixture
def side(room: Room) -> Iterator[SideBySide]:
    side = room.open(SideBySide(room.viewer), "right")
    yield side
    room.finish(side)


def test_the_planes_are_those_that_the_viewer_does_not_show(room: Room, three: ThreePlanes) -> None:
    viewer = room.viewer
    for shown, others in (
        (AXIAL, {SAGITTAL, CORONAL}),
        (SAGITTAL, {AXIAL, CORONAL}),
        (CORONAL, {AXIAL, SAGITTAL}),
    ):
        show_plane(viewer, shown)
        assert set(three.planes) == others
        assert len(three.planes) == 2
        for pane in three.panes[:2]:
            assert letters_in_sight(pane.model) == pane.plane.letters
            assert pane.model.canvas.overlays["text"].text == pane.plane.value.capitalize()
    viewer.dims.ndisplay = 3
    assert set(three.planes) == set(Plane)
    assert three.cross.position is None
    viewer.dims.ndisplay = 2
    assert len(three.planes) == 2
    viewer.layers.clear()
    assert three.planes == ()
    assert all(pane.isHidden() for pane in three.panes)


def test_a_place_is_the_same_in_all_planes_wherever_it_was_chosen(room: Room, three: ThreePlanes) -> None:
    viewer, (sagittal, coronal) = room.viewer, three.panes
    middle = room.scan.data_to_world((5, 7, 6))
    viewer.dims.point = middle
    assert sagittal.model.dims.point[2] == middle[2]
    assert coronal.model.dims.point[1] == middle[1]
    # A click in the sagittal plane chooses a slice and a row: here a slice of 3 mm below, two rows of 2 mm behind.
    x, y = sagittal.stage.cross.position
    zoom = sagittal.model.scene.camera.zoom
    spot = QPoint(round(x + 4 * zoom), round(y + 3 * zoom))
    room.qtbot.mouseClick(sagittal.stage.canvas, Qt.MouseButton.LeftButton, pos=spot)
    assert viewer.dims.point == pytest.approx(np.add(middle, (3, 4, 0)), abs=1 / zoom)
    assert coronal.model.dims.point[1] == pytest.approx(viewer.dims.point[1])
    assert sagittal.stage.cross.position == pytest.approx((spot.x(), spot.y()), abs=1.5)
    # The slices of a pane, gone through there, are those of the main viewer's cross.
    coronal.model.dims.set_current_step(1, 3)
    assert viewer.dims.current_step[1] == 3
    assert three.cross.position is not None
    assert [line.isVisible() for line in three.cross.lines] == [True] * 4


def test_layers_are_shared_and_followed_as_long_as_they_are_there(room: Room, three: ThreePlanes) -> None:
    viewer, pane = room.viewer, three.panes[0]
    scan, heat = pane.stage.mirrors[room.scan], pane.stage.mirrors[room.heat]
    assert list(pane.model.layers) == [scan, heat]
    assert scan.data is room.scan.data
    assert scan.units == room.scan.units
    assert heat.contrast_limits == room.heat.contrast_limits
    assert heat.colormap.low_color[3] == 0

    room.overlay.show(room.explanation(hottest=(1, 2, 3), top=0.5), Look(colormap="viridis", opacity=0.3))
    assert heat.data is room.heat.data
    assert heat.contrast_limits == pytest.approx([0.2, 0.5])
    assert heat.colormap.name == "heat viridis"
    assert heat.opacity == 0.3
    room.overlay.restyle(Look(style=Style.BANDS))
    bands = pane.stage.mirrors[room.overlay.bands]
    assert (bands.visible, heat.visible) == (True, False)
    assert bands.data is room.overlay.bands.data

    room.scan.translate = np.add(room.scan.translate, (3.0, 0, 0))
    room.scan.contrast_limits = (10, 500)
    assert scan.data_to_world((0, 0, 0)) == pytest.approx(room.scan.data_to_world((0, 0, 0)))
    assert scan.contrast_limits == [10, 500]
    viewer.layers.move(0, len(viewer.layers))
    assert pane.model.layers[-1] is scan

    viewer.layers.remove(room.heat)
    assert set(pane.model.layers) == {scan, bands}
    viewer.add_points(np.zeros((1, 3)))
    assert set(pane.model.layers) == {scan, bands}
    viewer.theme = "light"
    assert pane.model.theme == "light"


def test_nobody_listens_once_it_is_closed_or_out_of_sight(room: Room) -> None:
    before = room.connections()
    three = room.open(ThreePlanes(room.viewer))
    side = room.open(SideBySide(room.viewer))
    side.show_map(room.scan, room.explanation(), Look(), "again")
    assert sum(room.connections().values()) > sum(before.values()) + 50
    three.hide()
    side.hide()
    at_rest = room.connections()
    assert at_rest.pop("layers.removed") == before["layers.removed"] + 1  # a map goes with its scan
    assert at_rest == {name: count for name, count in before.items() if name != "layers.removed"}
    three.show()
    side.show()
    assert set(three.planes) == {SAGITTAL, CORONAL}
    assert side.heat is not None
    room.finish(three)
    room.finish(side)
    assert room.connections() == before
    assert len(QtViewer._instances) == 1


def test_a_dock_that_floats_has_no_canvas_until_it_is_back(room: Room) -> None:
    three = ThreePlanes(room.viewer)
    dock = room.viewer.window.add_dock_widget(three, area="bottom")
    room.qtbot.wait(100)
    for floating in (True, False):
        dock.setFloating(floating)
        room.qtbot.waitUntil(three.isVisible)
        room.qtbot.wait(100)
        room.overlay.restyle(Look(style=Style.BANDS))
        room.viewer.layers.remove(room.overlay.bands)
        room.qtbot.wait(100)
        labels = [label for label in three.findChildren(QLabel) if label.isVisible() and label.text() == AFLOAT]
        assert bool(labels) is floating
    picture = three.panes[0].stage.canvas.grabFramebuffer()
    assert picture.pixelColor(picture.rect().center()) != picture.pixelColor(1, picture.height() - 1)
    room.finish(three)


def test_a_window_that_closes_with_panes_in_it_takes_them_along(room: Room) -> None:
    room.viewer.window.add_dock_widget(ThreePlanes(room.viewer), area="bottom")
    side = SideBySide(room.viewer)
    room.viewer.window.add_dock_widget(side, area="right")
    side.show_map(room.scan, room.explanation(), Look(), "beside")
    room.qtbot.wait(100)
    room.viewer.close()
    room.qtbot.wait(100)


def test_two_viewers_have_panes_of_their_own(
    room: Room, three: ThreePlanes, make_napari_viewer: Any, make_volume: Any, add_scan: Any
) -> None:
    other = make_napari_viewer(show=True)
    add_scan(other, make_volume())
    point = room.viewer.dims.point
    other.window.add_dock_widget(ThreePlanes(other), area="bottom")
    room.qtbot.wait(50)
    other.dims.set_current_step(0, 2)
    show_plane(other, CORONAL)
    assert set(three.planes) == {SAGITTAL, CORONAL}
    assert room.viewer.dims.point == point
    other.close()
    room.qtbot.wait(100)


def test_the_second_canvas_stays_with_the_first(room: Room, side: SideBySide) -> None:
    viewer, own = room.viewer, side.pane.model
    show_plane(viewer, SAGITTAL)
    viewer.scene.camera.zoom, viewer.scene.camera.center = 7.0, (0.0, 3.0, 4.0)
    other = room.explanation(hottest=(1, 2, 3), top=0.5, method="hirescam")
    side.show_map(room.scan, other, Look(), "HiResCAM · layer3 · <lesion>")
    assert side.title == "HiResCAM · layer3 · <lesion>"
    assert [layer.name for layer in own.layers] == ["scan", "Heat map: lesion"]
    assert np.shares_memory(side.heat.data, other.heatmap)
    assert letters_in_sight(own) == SAGITTAL.letters
    assert (viewer.scene.camera.zoom, viewer.scene.camera.center) == (7.0, (0.0, 3.0, 4.0))  # it moved nothing
    assert (own.scene.camera.zoom, own.scene.camera.center) == (7.0, (0.0, 3.0, 4.0))

    own.scene.camera.zoom, own.scene.camera.center = 5.0, (0.0, 1.0, 2.0)
    assert (viewer.scene.camera.zoom, viewer.scene.camera.center) == (5.0, (0.0, 1.0, 2.0))
    viewer.dims.set_current_step(2, 4)
    assert own.dims.current_step[2] == 4
    own.dims.set_current_step(2, 7)
    assert viewer.dims.current_step[2] == 7
    show_plane(viewer, AXIAL)
    room.qtbot.wait(100)
    assert own.dims.order == (0, 1, 2)
    assert own.scene.camera.zoom == pytest.approx(viewer.scene.camera.zoom)
    assert own.scene.camera.center == pytest.approx(viewer.scene.camera.center)

    room.scan.translate = np.add(room.scan.translate, (0, 5.0, 0))
    assert side.heat.data_to_world((0, 0, 0)) == pytest.approx(room.scan.data_to_world((0, 0, 0)))
    viewer.mouse_over_canvas = True
    viewer.cursor.position = room.scan.data_to_world((6, 7, 6))
    assert side.pane.stage.cross.position is not None
    assert side.pane.main_cross.position is None
    viewer.mouse_over_canvas = False
    assert side.pane.stage.cross.position is None
    side.restyle(Look(style=Style.BANDS))
    assert len(own.layers) == 3
    viewer.layers.remove(room.scan)
    assert (side.title, side.heat, len(own.layers)) == ("", None, 0)


def test_layers_in_another_unit_are_shown_in_the_same_place(room: Room, three: ThreePlanes) -> None:
    # Points lie below everything else, and napari's world has the unit of the first layer.
    points = Layer.create(np.zeros((1, 3)), {"units": ("um",) * 3}, "points")
    room.viewer.layers.insert(0, points)
    go_to(room.viewer, room.scan, (8, 9, 6))
    scan = three.panes[0].stage.mirrors[room.scan]
    assert scan.data_to_world((0, 0, 0)) == pytest.approx(room.scan.data_to_world((0, 0, 0)))
    place = three.panes[0].model.dims.point[2] * three.panes[0].model.dims.units[2]
    assert place.to("mm").magnitude == pytest.approx(
        (room.viewer.dims.point[2] * room.viewer.dims.units[2]).to("mm").magnitude
    )
