"""The display grid: upright planes, true letters, views only."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.affines import apply_affine
from nibabel.eulerangles import euler2mat

from napari_gradcam.volumes.orientation import (
    RAS_TO_DISPLAY,
    DisplayGrid,
    Letters,
    Plane,
    axis_letters,
    direction_letters,
    obliquity,
    obliquity_notices,
    slice_axis,
)

SHAPE = (4, 5, 6)
ALL_48 = [
    a + b + c
    for a in "RLAPSI"
    for b in "RLAPSI"
    for c in "RLAPSI"
    if {frozenset("RL"), frozenset("AP"), frozenset("SI")}
    == {next(frozenset(p) for p in ("RL", "AP", "SI") if x in p) for x in (a, b, c)}
]


def aligned(codes: str, sizes=(1.5, 2.0, 3.0), origin=(-7.0, 11.0, 13.0)) -> np.ndarray:
    """Make an affine whose voxel axes run to the patient directions in `codes`."""
    direction = {"R": (1, 0, 0), "A": (0, 1, 0), "S": (0, 0, 1), "L": (-1, 0, 0), "P": (0, -1, 0), "I": (0, 0, -1)}
    affine = np.eye(4)
    affine[:3, :3] = np.array([direction[code] for code in codes]).T * sizes
    affine[:3, 3] = origin
    return affine


def turned(degrees: float) -> np.ndarray:
    """Make an affine turned about the axis from right to left."""
    rotation = np.eye(4)
    rotation[:3, :3] = euler2mat(x=np.radians(degrees))
    return rotation @ aligned("LPS")


def test_there_are_48_axis_orders_and_flips():
    assert len(set(ALL_48)) == 48


@pytest.mark.parametrize("codes", ALL_48)
def test_an_aligned_grid_is_shown_at_its_exact_place(codes):
    affine = aligned(codes)
    grid = DisplayGrid.from_affine(affine, SHAPE)
    native = np.array(list(np.ndindex(SHAPE)), dtype=float)
    shown = grid.index_to_display(native)
    world = shown * grid.scale + grid.translate
    np.testing.assert_allclose(world, apply_affine(affine, native) @ RAS_TO_DISPLAY.T, atol=1e-12)
    np.testing.assert_allclose(grid.patient_position(shown), apply_affine(affine, native), atol=1e-12)
    np.testing.assert_allclose(grid.index_to_native(shown), native, atol=1e-12)
    assert min(grid.scale) > 0
    assert nibabel.aff2axcodes(grid.affine) == ("I", "P", "L")
    assert grid.obliquity == 0


@pytest.mark.parametrize("codes", ALL_48)
def test_there_and_back_is_the_same_memory(codes):
    grid = DisplayGrid.from_affine(aligned(codes), SHAPE)
    array = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    shown = grid.to_display(array)
    assert shown.shape == grid.shape
    assert np.shares_memory(shown, array)
    back = grid.to_native(shown)
    assert back.strides == array.strides
    assert back.ctypes.data == array.ctypes.data
    for index in [(0, 0, 0), (3, 1, 5), (2, 4, 0)]:
        display = tuple(int(n) for n in np.round(grid.index_to_display(index)))
        assert shown[display] == array[index]


def test_display_indices_grow_to_inferior_posterior_and_left():
    grid = DisplayGrid.from_affine(aligned("RAS"), SHAPE)
    first, last = grid.patient_position([0, 0, 0]), grid.patient_position(np.array(grid.shape) - 1)
    assert first[2] > last[2]  # from superior to inferior
    assert first[1] > last[1]  # from anterior to posterior
    assert first[0] > last[0]  # from right to left


def test_an_array_of_another_shape_is_refused():
    grid = DisplayGrid.from_affine(aligned("RAS"), SHAPE)
    with pytest.raises(ValueError, match="does not lie on this grid"):
        grid.to_display(np.zeros((6, 5, 4)))


def test_trailing_axes_stay_last():
    grid = DisplayGrid.from_affine(aligned("PSR"), SHAPE)
    assert grid.to_display(np.zeros((*SHAPE, 3))).shape == (*grid.shape, 3)


def test_an_oblique_grid_keeps_its_centre_and_its_voxel_sizes():
    affine = turned(12)
    grid = DisplayGrid.from_affine(affine, SHAPE)
    centre = (np.array(grid.shape) - 1) / 2
    np.testing.assert_allclose(
        centre * grid.scale + grid.translate, RAS_TO_DISPLAY @ grid.patient_position(centre), atol=1e-12
    )
    assert sorted(grid.scale) == pytest.approx([1.5, 2.0, 3.0])
    assert grid.obliquity == pytest.approx(12)


def test_the_notes_error_of_a_12_degree_oblique_is_bounded_by_the_turn():
    shape = (100, 100, 40)
    grid = DisplayGrid.from_affine(turned(12), shape)
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in grid.shape])).reshape(3, -1).T
    error = np.linalg.norm(
        corners * grid.scale + grid.translate - grid.patient_position(corners) @ RAS_TO_DISPLAY.T, axis=1
    )
    reach = np.linalg.norm((corners - corners.mean(axis=0)) * grid.scale, axis=1).max()
    assert error.max() <= 2 * np.sin(np.radians(6)) * reach + 1e-9


@settings(derandomize=True, max_examples=40, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-3.1, 3.1)] * 3),
    sizes=st.tuples(*[st.floats(0.2, 8)] * 3),
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    shear=st.floats(-0.3, 0.3),
)
def test_any_grid_goes_there_and_back(angles, sizes, shape, shear):
    affine = np.eye(4)
    affine[:3, :3] = euler2mat(*angles) @ np.array([[1, 0, 0], [0, 1, shear], [0, 0, 1]]) @ np.diag(sizes)
    affine[:3, 3] = (3, -50, 120)
    grid = DisplayGrid.from_affine(affine, shape)
    array = np.arange(np.prod(shape)).reshape(shape)
    np.testing.assert_array_equal(grid.to_native(grid.to_display(array)), array)
    last = np.array(shape) - 1.0
    np.testing.assert_allclose(grid.index_to_native(grid.index_to_display(last)), last, atol=1e-9)
    np.testing.assert_allclose(
        grid.patient_position(grid.index_to_display(last)), apply_affine(affine, last), atol=1e-6
    )
    assert min(grid.scale) > 0


def test_planes_are_radiological():
    assert Plane.AXIAL.letters == Letters(left="R", right="L", top="A", bottom="P")
    assert Plane.SAGITTAL.letters == Letters(left="A", right="P", top="S", bottom="I")
    assert Plane.CORONAL.letters == Letters(left="R", right="L", top="S", bottom="I")
    assert Plane.from_dims_order((2, 0, 1)) is Plane.SAGITTAL
    assert Plane.from_dims_order((1, 2, 0)) is None


@pytest.mark.parametrize("codes", ALL_48)
@pytest.mark.parametrize("plane", list(Plane))
def test_letters_are_true_to_the_patient(codes, plane):
    grid = DisplayGrid.from_affine(aligned(codes), SHAPE)
    assert grid.letters(plane) == plane.letters


def test_letters_of_a_far_oblique_name_both_directions():
    # Turned by 38° about the axis from right to left: what was posterior leans to inferior or superior.
    letters = DisplayGrid.from_affine(turned(38), SHAPE).letters(Plane.AXIAL)
    assert (letters.left, letters.right) == ("R", "L")
    assert set(letters.bottom) == {"P", "I"} or set(letters.bottom) == {"P", "S"}
    assert letters.bottom[0] == "P"
    assert letters.top == "".join({"P": "A", "I": "S", "S": "I"}[letter] for letter in letters.bottom)
    assert DisplayGrid.from_affine(turned(8), SHAPE).letters(Plane.AXIAL) == Plane.AXIAL.letters


@pytest.mark.parametrize(("direction", "letters"), [((1, 0, 0), "R"), ((0, -2, 0), "P"), ((-1, 0, -0.9), "LI")])
def test_directions_have_letters(direction, letters):
    assert direction_letters(direction) == letters


@pytest.mark.parametrize("degrees", [0, 0.01, 0.5, 7.7, 38.7])
def test_obliquity_is_measured(degrees):
    assert obliquity(turned(degrees)) == pytest.approx(degrees, abs=1e-6)
    assert bool(obliquity_notices(turned(degrees))) == (degrees >= 0.5)


def test_obliquity_is_said_in_degrees():
    assert obliquity_notices(turned(7.7)) == ("The scan is 7.7° oblique: it is shown in its acquisition planes.",)


def test_axis_letters_name_where_voxel_axes_run():
    assert axis_letters(aligned("PIR")) == ("P", "I", "R")


@pytest.mark.parametrize(
    ("codes", "plane", "axis", "direction"),
    [
        ("LPS", Plane.AXIAL, 2, 1),
        ("LPI", Plane.AXIAL, 2, -1),
        ("PIR", Plane.SAGITTAL, 2, 1),
        ("PIR", Plane.AXIAL, 1, -1),
        ("PIR", Plane.CORONAL, 0, -1),
    ],
)
def test_slices_of_a_plane_are_found(codes, plane, axis, direction):
    assert slice_axis(aligned(codes), plane) == (axis, direction)
    assert DisplayGrid.from_affine(aligned(codes), SHAPE).native_axis(plane) == axis
