"""Slices that are missing or unevenly spaced: what the sentence says, and what interpolation gives."""

from __future__ import annotations

import numpy as np
import pytest
from nibabel.affines import apply_affine

from napari_gradcam import read_volume
from napari_gradcam.volumes.reading import find_scans

PLACE = np.array([-10.0, -20.0, 7.0])


def ramp(along, slope=3.0, dtype=np.float32) -> np.ndarray:
    """Slices whose values grow evenly along z, and differ from pixel to pixel."""
    pixels = np.arange(2 * 4).reshape(2, 4)
    return np.stack([pixels + slope * z for z in along]).astype(dtype)


def write(series, along, stored, direction=(0, 0, 1), **tags):
    if stored.dtype.kind == "f":
        tags = {"PixelRepresentation": None, "BitsStored": None, "HighBit": None, **tags}
        return [
            series.slice(one, PLACE + np.multiply(direction, z), PixelData=None, FloatPixelData=one.tobytes(), **tags)
            for one, z in zip(stored, along, strict=True)
        ]
    return series.stack(stored, [PLACE + np.multiply(direction, z) for z in along], **tags)


def test_a_gap_is_told_with_its_place_and_the_number_of_slices(series, refused):
    along = [0, 2, 4, 12, 14, 16]
    write(series, along, ramp(along, dtype=np.int16))
    refused(
        series.folder, "has a gap", "“002.dcm” and “003.dcm” lie 8.00 mm apart where 2.00 mm is usual",
        "3 slices are missing", "have it resampled",
    )  # fmt: skip
    (scan,) = find_scans(series.folder).scans
    assert (scan.images, scan.shape, scan.affine, scan.resampling) == (6, None, None, True)
    assert [path.name for path in scan.source] == [f"{k:03d}.dcm" for k in range(6)]


def test_several_gaps_are_counted(series, refused):
    along = [0, 2, 6, 8, 10, 16, 18, 20, 24]
    write(series, along, ramp(along, dtype=np.int16))
    refused(series.folder, "“004.dcm” and “005.dcm”", "and at 2 more places", "4 slices are missing")


@pytest.mark.parametrize("along", [[0, 2, 4, 8, 10], [0, 2, 4.5, 6, 8], [0, 2, 4, 6, 9.3, 10], [0, 5, 10, 25, 30]])
def test_a_ramp_is_interpolated_exactly(series, along):
    write(series, along, ramp(along))
    volume = read_volume(series.folder, resample=True)
    usual = np.median(np.diff(along))
    depth = round(along[-1] / usual) + 1
    assert volume.shape == (4, 2, depth)
    grid = np.linspace(0, along[-1], depth)
    np.testing.assert_allclose(volume.array, ramp(grid).transpose(2, 1, 0), rtol=1e-6)
    # The first slice stays where it is, and the last.
    np.testing.assert_allclose(apply_affine(volume.affine, (0, 0, 0)), PLACE * (-1, -1, 1))
    np.testing.assert_allclose(apply_affine(volume.affine, (0, 0, depth - 1)), PLACE * (-1, -1, 1) + (0, 0, along[-1]))
    made = sum(np.abs(np.subtract(along, z)).min() > 0.01 for z in grid)
    assert any(f"{made} of {depth} slices are interpolated" in notice for notice in volume.notices)
    assert volume.array.flags.f_contiguous


def test_measured_slices_are_kept_to_the_last_bit(series):
    along, rng = [0, 2, 4, 8, 10], np.random.default_rng(0)
    stored = rng.integers(-32768, 32768, (5, 2, 4)).astype(np.int16)
    write(series, along, stored)
    volume = read_volume(series.folder, resample=True)
    assert volume.array.dtype == np.int16
    np.testing.assert_array_equal(volume.array[:, :, [0, 1, 2, 4, 5]], stored.transpose(2, 1, 0))
    # Halves are rounded to even numbers, as numpy does.
    np.testing.assert_array_equal(volume.array[:, :, 3], np.round((stored[2].astype(float) + stored[3]) / 2).T)


def test_whole_numbers_stay_whole_and_of_their_type(series):
    along = [0, 2, 4, 8, 10]
    write(series, along, ramp(along, dtype=np.uint16), Modality="CT", RescaleSlope=1, RescaleIntercept=-1024)
    volume = read_volume(series.folder, resample=True)
    assert volume.array.dtype == np.int16
    np.testing.assert_array_equal(volume.array, ramp([0, 2, 4, 6, 8, 10]).transpose(2, 1, 0) - 1024)


def test_colours_are_interpolated_too(series):
    along = [0, 2, 4, 8, 10]
    stored = np.repeat(np.array(along, np.uint8)[:, None, None, None], 3, axis=3) * np.ones((2, 4, 1), np.uint8)
    series.stack(stored, [(0, 0, z) for z in along], SamplesPerPixel=3, PhotometricInterpretation="RGB",
                 PlanarConfiguration=0)  # fmt: skip
    volume = read_volume(series.folder, resample=True)
    assert volume.color.dtype == np.uint8
    assert volume.color[0, 0, :, 0].tolist() == [0, 2, 4, 6, 8, 10]
    assert volume.array[0, 0].tolist() == [0, 2, 4, 6, 8, 10]


def test_a_leaning_stack_keeps_its_shear(series):
    along, direction = [0, 2, 4, 8, 10], (0, np.sin(0.2), np.cos(0.2))
    write(series, along, ramp(along), direction)
    volume = read_volume(series.folder, resample=True)
    np.testing.assert_allclose(volume.affine[:3, 2], np.multiply(direction, (-2, -2, 2)), atol=1e-9)
    np.testing.assert_allclose(volume.array, ramp([0, 2, 4, 6, 8, 10]).transpose(2, 1, 0), rtol=1e-6)
    assert any("gantry tilt" in notice for notice in volume.notices)


def test_each_slice_is_scaled_before_it_is_mixed(series):
    along = [0, 2, 4, 8, 10]
    for k, z in enumerate(along):
        series.slice(np.full((2, 4), k + 1, np.int16), [-10, -20, z], RescaleSlope=0.5 * (k + 1))
    volume = read_volume(series.folder, resample=True)
    values = [0.5 * n * n for n in (1, 2, 3, 4, 5)]
    np.testing.assert_allclose(volume.array[0, 0], [*values[:3], (values[2] + values[3]) / 2, *values[3:]])


def test_resampling_changes_nothing_where_slices_are_even(series, stored):
    series.stack(stored, [(-10, -20, 5 * k) for k in range(5)])
    plain, asked = read_volume(series.folder), read_volume(series.folder, resample=True)
    np.testing.assert_array_equal(plain.array, asked.array)
    np.testing.assert_array_equal(plain.affine, asked.affine)
    assert plain.notices == asked.notices == ()


@pytest.mark.parametrize("along", [[0, 2, 4, 6, 20, 22], [0, 2, 4, 6, 8, 8.02, 100]])
def test_too_wide_a_gap_is_refused_all_the_same(series, refused, along):
    write(series, along, ramp(along, dtype=np.int16))
    refused(series.folder, "too wide to be interpolated", resample=True)


def test_resampling_mends_no_other_problem(series, stored, refused):
    series.stack(stored, [(3 if k == 2 else 0, 0, 5 * k) for k in range(5)])
    refused(series.folder, "straight line", resample=True)


def test_slices_off_the_line_are_not_mixed(series, stored, refused):
    series.stack(stored, [(3 if k == 2 else 0, 0, z) for k, z in enumerate((0, 5, 10, 20, 25))])
    refused(series.folder, "“002.dcm” is 3.0 mm off", resample=True)


def test_a_damaged_slice_beside_a_gap_is_not_interpolated_over(series, stored, refused):
    paths = series.stack(stored, [(0, 0, z) for z in (0, 5, 10, 20, 25)])
    paths[1].write_bytes(paths[1].read_bytes()[:-10])
    refused(series.folder, "001.dcm", "10 bytes of its pixel data are missing", resample=True)


def test_of_three_slices_the_smaller_step_is_the_usual_one(series, refused):
    write(series, [0, 5, 15], ramp([0, 5, 15]))
    refused(
        series.folder, "has a gap", "“001.dcm” and “002.dcm” lie 10.00 mm apart where 5.00 mm", "1 slice is missing"
    )
    volume = read_volume(series.folder, resample=True)
    np.testing.assert_allclose(volume.array, ramp([0, 5, 10, 15]).transpose(2, 1, 0), rtol=1e-6)
