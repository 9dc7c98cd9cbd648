"""Pixels in every packing and of every kind: exactly the numbers that numpy or pydicom gives, or a sentence."""

from __future__ import annotations

import shutil
import struct
from itertools import product

import imagecodecs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import convert_color_space
from pydicom.uid import (
    HTJ2K,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    ParametricMapStorage,
    RLELossless,
    UltrasoundMultiFrameImageStorage,
)

from napari_gradcam import GradCamError, read_volume
from napari_gradcam.volumes.dicom.header import read_header
from napari_gradcam.volumes.dicom.pixels import is_straight
from napari_gradcam.volumes.reading import find_scans
from napari_gradcam.volumes.values import Scaling, Values, brightness
from napari_gradcam.volumes.window import grey_limits

PLACE = (0, 0, 0)
UNPLACED = {"ImageOrientationPatient": None, "PixelSpacing": None, "SliceThickness": None}
FLOATS = {"PixelData": None, "PixelRepresentation": None, "BitsStored": None, "HighBit": None}
RNG = np.random.default_rng(7)


def everything(dtype: str, shape=(4, 6)) -> np.ndarray:
    """Any number of a type, its ends among them."""
    limits = np.iinfo(dtype)
    numbers = RNG.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)
    numbers.flat[:2] = limits.min, limits.max
    return numbers


def big_endian(stored: np.ndarray) -> bytes:
    """Turn numbers over byte by byte; those of one byte stand two by two in words, as VR OW has it (PS3.5, A.3)."""
    return (stored if stored.itemsize > 1 else stored.view(np.uint16)).byteswap().tobytes()


# Numbers as they are stored


@pytest.mark.parametrize(
    ("syntax", "dtype"),
    [
        *product(
            [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian],
            ["u1", "i1", "u2", "i2", "u4", "i4"],
        ),
        *product([RLELossless], ["u1", "i1", "u2", "i2"]),  # there is no RLE of 32 bits in grey
    ],
)
def test_whole_numbers_are_read_as_they_are_stored(series, repack, dtype, syntax):
    stored = everything(dtype)
    path = series.slice(stored, PLACE)
    if syntax == RLELossless:
        dataset = dcmread(path)
        dataset.compress(RLELossless)
        dataset.save_as(path)
    elif syntax != ExplicitVRLittleEndian:
        repack(path, syntax, PixelData=big_endian(stored) if syntax == ExplicitVRBigEndian else stored.tobytes())
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array[:, :, 0], stored.T)
    assert volume.array.dtype == stored.dtype
    assert volume.array.dtype.isnative
    assert is_straight(read_header(path)) == (syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize(("allocated", "bits"), [(8, 5), (16, 12), (16, 10), (32, 20)])
def test_rubbish_above_the_stored_bits_is_cleared_by_the_sign(series, repack, allocated, bits, signed, big):
    rubbish = everything(f"u{allocated // 8}")
    path = series.slice(
        rubbish.view(f"i{allocated // 8}") if signed else rubbish, PLACE, BitsStored=bits, HighBit=bits - 1
    )
    if big:
        repack(path, ExplicitVRBigEndian, PixelData=big_endian(rubbish))
    expected = rubbish.astype(np.int64) & ((1 << bits) - 1)
    if signed:
        expected -= (expected >> (bits - 1)) << bits
    np.testing.assert_array_equal(read_volume(path).array[:, :, 0], expected.T)


@pytest.mark.parametrize("high", [11, 13, 15])
@pytest.mark.parametrize("signed", [False, True])
def test_numbers_are_taken_from_the_bits_they_stand_in(series, repack, refused, high, signed):
    """ACR-NEMA let numbers of 12 bits end at bit 15, with an overlay in the bits below."""
    stored = RNG.integers(-2048 if signed else 0, 2048, (4, 6)).astype(np.int16 if signed else np.uint16)
    around = RNG.integers(0, 65536, (4, 6)).astype(np.uint16) & ~np.uint16(0xFFF << (high - 11))
    raw = ((stored.view(np.uint16) & 0xFFF) << (high - 11)) | around
    path = series.slice(raw.view(stored.dtype), PLACE, BitsStored=12, HighBit=high)
    np.testing.assert_array_equal(read_volume(path).array[:, :, 0], stored.T)
    repack(path, ExplicitVRBigEndian, PixelData=big_endian(raw))
    if high == 11:
        np.testing.assert_array_equal(read_volume(path).array[:, :, 0], stored.T)
    else:
        refused(path, f"12 bits end at bit {high}")


@pytest.mark.parametrize("high", [0, 3, 16, 99])
def test_a_high_bit_that_cannot_be_is_no_matter(series, high):
    stored = everything("u2") >> 4
    path = series.slice(stored, PLACE, BitsStored=12, HighBit=high)
    np.testing.assert_array_equal(read_volume(path).array[:, :, 0], stored.T)


@pytest.mark.parametrize("keyword", ["FloatPixelData", "DoubleFloatPixelData"])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_floating_point_pixels_in_every_byte_order(series, repack, keyword, syntax):
    stored = RNG.normal(0, 1e5, (4, 6)).astype(np.float32 if keyword == "FloatPixelData" else np.float64)
    path = series.slice(stored, PLACE, **FLOATS, **{keyword: stored.tobytes()})
    repack(path, syntax, **{keyword: big_endian(stored) if syntax == ExplicitVRBigEndian else stored.tobytes()})
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array[:, :, 0], stored.T.astype(np.float32))
    assert volume.array.dtype == np.float32


def test_numbers_that_are_none_are_set_to_zero_and_counted(series):
    stored = np.ones((10, 10), np.float32)
    stored[0, :3] = np.nan, np.inf, -np.inf
    path = series.slice(stored, PLACE, **FLOATS, FloatPixelData=stored.tobytes())
    volume = read_volume(path)
    assert (volume.array == 0).sum() == 3
    assert any(notice.startswith("3 voxels (3 %) hold no number") for notice in volume.notices)


@settings(derandomize=True, max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_straight_way_gives_what_pydicoms_decoder_gives(series, data):
    """Any size, type and scaling: the values, and the smallest type of those that `Values` promises."""
    shutil.rmtree(series.folder, ignore_errors=True)
    allocated = data.draw(st.sampled_from([8, 16, 32]))
    bits, signed = data.draw(st.integers(1, allocated)), data.draw(st.booleans())
    shape = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 7)))
    number = np.dtype(f"{'i' if signed else 'u'}{allocated // 8}")
    limits = np.iinfo(number)
    depth = data.draw(st.integers(1, 3))
    # Slope 1 and -1 keep whole numbers whole, and 2 those of 32 bits; an intercept of a fraction does not.
    scalings = data.draw(
        st.lists(
            st.tuples(
                st.sampled_from([1, 1, 1, -1, 2, 0.5]),
                st.one_of(st.just(0), st.sampled_from([-1024, 40000, 0.25]), st.integers(-(2**20), 2**20)),
            ),
            min_size=depth, max_size=depth,
        )
    )  # fmt: skip
    decoded = []
    for k, (slope, intercept) in enumerate(scalings):
        count = shape[0] * shape[1]
        numbers = data.draw(st.lists(st.integers(limits.min, limits.max), min_size=count, max_size=count))
        stored = np.array(numbers, number).reshape(shape)
        padded = stored.tobytes() + b"\0" * (stored.nbytes % 2)
        path = series.slice(
            stored, (0, 0, k), BitsStored=bits, HighBit=bits - 1, RescaleSlope=slope, RescaleIntercept=intercept,
            PixelData=padded,
        )  # fmt: skip
        assert is_straight(read_header(path))
        dataset = dcmread(path)
        decoded.append(get_decoder(ExplicitVRLittleEndian).as_array(dataset, raw=True)[0].reshape(shape))
    volume = read_volume(series.folder)
    exact = np.stack([one.astype(np.float64) * s + i for one, (s, i) in zip(decoded, scalings, strict=True)])
    kept = (1, -1, 2) if allocated == 32 else (1, -1)
    whole = all(slope in kept and intercept % 1 == 0 for slope, intercept in scalings)
    if not whole:
        expected = np.float32
    elif all(tuple(scaling) == (1, 0) for scaling in scalings):
        expected = number
    elif np.abs(exact + 0.5).max() <= 2**15:
        expected = np.int16
    else:
        expected = np.int32 if np.abs(exact + 0.5).max() <= 2**31 else np.int64
    assert volume.array.dtype == expected
    np.testing.assert_array_equal(volume.array, exact.astype(expected).transpose(2, 1, 0))


@pytest.mark.parametrize("stored", ["u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8"])
@pytest.mark.parametrize("scaling", [(1, 0), (1, -1024), (-1, 7), (0.5, 0)])
def test_a_place_for_stored_numbers_is_of_their_type_or_none(stored, scaling):
    dtype = np.dtype(stored)
    lowest, highest = (np.iinfo(dtype).min, np.iinfo(dtype).max) if dtype.kind in "iu" else (-np.inf, np.inf)
    whole = Scaling(*scaling, float(lowest), float(highest))
    values = Values((2, 3, 4), dtype, [whole, whole])
    place = values.target(1, dtype)
    numbers = everything(stored, (3, 4)) if dtype.kind in "iu" else RNG.normal(size=(3, 4)).astype(dtype)
    values.put(1, numbers.copy(), whole)
    expected = values.array()[:, :, 1].copy()
    if place is None:
        return
    assert place.dtype == dtype
    again = Values((2, 3, 4), dtype, [whole, whole])
    place = again.target(1, dtype)
    place[...] = numbers
    again.put(1, place, whole)
    np.testing.assert_array_equal(again.array()[:, :, 1], expected)
    np.testing.assert_allclose(expected.T, numbers.astype(np.float64) * scaling[0] + scaling[1], rtol=1e-6)


# Values


@pytest.mark.parametrize(
    ("extreme", "dtype"), [(32767, np.int16), (32768, np.int32), (-32768, np.int16), (-32769, np.int32)]
)
def test_a_volume_is_widened_by_the_first_value_that_does_not_fit(series, extreme, dtype):
    stored = np.zeros((3, 4, 6), np.int32)
    stored[1, 2, 3] = extreme + 1024
    tags = {"BitsStored": 20, "HighBit": 19, "RescaleSlope": 1, "RescaleIntercept": -1024}
    series.stack(stored, [(0, 0, 5 * k) for k in range(3)], **tags)
    volume = read_volume(series.folder)
    assert volume.array.dtype == dtype
    np.testing.assert_array_equal(volume.array, stored.transpose(2, 1, 0) - 1024)


@pytest.mark.parametrize("dtype", ["u4", "i4"])
@pytest.mark.parametrize(("slope", "intercept"), [(1, -1024), (1, 1), (-1, 7), (3, -5)])
def test_whole_numbers_of_32_bits_stay_exact(series, dtype, slope, intercept):
    """float32 holds 24 binary digits, and would make 20,000,001 of a count of 20,000,002."""
    large, any_number = np.full((4, 6), 20_000_001, dtype), everything(dtype)
    large[1] = 20_000_003
    tags = {"RescaleSlope": slope, "RescaleIntercept": intercept}
    for stored, wider in ((large, np.int32), (any_number, np.int64)):
        volume = read_volume(series.slice(stored, PLACE, **tags))
        np.testing.assert_array_equal(volume.array[:, :, 0], stored.T.astype(np.int64) * slope + intercept)
        assert volume.array.dtype == wider
        assert not any("rounded" in notice for notice in volume.notices)


def test_a_volume_of_counts_is_widened_to_64_bits_by_the_slice_that_needs_them(series):
    stored = np.arange(3 * 24, dtype=np.uint32).reshape(3, 4, 6)
    stored[1, 0, 0], stored[2, 0, 0] = 100_000, 2**32 - 1
    series.stack(stored, [(0, 0, 5 * k) for k in range(3)], RescaleSlope=1, RescaleIntercept=1)
    volume = read_volume(series.folder)
    np.testing.assert_array_equal(volume.array, stored.transpose(2, 1, 0).astype(np.int64) + 1)
    assert volume.array.dtype == np.int64


def test_counts_that_a_fraction_scales_are_said_to_be_rounded_only_where_they_were(series):
    stored = np.array([[2**30 + 1, 5]], np.int32)
    tags = {"RescaleSlope": 0.5, "RescaleIntercept": 0}
    volume = read_volume(series.slice(stored, PLACE, **tags))
    assert float(volume.array[0, 0, 0]) == 0.5 * 2**30
    assert [notice for notice in volume.notices if "rounded" in notice] == [
        "The numbers have more digits than 32-bit fractions keep: values were rounded by up to 32."
    ]
    volume = read_volume(series.slice(stored >> 7, PLACE, **tags))
    np.testing.assert_array_equal(volume.array[:, :, 0], (stored >> 7).T * 0.5)
    assert not any("rounded" in notice for notice in volume.notices)


def test_a_modality_table_gives_the_values(series, functional):
    stored = np.arange(24, dtype=np.uint16).reshape(4, 6)
    table = functional(ModalityLUTSequence={}).ModalityLUTSequence[0]
    table.add_new("LUTDescriptor", "US", [20, 2, 16])  # 20 entries, the first for a stored 2
    entries = (np.arange(20) ** 2 * 100).astype(np.uint16)
    table.ModalityLUTType = "HU"
    table.add_new("LUTData", "OW", entries.tobytes())
    volume = read_volume(series.slice(stored, PLACE, ModalityLUTSequence=[table]))
    # What lies before the first entry or behind the last takes that one (PS3.3 C.11.1.1.1).
    np.testing.assert_array_equal(volume.array[:, :, 0], entries[np.clip(stored.astype(int) - 2, 0, 19)].T)
    assert volume.array.dtype == np.uint16


def test_a_parametric_map_is_in_real_world_values(series, functional):
    stored = np.arange(48, dtype=np.uint16).reshape(2, 4, 6)
    mapping = {"RealWorldValueMappingSequence": {"RealWorldValueSlope": 0.25, "RealWorldValueIntercept": -2.0}}
    groups = [functional((0, 0, 3 * k), **mapping) for k in range(2)]
    volume = read_volume(series.frames(stored, groups, SOPClassUID=ParametricMapStorage))
    np.testing.assert_array_equal(volume.array, stored.transpose(2, 1, 0) * np.float32(0.25) - 2)


def test_a_parametric_map_by_a_table_is_refused_rather_than_shown_as_stored(series, functional, refused):
    stored = np.arange(48, dtype=np.uint16).reshape(2, 4, 6)
    mapping = {"RealWorldValueMappingSequence": {"RealWorldValueLUTData": [1.0, 2.0]}}
    groups = [functional((0, 0, 3 * k), **mapping) for k in range(2)]
    refused(series.frames(stored, groups, SOPClassUID=ParametricMapStorage), "Real World Value LUT")


def test_a_parametric_map_of_floating_point_numbers(series, functional):
    stored = RNG.normal(size=(2, 4, 6)).astype(np.float32)
    groups = [functional((0, 0, 3 * k)) for k in range(2)]
    path = series.frames(
        stored, groups, SOPClassUID=ParametricMapStorage, **{**FLOATS, "FloatPixelData": stored.tobytes()}
    )
    np.testing.assert_array_equal(read_volume(path).array, stored.transpose(2, 1, 0))


def test_padding_is_said_and_kept_where_nothing_is_turned_over(series):
    stored = np.arange(100, dtype=np.int16).reshape(10, 10)
    stored[:3] = -2000
    path = series.slice(stored, PLACE, Modality="CT", PixelPaddingValue=-2000)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array[:, :, 0], stored.T)
    assert any(notice.startswith("30 % of the voxels are padding") for notice in volume.notices)


def test_padding_is_a_range_where_there_is_a_limit(series):
    stored = np.arange(100, dtype=np.uint16).reshape(10, 10)
    path = series.slice(stored, PLACE, PixelPaddingValue=10, PixelPaddingRangeLimit=5)
    assert any(notice.startswith("6 % of the voxels are padding") for notice in read_volume(path).notices)


def test_nothing_but_padding_is_said_in_plain_numbers(series):
    path = series.slice(np.full((10, 10), 7, np.uint16), PLACE, PixelPaddingValue=7)
    assert any(notice.startswith("100 % of the voxels are padding") for notice in read_volume(path).notices)


@pytest.mark.parametrize("kind", ["Float", "DoubleFloat"])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize(
    ("padding", "limit"), [(-3.4e38, None), (-5.0, -7.0), (np.nan, None), (np.inf, None), (-np.inf, -3.4e38)]
)
def test_padding_of_floating_point_pixels_is_the_lowest_that_was_measured(series, repack, kind, syntax, padding, limit):
    """As low as numbers go, it would leave one shade of grey for all that was measured, and a network nothing."""
    number = np.float32 if kind == "Float" else np.float64
    measured = RNG.uniform(0, 1, (3, 10, 10)).astype(number)
    stored, where = measured.copy(), np.zeros(measured.shape, bool)
    where[0], where[2, :3] = True, True  # one slice holds nothing else, one nothing of it
    stored[where] = padding if limit is None else np.where(RNG.random(where.sum()) < 0.5, padding, limit)
    tags = {**FLOATS, f"{kind}PixelPaddingValue": padding, f"{kind}PixelPaddingRangeLimit": limit}
    tags |= {"RescaleSlope": 2, "RescaleIntercept": -1}
    for k in range(3):
        pixels = {f"{kind}PixelData": stored[k].tobytes()}
        path = series.slice(stored[k], (0, 0, 5 * k), **tags, **pixels)
        if syntax == ExplicitVRBigEndian:
            repack(path, syntax, **{f"{kind}PixelData": big_endian(stored[k])})
    volume = read_volume(series.folder)
    expected = (measured.astype(np.float64) * 2 - 1).astype(np.float32)
    expected[where] = expected[~where].min()
    np.testing.assert_array_equal(volume.array, expected.transpose(2, 1, 0))
    assert volume.notices == (
        "43 % of the voxels are padding, which nobody measured (Pixel Padding Value), and were set to the lowest "
        "measured value.",
    )
    low, high = grey_limits(volume)
    assert -1.1 < low < high < 1.1


def test_floating_point_pixels_of_nothing_but_padding_are_zero(series):
    stored = np.full((10, 10), -3.4e38, np.float32)
    tags = {**FLOATS, "FloatPixelPaddingValue": -3.4e38, "FloatPixelData": stored.tobytes()}
    volume = read_volume(series.slice(stored, PLACE, **tags))
    assert not volume.array.any()
    assert any(notice.startswith("100 % of the voxels are padding") for notice in volume.notices)


def test_padding_is_not_mixed_into_slices_that_are_resampled(series):
    stored = np.ones((4, 10, 10), np.float32)
    stored[:, :5] = -3.4e38
    for pixels, along in zip(stored, (0, 5, 10, 20), strict=True):
        tags = {**FLOATS, "FloatPixelPaddingValue": -3.4e38, "FloatPixelData": pixels.tobytes()}
        series.slice(pixels, (0, 0, along), **tags)
    np.testing.assert_array_equal(read_volume(series.folder, resample=True).array, np.ones((10, 10, 5)))


@pytest.mark.parametrize(
    ("modality", "told"),
    [
        ("DX", "The file stores bright as low in 2 of 5 slices (MONOCHROME1): its values were turned over there,"),
        ("CT", "The file asks to be shown inverted in 2 of 5 slices (MONOCHROME1): its values are kept,"),
    ],
)
def test_only_the_slices_that_are_turned_over_are_spoken_of(series, stored, modality, told):
    for k, slice_ in enumerate(stored.astype(np.uint16)):
        tags = {"PhotometricInterpretation": "MONOCHROME1"} if k in (1, 2) else {}
        series.slice(slice_, (0, 0, 5 * k), Modality=modality, **tags)
    volume = read_volume(series.folder)
    expected = stored.astype(int)
    if modality == "DX":
        expected[1:3] = 65535 - expected[1:3]
    np.testing.assert_array_equal(volume.array, expected.transpose(2, 1, 0))
    assert [notice for notice in volume.notices if notice.startswith(told)]


def test_padding_of_a_picture_turned_over_stays_dark(series):
    stored = np.arange(100, dtype=np.uint16).reshape(10, 10)
    stored[0] = 4095
    tags = {"Modality": "DX", "PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12, "HighBit": 11}
    volume = read_volume(series.slice(stored, PLACE, PixelPaddingValue=0, PixelPaddingRangeLimit=20, **tags))
    expected = 4095 - stored.astype(int)
    expected[stored <= 20] = 0
    np.testing.assert_array_equal(volume.array[:, :, 0], expected.T)
    tags["Modality"] = "CT"  # whose values mean something by themselves
    np.testing.assert_array_equal(read_volume(series.slice(stored, PLACE, **tags)).array[:, :, 0], stored.T)


def test_loss_is_said(series, stored):
    path = series.slice(stored[0], PLACE, LossyImageCompression="01")
    assert "The pictures were compressed with loss." in read_volume(path).notices
    assert not any("loss" in notice for notice in read_volume(series.slice(stored[0], PLACE)).notices)


# Single bits


@pytest.mark.parametrize("shape", [(1, 4, 6), (2, 8, 8), (3, 3, 3), (5, 5, 7)])
def test_single_bits_are_unpacked_lowest_first(series, shape):
    bits = RNG.integers(0, 2, shape).astype(np.uint8)
    packed = np.packbits(bits, axis=None, bitorder="little").tobytes()
    path = series.slice(
        bits[0], None, **UNPLACED, BitsAllocated=1, BitsStored=1, HighBit=0, NumberOfFrames=shape[0],
        PixelData=packed + b"\0" * (len(packed) % 2),
    )  # fmt: skip
    for frame in range(shape[0]):
        np.testing.assert_array_equal(read_volume(path, frame=frame + 1).array[:, :, 0], bits[frame].T)


# Frames one after another


@pytest.fixture
def cine(series):
    stored = everything("u1", (4, 6, 8))
    path = series.slice(
        stored[0], None, **UNPLACED, SOPClassUID=UltrasoundMultiFrameImageStorage, Modality="US", NumberOfFrames=4,
        PixelData=stored.tobytes(),
    )  # fmt: skip
    return path, stored


def test_a_cine_is_read_frame_by_frame(cine):
    path, stored = cine
    (scan,) = find_scans(path).scans
    assert (scan.frames, scan.images, scan.shape, scan.in_patient_space) == (4, 4, (8, 6, 1), False)
    np.testing.assert_array_equal(scan.read(3).array[:, :, 0], stored[2].T)
    np.testing.assert_array_equal(read_volume(path, frame=2).array[:, :, 0], stored[1].T)
    first = read_volume(path)
    np.testing.assert_array_equal(first.array[:, :, 0], stored[0].T)
    assert first.notices[0] == "The file holds 4 frames one after another; this is frame 1."


@pytest.mark.parametrize("frame", [0, -1, 5])
def test_a_frame_that_is_not_there_is_refused(cine, refused, frame):
    refused(cine[0], "holds 4 frames", f"there is no frame {frame}", frame=frame)


def test_a_volume_is_one_frame(series, stored, refused):
    series.stack(stored, [(0, 0, 5 * k) for k in range(5)])
    assert read_volume(series.folder, frame=1).notices == ()
    refused(series.folder, "holds one frame", "no frame 2", frame=2)


@pytest.mark.parametrize("extended", [False, True])
def test_frames_of_a_compressed_cine_are_found_with_and_without_offsets(cine, extended):
    path, stored = cine
    dataset = dcmread(path)
    dataset.compress(RLELossless)
    if extended:
        frames = list(generate_frames(dataset.PixelData, number_of_frames=4))
        dataset.PixelData, dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = encapsulate_extended(
            frames
        )
    dataset.save_as(path)
    for frame in (4, 1, 3):
        np.testing.assert_array_equal(read_volume(path, frame=frame).array[:, :, 0], stored[frame - 1].T)


def test_a_still_without_a_place_is_drawn_to_the_scale_of_its_ultrasound_region(series, functional):
    region = functional(
        SequenceOfUltrasoundRegions={
            "PhysicalUnitsXDirection": 3, "PhysicalUnitsYDirection": 3, "PhysicalDeltaX": 0.02, "PhysicalDeltaY": -0.03,
        }
    )  # fmt: skip
    stored = everything("u1")
    volume = read_volume(
        series.slice(
            stored, None, **UNPLACED, Modality="US", SequenceOfUltrasoundRegions=region.SequenceOfUltrasoundRegions
        )
    )
    assert volume.spacing == pytest.approx((0.2, 0.3, 1))
    assert any("inside of the ultrasound picture" in notice for notice in volume.notices)


# Colours

RGB = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}


def grey(color: np.ndarray) -> np.ndarray:
    """Y of ITU-R BT.601, in fractions."""
    return color @ (0.299, 0.587, 0.114)


def check_color(volume, color: np.ndarray) -> None:
    """Prove that the volume has these colours, ``(row, column, 3)``, and their brightness."""
    assert volume.color.dtype == np.uint8
    assert volume.array.dtype == np.uint8
    assert volume.window is None
    np.testing.assert_array_equal(volume.color[:, :, 0], color.transpose(1, 0, 2))
    assert np.abs(volume.array[:, :, 0] - grey(color).T).max() <= 0.51


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("placed", [True, False])
def test_red_green_and_blue(series, planar, placed):
    color = everything("u1", (4, 6, 3))
    pixels = color.transpose(2, 0, 1) if planar else color
    tags = {**RGB, "PlanarConfiguration": planar, "PixelData": pixels.tobytes(), **({} if placed else UNPLACED)}
    volume = read_volume(series.slice(color, PLACE if placed else None, WindowCenter=5, WindowWidth=9, **tags))
    check_color(volume, color)
    assert volume.in_patient_space == placed


def test_slices_in_colours_are_a_volume(series):
    color = everything("u1", (5, 4, 6, 3))
    for k in (3, 1, 0, 4, 2):
        series.slice(color[k], (0, 0, 5 * k), **RGB)
    volume = read_volume(series.folder)
    assert volume.color.shape == (6, 4, 5, 3)
    np.testing.assert_array_equal(volume.color, color.transpose(2, 1, 0, 3))


def test_slices_in_grey_and_in_colours_are_two_scans(series, stored):
    color = everything("u1", (2, 4, 6, 3))
    for k in range(2):
        series.slice(color[k], (0, 0, 5 * k), **RGB)
    series.stack(stored, [(0, 0, 5 * k) for k in range(5)])
    first, second = (scan.read() for scan in find_scans(series.folder).scans)
    np.testing.assert_array_equal(first.color, color.transpose(2, 1, 0, 3))
    np.testing.assert_array_equal(second.array, stored.transpose(2, 1, 0))
    assert second.color is None


def test_sixteen_bit_colours_are_brought_to_bytes(series):
    color = everything("u2", (4, 6, 3))
    check_color(read_volume(series.slice(color, PLACE, **RGB)), (color >> 8).astype(np.uint8))
    twelve = color >> 4
    path = series.slice(twelve, PLACE, **RGB, BitsStored=12, HighBit=11)
    check_color(read_volume(path), (twelve >> 4).astype(np.uint8))


def test_brightness_and_colour_differences_become_red_green_and_blue(series):
    ybr = everything("u1", (4, 6, 3))
    expected = convert_color_space(ybr, "YBR_FULL", "RGB")
    volume = read_volume(series.slice(ybr, PLACE, **{**RGB, "PhotometricInterpretation": "YBR_FULL"}))
    check_color(volume, expected)
    greys = np.full((4, 6, 3), 128, np.uint8)
    greys[..., 0] = np.arange(24).reshape(4, 6) * 11
    volume = read_volume(series.slice(greys, PLACE, **{**RGB, "PhotometricInterpretation": "YBR_FULL"}))
    np.testing.assert_array_equal(volume.array[:, :, 0], greys[..., 0].T)


def test_halved_colour_differences_are_spread_over_two_pixels(series):
    ybr = everything("u1", (4, 6, 3))
    ybr[:, 1::2, 1:] = ybr[:, ::2, 1:]
    pairs = np.stack([ybr[:, ::2, 0], ybr[:, 1::2, 0], ybr[:, ::2, 1], ybr[:, ::2, 2]], axis=-1)
    tags = {**RGB, "PhotometricInterpretation": "YBR_FULL_422", "PixelData": pairs.tobytes()}
    check_color(read_volume(series.slice(ybr, PLACE, **tags)), convert_color_space(ybr, "YBR_FULL", "RGB"))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("first", [0, 3])
def test_a_palette_gives_its_colours(series, bits, first):
    stored = np.arange(24, dtype=np.uint8).reshape(4, 6)
    entries = RNG.integers(0, 1 << bits, (20, 3)).astype(np.uint8 if bits == 8 else np.uint16)
    tags = {"PhotometricInterpretation": "PALETTE COLOR"}
    path = series.slice(stored, PLACE, **tags)
    dataset = dcmread(path)
    for channel, name in enumerate(("Red", "Green", "Blue")):
        dataset.add_new(f"{name}PaletteColorLookupTableDescriptor", "US", [20, first, bits])
        dataset.add_new(f"{name}PaletteColorLookupTableData", "OW", entries[:, channel].tobytes())
    dataset.save_as(path)
    expected = entries[np.clip(stored.astype(int) - first, 0, 19)] >> (bits - 8)
    check_color(read_volume(path), expected.astype(np.uint8))


@pytest.mark.parametrize("said", [8, 16])
@pytest.mark.parametrize("most", [255, 256])
def test_a_palette_of_bytes_in_words_is_not_shifted_to_black(series, said, most):
    """Whatever the descriptor says: a palette of 16 bits whose brightest entry is 255 would be black everywhere."""
    entries = np.zeros((20, 3), np.uint16)
    entries[:5], entries[12] = 77, most  # of all entries, those that no pixel asks for too
    tags = {"PhotometricInterpretation": "PALETTE COLOR"}
    for channel, name in enumerate(("Red", "Green", "Blue")):
        tags[f"{name}PaletteColorLookupTableDescriptor"] = [20, 0, said]
        tags[f"{name}PaletteColorLookupTableData"] = entries[:, channel].tobytes()
    volume = read_volume(series.slice(np.arange(10, dtype=np.uint8).reshape(2, 5), PLACE, **tags))
    assert volume.color[:, :, 0].max() == (77 if most == 255 else 0)


def test_the_transparency_of_a_palette_is_left_out(series):
    entries = RNG.integers(0, 256, (256, 4)).astype(np.uint8)
    tags = {"PhotometricInterpretation": "PALETTE COLOR"}
    for channel, name in enumerate(("Red", "Green", "Blue", "Alpha")):
        if name != "Alpha":
            tags[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 8]
        tags[f"{name}PaletteColorLookupTableData"] = entries[:, channel].tobytes()
    stored = everything("u1")
    check_color(read_volume(series.slice(stored, PLACE, **tags)), entries[stored][..., :3])


@pytest.mark.parametrize("shape", [(3,), (0, 3), (5, 3), (300, 200, 3), (1, 300, 200, 3), (2, 1, 30000, 3)])
@pytest.mark.parametrize("turned", [False, True])
def test_brightness_is_the_same_in_any_layout(shape, turned):
    color = everything("u1", (*shape[:-1], 5))[..., 1:4] if 0 not in shape else np.empty(shape, np.uint8)
    if turned:
        color = np.moveaxis(np.ascontiguousarray(np.moveaxis(color, -1, 0).T), -1, 0).T
    bright = brightness(color)
    assert bright.shape == shape[:-1]
    assert bright.dtype == np.uint8
    assert np.abs(bright - grey(color)).max(initial=0) <= 0.51


def test_brightness_is_that_of_bt_601_and_exact_for_greys():
    color = everything("u1", (50, 40, 3))
    assert np.abs(brightness(color) - grey(color)).max() <= 0.51
    greys = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    np.testing.assert_array_equal(brightness(greys), np.arange(256))


COLOR_FILES = [
    "examples_palette.dcm", "examples_rgb_color.dcm", "examples_ybr_color.dcm", "examples_jpeg2k.dcm", "SC_rgb_rle.dcm",
    "SC_rgb_rle_2frame.dcm", "SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_dcmtk_+eb+cr.dcm", "SC_rgb_dcmtk_+eb+cy+np.dcm",
    "SC_rgb_jpeg_gdcm.dcm", "SC_rgb_gdcm_KY.dcm", "SC_rgb_jls_lossy_line.dcm", "SC_ybr_full_422_uncompressed.dcm",
    "SC_rgb_small_odd.dcm", "SC_rgb_small_odd_big_endian.dcm", "SC_rgb_small_odd_jpeg.dcm", "GDCMJ2K_TextGBR.dcm",
    "SC_jpeg_no_color_transform.dcm", "SC_jpeg_no_color_transform_2.dcm", "SC_rgb_rle_16bit.dcm",
    "SC_rgb_rle_32bit.dcm", "ExplVR_BigEnd.dcm",
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("name", COLOR_FILES)
def test_colours_of_pydicoms_files_are_those_that_pydicom_gives(pydicom_file, name):
    path = pydicom_file(name)
    dataset = dcmread(path)
    if name == "examples_palette.dcm":
        from pydicom.pixels import apply_color_lut

        expected = apply_color_lut(dataset.pixel_array, dataset) >> 8
    else:
        expected = dataset.pixel_array
        expected = expected[0] if expected.ndim == 4 else expected
        expected = expected >> (dataset.BitsStored - 8)
    check_color(read_volume(path), expected.astype(np.uint8))


# Compressed pictures

GREY_FILES = [
    "693_J2KI.dcm", "J2K_pixelrep_mismatch.dcm", "JPEG2000.dcm", "MR_small_jp2klossless.dcm", "JPGExtended.dcm",
    "JPEGLSNearLossless_08.dcm", "JPEGLSNearLossless_16.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_RLE.dcm",
    "image_dfl.dcm", "examples_overlay.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm",
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("name", GREY_FILES)
def test_greys_of_pydicoms_files_are_those_that_pydicom_gives(pydicom_file, name):
    path = pydicom_file(name)
    dataset = dcmread(path)
    expected = dataset.pixel_array * float(dataset.get("RescaleSlope", 1)) + float(dataset.get("RescaleIntercept", 0))
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array[:, :, 0], expected.T)
    assert volume.color is None


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("name", [*GREY_FILES[:4], "examples_jpeg2k.dcm", "SC_rgb_gdcm_KY.dcm"])
def test_three_decoders_of_jpeg_2000_decode_alike(pydicom_file, name):
    dataset = dcmread(pydicom_file(name))
    decoder = get_decoder(dataset.file_meta.TransferSyntaxUID)
    ours, *others = (
        decoder.as_array(dataset, decoding_plugin=name)[0] for name in ("imagecodecs", "pillow", "pylibjpeg")
    )
    for other in others:
        np.testing.assert_array_equal(ours, other)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless])
def test_a_picture_whose_end_is_missing_is_refused_though_decoders_would_make_it_up(series, stored, refused, syntax):
    path = series.slice(everything("u2", (40, 36)), PLACE)
    dataset = dcmread(path)
    dataset.compress(syntax)
    whole = next(generate_frames(dataset.PixelData, number_of_frames=1))
    dataset.PixelData = encapsulate([whole[: len(whole) // 2 * 2 - 8]])
    dataset.save_as(path)
    refused(path, "the end of its picture is missing")


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless])
@pytest.mark.parametrize("dtype", ["u1", "u2", "i2"])
def test_what_is_compressed_without_loss_comes_back(series, syntax, dtype):
    if syntax == JPEG2000Lossless:
        pytest.importorskip("openjpeg")
    stored = everything(dtype, (3, 40, 36))
    for k, path in enumerate(series.stack(stored, [(0, 0, k) for k in range(3)])):
        dataset = dcmread(path)
        dataset.compress(syntax)
        dataset.save_as(path)
        assert not is_straight(read_header(path)), k
    np.testing.assert_array_equal(read_volume(series.folder).array, stored.transpose(2, 1, 0))


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.1.98", "1.2.3.4"])
def test_a_packing_that_nothing_decodes_is_refused(series, stored, refused, repack, syntax):
    path = series.slice(stored[0], PLACE)
    dataset = dcmread(path)
    dataset.PixelData = encapsulate([stored[0].tobytes()])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    raw = path.read_bytes()
    field = struct.pack("<HH2sH", 2, 0x10, b"UI", 20) + b"1.2.840.10008.1.2.1\0"
    assert raw.count(field) == 1
    new = syntax.encode() + b"\0" * (len(syntax) % 2)
    changed = raw.replace(field, struct.pack("<HH2sH", 2, 0x10, b"UI", len(new)) + new)
    # The length of the meta header is the first number in it.
    length = struct.unpack_from("<I", changed, 140)[0] + len(new) - 20
    path.write_bytes(changed[:140] + struct.pack("<I", length) + changed[144:])
    refused(path, "000.dcm", "cannot be decoded")


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless])
def test_damage_inside_of_a_compressed_picture_is_a_sentence_or_no_matter(series, syntax):
    """Not every flipped bit can be found, but none may end in anything else; decoders in Rust panic."""
    stored = (np.arange(40 * 36) % 251).astype(np.uint16).reshape(40, 36)
    path = series.slice(stored, PLACE)
    dataset = dcmread(path)
    dataset.compress(syntax)
    dataset.save_as(path)
    whole, rng = path.read_bytes(), np.random.default_rng(3)
    start = read_header(path).pixels.start + 24
    ends = []
    for place in rng.integers(start, len(whole) - 8, 40):
        broken = bytearray(whole)
        broken[place : place + 4] = rng.bytes(4)
        path.write_bytes(broken)
        try:
            ends.append(read_volume(path).array.size == stored.size)
        except GradCamError as error:
            ends.append("000.dcm" in str(error))
    assert len(ends) == 40
    assert all(ends)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, RLELossless])
def test_half_a_compressed_picture_is_refused(series, refused, syntax):
    path = series.slice(everything("u2", (40, 36)), PLACE)
    dataset = dcmread(path)
    dataset.compress(syntax)
    whole = next(generate_frames(dataset.PixelData, number_of_frames=1))
    dataset.PixelData = encapsulate([whole[: len(whole) // 2]])
    dataset.save_as(path)
    refused(path, "000.dcm", "cannot be decoded")


def test_a_small_file_that_says_it_is_huge_is_refused_before_it_is_decoded(series, refused):
    stored = everything("u1", (16, 20))
    path = series.slice(stored, PLACE)
    dataset = dcmread(path)
    dataset.compress(RLELossless)
    dataset.Rows = dataset.Columns = 60000
    dataset.save_as(path)
    refused(path, "000.dcm", "cannot be a picture of 3,600,000,000")


def test_fewer_frames_than_a_file_says_are_refused(cine, refused):
    path, _ = cine
    dataset = dcmread(path)
    dataset.compress(RLELossless)
    dataset.NumberOfFrames = 6
    dataset.save_as(path)
    refused(path, "6 frames", frame=6)


@pytest.mark.parametrize("syntax", [HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K])
@pytest.mark.parametrize("dtype", ["u1", "u2", "i2"])
def test_high_throughput_jpeg_2000_comes_back(series, syntax, dtype):
    if not get_decoder(syntax).is_available:
        pytest.skip("nothing installed decodes High-Throughput JPEG 2000")
    stored = everything(dtype, (3, 64, 48))
    for path, picture in zip(series.stack(stored, [(0, 0, k) for k in range(3)]), stored, strict=True):
        encoded = imagecodecs.htj2k_encode(picture, reversible=True)
        assert b"\xff\x50" in encoded[:200]  # the CAP marker, by which Part 15 is known
        dataset = dcmread(path)
        dataset.PixelData = encapsulate([encoded])
        dataset["PixelData"].is_undefined_length = True
        dataset["PixelData"].VR = "OB"
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(path)
    volume = read_volume(series.folder)
    np.testing.assert_array_equal(volume.array, stored.transpose(2, 1, 0))
    assert volume.array.dtype == stored.dtype


@pytest.mark.parametrize("syntax", [HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K])
def test_what_calls_itself_high_throughput_is_decoded_or_refused(series, syntax):
    """Plain JPEG 2000 shows which decoder is asked."""
    stored = everything("u2", (40, 36))
    path = series.slice(stored, PLACE)
    dataset = dcmread(path)
    dataset.compress(JPEG2000Lossless)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(path)
    if get_decoder(syntax).is_available:
        np.testing.assert_array_equal(read_volume(path).array[:, :, 0], stored.T)
    else:
        with pytest.raises(GradCamError, match="nothing installed here can decode"):
            read_volume(path)
