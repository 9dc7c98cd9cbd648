"""Any grid, written as DICOM and as NIfTI and read back: every value at its place in the patient, on screen too."""

from __future__ import annotations

import shutil
from itertools import permutations, product
from random import Random
from typing import TYPE_CHECKING, NamedTuple

import nibabel
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nibabel.eulerangles import euler2mat
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless

from napari_gradcam import read_volume
from napari_gradcam.volumes.orientation import DisplayGrid, Plane, axis_letters, slice_axis

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_gradcam.volumes import Volume

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
TURNS = [np.eye(3)[:, order] * signs for order in permutations(range(3)) for signs in product((1.0, -1.0), repeat=3)]
"""The 48 ways in which voxel axes run along those of the patient."""
SLANT = np.sin(np.radians(15))


class Grid(NamedTuple):
    """A grid with values: the affine to RAS+ mm, and numbers that are all different, ``(i, j, k)``."""

    affine: np.ndarray
    array: np.ndarray


@st.composite
def grids(draw: st.DrawFn, largest: float = np.pi) -> Grid:
    """Draw a grid: axes turned, flipped, turned a little or far, sheared like a gantry tilt, of uneven spacing."""
    turn = draw(st.sampled_from(TURNS))
    turn = euler2mat(*draw(st.tuples(*[st.floats(-largest, largest)] * 3))) @ turn
    shear = np.eye(3)
    shear[:2, 2] = draw(st.tuples(*[st.sampled_from([0.0, 0.0, -0.4, 0.3])] * 2))
    linear = turn @ shear @ np.diag(draw(st.tuples(*[st.floats(0.2, 8)] * 3)))
    origin = draw(st.tuples(*[st.floats(-400, 400)] * 3))
    affine = np.vstack([np.column_stack([linear, origin]), [0, 0, 0, 1]])
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(2, 5)))
    dtype = np.dtype(draw(st.sampled_from(["u1", "i2", "u2"])))
    first = draw(st.integers(np.iinfo(dtype).min, np.iinfo(dtype).max - 200))
    return Grid(affine, (first + np.arange(np.prod(shape))).astype(dtype).reshape(shape))


ENCODINGS = ("files", "files in RLE", "frames")


def write_dicom(series, grid: Grid, encoding: str, random: Random, slope: float, intercept: float) -> None:
    """Write a grid as DICOM: slices in any order, under any names, with any numbers, on their true places."""
    shutil.rmtree(series.folder, ignore_errors=True)
    lps = LPS_TO_RAS @ grid.affine
    sizes = np.linalg.norm(lps[:3, :2], axis=0)
    axes = [round(float(n), 10) for n in (lps[:3, :2] / sizes).T.ravel()]
    order = random.sample(range(grid.array.shape[2]), grid.array.shape[2])
    places = [[round(float(mm), 9) for mm in lps[:3, 3] + k * lps[:3, 2]] for k in order]
    pictures = [np.ascontiguousarray(grid.array[:, :, k].T) for k in order]
    spacing, values = [float(f"{n:.10g}") for n in sizes[::-1]], {"RescaleSlope": slope, "RescaleIntercept": intercept}
    if encoding == "frames":
        groups = []
        for place in places:
            frame = Dataset()
            frame.PlanePositionSequence, frame.PixelValueTransformationSequence = [Dataset()], [Dataset()]
            frame.PlanePositionSequence[0].ImagePositionPatient = place
            frame.PixelValueTransformationSequence[0].update(values)
            groups.append(frame)
        shared = Dataset()
        shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [Dataset()], [Dataset()]
        shared.PixelMeasuresSequence[0].PixelSpacing = spacing
        shared.PlaneOrientationSequence[0].ImageOrientationPatient = axes
        series.frames(np.array(pictures), groups, shared=shared)
        return
    names = random.sample(range(1000), len(order))
    for picture, place, name in zip(pictures, places, names, strict=True):
        path = series.slice(
            picture, place, name=f"{name}.dcm", InstanceNumber=random.randint(-9, 99), SliceLocation=random.random(),
            ImageOrientationPatient=axes, PixelSpacing=spacing, **values,
        )  # fmt: skip
        if encoding == "files in RLE":
            dataset = dcmread(path)
            dataset.compress(RLELossless)
            dataset.save_as(path)


def as_written(volume: Volume, grid: Grid) -> np.ndarray:
    """Prove that a volume has the grid of what was written, and give its values in the order they were written in.

    Slices that were written against their normal are read along it.
    """
    index = np.linalg.solve(grid.affine, volume.affine)  # of the volume to that of the grid
    runs = np.round(np.diag(index)[:3])
    assert tuple(runs) in ((1, 1, 1), (1, 1, -1))
    corner = (np.array(grid.array.shape) - 1) * (runs < 0)
    expected = grid.affine @ np.vstack([np.column_stack([np.diag(runs), corner]), [0, 0, 0, 1]])
    np.testing.assert_allclose(volume.affine, expected, rtol=0, atol=1e-6)
    return np.flip(volume.array, np.flatnonzero(runs < 0))


SLOPES = st.sampled_from([(1, 0), (1, -1024), (-1, 3), (0.5, 0), (2.75, -7.125)])


@settings(derandomize=True, max_examples=45, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(grids(), st.sampled_from(ENCODINGS), SLOPES, st.integers(0, 99))
def test_a_grid_written_as_dicom_is_read_back(series, grid, encoding, scaling, seed):
    write_dicom(series, grid, encoding, Random(seed), *scaling)
    volume = read_volume(series.folder)
    values = as_written(volume, grid)
    np.testing.assert_array_equal(values, grid.array * float(scaling[0]) + scaling[1])
    whole = abs(scaling[0]) == 1
    assert volume.array.dtype.kind in ("iu" if whole else "f")
    assert volume.array.flags.f_contiguous
    on_screen(volume)
    # The same scan as NIfTI is the same scan.
    path = series.folder / "as.nii.gz"
    nibabel.Nifti1Image(volume.array, volume.affine).to_filename(path)
    again = read_volume(path)
    np.testing.assert_array_equal(again.array, volume.array)
    np.testing.assert_allclose(again.affine, volume.affine, rtol=1e-6, atol=1e-4)


@settings(derandomize=True, max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(grids(), st.sampled_from([".nii", ".nii.gz"]), SLOPES, st.sampled_from([1, 2]))
def test_a_grid_written_as_nifti_is_read_back(tmp_path, grid, ending, scaling, version):
    kind = nibabel.Nifti1Image if version == 1 else nibabel.Nifti2Image
    image = kind(grid.array, None)
    image.set_sform(grid.affine, code=1)
    image.header.set_slope_inter(*scaling)
    image.to_filename(tmp_path / f"a{ending}")
    raw = nibabel.load(tmp_path / f"a{ending}").dataobj
    assert (raw.slope, raw.inter) == scaling
    volume = read_volume(tmp_path / f"a{ending}")
    np.testing.assert_array_equal(volume.array, raw.get_unscaled() * float(scaling[0]) + scaling[1])
    np.testing.assert_allclose(volume.affine, grid.affine, rtol=1e-6, atol=1e-4)
    on_screen(volume)


def on_screen(volume: Volume) -> None:
    """Prove that what is shown is the volume: each value where it is in the patient, and back without a loss."""
    grid = DisplayGrid.of(volume)
    shown = grid.to_display(volume.array)
    np.testing.assert_array_equal(grid.to_native(shown), volume.array)
    assert np.shares_memory(shown, volume.array)
    index = np.argwhere(np.ones(shown.shape, bool))
    native = grid.index_to_native(index)
    np.testing.assert_array_equal(shown.ravel(), volume.array[tuple(np.round(native).astype(int).T)])
    np.testing.assert_allclose(grid.index_to_display(native), index, atol=1e-9)
    there = native @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    np.testing.assert_allclose(grid.patient_position(index), there, atol=1e-6)
    # Inferior, Posterior, Left: no axis runs the other way.
    assert (np.diag(grid.affine[[2, 1, 0], :3]) <= 1e-9).all()


@settings(derandomize=True, max_examples=150, deadline=None)
@given(grids(largest=0.3))
def test_letters_tell_where_one_step_leads_in_the_patient(grid):
    """Found by walking: one voxel along an axis, or one to the right or down on the screen."""
    assert axis_letters(grid.affine) == tuple(nearest(grid.affine[:3, axis]) for axis in range(3))
    shown = DisplayGrid.from_affine(grid.affine, grid.array.shape)
    for plane in Plane:
        sliced, down, right = plane.dims_order

        def walked(axis: int, steps: int, to_native: Callable = shown.index_to_native) -> np.ndarray:
            way = to_native(np.eye(3)[axis] * steps) - to_native(np.zeros(3))
            return grid.affine[:3, :3] @ way

        letters = shown.letters(plane)
        assert letters.right == leaning(walked(right, 1))
        assert letters.left == leaning(walked(right, -1))
        assert letters.top == leaning(walked(down, -1))
        assert letters.bottom == leaning(walked(down, 1))
        axis, direction = slice_axis(grid.affine, plane)
        towards = {Plane.AXIAL: "S", Plane.SAGITTAL: "R", Plane.CORONAL: "A"}[plane]
        assert nearest(grid.affine[:3, axis] * direction) == towards
        assert shown.native_axis(plane) == axis
        assert nearest(walked(sliced, -1)) == towards


def nearest(way: np.ndarray) -> str:
    axis = int(np.abs(way).argmax())
    return "RAS"[axis] if way[axis] > 0 else "LPI"[axis]


def leaning(way: np.ndarray) -> str:
    """Name a way by its nearest letter and by each that it leans to by 15° or more."""
    unit = way / np.linalg.norm(way)
    order = np.argsort(-np.abs(unit), kind="stable")
    return "".join(
        "RAS"[axis] if unit[axis] > 0 else "LPI"[axis]
        for rank, axis in enumerate(order)
        if not rank or abs(unit[axis]) >= SLANT
    )
