"""The voxels of NIfTI files: types, colours, frames and packings, held to what nibabel and numpy say of them."""

from __future__ import annotations

import bz2
import gzip
import tracemalloc
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nibabel.testing import data_path

from napari_gradcam import GradCamError
from napari_gradcam.progress import Progress
from napari_gradcam.volumes.nifti import nifti_scan, read_nifti

NIBABEL_DATA = Path(data_path)
AFFINE = np.array([[-1.5, 0, 0, 80], [0, 2, 0, -90], [0, 0, 3, -40], [0, 0, 0, 1.0]])
RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
RGBA = np.dtype([*RGB.descr, ("A", "u1")])
DTYPES = ["u1", "i1", "<i2", ">i2", "<u2", ">u2", "<i4", ">i4", ">u4", "<i8", ">u8", "<f4", ">f4", "<f8", ">f8"]


def save(path: Path, array: np.ndarray, kind: type = nibabel.Nifti1Image, **fields: Any) -> Path:
    """Write an array as it is: in its own type and byte order."""
    header = kind.header_class(endianness="<" if array.dtype.newbyteorder("<") == array.dtype else ">")
    header.set_data_dtype(array.dtype)
    for field, value in fields.items():
        header[field] = value
    kind(array, AFFINE, header).to_filename(path)
    return path


def scaled(path: Path, slope: float, inter: float) -> Path:
    """Write slope and intercept into a header; nibabel would choose its own."""
    raw = bytearray(path.read_bytes())
    raw[112:120] = np.array([slope, inter], "<f4" if raw[0] == 92 else ">f4").tobytes()
    path.write_bytes(raw)
    return path


def noise(shape: tuple[int, ...], dtype: str = "<i2") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


# Frames


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nii.bz2", ".hdr", ".hdr.gz", ".img.bz2"])
def test_each_frame_is_read_by_itself(tmp_path, ending):
    array = noise((5, 4, 3, 2, 3))
    pair = nibabel.Nifti1Image if ".nii" in ending else nibabel.Nifti1Pair
    scan = nifti_scan(save(tmp_path / f"a{ending}", array, pair))
    assert (scan.frames, scan.images, scan.shape) == (6, 3, (5, 4, 3))
    for frame in range(6):
        volume = scan.read(frame + 1)
        np.testing.assert_array_equal(volume.array, array[..., frame % 2, frame // 2])
        assert volume.notices == (f"The file holds 6 frames one after another; this is frame {frame + 1}.",)
    np.testing.assert_array_equal(read_nifti(scan.source[0]).array, array[..., 0, 0])
    for frame in (0, 7):
        with pytest.raises(GradCamError, match=f"holds 6 frames: there is no frame {frame}"):
            scan.read(frame)


@pytest.mark.parametrize("name", ["example4d.nii.gz", "functional.nii", "example_nifti2.nii.gz"])
def test_nibabels_own_series_read_as_nibabel_reads_them(name):
    image, scan = nibabel.load(NIBABEL_DATA / name), nifti_scan(NIBABEL_DATA / name)
    expected = image.get_fdata()
    assert scan.frames == image.shape[3]
    np.testing.assert_allclose(scan.affine, image.affine)
    for frame in (0, scan.frames - 1):
        np.testing.assert_allclose(scan.read(frame + 1).array, expected[..., frame], rtol=1e-6)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<f8"])
def test_no_more_than_a_frame_is_kept_in_memory(tmp_path, ending, dtype):
    array = noise((128, 128, 40, 8), dtype)
    scan = nifti_scan(save(tmp_path / f"a{ending}", array))
    size, buffers = array[..., 0].nbytes, 3 << 20
    tracemalloc.start()
    volume = scan.read(5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.1 * size + buffers
    np.testing.assert_array_equal(volume.array, array[..., 4])


def test_reading_tells_how_far_it_is(tmp_path):
    steps = nifti_scan(save(tmp_path / "a.nii.gz", noise((4, 4, 500, 2)))).steps(2)
    said = list(steps)
    assert all(isinstance(one, Progress) and 0 <= one.done <= one.total == 500 for one in said)
    assert [one.done for one in said] == sorted(one.done for one in said)
    assert 20 < len(said) < 200


def test_reading_can_be_cancelled(tmp_path):
    steps = nifti_scan(save(tmp_path / "a.nii.gz", noise((4, 4, 50)))).steps()
    next(steps)
    steps.close()


# Types


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["c8", "c16"])
def test_complex_numbers_are_read_as_their_magnitude(tmp_path, kind, order):
    array = (noise((3, 4, 5)) + 1j * noise((3, 4, 5))[::-1]).astype(order + kind)
    volume = read_nifti(save(tmp_path / "a.nii", array))
    assert volume.array.dtype == np.float32
    np.testing.assert_allclose(volume.array, np.abs(array), rtol=1e-6)
    assert volume.notices == ("The file holds complex numbers; this is their magnitude.",)


def test_a_magnitude_beyond_float32_is_counted(tmp_path):
    array = np.full((3, 4, 5), 1 + 1j, np.complex128)
    array[0, 0, 0], array[1, 1, 1] = 1e200, complex(np.nan, 0)
    volume = read_nifti(save(tmp_path / "a.nii", array))
    assert any("2 voxels" in notice for notice in volume.notices)


def test_both_infinities_are_counted(tmp_path):
    array = np.ones((3, 4, 5), np.float32)
    array[0, 0, 0], array[1, 1, 1] = np.inf, -np.inf
    assert "2 voxels" in read_nifti(save(tmp_path / "a.nii", array)).notices[0]


@pytest.mark.parametrize(
    ("code", "bits", "label"), [(1, 1, "binary"), (1536, 128, "float128"), (2048, 256, "complex256")]
)
def test_numbers_that_numpy_has_not_are_refused(tmp_path, code, bits, label):
    path = save(tmp_path / "a.nii", np.ones((3, 4, 5)))
    raw = bytearray(path.read_bytes())
    raw[70:74] = np.array([code, bits], "<i2").tobytes()
    path.write_bytes(raw + bytes(2000))
    if nibabel.Nifti1Header(raw[:348], check=False).get_data_dtype().kind in "fc":
        assert read_nifti(path).array.dtype == np.float32
    else:
        with pytest.raises(GradCamError, match=f"a type that cannot be computed with here \\({label}\\)"):
            read_nifti(path)


@pytest.mark.parametrize("dtype", ["<i4", ">i4", "<u4", "<i8", ">u8"])
@pytest.mark.parametrize(("slope", "inter"), [(1, -1024), (2, 1)])
def test_scaled_whole_numbers_stay_exact(tmp_path, dtype, slope, inter):
    array = noise((3, 4, 5), dtype)
    array[0, 0, :2], array[1, 1, 1] = 20_000_001, 2**31 - 1
    volume = read_nifti(scaled(save(tmp_path / "a.nii", array), slope, inter))
    np.testing.assert_array_equal(volume.array, array.astype(np.int64) * slope + inter)
    assert volume.notices == ()


def test_scaled_numbers_that_no_type_holds_are_said_to_be_rounded(tmp_path):
    array = noise((3, 4, 5), "<u8")
    array[0, 0, 0] = 2**64 - 1
    volume = read_nifti(scaled(save(tmp_path / "a.nii", array), 1, 7))
    np.testing.assert_array_equal(volume.array, array.astype(np.float32) + 7)
    assert volume.notices[0].startswith("The numbers have more digits than 32-bit fractions keep")


# Colours


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", [RGB, RGBA])
def test_colours_are_kept_beside_their_brightness(tmp_path, dtype, ending):
    channels = noise((3, 4, 5, len(dtype)), "u1")
    array = np.ascontiguousarray(channels).view(dtype)[..., 0]
    volume = read_nifti(save(tmp_path / f"a{ending}", array))
    np.testing.assert_array_equal(volume.color, channels[..., :3])
    bright = channels[..., :3] @ np.array([0.299, 0.587, 0.114])
    assert volume.array.dtype == np.uint8
    np.testing.assert_allclose(volume.array, bright, atol=0.51)
    assert volume.notices == (("The colours' transparency is left out.",) if dtype == RGBA else ())
    assert volume.window is None


def test_one_frame_of_colours_is_read(tmp_path):
    channels = noise((3, 4, 5, 2, 3), "u1")
    array = np.ascontiguousarray(channels).view(RGB)[..., 0]
    np.testing.assert_array_equal(read_nifti(save(tmp_path / "a.nii.gz", array), 2).color, channels[..., 1, :])


@pytest.mark.parametrize(("intent", "channels"), [(1007, 3), (2003, 3), (2004, 4)])
def test_a_vector_of_bytes_is_a_colour(tmp_path, intent, channels):
    array = noise((3, 4, 5, 1, channels), "u1")
    volume = read_nifti(save(tmp_path / "a.nii.gz", array, intent_code=intent))
    np.testing.assert_array_equal(volume.color, array[:, :, :, 0, :3])
    assert volume.color.shape == (3, 4, 5, 3)


@pytest.mark.parametrize(("intent", "dtype", "shape"), [(1007, "<i2", (1, 3)), (1007, "u1", (3, 1)), (0, "u1", (1, 3))])
def test_other_vectors_are_frames(tmp_path, intent, dtype, shape):
    scan = nifti_scan(save(tmp_path / "a.nii", noise((3, 4, 5, *shape), dtype), intent_code=intent))
    assert scan.frames == 3
    assert scan.read().color is None


# Packings


def test_what_a_file_holds_decides_how_it_is_unpacked(tmp_path):
    array = noise((3, 4, 5))
    raw = save(tmp_path / "a.nii", array).read_bytes()
    wrapped = {
        "gz.nii": gzip.compress(raw),
        "bz.nii": bz2.compress(raw),
        "raw.nii.gz": raw,
        "BZ.NII.GZ": gzip.compress(raw),
    }
    for name, content in wrapped.items():
        (tmp_path / name).write_bytes(content)
        np.testing.assert_array_equal(read_nifti(tmp_path / name).array, array)


@pytest.mark.parametrize("start", [b"\x1f\x8b\x08\x00", b"BZh9"])
def test_voxels_that_look_packed_are_voxels(tmp_path, start):
    array = noise((3, 4, 5))
    array.ravel("K")[:2] = np.frombuffer(start, "<i2")
    assert array[0, 0, 1] == np.frombuffer(start, "<i2")[1]
    array = np.asfortranarray(array.T)
    path = save(tmp_path / "a.hdr", array, nibabel.Nifti1Pair)
    assert (tmp_path / "a.img").read_bytes().startswith(start)
    np.testing.assert_array_equal(read_nifti(path).array, array)


def test_a_pair_may_be_packed_apart(tmp_path):
    array = noise((3, 4, 5))
    save(tmp_path / "A.hdr", array, nibabel.Nifti1Pair)
    (tmp_path / "A.IMG.gz").write_bytes(gzip.compress((tmp_path / "A.img").read_bytes()))
    (tmp_path / "A.hdr").rename(tmp_path / "A.HDR")
    (tmp_path / "A.img").unlink()
    for name in ("A.HDR", "A.IMG.gz"):
        np.testing.assert_array_equal(read_nifti(tmp_path / name).array, array)


def test_a_gzip_file_of_several_members_is_one_file(tmp_path):
    array = noise((30, 40, 5))
    raw = save(tmp_path / "a.nii", array).read_bytes()
    members = b"".join(gzip.compress(raw[start : start + 1000]) for start in range(0, len(raw), 1000))
    (tmp_path / "b.nii.gz").write_bytes(members + bytes(512))  # padded, as tapes are
    np.testing.assert_array_equal(read_nifti(tmp_path / "b.nii.gz").array, array)
    (tmp_path / "c.nii.gz").write_bytes(members + b"more")
    with pytest.raises(GradCamError, match="cut short or damaged"):
        read_nifti(tmp_path / "c.nii.gz")


def test_bytes_after_the_last_voxel_are_let_be_but_checked(tmp_path):
    array = noise((30, 40, 5))
    raw = save(tmp_path / "a.nii", array).read_bytes() + bytes(5 << 20)
    packed = bytearray(gzip.compress(raw))
    (tmp_path / "b.nii.gz").write_bytes(packed)
    np.testing.assert_array_equal(read_nifti(tmp_path / "b.nii.gz").array, array)
    packed[-6] ^= 1
    (tmp_path / "b.nii.gz").write_bytes(packed)
    with pytest.raises(GradCamError, match="cut short or damaged"):
        read_nifti(tmp_path / "b.nii.gz")


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_a_frame_before_the_damage_is_refused_too(tmp_path, pack):
    raw = save(tmp_path / "a.nii", noise((30, 40, 5, 3))).read_bytes()
    path = tmp_path / "b.nii.gz"
    path.write_bytes(pack(raw[:-100]))  # unpacks well, but holds less than it says
    with pytest.raises(GradCamError, match="it ends before its last voxel"):
        read_nifti(path, 1)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_an_empty_mask_packs_better_than_anything_and_is_read(tmp_path, pack):
    raw = save(tmp_path / "a.nii", np.zeros((256, 256, 300), np.uint8)).read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(pack(raw))
    assert not read_nifti(tmp_path / "b.nii.gz").array.any()


def test_a_volume_larger_than_memory_is_refused(tmp_path, monkeypatch):
    path = save(tmp_path / "a.nii", noise((3, 4, 5)))
    monkeypatch.setattr(np, "empty", lambda *_, **__: (_ for _ in ()).throw(MemoryError))
    with pytest.raises(GradCamError, match=r"a\.nii” needs .* GiB of memory, more than is free"):
        read_nifti(path)


# Any file


@settings(derandomize=True, max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_is_written_is_read_back(tmp_path, data):
    shape = data.draw(st.tuples(*[st.integers(1, 5)] * 3), "shape")
    trailing = data.draw(st.lists(st.integers(1, 3), max_size=4), "trailing")
    dtype = data.draw(st.sampled_from(DTYPES), "dtype")
    kind = data.draw(st.sampled_from([nibabel.Nifti1Image, nibabel.Nifti2Image, nibabel.Nifti1Pair]), "kind")
    endings = (".hdr", ".img", ".hdr.gz") if kind is nibabel.Nifti1Pair else (".nii", ".nii.gz", ".nii.bz2")
    seed = data.draw(st.integers(0, 2**32), "seed")
    rng = np.random.default_rng(seed)
    whole = (*shape, *trailing)
    limits = np.iinfo(dtype) if dtype[-2] in "iu" else np.iinfo(np.int32)
    array = rng.integers(limits.min, limits.max, whole, dtype=limits.dtype.newbyteorder("="), endpoint=True).astype(
        dtype
    )
    affine = np.eye(4)
    affine[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] * rng.uniform(0.1, 9, 3)
    affine[:3, 3] = rng.uniform(-300, 300, 3)
    header = kind.header_class(endianness=">" if dtype[0] == ">" else "<")
    header.set_data_dtype(dtype)
    path = tmp_path / f"a{data.draw(st.sampled_from(endings), 'ending')}"
    kind(array, affine, header).to_filename(path)
    scan = nifti_scan(path)
    assert scan.frames == np.prod(trailing, dtype=int)
    frame = data.draw(st.integers(0, scan.frames - 1), "frame")
    volume = scan.read(frame + 1)
    expected = array.reshape((*shape, -1), order="F")[..., frame]
    assert volume.array.dtype == (np.float32 if dtype[-2] == "f" else np.dtype(dtype).newbyteorder("="))
    np.testing.assert_array_equal(volume.array, expected.astype(volume.array.dtype))
    np.testing.assert_array_equal(volume.affine, nibabel.load(path).affine)
    np.testing.assert_allclose(volume.affine, affine, rtol=1e-5, atol=1e-4)
