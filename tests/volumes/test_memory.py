"""Reading holds the scan once: what is allocated at the peak, and what is refused because it cannot be held.

Numpy reports its memory to tracemalloc, and so do bytes; what decoders written in C take for one slice is not counted.
"""

from __future__ import annotations

import tracemalloc
from types import SimpleNamespace
from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, JPEG2000Lossless, RLELossless

from napari_gradcam import GradCamError, Volume, read_volume

if TYPE_CHECKING:
    from collections.abc import Callable

SLICES, SIZE = 40, 256
MOST = 1.3
RGB = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
CT = {"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": -1024}
PLACES = [(0, 0, 3 * k) for k in range(SLICES)]


def numbers(dtype: str = "<i2", *more: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 250, (SLICES, SIZE, SIZE, *more)).astype(dtype)


def bytes_of(volume: Volume) -> int:
    return volume.array.nbytes + (0 if volume.color is None else volume.color.nbytes)


def peak_of(read: Callable[[], Volume]) -> tuple[Volume, int]:
    """Read twice, and measure the second time: the first imports modules and fills caches."""
    read()
    tracemalloc.start()
    try:
        volume = read()
        return volume, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("syntax", [None, RLELossless, JPEG2000Lossless])
@pytest.mark.parametrize("bits", [12, 16])
def test_a_series_in_grey_is_held_once(series, syntax, bits):
    stored = numbers("<u2")
    for path in series.stack(stored, PLACES, **CT, BitsStored=bits, HighBit=bits - 1):
        if syntax is not None:
            dataset = dcmread(path)
            dataset.compress(syntax)
            dataset.save_as(path)
    volume, peak = peak_of(lambda: read_volume(series.folder))
    assert volume.array.dtype == np.int16
    assert peak < MOST * stored.nbytes


def test_fractions_are_held_once_and_never_as_float64(series):
    stored = numbers()
    series.stack(stored, PLACES, RescaleSlope=0.5, RescaleIntercept=3)
    volume, peak = peak_of(lambda: read_volume(series.folder))
    assert volume.array.dtype == np.float32
    assert peak < MOST * bytes_of(volume)  # float32 is twice as large as what is stored


def test_a_series_in_colours_is_held_once_beside_its_brightness(series):
    stored = numbers("u1", 3)
    series.stack(stored, PLACES, **RGB)
    volume, peak = peak_of(lambda: read_volume(series.folder))
    assert bytes_of(volume) == stored.nbytes * 4 // 3  # the brightness is a fourth channel
    assert peak < MOST * bytes_of(volume)


def test_an_enhanced_file_is_held_once(series, functional, repack):
    stored = numbers()
    path = series.frames(stored, [functional(place) for place in PLACES])
    assert peak_of(lambda: read_volume(path))[1] < MOST * stored.nbytes
    repack(path, ExplicitVRBigEndian, PixelData=stored.astype(">i2").tobytes())
    assert peak_of(lambda: read_volume(path))[1] < MOST * stored.nbytes


def test_a_deflated_file_is_let_go_once_it_is_unpacked(series, functional, repack):
    """Pydicom unpacks it as a whole, into pieces that are joined, and copies its pixels: four times at the worst."""
    stored = numbers()
    path = series.frames(stored, [functional(place) for place in PLACES])
    repack(path, DeflatedExplicitVRLittleEndian)
    volume, peak = peak_of(lambda: read_volume(path))
    np.testing.assert_array_equal(volume.array, stored.transpose(2, 1, 0))
    assert peak < 4 * stored.nbytes


@pytest.mark.parametrize("missing", [[20], [2, 3], [36, 35, 20, 8], list(range(1, 30, 3))])
@pytest.mark.parametrize("colors", [False, True])
def test_a_series_is_resampled_where_it_lies(series, missing, colors):
    stored, tags = numbers(*(("u1", 3) if colors else ())), RGB if colors else {}
    for k in sorted(set(range(SLICES)) - set(missing)):
        series.slice(stored[k], PLACES[k], **tags)
    volume, peak = peak_of(lambda: read_volume(series.folder, resample=True))
    assert volume.shape == (SIZE, SIZE, SLICES)
    assert peak < MOST * bytes_of(volume)


def test_a_series_that_is_widened_by_its_last_slice_is_there_twice_for_a_moment(series):
    """What it must be widened for stands in no header: its numbers are read into int16, as those of nearly all are."""
    stored = numbers("<u2")
    stored[-1, 0, 0] = 60000
    series.stack(stored, PLACES, **CT)
    volume, peak = peak_of(lambda: read_volume(series.folder))
    assert volume.array.dtype == np.int32
    assert peak < 1.6 * bytes_of(volume)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize(("slope", "dtype"), [(1, np.int16), (0.5, np.float32)])
def test_a_nifti_file_is_held_once(tmp_path, ending, slope, dtype):
    stored = np.concatenate([numbers()] * 3)  # unpacking takes 2 MB, of a file of any size
    image = nibabel.Nifti1Image(stored.T, np.eye(4))
    image.header.set_slope_inter(slope, 0)
    image.to_filename(tmp_path / f"a{ending}")
    volume, peak = peak_of(lambda: read_volume(tmp_path / f"a{ending}"))
    assert volume.array.dtype == dtype
    assert peak < MOST * bytes_of(volume)


def test_a_nifti_file_in_colours_is_held_once_beside_its_brightness(tmp_path):
    color = numbers("u1", 3).view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    nibabel.Nifti1Image(color.T, np.eye(4)).to_filename(tmp_path / "a.nii")
    volume, peak = peak_of(lambda: read_volume(tmp_path / "a.nii"))
    assert peak < MOST * bytes_of(volume)


# What is not free

FREE = SLICES * SIZE * SIZE * 3


@pytest.fixture
def short(monkeypatch):
    """Let three bytes be free for each voxel: enough for int16 and for bytes in colours alone."""
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=FREE))


@pytest.mark.parametrize(("slope", "fits"), [(1, True), (0.5, False)])
def test_what_is_read_decides_whether_it_fits_not_what_is_stored(series, tmp_path, refused, short, slope, fits):
    series.stack(numbers(), PLACES, RescaleSlope=slope, RescaleIntercept=0)
    image = nibabel.Nifti1Image(numbers().T, np.eye(4))
    image.header.set_slope_inter(slope, 0)
    image.to_filename(tmp_path / "a.nii")
    for path in (series.folder, tmp_path / "a.nii"):
        if fits:
            assert read_volume(path).array.dtype == np.int16
        else:
            refused(path, "needs 0.0 GiB of memory, more than is free")


def test_the_brightness_of_colours_must_fit_too(series, tmp_path, refused, short):
    stored = numbers("u1", 3)
    series.stack(stored, PLACES, **RGB)
    color = stored.view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    nibabel.Nifti1Image(color.T, np.eye(4)).to_filename(tmp_path / "a.nii")
    for path in (series.folder, tmp_path / "a.nii"):
        refused(path, "more than is free")


def test_memory_that_the_system_does_not_give_is_a_sentence(tmp_path, monkeypatch):
    nibabel.Nifti1Image(numbers()[:2].T, np.eye(4)).to_filename(tmp_path / "a.nii")
    monkeypatch.setattr(np, "empty", lambda *_, **__: (_ for _ in ()).throw(MemoryError))
    with pytest.raises(GradCamError, match="more than is free"):
        read_volume(tmp_path / "a.nii")
