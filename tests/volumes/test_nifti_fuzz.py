"""Damaged NIfTI files: each is read as nibabel reads it or refused in one sentence, and says nothing of the patient."""

from __future__ import annotations

import bz2
import gzip
import tracemalloc
import warnings
from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pytest

from napari_gradcam import GradCamError
from napari_gradcam.volumes.nifti import is_nifti, nifti_scan

if TYPE_CHECKING:
    from pathlib import Path

    from napari_gradcam.volumes import Volume

SECRET = b"SECRET"
ARRAY = np.random.default_rng(0).integers(0, 1000, (6, 5, 4, 2)).astype(np.int16)
AFFINE = np.array([[-1.5, 0, 0, 80], [0, 2, 0, -90], [0, 0, 3, -40], [0, 0, 0, 1.0]])
MOST_MEMORY = 4 << 20


@pytest.fixture(scope="module", params=[nibabel.Nifti1Image, nibabel.Nifti2Image])
def whole(request, tmp_path_factory) -> bytes:
    """Give a file whose free text names the patient."""
    image = request.param(ARRAY, AFFINE)
    image.set_qform(AFFINE, 1)
    for field in ("descrip", "aux_file", "intent_name"):
        image.header[field] = SECRET
    if request.param is nibabel.Nifti1Image:
        image.header["data_type"] = image.header["db_name"] = SECRET
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", SECRET))
    path = tmp_path_factory.mktemp("whole") / "a.nii"
    image.to_filename(path)
    raw = path.read_bytes()
    assert raw.count(SECRET) >= 4
    return raw


def read(path: Path, content: bytes) -> Volume | None:
    """Read a file, or get a sentence; anything else, a warning too, fails the test."""
    path.write_bytes(content)
    is_nifti(path)
    said: list[str] = []
    volume = None
    try:
        scan = nifti_scan(path)
        said += [*scan.notices, scan.name]
        volume = scan.read()
        said += [*volume.notices, volume.name]
    except GradCamError as error:
        said.append(str(error))
        named = path.name in str(error)
    else:
        named = True
    assert named, said
    assert not any("\n" in one or SECRET.decode() in one for one in said), said
    return volume


def as_nibabel_reads(path: Path, volume: Volume) -> None:
    """Compare with nibabel, where it reads the file at all."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            image = nibabel.load(path)
            values = np.asanyarray(image.dataobj)
        except Exception:
            return
        values = values.reshape((*volume.shape, -1), order="F")[..., 0]
        values = np.abs(values) if values.dtype.kind == "c" else values
        values = values.astype(np.float32) if values.dtype.kind == "f" else values
        values = np.where(np.isfinite(values), values, 0)
    np.testing.assert_allclose(volume.array, values, rtol=1e-6)
    assert any(np.allclose(volume.affine[:3], image.affine[:3] * to_mm) for to_mm in (1, 1000, 0.001))


def test_the_whole_file_is_read(whole, tmp_path):
    volume = read(tmp_path / "a.nii", whole)
    np.testing.assert_array_equal(volume.array, ARRAY[..., 0])


@pytest.mark.parametrize("odd", [False, True])
def test_each_flipped_byte_of_the_header(whole, tmp_path, odd, capfd):
    rng, path = np.random.default_rng(int(odd)), tmp_path / "a.nii"
    read_at_all = 0
    size = 352 if whole[0] == 348 % 256 else 544
    for place in range(int(odd), size, 2):
        mutant = bytearray(whole)
        mutant[place] = 0xFF if place % 3 == 0 else mutant[place] ^ (1 << rng.integers(8))
        volume = read(path, mutant)
        if volume is not None:
            read_at_all += 1
            as_nibabel_reads(path, volume)
    assert size // 4 < read_at_all < size // 2
    assert capfd.readouterr() == ("", "")


def test_contradicting_sizes(whole, tmp_path):
    rng, path = np.random.default_rng(2), tmp_path / "a.nii.gz"
    start, kind = (40, "<i2") if whole[0] == 348 % 256 else (16, "<i8")
    tracemalloc.start()
    for _ in range(100):
        dims = np.array([rng.integers(1, 8), *rng.choice([-1, 0, 1, 2, 3, 5, 300, 32767], 7)]).astype(kind)
        mutant = bytearray(whole)
        mutant[start : start + dims.nbytes] = dims.tobytes()
        for pack in (bytes, gzip.compress):
            volume = read(path, pack(mutant))
            if volume is not None:
                assert volume.array.size <= ARRAY.size
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MOST_MEMORY


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress])
def test_cut_anywhere(whole, tmp_path, pack):
    packed = pack(whole)
    for length in np.linspace(0, len(packed) - 1, 80).astype(int):
        assert read(tmp_path / "a.nii.gz", packed[:length]) is None


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_a_flipped_bit_of_a_packed_file_is_found_or_harmless(whole, tmp_path, pack):
    rng, packed = np.random.default_rng(3), pack(whole)
    places = [*range(20), *rng.integers(20, len(packed), 150), *range(len(packed) - 10, len(packed))]
    read_at_all = 0
    for place in places:
        mutant = bytearray(packed)
        mutant[place] ^= 1 << rng.integers(8)
        volume = read(tmp_path / "a.nii.gz", mutant)
        read_at_all += volume is not None
        if volume is not None:  # the time and system in gzip's header, codes that are never used
            np.testing.assert_array_equal(volume.array, ARRAY[..., 0])
            np.testing.assert_array_equal(volume.affine, AFFINE)
    assert read_at_all < 20


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_run_of_noise(whole, tmp_path, pack):
    rng = np.random.default_rng(4)
    for _ in range(100):
        mutant = bytearray(whole)
        start, length = rng.integers(0, 348), rng.integers(1, 60)
        mutant[start : start + length] = rng.bytes(length)
        volume = read(tmp_path / "a.nii.gz", pack(mutant))
        if volume is not None:
            assert np.isfinite(volume.array).all()
            assert np.isfinite(volume.affine).all()
