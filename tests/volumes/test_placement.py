"""A map on the network's grid lands on the native grid at the same place of the patient."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.affines import apply_affine
from nibabel.eulerangles import euler2mat

from napari_gradcam.errors import GradCamError
from napari_gradcam.volumes import placement
from napari_gradcam.volumes.placement import place_on_grid, place_slice


def covering(affine: np.ndarray, shape: tuple[int, ...], cells: tuple[int, ...]) -> np.ndarray:
    """Give the affine of a grid of cells that covers exactly the voxels of a native grid."""
    zoom = np.array(shape) / cells
    to_voxel = np.diag([*zoom, 1.0])
    to_voxel[:3, 3] = (zoom - 1) / 2
    return affine @ to_voxel


AFFINE = np.diag([-0.9, -0.9, 2.5, 1.0])
AFFINE[:3, 3] = (100.0, 90.0, -40.0)


def centre_of_mass(heat: np.ndarray, affine: np.ndarray) -> np.ndarray:
    index = np.array(
        [
            np.average(np.arange(n), weights=heat.sum(axis=tuple({0, 1, 2} - {axis})))
            for axis, n in enumerate(heat.shape)
        ]
    )
    return apply_affine(affine, index)


@pytest.mark.parametrize("cell", [(1, 2, 3), (3, 3, 1), (2, 1, 2)])
def test_a_hot_cell_lies_where_it_is_in_the_patient(cell):
    shape, cells = (40, 48, 30), (5, 6, 5)
    coarse_affine = covering(AFFINE, shape, cells)
    coarse = np.zeros(cells, dtype=np.float32)
    coarse[cell] = 1
    heat = place_on_grid(coarse, coarse_affine, shape, AFFINE)
    np.testing.assert_allclose(centre_of_mass(heat, AFFINE), apply_affine(coarse_affine, cell), atol=0.01)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flips", list(itertools.product((1, -1), repeat=3)))
def test_a_hot_cell_lies_right_in_every_axis_order_and_flip(order, flips):
    shape, cells = (32, 40, 24), (4, 5, 3)
    # The map's own axes are the native ones reordered and flipped; its world stays the same.
    base = covering(AFFINE, shape, cells)
    own_shape = tuple(cells[axis] for axis in order)
    to_base = np.eye(4)
    to_base[:3, :3] = 0
    for own, (axis, flip) in enumerate(zip(order, flips, strict=True)):
        to_base[axis, own] = flip
        to_base[axis, 3] = 0 if flip > 0 else cells[axis] - 1
    coarse = np.zeros(own_shape, dtype=np.float32)
    hot = tuple(n // 2 for n in own_shape)
    coarse[hot] = 2
    heat = place_on_grid(coarse, base @ to_base, shape, AFFINE)
    np.testing.assert_allclose(centre_of_mass(heat, AFFINE), apply_affine(base @ to_base, hot), atol=0.01)
    assert heat.max() <= 2


def test_an_identical_grid_gives_the_map_itself():
    coarse = np.random.default_rng(0).random((5, 6, 7), dtype=np.float32)
    np.testing.assert_array_equal(place_on_grid(coarse, AFFINE, (5, 6, 7), AFFINE), coarse)


def test_the_slices_of_a_2d_network_are_not_mixed():
    rng = np.random.default_rng(0)
    coarse = rng.random((4, 4, 9), dtype=np.float32)
    shape = (32, 32, 9)
    heat = place_on_grid(coarse, covering(AFFINE, shape, (4, 4, 9)), shape, AFFINE)
    for k in range(9):
        alone = place_on_grid(
            coarse[:, :, k : k + 1],
            covering(AFFINE, shape, (4, 4, 9)) @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, k], [0, 0, 0, 1]]),
            (32, 32, 1),
            AFFINE @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, k], [0, 0, 0, 1]]),
        )
        np.testing.assert_array_equal(heat[:, :, k], alone[:, :, 0])


def test_slices_may_be_any_native_axis():
    rng = np.random.default_rng(0)
    coarse = rng.random((4, 3, 7), dtype=np.float32)  # (j, k, i): one cell for each native i
    shape = (7, 16, 12)
    permute = np.zeros((4, 4))
    permute[1, 0] = permute[2, 1] = permute[0, 2] = permute[3, 3] = 1
    heat = place_on_grid(coarse, covering(AFFINE, shape, (7, 4, 3)) @ permute, shape, AFFINE)
    expected = place_on_grid(coarse.transpose(2, 0, 1), covering(AFFINE, shape, (7, 4, 3)), shape, AFFINE)
    np.testing.assert_array_equal(heat, expected)
    assert heat[3].max() <= coarse[:, :, 3].max()
    assert heat[3].max() == pytest.approx(coarse[:, :, 3].max(), abs=0.2)


def test_outside_of_the_field_of_view_is_exactly_zero():
    shape = (40, 40, 20)
    crop = AFFINE.copy()
    crop[:3, 3] = apply_affine(AFFINE, (10, 10, 5))
    coarse_affine = covering(crop, (20, 20, 10), (4, 4, 2))
    heat = place_on_grid(np.full((4, 4, 2), 3, dtype=np.float32), coarse_affine, shape, AFFINE)
    inside = np.zeros(shape, dtype=bool)
    inside[10:30, 10:30, 5:15] = True
    assert (heat[~inside] == 0).all()
    np.testing.assert_allclose(heat[inside], 3, rtol=1e-6)


def test_constants_stay_constant_up_to_the_border():
    for cells in [(1, 1, 1), (8, 8, 8), (3, 5, 7)]:
        shape = (21, 20, 13)
        heat = place_on_grid(np.full(cells, 0.7, dtype=np.float32), covering(AFFINE, shape, cells), shape, AFFINE)
        np.testing.assert_allclose(heat, 0.7, rtol=1e-6)


def test_a_slope_is_reproduced_between_cell_centres():
    shape, cells = (64, 32, 16), (8, 8, 8)
    coarse_affine = covering(AFFINE, shape, cells)
    centres = apply_affine(coarse_affine, np.moveaxis(np.indices(cells), 0, -1))
    heat = place_on_grid((centres @ [1, -2, 0.5]).astype(np.float32), coarse_affine, shape, AFFINE)
    voxels = apply_affine(AFFINE, np.moveaxis(np.indices(shape), 0, -1)) @ [1, -2, 0.5]
    within = np.s_[4:-4, 2:-2, 1:-1]
    np.testing.assert_allclose(heat[within], voxels[within], rtol=1e-4)


@settings(derandomize=True, max_examples=40, deadline=None)
@given(
    order=st.permutations(range(3)),
    flips=st.tuples(*[st.sampled_from((1, -1))] * 3),
    zoom=st.tuples(*[st.floats(0.3, 9)] * 3),
    offset=st.tuples(*[st.floats(-12, 12)] * 3),
    cells=st.tuples(*[st.integers(1, 6)] * 3),
    shape=st.tuples(*[st.integers(1, 14)] * 3),
)
def test_the_separable_way_equals_the_general_one(order, flips, zoom, offset, cells, shape):
    to_voxel = np.eye(4)
    to_voxel[:3, :3] = 0
    to_voxel[list(order), range(3)] = np.array(flips) * zoom
    to_voxel[:3, 3] = offset
    coarse = np.random.default_rng(1).random(cells, dtype=np.float32)
    to_cell = np.linalg.inv(to_voxel)
    permutation = placement._axis_permutation(to_cell, shape)
    assert permutation is not None
    one = placement._place_separable(coarse, to_cell, shape, permutation)
    other = placement._place_general(coarse, to_cell, shape)
    # A voxel centre on the very border may round to either side.
    position = apply_affine(to_cell, np.moveaxis(np.indices(shape), 0, -1))
    border = (np.abs(position + 0.5) < 1e-5) | (np.abs(position - np.array(cells) + 0.5) < 1e-5)
    clear = ~border.any(axis=-1)
    np.testing.assert_allclose(one[clear], other[clear], atol=1e-5)


def test_a_turned_grid_takes_the_general_way_and_lands_right():
    shape, cells = (48, 48, 40), (6, 6, 5)
    middle = apply_affine(AFFINE, (24, 24, 20))
    turn = np.eye(4)
    turn[:3, :3] = euler2mat(0.2, -0.1, 0.3)
    turn[:3, 3] = middle - turn[:3, :3] @ middle
    coarse_affine = turn @ covering(AFFINE, shape, cells)
    assert placement._axis_permutation(np.linalg.inv(coarse_affine) @ AFFINE, shape) is None
    coarse = np.zeros(cells, dtype=np.float32)
    coarse[3, 2, 2] = 1
    heat = place_on_grid(coarse, coarse_affine, shape, AFFINE)
    np.testing.assert_allclose(centre_of_mass(heat, AFFINE), apply_affine(coarse_affine, (3, 2, 2)), atol=0.05)


def test_rounding_of_an_affine_does_not_leave_the_separable_way():
    shape, cells = (512, 512, 300), (8, 8, 8)
    coarse_affine = covering(AFFINE, shape, cells).astype(np.float32).astype(float)
    assert placement._axis_permutation(np.linalg.inv(coarse_affine) @ AFFINE, shape) == (0, 1, 2)


def test_a_tenth_of_a_degree_takes_the_general_way():
    turn = np.eye(4)
    turn[:3, :3] = euler2mat(np.radians(0.1), 0, 0)
    assert placement._axis_permutation(np.linalg.inv(turn @ AFFINE) @ AFFINE, (512, 512, 300)) is None


@pytest.mark.parametrize("way", ["separable", "general"])
def test_the_result_is_float32_in_fortran_order(way):
    coarse_affine = (
        AFFINE if way == "separable" else AFFINE @ np.array([[1, 0.2, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    )
    heat = place_on_grid(np.ones((3, 3, 3)), coarse_affine, (3, 4, 5), AFFINE)
    assert heat.dtype == np.float32
    assert heat.flags.f_contiguous


def test_a_map_that_is_no_number_is_refused():
    coarse = np.ones((3, 3, 3), dtype=np.float32)
    coarse[1, 1, 1] = np.nan
    with pytest.raises(GradCamError, match="NaN or infinite"):
        place_on_grid(coarse, AFFINE, (3, 3, 3), AFFINE)


def turned(angle: float) -> np.ndarray:
    """Give a turn about a point inside of the native grid."""
    middle = apply_affine(AFFINE, (7, 5, 4))
    turn = np.eye(4)
    turn[:3, :3] = euler2mat(angle, -angle / 2, angle)
    turn[:3, 3] = middle - turn[:3, :3] @ middle
    return turn


@pytest.mark.parametrize("angle", [0, 0.3], ids=["permuted", "oblique"])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_slice_is_that_of_the_whole_volume(order, axis, angle):
    shape = (14, 11, 8)
    # The native grid's own axes reordered, one of them flipped.
    to_base = np.zeros((4, 4))
    to_base[list(order), range(3)] = (1, -1, 1)
    to_base[order[1], 3] = shape[order[1]] - 1
    to_base[3, 3] = 1
    affine, own = AFFINE @ to_base, tuple(shape[n] for n in order)
    # The map covers a part of the scan alone, so that some slices are cut and some are dark.
    crop = AFFINE.copy()
    crop[:3, 3] = apply_affine(AFFINE, (3, 2, 1))
    coarse_affine = turned(angle) @ covering(crop, (9, 8, 6), (3, 4, 2))
    coarse = np.random.default_rng(0).random((3, 4, 2), dtype=np.float32) + 0.5
    whole = place_on_grid(coarse, coarse_affine, own, affine)
    assert 0 < (whole > 0).mean() < 1
    for index in range(own[axis]):
        one = place_slice(coarse, coarse_affine, own, affine, axis, index)
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, whole.take(index, axis=axis), atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slice_with_its_own_cells_is_not_mixed_with_its_neighbours(axis):
    shape = (6, 7, 8)
    cells = tuple(n if one == axis else 3 for one, n in enumerate(shape))
    coarse = np.random.default_rng(0).random(cells, dtype=np.float32)
    coarse_affine = covering(AFFINE, shape, cells)
    for index in (0, shape[axis] // 2, shape[axis] - 1):
        one = place_slice(coarse, coarse_affine, shape, AFFINE, axis, index)
        alone = np.zeros_like(coarse)
        np.moveaxis(alone, axis, 0)[index] = np.moveaxis(coarse, axis, 0)[index]
        np.testing.assert_array_equal(one, place_slice(alone, coarse_affine, shape, AFFINE, axis, index))


def test_a_slice_of_a_map_that_is_no_number_is_refused():
    with pytest.raises(GradCamError, match="NaN or infinite"):
        place_slice(np.full((2, 2, 2), np.inf, dtype=np.float32), AFFINE, (3, 3, 3), AFFINE, 0, 1)
