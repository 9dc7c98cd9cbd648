"""Letters stand on the right sides, or nowhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_gradcam.viewer import letters
from napari_gradcam.viewer.planes import go_to, plane_in_sight, show_plane
from napari_gradcam.volumes.orientation import DisplayGrid, Plane

if TYPE_CHECKING:
    from collections.abc import Callable

SIDES = ("left", "right", "top", "bottom")


def shown(viewer: ViewerModel) -> str:
    overlays = [viewer.canvas.overlays[f"orientation_{side}"] for side in SIDES]
    return " ".join(overlay.text for overlay in overlays if overlay.visible)


@pytest.fixture
def viewer(make_volume: Callable[..., Any], add_scan: Callable[..., Any]) -> ViewerModel:
    viewer = ViewerModel()
    letters.install(viewer)
    add_scan(viewer, make_volume())
    return viewer


@pytest.mark.parametrize(
    ("plane", "expected"), [(Plane.AXIAL, "R L A P"), (Plane.SAGITTAL, "A P S I"), (Plane.CORONAL, "R L S I")]
)
def test_planes_are_lettered_as_radiologists_read_them(viewer: ViewerModel, plane: Plane, expected: str) -> None:
    show_plane(viewer, plane)
    assert plane_in_sight(viewer) is plane
    assert shown(viewer) == expected


def test_letters_follow_a_transposed_view_and_a_turned_camera(viewer: ViewerModel) -> None:
    viewer.dims.transpose()
    assert shown(viewer) == "A P R L"
    assert plane_in_sight(viewer) is None
    viewer.dims.transpose()
    viewer.scene.camera.orientation2d = ("up", "left")
    assert shown(viewer) == "L R P A"


def test_letters_say_what_the_data_say(make_volume: Callable[..., Any], add_scan: Callable[..., Any]) -> None:
    """The voxel at the side with the letter R lies further to the patient's right, and so for all."""
    volume = make_volume(np.array([[0, 0, 3.0, 1], [2, 0, 0, 2], [0, -1, 0, 3], [0, 0, 0, 1]]))
    viewer = ViewerModel()
    letters.install(viewer)
    add_scan(viewer, volume)
    grid = DisplayGrid.of(volume)
    axis_of = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
    for plane in Plane:
        show_plane(viewer, plane)
        _, down, right = viewer.dims.order
        for side, axis, end in (("left", right, 0), ("right", right, -1), ("top", down, 0), ("bottom", down, -1)):
            near = np.array(grid.shape) // 2
            near[axis] = 0 if end == 0 else grid.shape[axis] - 1
            step = grid.patient_position(near) - grid.patient_position(np.array(grid.shape) // 2)
            patient_axis, sign = axis_of[viewer.canvas.overlays[f"orientation_{side}"].text]
            assert np.sign(step[patient_axis]) == sign


def test_an_oblique_scan_shows_both_letters(make_volume: Callable[..., Any], add_scan: Callable[..., Any]) -> None:
    c, s = np.cos(np.radians(20)), np.sin(np.radians(20))
    viewer = ViewerModel()
    letters.install(viewer)
    add_scan(viewer, make_volume(np.array([[-c, s, 0, 0], [-s, -c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])))
    assert shown(viewer) == "RA LP AL PR"


def test_no_letters_in_3d_nor_without_a_scan(viewer: ViewerModel) -> None:
    viewer.dims.ndisplay = 3
    assert shown(viewer) == ""
    viewer.dims.ndisplay = 2
    assert shown(viewer) == "R L A P"
    viewer.layers[0].visible = False
    assert shown(viewer) == ""
    viewer.layers[0].visible = True
    viewer.layers.clear()
    assert shown(viewer) == ""


def test_no_letters_beside_a_scan_of_unknown_place(
    viewer: ViewerModel, make_volume: Callable[..., Any], add_scan: Callable[..., Any]
) -> None:
    other = viewer.add_image(np.zeros((4, 4, 4)))
    assert shown(viewer) == ""
    viewer.layers.remove(other)
    assert shown(viewer) == "R L A P"
    add_scan(viewer, make_volume(in_patient_space=False))
    assert shown(viewer) == ""


def test_annotations_do_not_take_the_letters_away(viewer: ViewerModel) -> None:
    viewer.add_points(np.zeros((1, 3)))
    assert shown(viewer) == "R L A P"


def test_letters_stay_with_a_time_axis_in_front(viewer: ViewerModel) -> None:
    viewer.add_points(np.zeros((1, 4)))
    show_plane(viewer, Plane.CORONAL)
    assert viewer.dims.order == (0, 2, 1, 3)
    assert shown(viewer) == "R L S I"
    viewer.dims.order = (1, 0, 2, 3)
    assert plane_in_sight(viewer) is None


def test_installing_twice_is_once(viewer: ViewerModel) -> None:
    count = len(viewer.canvas.overlays)
    letters.install(viewer)
    assert len(viewer.canvas.overlays) == count


def test_the_slices_go_to_a_voxel(viewer: ViewerModel, make_volume: Callable[..., Any]) -> None:
    go_to(viewer, viewer.layers[0], (8, 9, 6))
    step = viewer.dims.current_step
    assert viewer.layers[0].data[step] == make_volume().array[8, 9, 6]
