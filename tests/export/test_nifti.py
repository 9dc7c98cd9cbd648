"""A heat map as NIfTI lies over its scan in programs that are not ours."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from nibabel.affines import apply_affine
from scipy.spatial.transform import Rotation

from napari_gradcam.errors import GradCamError
from napari_gradcam.export.nifti import write_heatmap

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_gradcam.explanation import Explanation
    from napari_gradcam.volumes import Volume

LPS_FROM_RAS = np.array([-1.0, -1.0, 1.0])


def affine_of(axes: Any, spacing: tuple[float, float, float] = (0.9, 1.1, 4.0)) -> np.ndarray[Any, Any]:
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(axes, dtype=float) * spacing
    affine[:3, 3] = (-93.3, 120.7, -641.2)
    return affine


GRIDS = {
    "RAS": affine_of(np.eye(3)),
    "LPS": affine_of(np.diag([-1, -1, 1])),
    "sagittal": affine_of([[0, 0, 1], [-1, 0, 0], [0, -1, 0]]),
    "left-handed": affine_of(np.diag([-1, 1, 1])),
    "oblique": affine_of(Rotation.from_euler("xyz", (12, -7, 31), degrees=True).as_matrix()),
}


@pytest.fixture(params=GRIDS, ids=str)
def placed(request: pytest.FixtureRequest, make_volume: Callable[..., Volume]) -> Volume:
    return make_volume(GRIDS[request.param])


def corners(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    return list(product(*((0, n - 1) for n in shape)))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nibabel_reads_the_same_values_and_affine_from_both_forms(
    tmp_path: Path, placed: Volume, make_explanation: Callable[..., Explanation], suffix: str
) -> None:
    explanation = make_explanation(placed)
    write_heatmap(explanation, tmp_path / f"map{suffix}")
    image = nib.load(tmp_path / f"map{suffix}")
    assert image.get_data_dtype() == np.float32
    np.testing.assert_array_equal(np.asarray(image.dataobj), explanation.heatmap)
    assert image.header.get_xyzt_units()[0] == "mm"
    for form, code in (image.get_sform(coded=True), image.get_qform(coded=True)):
        assert code == 2
        np.testing.assert_allclose(
            apply_affine(form, corners(placed.shape)), apply_affine(placed.affine, corners(placed.shape)), atol=1e-3
        )


def test_simpleitk_finds_every_corner_at_its_place_and_the_same_values(
    tmp_path: Path, placed: Volume, make_explanation: Callable[..., Explanation]
) -> None:
    explanation = make_explanation(placed)
    write_heatmap(explanation, tmp_path / "map.nii.gz")
    image = sitk.ReadImage(tmp_path / "map.nii.gz")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).transpose(2, 1, 0), explanation.heatmap)
    for corner in corners(placed.shape):
        there = np.array(image.TransformIndexToPhysicalPoint(corner)) * LPS_FROM_RAS
        np.testing.assert_allclose(there, apply_affine(placed.affine, corner), atol=1e-3)


def test_a_sheared_map_has_its_true_place_in_the_sform_and_no_qform(
    tmp_path: Path, make_volume: Callable[..., Volume], make_explanation: Callable[..., Explanation]
) -> None:
    tilted = affine_of([[1, 0, 0], [0, 1, np.sin(np.radians(15))], [0, 0, 1]])
    volume = make_volume(tilted)
    write_heatmap(make_explanation(volume), tmp_path / "map.nii.gz")
    image = nib.load(tmp_path / "map.nii.gz")
    assert image.get_qform(coded=True)[1] == 0
    np.testing.assert_allclose(image.affine, tilted, rtol=1e-6)
    np.testing.assert_allclose(image.header.get_zooms(), volume.spacing, rtol=1e-6)


def test_the_same_explanation_gives_the_same_bytes(tmp_path: Path, explanation: Explanation) -> None:
    for name in ("one.nii.gz", "other.nii.gz"):
        write_heatmap(explanation, tmp_path / name)
    assert (tmp_path / "one.nii.gz").read_bytes() == (tmp_path / "other.nii.gz").read_bytes()


def test_a_class_name_beyond_ascii_and_beyond_the_header_s_room_is_cut(
    tmp_path: Path, volume: Volume, make_explanation: Callable[..., Explanation]
) -> None:
    name = "Läsion " * 30
    write_heatmap(make_explanation(volume, target=name, scores={name: 1.0}, logits={name: 1.0}), tmp_path / "map.nii")
    assert nib.load(tmp_path / "map.nii").header["descrip"].item().startswith(b"gradcam of 'L?sion")


def test_another_suffix_is_refused(tmp_path: Path, explanation: Explanation) -> None:
    with pytest.raises(GradCamError, match=r"map\.mha” is no name for a NIfTI file: end it in \.nii\.gz"):
        write_heatmap(explanation, tmp_path / "map.mha")
    assert not list(tmp_path.iterdir())
