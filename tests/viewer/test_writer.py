"""napari's own Save: what comes out lies over the scan in programs that are not ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from napari.layers import Image, Labels
from npe2 import PluginManager

from napari_gradcam import Volume, read_volume
from napari_gradcam.errors import GradCamError
from napari_gradcam.explanation import Explanation
from napari_gradcam.viewer.layers import bands_layer, heat_layer, scan_layer
from napari_gradcam.viewer.look import Look
from napari_gradcam.viewer.writer import write_image, write_labels

if TYPE_CHECKING:
    from pathlib import Path

OBLIQUE = np.array([[0.0, 0, 3, -20], [-1.9, 0.3, 0, 40], [-0.3, -1.9, 0, 10], [0, 0, 0, 1]])
"""Sagittal slices, tilted: the display grid has other axes than the scan as stored."""


@pytest.fixture
def scan(tmp_path: Path) -> Volume:
    array = np.random.default_rng(0).integers(0, 1000, (7, 9, 11), dtype=np.int16)
    image = nib.Nifti1Image(array, OBLIQUE)
    image.set_sform(OBLIQUE, code=4)
    image.set_qform(OBLIQUE, code=1)
    nib.save(image, tmp_path / "scan.nii.gz")
    return read_volume(tmp_path / "scan.nii.gz")


@pytest.fixture
def explanation(scan: Volume) -> Explanation:
    heat = np.random.default_rng(1).random(scan.shape, dtype=np.float32)
    scores = {"lesion": 1.0}
    return Explanation(
        heat, scan.affine, heat, scan.affine, scores, scores, "lesion", "layer4", "gradcam", volumes=(scan,)
    )


def saved(data: tuple[Any, ...], path: Path) -> nib.Nifti1Image:
    """Save a layer as napari does, by the manifest."""
    manager = PluginManager()
    manager.discover()
    manager.activate("napari-gradcam")
    writer, place = manager.get_writer(str(path), [data[2]])
    assert (writer.command.split(".")[0], place) == ("napari-gradcam", str(path))
    assert writer.get_callable(manager.commands)(place, data[0], data[1]) == [str(path)]
    return nib.load(path)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii"])
def test_a_heat_map_is_saved_over_its_scan(explanation: Explanation, scan: Volume, tmp_path: Path, suffix: str) -> None:
    layer = Image(**arguments(scan_layer(scan)))
    image = saved(heat_layer(explanation, layer, Look()), tmp_path / f"map{suffix}")
    np.testing.assert_array_equal(np.asarray(image.dataobj), explanation.heatmap)
    source, heat = sitk.ReadImage(scan.source[0]), sitk.ReadImage(tmp_path / f"map{suffix}")
    assert heat.GetSize() == source.GetSize()
    np.testing.assert_allclose(heat.GetDirection(), source.GetDirection(), atol=1e-6)
    np.testing.assert_allclose(heat.GetOrigin(), source.GetOrigin(), atol=1e-4)
    assert [int(image.header[code]) for code in ("sform_code", "qform_code")] == [4, 1]


def arguments(data: tuple[Any, ...]) -> dict[str, Any]:
    return {"data": data[0], **data[1]}


def test_bands_that_a_person_painted_are_saved_as_they_are(
    explanation: Explanation, scan: Volume, tmp_path: Path
) -> None:
    layer = Image(**arguments(scan_layer(scan)))
    bands = Labels(**arguments(bands_layer(explanation, layer, Look())))
    bands.data[0, 0, 0] = 7
    image = saved(bands.as_layer_data_tuple(), tmp_path / "bands.nii.gz")
    values = np.asarray(image.dataobj)
    assert values.dtype == np.uint8
    (index,) = np.argwhere(values == 7)
    # The corner that lies farthest to the patient's head, front and right, which is the display grid's first.
    corner = nib.affines.apply_affine(scan.affine, index)
    others = nib.affines.apply_affine(scan.affine, np.argwhere(values != 7))
    assert (others @ (-1, 1, 1)).size > 0
    assert np.all(np.isin(index, [0, 6, 8, 10]))
    assert corner[2] > others[:, 2].mean()


def test_a_scan_is_saved_with_its_own_numbers_and_forms(scan: Volume, tmp_path: Path) -> None:
    image = saved(scan_layer(scan), tmp_path / "copy.nii.gz")
    np.testing.assert_array_equal(np.asarray(image.dataobj), np.asarray(nib.load(scan.source[0]).dataobj))
    np.testing.assert_array_equal(image.affine, nib.load(scan.source[0]).affine)


def test_a_scan_in_colours_keeps_them(tmp_path: Path) -> None:
    color = np.random.default_rng(0).integers(0, 255, (4, 5, 6, 3), dtype=np.uint8)
    volume = Volume(color.mean(axis=3).astype(np.float32), np.diag([2.0, 2, 2, 1]), name="colours", color=color)
    image = saved(scan_layer(volume), tmp_path / "colours.nii")
    values = np.asarray(image.dataobj)
    np.testing.assert_array_equal(np.stack([values[one] for one in "RGB"], axis=-1), color)


def test_another_plugins_layer_keeps_its_size(tmp_path: Path) -> None:
    layer = Image(np.arange(24, dtype=np.int64).reshape(2, 3, 4), scale=(3, 2, 1), units="mm", name="other")
    image = saved(layer.as_layer_data_tuple(), tmp_path / "other.nii")
    assert sorted(image.header.get_zooms()) == [1, 2, 3]
    assert sorted(np.asarray(image.dataobj).ravel()) == list(range(24))


def test_what_cannot_be_saved_is_told_in_a_sentence(tmp_path: Path, explanation: Explanation, scan: Volume) -> None:
    layer = Image(**arguments(scan_layer(scan)))
    heat, settings, _ = heat_layer(explanation, layer, Look())
    with pytest.raises(GradCamError, match="has not the shape of the scan"):
        write_image(str(tmp_path / "cut.nii"), heat[1:], settings)
    with pytest.raises(GradCamError):
        write_image(str(tmp_path / "flat.nii"), np.zeros((2, 2, 3, 4, 5)), {"name": "five axes"})
    with pytest.raises(GradCamError, match=r"cannot be written|Nothing was written"):
        write_image(str(tmp_path / "absent/map.nii"), heat, settings)
    with pytest.raises(GradCamError):
        write_labels(str(tmp_path / "large.nii"), np.full((2, 3, 4), 1 << 40), {"name": "large"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scan.nii.gz"]
